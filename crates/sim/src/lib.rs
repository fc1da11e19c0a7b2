//! The simulated platform: quotes of the real binary format, from machines that have no TDX.
//!
//! - [`Vendor`] plays the part of the hardware's vendor: a root, the authority of its platforms, and what is published about them.
//! - [`Platform`] is one machine: what it signs with, and what certifies that. A role gets this and nothing of the vendor's.
//! - [`Guest`] and [`Enclave`] are what runs there, by their measurements.
//! - [`Sealer`] is such an enclave that gives guests their keys ([`attest::sealed_key`]).
//!
//! A quote made here takes the same way through [`attest::Verifier`] as one of a real machine: header, body, ECDSA signatures, quoting
//! enclave, certificates with Intel's extensions, lists of revocations, TCB info and identity. What differs is the root, so
//! it is worth as much as the verifier's [`attest::Root`] says: nothing where that is Intel's, whatever else is configured.
//!
//! Invariants:
//! - Whoever holds a vendor's seed can vouch for anything under its root. Only a development network trusts such a root.
//! - All keys follow from the seed, so that the processes of one network have one root. Signatures differ each time they are made.
//! - No file, no clock: dates are arguments.
#![forbid(unsafe_code)]

mod collateral;
mod der;
mod enclave;
mod guest;
mod key;
mod platform;
mod quote;
mod sealer;
mod vendor;

pub use collateral::Publication;
pub use enclave::Enclave;
pub use guest::{Guest, QuoteForm};
pub use platform::{Firmware, Platform};
pub use sealer::{Sealer, SealerRefusal};
pub use vendor::Vendor;

/// Why something could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The cryptographic library refused to sign, or to take a key.
    #[error("the cryptographic library failed to {0}")]
    Cryptography(&'static str),
    /// A certificate or list of revocations that cannot be made.
    #[error("a simulated certificate or list of revocations cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// A date that certificates cannot hold.
    #[error("{seconds} s since 1970 is no date that certificates can hold")]
    Date {
        /// The time asked for.
        seconds: u64,
    },
    /// A text that is longer than any platform.
    #[error("the file has {found} bytes, at most {} are read", Platform::LEN_MAX)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// A text that is no platform.
    #[error("this is no simulated platform: make the file anew from the network's seed")]
    Platform(#[from] serde_json::Error),
}
