//! Whether NVIDIA vouches for what evidence says of GPUs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::chain::Chain;
use super::{
    GpuCertificates, GpuEvidence, GpuForm, GpuKeys, GpuNonce, GpuPolicy, GpuRefusal, GpuReport, GpuVersion,
    token,
};
use crate::measurements::Register;
use crate::policy::Policy;

/// Whose GPUs they are: who signs their certificates, and has a service that gives out tokens about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuRoot {
    /// NVIDIA's.
    Nvidia,
    /// Somebody else's, as DER: GPUs that are simulated.
    Other(Vec<u8>),
}

/// Verifies evidence of GPUs under one root and one set of keys.
#[derive(Clone, Debug)]
pub struct GpuVerifier {
    root: GpuRoot,
    keys: GpuKeys,
}

/// One GPU that is vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// What it is called in the evidence, such as `GPU-0`.
    pub name: String,
    /// The serial number of its report key's certificate in decimal, by which NVIDIA's service calls it too. Under another firmware it has
    /// another.
    pub device: String,
    /// Its model, as its certificate names it.
    pub model: String,
    /// Version of the driver.
    pub driver: GpuVersion,
    /// Version of the VBIOS.
    pub vbios: GpuVersion,
    /// Whether links between GPUs are not encrypted (protected PCIe). `None` if nothing says it: no token does.
    pub protected_pcie: Option<bool>,
    /// What it measured, by index. `None` if the service has compared it.
    pub measurements: Option<BTreeMap<u8, Register>>,
}

/// GPUs that are vouched for. Whether they are what anybody wants is not asked here: [`GpuVerifier::appraise`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuVerified {
    gpus: Vec<Gpu>,
    form: GpuForm,
    verified: Duration,
    valid_until: Duration,
    is_simulated: bool,
}

impl GpuVerified {
    /// Them.
    #[must_use]
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// The form of the evidence.
    #[must_use]
    pub const fn form(&self) -> GpuForm {
        self.form
    }

    /// Until when this holds, since 1970: what is verified at that very second is refused.
    #[must_use]
    pub const fn valid_until(&self) -> Duration {
        self.valid_until
    }

    /// Whether whom the verifier trusts is a simulated vendor, by its root. Of a token too, which that root did not sign: whose keys those
    /// of [`GpuVerifier::new`] are, nothing but who gave them says.
    #[must_use]
    pub const fn is_simulated(&self) -> bool {
        self.is_simulated
    }
}

/// GPUs that are vouched for and that a policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuAppraised(GpuVerified);

impl Deref for GpuAppraised {
    type Target = GpuVerified;

    fn deref(&self) -> &GpuVerified {
        &self.0
    }
}

impl GpuVerifier {
    /// Who issues tokens.
    pub const ISSUER: &str = token::ISSUER;
    /// Where NVIDIA publishes its keys.
    pub const KEYS_URL: &str = "https://nras.attestation.nvidia.com/.well-known/jwks.json";

    /// A verifier that trusts this root for reports, and for tokens these keys. Both have to be of one vendor: with [`GpuRoot::Nvidia`] go keys
    /// that came from [`Self::KEYS_URL`], with another root that vendor's. Nobody signs sets of keys, so nothing here can see it.
    #[must_use]
    pub const fn new(root: GpuRoot, keys: GpuKeys) -> Self {
        Self { root, keys }
    }

    /// Appraises evidence that was asked for with `nonce`, at `now` since 1970.
    ///
    /// # Errors
    /// [`GpuRefusal`] names the first thing that is not as the policy wants it.
    pub fn appraise(
        &self,
        evidence: &GpuEvidence,
        nonce: &GpuNonce,
        policy: &Policy,
        now: Duration,
    ) -> Result<GpuAppraised, GpuRefusal> {
        let policy = policy.nvidia.as_ref().ok_or(GpuRefusal::NoPolicy)?;
        let form = match evidence {
            GpuEvidence::Token(_) => GpuForm::Token,
            GpuEvidence::Reports(_) => GpuForm::Report,
        };
        policy.accepts_form(form)?;
        policy.appraise(self.verify(evidence, nonce, now)?, now)
    }

