//! Cells of the contracts: what is read as a message or a state means the same when written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/ton/tests/cells/check.rs"]
mod check;

fuzz_target!(|bytes: &[u8]| check::check(bytes));
