//! The operator's HTTP port.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::peers::World;

#[tokio::test(flavor = "multi_thread")]
async fn readiness_needs_a_worker() {
    let world = World::new().await;
    assert_eq!(world.http("GET /healthz", None).await.0, 200);
    let (status, body) = world.http("GET /readyz", None).await;
    assert_eq!(status, 503);
    assert!(body.contains("no enabled worker is connected"), "{body}");
    let worker = world.worker(60).await;
    assert_eq!(world.http("GET /readyz", None).await.0, 200);
    assert!(world.proxy.missing().is_empty());
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_switches_with_the_token_only() {
    let world = World::new().await;
    let _worker = world.worker(60).await;
    let mut client = world.client(50).await;
    for refused in [None, Some("wrong")] {
        assert_eq!(world.http("POST /request/disable", refused).await.0, 401);
    }
    let token = world.token();
    assert_eq!(world.http("GET /request/disable", Some(&token)).await.0, 405);
    assert_eq!(world.http("POST /request/disable", Some(&token)).await, (200, "{\"enabled\":false}".into()));
    assert_eq!(world.http("GET /readyz", None).await.0, 503);
    client.run_query(1, 10.0).await;
    assert_eq!(client.next_answer().await.0, Some(503));
    assert_eq!(world.http("POST /request/enable", Some(&token)).await.0, 200);
    assert_eq!(world.http("GET /readyz", None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happens() {
    let world = World::new().await;
    let (mut client, mut worker) = (world.client(50).await, world.worker(60).await);
    client.run_query(1, 10.0).await;
    let request_id = worker.next_request().await;
    let (_, running) = world.http("GET /metrics", None).await;
    worker.answer_head(request_id).await;
    worker.answer_part(request_id, b"x", Some(5)).await;
    client.next_answer().await;
    client.next_answer().await;
    let (_, ended) = world.http("GET /metrics", None).await;
    for (text, line) in [
        (&running, "cocoon_proxy_requests_in_flight 1"),
        (&running, "cocoon_proxy_client_links 1"),
        (&running, "cocoon_proxy_worker_links 1"),
        (&ended, "cocoon_proxy_requests_in_flight 0"),
        (&ended, "cocoon_proxy_requests_total{outcome=\"success\"} 1"),
        (&ended, "cocoon_proxy_adjusted_tokens_total{kind=\"completion\"} 5"),
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

/// Paths of all members, with lists as if they had one element.
fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                found.insert(format!("{path}.{name}"));
                members(value, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members(item, path, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_have_the_members_of_deployed_proxies() {
    let recorded = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/vectors/reference/jsonstats-11000.json");
    let Ok(recorded) = std::fs::read_to_string(recorded) else {
        println!("skipped: the recorded statistics are not beside this checkout");
        return;
    };
    let world = World::new().await;
    let (_client, _worker) = (world.client(50).await, world.worker(60).await);
    // Registered proxies are listed in the file of a real network only.
    let (mut theirs, mut ours) = (BTreeSet::new(), BTreeSet::new());
    members(&serde_json::from_str(&recorded).unwrap(), "", &mut theirs);
    let (_, stats) = world.http("GET /jsonstats", None).await;
    members(&serde_json::from_str(&stats).unwrap(), "", &mut ours);
    theirs.retain(|path| !path.starts_with(".root_contract_config.registered_proxies."));
    let missing: Vec<_> = theirs.difference(&ours).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
