//! Evidence of enclaves at work: collateral that is fetched and kept, quotes appraised by a bounded pool, verdicts remembered.
//!
//! - [`Appraiser`]: whether a peer's quote is accepted, for all links of a process.
//! - [`CollateralStore`]: what Intel publishes, from a folder or a caching service ([`Pccs`]).
//! - [`SnpStore`]: what AMD certifies of processors, from a folder or AMD's key service ([`Kds`]).
//! - [`Enclave`]: whatever makes quotes for our own certificates: the kernel ([`GuestKernel`], by [`Tsm`] or [`TdxGuest`]), or a [`Simulated`] platform.
//! - [`Sealer`]: keys that belong to this guest's image, from an enclave on its host.
//! - [`machine`]: what a machine has of what evidence takes.
//!
//! Invariants:
//! - What decides is [`attest`]; nothing here accepts anything.
//! - Collateral is signed and so may come from anywhere; what is fetched is bounded in size, number and time. Nothing is held that
//!   is not the vendor's and valid, and nobody is asked for a while after AMD's service had enough.
//! - Verification runs on threads of its own, so many at a time, and vendors are asked for so many strangers at a time, who have no
//!   thread meanwhile; a quote for which there is no place in line is refused: a flood of quotes delays strangers, not peers that were
//!   verified before.
//! - A verdict holds for half a day at most, and not longer than the first thing that it rests on; it is judged by the policy for
//!   every link.
//! - The time is an argument, and may have been wrong: nothing rests, and nothing is new, because of a time that is ahead.
//! - One module may do what the compiler cannot check: the call of `/dev/tdx_guest`. Elsewhere it is denied.
#![deny(unsafe_code)]

mod appraiser;
mod collateral;
mod enclave;
mod folder;
mod guest_kernel;
mod kds;
pub mod machine;
mod pccs;
mod renewed;
mod sealer;
mod service;
mod simulated;
mod snp;
mod tdx_guest;
mod tsm;
mod vsock;

pub use appraiser::{AppraiseError, Appraiser, Standing};
pub use collateral::{CollateralStore, StoreError};
pub use enclave::{Enclave, ProduceError};
pub use guest_kernel::{GuestKernel, GuestKernelError};
pub use kds::Kds;
pub use pccs::Pccs;
pub use sealer::{LocalReports, Sealer, SealerAddress, SealerAddressError, SealerError, serve_simulated};
pub use service::ServiceError;
pub use simulated::Simulated;
pub use snp::{SnpFault, SnpStore, SnpStoreError, SnpSubject};
pub use tdx_guest::{TDX_GUEST_DEVICE, TdxGuest, TdxGuestError};
pub use tsm::{Provider, TSM_FOLDER, Tsm, TsmError, TsmReport};
