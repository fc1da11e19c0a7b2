//! Another code for a root contract, as its owner sends it.

use std::path::Path;

use serde_json::{Value, json};
use ton::{Address, Contract, ContractCode, RootConfig, StructVersion};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder};
use units::ConfigVersion;

use super::money::{Devnet, after, new_wallet};
use super::support::json_in;

fn file(folder: &Path, name: &str, cell: &Cell) -> String {
    let path = folder.join(name);
    std::fs::write(&path, Boc::encode(cell)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A code that does the same and is another: an instruction that does nothing (`NOP`) before its first one.
fn slower(code: &Cell) -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_u8(0).unwrap();
    builder.store_slice(code.as_slice().unwrap()).unwrap();
    builder.build().unwrap()
}

#[test]
fn a_root_contract_is_given_another_code_by_its_owner_alone() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), Devnet::start());
    let (owner, address) = new_wallet(folder.path(), "owner", "v5r1");
    let (other, other_address) = new_wallet(folder.path(), "other", "v4r2");
    for address in [&address, &other_address] {
        chain.give(address, 10_000_000_000);
    }
    let prices = ["--price-per-million", "0.02 TON", "--worker-fee-per-million", "0.015 TON"];
    let printed = chain.run(&[&["root", "init", "--wallet", &owner], &prices[..]].concat()).unwrap();
    let root = after(&printed, "root").to_owned();
    let upgrade =
        |arguments: &[&str]| chain.run(&[&["root", "--root", &root, "upgrade"], arguments].concat());
    let code = || {
        let shown = chain.run(&["chain", "show", &root]).unwrap();
        let line = shown.lines().find(|line| line.starts_with("contract")).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    let at = |field: &str| -> Value {
        let shown = json_in(&chain.run(&["root", "--root", &root, "show", "--json"]).unwrap());
        shown.get(field).unwrap().clone()
    };

    let built = ContractCode::built(Contract::Root).cell();
    let (before, newer) = (file(folder.path(), "built", &built), slower(&built));
    let (newer_file, hash) = (file(folder.path(), "newer", &newer), newer.repr_hash().to_string());
    let same = upgrade(&[&before, "--wallet", &owner]).unwrap_err();
    assert!(same.contains(&format!("has the code {} already", built.repr_hash())), "{same}");
    let dry = upgrade(&[&newer_file, "--wallet", &owner, "--dry-run"]).unwrap();
    assert!(dry.contains(&format!("give the root contract the code {hash}")), "{dry}");
    assert!(dry.contains("nothing was signed") && dry.contains("fees "), "{dry}");
    let message = upgrade(&[&newer_file, "--print"]).unwrap();
    assert!(message.contains(&hash) && message.contains("ton://transfer/"), "{message}");
    let stolen = upgrade(&[&newer_file, "--wallet", &other]).unwrap_err();
    assert!(stolen.contains("name the owner's"), "{stolen}");
    assert_eq!(code(), built.repr_hash().to_string());

    upgrade(&[&newer_file, "--wallet", &owner]).unwrap();
    assert_eq!((code(), at("version")), (hash, json!(0)));
    let again = upgrade(&[&newer_file, "--wallet", &owner]).unwrap_err();
    assert!(again.contains("already"), "{again}");

    // Code and data at once: another owner, and a version that roles follow.
    let data = |version: u32| {
        let mut config = RootConfig::pseudo(Address::parse(&other_address).unwrap().0);
        config.params.struct_version = StructVersion::V3;
        config.version = ConfigVersion::new(version);
        file(folder.path(), "data", &config.to_data())
    };
    let full = |version: u32, more: &[&str]| {
        let data = data(version);
        upgrade(&[&[before.as_str(), "--data", &data, "--wallet", &owner], more].concat())
    };
    let stale = full(0, &[]).unwrap_err();
    assert!(stale.contains("say version 0, and the root contract is at 0"), "{stale}");
    let dry = full(1, &["--dry-run"]).unwrap();
    assert!(dry.contains("which say version 1 and owner 0:"), "{dry}");
    assert_eq!(at("version"), json!(0));
    full(1, &[]).unwrap();
    assert_eq!((code(), at("version")), (built.repr_hash().to_string(), json!(1)));
    assert!(full(2, &[]).unwrap_err().contains("name the owner's"), "it has another owner");
    let again = upgrade(&[&before, "--data", &data(1), "--wallet", &other]).unwrap_err();
    assert!(again.contains("this code and this data already"), "{again}");
}

#[test]
fn files_without_a_code_for_a_root_contract_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Devnet::start();
    let root = Address::new(0, [1; 32]).to_string();
    let refused = |code: &str, more: &[&str]| {
        chain.run(&[&["root", "--root", &root, "--print", "upgrade", code], more].concat()).unwrap_err()
    };
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert!(refused(&path("none"), &[]).contains("cannot read"));
    std::fs::write(path("nonsense"), "code").unwrap();
    assert!(refused(&path("nonsense"), &[]).contains("holds no code"));
    std::fs::write(path("long"), vec![0; 100_000]).unwrap();
    assert!(refused(&path("long"), &[]).contains("has 100000 bytes, at most 65536"));
    let empty = file(folder.path(), "empty", &Cell::default());
    assert!(refused(&empty, &[]).contains("holds an empty cell"));
    let client = file(folder.path(), "client", &ContractCode::built(Contract::Client).cell());
    assert!(refused(&client, &[]).contains("holds the code of another contract (client)"));
    let code = file(folder.path(), "code", &ContractCode::built(Contract::Root).cell());
    assert!(refused(&code, &["--data", &code]).contains("is no root contract's data"));
    // Good files, and no root contract there.
    let data = file(folder.path(), "data", &RootConfig::pseudo(Address::new(0, [1; 32])).to_data());
    assert!(refused(&code, &["--data", &data]).contains("has no contract"));
}
