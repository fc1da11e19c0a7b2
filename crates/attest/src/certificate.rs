//! Certificates with evidence (RA-TLS), for people who look at them: what one says, and whether its evidence is of its key.
//!
//! Links have checks of their own, which refuse more. Nothing here is verified.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};
use units::PublicKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer as _;

use crate::measurements::report_data_of_key;
use crate::quote::Quote;

/// The extension that holds evidence, as its driver gave it.
const EVIDENCE_OID: &str = "1.3.6.1.4.1.12345.1";
/// The extension that holds what the evidence vouches for by its hash: the key, once more.
const USER_CLAIMS_OID: &str = "1.3.6.1.4.1.12345.2";

/// What a certificate of the network says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate itself.
    pub der: Vec<u8>,
    /// The key of its holder.
    pub public_key: PublicKey,
    /// First valid second, since 1970.
    pub not_before: i64,
    /// Last valid second, since 1970.
    pub not_after: i64,
    /// A quote or report. `None` in certificates that vouch for nothing but a key.
    pub evidence: Option<Vec<u8>>,
    /// What its maker says the evidence vouches for; no verifier looks at it.
    pub user_claims: Option<Vec<u8>>,
}

/// Bytes that are no certificate of the network.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Longer than any.
    #[error("the certificate has {found} bytes, at most {} are read", Certificate::LEN_MAX)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// A damaged text.
    #[error("the certificate cannot be read as PEM")]
    Pem(#[from] pem::Error),
    /// Not X.509 in DER.
    #[error("the certificate is not X.509 in DER, or something follows it")]
    Malformed,
    /// The public key is of another kind.
    #[error("the certificate's public key is not Ed25519, as those of the network are")]
    KeyNotEd25519,
    /// An extension that may be there once.
    #[error("the certificate has the extension {oid} twice")]
    Twice {
        /// Dotted form.
        oid: &'static str,
    },
    /// Evidence longer than any.
    #[error("the certificate's evidence has {found} bytes, at most {} are accepted", Quote::LEN_MAX)]
    EvidenceTooLong {
        /// Its length.
        found: usize,
    },
}

impl Certificate {
    /// Longest accepted certificate in bytes, as DER or PEM: the longest evidence in base64, and room for the rest.
    pub const LEN_MAX: usize = 1 << 16;

    /// Reads the first certificate of a PEM text, or DER. Any version of X.509 may have extensions: deployed peers make such.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > Self::LEN_MAX {
            return Err(CertificateError::TooLong { found: bytes.len() });
        }
        let der = match bytes {
            [0x30, ..] => bytes.to_vec(),
            _ => CertificateDer::from_pem_slice(bytes)?.to_vec(),
        };
        let Ok(([], certificate)) = X509Certificate::from_der(&der) else {
            return Err(CertificateError::Malformed);
        };
        let key = certificate.public_key();
        let bytes = (key.algorithm.algorithm == OID_SIG_ED25519).then_some(&*key.subject_public_key.data);
        let public_key = bytes.and_then(|key| key.try_into().ok()).map(PublicKey::new);
        let public_key = public_key.ok_or(CertificateError::KeyNotEd25519)?;
        let evidence = extension(&certificate, EVIDENCE_OID)?;
        if let Some(found) = evidence.as_ref().map(Vec::len).filter(|len| *len > Quote::LEN_MAX) {
            return Err(CertificateError::EvidenceTooLong { found });
        }
        let validity = certificate.validity();
        Ok(Self {
            public_key,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            evidence,
            user_claims: extension(&certificate, USER_CLAIMS_OID)?,
            der,
        })
    }

    /// What evidence has to vouch for to be of this certificate's key: its SHA-512.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        report_data_of_key(&self.public_key)
    }
}

fn extension(
    certificate: &X509Certificate<'_>,
    oid: &'static str,
) -> Result<Option<Vec<u8>>, CertificateError> {
    let mut found = certificate.extensions().iter().filter(|extension| extension.oid.to_id_string() == oid);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(CertificateError::Twice { oid }),
        (first, None) => Ok(first.map(|extension| extension.value.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use sha2::{Digest as _, Sha512};

    use super::*;

    const EVIDENCE: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 1];
    const CLAIMS: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 2];

    fn made(key: &KeyPair, extensions: &[(&[u64], Vec<u8>)]) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        for (oid, value) in extensions {
            let mut extension = CustomExtension::from_oid_content(oid, value.clone());
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        }
        params.self_signed(key).unwrap()
    }

    fn ed25519() -> KeyPair {
        KeyPair::generate_for(&PKCS_ED25519).unwrap()
    }

    #[test]
    fn a_certificate_says_which_key_its_evidence_has_to_be_of() {
        let key = ed25519();
        let made = made(&key, &[(EVIDENCE, vec![7; 64]), (CLAIMS, key.public_key_raw().to_vec())]);
        let read = Certificate::parse(made.der()).unwrap();
        assert_eq!(read.public_key.as_bytes(), key.public_key_raw());
        assert_eq!(
            (read.evidence.as_deref(), read.user_claims.as_deref()),
            (Some(&[7; 64][..]), Some(key.public_key_raw()))
        );
        assert_eq!(read.report_data(), <[u8; 64]>::from(Sha512::digest(key.public_key_raw())));
        assert_eq!(Certificate::parse(made.pem().as_bytes()).unwrap(), read);
        let bare = Certificate::parse(self::made(&key, &[]).der()).unwrap();
        assert_eq!((bare.evidence, bare.user_claims), (None, None));
    }

    #[test]
    fn other_certificates_are_refused() {
        use CertificateError as Error;
        let key = ed25519();
        let parse = |extensions: &[(&[u64], Vec<u8>)]| Certificate::parse(made(&key, extensions).der());
        assert!(parse(&[(EVIDENCE, vec![0; Quote::LEN_MAX])]).is_ok());
        let long = parse(&[(EVIDENCE, vec![0; Quote::LEN_MAX + 1])]);
        assert!(matches!(long, Err(Error::EvidenceTooLong { .. })), "{long:?}");
        let twice = parse(&[(EVIDENCE, vec![0]), (EVIDENCE, vec![1])]);
        assert!(matches!(twice, Err(Error::Twice { .. } | Error::Malformed)), "{twice:?}");
        let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let other = Certificate::parse(made(&p256, &[]).der());
        assert!(matches!(other, Err(Error::KeyNotEd25519)), "{other:?}");
        let whole = made(&key, &[]);
        let (der, pem) = (whole.der(), whole.pem());
        for len in 1..der.len() {
            assert!(matches!(Certificate::parse(&der[..len]), Err(Error::Malformed)), "{len}");
        }
        assert!(matches!(Certificate::parse(&[der, &[0][..]].concat()), Err(Error::Malformed)));
        assert!(matches!(Certificate::parse(&pem.as_bytes()[..pem.len() / 2]), Err(Error::Pem(_))));
        assert!(matches!(Certificate::parse(b""), Err(Error::Pem(_))));
        let long = vec![0x30; Certificate::LEN_MAX + 1];
        assert!(matches!(Certificate::parse(&long), Err(Error::TooLong { .. })));
    }
}
