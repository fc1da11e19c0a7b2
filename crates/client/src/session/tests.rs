use std::path::PathBuf;
use std::sync::Arc;

use attest::Attestation;
use bytes::{Bytes, BytesMut};
use gateway::ErrorKind;
use node::{ConnectingParty, OwnContract, ProxyError};
use serde_json::Value;
use ton::payment::{PaymentKind, sign};
use ton::{Address, AddressFlags, ContractCode, RootConfig};
use units::{AdjustedTokens, ConfigVersion, ImageHash, NanoTon, ProtocolVersion, PublicKey, RequestId};
use wire::client::{AuthorizationWithProxyFailed, AuthorizationWithProxySuccess, ProxyConnectionAuth, Query};
use wire::frame::{FrameReader, PAYLOAD_LEN_MAX};
use wire::proxy::SignedPayment;
use wire::tcp;

use super::*;
use crate::LoginSecret;
use crate::link::Requests;
use crate::testing::Network;

const WALLET: Address = Address::new(0, [9; 32]);

fn secret() -> LoginSecret {
    LoginSecret::new(&[5; 32], "a secret of the test, long enough to be one")
}

fn connecting(owner: Address, root: Address) -> ConnectingParty {
    ConnectingParty { owner, root, is_testnet: false, contract: OwnContract::Client }
}

fn party(network: &Network) -> Party {
    Party {
        connecting: connecting(WALLET, network.root_address),
        check_proxy_hashes: false,
        secret: secret(),
    }
}

fn begin(network: &Network) -> (ExpectConnected, Bytes) {
    ExpectConnected::begin(party(network), Arc::new(network.root.clone()), None).unwrap()
}

fn refused(network: &Network, answer: &Bytes) -> SessionError {
    match begin(network).0.handle(answer, &Accounts::default()) {
        Ok(_) => panic!("was accepted"),
        Err(error) => error,
    }
}

/// Which way of authorisation the client takes after `auth`.
fn authorisation(auth: ProxyConnectionAuth) -> Bytes {
    let network = Network::new(&[]);
    let answer = network.connected(&WALLET, Some(2), |connected| connected.auth = auth);
    begin(&network).0.handle(&answer, &Accounts::default()).unwrap().1
}

fn success(network: &Network, signed: u64, stored: i64, used: i64) -> Bytes {
    let data = network.charge(&WALLET, signed);
    wire::encode(&AuthorizationWithProxySuccess {
        signed_payment: SignedPayment::Payment { data: &data },
        tokens_committed_to_db: stored,
        max_tokens: used,
    })
}

fn totals(accounts: &Accounts) -> (u64, u64, u64) {
    let totals = accounts.all()[0].totals;
    (totals.signed.get(), totals.stored.get(), totals.used.get())
}

#[test]
fn the_first_query_says_who_we_are() {
    let network = Network::new(&[]);
    let (_expect, query) = begin(&network);
    let Query::ConnectToProxy(connect) = wire::decode(&query).unwrap() else { panic!("another query") };
    assert_eq!(connect.params.client_owner_address.to_str().unwrap(), WALLET.to_wire_text(false));
    assert_eq!(connect.params.is_test, Some(true));
    let range = connect.params.proto_range.unwrap();
    assert_eq!((range.min_proto_version, range.max_proto_version, connect.min_config_version), (1, 3, 3));
}

#[test]
fn a_proxy_that_follows_from_the_root_is_accepted_in_every_version() {
    let network = Network::new(&[]);
    for (said, protocol) in [
        (None, ProtocolVersion::V0),
        (Some(0), ProtocolVersion::V0),
        (Some(1), ProtocolVersion::V1),
        (Some(2), ProtocolVersion::V2),
    ] {
        let accounts = Accounts::default();
        let answer = network.connected(&WALLET, said, |_| {});
        let (expect, _query) = begin(&network).0.handle(&answer, &accounts).unwrap();
        let session = expect.handle(&success(&network, 5, 6, 7), &accounts).unwrap();
        assert_eq!((session.protocol, session.proxy_contract), (protocol, network.proxy_contract()));
        assert_eq!(totals(&accounts), (5, 6, 7));
    }
}

