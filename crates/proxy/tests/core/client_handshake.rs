//! A client introduces itself and authorises.

use std::time::Duration;

use cocoon_proxy::core::{Limits, PeerFacts};
use ton::payment::PaymentKind;
use wire::client;
use wire::proxy::SignedPayment;

use crate::world::{World, connect_client, owner, root, run_query, terms, verified, worker_params};

fn own_text() -> String {
    owner(50).to_wire_text(false)
}

/// Sends a changed introduction and returns how it is refused.
fn refused(change: impl FnOnce(&mut client::ConnectToProxy<'_>)) -> (i32, String) {
    let mut world = World::new();
    let link = world.open_client();
    let text = own_text();
    let mut query = connect_client(&text, 2);
    change(&mut query);
    let refusal = world.query(link, &query).unwrap_err();
    assert!(world.closed(link).is_some(), "a refused handshake closes the link");
    assert!(world.snapshot().clients.is_empty());
    refusal
}

#[test]
fn a_client_is_registered_at_sight_and_authorises_with_the_empty_secret() {
    let mut world = World::new();
    let link = world.open_client();
    let answer = world.query(link, &connect_client(&own_text(), 2)).unwrap();
    let connected: client::ConnectedToProxy<'_> = wire::decode(&answer).unwrap();
    assert_eq!(connected.params.is_test, Some(true));
    assert_eq!(connected.params.proto_version, Some(2));
    assert_eq!(connected.params.proxy_sc_address.to_str(), Ok(world.core.terms().contract_text()));
    let client::ProxyConnectionAuth::Short { secret_hash, nonce: 0 } = connected.auth else {
        panic!("{:?}", connected.auth);
    };
    assert_eq!(hex::encode(&secret_hash[..4]), "e3b0c442");
    assert_eq!(connected.signed_payment, SignedPayment::Empty);
    assert!(world.vouched.is_empty());

    let answer = world.query(link, &client::AuthorizeWithProxyShort { data: b"" }).unwrap();
    let authorised: client::AuthorizationWithProxySuccess<'_> = wire::decode(&answer).unwrap();
    assert_eq!((authorised.tokens_committed_to_db, authorised.max_tokens), (0, 0));
    let contract = connected.client_sc_address.to_str().unwrap();
    assert_eq!(verified(&authorised.signed_payment, PaymentKind::ClientCharge, contract), 0);
    assert_eq!(world.vouched, [link]);

    let again = world.open_client();
    let answer = world.query(again, &connect_client(&own_text(), 2)).unwrap();
    let connected: client::ConnectedToProxy<'_> = wire::decode(&answer).unwrap();
    assert_eq!(connected.signed_payment, authorised.signed_payment, "the payment is not signed twice");
    assert_eq!(world.snapshot().clients.len(), 1);
}

#[test]
fn the_long_way_needs_no_transaction_without_a_chain() {
    let mut world = World::new();
    let link = world.open_client();
    world.query(link, &connect_client(&own_text(), 2)).unwrap();
    assert!(world.query(link, &client::AuthorizeWithProxyLong {}).is_ok());
}

#[test]
fn versions_are_negotiated_and_version_0_goes_unsaid() {
    for (offered, chosen) in [(0, None), (1, Some(1)), (2, Some(2)), (3, Some(3)), (9, Some(3))] {
        let mut world = World::new();
        let link = world.open_client();
        let answer = world.query(link, &connect_client(&own_text(), offered)).unwrap();
        let connected: client::ConnectedToProxy<'_> = wire::decode(&answer).unwrap();
        assert_eq!(connected.params.proto_version, chosen, "offered {offered}");
    }
}

#[test]
fn every_fault_of_an_introduction_has_its_code() {
    let text = own_text();
    let other_checksum = text.replace("UQ", "EQ");
    let range = |min, max| Some(client::ProtoRange { min_proto_version: min, max_proto_version: max });

    assert_eq!(refused(|query| query.params.is_test = None), (602, "too old client".into()));
    assert_eq!(refused(|query| query.params.is_test = Some(false)), (602, "test mode mismatch".into()));
    assert_eq!(refused(|query| query.params.client_owner_address = "nobody".into()).0, 602);
    let mut world = World::new();
    let link = world.open_client();
    assert_eq!(world.query(link, &connect_client(&other_checksum, 2)).unwrap_err().0, 602);
    for version in [4, -1] {
        let (code, message) = refused(|query| query.min_config_version = version);
        assert_eq!((code, message.as_str()), (602, "active config version is too low"));
    }
    for disjoint in [range(4, 9), range(-2, -1), range(2, 1)] {
        let (code, message) = refused(|query| query.params.proto_range = disjoint);
        assert_eq!((code, message.as_str()), (621, "cannot choose common protocol version"));
    }
}

#[test]
fn of_several_faults_the_first_check_speaks() {
    let (code, message) = refused(|query| {
        query.params.is_test = Some(false);
        query.params.client_owner_address = "nobody".into();
        query.min_config_version = 4;
    });
    assert_eq!((code, message.as_str()), (602, "test mode mismatch"));
}

#[test]
fn steps_out_of_order_close_the_link() {
    let connect = |world: &mut World| {
        let link = world.open_client();
        world.query(link, &connect_client(&own_text(), 2)).unwrap();
        link
    };
    let mut world = World::new();
    let early = world.open_client();
    let refusal = world.query(early, &client::UpdatePaymentStatus {}).unwrap_err();
    assert_eq!(refusal, (0, "expected connect message".into()));

    let unauthorised = connect(&mut world);
    let refusal = world.query(unauthorised, &client::GetWorkerTypesV2 {}).unwrap_err();
    assert_eq!(refusal, (0, "expected auth message".into()));

    let wrong_secret = connect(&mut world);
    let refusal = world.query(wrong_secret, &client::AuthorizeWithProxyShort { data: b"x" }).unwrap_err();
    assert_eq!(refusal, (0, "sha256 mismatch".into()));

    let twice = world.client(50, 2);
    let refusal = world.query(twice, &client::AuthorizeWithProxyShort { data: b"" }).unwrap_err();
    assert_eq!(refusal, (0, "already authorized".into()));

    for link in [early, unauthorised, wrong_secret, twice] {
        assert!(world.closed(link).is_some());
        assert_eq!(world.query(link, &client::GetWorkerTypes {}).unwrap_err().0, 653, "it is closing");
    }
}

#[test]
fn an_unfinished_handshake_ends() {
    const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
    let mut world = World::new();
    let (silent, introduced, done) = (world.open_client(), world.open_client(), world.client(51, 2));
    world.query(introduced, &connect_client(&own_text(), 2)).unwrap();
    let worker = world.open_worker(PeerFacts::default());
    world.wait(HANDSHAKE_MAX - Duration::from_millis(1));
    assert_eq!(world.core.links_len(), (3, 1));
    world.wait(Duration::from_millis(1));
    assert_eq!(world.core.links_len(), (1, 0));
    for link in [silent, introduced, worker] {
        assert_eq!(world.closed(link), Some("the handshake was not completed in time"));
    }
    assert_eq!(world.snapshot().clients.len(), 1, "an introduction alone is not remembered");
    world.wait(HANDSHAKE_MAX * 10);
    assert_eq!(world.closed(done), None);
    assert_eq!(world.core.poll_timeout(), None);
}

#[test]
fn a_request_before_the_end_of_the_handshake_closes_the_link() {
    let mut world = World::new();
    let link = world.open_client();
    world.query(link, &connect_client(&own_text(), 2)).unwrap();
    world.packet(link, &run_query(b"", 1));
    assert_eq!(world.closed(link), Some("request before the end of the handshake"));
}

#[test]
fn malformed_messages_close_their_link_and_unknown_ones_do_not() {
    let mut world = World::new();
    let (link, bystander) = (world.client(50, 2), world.client(51, 2));
    let (code, message) = world.query_bytes(link, &[1, 2, 3, 4]).unwrap_err();
    assert_eq!((code, message.as_str()), (621, "unknown constructor 04030201"));
    let for_workers = wire::encode(&wire::worker::ConnectToProxy { params: worker_params("x", 2, 1) });
    assert_eq!(world.query_bytes(link, &for_workers).unwrap_err().0, 621);
    assert_eq!(world.query(link, &client::RequestRefund {}).unwrap_err().0, 621);
    world.packet_bytes(link, &[1, 2, 3, 4]);
    assert_eq!(world.closed(link), None);

    let request = wire::encode(&run_query(b"", 1));
    world.packet_bytes(link, &request[..request.len() - 4]);
    assert_eq!(world.closed(link), Some("malformed message"));
    assert!(world.query(bystander, &client::GetWorkerTypes {}).is_ok());
    let query = wire::encode(&client::GetWorkerTypes {});
    assert_eq!(world.query_bytes(bystander, &[&query[..], &[0; 4]].concat()).unwrap_err().0, 0);
    assert!(world.closed(bystander).is_some());
}

#[test]
fn a_disabled_proxy_takes_nobody() {
    let mut world = World::new();
    world.core.set_enabled(false);
    let link = world.open_client();
    let refusal = world.query(link, &connect_client(&own_text(), 2)).unwrap_err();
    assert_eq!(refusal, (651, "proxy is not participating in this iteration".into()));
    world.core.set_enabled(true);
    world.client(50, 2);
}

#[test]
fn strangers_do_not_fill_the_books() {
    let limits = Limits { accounts_max: 2, ..Limits::default() };
    let mut world = World::with(terms(root(), false), limits);
    let first = world.client(50, 2);
    world.client(51, 2);
    let refused = world.open_client();
    let refusal = world.query(refused, &connect_client(&owner(52).to_wire_text(false), 2)).unwrap_err();
    assert_eq!(refusal.0, 651);
    world.lose(first);
    world.client(52, 2);
    assert_eq!(world.snapshot().clients.len(), 2);
}

#[test]
fn the_account_can_be_asked_for() {
    let mut world = World::new();
    let link = world.client(50, 2);
    let answer = world.query(link, &client::UpdatePaymentStatus {}).unwrap();
    let status: client::PaymentStatus<'_> = wire::decode(&answer).unwrap();
    assert_eq!((status.db_tokens, status.max_tokens), (0, 0));
    let contract = world.snapshot().clients[0].contract.clone();
    assert_eq!(verified(&status.signed_payment, PaymentKind::ClientCharge, &contract), 0);
}
