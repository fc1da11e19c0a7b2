//! Evidence of NVIDIA GPUs in confidential mode, in two forms that one policy judges:
//!
//! - [`GpuToken`]: what NVIDIA's attestation service (NRAS) signed after it looked at a GPU's report itself: signed claims of version
//!   3.0, detached for each GPU (RFC 9711), under keys that the service publishes (RFC 7517).
//! - [`GpuReport`]: what the GPU signed, an SPDM 1.1 exchange (DMTF DSP0274) with its certificates up to NVIDIA's root.
//!   It needs no network, and golden measurements that the policy has.
//!
//! What says that a GPU is fresh is its nonce. What says whose GPU it is has to be in that nonce: evidence of a GPU names no
//! guest, so whoever asks has to make the nonce out of what he knows of the peer, such as the key of its certificate.
//!
//! Not here: signatures of NVIDIA's reference manifests (RIM, in XML), whose values a policy has as data; and whether a GPU's
//! certificates were revoked, which only the service knows to ask. A token says it, a report does not.

mod certificates;
mod chain;
mod evidence;
mod json;
mod jwt;
mod keys;
mod policy;
mod refusal;
mod report;
mod token;
mod verifier;
mod version;

pub use certificates::{GpuCertificates, GpuCertificatesError};
pub use evidence::{GpuEvidence, GpuEvidenceError};
pub use keys::{GpuKeys, GpuKeysError};
pub use policy::{GoldenMeasurements, GpuForm, GpuPolicy, GpuVersions, MeasurementIndex};
pub use refusal::GpuRefusal;
pub use report::{GpuReport, GpuReportError};
pub use token::{GpuToken, GpuTokenError};
pub use verifier::{Gpu, GpuAppraised, GpuRoot, GpuVerified, GpuVerifier};
pub use version::{GpuVersion, GpuVersionError};

/// What evidence of a GPU was asked for with, against evidence that is kept and shown again.
pub type GpuNonce = crate::measurements::Hex<32>;

/// Most GPUs in one piece of evidence; machines have eight.
pub(crate) const GPUS_MAX: usize = 16;

#[cfg(test)]
mod tests;