#[test]
fn proxies_that_are_not_what_they_should_be_are_refused() {
    let network = Network::new(&[]);
    let refused_if = |change: &dyn Fn(&mut wire::client::ConnectedToProxy<'_>)| {
        refused(&network, &network.connected(&WALLET, Some(2), |connected| change(connected)))
    };
    let is_address = |error: SessionError, name: &str| match error {
        SessionError::Proxy(
            ProxyError::Contract { which, .. }
            | ProxyError::AddressForm { which }
            | ProxyError::Address { which, .. }
            | ProxyError::AddressText { which },
        ) => which == name,
        _ => false,
    };
    assert!(matches!(
        refused_if(&|connected| (connected.params.is_test, connected.params.proto_version) = (None, None)),
        SessionError::Proxy(ProxyError::TooOld)
    ));
    assert!(matches!(
        refused_if(&|connected| connected.params.is_test = Some(false)),
        SessionError::Proxy(ProxyError::TestMode { ours: true, theirs: false })
    ));
    assert!(matches!(
        refused_if(&|connected| connected.params.is_test = None),
        SessionError::Proxy(ProxyError::TestMode { .. })
    ));
    for chosen in [-1, 4] {
        assert!(matches!(
            refused_if(&|connected| connected.params.proto_version = Some(chosen)),
            SessionError::Proxy(ProxyError::Protocol { .. })
        ));
    }
    assert!(is_address(
        refused_if(&|connected| connected.params.proxy_owner_address = "nonsense".into()),
        "owner"
    ));
    assert!(is_address(refused_if(&|connected| connected.params.proxy_sc_address = "".into()), "proxy"));
    assert!(is_address(
        refused_if(&|connected| connected.client_sc_address = wire::TlStr::new(b"\xff")),
        "client"
    ));
    assert!(is_address(refused_if(&|connected| connected.params.proxy_public_key = [1; 32]), "proxy"));

    let (proxy, client) = (network.proxy_contract(), network.client_contract(&WALLET));
    let other = Address::new(0, [8; 32]).to_wire_text(false);
    let connected = |proxy: &str, client: &str| {
        network.connected(&WALLET, Some(2), |connected| {
            // The texts live as long as the message is encoded.
            let (proxy, client): (&'static str, &'static str) =
                (proxy.to_owned().leak(), client.to_owned().leak());
            connected.params.proxy_sc_address = proxy.into();
            connected.client_sc_address = client.into();
        })
    };
    let right = (proxy.to_wire_text(false), client.to_wire_text(false));
    assert!(is_address(refused(&network, &connected(&other, &right.1)), "proxy"));
    assert!(is_address(refused(&network, &connected(&right.0, &other)), "client"));
    let bounceable = AddressFlags { bounceable: true, testnet: false };
    let wrong_forms = [proxy.to_text(bounceable), proxy.to_wire_text(true), proxy.to_string()];
    for form in wrong_forms {
        assert!(is_address(refused(&network, &connected(&form, &right.1)), "proxy"), "{form}");
    }
    for form in [client.to_text(bounceable), client.to_wire_text(true), client.to_string()] {
        assert!(is_address(refused(&network, &connected(&right.0, &form)), "client"), "{form}");
    }
    let accepted = connected(&right.0, &right.1);
    assert!(begin(&network).0.handle(&accepted, &Accounts::default()).is_ok());
    for cut in [&b""[..], &accepted[..accepted.len() - 4]] {
        assert!(matches!(refused(&network, &Bytes::copy_from_slice(cut)), SessionError::Malformed(_)));
    }
}

