//! Cells as anybody may send them.
#![expect(clippy::unwrap_used, reason = "the seeds are our own")]

extern crate cocoon_ton as ton;

mod check;

use proptest::prelude::*;

fn seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/contract_cells");
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn real_cells_mean_the_same_when_written_again() {
    let seeds = seeds();
    assert!(seeds.len() > 40, "{} seeds", seeds.len());
    for seed in seeds {
        check::check(&seed);
    }
}

proptest! {
    #[test]
    fn bent_cells_mean_the_same_or_nothing(
        seed: prop::sample::Index, place: prop::sample::Index, byte: u8, rest: prop::sample::Index,
    ) {
        let seeds = seeds();
        let mut bytes = seed.get(&seeds).clone();
        *place.get_mut(&mut bytes) = byte;
        check::check(&bytes);
        bytes.truncate(rest.index(bytes.len()));
        check::check(&bytes);
    }
}
