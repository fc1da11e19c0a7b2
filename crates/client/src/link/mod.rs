//! Connections to proxies and the requests on them.

mod connection;
mod mailbox;
mod pool;
mod requests;
mod slot;

pub(crate) use connection::{Connection, Ended, serve};
pub(crate) use pool::Pool;
pub(crate) use requests::{Answering, Requests};
pub(crate) use slot::{Slots, keep_connected};