#[test]
fn images_are_checked_when_asked_for_and_always_outside_test_networks() {
    let network = Network::new(&[]);
    let (allowed, other) = (ImageHash::new([5; 32]), ImageHash::new([6; 32]));
    let begin = |is_test, check_proxy_hashes, image| {
        let mut root = network.root.clone();
        root.params.is_test = is_test;
        root.proxy_hashes.insert(allowed);
        let party = Party { check_proxy_hashes, ..party(&network) };
        ExpectConnected::begin(party, Arc::new(root), image).map(drop)
    };
    let real = |image| Some(Attestation { image, is_simulated: false });
    let simulated = Some(Attestation { image: allowed, is_simulated: true });
    for (is_test, check) in [(true, true), (false, false), (false, true)] {
        assert!(begin(is_test, check, real(allowed)).is_ok());
        match begin(is_test, check, simulated) {
            Ok(()) => assert!(is_test),
            Err(error) => assert!(!is_test && matches!(error, SessionError::Proxy(ProxyError::Simulated))),
        }
        assert!(matches!(
            begin(is_test, check, real(other)),
            Err(SessionError::Proxy(ProxyError::ImageNotAllowed { .. }))
        ));
        assert!(matches!(begin(is_test, check, None), Err(SessionError::Proxy(ProxyError::NotAttested))));
    }
    assert!(begin(true, false, None).is_ok());
}

#[test]
fn the_secret_is_shown_only_to_a_proxy_that_knows_its_hash() {
    let long = wire::encode(&wire::client::AuthorizeWithProxyLong {});
    let hash = |text: &[u8]| <sha2::Sha256 as sha2::Digest>::digest(text).into();
    let of = |client: u8| secret().of(&Network::new(&[]).client_contract(&Address::new(0, [client; 32])));
    let short =
        |shown: &[u8]| authorisation(ProxyConnectionAuth::Short { secret_hash: hash(shown), nonce: 0 });
    let (ours, other) = (of(9), of(8));
    let data = ours.as_bytes();
    assert_eq!(short(data), wire::encode(&wire::client::AuthorizeWithProxyShort { data }));
    // That of another contract, which another proxy may know, is not shown, and nothing to guess either.
    for hashed in [other.as_bytes(), b""] {
        assert_eq!(short(hashed), long);
    }
    assert_eq!(authorisation(ProxyConnectionAuth::Long { nonce: 1 }), long);
}

#[test]
fn the_long_way_names_the_number_to_show_on_the_chain() {
    let network = Network::new(&[]);
    let nonce = |auth| {
        let answer = network.connected(&WALLET, Some(2), |connected| connected.auth = auth);
        let (expect, _query) = begin(&network).0.handle(&answer, &Accounts::default()).unwrap();
        assert_eq!(expect.contracts().proxy, network.proxy_contract());
        assert_eq!(expect.config().params, network.root.params);
        expect.nonce()
    };
    let secret_hash = secret().of(&network.client_contract(&WALLET)).hash();
    assert_eq!(nonce(ProxyConnectionAuth::Short { secret_hash, nonce: 5 }), None);
    assert_eq!(nonce(ProxyConnectionAuth::Short { secret_hash: [0; 32], nonce: 5 }), Some(5));
    assert_eq!(nonce(ProxyConnectionAuth::Long { nonce: -1 }), Some(u64::MAX));
}

#[test]
fn an_authorisation_that_fails_ends_the_handshake() {
    let network = Network::new(&[]);
    let expect = || {
        let accounts = Accounts::default();
        let answer = network.connected(&WALLET, Some(2), |_| {});
        let (expect, _query) = begin(&network).0.handle(&answer, &accounts).unwrap();
        (expect, accounts)
    };
    let (waiting, accounts) = expect();
    let failed = wire::encode(&AuthorizationWithProxyFailed { error_code: 7, error: "no".into() });
    assert!(matches!(waiting.handle(&failed, &accounts), Err(SessionError::Unauthorized { code: 7 })));
    for (stored, used) in [(-1, 0), (0, -1)] {
        let (waiting, accounts) = expect();
        let answer = success(&network, 0, stored, used);
        assert!(matches!(waiting.handle(&answer, &accounts), Err(SessionError::Negative { .. })));
    }
}