    /// Verifies evidence that was asked for with `nonce`, at `now` since 1970.
    ///
    /// # Errors
    /// [`GpuRefusal`].
    pub fn verify(
        &self,
        evidence: &GpuEvidence,
        nonce: &GpuNonce,
        now: Duration,
    ) -> Result<GpuVerified, GpuRefusal> {
        let is_simulated = self.root != GpuRoot::Nvidia;
        let (gpus, form, verified, valid_until) = match evidence {
            GpuEvidence::Token(token) => {
                let (gpus, issued, expires) = token.verify(&self.keys, nonce, now)?;
                (gpus, GpuForm::Token, issued, expires)
            }
            GpuEvidence::Reports(reports) => {
                let mut valid_until = Duration::MAX;
                let (mut gpus, mut own_keys) = (Vec::new(), BTreeSet::new());
                for (at, (report, certificates)) in reports.iter().enumerate() {
                    let (gpu, own_key, until) =
                        self.verify_report(format!("GPU-{at}"), report, certificates, nonce, now)?;
                    valid_until = valid_until.min(until);
                    // Not by its number, which is the report key's: one GPU has others under other firmware.
                    if !own_keys.insert(own_key) {
                        return Err(GpuRefusal::Twice { device: gpu.device });
                    }
                    gpus.push(gpu);
                }
                (gpus, GpuForm::Report, now, valid_until)
            }
        };
        Ok(GpuVerified { gpus, form, verified, valid_until, is_simulated })
    }

    /// Verifies what one GPU signed: nonce, certificates up to the root, signature, and that report and key are of one firmware. The GPU,
    /// its own key, until when its certificates hold.
    fn verify_report(
        &self,
        name: String,
        report: &GpuReport,
        certificates: &GpuCertificates,
        nonce: &GpuNonce,
        now: Duration,
    ) -> Result<(Gpu, Vec<u8>, Duration), GpuRefusal> {
        if report.nonce() != *nonce {
            return Err(GpuRefusal::Nonce { name, expected: *nonce, found: report.nonce() });
        }
        let root = match &self.root {
            GpuRoot::Nvidia => include_bytes!("../../roots/nvidia_device.der").as_slice(),
            GpuRoot::Other(der) => der,
        };
        let (chain, device) = Chain::read(certificates)?;
        let (signed, signature) = report.signed();
        let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &device.key);
        if key.verify(signed, signature).is_err() {
            return Err(GpuRefusal::ReportSignature { name });
        }
        let valid_until = chain.verify(root, now)?;
        let Some(firmware_id) = report.firmware_id() else { return Err(GpuRefusal::NoFirmware { name }) };
        if firmware_id != device.firmware_id {
            let (expected, found) = (Box::new(device.firmware_id), Box::new(firmware_id));
            return Err(GpuRefusal::Firmware { name, expected, found });
        }
        let gpu = Gpu {
            name,
            device: device.id,
            model: device.model,
            driver: report.driver().clone(),
            vbios: report.vbios().clone(),
            protected_pcie: report.protected_pcie(),
            measurements: Some(report.measurements().clone()),
        };
        Ok((gpu, device.own_key, valid_until))
    }
}

impl GpuPolicy {
    /// Appraises GPUs that are vouched for, at `now` since 1970. Costs no cryptography.
    ///
    /// # Errors
    /// [`GpuRefusal`] names the first thing that is not as the policy wants it.
    pub fn appraise(&self, mut verified: GpuVerified, now: Duration) -> Result<GpuAppraised, GpuRefusal> {
        self.accepts_form(verified.form)?;
        if now >= verified.valid_until {
            return Err(GpuRefusal::Lapsed { until: verified.valid_until, now });
        }
        let too_old = verified.verified.saturating_add(Duration::from_secs(self.age_max_s.into()));
        if now >= too_old {
            let (verified, age_max_s) = (verified.verified, self.age_max_s);
            return Err(GpuRefusal::TooOld { verified, now, age_max_s });
        }
        verified.valid_until = verified.valid_until.min(too_old);
        let (expected, found) = (self.gpus_min.max(1), verified.gpus.len());
        if found < expected {
            return Err(GpuRefusal::TooFew { expected, found });
        }
        verified.gpus.iter().try_for_each(|gpu| self.accepts(gpu))?;
        Ok(GpuAppraised(verified))
    }
}
