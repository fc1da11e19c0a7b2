//! Evidence of where a peer runs, and its appraisal: a function of evidence, collateral, policy and time.
//!
//! - [`Quote`]: what an Intel TDX guest or SGX enclave says of itself, signed by its platform.
//! - [`Measurements`]: what of it identifies the software, and the [`units::ImageHash`] that the root contract lists.
//! - [`Verifier`]: whether the platform said it, by the vendor's certificates and collateral.
//! - [`SnpReport`], [`SnpVerifier`]: the same for guests under AMD SEV-SNP.
//! - [`GpuToken`], [`GpuReport`], [`GpuVerifier`]: evidence of NVIDIA GPUs, which is of a GPU and of no guest.
//! - [`Certificate`]: what carries them on links. [`EvidenceKind`]: which of all these a file holds.
//! - [`Policy`]: what is accepted. It is data, and what it does not name is refused.
//! - [`sealed_key`]: keys that an enclave beside a guest gives to its image, and to no other. [`TdReport`]: what it is asked with.
//! - [`quote_service`]: what a guest and its host say to each other to have a quote made.
//! - [`event_log`]: what the registers of a measured boot are made of. [`measure`]: what they will hold, from the files of an image.
//!
//! Invariants:
//! - No clock, no socket, no file: the time is an argument, and so is everything that was fetched.
//! - [`Appraised`] exists only for evidence that was verified and that a policy accepts.
//! - Measurements in a [`Quote`] or [`SnpReport`] are claims. Nothing but a verifier makes more of them.
#![forbid(unsafe_code)]

mod appraise;
mod certificate;
mod collateral;
mod crypto;
pub mod event_log;
mod kind;
pub mod measure;
mod measurements;
mod nvidia;
mod platform_evidence;
mod policy;
mod quote;
pub mod quote_service;
mod refusal;
pub mod sealed_key;
mod signatures;
mod snp;
mod td_report;
mod verifier;
mod x509;

pub use appraise::{Appraised, Attestation, Firmware, Platform, Verified};
pub use certificate::{Certificate, CertificateError};
pub use collateral::{Collateral, CollateralError, CollateralKind};
pub use kind::EvidenceKind;
pub use measurements::{
    Hex, HexParseError, Measurements, PlatformId, Register, SnpMeasurements, TdxMeasurements,
    report_data_of_key,
};
pub use nvidia::{
    GoldenMeasurements, Gpu, GpuAppraised, GpuCertificates, GpuCertificatesError, GpuEvidence,
    GpuEvidenceError, GpuForm, GpuKeys, GpuKeysError, GpuNonce, GpuPolicy, GpuRefusal, GpuReport,
    GpuReportError, GpuRoot, GpuToken, GpuTokenError, GpuVerified, GpuVerifier, GpuVersion, GpuVersionError,
    GpuVersions, MeasurementIndex,
};
pub use platform_evidence::{PlatformEvidence, PlatformEvidenceError};
pub use policy::{Allowed, Any, Policy, TcbStatus};
pub use quote::{Claims, Quote, QuoteError, Tee};
pub use refusal::Refusal;
pub use snp::{
    ChipId, GuestPolicy, PlatformInfoBit, SnpAuthority, SnpCertificate, SnpCertificates,
    SnpCertificatesError, SnpPlatform, SnpPolicy, SnpProduct, SnpRefusal, SnpReport, SnpReportError, SnpRoot,
    SnpTcb, SnpTcbs, SnpVerifier, TcbFloors, VcekId, Vmpl, VmplError,
};
pub use td_report::{TdReport, TdReportError};
pub use verifier::{Root, Verifier};
