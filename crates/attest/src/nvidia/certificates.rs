//! The certificates that come with a GPU's report.

use rustls_pki_types::pem::{self, PemObject as _, SectionKind};

/// Certificates of one GPU as DER: that of the report's key first, each signed by the next. They are signed, so they may come from
/// anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuCertificates(pub(super) Vec<Vec<u8>>);

/// A text that does not hold the certificates of a GPU.
#[derive(Debug, thiserror::Error)]
pub enum GpuCertificatesError {
    /// Longer than any.
    #[error("the GPU's certificates have {found} bytes, at most {} are read", GpuCertificates::LEN_MAX)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Not PEM.
    #[error("the GPU's certificates are not PEM")]
    Pem(#[from] pem::Error),
    /// Something else than certificates.
    #[error("section {at} (counted from 1) of the GPU's certificates is no certificate")]
    Section {
        /// Which one.
        at: usize,
    },
    /// Too many, or too few.
    #[error("the GPU has {found} certificates, and must have 2 to {}", GpuCertificates::COUNT_MAX)]
    Count {
        /// Their number.
        found: usize,
    },
}

impl GpuCertificates {
    /// Longest accepted text in bytes: what NVIDIA's driver has room for.
    pub const LEN_MAX: usize = 5120 * 2;

    /// Most certificates; GPUs have five, with the root.
    const COUNT_MAX: usize = 8;

    /// Reads PEM as NVIDIA's driver gives it: the certificate of the report's key first.
    ///
    /// # Errors
    /// [`GpuCertificatesError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, GpuCertificatesError> {
        if text.len() > Self::LEN_MAX {
            return Err(GpuCertificatesError::TooLong { found: text.len() });
        }
        let mut certificates = Vec::new();
        for (at, section) in <(SectionKind, Vec<u8>)>::pem_slice_iter(text).enumerate() {
            let (SectionKind::Certificate, der) = section? else {
                return Err(GpuCertificatesError::Section { at: at + 1 });
            };
            certificates.push(der);
        }
        if !(2..=Self::COUNT_MAX).contains(&certificates.len()) {
            return Err(GpuCertificatesError::Count { found: certificates.len() });
        }
        Ok(Self(certificates))
    }
}