#[test]
fn totals_only_grow_and_charges_count_only_when_they_verify() {
    let network = Network::new(&[]);
    let accounts = Accounts::default();
    let contracts = Contracts {
        proxy_key: network.public_key(),
        proxy: network.proxy_contract(),
        client: network.client_contract(&WALLET),
    };
    accounts.open(contracts).unwrap();
    let adopt = |payment: &SignedPayment<'_>, stored, used| {
        accounts.with(&contracts.proxy, |account| account.adopt(payment, stored, used)).unwrap();
        totals(&accounts)
    };
    let charge = |tokens| network.charge(&WALLET, tokens);
    let payment = charge(10);
    assert_eq!(adopt(&SignedPayment::Payment { data: &payment }, 20, 30), (10, 20, 30));
    let lower = charge(9);
    assert_eq!(adopt(&SignedPayment::Payment { data: &lower }, 19, 29), (10, 20, 30), "nothing falls");
    assert_eq!(adopt(&SignedPayment::Empty, 21, 31), (10, 21, 31));

    let other_contract = network.charge(&Address::new(0, [7; 32]), 99);
    let other_key = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
    let tokens = AdjustedTokens::new(99);
    let sign_with = |key, kind| sign(key, kind, 7, tokens, &contracts.client, &contracts.proxy);
    let refund = sign_with(&network.key, PaymentKind::ClientRefund);
    let forged = sign_with(&other_key, PaymentKind::ClientCharge);
    for worthless in [&other_contract[..], &refund, &forged, b"nonsense", b""] {
        assert_eq!(adopt(&SignedPayment::Payment { data: worthless }, 0, 0), (10, 21, 31));
    }
    let larger = sign_with(&network.key, PaymentKind::ClientCharge);
    assert_eq!(adopt(&SignedPayment::Payment { data: &larger }, 0, 0), (99, 21, 31));

    let restored = Accounts::restored(accounts.to_keep());
    assert_eq!(totals(&restored), (99, 21, 31));
    assert_eq!(restored.to_keep(), accounts.to_keep());
    assert_eq!(restored.to_keep()[0].payment, larger);
    restored.open(contracts).unwrap();

    assert!(accounts.open(contracts).is_ok(), "unchanged");
    for changed in [
        Contracts { proxy_key: PublicKey::new([1; 32]), ..contracts },
        Contracts { client: Address::new(0, [1; 32]), ..contracts },
    ] {
        assert!(matches!(accounts.open(changed), Err(SessionError::Changed)));
    }
}

/// The recorded network: contract codes are known by hash and depth only, which is all that addresses need.
fn recorded_root(vectors: &Value) -> RootConfig {
    let text = |path: &str| vectors.pointer(path).unwrap().as_str().unwrap();
    let address = |path: &str| Address::parse(text(path)).unwrap().0;
    let code = |name: &str| {
        // A bag with one pruned branch (level 1): what stands for a cell of which only hash and depth are known.
        let mut boc = hex::decode("b5ee9c7201010101002600").unwrap();
        boc.extend_from_slice(&hex::decode("28480101").unwrap());
        boc.extend_from_slice(&hex::decode(text(&format!("/codes/{name}/hash"))).unwrap());
        let depth = vectors.pointer(&format!("/codes/{name}/depth")).unwrap().as_u64().unwrap();
        boc.extend_from_slice(&u16::try_from(depth).unwrap().to_be_bytes());
        ContractCode::from_boc(&boc).unwrap()
    };
    let mut root = RootConfig::pseudo(address("/root/owner"));
    root.version = ConfigVersion::new(3);
    root.params.params_version = 1;
    root.params.price_per_token = NanoTon::new(2);
    root.params.worker_fee_per_token = NanoTon::new(1);
    root.params.proxy_code = code("proxy");
    root.params.worker_code = code("worker");
    root.params.client_code = code("client");
    root
}

/// What a deployed proxy wrote to a deployed client, from connect to close.
fn recorded_stream(folder: &std::path::Path) -> Vec<Bytes> {
    let mut bytes = BytesMut::from(&std::fs::read(folder.join("client.from_proxy.bin")).unwrap()[..]);
    let mut reader = FrameReader::new(PAYLOAD_LEN_MAX);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame(&mut bytes).unwrap() {
        frames.push(frame);
    }
    assert!(bytes.is_empty());
    frames
}

