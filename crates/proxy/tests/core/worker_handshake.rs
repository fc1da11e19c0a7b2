//! A worker introduces itself, compares balances and takes part.

use std::time::Duration;

use attest::Attestation;
use cocoon_proxy::core::{Limits, LinkId, PeerFacts, Terms};
use ton::model_hash;
use ton::payment::PaymentKind;
use units::{AdjustedTokens, ImageHash, ModelName};
use wire::{client, worker};

use crate::world::{FULL_MODEL, World, compare, key, owner, root, terms, verified, worker_params};

fn own_text() -> String {
    owner(60).to_wire_text(false)
}

/// Sends a changed introduction and returns how it is refused.
fn refused(change: impl FnOnce(&mut worker::Params<'_>)) -> (i32, String) {
    let mut world = World::new();
    let link = world.open_worker(PeerFacts::default());
    let text = own_text();
    let mut params = worker_params(&text, 2, 1500);
    change(&mut params);
    let refusal = world.query(link, &worker::ConnectToProxy { params }).unwrap_err();
    assert!(world.closed(link).is_some(), "a refused handshake closes the link");
    assert!(world.snapshot().workers.is_empty());
    refusal
}

/// A worker whose next step is to compare balances, and its contract.
fn introduced(world: &mut World) -> (LinkId, String) {
    let link = world.open_worker(PeerFacts::default());
    let text = own_text();
    let answer =
        world.query(link, &worker::ConnectToProxy { params: worker_params(&text, 2, 1500) }).unwrap();
    let connected: worker::ConnectedToProxy<'_> = wire::decode(&answer).unwrap();
    assert_eq!(connected.params.proto_version, Some(2));
    (link, connected.worker_sc_address.to_string_lossy().into_owned())
}

/// What `getWorkerTypesV2` shows of the one model.
fn listed(world: &mut World, client: LinkId) -> Vec<(i32, i32, i32)> {
    // Long enough for a new list.
    world.wait(Duration::from_millis(10));
    let answer = world.query(client, &client::GetWorkerTypesV2 {}).unwrap();
    let listing: client::WorkerTypesV2<'_> = wire::decode(&answer).unwrap();
    let [model] = listing.types.as_slice() else { panic!("{listing:?}") };
    let figures = |worker: &client::WorkerInstanceV2| {
        (worker.coefficient, worker.active_requests, worker.max_active_requests)
    };
    model.workers.iter().map(figures).collect()
}

#[test]
fn a_worker_takes_part_after_three_steps() {
    let mut world = World::new();
    let client = world.client(50, 2);
    let (link, contract) = introduced(&mut world);
    assert_eq!(listed(&mut world, client), []);

    let answer = world.query(link, &compare(0, 0, 0)).unwrap();
    let compared: worker::CompareBalanceWithProxyResult<'_> = wire::decode(&answer).unwrap();
    assert_eq!((compared.tokens_committed_to_db, compared.max_tokens, compared.error_code), (0, 0, 0));
    assert_eq!(verified(&compared.signed_payment, PaymentKind::WorkerPayout, &contract), 0);
    assert!(!world.core.has_enabled_worker());

    world.query(link, &worker::ProxyHandshakeComplete { is_disabled: false }).unwrap();
    assert_eq!(world.vouched.last(), Some(&link));
    assert_eq!(listed(&mut world, client), [(1500, 0, 60)]);

    world.packet(link, &worker::NewCoefficient { new_coefficient: 2500 });
    assert_eq!(listed(&mut world, client), [(2500, 0, 60)]);
    world.packet(link, &worker::EnabledDisabled { disabled: 1 });
    assert_eq!(listed(&mut world, client), []);
    world.packet(link, &worker::EnabledDisabled { disabled: 0 });
    assert!(world.core.has_enabled_worker());
    world.lose(link);
    assert!(world.snapshot().connections.is_empty());
}

#[test]
fn a_worker_may_join_disabled() {
    let mut world = World::new();
    let (link, _contract) = introduced(&mut world);
    world.query(link, &compare(0, 0, 0)).unwrap();
    world.query(link, &worker::ProxyHandshakeComplete { is_disabled: true }).unwrap();
    assert!(!world.core.has_enabled_worker());
}

#[test]
fn workers_share_their_limit_among_proxies() {
    for (active, proxies, limit) in [(60, 1, 60), (60, 7, 9), (1, 5, 1), (i32::MAX, 1, 4096)] {
        let mut world = World::new();
        let client = world.client(50, 2);
        let link = world.open_worker(PeerFacts::default());
        let text = own_text();
        let mut params = worker_params(&text, 2, 1000);
        params.deployment =
            Some(worker::Deployment { is_test: true, proxy_cnt: proxies, max_active_requests: active });
        world.query(link, &worker::ConnectToProxy { params }).unwrap();
        world.query(link, &compare(0, 0, 0)).unwrap();
        world.query(link, &worker::ProxyHandshakeComplete { is_disabled: false }).unwrap();
        assert_eq!(listed(&mut world, client), [(1000, 0, limit)]);
    }
}

#[test]
fn every_fault_of_an_introduction_has_its_code() {
    let deployment = |change: fn(&mut worker::Deployment)| {
        refused(move |params| change(params.deployment.as_mut().unwrap())).0
    };
    assert_eq!(refused(|params| params.deployment = None), (602, "too old worker".into()));
    assert_eq!(deployment(|deployment| deployment.is_test = false), 602);
    assert_eq!(deployment(|deployment| deployment.max_active_requests = 0), 621);
    assert_eq!(deployment(|deployment| deployment.max_active_requests = -1), 621);
    assert_eq!(deployment(|deployment| deployment.proxy_cnt = 0), 621);
    let long = "x".repeat(ModelName::LEN_MAX + 1);
    for name in ["", "@commit:hash", "a\nb", &long] {
        let mut world = World::new();
        let link = world.open_worker(PeerFacts::default());
        let text = own_text();
        let params = worker::Params { model: name.into(), ..worker_params(&text, 2, 1500) };
        assert_eq!(world.query(link, &worker::ConnectToProxy { params }).unwrap_err().0, 621, "{name:?}");
    }
    for coefficient in [-1, 1_000_000_000, i32::MAX] {
        assert_eq!(refused(|params| params.coefficient = coefficient).0, 621);
    }
    let disjoint = client::ProtoRange { min_proto_version: 4, max_proto_version: 5 };
    assert_eq!(refused(|params| params.proto_range = Some(disjoint)).0, 621);
    assert_eq!(refused(|params| params.worker_owner_address = "nobody".into()).0, 0);
}

#[test]
fn hashes_are_checked_when_they_are_to_be() {
    let image = ImageHash::new([5; 32]);
    let mut checked = root();
    checked.worker_hashes.insert(image);
    checked.model_hashes.insert(model_hash(&ModelName::new(FULL_MODEL).unwrap()));
    let connect = |facts: PeerFacts, model: &'static str| {
        let mut world = World::with(terms(checked.clone(), true), Limits::default());
        let link = world.open_worker(facts);
        let text = own_text();
        let params = worker::Params { model: model.into(), ..worker_params(&text, 2, 1500) };
        world.query(link, &worker::ConnectToProxy { params }).map(|_| ())
    };
    let attested = |image| PeerFacts { attestation: Some(Attestation { image, is_simulated: true }) };

    assert_eq!(connect(attested(image), FULL_MODEL), Ok(()));
    let (code, message) = connect(attested(ImageHash::new([6; 32])), FULL_MODEL).unwrap_err();
    assert!(code == 621 && message.starts_with("invalid worker image hash 0606"), "{message}");
    assert_eq!(connect(PeerFacts::default(), FULL_MODEL).unwrap_err().0, 621);
    let (code, message) = connect(attested(image), "Qwen/Qwen3-8B@other:hash").unwrap_err();
    assert!(code == 621 && message.contains("not in the root contract"), "{message}");

    checked.worker_hashes.clear();
    let mut world = World::with(terms(checked, true), Limits::default());
    let link = world.open_worker(attested(image));
    let text = own_text();
    let query = worker::ConnectToProxy { params: worker_params(&text, 2, 1500) };
    assert_eq!(world.query(link, &query).unwrap_err().0, 621, "an empty list allows nothing");
}

