//! What version 3 adds, against a scripted proxy on a link in memory.

use futures_util::StreamExt as _;
use transport::flow::{PART_LEN_MAX, WINDOW, part_cost};
use wire::client::Packet;
use wire::stream;

use super::*;
use crate::link;
use crate::session::SessionError;
use crate::testing::{Network, Proxy, SOMEWHERE, connected, first, head, part, request};

const CHAT: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// A client with one link of version 3.
async fn client_of<'n>(network: &'n Network) -> (Client, Proxy<'n>) {
    let client = Client::open(network.config()).await.unwrap();
    let (proxy, _serving) = connected(network, &client, Some(3)).await;
    (client, proxy)
}

async fn next_cancelled(proxy: &mut Proxy<'_>) -> [u8; 32] {
    match wire::decode(&proxy.next_packet().await).unwrap() {
        Packet::Cancel(cancel) => cancel.request_id,
        other => panic!("no cancel but {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_dropped_is_cancelled() {
    let network = Network::new(&[]);
    let (client, mut proxy) = client_of(&network).await;
    let chat = request(CHAT);
    let (answer, id) = tokio::join!(client.run(&chat), async {
        let id = proxy.next_request().await.unwrap().id;
        proxy.send(&first(id, &head(200, EVENTS, b""), false));
        id
    });
    let mut answer = answer.unwrap();
    proxy.send(&part(id, b"data: 1\n\n", false));
    answer.next().await.unwrap().unwrap();
    drop(answer);
    assert_eq!(next_cancelled(&mut proxy).await, id);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_before_its_head_or_runs_out_of_time_is_cancelled() {
    let network = Network::new(&[]);
    let (client, mut proxy) = client_of(&network).await;
    let chat = request(CHAT);
    let id = tokio::select! {
        _ = client.run(&chat) => panic!("nothing was answered"),
        got = proxy.next_request() => got.unwrap().id,
    };
    assert_eq!(next_cancelled(&mut proxy).await, id);
    let (answer, id) = tokio::join!(client.run(&chat), async {
        let id = proxy.next_request().await.unwrap().id;
        assert_eq!(next_cancelled(&mut proxy).await, id);
        id
    });
    assert_eq!(answer.err().unwrap().kind(), ErrorKind::Timeout);
    assert_ne!(id, [0; 32]);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_not_cancelled() {
    let network = Network::new(&[]);
    let (client, mut proxy) = client_of(&network).await;
    let chat = request(CHAT);
    for _ in 0..2 {
        // The second request would find a cancel of the first before it.
        let (answer, ()) = tokio::join!(client.run(&chat), async {
            let id = proxy.next_request().await.unwrap().id;
            proxy.send(&first(id, &head(200, EVENTS, b"all"), true));
        });
        assert_eq!(answer.unwrap().collect().await.unwrap().0, "all");
    }
}

#[tokio::test(start_paused = true)]
async fn peers_of_other_capabilities_speak_version_2_which_knows_no_cancel() {
    let network = Network::new(&[]);
    let client = Client::open(network.config()).await.unwrap();
    let ((link, events), (proxy_link, proxy_events)) = transport::testing::pair();
    let shared = Arc::clone(&client.shared);
    let _serving = tokio::spawn(async move { link::serve(&shared, link, events, 0, SOMEWHERE).await });
    let mut proxy = Proxy::new(&network, proxy_link, proxy_events, Some(3));
    proxy.capabilities = Some(units::Capabilities::OURS.to_wire() ^ (1 << 40));
    proxy.handshake().await;
    let chat = request(CHAT);
    for _ in 0..2 {
        tokio::select! {
            _ = client.run(&chat) => panic!("nothing was answered"),
            got = proxy.next_request() => assert!(got.is_some()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_says_3_and_never_what_it_can_do_is_given_up() {
    let network = Network::new(&[]);
    let client = Client::open(network.config()).await.unwrap();
    let ((link, events), (proxy_link, proxy_events)) = transport::testing::pair();
    let mut proxy = Proxy::new(&network, proxy_link, proxy_events, Some(3));
    proxy.capabilities = None;
    let ended = tokio::select! {
        ended = link::serve(&client.shared, link, events, 0, SOMEWHERE) => ended,
        () = async { proxy.handshake().await; std::future::pending().await } => unreachable!(),
    };
    assert!(matches!(ended, link::Ended::Session(SessionError::NoCapabilities)), "{ended:?}");
}

/// An answer whose head has come, and whose window is used up by parts that nobody has read.
async fn unread<'n>(client: &Client, proxy: &mut Proxy<'n>) -> ([u8; 32], Answer, u32) {
    let chat = request(CHAT);
    let answer_head = head(200, EVENTS, b"");
    let (answer, id) = tokio::join!(client.run(&chat), async {
        let id = proxy.next_request().await.unwrap().id;
        proxy.send(&first(id, &answer_head, false));
        id
    });
    let count = (WINDOW - part_cost(answer_head.len())) / part_cost(PART_LEN_MAX);
    for _ in 0..count {
        proxy.send(&part(id, &[b'x'; PART_LEN_MAX], false));
    }
    (id, answer.unwrap(), count)
}

#[tokio::test(start_paused = true)]
async fn the_proxy_may_send_more_once_half_of_a_window_was_read() {
    let network = Network::new(&[]);
    let (client, mut proxy) = client_of(&network).await;
    let (id, mut answer, count) = unread(&client, &mut proxy).await;
    for _ in 0..count {
        answer.next().await.unwrap().unwrap();
    }
    let Packet::Credit(credit) = wire::decode(&proxy.next_packet().await).unwrap() else {
        panic!("no credit")
    };
    assert_eq!(credit.request_id, id);
    assert!(credit.len.cast_unsigned() >= WINDOW / 2);
    // What was let may be sent.
    for _ in 0..credit.len.cast_unsigned() / part_cost(PART_LEN_MAX) - 1 {
        proxy.send(&part(id, &[b'x'; PART_LEN_MAX], false));
    }
    proxy.send(&part(id, b"end", true));
    let mut last = bytes::Bytes::new();
    while let Some(bytes) = answer.next().await {
        last = bytes.unwrap();
    }
    assert_eq!(last, "end");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_sends_more_than_it_was_let_loses_the_request_and_not_the_link() {
    let network = Network::new(&[]);
    let (client, mut proxy) = client_of(&network).await;
    let (id, mut answer, _count) = unread(&client, &mut proxy).await;
    proxy.send(&part(id, &[b'x'; PART_LEN_MAX], false));
    assert_eq!(next_cancelled(&mut proxy).await, id);
    let error = loop {
        match answer.next().await.expect("the end is an error") {
            Ok(_waiting) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::PeerMisbehaved);
    let chat = request(CHAT);
    let (answer, ()) = tokio::join!(client.run(&chat), async {
        // The credit for what was read of the first answer went before.
        let id = loop {
            if let Packet::RunQueryEx(run) = wire::decode(&proxy.next_packet().await).unwrap() {
                break run.request_id;
            }
        };
        proxy.send(&first(id, &head(200, EVENTS, b"all"), true));
    });
    assert_eq!(answer.unwrap().collect().await.unwrap().0, "all");
}

#[tokio::test(start_paused = true)]
async fn short_answers_need_no_credit() {
    let network = Network::new(&[]);
    let (client, mut proxy) = client_of(&network).await;
    let chat = request(CHAT);
    for _ in 0..2 {
        let (answer, ()) = tokio::join!(client.run(&chat), async {
            // A credit would stand before the second request.
            let id = proxy.next_request().await.unwrap().id;
            proxy.send(&first(id, &head(200, EVENTS, b""), false));
            for _ in 0..64 {
                proxy.send(&part(id, &[b'x'; 250], false));
            }
            proxy.send(&part(id, b"", true));
        });
        assert_eq!(answer.unwrap().collect().await.unwrap().0.len(), 64 * 250);
    }
}

fn long_chat() -> String {
    format!(r#"{{"model":"m","messages":[],"stream":true,"user":"{}"}}"#, "x".repeat(200_000))
}

/// The first message of a long request: its name, the length of its query, and what has come of that.
async fn next_begin(proxy: &mut Proxy<'_>) -> ([u8; 32], usize, Vec<u8>) {
    match wire::decode(&proxy.next_packet().await).unwrap() {
        Packet::Begin(begin) => {
            let run: wire::client::RunQueryEx<'_> = wire::decode(begin.run).unwrap();
            (run.request_id, usize::try_from(begin.query_len).unwrap(), run.query.to_vec())
        }
        other => panic!("no beginning but {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_query_leaves_in_parts_as_the_proxy_has_room_and_others_pass_between() {
    let network = Network::new(&[]);
    let (client, mut proxy) = client_of(&network).await;
    let (long, small) = (request(&long_chat()), request(CHAT));
    let (first_answer, second_answer, ()) = tokio::join!(
        client.run(&long),
        async {
            // Behind the first messages of the long one.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            client.run(&small).await
        },
        async {
            let (id, query_len, mut query) = next_begin(&mut proxy).await;
            let mut cost = part_cost(query.len());
            while cost + part_cost(PART_LEN_MAX) <= WINDOW {
                let packet = proxy.next_packet().await;
                let Packet::BodyPart(part) = wire::decode(&packet).unwrap() else { panic!("no part") };
                assert!(part.data.len() <= PART_LEN_MAX && !part.is_last);
                query.extend_from_slice(part.data);
                cost += part_cost(part.data.len());
            }
            // The window is used up, so the next message is the other request.
            let small_id = proxy.next_request().await.unwrap().id;
            assert_ne!(small_id, id);
            proxy.send(&stream::Credit { request_id: id, len: cost.cast_signed() });
            loop {
                let packet = proxy.next_packet().await;
                let Packet::BodyPart(part) = wire::decode(&packet).unwrap() else { panic!("no part") };
                query.extend_from_slice(part.data);
                if part.is_last {
                    break;
                }
            }
            assert_eq!(query.len(), query_len);
            let read: wire::http::Request<'_> = wire::decode(&query).unwrap();
            assert!(read.payload.len() > 200_000);
            for id in [id, small_id] {
                proxy.send(&first(id, &head(200, EVENTS, b"all"), true));
            }
        },
    );
    for answer in [first_answer, second_answer] {
        assert_eq!(answer.unwrap().collect().await.unwrap().0, "all");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_a_query_that_is_still_leaving() {
    let network = Network::new(&[]);
    let (client, mut proxy) = client_of(&network).await;
    let long = request(&long_chat());
    let (answer, ()) = tokio::join!(client.run(&long), async {
        let (id, ..) = next_begin(&mut proxy).await;
        proxy.send(&first(id, &head(503, JSON, b"{}"), true));
    });
    assert_eq!(answer.unwrap().status.as_u16(), 503);
    // What follows are parts of the one window, and no cancel of what has ended.
    let chat = request(CHAT);
    let (answer, ()) = tokio::join!(client.run(&chat), async {
        let id = loop {
            match wire::decode(&proxy.next_packet().await).unwrap() {
                Packet::BodyPart(_) => {}
                Packet::RunQueryEx(run) => break run.request_id,
                other => panic!("unexpected {other:?}"),
            }
        };
        proxy.send(&first(id, &head(200, EVENTS, b"all"), true));
    });
    assert_eq!(answer.unwrap().collect().await.unwrap().0, "all");
}

#[tokio::test(start_paused = true)]
async fn senseless_credit_for_a_query_ends_it_alone() {
    let network = Network::new(&[]);
    let (client, mut proxy) = client_of(&network).await;
    let long = request(&long_chat());
    for len in [0, -1, i32::MAX] {
        let (answer, ()) = tokio::join!(client.run(&long), async {
            let (request_id, ..) = loop {
                let packet = proxy.next_packet().await;
                if let Packet::Begin(begin) = wire::decode(&packet).unwrap() {
                    let run: wire::client::RunQueryEx<'_> = wire::decode(begin.run).unwrap();
                    break (run.request_id, ());
                }
            };
            proxy.send(&stream::Credit { request_id, len });
        });
        assert_eq!(answer.err().unwrap().kind(), ErrorKind::PeerMisbehaved, "{len}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_goes_away_gets_no_more_requests_and_finishes_those_that_run() {
    let network = Network::new(&[]);
    let client = Client::open(network.config()).await.unwrap();
    let (mut leaving, serving) = connected(&network, &client, Some(3)).await;
    let chat = request(CHAT);
    let (answer, id) = tokio::join!(client.run(&chat), async {
        let id = leaving.next_request().await.unwrap().id;
        leaving.send(&first(id, &head(200, EVENTS, b""), false));
        id
    });
    let mut answer = answer.unwrap();
    leaving.send(&wire::peer::GoingAway {});
    let link::Ended::Leaves(lingering) = serving.await.unwrap() else { panic!("it is no end like others") };
    assert_eq!(client.run(&chat).await.err().unwrap().kind(), ErrorKind::ProxyUnavailable);
    let lingering = tokio::spawn(lingering.finish(Arc::clone(&client.shared)));
    leaving.send(&part(id, b"all", true));
    assert_eq!(answer.next().await.unwrap().unwrap(), "all");
    assert!(answer.next().await.is_none());
    lingering.await.unwrap();
    assert!(leaving.next_request().await.is_none(), "the link has closed");
}
