//! Whether a processor of AMD's said what a report says.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::chain::{SnpAuthority, Vcek};
use super::{SnpCertificates, SnpPlatform, SnpProduct, SnpRefusal, SnpReport, VcekId};
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
        policy.screen_report(report, report_data)?;
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
        let SnpCertificates { vcek, ask, revocations } = certificates;
        let product = SnpProduct::of_vcek(vcek)?;
        self.authority(product, ask, revocations.as_deref(), now)?.verify(report, vcek, now)
    }

    /// Verifies at `now` since 1970 what AMD publishes of a product, as DER: its intermediate certificate, and the list of what the
    /// root took back where there is one.
    ///
    /// # Errors
    /// [`SnpRefusal`].
    pub fn authority(
        &self,
        product: SnpProduct,
        ask: &[u8],
        revocations: Option<&[u8]>,
        now: Duration,
    ) -> Result<SnpAuthority, SnpRefusal> {
        SnpAuthority::under(&self.root, product, ask, revocations, now)
    }
}

impl SnpAuthority {
    /// Verifies a report at `now` since 1970, while this is valid: the processor's certificate (DER), that it is of the very processor
    /// and firmware that the report names, and the report's signature.
    ///
    /// # Errors
    /// [`Refusal::Snp`].
    pub fn verify(&self, report: &SnpReport, vcek: &[u8], now: Duration) -> Result<Verified, Refusal> {
        let vcek = self.vcek(vcek, now)?;
        check_named(&report.vcek_id()?, &vcek)?;
        let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &vcek.key);
        key.verify(report.signed(), &report.signature()).or(Err(SnpRefusal::ReportSignature))?;
        let platform = SnpPlatform {
            product: vcek.product,
            tcbs: report.tcbs(vcek.product),
            vmpl: report.vmpl(),
            platform_info: report.platform_info(),
            has_revocations: self.has_revocations,
        };
        let id = PlatformId::of_chip(&report.chip_id());
        Ok(Verified {
            claims: report.claims().clone(),
            platform: Platform { id, firmware: Firmware::Amd(Box::new(platform)), root_key: self.root_key },
            valid_until: self.valid_until().min(vcek.valid_until),
            is_simulated: self.is_simulated,
        })
    }

    /// Verifies at `now` since 1970, while this is valid, that a processor's certificate (DER) is that of a key. Until when the
    /// certificate itself holds, since 1970.
    ///
    /// # Errors
    /// [`SnpRefusal`].
    pub fn check_vcek(&self, vcek: &[u8], id: &VcekId, now: Duration) -> Result<Duration, SnpRefusal> {
        let vcek = self.vcek(vcek, now)?;
        check_named(id, &vcek)?;
        Ok(vcek.valid_until)
    }
}

/// Whether a certificate is that of the key that a report names.
fn check_named(id: &VcekId, vcek: &Vcek) -> Result<(), SnpRefusal> {
    if id.chip_id != vcek.chip_id {
        let (report, certificate) = (Box::new(id.chip_id), Box::new(vcek.chip_id));
        return Err(SnpRefusal::Chip { report, certificate });
    }
    let certificate = vcek.product;
    if !id.products().any(|product| product == certificate) {
        let products: Vec<_> = id.products().map(|product| product.to_string()).collect();
        return Err(SnpRefusal::OtherProduct { report: products.join(" or "), certificate });
    }
    let reported = id.tcb(certificate);
    if reported != vcek.tcb {
        return Err(SnpRefusal::OtherTcb { report: reported, certificate: vcek.tcb });
    }
    Ok(())
}
