//! The client as a program: the API, its health and its statistics on one port.

mod money;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use admin::{AdminConfig, Token};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use gateway::ApiError;
use gateway::server::{Api, Inference, InferenceRequest, InferenceResponse, Model};
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use node::WalletNumbers;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::settlement::View;
use crate::{Client, Config, StartError};

/// A running client program.
pub struct Running {
    client: Client,
    http: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

/// Starts to connect, and serves the API.
///
/// # Errors
/// [`StartError`] if the configuration cannot be used or the port is taken.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let address = config.http;
    let bind = |source| StartError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let http = listener.local_addr().map_err(bind)?;
    let client = Client::open(config).await?;
    let token = Token::new(&client.shared.state.secret("admin.token")?);
    let stop = CancellationToken::new();
    let server = tokio::spawn(admin::serve(listener, site(&client, token), stop.clone()));
    Ok(Running { client, http, stop, server })
}

impl Running {
    /// Where the API listens.
    #[must_use]
    pub const fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// The client behind the API.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Takes no more requests, lets those in progress finish for a bounded time, and closes all connections.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the HTTP server ended badly");
        }
        self.client.shutdown().await;
    }
}

impl Inference for Client {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ApiError>> {
        Box::pin(self.models())
    }

    fn run(&self, request: InferenceRequest) -> BoxFuture<'_, Result<InferenceResponse, ApiError>> {
        // Not an `async` block, which would hold the request beside the future that has it.
        Box::pin(self.run_as(request.id, request.body).map(|answer| {
            let mut answer = answer?;
            let (status, headers) = (answer.status, std::mem::take(&mut answer.headers));
            Ok(InferenceResponse { status, headers, body: answer.into_body() })
        }))
    }
}

/// The API and the pages of the port.
#[derive(Clone)]
struct Site(Api<Client>);

impl admin::Answers for Site {
    fn answer(&self, request: http::Request<Incoming>) -> impl Future<Output = Response> + Send + use<> {
        self.0.answer(request)
    }
}

fn site(client: &Client, token: Token) -> Site {
    let mut registry = Registry::default();
    client.shared.stats.register(&mut registry);
    let (for_missing, for_stats) = (client.clone(), client.clone());
    let pages = admin::router(AdminConfig {
        missing: Box::new(move || for_missing.missing()),
        stats: Box::new(move || stats(&for_stats)),
        registry,
    });
    let debug_log =
        Router::new().route("/request/debuglogentry", get(debug_entry)).with_state(client.clone());
    let mut pages = pages.merge(debug_log);
    let Config { chain, is_testnet, .. } = &client.shared.config;
    if let (Some(purse), Some(chain)) = (&client.shared.purse, chain) {
        let chain = chain.endpoint.clone();
        let till = money::Till { purse: Arc::clone(purse), chain, is_testnet: *is_testnet };
        pages = pages.merge(admin::guard(token, money::actions(till)));
    }
    Site(Api::new(Arc::new(client.clone()), client.shared.config.server(), pages))
}

/// The latest debug object of a request, by the name its application gave it; `{}` when there is none.
async fn debug_entry(State(client): State<Client>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let query = query.unwrap_or_default();
    let guid = query.split('&').find_map(|pair| pair.strip_prefix("request_guid=")).map(percent_decoded);
    let entry = guid.and_then(|guid| client.shared.debug_log.find(&guid));
    ([(CONTENT_TYPE, "application/json")], entry.unwrap_or_else(|| "{}".to_owned()))
}

/// Undoes `%XX` (RFC 3986, section 2.1); anything else stays as it is.
fn percent_decoded(text: &str) -> String {
    let (mut decoded, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let mut byte = [0];
        let is_escape =
            *first == b'%' && tail.len() >= 2 && hex::decode_to_slice(&tail[..2], &mut byte).is_ok();
        decoded.push(if is_escape { byte[0] } else { *first });
        rest = if is_escape { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The body of `/jsonstats`, with the members that the deployed network has.
fn stats(client: &Client) -> Value {
    let shared = &client.shared;
    let (root, is_testnet) = (shared.root(), shared.config.is_testnet);
    let text = |address: &ton::Address| address.to_wire_text(is_testnet);
    let connections: Vec<Value> = shared
        .slots
        .all()
        .iter()
        .map(|slot| {
            json!({
                "address": slot.target.map(|target| format!("[{target}]")),
                "is_ready": slot.proxy_contract.is_some(),
                "proxy_sc_address": slot.proxy_contract.as_ref().map(text),
                "problem": slot.problem,
            })
        })
        .collect();
    let price = root.params.price_per_token;
    let glances = shared.purse.as_ref().map(|purse| purse.glances()).unwrap_or_default();
    let contracts: HashMap<ton::Address, View> =
        glances.iter().map(|glance| (glance.contract, glance.view)).collect();
    let view = shared.purse.as_ref().map(|purse| purse.wallet().view());
    let wallet = WalletNumbers::of(view.as_ref());
    let proxies: Vec<Value> = shared
        .accounts
        .all()
        .iter()
        .map(|account| {
            let contract = contracts.get(&account.contracts.client);
            let balance = contract.map_or(ton::CLIENT_BALANCE, |contract| contract.balance);
            let charged = contract.map_or(0, |contract| contract.tokens_used.get());
            // A price of zero buys without limit.
            let payed = balance.buys(price).map_or(u64::MAX, |bought| bought.get().saturating_add(charged));
            json!({
                "proxy_sc_address": text(&account.contracts.proxy),
                "proxy_public_key": account.contracts.proxy_key.to_string().to_uppercase(),
                "sc_address": text(&account.contracts.client),
                "state": contract.map_or(0, |contract| contract.state.number()),
                "tokens_used_proxy_committed_to_blockchain": account.totals.signed,
                "tokens_used_proxy_committed_to_db": account.totals.stored,
                "tokens_used_proxy_max": account.totals.used,
                "tokens_charged": charged,
                "tokens_payed": payed,
            })
        })
        .collect();
    json!({
        "status": {
            "wallet_balance": wallet.balance,
            "ton_last_synced_at": shared.root_source.read_at(),
            "enabled": true,
            "version": env!("CARGO_PKG_VERSION"),
            "requests_in_flight": shared.stats.requests_in_flight(),
        },
        "stats": shared.stats.json(Instant::now().into_std()),
        "wallet": {
            "address": text(&shared.party.connecting.owner),
            "balance": wallet.balance,
            "seqno": wallet.seqno,
            "pending_transactions_cnt": wallet.open,
            "active_transactions_cnt": 0,
            "unpromised": view.as_ref().and_then(|view| view.unpromised),
            "trouble": view.as_ref().and_then(|view| view.hold).map(|hold| hold.to_string()),
        },
        "localconf": {
            "root_address": shared.config.root_address,
            "owner_address": shared.config.owner_address,
            "check_proxy_hash": shared.config.check_proxy_hashes,
        },
        "root_contract_config": admin::root_contract_config(&root, is_testnet),
        "proxy_connections": connections,
        "proxies": proxies,
        "contracts": glances.iter().map(|glance| money::contract_stats(glance, &text)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
