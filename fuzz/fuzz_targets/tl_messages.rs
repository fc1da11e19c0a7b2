//! Whatever a type accepts must encode to no more bytes, which mean the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "who belongs to a set matters to other tests")]
#[path = "../../crates/wire/tests/wire/constructors.rs"]
mod constructors;

use constructors::{CONSTRUCTORS, SETS};

fuzz_target!(|bytes: &[u8]| {
    for entry in CONSTRUCTORS.iter().chain(SETS) {
        if let Ok(written) = (entry.reencode)(bytes) {
            assert!(written.len() <= bytes.len(), "{}", entry.name);
            assert_eq!((entry.reencode)(&written).as_ref(), Ok(&written), "{}", entry.name);
            assert!((entry.show)(bytes).is_ok(), "{}", entry.name);
        }
    }
});