#[test]
fn where_money_is_real_images_are_always_checked_and_simulated_ones_never_allowed() {
    let image = ImageHash::new([5; 32]);
    let mut real = root();
    real.params.is_test = false;
    real.worker_hashes.insert(image);
    real.model_hashes.insert(model_hash(&ModelName::new(FULL_MODEL).unwrap()));
    let connect = |attestation| {
        let terms = Terms::on_chain(real.clone(), &owner(2), &owner(3), owner(4), key(), false, false);
        let mut world = World::with(terms.unwrap(), Limits::default());
        let link = world.open_worker(PeerFacts { attestation });
        let text = own_text();
        let params = worker_params(&text, 2, 1500);
        let deployment = Some(worker::Deployment { is_test: false, ..params.deployment.unwrap() });
        let params = worker::Params { model: FULL_MODEL.into(), deployment, ..params };
        world.query(link, &worker::ConnectToProxy { params }).map(|_| ())
    };
    assert_eq!(connect(Some(Attestation { image, is_simulated: false })), Ok(()));
    let (code, message) = connect(Some(Attestation { image, is_simulated: true })).unwrap_err();
    assert!(code == 621 && message.contains("simulated platform"), "{message}");
    let (code, message) = connect(None).unwrap_err();
    assert!(code == 621 && message.starts_with("invalid worker image hash none"), "{message}");
}

