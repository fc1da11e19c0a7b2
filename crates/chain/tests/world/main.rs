//! The client of the chain against a devnet over real sockets, through a server that misbehaves on demand.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod hostile;
mod reading;
mod root;
mod sending;
