//! Whether a peer's certificate is acceptable, as a function of the certificate and the time.

use std::collections::HashSet;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use units::PublicKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer as _;

/// DER of an Ed25519 `SubjectPublicKeyInfo` (RFC 8410) up to the 32 bytes of the key.
pub(crate) const SPKI_PREFIX: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// Largest quote extension, in bytes, that the deployed network accepts.
pub(super) const QUOTE_LEN_MAX: usize = attest::Quote::LEN_MAX;

/// The name under which every server is addressed, whatever its real address: the quote, not the name, identifies it.
const SERVER_NAME: &str = "127.0.0.1";

/// Extensions of the deployed network, 1.3.6.1.4.1.12345.1 and .2, as DER contents of their OIDs.
const QUOTE_OID: &[u8] = b"\x2b\x06\x01\x04\x01\xe0\x39\x01";
const USER_CLAIMS_OID: &[u8] = b"\x2b\x06\x01\x04\x01\xe0\x39\x02";

/// Which side of the connection the certificate speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRole {
    /// It accepted the connection.
    Server,
    /// It opened the connection.
    Client,
}

/// Why a certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefused {
    /// Not exactly one certificate.
    #[error("the peer sent {found} certificates, expected one")]
    ChainLength {
        /// How many there were.
        found: usize,
    },
    /// Not X.509 in DER.
    #[error("the certificate is not X.509 in DER")]
    Malformed,
    /// Bytes follow the certificate.
    #[error("{found} bytes follow the certificate")]
    TrailingBytes {
        /// How many.
        found: usize,
    },
    /// The public key is of another kind.
    #[error("the certificate's public key is not Ed25519")]
    KeyNotEd25519,
    /// The signature is of another kind.
    #[error("the certificate's signature is not Ed25519")]
    SignatureNotEd25519,
    /// Subject and issuer differ.
    #[error("the certificate names another issuer, expected a self-signed one")]
    NotSelfIssued,
    /// The signature is not by the certificate's own key.
    #[error("the certificate's signature is not by its own key")]
    SelfSignature,
    /// The validity begins later.
    #[error(
        "the certificate is valid from {not_before} on, it is {now} (seconds since 1970): compare the clocks"
    )]
    NotYetValid {
        /// First valid second.
        not_before: i64,
        /// When it was checked.
        now: i64,
    },
    /// The validity has ended.
    #[error("the certificate was valid until {not_after}, it is {now} (seconds since 1970)")]
    Expired {
        /// Last valid second.
        not_after: i64,
        /// When it was checked.
        now: i64,
    },
    /// An extension appears twice.
    #[error("the certificate has the extension {oid} twice")]
    DuplicateExtension {
        /// Dotted form.
        oid: String,
    },
    /// A known extension whose content cannot be read.
    #[error("the content of the certificate's extension {oid} is malformed")]
    MalformedExtension {
        /// Dotted form.
        oid: String,
    },
    /// A critical extension that nobody here knows.
    #[error("the certificate has the unknown critical extension {oid}")]
    UnknownCriticalExtension {
        /// Dotted form.
        oid: String,
    },
    /// The quote is larger than the deployed network accepts.
    #[error("the quote has {found} bytes, at most {QUOTE_LEN_MAX} are accepted")]
    QuoteTooLong {
        /// Its length.
        found: usize,
    },
    /// The key may not sign handshakes.
    #[error("the certificate's key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// The extended key usage is absent or lacks the side in question.
    #[error("the certificate's extended key usage lacks {expected}")]
    MissingUsage {
        /// `serverAuth` or `clientAuth`.
        expected: &'static str,
    },
    /// A server certificate without the name that all servers carry.
    #[error("the certificate lacks the DNS name {SERVER_NAME}")]
    MissingServerName,
}

/// Checks a peer's certificate at the time `now` (since 1970) and returns its key.
///
/// Quote and claims are allowed for and not looked at: where evidence is asked for, it is appraised once the handshake is
/// done. What the result proves is only that some process made this certificate for this key; that the peer holds the key is
/// proven by the TLS handshake.
///
/// X.509 version 1 with extensions is accepted: deployed peers produce it.
///
/// # Errors
/// [`CertificateRefused`] names the first check that failed.
pub fn verify_certificate(
    certificate: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    role: PeerRole,
    now: Duration,
) -> Result<PublicKey, CertificateRefused> {
    if !others.is_empty() {
        return Err(CertificateRefused::ChainLength { found: 1 + others.len() });
    }
    let der = certificate;
    let certificate = parse(der)?;
    let public_key = ed25519_key(&certificate)?;
    if certificate.tbs_certificate.signature.algorithm != OID_SIG_ED25519 || !has_ed25519_signature(der) {
        return Err(CertificateRefused::SignatureNotEd25519);
    }
    if certificate.subject().as_raw() != certificate.issuer().as_raw() {
        return Err(CertificateRefused::NotSelfIssued);
    }
    check_validity(&certificate, now)?;
    check_extensions(&certificate, role)?;
    // Last, since it is the only check that costs more than a few microseconds.
    certificate.verify_signature(None).or(Err(CertificateRefused::SelfSignature))?;
    Ok(public_key)
}

