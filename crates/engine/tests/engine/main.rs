//! The engine through its public surface, with tiny models of random weights and with the demo model.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod damaged;
mod demo;
mod formats;
mod generation;
mod support;
mod surface;
