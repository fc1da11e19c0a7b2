//! Our own TLS identity: an Ed25519 key and its self-signed certificate.
//!
//! The certificate has the layout that deployed peers make and expect: fixed subject, one day of validity, usages
//! for both sides of a connection, and `127.0.0.1` as a *DNS* name, which is what connecting peers look for.

mod source;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::{Enclave, ProduceError};
use rand::Rng as _;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, KeyPair, SerialNumber};
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use units::PublicKey;
use zeroize::Zeroizing;

pub use source::IdentitySource;
#[cfg(any(test, feature = "testing"))]
pub(crate) use source::TlsConfigs;
use verify::QUOTE_LEN_MAX;
pub use verify::{CertificateRefused, PeerRole, verify_certificate};
pub(crate) use verify::{SPKI_PREFIX, public_key_of, quote_of};

/// How long a certificate is valid, the allowance for slow clocks included. Deployed peers use the same.
pub const VALIDITY: Duration = Duration::from_secs(86_400);

/// A certificate begins this long before it is made: peers whose clock runs behind refuse one from the future.
pub const CLOCK_SKEW_ALLOWANCE: Duration = Duration::from_secs(300);

/// PKCS #8 (RFC 5208, RFC 8410) around a bare Ed25519 seed. Version 1, because OpenSSL 3.0 does not read version 2.
const PKCS8_PREFIX: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// A private key with its certificate. The key never leaves memory unless [`TlsIdentity::to_pem`] is asked for it.
#[derive(Clone)]
pub struct TlsIdentity {
    key: Arc<CertifiedKey>,
    public_key: PublicKey,
    pkcs8: Arc<Zeroizing<Vec<u8>>>,
}

/// An identity as two PEM texts.
pub struct PemIdentity {
    /// One `CERTIFICATE` section.
    pub certificate: String,
    /// One `PRIVATE KEY` section (PKCS #8), cleared on drop.
    pub private_key: Zeroizing<String>,
}

/// An identity could not be made or read. Always ours to fix, never the peer's fault.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The clock shows a date that certificates cannot express.
    #[error("cannot make a certificate at {seconds} s after 1970: check the clock")]
    Clock {
        /// What the clock showed.
        seconds: u64,
    },
    /// The certificate could not be made.
    #[error("cannot make a certificate")]
    Generate(#[from] rcgen::Error),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A PEM section is absent or damaged.
    #[error("cannot read the {section} section of a PEM file")]
    Pem {
        /// The section that was looked for.
        section: &'static str,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// The private key is not an Ed25519 key in PKCS #8.
    #[error("the private key is not an Ed25519 key in PKCS #8")]
    Key(#[source] rustls::Error),
    /// The certificate is not one that peers would accept.
    #[error("the certificate cannot be used")]
    Certificate(#[from] CertificateRefused),
    /// Key and certificate belong to different pairs.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The enclave does not vouch for the key.
    #[error("there is no evidence for a new certificate")]
    Evidence(#[from] ProduceError),
    /// The quote is larger than peers accept.
    #[error("the quote for a new certificate has {found} bytes, peers accept {QUOTE_LEN_MAX}")]
    QuoteTooLong {
        /// Its length.
        found: usize,
    },
    /// The process ends.
    #[error("making a certificate was interrupted")]
    Interrupted,
}

impl TlsIdentity {
    /// Makes a new key and a certificate without a quote, valid from [`CLOCK_SKEW_ALLOWANCE`] before `now` (time
    /// since 1970) for [`VALIDITY`].
    ///
    /// # Errors
    /// [`IdentityError::Clock`] or [`IdentityError::Generate`].
    pub fn generate(now: Duration) -> Result<Self, IdentityError> {
        Self::make(now, None)
    }

    /// The same with a quote in which the enclave vouches for the key. May take as long as its driver takes.
    ///
    /// # Errors
    /// As [`TlsIdentity::generate`]; [`IdentityError::Evidence`] or [`IdentityError::QuoteTooLong`].
    pub fn attested(now: Duration, enclave: &dyn Enclave) -> Result<Self, IdentityError> {
        Self::make(now, Some(enclave))
    }

    fn make(now: Duration, enclave: Option<&dyn Enclave>) -> Result<Self, IdentityError> {
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + 32));
        pkcs8.extend_from_slice(PKCS8_PREFIX);
        pkcs8.resize(PKCS8_PREFIX.len() + 32, 0);
        rand::rng().fill_bytes(&mut pkcs8[PKCS8_PREFIX.len()..]);
        let key = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519)?;
        let mut params = certificate_params(pair.public_key_raw(), now)?;
        if let Some(enclave) = enclave {
            let public_key =
                PublicKey::new(pair.public_key_raw().try_into().or(Err(IdentityError::KeyMismatch))?);
            let quote = enclave.quote(&attest::report_data_of_key(&public_key))?;
            if quote.len() > QUOTE_LEN_MAX {
                return Err(IdentityError::QuoteTooLong { found: quote.len() });
            }
            let evidence = [
                extension(QUOTE_OID_NUMBERS, true, &quote),
                extension(USER_CLAIMS_OID_NUMBERS, true, public_key.as_bytes()),
            ];
            params.custom_extensions.splice(..0, evidence);
        }
        let certificate = params.self_signed(&pair)?;
        Self::new(certificate.into(), pkcs8)
    }

    /// Reads an identity that [`TlsIdentity::to_pem`] or the certificate tool of the deployed network wrote. Its
    /// validity is not checked here: peers do that when it is shown to them.
    ///
    /// # Errors
    /// [`IdentityError`] if a section cannot be read or the two do not belong together.
    pub fn from_pem(certificate: &str, private_key: &str) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|source| IdentityError::Pem { section: "CERTIFICATE", source })?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(private_key.as_bytes())
            .map_err(|source| IdentityError::Pem { section: "PRIVATE KEY", source })?;
        Self::new(certificate, Zeroizing::new(key.secret_pkcs8_der().to_vec()))
    }

    fn new(certificate: CertificateDer<'static>, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, IdentityError> {
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice())).map_err(IdentityError::Key)?;
        let public_key = public_key_of(&certificate)?;
        let own_key = key.public_key().ok_or(IdentityError::KeyMismatch)?;
        if own_key.as_ref().strip_prefix(SPKI_PREFIX) != Some(public_key.as_bytes()) {
            return Err(IdentityError::KeyMismatch);
        }
        // Not through rustls's own constructors: those parse the certificate and refuse critical quote extensions.
        let key = Arc::new(CertifiedKey::new(vec![certificate], key));
        Ok(Self { key, public_key, pkcs8: Arc::new(pkcs8) })
    }

    /// Writes certificate and private key. The caller keeps the key secret.
    #[must_use]
    pub fn to_pem(&self) -> PemIdentity {
        PemIdentity {
            certificate: pem("CERTIFICATE", self.certificate()),
            private_key: Zeroizing::new(pem("PRIVATE KEY", &self.pkcs8)),
        }
    }

    /// The certificate in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.key.cert[0]
    }

    /// What peers know this identity by.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
    }
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

