//! However a payment is bent, it is worth what was signed, or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ton::Address;
use ton::payment::{PaymentKind, verify};
use units::PublicKey;

/// The parties and query ids of the seeds, as in `spec/vectors/ton/payments.json`. Both are for 0 tokens.
const KEY: &str = "559087582b7e5ea2b2b986c258e0067b806a59b154e955decf00429610eab095";
const PAYMENTS: [(PaymentKind, &str, u64); 2] = [
    (PaymentKind::ClientCharge, "UQCACjNFLY4ArI-ZdQsAazEAW41KvHyVIAWsFh9pbqcA1f12", 0xbc6d_5f0a_ef37_78b6),
    (PaymentKind::WorkerPayout, "UQDLYGhRHNqXquKXJazsjMBUUhXtmZ_Nom43-_sztpg80bUO", 0xda4c_0a9a_f622_5961),
];

fuzz_target!(|boc: &[u8]| {
    let key: PublicKey = KEY.parse().expect("a key");
    for (kind, contract, query_id) in PAYMENTS {
        let (contract, _flags) = Address::parse(contract).expect("an address");
        if let Ok(payment) = verify(boc, kind, &contract, &key) {
            assert_eq!((payment.query_id(), payment.tokens().get()), (query_id, 0));
        }
    }
});
