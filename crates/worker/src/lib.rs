//! Role: serve models to the network, and collect what they earn.
#![forbid(unsafe_code)]

pub mod backend;
pub mod session;
