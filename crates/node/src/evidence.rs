//! Evidence in a role's configuration: what this process shows of itself, and what it asks of its peers.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;

use attest::{Policy, Root, SnpRoot, SnpVerifier, Verifier};
use evidence::{
    Appraiser, CollateralStore, Enclave, GuestKernel, Kds, LocalReports, Pccs, ProduceError, ServiceError,
    Simulated, SnpStore, TdxGuest,
};
use serde::{Deserialize, Serialize};
use sim::{Guest, Platform, SimError};
use transport::identity::IdentitySource;
use zeroize::Zeroizing;

/// The section `evidence` of a role's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvidenceConfig {
    /// What evidence peers must show ("Policies" in `docs/attestation.md`). Default: none, and then nobody's evidence is looked at.
    /// Which images are allowed is checked against the root contract as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Folder with collateral, a file for each kind of platform, or for each product and processor of AMD's. Default: `collateral`.
    pub collateral: PathBuf,
    /// Where collateral is fetched, such as `https://localhost:8081`; the folder is a cache then. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pccs: Option<String>,
    /// Where certificates of AMD's processors are fetched, such as `https://kdsintf.amd.com`; the folder is a cache then.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kds: Option<String>,
    /// What makes this role's own quotes. Default: none, it shows no evidence, unless it has a simulated platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enclave: Option<EnclaveKind>,
    /// A platform in software, for test networks only: nothing protects what runs there. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulated: Option<SimulatedConfig>,
}

/// What makes quotes of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnclaveKind {
    /// The kernel, in a guest under Intel TDX or AMD SEV-SNP: configfs-tsm, and under an older one `/dev/tdx_guest`.
    #[serde(rename = "tsm")]
    Tsm,
}

/// A simulated platform, and whom else to believe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatedConfig {
    /// File with the certificate (DER) of the made-up vendor, whose platforms are believed in the place of the real ones.
    pub root: PathBuf,
    /// File with this process's platform. Default: none, it shows no evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<PathBuf>,
    /// Name of the image that it claims to be.
    pub image: String,
}

impl Default for EvidenceConfig {
    fn default() -> Self {
        Self {
            policy: None,
            collateral: "collateral".into(),
            pccs: None,
            kds: None,
            enclave: None,
            simulated: None,
        }
    }
}

/// A section `evidence` that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceConfigError {
    /// The service.
    #[error("evidence: pccs")]
    Pccs(#[from] ServiceError),
    /// That of AMD.
    #[error("evidence: kds")]
    Kds(#[source] ServiceError),
    /// A file.
    #[error("evidence: {key}: cannot read {}", path.display())]
    Read {
        /// Key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of a platform.
    #[error("evidence: simulated.platform: {} is no simulated platform", path.display())]
    Platform {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SimError,
    },
    /// Where something is at stake.
    #[error(
        "evidence: simulated is set, and the root configuration is not of a test network: a simulated platform protects nothing"
    )]
    NotATestNetwork,
    /// The enclave makes none.
    #[error("evidence: enclave: this machine shows no evidence")]
    NoQuote(#[source] ProduceError),
    /// Nobody would ask.
    #[error(
        "evidence: policy.nvidia is set, and links carry no evidence of GPUs: take the table out, nobody would look at it"
    )]
    GpuPolicy,
    /// A role is in one place.
    #[error("evidence: enclave is set, and so is simulated.platform: which of them is it?")]
    TwoEnclaves,
    /// Both of them do the same work.
    #[error("evidence is set, and so is {key}: the router makes and appraises evidence then")]
    Router {
        /// Key of the configuration.
        key: &'static str,
    },
}

/// What a role shows and asks for.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What it shows: certificates, with quotes where there is an enclave.
    pub identity: IdentitySource,
    /// What it asks for, if it does.
    pub appraiser: Option<Arc<Appraiser>>,
}

impl Evidence {
    /// What the section of a configuration says, or nothing without one.
    ///
    /// # Errors
    /// [`EvidenceConfigError`] names the key. Outside test networks (`is_test`) nothing simulated is accepted.
    pub fn open(config: Option<&EvidenceConfig>, is_test: bool) -> Result<Self, EvidenceConfigError> {
        let Some(config) = config else {
            return Ok(Self { identity: IdentitySource::generated(), appraiser: None });
        };
        if config.policy.as_ref().is_some_and(|policy| policy.nvidia.is_some()) {
            return Err(EvidenceConfigError::GpuPolicy);
        }
        let kds = config.kds.as_deref().map(Kds::new).transpose().map_err(EvidenceConfigError::Kds)?;
        let root = config.root(is_test)?;
        let store = config.collateral()?;
        let simulated = config.simulated_guest()?.map(|guest| Arc::new(guest) as Arc<dyn Enclave>);
        let enclave = match (config.enclave, simulated) {
            (Some(_), Some(_)) => return Err(EvidenceConfigError::TwoEnclaves),
            (Some(EnclaveKind::Tsm), None) => {
                let kernel = GuestKernel::default();
                // Better now than with the first link.
                kernel.quote(&[0; 64]).map_err(EvidenceConfigError::NoQuote)?;
                Some(Arc::new(kernel) as Arc<dyn Enclave>)
            }
            (None, simulated) => simulated,
        };
        let identity = enclave.map_or_else(IdentitySource::generated, IdentitySource::attested);
        let appraiser = config.policy.clone().map(|policy| {
            // One thread is left to those who wait for tokens.
            let threads = available_parallelism().map_or(1, |threads| threads.get() - 1);
            let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
            let snp = SnpStore::new(SnpVerifier::new(SnpRoot::Amd), config.collateral.clone(), kds);
            Arc::new(Appraiser::new(Verifier::new(root), policy, store, threads).with_snp(snp))
        });
        Ok(Self { identity, appraiser })
    }
}

