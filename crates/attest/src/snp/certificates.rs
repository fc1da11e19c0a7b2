//! The certificates that come with a report.

use rustls_pki_types::pem::{self, PemObject as _, SectionKind};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::SnpCertificate;

/// What AMD's key service (KDS) has about one processor, as DER. It is signed, so it may come from anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpCertificates {
    /// The processor's certificate, for one version of its firmware.
    pub vcek: Vec<u8>,
    /// The intermediate certificate of its product.
    pub ask: Vec<u8>,
    /// The list of what the product's root took back.
    pub revocations: Option<Vec<u8>>,
}

/// A text that does not hold the certificates of one processor.
#[derive(Debug, thiserror::Error)]
pub enum SnpCertificatesError {
    /// Longer than any.
    #[error("the certificates have {found} bytes, at most {} are read", SnpCertificates::LEN_MAX)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Not PEM.
    #[error("the certificates are not PEM, as `openssl x509 -inform der` prints them")]
    Pem(#[from] pem::Error),
    /// A section that is no certificate.
    #[error("section {at} (counted from 1) is no X.509 certificate in DER")]
    Malformed {
        /// Which one.
        at: usize,
    },
    /// Something else than certificates and lists of revocations.
    #[error("section {at} (counted from 1) is neither a certificate nor a revocation list")]
    Section {
        /// Which one.
        at: usize,
    },
    /// One is absent.
    #[error("there is no {which} among the certificates")]
    Missing {
        /// Which one.
        which: SnpCertificate,
    },
    /// There are two of one kind.
    #[error("there is more than one {which} among the certificates")]
    Twice {
        /// Which one.
        which: SnpCertificate,
    },
}

impl SnpCertificates {
    /// Longest accepted text in bytes; AMD's have five thousand.
    pub const LEN_MAX: usize = 1 << 16;

    /// Reads PEM sections in any order: the processor's certificate, the intermediate one, and a revocation list (`X509 CRL`) where
    /// there is one. Roots, which AMD publishes beside them, are passed over: which one is trusted does not depend on the input.
    ///
    /// # Errors
    /// [`SnpCertificatesError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, SnpCertificatesError> {
        let Sections { vcek, ask, revocations } = Sections::from_pem(text)?;
        let missing = |which| SnpCertificatesError::Missing { which };
        Ok(Self {
            vcek: vcek.ok_or_else(|| missing(SnpCertificate::Vcek))?,
            ask: ask.ok_or_else(|| missing(SnpCertificate::Ask))?,
            revocations,
        })
    }

    /// The intermediate certificate alone, as DER, of PEM as AMD's key service has it for a product (`cert_chain`).
    ///
    /// # Errors
    /// [`SnpCertificatesError`].
    pub fn ask_from_pem(text: &[u8]) -> Result<Vec<u8>, SnpCertificatesError> {
        let which = SnpCertificate::Ask;
        Sections::from_pem(text)?.ask.ok_or(SnpCertificatesError::Missing { which })
    }
}

#[derive(Default)]
struct Sections {
    vcek: Option<Vec<u8>>,
    ask: Option<Vec<u8>>,
    revocations: Option<Vec<u8>>,
}

impl Sections {
    fn from_pem(text: &[u8]) -> Result<Self, SnpCertificatesError> {
        use SnpCertificate::{Ask, RevocationList, Vcek};
        if text.len() > SnpCertificates::LEN_MAX {
            return Err(SnpCertificatesError::TooLong { found: text.len() });
        }
        let mut found = Self::default();
        for (at, section) in <(SectionKind, Vec<u8>)>::pem_slice_iter(text).enumerate() {
            let at = at + 1;
            let (kind, der) = section?;
            let (place, which) = match kind {
                SectionKind::Crl => (&mut found.revocations, RevocationList),
                SectionKind::Certificate => {
                    let Ok(([], certificate)) = X509Certificate::from_der(&der) else {
                        return Err(SnpCertificatesError::Malformed { at });
                    };
                    if certificate.subject().as_raw() == certificate.issuer().as_raw() {
                        continue;
                    }
                    if certificate.is_ca() { (&mut found.ask, Ask) } else { (&mut found.vcek, Vcek) }
                }
                _ => return Err(SnpCertificatesError::Section { at }),
            };
            if place.replace(der).is_some() {
                return Err(SnpCertificatesError::Twice { which });
            }
        }
        Ok(found)
    }
}
