//! Evidence that the processor of a platform signed, of either vendor.

use crate::kind::EvidenceKind;
use crate::quote::{Claims, Quote, QuoteError};
use crate::snp::{SnpReport, SnpReportError};

/// Evidence that a platform's processor signed: what certificates of the network carry.
#[derive(Debug)]
pub enum PlatformEvidence {
    /// Of Intel TDX or SGX.
    Quote(Quote),
    /// Of AMD SEV-SNP.
    Report(SnpReport),
}

/// Bytes that are no such evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformEvidenceError {
    /// No quote, and they look like nothing else.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// No report.
    #[error(transparent)]
    Report(#[from] SnpReportError),
}

impl PlatformEvidence {
    /// Reads evidence of whichever kind. Nothing of it is verified.
    ///
    /// # Errors
    /// [`PlatformEvidenceError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PlatformEvidenceError> {
        Ok(match EvidenceKind::of(bytes) {
            EvidenceKind::SnpReport => Self::Report(SnpReport::parse(bytes)?),
            _ => Self::Quote(Quote::parse(bytes)?),
        })
    }

    /// What it claims to be.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        match self {
            Self::Quote(quote) => quote.claims(),
            Self::Report(report) => report.claims(),
        }
    }

    /// The evidence without what may follow it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Quote(quote) => quote.as_bytes(),
            Self::Report(report) => report.as_bytes(),
        }
    }
}
