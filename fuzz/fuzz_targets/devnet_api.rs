//! Requests to a devnet with the contracts on it: whatever they ask, each has an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/devnet/tests/api/check.rs"]
mod check;

fuzz_target!(|request: &[u8]| check::check(request));
