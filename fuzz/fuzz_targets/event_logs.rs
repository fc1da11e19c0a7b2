//! Event logs of measured boots: each event of one that is read counts.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target has its own check")]
#[path = "../../crates/attest/tests/evidence/check.rs"]
mod check;

fuzz_target!(|input: &[u8]| check::event_log(input));
