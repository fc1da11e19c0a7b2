//! Tokens, reports and keys as text at any time: a genuine token says what the recorded one says.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target has its own check")]
#[path = "../../crates/attest/tests/evidence/check.rs"]
mod check;

fuzz_target!(|input: &[u8]| check::gpu_evidence(input));
