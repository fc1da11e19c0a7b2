//! The client against a scripted proxy on a link in memory. Time is paused: it passes only while all wait.

mod account;
mod endings;
mod proxies;
mod version3;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use gateway::ErrorKind;
use node::{RootError, SettingError};
use tokio::time::Instant;
use wire::client::{
    QueryAnswer, QueryAnswerError, QueryAnswerErrorEx, QueryAnswerPart, QueryAnswerPartError,
};
use wire::proxy::{ClientRequestPayment, SignedPayment};
use wire::{StatusCode, TokensUsed};

use super::*;
use crate::testing::{Network, Proxy, connected, final_info, first, head, part, request};

const CHAT: &str = r#"{"model":"m","messages":[]}"#;
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";

const TOKENS: TokensUsed = TokensUsed {
    prompt_tokens_used: 1,
    cached_tokens_used: 2,
    completion_tokens_used: 3,
    reasoning_tokens_used: 4,
    total_tokens_used: 10,
};

async fn client(network: &Network) -> Client {
    Client::open(network.config()).await.unwrap()
}

/// Runs a request while the proxy does what the test says.
async fn run(client: &Client, body: &str, proxy: impl AsyncFnOnce()) -> Result<Answer, ApiError> {
    let request = request(body);
    let (answer, ()) = tokio::join!(client.run(&request), proxy());
    answer
}

async fn rest(answer: &mut Answer) -> Result<String, (String, ErrorKind)> {
    let mut text = String::new();
    while let Some(bytes) = answer.next().await {
        match bytes {
            Ok(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Err(error) => return Err((text, error.kind())),
        }
    }
    Ok(text)
}

fn totals(client: &Client) -> (u64, u64, u64) {
    let totals = client.shared.accounts.all()[0].totals;
    (totals.signed.get(), totals.stored.get(), totals.used.get())
}

#[tokio::test(start_paused = true)]
async fn a_request_travels_without_the_application_and_its_answer_comes_back() {
    let network = Network::new(&[]);
    let client = client(&network).await;
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let body = r#"{"model":"m","messages":[],"timeout":10,"max_coefficient":2000,"temperature":0.70}"#;
    let mut answer = run(&client, body, async || {
        let got = proxy.next_request().await.unwrap();
        assert!(got.is_ex);
        assert_eq!((got.model.as_str(), got.max_tokens, got.max_coefficient), ("m", 4096, 2000));
        assert_eq!((got.timeout, got.config_version, got.enable_debug), (9.5, 3, Some(false)));
        assert_eq!(got.url, "/v1/chat/completions");
        assert_eq!(got.body, r#"{"model":"m","messages":[],"temperature":0.70,"max_tokens":4096}"#);
        let names: Vec<&str> = got.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Host", "Accept", "Content-Type", "Content-Length"]);
        assert_eq!(got.headers[3].1, got.body.len().to_string());
        proxy.send(&first(got.id, &head(200, JSON, b"{\"a\""), false));
        proxy.send(&part(got.id, b":1}", true));
    })
    .await
    .unwrap();
    assert_eq!((answer.status.as_u16(), answer.cost()), (200, None));
    assert_eq!(answer.headers["content-type"], JSON);
    assert_eq!(answer.headers["x-cocoon-worker-start"], "1.000000");
    assert!(
        answer.headers.contains_key("x-cocoon-client-start")
            && answer.headers.contains_key("x-cocoon-client-end")
    );
    assert!(!answer.headers.contains_key("transfer-encoding"));
    assert_eq!(rest(&mut answer).await.unwrap(), "{\"a\":1}");
    let cost = answer.cost().unwrap();
    assert_eq!((cost.tokens.get(), cost.price.get(), cost.usage.cached.get()), (200, 400, 16));
}

#[tokio::test(start_paused = true)]
async fn parts_are_handed_on_as_they_come() {
    let network = Network::new(&[]);
    let client = client(&network).await;
    let (mut proxy, _serving) = connected(&network, &client, Some(2)).await;
    let mut id = [0; 32];
    let mut answer = run(&client, r#"{"model":"m","stream":true}"#, async || {
        id = proxy.next_request().await.unwrap().id;
        proxy.send(&first(id, &head(200, EVENTS, b""), false));
    })
    .await
    .unwrap();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        proxy.send(&part(id, event.as_bytes(), false));
        assert_eq!(answer.next().await.unwrap().unwrap(), event);
    }
    proxy.send(&part(id, b"data: [DONE]\n\n", true));
    assert_eq!(rest(&mut answer).await.unwrap(), "data: [DONE]\n\n");
    assert!(answer.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn protocol_0_is_spoken_to_old_proxies() {
    let network = Network::new(&[]);
    let client = client(&network).await;
    let (mut proxy, _serving) = connected(&network, &client, None).await;
    let mut answer = run(&client, CHAT, async || {
        let got = proxy.next_request().await.unwrap();
        assert!(!got.is_ex);
        let answer = head(200, JSON, b"{\"a\"");
        let request_id = got.id;
        proxy.send(&QueryAnswer {
            answer: &answer,
            is_completed: false,
            request_id,
            request_tokens_used: TOKENS,
        });
        proxy.send(&QueryAnswerPart {
            answer: b":1}",
            is_completed: true,
            request_id,
            request_tokens_used: TOKENS,
        });
    })
    .await
    .unwrap();
    assert_eq!(rest(&mut answer).await.unwrap(), "{\"a\":1}");
    assert_eq!(answer.cost().unwrap().tokens.get(), 10);
    let (models, ()) = tokio::join!(client.models(), async {
        tokio::select! { _ = proxy.next_request() => {}, () = tokio::time::sleep(Duration::from_secs(1)) => {} }
    });
    assert_eq!(models.unwrap()[0].workers.len(), 1);
}
