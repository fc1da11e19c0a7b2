//! Links between two of our own ends.

use std::sync::Arc;
use std::time::Duration;

use attest::{Measurements, TdxMeasurements};
use bytes::Bytes;
use cocoon_transport::identity::IdentitySource;
use cocoon_transport::peer_header::PeerHeader;
use cocoon_transport::{
    CloseReason, ConnectConfig, ConnectError, LinkEvent, LinkEvents, ListenConfig, ListenMode, Listener,
    Phase, QueryError, SendError, Via, connect,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use units::PublicKey;
use wire::StatusCode;
use wire::frame::MESSAGE_LEN_MAX;

use crate::support::{LOCAL, LONG, identity, listen, packet, shown_as, tls_config, tls_pair};

#[tokio::test]
async fn both_ends_know_each_others_keys() {
    let (server_identity, client_identity) = (identity(), identity());
    let (server_key, client_key) = (server_identity.public_key(), client_identity.public_key());
    let mode = ListenMode::Tls { identity: server_identity.into(), appraiser: None, pow_difficulty: 0 };
    let (mut listener, address) = listen(ListenConfig { mode, ..ListenConfig::default() }).await;
    let config = shown_as(client_identity);
    let (client, server) = tokio::join!(connect(&address, &config), listener.accept());
    let ((client, mut client_events), (server, mut server_events)) = (client.unwrap(), server.unwrap());

    assert_eq!(client.peer().public_key(), Some(server_key));
    assert_eq!(client.peer().source(), listener.local_addr());
    assert_eq!(client.peer().attestation(), None);
    assert_eq!(server.peer().public_key(), Some(client_key));
    assert!(server.peer().source().ip().is_loopback());
    assert_ne!(client.id(), server.id());
    // What one says about its connection, the other can check.
    let exported = client.peer().tls_exporter();
    assert!(exported.is_some());
    assert_eq!(server.peer().tls_exporter(), exported);
    let (again, accepted) = tokio::join!(connect(&address, &config), listener.accept());
    let ((again, _), (accepted, _)) = (again.unwrap(), accepted.unwrap());
    assert_ne!(again.peer().tls_exporter(), exported);
    assert_eq!(again.peer().tls_exporter(), accepted.peer().tls_exporter());

    client.try_send(Bytes::from_static(b"to the server")).unwrap();
    server.send(Bytes::from_static(b"to the client")).await.unwrap();
    assert_eq!(packet(&mut server_events).await, "to the server");
    assert_eq!(packet(&mut client_events).await, "to the client");
}

#[tokio::test]
async fn work_is_demanded_and_done() {
    let (mut listener, address) = listen(tls_config(12)).await;
    let config = ConnectConfig::default();
    let (client, server) = tokio::join!(connect(&address, &config), listener.accept());
    assert!(client.is_ok() && server.is_some());
}

#[tokio::test]
async fn more_work_than_agreed_is_refused() {
    let (_listener, address) = listen(tls_config(9)).await;
    let config = ConnectConfig { pow_difficulty_max: 8, ..ConnectConfig::default() };
    let error = connect(&address, &config).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "the peer asks for 9 bits of work, at most 8 are accepted");
}

#[tokio::test]
async fn giving_up_stops_the_search_for_a_nonce() {
    let (_listener, address) = listen(tls_config(64)).await;
    let mut config = ConnectConfig { pow_difficulty_max: 64, ..ConnectConfig::default() };
    config.deadlines.proof_of_work = Duration::from_millis(50);
    let error = connect(&address, &config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Deadline { phase: Phase::ProofOfWork, .. }), "{error}");
    // The test would not end if the search went on: a runtime waits for its blocking threads.
}

