//! The client role: finds proxies, checks and pays them, and brings an application's requests to their workers.
//!
//! A library first. [`Client`] connects, lists models, runs requests, streams and tells what they cost:
//!
//! ```no_run
//! # async fn example(config: cocoon_client::Config) -> Result<(), Box<dyn std::error::Error>> {
//! use cocoon_client::{ChatRequest, Client};
//!
//! let client = Client::connect(config).await?;
//! let answer = client.chat(&ChatRequest::new("demo").user("What is a proxy?")).await?;
//! println!("{}", answer.text);
//! if let Some(cost) = answer.cost {
//!     println!("{} adjusted tokens, {}", cost.tokens, cost.price);
//! }
//! # Ok(()) }
//! ```
//!
//! [`start`] puts the OpenAI-compatible HTTP API around it.
//!
//! It refuses proxies that do not follow from its own root configuration: both contracts are computed here and
//! compared strictly. It sends nothing about the application but the request's body.
//!
//! Invariants:
//! - Every request ends: by its answer, by an error of a peer, with its connection, or by its own timer.
//! - Totals of an account only grow, and a charge counts only after it verified.
//! - A slow application slows its own answer, never the connection or others; what waits for it is bounded. Before
//!   version 3 of the protocol an answer that is read too slowly fails.
#![forbid(unsafe_code)]

mod affinity;
mod answer;
mod chat;
mod client;
mod config;
mod debug;
mod link;
mod program;
mod secret;
mod session;
pub mod settlement;
mod shared;
mod stats;
#[cfg(test)]
mod testing;

pub use answer::{Answer, Cost};
pub use chat::{ChatAnswer, ChatMessage, ChatRequest, ChatStream};
pub use client::{Client, ConnectError};
pub use config::{Config, StartError};
pub use gateway::server::{Model, ModelWorker};
pub use gateway::{ApiError, ErrorKind, RequestBody, Route};
pub use program::{Running, start};
pub use secret::LoginSecret;
