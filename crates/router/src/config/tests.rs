use super::*;
use crate::file::{FilePolicy, OneOrMany, PortKind, TdxConfig};

fn options(ports: &[PortOption]) -> Options {
    Options { ports: ports.to_vec(), ..Options::default() }
}

fn socks(text: &str) -> PortOption {
    PortOption::socks5(text).unwrap()
}

fn file(text: &str) -> RouterFile {
    RouterFile::from_json(text).unwrap()
}

const PORTS: &str = r#"{"ports": [
    {"port": 8116, "type": "socks5", "policy_name": "tdx", "allow_policy_from_username": true, "max_pow_difficulty": 24},
    {"port": 11001, "type": "reverse", "policy_name": "any", "destination_host": "localhost", "destination_port": 11101,
     "serialize_info": true, "pow_difficulty": 16}]}"#;

#[test]
fn the_lines_of_the_deployed_guests_are_understood() {
    let worker = Options { serialize_info: true, ..options(&[socks("8116@tdx")]) };
    let worker = RouterConfig::new(worker, RouterFile::default()).unwrap();
    let [port] = &worker.ports[..] else { panic!() };
    assert_eq!((port.port, &port.mode, port.policy.as_str()), (8116, &Mode::Socks5, "tdx"));
    assert!(port.serialize_info && !port.takes_user_names);
    assert_eq!((port.pow_difficulty, port.pow_difficulty_max), (20, 28));
    let PeerPolicy::Tdx(policy) = &worker.policies["tdx"] else { panic!() };
    assert!(policy.root_keys.allows(&intel_root_key()));
    assert!(!policy.root_keys.allows(&Register::new([0; 48])));

    let reverse = ["11001:localhost:11101@tdx", "11002:localhost:11102@any"];
    let proxy = Options {
        serialize_info: true,
        certificate: Some("/etc/tdx/tdx".into()),
        ..options(&reverse.map(|text| PortOption::reverse(text).unwrap()))
    };
    let proxy = RouterConfig::new(proxy, RouterFile::default()).unwrap();
    assert_eq!(proxy.certificate.as_deref(), Some(std::path::Path::new("/etc/tdx/tdx")));
    assert_eq!(proxy.ports[1].policy, "any");
}

#[test]
fn a_file_means_what_it_says_of_each_port() {
    let config = RouterConfig::new(Options::default(), file(PORTS)).unwrap();
    let [local, reverse] = &config.ports[..] else { panic!() };
    assert_eq!((local.pow_difficulty_max, reverse.pow_difficulty, reverse.pow_difficulty_max), (24, 16, 28));
    assert!(local.takes_user_names && !local.serialize_info && reverse.serialize_info);

    // Said outright, it is for all ports; whether the local side is told is not.
    let outright = Options { serialize_info: true, pow_difficulty: Some(22), ..Options::default() };
    let config = RouterConfig::new(outright, file(PORTS)).unwrap();
    assert_eq!(config.ports.iter().map(|port| port.pow_difficulty).collect::<Vec<_>>(), [22, 22]);
    assert!(!config.ports[0].serialize_info);

    let replaced = RouterConfig::new(options(&[socks("9000@tdx")]), file(PORTS)).unwrap();
    assert_eq!(replaced.ports.iter().map(|port| port.port).collect::<Vec<_>>(), [9000]);
}

#[test]
fn policies_have_names_of_their_own() {
    let hash = "ab".repeat(32);
    let lists = TdxConfig {
        allowed_image_hashes: Some(OneOrMany::One(hash.parse().unwrap())),
        ..TdxConfig::default()
    };
    let ours = |kind, tdx_config| FilePolicy { name: "ours".to_owned(), kind, description: None, tdx_config };
    let with = |policies| RouterFile { policies, ..RouterFile::default() };
    let named = options(&[socks("8116@ours")]);
    let config =
        RouterConfig::new(named.clone(), with(vec![ours(PolicyKind::Tdx, Some(lists.clone()))])).unwrap();
    let PeerPolicy::Tdx(policy) = &config.policies["ours"] else { panic!() };
    assert!(
        policy.images.allows(&hash.parse().unwrap())
            && !policy.images.allows(&units::ImageHash::new([0; 32]))
    );

    // The command line's is the one that counts.
    let outright = Options { policies: vec!["ours:any".parse().unwrap()], ..named.clone() };
    let config = RouterConfig::new(outright, with(vec![ours(PolicyKind::Tdx, None)])).unwrap();
    assert_eq!(config.policies["ours"], PeerPolicy::Any);

    let inline = options(&[socks(&format!("8116@tdx:{hash}"))]);
    let config = RouterConfig::new(inline, RouterFile::default()).unwrap();
    assert_eq!(config.ports[0].policy, "tdx_inline_8116");
    assert!(matches!(&config.policies["tdx_inline_8116"], PeerPolicy::Tdx(_)));

    let refused = |options: Options, policies| RouterConfig::new(options, with(policies)).unwrap_err();
    let unknown = refused(named.clone(), vec![]);
    assert_eq!(unknown, ConfigError::UnknownPolicy { port: Some(8116), name: "ours".to_owned() });
    let twice = refused(named.clone(), vec![ours(PolicyKind::Any, None), ours(PolicyKind::Tdx, None)]);
    assert!(matches!(twice, ConfigError::PolicyTwice { .. }), "{twice}");
    let trap = FilePolicy { name: "tdx".to_owned(), ..ours(PolicyKind::Any, None) };
    let trap = refused(options(&[socks("8116@tdx")]), vec![trap]);
    assert!(matches!(trap, ConfigError::BuiltInName { .. }), "{trap}");
    let nobody = refused(named, vec![ours(PolicyKind::Any, Some(lists))]);
    assert!(matches!(nobody, ConfigError::Policy { source: PolicyError::AnyWithLists, .. }), "{nobody}");
}

