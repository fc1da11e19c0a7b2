//! Role: serve models to the network, and collect what they earn.
//!
//! A worker connects to proxies of the root configuration, one link for each model and proxy ([`session`]), takes
//! requests from them, has an engine answer ([`backend`]), passes the answer on piece by piece while counting it, and
//! says at its end what it cost. [`start`] makes a program of it, with a local port for health, statistics and the
//! operator's switches.
//!
//! It refuses to trust a proxy: contracts are computed, signatures checked, totals compared; what does not hold ends
//! one link. It refuses requests at prices that it never asked for. It does not judge prompts, keeps none of them,
//! and never runs one twice. Without a chain in its configuration the root configuration is a file, and nothing is cashed
//! in; with one, [`settlement`] lands what proxies signed when that is worth its fees.
//!
//! Invariants:
//! - Every request ends in exactly one final answer, with what it cost, as long as its link lives.
//! - A piece of an answer leaves when it arrives; nothing waits for the end. A slow proxy slows its engine.
//! - When a proxy gives a request up, a link is lost or a deadline passes, the engine's connection is closed, so that it
//!   stops working.
//! - Refusals of an engine pass unchanged and cost nothing; nothing is charged before the head of an answer.
//! - Payments and totals of a proxy only rise, except that earnings which a proxy never stored can be written off.
//! - No prompt, answer or text of a peer is in any log or metric.
//!
//! Follows the wire protocol of the deployed network, versions 0 to 2, and our own version 3 (`docs/protocol.md`).
#![forbid(unsafe_code)]

mod answer;
pub mod backend;
mod bill;
mod config;
mod face;
mod link;
mod model;
mod network;
mod program;
mod request;
pub mod session;
pub mod settlement;
mod stats;
mod stream;
mod targets;

pub use config::{Config, ConfigError, ModelConfig};
pub use network::NetworkError;
pub use program::{StartError, Worker, start};
