//! Links, deadlines and the shutdown.

use cocoon_proxy::{Config, StartError, start};
use ton::RootConfig;
use wire::worker;

use crate::peers::{Peer, World, config, http_exchange, owner};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_travels_piece_by_piece() {
    let world = World::new().await;
    let (mut client, mut worker) = (world.client(50).await, world.worker(60).await);
    for number in 0..3 {
        client.run_query(number, 60.0).await;
        let request_id = worker.next_request().await;
        worker.answer_head(request_id).await;
        assert_eq!(client.next_answer().await, (Some(200), vec![], false));
        worker.answer_part(request_id, b"first", None).await;
        assert_eq!(client.next_answer().await, (None, b"first".to_vec(), false));
        worker.answer_part(request_id, b"last", Some(7)).await;
        assert_eq!(client.next_answer().await, (None, b"last".to_vec(), true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_two_links() {
    let world = World::new().await;
    let (mut client, mut worker) = (world.client(50).await, world.worker(60).await);
    for number in 0..100 {
        client.run_query(number, 60.0).await;
    }
    let mut requests = Vec::new();
    for _ in 0..100 {
        requests.push(worker.next_request().await);
    }
    for request_id in &requests {
        worker.answer_head(*request_id).await;
        worker.answer_part(*request_id, b"x", Some(1)).await;
    }
    let mut ended = 0;
    while ended < 100 {
        let (_, _, is_last) = client.next_answer().await;
        ended += usize::from(is_last);
    }
    let (_, stats) = world.http("GET /jsonstats", None).await;
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats["clients"][0]["used_tokens"], 100);
    assert_eq!(stats["workers"][0]["earned_tokens"], 100);
    let totals = &stats["totals"];
    assert_eq!((&totals["client_charges"], &totals["worker_earnings"]), (&200.into(), &100.into()));
    assert_eq!(totals["proxy_fees"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_when_its_time_is_over() {
    let world = World::new().await;
    let (mut client, mut worker) = (world.client(50).await, world.worker(60).await);
    client.run_query(1, 3000.0).await;
    worker.next_request().await;
    client.run_query(2, 0.05).await;
    worker.next_request().await;
    let (status, _, is_last) = client.next_answer().await;
    assert_eq!((status, is_last), (Some(504), true), "the later request has the earlier deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_fails_its_requests_at_once() {
    let world = World::new().await;
    let (mut client, mut worker) = (world.client(50).await, world.worker(60).await);
    client.run_query(1, 3000.0).await;
    worker.next_request().await;
    drop(worker);
    assert_eq!(client.next_answer().await.0, Some(502));
    client.run_query(2, 3000.0).await;
    assert_eq!(client.next_answer().await.0, Some(503));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_of_one_client_take_no_worker_from_the_others() {
    let world = World::new().await;
    let (mut greedy, mut client) = (world.client(50).await, world.client(51).await);
    let mut worker = world.worker(60).await;
    // The worker reads nothing yet: this is more than its queue and the system's buffers hold.
    let body = vec![0; 6 << 20];
    for number in 0..10 {
        greedy.run_query_of(&body, number, 3000.0).await;
    }
    assert_eq!(greedy.next_answer().await.0, Some(503), "the request is refused, the worker stays");
    tokio::spawn(async move {
        loop {
            let request_id = worker.next_request().await;
            worker.answer_head(request_id).await;
            worker.answer_part(request_id, b"x", Some(1)).await;
        }
    });
    let mut number = 0;
    loop {
        client.run_query(number, 3000.0).await;
        match client.next_answer().await.0 {
            Some(200) => break,
            refused => assert_eq!(refused, Some(503)),
        }
        number = number.wrapping_add(1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_loses_its_link_and_nobody_else_waits() {
    let world = World::new().await;
    let (greedy, mut client) = (world.client(50).await, world.client(51).await);
    let mut worker = world.worker(60).await;
    greedy.run_query(1, 3000.0).await;
    let flooded = worker.next_request().await;
    worker.answer_head(flooded).await;
    // More than the queue for the client, its own, and the system's buffers between them hold.
    let part = vec![0; 1 << 20];
    for _ in 0..32 {
        worker.answer_part(flooded, &part, None).await;
    }
    client.run_query(2, 3000.0).await;
    let request_id = worker.next_request().await;
    worker.answer_head(request_id).await;
    worker.answer_part(request_id, b"x", Some(1)).await;
    assert_eq!(client.next_answer().await.0, Some(200));
    let mut greedy = greedy;
    while greedy.next().await.is_some() {}
    // The worker goes on and is paid for it.
    worker.answer_part(flooded, b"x", Some(9)).await;
    loop {
        let message = worker.next().await.unwrap();
        if let worker::FromProxy::WorkerRequestPayment(payment) = wire::decode(&message).unwrap()
            && payment.request_id == flooded
        {
            assert_eq!(payment.request_tokens, 9);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_costs_one_link() {
    let world = World::new().await;
    let (mut bad, mut good) = (world.client(50).await, world.client(51).await);
    let mut cut = wire::encode(&wire::worker::EnabledDisabled { disabled: 1 }).to_vec();
    let mut worker = world.worker(60).await;
    cut.truncate(6);
    worker.link.send(bytes::Bytes::from(cut)).await.unwrap();
    assert_eq!(worker.next().await, None);
    let mut request = wire::encode(&wire::client::GetWorkerTypes {}).to_vec();
    request.extend_from_slice(&[0; 4]);
    bad.link.query(request.into(), std::time::Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(bad.next().await, None);
    good.run_query(1, 10.0).await;
    assert_eq!(good.next_answer().await.0, Some(503));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_requests_finish() {
    let world = World::new().await;
    let (mut client, mut worker) = (world.client(50).await, world.worker(60).await);
    client.run_query(1, 3000.0).await;
    let request_id = worker.next_request().await;
    worker.answer_head(request_id).await;
    client.next_answer().await;
    let (clients_address, http) = (world.proxy.clients_address(), world.proxy.http_address());
    let stopped = tokio::spawn(world.proxy.shutdown());
    while !http_exchange(http, "GET /readyz", None).await.1.contains("shuts down") {}
    client.run_query(2, 3000.0).await;
    assert_eq!(client.next_answer().await.0, Some(503), "nothing new is taken");
    worker.answer_part(request_id, b"last", Some(3)).await;
    assert_eq!(client.next_answer().await, (None, b"last".to_vec(), true));
    while client.next().await.is_some() {}
    while worker.next().await.is_some() {}
    stopped.await.unwrap();
    assert!(tokio::net::TcpStream::connect(clients_address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { drain_timeout: std::time::Duration::from_millis(50), ..config(&folder) };
    let world = World { proxy: start(config).await.unwrap(), folder };
    let (mut client, mut worker) = (world.client(50).await, world.worker(60).await);
    client.run_query(1, 3000.0).await;
    worker.next_request().await;
    world.proxy.shutdown().await;
    assert_eq!(client.next_answer().await.0, Some(502), "the request is given up in words");
    while client.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn another_start_goes_on_with_the_same_books() {
    let folder = tempfile::tempdir().unwrap();
    let mut contract = None;
    for round in 0..4 {
        let proxy = start(config(&folder)).await.unwrap();
        let world = World { proxy, folder: tempfile::tempdir().unwrap() };
        let (mut client, mut worker) = (world.client(50).await, world.worker(60).await);
        let stats = async || {
            let (_, stats) = world.http("GET /jsonstats", None).await;
            serde_json::from_str::<serde_json::Value>(&stats).unwrap()
        };
        let before = stats().await;
        assert_eq!(before["clients"][0]["used_tokens"], round * 7);
        assert_eq!(before["workers"][0]["earned_tokens"], round * 7);
        assert_eq!(before["totals"]["client_charges"], round * 14);
        let address = before["smartcontract"]["address"].clone();
        assert_eq!(*contract.get_or_insert(address.clone()), address);

        client.run_query(1, 60.0).await;
        let request_id = worker.next_request().await;
        worker.answer_head(request_id).await;
        worker.answer_part(request_id, b"x", Some(7)).await;
        while !client.next_answer().await.2 {}
        assert_eq!(stats().await["clients"][0]["used_tokens"], round * 7 + 7);
        // In order or not: what was charged is written before the proxy is gone.
        if round % 2 == 0 { world.proxy.shutdown().await } else { drop(world.proxy) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |config: Config| async { start(config).await.unwrap_err() };
    let sound = config(&folder);
    let unset = Config { root_address: String::new(), ..sound.clone() };
    assert!(matches!(refused(unset).await, StartError::Config(_)));
    let missing = Config { root_config: folder.path().join("nothing"), ..sound.clone() };
    assert!(matches!(refused(missing).await, StartError::Network(_)));
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(refused(Config { state: file, ..sound.clone() }).await, StartError::State(_)));
    let taken = tokio::net::TcpListener::bind(sound.clients).await.unwrap();
    let busy = Config { clients: taken.local_addr().unwrap(), ..sound.clone() };
    assert!(matches!(refused(busy).await, StartError::Bind { purpose: "clients", .. }));
    let exposed = Config { behind_router: true, workers: "0.0.0.0:0".parse().unwrap(), ..sound.clone() };
    assert!(matches!(refused(exposed).await, StartError::Bind { purpose: "workers", .. }));

    let mut root = RootConfig::pseudo(owner(1));
    root.params.worker_fee_per_token = units::NanoTon::new(1);
    std::fs::write(&sound.root_config, root.to_pseudo_json().unwrap()).unwrap();
    assert!(matches!(refused(sound).await, StartError::Network(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_on_the_wrong_port_is_refused() {
    let world = World::new().await;
    let lost = Peer::connect(world.proxy.workers_address()).await;
    let query = wire::encode(&wire::client::GetWorkerTypes {});
    let refusal = lost.link.query(query, std::time::Duration::from_secs(60)).await.unwrap_err();
    assert!(matches!(refusal, transport::QueryError::Refused { .. }), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_holds_up_streams_and_costs_no_link() {
    const STREAMS: u8 = 100;
    let world = World::new().await;
    let (mut slow, mut client) = (world.client_of(50, 3).await, world.client_of(51, 3).await);
    let mut worker = world.worker_of(60, 3).await;
    // Together far more than the queue of a link and the system's buffers hold; the slow one reads nothing yet.
    let part = vec![0; 16 << 10];
    for number in 0..STREAMS {
        slow.run_query(number, 3000.0).await;
        let request_id = worker.next_request().await;
        worker.answer_head(request_id).await;
        for _ in 0..6 {
            worker.answer_part(request_id, &part, None).await;
        }
        worker.answer_part(request_id, b"x", Some(1)).await;
    }
    client.run_query(1, 3000.0).await;
    let request_id = worker.next_request().await;
    worker.answer_head(request_id).await;
    worker.answer_part(request_id, b"x", Some(1)).await;
    assert_eq!(client.next_answer().await.0, Some(200));
    assert_eq!(client.next_answer().await, (None, b"x".to_vec(), true));
    let (mut ended, mut len) = (0, 0);
    while ended < STREAMS {
        let (_status, body, is_last) = slow.next_answer().await;
        len += body.len();
        ended += u8::from(is_last);
    }
    assert_eq!(len, usize::from(STREAMS) * (6 * part.len() + 1));
}
