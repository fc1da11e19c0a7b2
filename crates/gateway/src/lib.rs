//! The OpenAI-compatible surface of the network: what an application sends, what it gets back, what it used.
//!
//! Everything here works on bytes as they travel: a request is scanned once and changed only where it must
//! be ([`RequestBody`], [`worker_request`]), an answer is metered as it passes ([`UsageMeter`]), and every
//! failure has one row in one table ([`ERRORS`]). [`server`] puts an [`server::Inference`] behind HTTP.
//!
//! It refuses to know how an answer is found: no connection of the network, no price, no ledger. It builds
//! no tree of a request or an answer, and no log, error or metric of it holds their text.
//!
//! Invariants:
//! - Bytes that need no change are not changed: key order, white space and number formats survive.
//! - However an answer is cut into pieces, it is metered the same; memory does not grow with the answer.
//! - Every request ends: with a status and an OpenAI error object, or, once a stream has begun, with an
//!   error event and a connection closed in a way that no reader takes for a complete answer.
#![forbid(unsafe_code)]

mod closing;
mod error;
pub mod headers;
mod json;
mod request;
pub mod server;
pub mod sse;
mod usage;
mod worker_request;

pub use closing::Closing;
pub use error::{ApiError, Blame, ERRORS, ErrorKind, ErrorRow, errors_markdown};
pub use request::{RequestBody, RequestDefaults, Route, TIMEOUT_MAX};
pub use usage::{MeteredUsage, UsageCost, UsageMeter};
pub use worker_request::{WorkerRequest, worker_request};
