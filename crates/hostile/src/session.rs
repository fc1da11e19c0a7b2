//! Links with a real handshake of the application, up to where an attack begins.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use tokio::time::timeout;
use ton::Address;
use transport::{CloseReason, ConnectConfig, Link, LinkEvent, LinkEvents, QueryError};
use wire::{Encode, client, http, worker};

/// Time for answers that a good peer gives at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A link to the proxy, of a client or of a worker.
pub(crate) struct Peer {
    pub(crate) link: Link,
    pub(crate) events: LinkEvents,
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let (link, events) = transport::connect(&address.to_string(), &ConnectConfig::default()).await?;
        Ok(Self { link, events })
    }

    /// A client that may ask.
    pub(crate) async fn client(address: SocketAddr, number: u8) -> Result<Self> {
        let peer = Self::connect(address).await?;
        let owner = owner(number);
        peer.ask(&connect_client(&owner)).await?;
        peer.ask(&client::AuthorizeWithProxyShort { data: b"" }).await?;
        Ok(peer)
    }

    /// A worker that is introduced and not more.
    pub(crate) async fn introduced(address: SocketAddr, number: u8, model: &str) -> Result<Self> {
        let peer = Self::connect(address).await?;
        let owner = owner(number);
        peer.ask(&connect_worker(&owner, model)).await?;
        Ok(peer)
    }

    /// A worker that takes requests for `model`.
    pub(crate) async fn worker(address: SocketAddr, number: u8, model: &str) -> Result<Self> {
        let peer = Self::introduced(address, number, model).await?;
        peer.ask(&compare(0)).await?;
        peer.ask(&worker::ProxyHandshakeComplete { is_disabled: false }).await?;
        Ok(peer)
    }

    /// Asks; a refusal is an error.
    pub(crate) async fn ask(&self, query: &impl Encode) -> Result<Bytes> {
        self.link.query(wire::encode(query), PATIENCE).await.context("a good query failed")
    }

    /// Asks what must be refused.
    pub(crate) async fn is_refused(&self, query: Bytes) -> Result<()> {
        match self.link.query(query, PATIENCE).await {
            Err(QueryError::Refused { .. } | QueryError::Closed) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_answer) => bail!("it was answered"),
        }
    }

    /// Sends a one-way message.
    pub(crate) fn send(&self, message: Bytes) -> Result<()> {
        self.link.try_send(message).context("the link takes nothing")
    }

    /// The next one-way message.
    pub(crate) async fn next(&mut self) -> Result<Bytes> {
        match timeout(PATIENCE, self.events.next()).await.context("nothing comes")? {
            Some(LinkEvent::Packet(message)) => Ok(message),
            other => bail!("expected a message: {other:?}"),
        }
    }

    /// The proxy ends the link, within `time`; what it says before is passed over.
    pub(crate) async fn ended_within(mut self, time: Duration) -> Result<()> {
        let end = async {
            loop {
                if let Some(LinkEvent::Closed(reason)) = self.events.next().await {
                    return reason;
                }
            }
        };
        let reason = timeout(time, end).await.context("the link is still open")?;
        ensure!(!matches!(reason, CloseReason::Local(_)), "it was this side that closed: {reason}");
        Ok(())
    }

    pub(crate) async fn ended(self) -> Result<()> {
        self.ended_within(PATIENCE).await
    }

    /// The answer to a request that failed: a refusal, or an error in its place. Returns its HTTP status.
    pub(crate) async fn refusal(&mut self, request_id: [u8; 32]) -> Result<i32> {
        loop {
            let message = self.next().await?;
            match wire::decode(&message)? {
                client::FromProxy::QueryAnswerEx(answer) if answer.request_id == request_id => {
                    let response: http::Response<'_> = wire::decode(answer.answer)?;
                    return Ok(response.status_code);
                }
                client::FromProxy::QueryAnswerErrorEx(answer) if answer.request_id == request_id => {
                    return Ok(500);
                }
                _ => {}
            }
        }
    }
}

/// An owner of nothing, in the form of the network.
pub(crate) fn owner(number: u8) -> String {
    Address::new(0, [number; 32]).to_wire_text(false)
}

const VERSIONS: Option<client::ProtoRange> =
    Some(client::ProtoRange { min_proto_version: 1, max_proto_version: 2 });

pub(crate) fn connect_client(owner: &str) -> client::ConnectToProxy<'_> {
    let params =
        client::Params { client_owner_address: owner.into(), is_test: Some(true), proto_range: VERSIONS };
    client::ConnectToProxy { params, min_config_version: 1 }
}

pub(crate) fn connect_worker<'a>(owner: &'a str, model: &'a str) -> worker::ConnectToProxy<'a> {
    worker::ConnectToProxy {
        params: worker::Params {
            worker_owner_address: owner.into(),
            model: model.into(),
            coefficient: 1000,
            deployment: Some(worker::Deployment { is_test: true, proxy_cnt: 1, max_active_requests: 8 }),
            proto_range: VERSIONS,
        },
    }
}

pub(crate) fn compare(tokens: i64) -> worker::CompareBalanceWithProxy {
    worker::CompareBalanceWithProxy {
        tokens_committed_to_blockchain: tokens,
        tokens_committed_to_db: tokens,
        max_tokens: tokens,
    }
}

/// An HTTP request in TL.
pub(crate) fn http_request(body: &[u8]) -> Bytes {
    wire::encode(&http::Request {
        method: "POST".into(),
        url: "/v1/chat/completions".into(),
        http_version: "HTTP/1.1".into(),
        headers: vec![],
        payload: body,
    })
}

/// A request that every check lets pass, if a worker serves `model`.
pub(crate) fn run_query<'a>(model: &'a str, query: &'a [u8], request_id: [u8; 32]) -> client::RunQueryEx<'a> {
    client::RunQueryEx {
        model_name: model.into(),
        query,
        max_coefficient: 4000,
        max_tokens: 10,
        timeout: 15.0,
        request_id,
        min_config_version: 1,
        enable_debug: None,
    }
}