#[tokio::test]
async fn queries_end_in_every_way() {
    let ((client, _client_events), (_server, mut events)) = tls_pair().await;
    let server = tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Some(LinkEvent::Query(query)) = events.next().await {
            match query.message.as_ref() {
                b"answer" => query.responder.answer(Bytes::from_static(b"answered")),
                b"refuse" => query.responder.refuse(StatusCode::NOT_READY, "later"),
                b"drop" => drop(query),
                b"close" => return unanswered,
                _ => unanswered.push(query),
            }
        }
        panic!("the link ended early");
    });
    let ask = |message: &'static str, timeout| client.query(Bytes::from_static(message.as_bytes()), timeout);

    assert_eq!(ask("answer", LONG).await, Ok(Bytes::from_static(b"answered")));
    let refused = QueryError::Refused { code: StatusCode::NOT_READY, message: "later".into() };
    assert_eq!(ask("refuse", LONG).await, Err(refused));
    match ask("drop", LONG).await {
        Err(QueryError::Refused { code, .. }) => assert_eq!(code, StatusCode::CANCELLED),
        other => panic!("{other:?}"),
    }
    // The clock moves only once nothing else does: the query has left by then.
    tokio::time::pause();
    assert_eq!(ask("keep", Duration::from_millis(20)).await, Err(QueryError::Timeout));
    tokio::time::resume();
    // The task ends and drops its events: the link closes, and open queries do not wait for their time.
    let (kept, _dropped) = tokio::join!(ask("keep", LONG), ask("close", LONG));
    assert_eq!(kept, Err(QueryError::Closed));
    assert_eq!(server.await.unwrap().len(), 2);
    assert_eq!(ask("answer", LONG).await, Err(QueryError::Closed));
}

#[tokio::test]
async fn closing_delivers_what_was_queued_and_ends_both_ends() {
    let ((client, mut client_events), (server, mut server_events)) = tls_pair().await;
    let open = tokio::spawn({
        let client = client.clone();
        async move { client.query(Bytes::from_static(b"open"), LONG).await }
    });
    let Some(LinkEvent::Query(question)) = server_events.next().await else { panic!("no query") };
    for index in 0..1000u32 {
        server.try_send(Bytes::copy_from_slice(&index.to_le_bytes())).unwrap();
    }
    server.close("enough");
    question.responder.answer(Bytes::from_static(b"too late"));
    assert_eq!(server.try_send(Bytes::new()), Err(SendError::Closed));
    assert!(server.is_closed());

    for index in 0..1000u32 {
        assert_eq!(packet(&mut client_events).await, index.to_le_bytes().as_slice());
    }
    assert_eq!(closed(&mut client_events).await, CloseReason::Peer);
    assert_eq!(open.await.unwrap(), Err(QueryError::Closed));
    assert_eq!(closed(&mut server_events).await, CloseReason::Local("enough"));
    assert!(client_events.next().await.is_none() && server_events.next().await.is_none());
    assert_eq!(client.send(Bytes::new()).await, Err(SendError::Closed));
}

#[tokio::test]
async fn an_answer_given_before_closing_arrives() {
    let ((client, _client_events), (server, mut server_events)) = tls_pair().await;
    let server = tokio::spawn(async move {
        let Some(LinkEvent::Query(query)) = server_events.next().await else { panic!("no query") };
        query.responder.refuse(StatusCode::NOT_READY, "not now");
        server.close("refused");
        closed(&mut server_events).await
    });
    let refused = client.query(Bytes::from_static(b"?"), LONG).await;
    assert!(matches!(refused, Err(QueryError::Refused { .. })), "{refused:?}");
    assert_eq!(server.await.unwrap(), CloseReason::Local("refused"));
}

async fn closed(events: &mut LinkEvents) -> CloseReason {
    match events.next().await {
        Some(LinkEvent::Closed(reason)) => reason,
        other => panic!("expected the end: {other:?}"),
    }
}

