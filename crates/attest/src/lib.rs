//! Evidence of where a peer runs, and its appraisal: a function of evidence, collateral, policy and time.
//!
//! - [`Quote`]: what an Intel TDX guest or SGX enclave says of itself, signed by its platform.
//! - [`Measurements`]: what of it identifies the software, and the [`units::ImageHash`] that the root contract lists.
//! - [`Verifier`]: whether the platform said it, by the vendor's certificates and collateral.
//! - [`Policy`]: what is accepted. It is data, and what it does not name is refused.
//! - [`event_log`]: what the registers of a measured boot are made of.
//!
//! Invariants:
//! - No clock, no socket, no file: the time is an argument, and so is everything that was fetched.
//! - [`Appraised`] exists only for evidence that was verified and that a policy accepts.
//! - Measurements in a [`Quote`] are claims. Nothing but [`Verifier::appraise`] makes more of them.
#![forbid(unsafe_code)]

mod appraise;
mod crypto;
pub mod event_log;
mod measurements;
mod policy;
mod quote;

pub use appraise::{Appraised, Collateral, CollateralError, Platform, Refusal, Root, Verifier};
pub use measurements::{Hex, HexParseError, Measurements, PlatformId, Register, TdxMeasurements};
pub use policy::{Allowed, Any, Policy, TcbStatus};
pub use quote::{Quote, QuoteError, Tee};
