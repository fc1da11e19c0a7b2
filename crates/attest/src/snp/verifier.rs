//! Whether a processor of AMD's said what a report says.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::chain::{self, Vcek};
use super::{SnpCertificates, SnpPlatform, SnpProduct, SnpRefusal, SnpReport};
use crate::appraise::{Appraised, Firmware, Platform, Verified};
use crate::measurements::PlatformId;
use crate::policy::Policy;
use crate::refusal::Refusal;

/// Whose certificates processors have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnpRoot {
    /// AMD's, one for each product.
    Amd,
    /// Somebody else's, as DER: platforms that are simulated.
    Other(Vec<u8>),
}

impl SnpRoot {
    pub(super) fn of(&self, product: SnpProduct) -> &[u8] {
        match (self, product) {
            (Self::Other(der), _) => der,
            (Self::Amd, SnpProduct::Milan) => include_bytes!("../../roots/amd_milan.der"),
            (Self::Amd, SnpProduct::Genoa) => include_bytes!("../../roots/amd_genoa.der"),
            (Self::Amd, SnpProduct::Turin) => include_bytes!("../../roots/amd_turin.der"),
        }
    }
}

/// Verifies reports of SEV-SNP guests under one vendor's roots.
#[derive(Clone, Debug)]
pub struct SnpVerifier {
    root: SnpRoot,
}

impl SnpVerifier {
    /// A verifier that trusts these roots.
    #[must_use]
    pub const fn new(root: SnpRoot) -> Self {
        Self { root }
    }

    /// Appraises a report that has to vouch for `report_data`, at `now` since 1970. What costs little is checked first; the
    /// outcome does not depend on the order.
    ///
    /// # Errors
    /// [`Refusal`] names the first thing that is not as the policy wants it.
    pub fn appraise(
        &self,
        report: &SnpReport,
        report_data: &[u8; 64],
        certificates: &SnpCertificates,
        policy: &Policy,
        now: Duration,
    ) -> Result<Appraised, Refusal> {
        policy.screen(report.claims(), report_data)?;
        policy.appraise(self.verify(report, certificates, now)?, report_data, now)
    }

    /// Verifies a report at `now` since 1970: certificates up to the root, revocations where a list is given, that they are of the
    /// very processor and firmware that the report names, and its signature.
    ///
    /// # Errors
    /// [`Refusal::Snp`].
    pub fn verify(
        &self,
        report: &SnpReport,
        certificates: &SnpCertificates,
        now: Duration,
    ) -> Result<Verified, Refusal> {
        let vcek = chain::verify(&self.root, certificates, now)?;
        check_signer(report, &vcek)?;
        let Vcek { product, root_key, valid_until, has_revocations, .. } = vcek;
        let platform = SnpPlatform {
            product,
            tcbs: report.tcbs(product),
            vmpl: report.vmpl(),
            platform_info: report.platform_info(),
            has_revocations,
        };
        let id = PlatformId::of_chip(&report.chip_id());
        Ok(Verified {
            claims: report.claims().clone(),
            platform: Platform { id, firmware: Firmware::Amd(Box::new(platform)), root_key },
            valid_until,
            is_simulated: self.root != SnpRoot::Amd,
        })
    }
}

/// Whether the key of a certificate signed a report, and is the one that the report says it was signed with.
fn check_signer(report: &SnpReport, vcek: &Vcek) -> Result<(), SnpRefusal> {
    let found = report.signing_key();
    if found != 0 {
        return Err(SnpRefusal::SigningKey { found });
    }
    let chip_id = report.chip_id();
    if chip_id.as_bytes() == &[0; 64] {
        return Err(SnpRefusal::ChipMasked);
    }
    if chip_id != vcek.chip_id {
        let (report, certificate) = (Box::new(chip_id), Box::new(vcek.chip_id));
        return Err(SnpRefusal::Chip { report, certificate });
    }
    if !report.can_be_of(vcek.product) {
        let [family, model] = report.family_and_model();
        return Err(SnpRefusal::OtherProduct { family, model, certificate: vcek.product });
    }
    let reported = report.tcbs(vcek.product).reported;
    if reported != vcek.tcb {
        return Err(SnpRefusal::OtherTcb { report: reported, certificate: vcek.tcb });
    }
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &vcek.key);
    key.verify(report.signed(), &report.signature()).or(Err(SnpRefusal::ReportSignature))
}
