//! Requests as anybody may send them.

extern crate cocoon_devnet as devnet;

mod check;

#[test]
fn every_kept_request_has_an_answer() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/devnet_api");
    let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(seeds.len() > 25, "{} seeds", seeds.len());
    for seed in seeds {
        check::check(&std::fs::read(seed).unwrap());
    }
}
