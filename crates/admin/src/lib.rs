//! The local HTTP face of a role: health, readiness, metrics, statistics, guarded actions, and the server
//! under all of them.
//!
//! | path | answers |
//! | --- | --- |
//! | `GET /healthz` | 200 as long as the process serves |
//! | `GET /readyz` | 200, or 503 with the list of what is missing |
//! | `GET /metrics` | OpenMetrics text for Prometheus |
//! | `GET /jsonstats` | the role's statistics |
//!
//! It refuses to change anything on a GET: actions are POST and demand the role's [`Token`]. It refuses to
//! show secrets: a role hands out counts and states only.
//!
//! Invariants:
//! - The token is compared in constant time.
//! - [`serve`] ends: after the stop it waits a bounded time for answers in progress.
#![forbid(unsafe_code)]

mod root_config;
mod router;
mod serve;
mod stat_row;
mod token;

pub use root_config::root_contract_config;
pub use router::{AdminConfig, router};
pub use serve::{Answers, DRAIN_MAX, serve};
pub use stat_row::StatRow;
pub use token::{Token, guard};
