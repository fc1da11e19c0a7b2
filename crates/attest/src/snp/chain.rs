//! The chain of certificates from AMD's root to a processor's key.

use std::time::Duration;

use aws_lc_rs::digest::{SHA384, digest};
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::X509Extension;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::verifier::SnpRoot;
use super::{ChipId, SnpCertificate, SnpProduct, SnpRefusal, SnpTcb};
use crate::measurements::{Hex, Register};
use crate::x509;

/// What AMD says of a product, verified up to a trusted root: whose signature the certificates of its processors have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpAuthority {
    product: SnpProduct,
    /// Of the intermediate certificate, in DER.
    name: Vec<u8>,
    key: Vec<u8>,
    pub(super) root_key: Register,
    pub(super) is_simulated: bool,
    valid_until: Duration,
    pub(super) has_revocations: bool,
}

/// What a certificate says of a processor's key.
pub(super) struct Vcek {
    pub(super) product: SnpProduct,
    pub(super) tcb: SnpTcb,
    pub(super) chip_id: ChipId,
    /// A point on P-384, uncompressed.
    pub(super) key: Vec<u8>,
    /// Until when it holds itself, since 1970.
    pub(super) valid_until: Duration,
}

impl SnpAuthority {
    /// Verifies the intermediate certificate, and the list of what the root took back where there is one, at `now` since 1970.
    pub(super) fn under(
        root: &SnpRoot,
        product: SnpProduct,
        ask: &[u8],
        revocations: Option<&[u8]>,
        now: Duration,
    ) -> Result<Self, SnpRefusal> {
        use SnpCertificate::{Ark, Ask};
        let ark = parse(Ark, root.of(product))?;
        let ask = parse(Ask, ask)?;
        let mut valid_until = check_usable(Ark, &ark, now)?.min(check_usable(Ask, &ask, now)?);
        let (name, key) = (ark.subject().as_raw(), &ark.public_key().subject_public_key.data);
        if !ark.is_ca() || !is_issued(&ask, name, key) {
            return Err(SnpRefusal::Signature { which: Ask, issuer: Ark, product });
        }
        if !ask.is_ca() {
            return Err(SnpRefusal::Signature { which: SnpCertificate::Vcek, issuer: Ask, product });
        }
        if let Some(der) = revocations {
            valid_until = valid_until.min(check_revocations(der, &ark, &ask, product, now)?);
        }
        Ok(Self {
            product,
            name: ask.subject().as_raw().to_vec(),
            key: ask.public_key().subject_public_key.data.to_vec(),
            root_key: root_key(&ark),
            is_simulated: *root != SnpRoot::Amd,
            valid_until: since_1970(valid_until),
            has_revocations: revocations.is_some(),
        })
    }

    /// Verifies a processor's certificate at `now` since 1970.
    pub(super) fn vcek(&self, der: &[u8], now: Duration) -> Result<Vcek, SnpRefusal> {
        let which = SnpCertificate::Vcek;
        let vcek = parse(which, der)?;
        let until = check_usable(which, &vcek, now)?;
        let product = product(&vcek)?;
        if product != self.product || !is_issued(&vcek, &self.name, &self.key) {
            return Err(SnpRefusal::Signature { which, issuer: SnpCertificate::Ask, product: self.product });
        }
        Ok(Vcek {
            product,
            tcb: tcb(&vcek, product)?,
            chip_id: chip_id(&vcek, product)?,
            key: x509::p384(vcek.public_key()).map_err(|found| SnpRefusal::Key { found })?.to_vec(),
            valid_until: since_1970(until),
        })
    }

    /// Until when all of it holds, since 1970.
    #[must_use]
    pub const fn valid_until(&self) -> Duration {
        self.valid_until
    }

    /// Whether a list of what the root took back was at hand.
    #[must_use]
    pub const fn has_revocations(&self) -> bool {
        self.has_revocations
    }
}

impl SnpProduct {
    /// Of which product a processor's certificate says to be. Nothing of it is verified.
    ///
    /// # Errors
    /// [`SnpRefusal`], if it cannot be read, or the product is not known.
    pub fn of_vcek(der: &[u8]) -> Result<Self, SnpRefusal> {
        product(&parse(SnpCertificate::Vcek, der)?)
    }
}

fn since_1970(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// What roots are known by: the SHA-384 of their key as it stands in their certificate.
fn root_key(root: &X509Certificate<'_>) -> Register {
    let mut id = [0; 48];
    id.copy_from_slice(digest(&SHA384, &root.public_key().subject_public_key.data).as_ref());
    Hex::new(id)
}

/// Refuses what holds at another time, or has a meaning that is not known here. Until when it holds, since 1970.
fn check_usable(
    which: SnpCertificate,
    certificate: &X509Certificate<'_>,
    now: Duration,
) -> Result<i64, SnpRefusal> {
    check_critical(which, certificate.extensions())?;
    let validity = certificate.validity();
    let until = validity.not_after.timestamp();
    check_time(which, validity.not_before.timestamp(), until, now)?;
    Ok(until)
}

/// Whether the authority of a name and key signed a certificate.
fn is_issued(certificate: &X509Certificate<'_>, name: &[u8], key: &[u8]) -> bool {
    certificate.issuer().as_raw() == name
        && certificate.signature_algorithm == certificate.tbs_certificate.signature
        && is_signed(key, certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
}

fn parse(which: SnpCertificate, der: &[u8]) -> Result<X509Certificate<'_>, SnpRefusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(SnpRefusal::Malformed { which }),
    }
}

