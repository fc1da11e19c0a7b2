//! Whatever a peer says in the records of a session, its application bytes come out as they went in until something is refused,
//! and no record comes from elsewhere.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<(u8, Vec<u8>)>, &[u8])| {
    let (said, raw) = input;
    transport::read_records(&said, raw);
});
