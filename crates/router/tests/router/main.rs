//! Routers over real sockets: local programs, peers, and what lies between.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod bounds;
mod evidence_of_peers;
mod links;
mod passage;
mod support;
