//! The chain of certificates from AMD's root to a processor's key.

use std::time::Duration;

use aws_lc_rs::digest::{SHA384, digest};
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::verifier::SnpRoot;
use super::{ChipId, SnpCertificate, SnpCertificates, SnpProduct, SnpRefusal, SnpTcb};
use crate::measurements::{Hex, Register};

/// What the certificates say of a processor's key, up to a trusted root.
pub(super) struct Vcek {
    pub(super) product: SnpProduct,
    pub(super) tcb: SnpTcb,
    pub(super) chip_id: ChipId,
    /// A point on P-384, uncompressed.
    pub(super) key: Vec<u8>,
    /// SHA-384 of the root's key.
    pub(super) root_key: Register,
    /// Since 1970.
    pub(super) valid_until: Duration,
    pub(super) has_revocations: bool,
}

/// Verifies the chain at `now` since 1970.
pub(super) fn verify(
    root: &SnpRoot,
    certificates: &SnpCertificates,
    now: Duration,
) -> Result<Vcek, SnpRefusal> {
    use SnpCertificate::{Ark, Ask, Vcek as Leaf};
    let leaf = parse(Leaf, &certificates.vcek)?;
    let product = product(&leaf)?;
    let ark = parse(Ark, root.of(product))?;
    let ask = parse(Ask, &certificates.ask)?;
    let mut valid_until = i64::MAX;
    for (which, certificate) in [(Ark, &ark), (Ask, &ask), (Leaf, &leaf)] {
        check_critical(which, certificate.extensions())?;
        let validity = certificate.validity();
        let until = validity.not_after.timestamp();
        check_time(which, validity.not_before.timestamp(), until, now)?;
        valid_until = valid_until.min(until);
    }
    for (which, certificate, issuer, by) in [(Ask, &ask, Ark, &ark), (Leaf, &leaf, Ask, &ask)] {
        let is_signed = by.is_ca()
            && certificate.issuer().as_raw() == by.subject().as_raw()
            && certificate.signature_algorithm == certificate.tbs_certificate.signature
            && signed(
                by.public_key(),
                certificate.tbs_certificate.as_ref(),
                &certificate.signature_value.data,
            );
        if !is_signed {
            return Err(SnpRefusal::Signature { which, issuer, product });
        }
    }
    if let Some(der) = &certificates.revocations {
        valid_until = valid_until.min(check_revocations(der, &ark, &ask, product, now)?);
    }
    Ok(Vcek {
        product,
        tcb: tcb(&leaf, product)?,
        chip_id: chip_id(&leaf, product)?,
        key: key(leaf.public_key())?,
        root_key: root_key(&ark),
        valid_until: Duration::from_secs(u64::try_from(valid_until).unwrap_or(0)),
        has_revocations: certificates.revocations.is_some(),
    })
}

/// What roots are known by: the SHA-384 of their key as it stands in their certificate.
fn root_key(root: &X509Certificate<'_>) -> Register {
    let mut id = [0; 48];
    id.copy_from_slice(digest(&SHA384, &root.public_key().subject_public_key.data).as_ref());
    Hex::new(id)
}

fn parse(which: SnpCertificate, der: &[u8]) -> Result<X509Certificate<'_>, SnpRefusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(SnpRefusal::Malformed { which }),
    }
}

/// AMD signs certificates by RSASSA-PSS with SHA-384 and nothing else.
fn signed(key: &SubjectPublicKeyInfo<'_>, message: &[u8], signature: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, &key.subject_public_key.data);
    key.verify(message, signature).is_ok()
}

fn check_critical(which: SnpCertificate, extensions: &[X509Extension<'_>]) -> Result<(), SnpRefusal> {
    let unknown = |extension: &&X509Extension<'_>| {
        let is_known = matches!(
            extension.parsed_extension(),
            ParsedExtension::BasicConstraints(_) | ParsedExtension::KeyUsage(_)
        );
        extension.critical && !is_known
    };
    extensions.iter().find(unknown).map_or(Ok(()), |extension| {
        Err(SnpRefusal::CriticalExtension { which, oid: extension.oid.to_id_string() })
    })
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
        && signed(ark.public_key(), list.tbs_cert_list.as_ref(), &list.signature_value.data);
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

fn key(key: &SubjectPublicKeyInfo<'_>) -> Result<Vec<u8>, SnpRefusal> {
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let is_p384 = key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_NIST_EC_P384);
    if !is_p384 {
        let curve = curve.map_or_else(|| "no curve".to_owned(), |curve| curve.to_id_string());
        return Err(SnpRefusal::Key {
            found: format!("{} on {curve}", key.algorithm.algorithm.to_id_string()),
        });
    }
    Ok(key.subject_public_key.data.to_vec())
}
