//! Worker selection: facts in, decisions out.
//!
//! [`Market`] knows which worker serves which model, at which price, how busy and how quick it is. [`Market::pick`]
//! chooses among the *eligible* workers of a model (enabled, with room for another request, not dearer than the
//! client's ceiling): two are drawn at random and the one with less work ahead of it wins. That spreads load
//! almost as well as asking everybody, and it costs the logarithm of the number of workers, never a scan.
//!
//! Invariants: a picked worker is eligible; the number of eligible workers is right after every update;
//! worker numbers do not enter the cost of a pick or an update except through their logarithm.
//!
//! The crate is pure: instants and randomness are passed in and decay is computed in integers, so that one seed
//! gives one history on every machine. It refuses to know sessions, addresses and money.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

mod decay;
mod listing;
mod market;
mod ranked;

pub use listing::{ModelListing, WorkerListing};
pub use market::{AlreadyListed, Market, NoWorker, Offer, WorkerId, WorkerState};
