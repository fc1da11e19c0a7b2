//! What a client knows of its account and itself, and its configuration.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_account_follows_payments_and_never_falls() {
    let network = Network::new(&[]);
    let client = client(&network).await;
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    assert_eq!(totals(&client), (0, 0, 0));
    let wallet = proxy.wallet.unwrap();
    let mut pay = async |signed: u64, db_tokens, max_tokens| {
        let data = network.charge(&wallet, signed);
        let signed_payment = SignedPayment::Payment { data: &data };
        proxy.send(&ClientRequestPayment {
            request_id: [1; 32],
            signed_payment,
            db_tokens,
            max_tokens,
            request_tokens: 1,
        });
        // An answer behind it shows that it was read.
        let mut answer = run(&client, CHAT, async || {
            let id = proxy.next_request().await.unwrap().id;
            proxy.send(&first(id, &head(200, JSON, b"{}"), true));
        })
        .await
        .unwrap();
        rest(&mut answer).await.unwrap();
        totals(&client)
    };
    assert_eq!(pay(100, 200, 300).await, (100, 200, 300));
    assert_eq!(pay(50, 150, 250).await, (100, 200, 300));
    assert_eq!(pay(101, 201, 301).await, (101, 201, 301));
}

#[tokio::test(start_paused = true)]
async fn the_account_is_asked_for_every_10_to_20_seconds() {
    let network = Network::new(&[]);
    let client = client(&network).await;
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    proxy.totals = (7, 8, 9);
    tokio::select! {
        _ = proxy.next_request() => panic!("no request was made"),
        () = tokio::time::sleep(Duration::from_secs(200)) => {}
    }
    assert!((10..=20).contains(&proxy.status_queries), "{}", proxy.status_queries);
    assert_eq!(totals(&client), (7, 8, 9));
}

#[tokio::test(start_paused = true)]
async fn debug_times_are_added_and_kept() {
    let network = Network::new(&[]);
    let client = client(&network).await;
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    for (content_type, body, before, after) in [
        (JSON, &b"{\"a\":1}\n"[..], "{\"a\":1,\"debug\":{", "}}\n"),
        (EVENTS, b"data: [DONE]\n\n", "data: [DONE]\n\nevent: cocoon.debug\ndata: {", "}\n\n"),
    ] {
        let asked = r#"{"model":"m","enable_debug":true,"request_guid":"g"}"#;
        let mut answer = run(&client, asked, async || {
            let got = proxy.next_request().await.unwrap();
            assert_eq!(got.enable_debug, Some(true));
            proxy.send(&first(got.id, &head(200, content_type, body), false));
            let mut last = part(got.id, b"", true);
            last.final_info.as_mut().unwrap().debug = Some(wire::client::DebugInfo {
                worker_debug: "{\"type\":\"worker_stats\"}".into(),
                proxy_debug: "{\"type\":\"proxy_stats\"}".into(),
            });
            proxy.send(&last);
        })
        .await
        .unwrap();
        let text = rest(&mut answer).await.unwrap();
        assert!(text.starts_with(before) && text.ends_with(after), "{text}");
        assert!(text.contains("\"worker\":{\"type\":\"worker_stats\"}") && text.contains("\"client\":{"));
        let kept = client.shared.debug_log.find("g").unwrap();
        assert!(text.contains(&kept));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_said() {
    let network = Network::new(&[]);
    let client = client(&network).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.missing(), ["a ready proxy (the root configuration has no further proxy)"]);
    let ((link, events), (proxy_link, proxy_events)) = transport::testing::pair();
    let shared = Arc::clone(&client.shared);
    let _serving =
        tokio::spawn(
            async move { crate::link::serve(&shared, link, events, 0, crate::testing::SOMEWHERE).await },
        );
    let mut proxy = Proxy::new(&network, proxy_link, proxy_events, Some(2));
    proxy.model = None;
    proxy.handshake().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.missing(), ["a worker with a model"]);
    proxy.model = Some(("m", 1000));
    tokio::select! {
        _ = proxy.next_request() => panic!("no request was made"),
        // A first worker is noticed soon.
        () = tokio::time::sleep(Duration::from_millis(500)) => {}
    }
    assert!(client.missing().is_empty());
}

#[tokio::test]
async fn a_configuration_that_cannot_work_starts_nothing() {
    let network = Network::new(&[]);
    let open = async |config| Client::open(config).await.err().unwrap();
    let config = Config { root_address: String::new(), ..network.config() };
    assert!(matches!(
        open(config).await,
        StartError::Setting(SettingError::Value { key: "root_address", .. })
    ));
    let config = Config { root_address: "nowhere".to_owned(), ..network.config() };
    assert!(matches!(
        open(config).await,
        StartError::Setting(SettingError::Address { key: "root_address", .. })
    ));
    let config = Config { owner_address: "nobody".to_owned(), ..network.config() };
    assert!(matches!(
        open(config).await,
        StartError::Setting(SettingError::Address { key: "owner_address", .. })
    ));
    let config = Config { root_config: "no/such/file".into(), ..network.config() };
    assert!(matches!(open(config).await, StartError::Root(RootError::Read { .. })));
    let config = Config { proxy_connections: 0, ..network.config() };
    assert!(matches!(
        open(config).await,
        StartError::Setting(SettingError::Value { key: "proxy_connections", .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn only_a_newer_root_configuration_is_taken_over() {
    let mut network = Network::new(&[]);
    let client = client(&network).await;
    let mut follow = async |version: u32, price: u64| {
        network.root.version = units::ConfigVersion::new(version);
        network.root.params.price_per_token = units::NanoTon::new(price);
        network.write_root();
        tokio::time::sleep(Duration::from_secs(61)).await;
        client.shared.root().params.price_per_token.get()
    };
    assert_eq!(follow(4, 5).await, 5);
    assert_eq!(follow(4, 6).await, 5);
    assert_eq!(follow(3, 7).await, 5);
    assert_eq!(follow(5, 8).await, 8);
}
