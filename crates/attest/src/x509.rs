//! What certificates of all vendors have in common.

use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384};
use x509_parser::x509::SubjectPublicKeyInfo;

/// The first critical extension that nobody here knows, dotted. Whoever does not know one must not take its certificate (RFC 5280, 4.2).
pub(crate) fn unknown_critical(extensions: &[X509Extension<'_>]) -> Option<String> {
    let is_known = |extension: &X509Extension<'_>| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::BasicConstraints(_) | ParsedExtension::KeyUsage(_)
        )
    };
    let unknown = extensions.iter().find(|extension| extension.critical && !is_known(extension));
    unknown.map(|extension| extension.oid.to_id_string())
}

/// A key for ECDSA on P-384, as an uncompressed point.
///
/// # Errors
/// The kind of another key: algorithm and curve, dotted.
pub(crate) fn p384<'a>(key: &'a SubjectPublicKeyInfo<'_>) -> Result<&'a [u8], String> {
    let algorithm = &key.algorithm.algorithm;
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_NIST_EC_P384) {
        return Ok(&key.subject_public_key.data);
    }
    let curve = curve.map_or_else(|| "no curve".to_owned(), |curve| curve.to_id_string());
    Err(format!("{} on {curve}", algorithm.to_id_string()))
}