/// Subject, dates and extensions, in the order of the deployed peers. Extensions are given as DER contents, since
/// `rcgen` marks the extended key usage as not critical and orders the list in its own way.
fn certificate_params(public_key: &[u8], now: Duration) -> Result<CertificateParams, IdentityError> {
    let clock = || IdentityError::Clock { seconds: now.as_secs() };
    // From 2050 on certificates write dates in another form, which the fixed layout does not cover.
    let year_2050 = Duration::from_secs(2_524_608_000);
    if now + VALIDITY >= year_2050 {
        return Err(clock());
    }
    let begin = Duration::from_secs(now.as_secs()).checked_sub(CLOCK_SKEW_ALLOWANCE).ok_or_else(clock)?;

    let mut subject = DistinguishedName::new();
    subject.push(DnType::CountryName, DnValue::PrintableString("AE".try_into()?));
    subject.push(DnType::StateOrProvinceName, "DUBAI");
    subject.push(DnType::OrganizationName, "TDLib Development");
    subject.push(DnType::OrganizationalUnitName, "Security");
    subject.push(DnType::CommonName, "localhost");

    let mut serial = [0; 16];
    rand::rng().fill_bytes(&mut serial);

    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, public_key);
    let key_identifier = [b"\x04\x14", digest.as_ref()].concat();

    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + begin;
    params.not_after = params.not_before + VALIDITY;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = subject;
    params.custom_extensions = vec![
        extension(&[2, 5, 29, 19], true, BASIC_CONSTRAINTS_NOT_CA),
        extension(&[2, 5, 29, 15], true, KEY_USAGE_DIGITAL_SIGNATURE),
        extension(&[2, 5, 29, 37], true, EXTENDED_KEY_USAGE_BOTH_SIDES),
        extension(&[2, 5, 29, 14], false, &key_identifier),
        extension(&[2, 5, 29, 17], false, SUBJECT_ALT_NAMES),
    ];
    Ok(params)
}

/// Extensions of the deployed network: the quote, raw, and what it vouches for, which is the key.
const QUOTE_OID_NUMBERS: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 1];
const USER_CLAIMS_OID_NUMBERS: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 2];
const BASIC_CONSTRAINTS_NOT_CA: &[u8] = b"\x30\x00";
const KEY_USAGE_DIGITAL_SIGNATURE: &[u8] = b"\x03\x02\x07\x80";
/// `serverAuth`, `clientAuth`.
const EXTENDED_KEY_USAGE_BOTH_SIDES: &[u8] =
    b"\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
/// dNSName `localhost`, dNSName `127.0.0.1`, iPAddress `::1`.
const SUBJECT_ALT_NAMES: &[u8] =
    b"\x30\x28\x82\x09localhost\x82\x09127.0.0.1\x87\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";

fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// RFC 7468 text: base64 in lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let mut base64 = Zeroizing::new(String::with_capacity(der.len().div_ceil(3) * 4));
    STANDARD.encode_string(der, &mut base64);
    let mut text = format!("-----BEGIN {label}-----\n");
    // Once, so that growing leaves no copies of a key behind.
    text.reserve_exact(base64.len() + base64.len() / 64 + 64);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, later) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = later;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests;
