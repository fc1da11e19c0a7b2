use std::collections::BTreeSet;
use std::error::Error;

use proptest::prelude::*;
use serde_json::json;
use tycho_types::boc::Boc;
use tycho_types::cell::CellBuilder;
use units::Multiplier;

use super::*;

const OWNER: &str = "UQBgPMq7ye2WRcudRHK_-yjHwMXjeN-UCzAuoo06TR6hmrpf";

/// A file with the types, and the superfluous fields, of those that come with the deployed software.
fn sample() -> Value {
    json!({
        "@type": "rootConfig.pseudo",
        "proxy_hash": "ignored",
        "model_names": ["ignored"],
        "proxy_hashes": [STANDARD.encode([1; 32])],
        "worker_hashes": [STANDARD.encode([2; 32]), STANDARD.encode([3; 32])],
        "model_hashes": [STANDARD.encode([4; 32])],
        "model_types": ["demo@c0ffee:00"],
        "registered_proxies": [{"seqno": 1, "address": "[127.0.0.1:11001] [127.0.0.1:11002]"}],
        "last_proxy_seqno": 1,
        "price_per_token": 2,
        "worker_fee_per_token": "1",
        "version": 3,
        "params_version": 1,
        "proxy_sc_code": code(1),
        "worker_sc_code": code(2).to_uppercase(),
        "client_sc_code": "",
        "root_owner_address": OWNER,
    })
}

fn code(number: u8) -> String {
    hex::encode(Boc::encode(CellBuilder::build_from(number).unwrap()))
}

fn read(value: &Value) -> Result<RootConfig, PseudoRootError> {
    RootConfig::from_pseudo_json(&value.to_string())
}

fn with(field: &str, value: Value) -> Value {
    let mut sample = sample();
    sample[field] = value;
    sample
}

#[test]
fn every_field_is_taken_over() {
    let config = read(&sample()).unwrap();
    assert_eq!(config.owner.to_wire_text(false), OWNER);
    assert_eq!(config.version, ConfigVersion::new(3));
    assert_eq!(config.proxy_hashes, BTreeSet::from([ImageHash::new([1; 32])]));
    assert_eq!(config.worker_hashes, BTreeSet::from([ImageHash::new([2; 32]), ImageHash::new([3; 32])]));
    let proxy = RegisteredProxy::from_text(1, "127.0.0.1:11001 127.0.0.1:11002").unwrap();
    assert_eq!(config.registered_proxies, [proxy]);
    assert_eq!(config.last_proxy_seqno, 1);

    let params = &config.params;
    assert_eq!((params.struct_version, params.unique_id, params.is_test), (StructVersion::V1, 13, true));
    assert_eq!(params.params_version, 1);
    assert_eq!((params.price_per_token, params.worker_fee_per_token), (NanoTon::new(2), NanoTon::new(1)));
    assert_eq!(params.multipliers, Multipliers::default());
    assert_eq!((params.proxy_delay_before_close.get(), params.client_delay_before_close.get()), (600, 300));
    assert_eq!((params.min_proxy_stake, params.min_client_stake), (ONE_TON, ONE_TON));
    assert_eq!(hex::encode(params.proxy_code.to_boc()), code(1));
    assert_eq!(hex::encode(params.worker_code.to_boc()), code(2));
    assert!(params.client_code.is_empty());
}

#[test]
fn a_model_type_allows_its_bare_name_only() {
    let config = read(&sample()).unwrap();
    let name = |full: &str| ModelName::new(full).unwrap();
    assert!(config.allows_model(&name("demo")));
    assert!(!config.allows_model(&name("demo@c0ffee:00")));
    assert_eq!(config.model_hashes, BTreeSet::from([ModelHash::new([4; 32]), model_hash(&name("demo"))]));
}

#[test]
fn missing_fields_are_empty_but_the_owner_is_required() {
    let config = read(&json!({"root_owner_address": OWNER})).unwrap();
    assert_eq!(config, RootConfig::pseudo(Address::parse(OWNER).unwrap().0));
    let error = read(&json!({})).unwrap_err();
    assert_eq!(described(error), "field root_owner_address of the root configuration: it is required");
}

#[test]
fn other_texts_are_refused() {
    assert!(matches!(RootConfig::from_pseudo_json("{"), Err(PseudoRootError::Json(_))));
    assert!(matches!(RootConfig::from_pseudo_json("[]"), Err(PseudoRootError::NotAnObject)));
}

fn described(error: PseudoRootError) -> String {
    format!("{error}: {}", error.source().expect("a field's error has a cause"))
}