#[tokio::test]
async fn messages_above_the_limit_are_refused_to_the_caller() {
    let ((client, _client_events), (server, mut server_events)) = tls_pair().await;
    server.handshake_complete();
    let too_large = Bytes::from(vec![7; MESSAGE_LEN_MAX + 1]);
    let len = too_large.len();
    assert_eq!(client.try_send(too_large.clone()), Err(SendError::TooLarge { len }));
    assert_eq!(client.send(too_large.clone()).await, Err(SendError::TooLarge { len }));
    assert_eq!(client.query(too_large.clone(), LONG).await, Err(QueryError::TooLarge { len }));
    client.try_send(too_large.slice(1..)).unwrap();
    assert_eq!(packet(&mut server_events).await, too_large.slice(1..));
}

#[tokio::test]
async fn a_link_outlives_its_listener() {
    let (mut listener, address) = listen(tls_config(0)).await;
    let config = ConnectConfig::default();
    let (client, server) = tokio::join!(connect(&address, &config), listener.accept());
    let ((client, _client_events), (_server, mut events)) = (client.unwrap(), server.unwrap());
    drop(listener);
    client.try_send(Bytes::from_static(b"still here")).unwrap();
    assert_eq!(packet(&mut events).await, "still here");
}

#[tokio::test]
async fn a_dropped_listener_accepts_nobody() {
    let (listener, address) = listen(tls_config(0)).await;
    drop(listener);
    // The system may still take the connection before the task has noticed; it is reset then.
    let error = connect(&address, &ConnectConfig::default()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Io { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_links_carry_many_messages_both_ways() {
    const LINKS: usize = 20;
    const MESSAGES: u32 = 500;
    let (mut listener, address) = listen(tls_config(0)).await;
    let server = tokio::spawn(async move {
        for _ in 0..LINKS {
            let (link, mut events) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while let Some(LinkEvent::Packet(message)) = events.next().await {
                    link.send(message).await.unwrap();
                }
            });
        }
    });
    let config = Arc::new(ConnectConfig::default());
    let clients = (0..LINKS).map(|client| {
        let (address, config) = (address.clone(), config.clone());
        tokio::spawn(async move {
            let (link, mut events) = connect(&address, &config).await.unwrap();
            let message = move |index: u32| {
                let len = (index as usize * 7919 + client) % 2000;
                Bytes::from([&index.to_le_bytes()[..], &vec![0; len]].concat())
            };
            let sender = tokio::spawn(async move {
                for index in 0..MESSAGES {
                    link.send(message(index)).await.unwrap();
                }
                link
            });
            for index in 0..MESSAGES {
                assert_eq!(packet(&mut events).await, message(index));
            }
            sender.await.unwrap();
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    server.await.unwrap();
}

#[tokio::test]
async fn links_above_the_limit_are_closed_and_room_is_made_when_one_ends() {
    let (mut listener, address) = listen(ListenConfig { links_max: 1, ..tls_config(0) }).await;
    let config = ConnectConfig::default();
    let (first, accepted) = tokio::join!(connect(&address, &config), listener.accept());
    let (first, accepted) = (first.unwrap(), accepted.unwrap());
    let refused = connect(&address, &config).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Io { phase: Phase::ProofOfWork, .. }), "{refused}");

    drop((first, accepted));
    // Both ends say goodbye first; until then the place is taken.
    while connect(&address, &config).await.is_err() {
        tokio::task::yield_now().await;
    }
}

fn behind_router() -> ListenConfig {
    ListenConfig { mode: ListenMode::BehindRouter, ..ListenConfig::default() }
}

fn header(attestation: Option<Measurements>, source: &str, destination: &str) -> PeerHeader {
    PeerHeader {
        attestation,
        collateral_root_hash: [0; 48],
        public_key: PublicKey::new([5; 32]),
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// Does for one connection what the deployed router does in its SOCKS5 mode, without TLS between the two hops: the
/// target is a listener behind a router too.
async fn route(router: TcpListener, to_application: PeerHeader, to_target: PeerHeader) {
    let (mut application, _) = router.accept().await.unwrap();
    let mut greeting = [0; 3];
    application.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, [5, 1, 0]);
    application.write_all(&[5, 0]).await.unwrap();
    let mut request = [0; 10];
    application.read_exact(&mut request).await.unwrap();
    let [5, 1, 0, 1, a, b, c, d, port_high, port_low] = request else { panic!("{request:?}") };
    application.write_all(&[5, 0, 0, 1, 1, 0, 0, 127, 0, 0]).await.unwrap();
    let port = u16::from_be_bytes([port_high, port_low]);
    let mut target = TcpStream::connect((std::net::Ipv4Addr::new(a, b, c, d), port)).await.unwrap();
    target.write_all(&to_target.encode()).await.unwrap();
    application.write_all(&to_application.encode()).await.unwrap();
    // Either end may close first, and what is then lost was not wanted any more.
    let _ended = copy_bidirectional(&mut application, &mut target).await;
}

#[tokio::test]
async fn routers_on_both_sides_report_the_peers() {
    let measured = TdxMeasurements { registers: [[9; 48]; 8], report_data: [1; 64] };
    let attestation = Measurements::Tdx(Box::new(measured));
    let image = attestation.image_hash();

    let (mut listener, address) = listen(behind_router()).await;
    let router = TcpListener::bind(LOCAL).await.unwrap();
    let via = Via::Socks5Router(router.local_addr().unwrap());
    let to_application = header(Some(attestation), "127.0.0.1:1", &address);
    let to_target = header(None, "192.0.2.7:4321", &address);
    tokio::spawn(route(router, to_application, to_target));

    let config = ConnectConfig { via, ..ConnectConfig::default() };
    let (client, server) = tokio::join!(connect(&address, &config), listener.accept());
    let ((client, mut client_events), (server, mut server_events)) = (client.unwrap(), server.unwrap());
    assert_eq!(client.peer().attestation().map(|shown| shown.image), Some(image));
    assert_eq!(client.peer().public_key(), Some(PublicKey::new([5; 32])));
    assert_eq!(client.peer().source(), listener.local_addr());
    assert_eq!(server.peer().attestation(), None);
    assert_eq!(server.peer().source().to_string(), "192.0.2.7:4321");

    client.try_send(Bytes::from_static(b"ping")).unwrap();
    assert_eq!(packet(&mut server_events).await, "ping");
    server.try_send(Bytes::from_static(b"pong")).unwrap();
    assert_eq!(packet(&mut client_events).await, "pong");
}

#[tokio::test]
async fn only_this_host_may_claim_to_be_a_router() {
    let error = Listener::bind("0.0.0.0:0".parse().unwrap(), behind_router()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(Listener::bind("0.0.0.0:0".parse().unwrap(), tls_config(0)).await.is_ok());
}

#[tokio::test]
async fn targets_without_an_address_are_named() {
    for target in ["", "127.0.0.1", "127.0.0.1:port", "[::1]:70000"] {
        let error = connect(target, &ConnectConfig::default()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Target { .. }), "{target:?}: {error:?}");
    }
    // A router takes IPv4 only.
    let via = Via::Socks5Router("127.0.0.1:9".parse().unwrap());
    let config = ConnectConfig { via, ..ConnectConfig::default() };
    let error = connect("[::1]:80", &config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Target { .. }), "{error:?}");
}

#[tokio::test]
async fn generated_identities_are_shared_by_links_of_one_source() {
    let (mut listener, address) = listen(tls_config(0)).await;
    let identity = IdentitySource::generated();
    let config = ConnectConfig { via: Via::Direct { identity, appraiser: None }, ..ConnectConfig::default() };
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (client, server) = tokio::join!(connect(&address, &config), listener.accept());
        let (_client, (link, _events)) = (client.unwrap(), server.unwrap());
        keys.push(link.peer().public_key());
    }
    assert_eq!(keys[0], keys[1]);
}