/// The key of a certificate, without any other check.
pub(crate) fn public_key_of(certificate: &CertificateDer<'_>) -> Result<PublicKey, CertificateRefused> {
    ed25519_key(&parse(certificate)?)
}

/// The quote of a certificate, if it carries one, without any check.
pub(crate) fn quote_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let certificate = parse(certificate).ok()?;
    let quote = certificate.extensions().iter().find(|extension| extension.oid.as_bytes() == QUOTE_OID)?;
    Some(quote.value.to_vec())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateRefused> {
    match X509Certificate::from_der(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(CertificateRefused::TrailingBytes { found: rest.len() }),
        Err(_) => Err(CertificateRefused::Malformed),
    }
}

fn ed25519_key(certificate: &X509Certificate<'_>) -> Result<PublicKey, CertificateRefused> {
    let key = certificate.public_key().raw.strip_prefix(SPKI_PREFIX).and_then(|key| key.try_into().ok());
    key.map(PublicKey::new).ok_or(CertificateRefused::KeyNotEd25519)
}

/// Whether the certificate ends in an Ed25519 signature. The signature does not cover this part, and the parser takes
/// other tags for it, so that only comparing the bytes leaves one form.
fn has_ed25519_signature(der: &[u8]) -> bool {
    const SIGNATURE_PREFIX: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70\x03\x41\x00";
    let end = der.len().checked_sub(SIGNATURE_PREFIX.len() + 64).map(|begin| &der[begin..]);
    end.is_some_and(|end| end.starts_with(SIGNATURE_PREFIX))
}

fn check_validity(certificate: &X509Certificate<'_>, now: Duration) -> Result<(), CertificateRefused> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let (not_before, not_after) =
        (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    if now < not_before {
        return Err(CertificateRefused::NotYetValid { not_before, now });
    }
    if now > not_after {
        return Err(CertificateRefused::Expired { not_after, now });
    }
    Ok(())
}

fn check_extensions(certificate: &X509Certificate<'_>, role: PeerRole) -> Result<(), CertificateRefused> {
    let mut has_usage = false;
    let mut has_server_name = false;
    let mut seen = HashSet::new();
    for extension in certificate.extensions() {
        let oid = || extension.oid.to_id_string();
        if !seen.insert(extension.oid.as_bytes()) {
            return Err(CertificateRefused::DuplicateExtension { oid: oid() });
        }
        match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } => {
                return Err(CertificateRefused::MalformedExtension { oid: oid() });
            }
            ParsedExtension::BasicConstraints(_)
            | ParsedExtension::SubjectKeyIdentifier(_)
            | ParsedExtension::AuthorityKeyIdentifier(_) => {}
            ParsedExtension::KeyUsage(usage) if !usage.digital_signature() => {
                return Err(CertificateRefused::NoDigitalSignature);
            }
            ParsedExtension::KeyUsage(_) => {}
            ParsedExtension::ExtendedKeyUsage(usage) => {
                // `anyExtendedKeyUsage` does not count, as for the deployed peers.
                has_usage = match role {
                    PeerRole::Server => usage.server_auth,
                    PeerRole::Client => usage.client_auth,
                };
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                has_server_name = names.general_names.contains(&GeneralName::DNSName(SERVER_NAME));
            }
            _ if extension.oid.as_bytes() == QUOTE_OID => {
                let found = extension.value.len();
                if found > QUOTE_LEN_MAX {
                    return Err(CertificateRefused::QuoteTooLong { found });
                }
            }
            _ if extension.oid.as_bytes() == USER_CLAIMS_OID => {}
            _ if extension.critical => {
                return Err(CertificateRefused::UnknownCriticalExtension { oid: oid() });
            }
            _ => {}
        }
    }
    match role {
        PeerRole::Server if !has_usage => Err(CertificateRefused::MissingUsage { expected: "serverAuth" }),
        PeerRole::Client if !has_usage => Err(CertificateRefused::MissingUsage { expected: "clientAuth" }),
        PeerRole::Server if !has_server_name => Err(CertificateRefused::MissingServerName),
        PeerRole::Server | PeerRole::Client => Ok(()),
    }
}
