//! Worker selection: facts in, decisions out.
//!
//! [`Market`] knows which worker serves which model, at which price, how busy, how quick and how reliable it is.
//! [`Market::pick`] chooses, among the workers of a model that are enabled, have room for another request and are not
//! dearer than the client's ceiling, the one that would answer soonest. It finds that one in a search tree: the cost is
//! the logarithm of the number of workers, never a scan. [`WaitingRoom`] lets clients take turns when there is no room.
//!
//! Invariants: a picked worker is eligible; a worker that has just failed is picked only if nobody else is there, and
//! leaving and coming back does not make it innocent; worker numbers do not enter the cost of a pick or an update
//! except through their logarithm; clients that wait take turns, whoever brings how many requests.
//!
//! The crate is pure: instants and a seed are passed in and decay is computed in integers, so that one seed gives one
//! history on every machine. It refuses to know sessions, addresses and money.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

mod decay;
mod facts;
mod listing;
mod market;
mod random;
mod record;
mod scored;
mod waiting;
mod worker;

pub use facts::{Affinity, AlreadyListed, Demand, NoWorker, Offer, Owner, WorkerId, WorkerState};
pub use listing::{ModelListing, WorkerListing};
pub use market::Market;
pub use record::Ending;
pub use waiting::{RoomFull, WaitingRoom};
