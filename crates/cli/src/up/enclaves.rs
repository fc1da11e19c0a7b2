//! The simulated platforms of a private network: a vendor of its own, one platform for each role that shows evidence, and what the
//! vendor publishes of them. The roles make and appraise real quotes with it; nothing of it protects anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use attest::{Allowed, Hex, Policy};
use node::{EvidenceConfig, SimulatedConfig, StateFolder};
use sim::{Firmware, Guest, Publication, Vendor};
use transport::clock::unix_now;
use units::ImageHash;

/// The vendor says something new this often; what it says holds for a month.
const PUBLISHED_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Images of the roles that have a platform, by name; the platform's number is made of it.
pub(super) const PROXY: &str = "proxy";
pub(super) const WORKER: &str = "worker";

/// What a role's image is known by.
pub(super) fn image(name: &str) -> ImageHash {
    Guest::of_image(name).image_hash()
}

/// The vendor and its files.
pub(super) struct Enclaves {
    folder: StateFolder,
    vendor: Vendor,
}

impl Enclaves {
    /// Those of a state folder: the vendor is drawn once, the platforms are made anew.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn make(state: &Path) -> Result<Self> {
        let folder = StateFolder::open(&state.join("enclaves"))?;
        let vendor = Vendor::from_seed(&folder.key("vendor.key")?.to_bytes())?;
        folder.replace("root.der", vendor.root_der())?;
        for name in [PROXY, WORKER] {
            let mut id = [0; 16];
            id[..name.len()].copy_from_slice(name.as_bytes());
            let platform = vendor.platform(Hex::new(id), Firmware::Current)?;
            folder.replace(&platform_file(name), platform.to_json().as_bytes())?;
        }
        let enclaves = Self { folder, vendor };
        std::fs::create_dir_all(enclaves.collateral()).context("cannot make the folder of collateral")?;
        enclaves.publish()?;
        Ok(enclaves)
    }

    /// Says anew, from time to time, that the platforms are up to date.
    pub(super) async fn publish_on(self) {
        loop {
            tokio::time::sleep(PUBLISHED_EVERY).await;
            if let Err(error) = self.publish() {
                tracing::error!(%error, "the collateral of the simulated platforms is not renewed");
            }
        }
    }

    /// The section `evidence` of a role: every role asks for evidence, and `image` shows some.
    pub(super) fn section(&self, image: Option<&str>) -> EvidenceConfig {
        let simulated = SimulatedConfig {
            root: self.folder.path().join("root.der"),
            platform: image.map(|image| self.folder.path().join(platform_file(image))),
            image: image.unwrap_or_default().to_owned(),
        };
        EvidenceConfig {
            // Which images are allowed is for the root contract to say.
            policy: Some(Policy::for_images(Allowed::default())),
            collateral: self.collateral(),
            simulated: Some(simulated),
            ..EvidenceConfig::default()
        }
    }

    fn collateral(&self) -> PathBuf {
        self.folder.path().join("collateral")
    }

    fn publish(&self) -> Result<()> {
        let publication = Publication::at(unix_now());
        for (kind, text) in [
            (Vendor::COLLATERAL_KIND, self.vendor.collateral(&publication)?),
            (Vendor::ENCLAVE_COLLATERAL_KIND, self.vendor.enclave_collateral(&publication)?),
        ] {
            self.folder.replace(&format!("collateral/{kind}.json"), text.as_bytes())?;
        }
        Ok(())
    }
}

fn platform_file(name: &str) -> String {
    format!("{name}.json")
}
