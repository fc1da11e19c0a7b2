//! Version 3 is chosen by number, and stands between peers that can do the same.

use cocoon_proxy::core::{LinkId, PeerFacts};
use units::{Capabilities, ProtocolVersion};
use wire::{client, peer, worker};

use crate::world::{World, compare, connect_client, owner, worker_params};

fn capabilities(flipped: i64) -> peer::Capabilities {
    peer::Capabilities { capabilities: Capabilities::OURS.to_wire() ^ flipped }
}

fn chosen(answer: &[u8]) -> Option<i32> {
    wire::decode::<client::ConnectedToProxy<'_>>(answer).unwrap().params.proto_version
}

/// A client that was told the version and has said nothing more.
fn connected_client(world: &mut World, offered_max: i32) -> (LinkId, Option<i32>) {
    let link = world.open_client();
    let answer = world.query(link, &connect_client(&owner(50).to_wire_text(false), offered_max)).unwrap();
    (link, chosen(&answer))
}

fn connected_worker(world: &mut World, offered_max: i32) -> LinkId {
    let link = world.open_worker(PeerFacts::default());
    let owner = owner(60).to_wire_text(false);
    let params = worker_params(&owner, offered_max, 1000);
    world.query(link, &worker::ConnectToProxy { params }).unwrap();
    link
}

#[test]
fn deployed_peers_get_their_version_and_hear_of_nothing_new() {
    for offered in 0..=2 {
        let mut world = World::new();
        let (client, version) = connected_client(&mut world, offered);
        assert_eq!(version.unwrap_or(0), offered);
        world.query(client, &client::AuthorizeWithProxyShort { data: b"" }).unwrap();
        assert_eq!(world.next_sent(client), None);
        let worker = connected_worker(&mut world, offered);
        world.query(worker, &compare(0, 0, 0)).unwrap();
        assert_eq!(world.next_sent(worker), None);
    }
}

#[test]
fn peers_that_offer_3_say_first_what_they_can_do() {
    for offered in [3, 9] {
        let mut world = World::new();
        let (client, version) = connected_client(&mut world, offered);
        assert_eq!(version, Some(ProtocolVersion::V3.number()));
        let said = world.next_sent(client).unwrap();
        assert_eq!(wire::decode::<peer::Capabilities>(&said), Ok(capabilities(0)));
        world.packet(client, &capabilities(0));
        world.query(client, &client::AuthorizeWithProxyShort { data: b"" }).unwrap();
        let worker = connected_worker(&mut world, offered);
        assert!(world.next_sent(worker).is_some());
        world.packet(worker, &capabilities(0));
        world.query(worker, &compare(0, 0, 0)).unwrap();
        assert_eq!((world.closed(client), world.closed(worker)), (None, None));
    }
}

/// A handshake has a deadline, so a peer that keeps silent meets that.
#[test]
fn a_peer_that_says_3_and_goes_on_without_its_capabilities_is_refused() {
    let mut world = World::new();
    let (client, _) = connected_client(&mut world, 3);
    let refused = world.query(client, &client::AuthorizeWithProxyShort { data: b"" }).unwrap_err();
    assert_eq!(refused, (621, "protocol 3 begins with peer.capabilities".to_owned()));
    assert!(world.closed(client).is_some());
    let worker = connected_worker(&mut world, 3);
    assert_eq!(world.query(worker, &compare(0, 0, 0)).unwrap_err().0, 621);
    assert!(world.closed(worker).is_some());
}

#[test]
fn capabilities_that_nobody_waits_for_end_the_link() {
    let mut world = World::new();
    let (deployed, _) = connected_client(&mut world, 2);
    world.packet(deployed, &capabilities(0));
    assert_eq!(world.closed(deployed), Some("capabilities out of order"));
    let fresh = world.open_client();
    world.packet(fresh, &capabilities(0));
    assert_eq!(world.closed(fresh), Some("capabilities out of order"));
    let (client, worker) = (world.client(50, 3), world.worker(60, 3, 1000));
    for link in [client, worker] {
        world.packet(link, &capabilities(0));
        assert_eq!(world.closed(link), Some("capabilities out of order"));
    }
}

#[test]
fn a_drain_is_told_to_peers_of_version_3() {
    let mut world = World::new();
    let links: Vec<_> = (1..=3)
        .flat_map(|version| {
            let number = u8::try_from(version).unwrap();
            [
                (version, world.client(50 + number, version)),
                (version, world.worker(60 + number, version, 1000)),
            ]
        })
        .collect();
    world.core.begin_drain();
    world.collect();
    for (version, link) in links {
        let told = world.next_sent(link).is_some_and(|said| wire::decode(&said) == Ok(peer::GoingAway {}));
        assert_eq!(told, version == 3);
    }
}
