//! Certificates for a recorded report of SEV-SNP at any time: those that lead to AMD's root say the same of it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target has its own check")]
#[path = "../../crates/attest/tests/evidence/check.rs"]
mod check;

fuzz_target!(|input: &[u8]| check::snp_certificates(input));
