//! An engine and a proxy that do what a test tells them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod engine;
pub mod proxy;
pub mod setup;
