//! The proxy's role: it admits clients and workers, routes requests, meters them and keeps the accounts.
//!
//! [`core`] decides everything and does nothing: it is fed with events and yields actions. The rest of the crate is a
//! shell around it: listeners, links, timers, statistics, the operator's HTTP interface.
//!
//! It refuses to read prompts and answers, to run models, and to follow a chain: it works on a root configuration
//! that it is given.
#![forbid(unsafe_code)]

pub mod core;