#[test]
fn a_worker_that_remembers_more_gets_on_and_is_not_believed() {
    for remembered in [compare(0, 0, 7), compare(0, 7, 0), compare(7, 0, 0)] {
        let mut world = World::new();
        let (link, _contract) = introduced(&mut world);
        let answer = world.query(link, &remembered).unwrap();
        let compared: worker::CompareBalanceWithProxyResult<'_> = wire::decode(&answer).unwrap();
        assert_eq!((compared.max_tokens, compared.error_code), (0, 1));

        let query = worker::ExtendedCompareBalanceWithProxy { tokens_committed_to_db: 7, other: b"" };
        let answer = world.query(link, &query).unwrap();
        let extended: worker::ExtendedCompareBalanceWithProxyResult = wire::decode(&answer).unwrap();
        assert_eq!(extended.error_code, 0);
        world.query(link, &worker::ProxyHandshakeComplete { is_disabled: false }).unwrap();
        assert!(world.core.has_enabled_worker());
        assert_eq!(world.snapshot().workers[0].earned, AdjustedTokens::ZERO);
    }
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    for impossible in [compare(-1, 0, 0), compare(0, i64::MIN, 0), compare(0, 0, -1)] {
        let mut world = World::new();
        let (link, _contract) = introduced(&mut world);
        assert_eq!(world.query(link, &impossible).unwrap_err().0, 621);
    }
    for coefficient in [-1, 1_000_000_000] {
        let mut world = World::new();
        let link = world.worker(60, 2, 1000);
        world.packet(link, &worker::NewCoefficient { new_coefficient: coefficient });
        assert_eq!(world.closed(link), Some("the new coefficient is out of range"));
    }
}

#[test]
fn steps_out_of_order_close_the_link() {
    let complete = worker::ProxyHandshakeComplete { is_disabled: false };
    let mut world = World::new();
    let early = world.open_worker(PeerFacts::default());
    assert_eq!(world.query(early, &compare(0, 0, 0)).unwrap_err().0, 621);
    let (hasty, _contract) = introduced(&mut world);
    assert_eq!(world.query(hasty, &complete).unwrap_err().0, 621);
    let (differing, _contract) = introduced(&mut world);
    world.query(differing, &compare(0, 0, 1)).unwrap();
    assert_eq!(world.query(differing, &complete).unwrap_err().0, 621);
    let done = world.worker(61, 2, 1000);
    assert_eq!(world.query(done, &complete).unwrap_err().0, 621);
    let (loud, _contract) = introduced(&mut world);
    world.packet(loud, &worker::EnabledDisabled { disabled: 0 });
    for link in [early, hasty, differing, done, loud] {
        assert!(world.closed(link).is_some());
    }
    assert!(world.snapshot().connections.is_empty());
    assert!(world.snapshot().workers.is_empty(), "nobody earned anything");
}

#[test]
fn a_disabled_proxy_takes_nobody() {
    let mut world = World::new();
    world.core.begin_drain();
    let link = world.open_worker(PeerFacts::default());
    let text = own_text();
    let query = worker::ConnectToProxy { params: worker_params(&text, 2, 1500) };
    let refusal = world.query(link, &query).unwrap_err();
    assert_eq!(refusal, (651, "proxy is not participating in this iteration".into()));
}

#[test]
fn unknown_messages_do_no_harm_and_malformed_ones_close_the_link() {
    let mut world = World::new();
    let link = world.worker(60, 2, 1000);
    assert_eq!(world.query(link, &client::GetWorkerTypes {}).unwrap_err().0, 621);
    world.packet(link, &client::GetWorkerTypes {});
    assert_eq!(world.closed(link), None);
    let message = wire::encode(&worker::EnabledDisabled { disabled: 1 });
    world.packet_bytes(link, &message[..6]);
    assert_eq!(world.closed(link), Some("malformed message"));
}
