//! Firmware images and kernels: measuring one ends, in registers or in an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target has its own check")]
#[path = "../../crates/attest/tests/evidence/check.rs"]
mod check;

fuzz_target!(|input: &[u8]| check::image(input));
