//! Policies and collateral for recorded evidence at any time: what they accept is what was recorded.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target has its own check")]
#[path = "../../crates/attest/tests/evidence/check.rs"]
mod check;

fuzz_target!(|input: &[u8]| check::policy(input));
