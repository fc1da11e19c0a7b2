//! The accounting state machine of a proxy: what a request may cost, what it did cost, who owes whom.
//!
//! A request is a *pending transfer* from one client to one worker. [`Ledger::reserve`] holds the worst price
//! of the request, [`Ledger::post`] charges what the worker counted and frees the rest, [`Ledger::void`] frees
//! everything. Prices come from the root contract as a [`PriceTable`]; raw tokens become adjusted tokens in
//! [`adjust`], the only function of the house that computes with floating point, because it must agree with
//! deployed peers bit for bit.
//!
//! Invariants, asserted in release builds too:
//! - a pending transfer ends exactly once: its [`Hold`] is consumed by `post` or `void`;
//! - a charge never exceeds its hold, and what was cut off is reported;
//! - the sum of client charges equals the sum of worker earnings in adjusted tokens, and equals worker
//!   earnings plus proxy fees in nanotons; [`Ledger::audit`] recomputes both from the accounts;
//! - totals never decrease.
//!
//! What has to outlive the process is recorded as it happens: [`Ledger::take_records`] hands out what a commit of the
//! [`journal`] has to hold, [`Ledger::committed`] hears that it is durable, and [`Ledger::settled_client`] and
//! [`Ledger::settled_worker`] say which totals may be signed: never more than what is durable, and, where a chain is
//! followed ([`Ledger::follow_chain`]), never more than what an [`Anchor`] on it protects.
//!
//! The crate is pure: no clock, no file, no socket, no randomness. What the chain says arrives as verified facts
//! ([`ClientFunds`], [`ClientContract`], [`WorkerContract`]); the journal is bytes, and who writes them where is the
//! caller's affair.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

mod account;
mod adjust;
mod anchor;
mod audit;
mod book;
mod facts;
pub mod journal;
mod price;
mod recorder;

pub use account::{ClientFunds, ClientLimits, WorkerTotals};
pub use adjust::{AdjustOverflow, adjust};
pub use anchor::{Anchor, ForeignAnchor};
pub use audit::Imbalance;
pub use book::{Hold, Ledger, Posted, ReassignError, ReserveError, Totals, UnknownHold};
pub use facts::{ClientContract, Followed, Party, WorkerContract};
pub use price::{AdjustError, FeeAbovePrice, Multipliers, PriceTable};
