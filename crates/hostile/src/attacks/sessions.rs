//! Attacks by peers with a link of their own, in the language of the application.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use wire::{client, proxy, worker};

use super::{Attack, Left, Target};
use crate::engine::MODEL;
use crate::session::{Peer, compare, connect_client, connect_worker, http_request, owner, run_query};
use crate::stage::Stage;

const CLOSES: &str = "the link ends";
const REFUSES: &str = "a refusal, the link lives";

/// An owner number of nobody else.
const CLIENT: u8 = 201;
const WORKER: u8 = 202;

fn attack<F>(name: &str, target: Target, expects: &'static str, run: F) -> Attack
where
    F: for<'a> Fn(&'a Stage) -> BoxFuture<'a, Result<()>> + Send + Sync + 'static,
{
    Attack::new(name, target, expects, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
        let attack = run(stage);
        Box::pin(async move { attack.await.map(|()| Left::Connections(1)) })
    })
}

pub(super) fn catalogue() -> Vec<Attack> {
    let mut attacks = introductions();
    attacks.extend(orders());
    attacks.extend(requests());
    attacks.extend(offers());
    attacks
}

/// First messages that are refused.
fn introductions() -> Vec<Attack> {
    let client = |name: &str, change: fn(&mut client::ConnectToProxy<'_>)| {
        attack(name, Target::Clients, CLOSES, move |stage: &Stage| -> BoxFuture<'_, Result<()>> {
            Box::pin(async move {
                let peer = Peer::connect(stage.clients).await?;
                let owner = owner(CLIENT);
                let mut query = connect_client(&owner);
                change(&mut query);
                peer.is_refused(wire::encode(&query)).await?;
                peer.ended().await
            })
        })
    };
    let worker = |name: &str, change: fn(&mut worker::Params<'_>)| {
        attack(name, Target::Workers, CLOSES, move |stage: &Stage| -> BoxFuture<'_, Result<()>> {
            Box::pin(async move {
                let peer = Peer::connect(stage.workers).await?;
                let owner = owner(WORKER);
                let mut query = connect_worker(&owner, "evil");
                change(&mut query.params);
                peer.is_refused(wire::encode(&query)).await?;
                peer.ended().await
            })
        })
    };
    vec![
        client("a client whose owner is no address", |query| {
            query.params.client_owner_address = "evil".into()
        }),
        client("a client of another network", |query| query.params.is_test = Some(false)),
        client("a client with a negative configuration", |query| query.min_config_version = -1),
        client("a client without a common version", |query| {
            query.params.proto_range =
                Some(client::ProtoRange { min_proto_version: i32::MAX, max_proto_version: i32::MIN });
        }),
        worker("a worker with a negative price", |params| params.coefficient = -1),
        worker("a worker with an endless price", |params| params.coefficient = i32::MAX),
        worker("a worker without a model", |params| params.model = "".into()),
        worker("a worker for negative requests", |params| {
            params.deployment =
                Some(worker::Deployment { is_test: true, proxy_cnt: 1, max_active_requests: i32::MIN });
        }),
        worker("a worker of no proxies", |params| {
            params.deployment =
                Some(worker::Deployment { is_test: true, proxy_cnt: 0, max_active_requests: 1 });
        }),
    ]
}

/// Messages that make no sense, or none yet.
fn orders() -> Vec<Attack> {
    let first = |name: &str, target: Target, message: fn() -> Bytes| {
        attack(name, target, CLOSES, move |stage: &Stage| -> BoxFuture<'_, Result<()>> {
            Box::pin(async move {
                let port = if target == Target::Workers { stage.workers } else { stage.clients };
                let peer = Peer::connect(port).await?;
                peer.is_refused(message()).await?;
                peer.ended().await
            })
        })
    };
    let packet = |name: &str, target: Target, message: fn() -> Bytes| {
        attack(name, target, CLOSES, move |stage: &Stage| -> BoxFuture<'_, Result<()>> {
            Box::pin(async move {
                let port = if target == Target::Workers { stage.workers } else { stage.clients };
                let peer = Peer::connect(port).await?;
                peer.send(message())?;
                peer.ended().await
            })
        })
    };
    let unknown = || Bytes::from_static(b"\x01\x02\x03\x04");
    vec![
        first("an unknown query (clients)", Target::Clients, unknown),
        first("an unknown query (workers)", Target::Workers, unknown),
        first("an empty query", Target::Clients, Bytes::new),
        first("a client that authorises first", Target::Clients, || {
            wire::encode(&client::AuthorizeWithProxyShort { data: b"" })
        }),
        first("a client's query on the workers' port", Target::Workers, || {
            wire::encode(&connect_client(&owner(CLIENT)))
        }),
        first("a worker's query on the clients' port", Target::Clients, || {
            wire::encode(&connect_worker(&owner(WORKER), "evil"))
        }),
        first("a worker that completes first", Target::Workers, || {
            wire::encode(&worker::ProxyHandshakeComplete { is_disabled: false })
        }),
        packet("a request before the handshake", Target::Clients, || {
            wire::encode(&run_query(MODEL, &http_request(b"{}"), [1; 32]))
        }),
        packet("an answer before the handshake", Target::Workers, || {
            wire::encode(&worker::NewCoefficient { new_coefficient: 1 })
        }),
        packet("a request cut short", Target::Clients, || {
            let whole = wire::encode(&run_query(MODEL, &http_request(b"{}"), [1; 32]));
            whole.slice(..whole.len() - 4)
        }),
        attack("a client that connects twice", Target::Clients, CLOSES, |stage: &Stage| {
            Box::pin(async move {
                let peer = Peer::client(stage.clients, CLIENT).await?;
                peer.is_refused(wire::encode(&connect_client(&owner(CLIENT)))).await?;
                peer.ended().await
            })
        }),
        attack("a worker that connects twice", Target::Workers, CLOSES, |stage: &Stage| {
            Box::pin(async move {
                let peer = Peer::introduced(stage.workers, WORKER, "evil").await?;
                peer.is_refused(wire::encode(&connect_worker(&owner(WORKER), "evil"))).await?;
                peer.ended().await
            })
        }),
        attack("a worker with negative balances", Target::Workers, CLOSES, |stage: &Stage| {
            Box::pin(async move {
                let peer = Peer::introduced(stage.workers, WORKER, "evil").await?;
                peer.is_refused(wire::encode(&compare(-1))).await?;
                peer.ended().await
            })
        }),
        attack("a handshake that never ends", Target::Clients, CLOSES, |stage: &Stage| {
            Box::pin(async move {
                let peer = Peer::connect(stage.clients).await?;
                peer.ask(&connect_client(&owner(CLIENT))).await?;
                peer.ended_within(Duration::from_secs(45)).await
            })
        })
        .long(),
    ]
}