impl EvidenceConfig {
    /// Whose platforms are believed. Every use of a section begins here: outside test networks (`is_test`) nothing simulated is.
    pub(crate) fn root(&self, is_test: bool) -> Result<Root, EvidenceConfigError> {
        match &self.simulated {
            Some(_) if !is_test => Err(EvidenceConfigError::NotATestNetwork),
            Some(simulated) => simulated.root(),
            None => Ok(Root::Intel),
        }
    }

    /// Where collateral comes from.
    pub(crate) fn collateral(&self) -> Result<CollateralStore, EvidenceConfigError> {
        let pccs = self.pccs.as_deref().map(Pccs::new).transpose()?;
        Ok(CollateralStore::new(self.collateral.clone(), pccs))
    }

    fn simulated_guest(&self) -> Result<Option<Simulated>, EvidenceConfigError> {
        self.simulated.as_ref().map_or(Ok(None), SimulatedConfig::guest)
    }

    /// What makes reports of this guest for enclaves beside it, if there is a guest.
    pub(crate) fn local_reports(
        &self,
        is_test: bool,
    ) -> Result<Option<Arc<dyn LocalReports>>, EvidenceConfigError> {
        if self.simulated.is_some() && !is_test {
            return Err(EvidenceConfigError::NotATestNetwork);
        }
        match (self.enclave, self.simulated_guest()?) {
            (Some(_), Some(_)) => Err(EvidenceConfigError::TwoEnclaves),
            // The newer interface gives none.
            (Some(EnclaveKind::Tsm), None) => Ok(Some(Arc::new(TdxGuest::default()))),
            (None, simulated) => Ok(simulated.map(|guest| Arc::new(guest) as Arc<dyn LocalReports>)),
        }
    }
}

impl SimulatedConfig {
    fn root(&self) -> Result<Root, EvidenceConfigError> {
        let read = std::fs::read(&self.root);
        let cannot =
            |source| EvidenceConfigError::Read { key: "simulated.root", path: self.root.clone(), source };
        read.map(Root::Other).map_err(cannot)
    }

    fn guest(&self) -> Result<Option<Simulated>, EvidenceConfigError> {
        let Some(path) = &self.platform else { return Ok(None) };
        let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|source| {
            EvidenceConfigError::Read { key: "simulated.platform", path: path.clone(), source }
        })?;
        let platform = Platform::from_json(&text)
            .map_err(|source| EvidenceConfigError::Platform { path: path.clone(), source })?;
        Ok(Some(Simulated::new(platform, Guest::of_image(&self.image))))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sim::{Firmware, Vendor};

    use super::*;

    /// The files of a simulated platform, and the section that names them.
    fn simulated(folder: &Path) -> EvidenceConfig {
        let vendor = Vendor::from_seed(&[7; 32]).unwrap();
        let platform = vendor.platform(attest::Hex::new([1; 16]), Firmware::Current).unwrap();
        let (root, file) = (folder.join("root.der"), folder.join("platform.json"));
        std::fs::write(&root, vendor.root_der()).unwrap();
        std::fs::write(&file, platform.to_json().as_bytes()).unwrap();
        let simulated = SimulatedConfig { root, platform: Some(file), image: "proxy".to_owned() };
        EvidenceConfig { simulated: Some(simulated), ..EvidenceConfig::default() }
    }

    #[test]
    fn simulated_platforms_are_for_test_networks() {
        let folder = tempfile::tempdir().unwrap();
        let config = simulated(folder.path());
        assert!(Evidence::open(Some(&config), true).unwrap().appraiser.is_none());
        let refused = Evidence::open(Some(&config), false);
        assert!(matches!(refused, Err(EvidenceConfigError::NotATestNetwork)), "{refused:?}");
        let asks: EvidenceConfig = toml::from_str("[policy]\nimages = \"any\"").unwrap();
        assert!(Evidence::open(Some(&asks), false).unwrap().appraiser.is_some());
        assert!(Evidence::open(None, false).unwrap().appraiser.is_none());
    }

    #[test]
    fn what_cannot_work_is_named_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |change: fn(&mut EvidenceConfig, &Path)| {
            let mut config = simulated(folder.path());
            change(&mut config, folder.path());
            Evidence::open(Some(&config), true).unwrap_err().to_string()
        };
        let message = refused(|config, _folder| config.pccs = Some("pccs".to_owned()));
        assert!(message.contains("pccs"), "{message}");
        let message = refused(|config, _folder| config.kds = Some("kds".to_owned()));
        assert!(message.contains("kds"), "{message}");
        let message = refused(|config, folder| config.simulated.as_mut().unwrap().root = folder.join("none"));
        assert!(message.contains("simulated.root: cannot read"), "{message}");
        let message = refused(|config, _folder| {
            let simulated = config.simulated.as_mut().unwrap();
            simulated.platform = Some(simulated.root.clone());
        });
        assert!(message.contains("simulated.platform"), "{message}");
        let message = refused(|config, _folder| config.enclave = Some(EnclaveKind::Tsm));
        assert!(message.contains("which of them"), "{message}");
        let message = refused(|config, _folder| {
            let gpus = attest::GpuPolicy::for_any([attest::GpuForm::Token]);
            let policy = Policy::for_images(attest::Allowed::default());
            config.policy = Some(Policy { nvidia: Some(gpus), ..policy });
        });
        assert!(message.contains("policy.nvidia"), "{message}");
        for refused in ["[policy]", "enclave = \"sgx\"", "[simulated]\nkey = 1"] {
            assert!(toml::from_str::<EvidenceConfig>(refused).is_err(), "{refused}");
        }
    }
}
