//! Evidence as anybody may send it: the seeds of fuzzing, and negative tests named after published findings on other systems.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

extern crate cocoon_attest as attest;

mod check;
mod findings;
mod seeds;