#[test]
fn a_files_policies_can_be_asked_for_by_name() {
    let file = RouterFile::example();
    let Ok(PeerPolicy::Tdx(policy)) = file.policy("our-image") else { panic!() };
    assert!(policy.images.allows(&units::ImageHash::new([0x11; 32])));
    assert!(!policy.images.allows(&units::ImageHash::new([0x12; 32])));
    assert!(matches!(file.policy("tdx"), Ok(PeerPolicy::Tdx(_))));
    assert_eq!(file.policy("any"), Ok(PeerPolicy::Any));
    let unknown = ConfigError::UnknownPolicy { port: None, name: "ours".to_owned() };
    assert_eq!(file.policy("ours"), Err(unknown));
    assert!(matches!(file.policy("fake_tdx"), Err(ConfigError::Policy { source: PolicyError::Fake, .. })));
}

#[test]
fn what_proves_nothing_has_to_be_asked_for() {
    let named = options(&[socks("8116@fake_tdx")]);
    let refused = RouterConfig::new(named.clone(), RouterFile::default()).unwrap_err();
    assert!(matches!(&refused, ConfigError::Policy { source: PolicyError::Fake, .. }), "{refused}");
    let in_file = file(r#"{"policies": [{"name": "tests", "type": "fake_tdx"}]}"#);
    let refused = RouterConfig::new(options(&[socks("8116@tdx")]), in_file).unwrap_err();
    assert!(matches!(&refused, ConfigError::Policy { source: PolicyError::Fake, .. }), "{refused}");
    let insecure = Options { insecure_fake_tdx: true, ..named };
    let config = RouterConfig::new(insecure, RouterFile::default()).unwrap();
    assert!(matches!(config.policies["fake_tdx"], PeerPolicy::FakeTdx(_)));
}

#[test]
fn ports_that_cannot_be_are_named() {
    let none = RouterConfig::new(Options::default(), RouterFile::default());
    assert_eq!(none, Err(ConfigError::NoPorts));
    let twice = RouterConfig::new(options(&[socks("8116@tdx"), socks("8116@any")]), RouterFile::default());
    assert_eq!(twice, Err(ConfigError::PortTwice { port: 8116 }));
    let hard = Options { pow_difficulty: Some(65), ..options(&[socks("8116@tdx")]) };
    assert_eq!(RouterConfig::new(hard, RouterFile::default()), Err(ConfigError::Difficulty { found: 65 }));
    let with = |change: fn(&mut FilePort)| {
        let mut changed = file(PORTS);
        change(&mut changed.ports[1]);
        RouterConfig::new(Options::default(), changed).unwrap_err()
    };
    let no_place = with(|port| (port.destination_host, port.destination_port) = (None, None));
    assert!(matches!(no_place, ConfigError::Port { port: 11_001, .. }), "{no_place}");
    let half = with(|port| port.destination_port = None);
    assert!(matches!(half, ConfigError::Port { .. }), "{half}");
    let place = with(|port| port.kind = PortKind::Socks5);
    assert!(matches!(place, ConfigError::Port { .. }), "{place}");
    let names = with(|port| port.allow_policy_from_username = true);
    assert_eq!(names, ConfigError::UserNames { port: 11_001 });
    let low = with(|port| port.port = 443);
    assert!(matches!(low, ConfigError::Port { port: 443, .. }), "{low}");
    let work = with(|port| port.pow_difficulty = Some(65));
    assert_eq!(work, ConfigError::Difficulty { found: 65 });
}

#[test]
fn a_ports_own_policy_takes_the_place_of_no_other() {
    let [first, second] = ["11".repeat(32), "22".repeat(32)];
    // Port 0 is any free one, so that two may be told so.
    let two = options(&[socks(&format!("0@tdx:{first}")), socks(&format!("0@tdx:{second}"))]);
    let config = RouterConfig::new(two, RouterFile::default()).unwrap();
    let of = |port: usize| &config.policies[&config.ports[port].policy];
    assert_ne!(config.ports[0].policy, config.ports[1].policy);
    assert!(format!("{:?}", of(0)).contains(&first) && format!("{:?}", of(1)).contains(&second));
}
