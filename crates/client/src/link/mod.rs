//! Connections to proxies and the requests on them.

mod connection;
mod mailbox;
mod pool;
mod requests;
mod slot;

#[cfg(test)]
pub(crate) use connection::Ended;
pub(crate) use connection::{Connection, serve};
pub(crate) use pool::Pool;
pub(crate) use requests::{Answering, Requests};
pub(crate) use slot::{Slots, keep_connected};
