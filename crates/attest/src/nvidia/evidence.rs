//! Evidence of the GPUs of a machine, in either form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{
    GPUS_MAX, GpuCertificates, GpuCertificatesError, GpuNonce, GpuReport, GpuReportError, GpuToken,
    GpuTokenError, json,
};

/// Evidence of the GPUs of a machine. All of it are claims until it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuEvidence {
    /// What NVIDIA's attestation service says of them.
    Token(Box<GpuToken>),
    /// What each of them signed, with its certificates.
    Reports(Vec<(GpuReport, GpuCertificates)>),
}

/// Bytes that are no evidence of GPUs.
#[derive(Debug, thiserror::Error)]
pub enum GpuEvidenceError {
    /// Longer than any.
    #[error("the evidence of GPUs has {found} bytes, at most {} are read", GpuEvidence::LEN_MAX)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Neither a token nor reports.
    #[error(
        "this is neither a token of NVIDIA's attestation service nor what `nvattest collect-evidence` prints: \
         objects with `evidence` and `certificate` in base64{reason}"
    )]
    Form {
        /// What is wrong with the JSON, if it is none.
        reason: String,
    },
    /// More GPUs than a machine has, or none.
    #[error("the evidence is of {found} GPUs, and must be of 1 to {GPUS_MAX}")]
    Count {
        /// Their number.
        found: usize,
    },
    /// A token that cannot be read.
    #[error(transparent)]
    Token(#[from] GpuTokenError),
    /// A report that cannot be read.
    #[error("GPU {at} (counted from 0)")]
    Report {
        /// Which one.
        at: usize,
        /// What is wrong with it.
        source: GpuReportError,
    },
    /// Certificates that cannot be read.
    #[error("GPU {at} (counted from 0)")]
    Certificates {
        /// Whose.
        at: usize,
        /// What is wrong with them.
        source: GpuCertificatesError,
    },
}

impl GpuEvidence {
    /// Longest accepted text in bytes.
    pub const LEN_MAX: usize = 1 << 18;

    /// Reads a token as NVIDIA's attestation service answers with it, or reports as NVIDIA's tool `nvattest` collects them: an
    /// array of objects, or the object whose member `evidences` that array is. What stands beside a report there
    /// (`arch`, `nonce`) is not signed, and not read.
    ///
    /// # Errors
    /// [`GpuEvidenceError`].
    pub fn parse(text: &[u8]) -> Result<Self, GpuEvidenceError> {
        if text.len() > Self::LEN_MAX {
            return Err(GpuEvidenceError::TooLong { found: text.len() });
        }
        let form = |reason: String| GpuEvidenceError::Form { reason };
        if text.trim_ascii().starts_with(b"ey") {
            return Ok(Self::Token(Box::new(GpuToken::parse(text)?)));
        }
        let value = json::parse(text).map_err(|reason| form(format!(" ({reason})")))?;
        let list = value.get("evidences").unwrap_or(&value);
        let gpus = list.as_array().ok_or_else(|| form(String::new()))?;
        if gpus.first().is_some_and(Value::is_array) {
            return Ok(Self::Token(Box::new(GpuToken::parse(text)?)));
        }
        if gpus.is_empty() || gpus.len() > GPUS_MAX {
            return Err(GpuEvidenceError::Count { found: gpus.len() });
        }
        let decode = |gpu: &Value, member: &str| {
            let text = gpu.get(member).and_then(Value::as_str);
            text.and_then(|text| STANDARD.decode(text).ok()).ok_or_else(|| form(String::new()))
        };
        let gpu = |(at, gpu): (usize, &Value)| {
            let report = GpuReport::parse(&decode(gpu, "evidence")?);
            let certificates = GpuCertificates::from_pem(&decode(gpu, "certificate")?);
            Ok((
                report.map_err(|source| GpuEvidenceError::Report { at, source })?,
                certificates.map_err(|source| GpuEvidenceError::Certificates { at, source })?,
            ))
        };
        Ok(Self::Reports(gpus.iter().enumerate().map(gpu).collect::<Result<_, GpuEvidenceError>>()?))
    }

    /// What it was asked for with, by its own word: for people who look at it, and to no verifier's use.
    #[must_use]
    pub fn nonce(&self) -> Option<GpuNonce> {
        match self {
            Self::Token(token) => token.nonce(),
            Self::Reports(reports) => reports.first().map(|(report, _certificates)| report.nonce()),
        }
    }
}
