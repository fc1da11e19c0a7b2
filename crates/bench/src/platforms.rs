//! The simulated platforms of attested measurements: one vendor, and what it publishes, in a folder of their own.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use attest::{Allowed, Any, PlatformId, Policy, Root, Verifier};
use evidence::{Appraiser, CollateralStore, Simulated};
use sim::{Firmware, Guest, Platform, Publication, Vendor};
use tempfile::TempDir;
use transport::clock::unix_now;

/// The same in all processes of a run. What it vouches for protects nothing.
const SEED: [u8; 32] = *b"cocoon benchmark vendor\0\0\0\0\0\0\0\0\0";

/// The image that all guests have.
const IMAGE: &str = "benchmark";

/// Roles that show evidence. Clients ask for it and have none.
const SHOWING: [&str; 2] = ["proxy", "worker"];

/// The vendor, and the files that roles read.
pub(crate) struct Platforms {
    vendor: Vendor,
    collateral: String,
    folder: TempDir,
}

impl Platforms {
    /// # Errors
    /// If the cryptographic library fails, or a file cannot be written.
    pub(crate) fn new() -> Result<Self> {
        let vendor = Vendor::from_seed(&SEED)?;
        let collateral = vendor.collateral(&Publication::at(unix_now()))?;
        let platforms = Self { vendor, collateral, folder: tempfile::tempdir()? };
        write(&platforms.file("root.der"), platforms.root_der())?;
        let collateral = platforms.file(&format!("{}.json", Vendor::COLLATERAL_KIND));
        write(&collateral, platforms.collateral.as_bytes())?;
        for (number, role) in SHOWING.into_iter().enumerate() {
            // From the end, beyond the workers that are counted from zero.
            let platform = platforms.platform(usize::MAX - number)?;
            write(&platforms.file(role), platform.to_json().as_bytes())?;
        }
        Ok(platforms)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The vendor's certificate.
    pub(crate) fn root_der(&self) -> &[u8] {
        self.vendor.root_der()
    }

    /// What is published, as JSON.
    pub(crate) fn collateral(&self) -> &str {
        &self.collateral
    }

    /// A machine of its own for each number.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub(crate) fn platform(&self, number: usize) -> Result<Platform> {
        let mut id = [0xbe; 16];
        id[..8].copy_from_slice(&(number as u64).to_le_bytes());
        Ok(self.vendor.platform(PlatformId::new(id), Firmware::Current)?)
    }

    /// The guest on such a machine.
    ///
    /// # Errors
    /// As [`Platforms::platform`].
    pub(crate) fn enclave(&self, number: usize) -> Result<Simulated> {
        Ok(Simulated::new(self.platform(number)?, guest()))
    }

    /// Appraises their quotes with so many threads at most, and remembers nothing yet.
    pub(crate) fn appraiser(&self, threads: NonZeroUsize) -> Appraiser {
        let store = CollateralStore::new(self.folder.path().to_owned(), None);
        let verifier = Verifier::new(Root::Other(self.root_der().to_vec()));
        Appraiser::new(verifier, Policy::for_images(Allowed::Any(Any::Any)), store, threads)
    }

    /// The section `evidence` of a role, as a setting.
    pub(crate) fn setting(&self, role: &str) -> String {
        let mut simulated = format!("root = {:?}", self.file("root.der"));
        if SHOWING.contains(&role) {
            simulated += &format!(", platform = {:?}, image = {IMAGE:?}", self.file(role));
        }
        let collateral = self.folder.path();
        format!(
            r#"evidence={{ policy = {{ images = "any" }}, collateral = {collateral:?}, simulated = {{ {simulated} }} }}"#
        )
    }
}

/// What runs on all of them.
pub(crate) fn guest() -> Guest {
    Guest::of_image(IMAGE)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}
