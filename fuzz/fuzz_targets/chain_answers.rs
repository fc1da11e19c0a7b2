//! Answers of a server of HTTP API v2 that says what it likes: each ends in a value or in a short error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| chain::read_in_every_way(body));
