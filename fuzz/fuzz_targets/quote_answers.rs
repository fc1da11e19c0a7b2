//! Answers of the quote generation service: a quote is its end, and only with the length that the message says.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target has its own check")]
#[path = "../../crates/attest/tests/evidence/check.rs"]
mod check;

fuzz_target!(|input: &[u8]| check::quote_answer(input));
