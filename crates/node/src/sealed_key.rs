//! A machine key that no file holds: a sealer on the host gives it to this image, each time that the role starts.

use attest::Verifier;
use attest::sealed_key::{KeyName, KeyNameError, MrEnclave};
use ed25519_dalek::SigningKey;
use evidence::{Sealer, SealerAddress, SealerError};
use serde::{Deserialize, Serialize};
use transport::clock::certificate_now;

use crate::evidence::{EvidenceConfig, EvidenceConfigError};

/// The section `sealed_key` of a role's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedKeyConfig {
    /// Where the sealer is: `vsock:CID:PORT`, or `unix:PATH`. Default: `vsock:2:12345`, the host.
    #[serde(default)]
    pub sealer: SealerAddress,
    /// Which of the image's keys it is. Default: `app`, as in the deployed network.
    #[serde(default = "app")]
    pub name: String,
    /// Enclaves that are believed, by their MRENCLAVE (64 digits). Has no default; an empty list believes none.
    pub mrenclaves: Vec<MrEnclave>,
}

fn app() -> String {
    "app".to_owned()
}

/// No key could be had. Fails closed: a role without its key does not start.
#[derive(Debug, thiserror::Error)]
pub enum SealedKeyError {
    /// The name.
    #[error("sealed_key: name")]
    Name(#[from] KeyNameError),
    /// This process shows no evidence.
    #[error("sealed_key is set, and nothing says in which guest this role runs: set evidence.enclave")]
    NoEnclave,
    /// What says it cannot work.
    #[error(transparent)]
    Evidence(#[from] EvidenceConfigError),
    /// The sealer gave none.
    #[error("sealed_key: there is no key, and the role does not start without one")]
    Sealer(#[from] SealerError),
}

impl SealedKeyConfig {
    /// Asks the sealer for the key. It is the same each time, for as long as image and sealer are the same.
    ///
    /// # Errors
    /// [`SealedKeyError`]. Outside test networks (`is_test`) nothing simulated is believed.
    pub async fn signing_key(
        &self,
        evidence: Option<&EvidenceConfig>,
        is_test: bool,
    ) -> Result<SigningKey, SealedKeyError> {
        let name: KeyName = self.name.parse()?;
        let evidence = evidence.ok_or(SealedKeyError::NoEnclave)?;
        let reports = evidence.local_reports(is_test)?.ok_or(SealedKeyError::NoEnclave)?;
        let verifier = Verifier::new(evidence.root(is_test)?);
        let collateral = evidence.collateral()?;
        let sealer = Sealer::new(self.sealer.clone(), reports, verifier, collateral, self.mrenclaves.clone());
        let key = sealer.key(&name, certificate_now()).await?;
        Ok(SigningKey::from_bytes(key.expose()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use evidence::serve_simulated;
    use sim::{Enclave, Firmware, Publication, Vendor};
    use tokio::net::UnixListener;
    use transport::clock::unix_now;

    use super::*;
    use crate::evidence::{EnclaveKind, SimulatedConfig};

    /// A sealer beside a simulated guest of `image`.
    fn configs(folder: &Path, image: &str) -> (EvidenceConfig, SealedKeyConfig) {
        let vendor = Vendor::from_seed(&[7; 32]).unwrap();
        let platform = vendor.platform(attest::Hex::new([1; 16]), Firmware::Current).unwrap();
        let (root, file) = (folder.join("root.der"), folder.join("platform.json"));
        std::fs::write(&root, vendor.root_der()).unwrap();
        std::fs::write(&file, platform.to_json().as_bytes()).unwrap();
        let collateral = vendor.enclave_collateral(&Publication::at(unix_now())).unwrap();
        std::fs::write(folder.join(format!("{}.json", Vendor::ENCLAVE_COLLATERAL_KIND)), collateral).unwrap();
        let simulated = SimulatedConfig { root, platform: Some(file), image: image.to_owned() };
        let evidence = EvidenceConfig {
            simulated: Some(simulated),
            collateral: folder.to_owned(),
            ..EvidenceConfig::default()
        };
        let sealed = SealedKeyConfig {
            sealer: SealerAddress::Unix(folder.join("sealer")),
            name: app(),
            mrenclaves: vec![Enclave::of_name("sealer").mrenclave()],
        };
        (evidence, sealed)
    }

    fn serve(folder: &Path) {
        let vendor = Vendor::from_seed(&[7; 32]).unwrap();
        let platform = vendor.platform(attest::Hex::new([1; 16]), Firmware::Current).unwrap();
        let listener = UnixListener::bind(folder.join("sealer")).unwrap();
        let sealer = sim::Sealer::new(platform, Enclave::of_name("sealer"));
        tokio::spawn(serve_simulated(listener, sealer));
    }

    #[tokio::test]
    async fn an_image_has_its_own_machine_key() {
        let folder = tempfile::tempdir().unwrap();
        serve(folder.path());
        let key = async |image| {
            let (evidence, sealed) = configs(folder.path(), image);
            sealed.signing_key(Some(&evidence), true).await.unwrap()
        };
        let first = key("proxy").await;
        assert_eq!(key("proxy").await, first);
        assert_ne!(key("another proxy").await, first);
        let (evidence, sealed) = configs(folder.path(), "proxy");
        let other = SealedKeyConfig { name: "disk_encryption".to_owned(), ..sealed };
        assert_ne!(other.signing_key(Some(&evidence), true).await.unwrap(), first);
    }

    #[tokio::test]
    async fn without_a_sealer_that_is_believed_there_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let (evidence, sealed) = configs(folder.path(), "proxy");
        let asked = async |sealed: &SealedKeyConfig| sealed.signing_key(Some(&evidence), true).await;
        assert!(matches!(asked(&sealed).await, Err(SealedKeyError::Sealer(SealerError::Connect { .. }))));
        serve(folder.path());
        assert!(asked(&sealed).await.is_ok());
        let none = SealedKeyConfig { mrenclaves: vec![], ..sealed.clone() };
        assert!(matches!(asked(&none).await, Err(SealedKeyError::Sealer(SealerError::Refused(_)))));
        let unnamed = SealedKeyConfig { name: String::new(), ..sealed.clone() };
        assert!(matches!(asked(&unnamed).await, Err(SealedKeyError::Name(_))));
        for nothing in [None, Some(&EvidenceConfig::default())] {
            assert!(matches!(sealed.signing_key(nothing, true).await, Err(SealedKeyError::NoEnclave)));
        }
    }

    /// A guest under TDX gets as far as the sealer, which is not there. Other machines have no report to show it.
    #[tokio::test]
    async fn a_real_guest_vouches_by_its_device() {
        let folder = tempfile::tempdir().unwrap();
        let (_simulated, sealed) = configs(folder.path(), "proxy");
        let config = EvidenceConfig { enclave: Some(EnclaveKind::Tsm), ..EvidenceConfig::default() };
        let refused = sealed.signing_key(Some(&config), false).await.unwrap_err();
        let is_guest = Path::new(evidence::TDX_GUEST_DEVICE).exists();
        match &refused {
            SealedKeyError::Sealer(SealerError::Connect { .. } | SealerError::Report(_)) if is_guest => {}
            SealedKeyError::Sealer(SealerError::Report(error)) => {
                let source = std::error::Error::source(error).unwrap().to_string();
                assert!(source.contains(evidence::TDX_GUEST_DEVICE), "{source}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn simulated_sealers_are_for_test_networks() {
        let folder = tempfile::tempdir().unwrap();
        serve(folder.path());
        let (evidence, sealed) = configs(folder.path(), "proxy");
        let refused = sealed.signing_key(Some(&evidence), false).await;
        assert!(
            matches!(refused, Err(SealedKeyError::Evidence(EvidenceConfigError::NotATestNetwork))),
            "{refused:?}"
        );
    }

    #[test]
    fn a_section_says_which_enclaves_are_believed() {
        let read = |text: &str| toml::from_str::<SealedKeyConfig>(text);
        let digits = "ab".repeat(32);
        let least = read(&format!("mrenclaves = [\"{digits}\"]")).unwrap();
        assert_eq!((least.sealer.to_string(), least.name.as_str()), ("vsock:2:12345".to_owned(), "app"));
        assert_eq!(toml::from_str::<SealedKeyConfig>(&toml::to_string(&least).unwrap()).unwrap(), least);
        for refused in ["", "mrenclaves = \"any\"", "mrenclaves = [\"ab\"]", "mrenclaves = []\nkey = 1"] {
            assert!(read(refused).is_err(), "{refused}");
        }
        assert!(read("mrenclaves = []\nsealer = \"tcp:1.2.3.4:5\"").is_err());
    }
}