#[test]
fn refusals_name_the_field() {
    let raw_owner = Address::parse(OWNER).unwrap().0.to_string();
    let deep = format!("b5ee9c72{}", "00".repeat(10));
    for (field, value, expected) in [
        ("root_owner_address", json!("EQ"), "root_owner_address of"),
        ("root_owner_address", json!(raw_owner), "root_owner_address of"),
        ("root_owner_address", json!(1), "root_owner_address of"),
        ("proxy_hashes", json!({}), "proxy_hashes of"),
        ("proxy_hashes", json!([STANDARD.encode([1; 31])]), "proxy_hashes[0] of"),
        ("worker_hashes", json!([STANDARD.encode([1; 32]), "ab".repeat(32)]), "worker_hashes[1] of"),
        ("model_hashes", json!([STANDARD.encode([1; 32]).trim_end_matches('=')]), "model_hashes[0] of"),
        ("model_types", json!(["@x"]), "model_types[0] of"),
        ("registered_proxies", json!([1]), "registered_proxies[0] of"),
        ("registered_proxies", json!([{"seqno": 1}]), "registered_proxies[0].address of"),
        (
            "registered_proxies",
            json!([{"seqno": -1, "address": "1.1.1.1:1"}]),
            "registered_proxies[0].seqno of",
        ),
        ("price_per_token", json!(-1), "price_per_token of"),
        ("price_per_token", json!(2_147_483_648_u32), "price_per_token of"),
        ("price_per_token", json!(1.5), "price_per_token of"),
        ("version", json!("1x"), "version of"),
        ("version", json!("+1"), "version of"),
        ("version", json!(""), "version of"),
        ("version", json!(null), "version of"),
        ("params_version", json!(true), "params_version of"),
        ("proxy_sc_code", json!("xy"), "proxy_sc_code of"),
        ("worker_sc_code", json!(deep), "worker_sc_code of"),
        ("client_sc_code", json!(7), "client_sc_code of"),
    ] {
        let error = described(read(&with(field, value.clone())).unwrap_err());
        assert!(error.starts_with(&format!("field {expected}")), "{field} = {value}: {error}");
    }
}

#[test]
fn a_proxy_is_registered_once() {
    let entry = |seqno: u32| json!({"seqno": seqno, "address": "127.0.0.1:11001"});
    assert!(read(&with("registered_proxies", json!([entry(1), entry(2)]))).is_ok());
    let error = read(&with("registered_proxies", json!([entry(1), entry(1)]))).unwrap_err();
    assert!(described(error).ends_with("proxy 1 is registered twice"));
}

#[test]
fn what_the_file_fixes_cannot_be_written() {
    let config = read(&sample()).unwrap();
    assert!(config.to_pseudo_json().is_ok());
    let refused = |change: fn(&mut RootConfig)| {
        let mut changed = config.clone();
        change(&mut changed);
        changed.to_pseudo_json().unwrap_err()
    };
    let stake = refused(|config| config.params.min_client_stake = NanoTon::ZERO);
    assert_eq!(stake, NotPseudo::Fixed { field: "min_client_stake" });
    let test = refused(|config| config.params.is_test = false);
    assert_eq!(test, NotPseudo::Fixed { field: "is_test" });
    let multipliers = refused(|config| config.params.multipliers.cached = Multiplier::new(1));
    assert_eq!(multipliers, NotPseudo::Fixed { field: "multipliers" });
    let price = refused(|config| config.params.price_per_token = NanoTon::new(1 << 31));
    assert_eq!(price, NotPseudo::TooLarge { field: "price_per_token", found: 1 << 31 });
    let version = refused(|config| config.version = ConfigVersion::new(u32::MAX));
    assert_eq!(version, NotPseudo::TooLarge { field: "version", found: u32::MAX.into() });
}

proptest! {
    #[test]
    fn a_configuration_survives_its_file(
        owner: [u8; 32],
        images in prop::collection::btree_set(any::<[u8; 32]>(), 0..4),
        models in prop::collection::btree_set(any::<[u8; 32]>(), 0..4),
        ports in prop::collection::vec((1_u16.., 1_u16..), 0..4),
        prices in (0..=i32::MAX.cast_unsigned(), 0..=i32::MAX.cast_unsigned()),
        versions in (0..=i32::MAX.cast_unsigned(), 0..=i32::MAX.cast_unsigned()),
    ) {
        let mut config = RootConfig::pseudo(Address::new(0, owner));
        config.version = ConfigVersion::new(versions.0);
        config.proxy_hashes = images.iter().copied().map(ImageHash::new).collect();
        config.worker_hashes = images.into_iter().map(ImageHash::new).collect();
        config.model_hashes = models.into_iter().map(ModelHash::new).collect();
        config.registered_proxies = (1..).zip(ports).map(|(seqno, (workers, clients))| {
            RegisteredProxy::from_text(seqno, &format!("10.0.0.1:{workers} 10.0.0.2:{clients}")).unwrap()
        }).collect();
        config.params.params_version = versions.1;
        config.params.price_per_token = NanoTon::new(prices.0.into());
        config.params.worker_fee_per_token = NanoTon::new(prices.1.into());
        let json = config.to_pseudo_json().unwrap();
        prop_assert_eq!(RootConfig::from_pseudo_json(&json).unwrap(), config);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _result = RootConfig::from_pseudo_json(&text);
    }
}