/// AMD signs certificates by RSASSA-PSS with SHA-384 and nothing else.
fn is_signed(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key);
    key.verify(message, signature).is_ok()
}

fn check_critical(which: SnpCertificate, extensions: &[X509Extension<'_>]) -> Result<(), SnpRefusal> {
    x509::unknown_critical(extensions).map_or(Ok(()), |oid| Err(SnpRefusal::CriticalExtension { which, oid }))
}

fn check_time(
    which: SnpCertificate,
    not_before: i64,
    not_after: i64,
    now: Duration,
) -> Result<(), SnpRefusal> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < not_before {
        return Err(SnpRefusal::NotYetValid { which, not_before, now });
    }
    if now > not_after {
        return Err(SnpRefusal::Expired { which, not_after, now });
    }
    Ok(())
}

/// Refuses an intermediate certificate that its root took back. Until when the list holds, since 1970.
fn check_revocations(
    der: &[u8],
    ark: &X509Certificate<'_>,
    ask: &X509Certificate<'_>,
    product: SnpProduct,
    now: Duration,
) -> Result<i64, SnpRefusal> {
    let which = SnpCertificate::RevocationList;
    let malformed = SnpRefusal::Malformed { which };
    let Ok(([], list)) = CertificateRevocationList::from_der(der) else { return Err(malformed) };
    check_critical(which, list.extensions())?;
    let not_after = list.next_update().ok_or(malformed)?.timestamp();
    check_time(which, list.last_update().timestamp(), not_after, now)?;
    let is_signed = list.issuer().as_raw() == ark.subject().as_raw()
        && list.signature_algorithm == list.tbs_cert_list.signature
        && is_signed(
            &ark.public_key().subject_public_key.data,
            list.tbs_cert_list.as_ref(),
            &list.signature_value.data,
        );
    if !is_signed {
        return Err(SnpRefusal::Signature { which, issuer: SnpCertificate::Ark, product });
    }
    let is_revoked = list.iter_revoked_certificates().any(|revoked| revoked.raw_serial() == ask.raw_serial());
    if is_revoked {
        return Err(SnpRefusal::Revoked { serial: ask.raw_serial_as_string() });
    }
    Ok(not_after)
}

/// The product's name with its stepping, such as `Milan-B0`.
fn product(vcek: &X509Certificate<'_>) -> Result<SnpProduct, SnpRefusal> {
    const OID: &str = "1.3.6.1.4.1.3704.1.2";
    // An IA5String of fewer than 128 bytes.
    let name = match extension(vcek, OID)? {
        [0x16, len, name @ ..] if usize::from(*len) == name.len() && name.len() < 128 => name,
        _ => return Err(SnpRefusal::Extension { oid: OID }),
    };
    let known = [SnpProduct::Milan, SnpProduct::Genoa, SnpProduct::Turin];
    let name = String::from_utf8_lossy(name);
    let line = name.split('-').next().unwrap_or_default();
    let found = known.into_iter().find(|product| product.to_string() == line);
    found.ok_or_else(|| SnpRefusal::Product { found: name.into_owned() })
}

/// The firmware that the key is for, one number an extension.
fn tcb(vcek: &X509Certificate<'_>, product: SnpProduct) -> Result<SnpTcb, SnpRefusal> {
    let number = |oid| match extension(vcek, oid)? {
        // An INTEGER, with a zero before bytes that would make it negative.
        [2, 1, number] if *number < 0x80 => Ok(*number),
        [2, 2, 0, number] if *number >= 0x80 => Ok(*number),
        _ => Err(SnpRefusal::Extension { oid }),
    };
    Ok(SnpTcb {
        fmc: match product {
            SnpProduct::Turin => number("1.3.6.1.4.1.3704.1.3.9")?,
            SnpProduct::Milan | SnpProduct::Genoa => 0,
        },
        bootloader: number("1.3.6.1.4.1.3704.1.3.1")?,
        tee: number("1.3.6.1.4.1.3704.1.3.2")?,
        snp: number("1.3.6.1.4.1.3704.1.3.3")?,
        microcode: number("1.3.6.1.4.1.3704.1.3.8")?,
    })
}

fn chip_id(vcek: &X509Certificate<'_>, product: SnpProduct) -> Result<ChipId, SnpRefusal> {
    const OID: &str = "1.3.6.1.4.1.3704.1.4";
    let id = extension(vcek, OID)?;
    let len = match product {
        SnpProduct::Milan | SnpProduct::Genoa => 64,
        SnpProduct::Turin => 8,
    };
    if id.len() != len {
        return Err(SnpRefusal::Extension { oid: OID });
    }
    let mut chip_id = [0; 64];
    chip_id[..len].copy_from_slice(id);
    Ok(Hex::new(chip_id))
}

/// The value of an extension that must be there exactly once.
fn extension<'a>(certificate: &X509Certificate<'a>, oid: &'static str) -> Result<&'a [u8], SnpRefusal> {
    let mut found = certificate.extensions().iter().filter(|extension| extension.oid.to_id_string() == oid);
    match (found.next(), found.next()) {
        (Some(extension), None) => Ok(extension.value),
        _ => Err(SnpRefusal::Extension { oid }),
    }
}
