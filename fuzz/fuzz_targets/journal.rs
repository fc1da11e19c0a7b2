//! Files of the books: whatever the bytes, reading them ends in books that add up or in an error.
#![no_main]

use ed25519_dalek::SigningKey;
use ledger::journal::{Books, Chain, Identity};
use ledger::{Ledger, Multipliers, PriceTable};
use libfuzzer_sys::fuzz_target;
use ton::Address;
use units::NanoTon;

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let Ok(prices) = PriceTable::new(NanoTon::new(2), NanoTon::new(1), Multipliers::default()) else { return };
    let identity = Identity { contract: Address::new(0, [200; 32]), prices };
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key();
    let mut books = Books::new(identity);
    match choice % 3 {
        // As they come: a file that somebody put there.
        0 => {
            let _refused = books.replay(bytes, &public);
            let _refused = Books::from_snapshot(bytes, identity, &public);
            return;
        }
        // Signed, so that the records behind the signature are reached.
        1 => {
            let (mut file, mut chain) = Chain::begin(&identity, books.position(), &key);
            for records in bytes.split(|byte| *byte == 0xff).filter(|records| !records.is_empty()) {
                chain.seal(records, &key, &mut file);
            }
            if books.replay(&file, &public).is_err() {
                return;
            }
        }
        // A good segment, cut and changed.
        _ => {
            let (mut file, mut chain) = Chain::begin(&identity, books.position(), &key);
            let good = file.len();
            chain.seal(&[3; 34], &key, &mut file);
            file.truncate(good);
            file.extend(bytes);
            if books.replay(&file, &public).is_err() {
                return;
            }
        }
    }
    // What was read with good signatures can be kept and read again.
    let snapshot = books.to_snapshot(&key);
    match (Ledger::from_books(&books), Books::from_snapshot(&snapshot, identity, &public)) {
        (Ok(ledger), Ok(again)) => {
            assert_eq!(again, books);
            assert_eq!(ledger.audit(), Ok(()));
            assert_eq!(ledger.totals().tokens, books.tokens());
        }
        (Err(_), _) => {}
        (Ok(_), Err(error)) => panic!("a ledger accepts what no snapshot can hold: {error}"),
    }
});