#[test]
fn a_recorded_conversation_of_a_deployed_proxy_is_understood() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/reference");
    if !folder.is_dir() {
        println!("skipped: the recorded conversations are not at {}", folder.display());
        return;
    }
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../spec/vectors/ton/contracts.json")).unwrap();
    let text = |path: &str| vectors.pointer(path).unwrap().as_str().unwrap();
    let party = Party {
        connecting: connecting(
            Address::parse(text("/client/owner")).unwrap().0,
            Address::parse(text("/root/address")).unwrap().0,
        ),
        check_proxy_hashes: false,
        secret: secret(),
    };
    let frames = recorded_stream(&folder);
    let mut answers = Vec::new();
    let mut packets = Vec::new();
    for frame in &frames {
        match wire::decode(frame).unwrap() {
            tcp::Packet::QueryAnswer { data, .. } => answers.push(frame.slice_ref(data)),
            tcp::Packet::Packet { data } => packets.push(frame.slice_ref(data)),
            _ => {}
        }
    }

    // Handshake: that client had an empty secret and took the short way. Nobody shows such a one here.
    let accounts = Accounts::default();
    let (expect, _query) = ExpectConnected::begin(party, Arc::new(recorded_root(&vectors)), None).unwrap();
    let (expect, query) = expect.handle(&answers[0], &accounts).unwrap();
    assert_eq!(query, wire::encode(&wire::client::AuthorizeWithProxyLong {}));
    let session = expect.handle(&answers[1], &accounts).unwrap();
    assert_eq!(session.protocol, ProtocolVersion::V2);
    assert_eq!(session.proxy_contract.to_wire_text(false), text("/proxy/contract"));
    let models = Models::read(session.protocol, &answers[3]).unwrap();
    assert_eq!((models[0].id.as_str(), models[0].workers[0].coefficient), ("Qwen/Qwen3-8B", 1500));

    // Requests, in the order in which answers began.
    let requests = Requests::new(1 << 20, None);
    let mut waiting: Vec<(RequestId, crate::link::Answering)> = Vec::new();
    for packet in &packets {
        match wire::decode(packet).unwrap() {
            FromProxy::ClientRequestPayment(message) => accounts.with(&session.proxy_contract, |account| {
                account.adopt(&message.signed_payment, message.db_tokens, message.max_tokens).unwrap();
            }),
            message => {
                let id = request_of(&message).unwrap();
                if waiting.iter().all(|(other, _)| *other != id) {
                    waiting.push((id, requests.open(id).unwrap()));
                }
                assert!(requests.deliver(&message, packet));
            }
        }
    }
    assert_eq!(requests.len(), 0, "every request ended");

    let bodies = [
        Ok(("app-1-plain.txt", 200)),
        Ok(("app-2-max-tokens.txt", 200)),
        // Deployed workers do not count streams.
        Ok(("app-3-sse.txt", 0)),
        Ok(("app-4-debug.txt", 200)),
        Ok(("app-5-completions.txt", 200)),
        Ok(("app-7-after-coefficient.txt", 334)),
        Err(ErrorKind::NoReadyWorker),
        Ok(("app-9-enabled-again.txt", 334)),
        Err(ErrorKind::UnknownModel),
    ];
    assert_eq!(waiting.len(), bodies.len());
    let mut charged = 0;
    for ((_, mut answering), expected) in waiting.into_iter().zip(bodies) {
        let mut body = Vec::new();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let end = loop {
            let std::task::Poll::Ready(step) = answering.poll_step(&mut context) else { panic!("no end") };
            body.extend_from_slice(&step.bytes);
            if let Some(end) = step.end {
                break end;
            }
        };
        match (end, expected) {
            (End::Complete(info), Ok((file, tokens))) => {
                assert_eq!(info.tokens.total().unwrap().get(), tokens, "{file}");
                charged += tokens;
                let got = std::fs::read_to_string(folder.join(file)).unwrap();
                let body = String::from_utf8(body).unwrap();
                if info.proxy_debug.is_some() {
                    // The client of the recording added the debug member.
                    let mut got: Value = serde_json::from_str(&got).unwrap();
                    assert!(got.as_object_mut().unwrap().remove("debug").is_some());
                    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), got);
                } else {
                    assert_eq!(body, got, "{file}");
                }
            }
            (End::Failed(error, _), Err(kind)) => assert_eq!(error.kind(), kind),
            (end, expected) => panic!("{end:?} instead of {expected:?}"),
        }
    }
    let totals = accounts.all()[0].totals;
    assert_eq!(totals.used.get(), charged);
}