/// Requests that are refused, one by one, on a link that goes on.
fn requests() -> Vec<Attack> {
    let request = |name: &str, change: fn(&mut client::RunQueryEx<'_>)| {
        attack(name, Target::Clients, REFUSES, move |stage: &Stage| -> BoxFuture<'_, Result<()>> {
            Box::pin(async move {
                let mut peer = Peer::client(stage.clients, CLIENT).await?;
                let query = http_request(b"{}");
                let mut message = run_query(MODEL, &query, [7; 32]);
                change(&mut message);
                peer.send(wire::encode(&message))?;
                let status = peer.refusal([7; 32]).await?;
                ensure!(status >= 400, "it was answered with {status}");
                peer.ask(&client::UpdatePaymentStatus {}).await.map(drop)
            })
        })
    };
    vec![
        request("a request for negative tokens", |query| query.max_tokens = -1),
        request("a request at a negative price", |query| query.max_coefficient = i32::MIN),
        request("a request without a time", |query| query.timeout = f64::NAN),
        request("a request for endless time", |query| query.timeout = f64::INFINITY),
        request("a request for negative time", |query| query.timeout = -1.0),
        request("a request with a negative configuration", |query| query.min_config_version = -1),
        request("a request for no model", |query| query.model_name = "".into()),
        request("a request that is no HTTP", |query| query.query = b"nonsense"),
        request("a request with 2^31 headers", |query| query.query = HEADERS_WITHOUT_END),
        attack("a client that refunds", Target::Clients, REFUSES, |stage: &Stage| {
            Box::pin(async move {
                let peer = Peer::client(stage.clients, CLIENT).await?;
                peer.is_refused(wire::encode(&client::RequestRefund {})).await?;
                peer.ask(&client::UpdatePaymentStatus {}).await.map(drop)
            })
        }),
        attack(
            "ten thousand lists of models, unread",
            Target::Clients,
            "the link ends or bears it",
            |stage: &Stage| {
                Box::pin(async move {
                    let peer = Peer::client(stage.clients, CLIENT).await?;
                    let asked = (0..10_000).map(|_| peer.ask(&client::GetWorkerTypesV2 {}));
                    // The 257th open query is one too many.
                    let _ended = futures_util::future::join_all(asked).await;
                    Ok(())
                })
            },
        ),
    ]
}

/// `POST / HTTP/1.1` with 2^31 headers, of which none is there.
const HEADERS_WITHOUT_END: &[u8] =
    b"\xe5\x2d\x49\x47\x04POST\0\0\0\x01/\0\0\x08HTTP/1.1\0\0\0\0\0\0\x80\0\0\0\0";

/// Workers that change what they offer.
fn offers() -> Vec<Attack> {
    let packet = |name: &str, expects: &'static str, message: fn() -> Bytes| {
        attack(name, Target::Workers, expects, move |stage: &Stage| -> BoxFuture<'_, Result<()>> {
            Box::pin(async move {
                let peer = Peer::worker(stage.workers, WORKER, "evil").await?;
                peer.send(message())?;
                if expects == CLOSES {
                    return peer.ended().await;
                }
                peer.ask(&worker::UpdatePaymentStatus {}).await.map(drop)
            })
        })
    };
    let lives = "nothing happens";
    vec![
        packet("a negative new price", CLOSES, || {
            wire::encode(&worker::NewCoefficient { new_coefficient: i32::MIN })
        }),
        packet("an endless new price", CLOSES, || {
            wire::encode(&worker::NewCoefficient { new_coefficient: i32::MAX })
        }),
        packet("a worker that is disabled -7 times", lives, || {
            wire::encode(&worker::EnabledDisabled { disabled: -7 })
        }),
        packet("an answer to an unknown request", lives, || {
            wire::encode(&proxy::QueryAnswerPartEx { request_id: [9; 32], answer: b"x", final_info: None })
        }),
        packet("an unknown message of a worker", lives, || Bytes::from_static(b"\x01\x02\x03\x04")),
        packet("a malformed message of a worker", CLOSES, || {
            let whole = wire::encode(&worker::EnabledDisabled { disabled: 1 });
            whole.slice(..whole.len() - 2)
        }),
    ]
}
