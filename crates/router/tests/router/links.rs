//! Links of our own roles through two routers: the way that deployed clients and workers reach deployed proxies.

use std::net::{Ipv4Addr, SocketAddr};

use cocoon_router::Limits;
use transport::{ConnectConfig, LinkEvent, ListenConfig, ListenMode, Listener, Via, connect};

use crate::support::{Running, World, image, reverse, socks5, tells};

/// How a proxy listens behind a router, and where.
async fn behind_router() -> (Listener, SocketAddr) {
    let config = ListenConfig { mode: ListenMode::BehindRouter, ..ListenConfig::default() };
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), config).await.unwrap();
    let address = listener.local_addr();
    (listener, address)
}

/// How clients and workers connect with `router` set.
fn through(router: SocketAddr) -> ConnectConfig {
    ConnectConfig { via: Via::Socks5Router(router), ..ConnectConfig::default() }
}

#[tokio::test]
async fn a_worker_and_a_proxy_behind_routers_know_what_the_other_one_runs() {
    let world = World::new();
    let (mut proxy, address) = behind_router().await;
    let far = world.router(&[reverse(address, "tdx")], world.shows("proxy")).await;
    let near = world.router(&[socks5("tdx")], world.shows("worker")).await;
    let (target, config) = (far.ports[0].to_string(), through(near.ports[0]));
    let (worker, proxy) = tokio::join!(connect(&target, &config), proxy.accept());
    let ((worker, _worker_events), (proxy, mut proxy_events)) = (worker.unwrap(), proxy.unwrap());
    let runs = |link: &transport::Link| link.peer().attestation().map(|attestation| attestation.image);
    assert_eq!((runs(&worker), runs(&proxy)), (Some(image("proxy")), Some(image("worker"))));
    assert_eq!(worker.peer().source(), far.ports[0]);
    worker.send(bytes::Bytes::from_static(b"hello world.")).await.unwrap();
    match proxy_events.next().await {
        Some(LinkEvent::Packet(message)) => assert_eq!(&message[..], b"hello world."),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_without_a_quote_is_told_nothing_but_that_there_is_none() {
    let (mut proxy, address) = behind_router().await;
    let far = Running::plain(tells(&[reverse(address, "any")]), Limits::default()).await;
    let near = Running::plain(tells(&[socks5("any")]), Limits::default()).await;
    let (target, config) = (far.ports[0].to_string(), through(near.ports[0]));
    let (client, proxy) = tokio::join!(connect(&target, &config), proxy.accept());
    let ((client, _client_events), (proxy, _proxy_events)) = (client.unwrap(), proxy.unwrap());
    assert_eq!((client.peer().attestation(), proxy.peer().attestation()), (None, None));
    assert!(client.peer().public_key().is_some() && proxy.peer().public_key().is_some());
}

#[tokio::test]
async fn a_role_says_that_its_router_refused_the_peer() {
    let world = World::new();
    let (_proxy, address) = behind_router().await;
    let far = Running::plain(tells(&[reverse(address, "any")]), Limits::default()).await;
    let near = world.router(&[socks5("tdx")], world.shows("worker")).await;
    let refused = connect(&far.ports[0].to_string(), &through(near.ports[0])).await.unwrap_err();
    let source = std::error::Error::source(&refused).map(ToString::to_string);
    assert!(source.is_some_and(|source| source.contains("code 2")), "{refused:?}");
}
