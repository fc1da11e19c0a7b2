//! The client as a program: the API, its health and its statistics on one port.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use admin::{AdminConfig, Token};
use axum::Json;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use gateway::ApiError;
use gateway::server::{Api, Inference, InferenceRequest, InferenceResponse, Model};
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transport::clock::unix_now;
use units::NanoTon;

use crate::settlement::{Asked, Purse, Stage, View};
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
    if let Some(purse) = &client.shared.purse {
        let state = Asking { purse: Arc::clone(purse), is_testnet: client.shared.config.is_testnet };
        let actions = Router::new()
            .route("/request/withdraw", post(withdraw))
            .route("/request/close", post(close))
            .with_state(state);
        pages = pages.merge(admin::guard(token, actions));
    }
    Site(Api::new(Arc::new(client.clone()), client.shared.config.server(), pages))
}

/// What the owner asks for his money through.
#[derive(Clone)]
struct Asking {
    purse: Arc<Purse>,
    is_testnet: bool,
}

/// The owner wants what is above the stakes of all client contracts.
async fn withdraw(State(asking): State<Asking>) -> Json<Value> {
    Json(asking.answers(asking.purse.withdraw(unix_now())))
}

/// The owner wants everything, from all client contracts.
async fn close(State(asking): State<Asking>) -> Json<Value> {
    Json(asking.answers(asking.purse.close(unix_now())))
}

impl Asking {
    /// One entry for each contract: whether something was ordered, or why not.
    fn answers(&self, asked: Vec<Asked>) -> Value {
        let answer = |(contract, outcome): Asked| {
            let problem = outcome.err().map(|refused| refused.to_string());
            let address = contract.to_wire_text(self.is_testnet);
            json!({ "sc_address": address, "is_ordered": problem.is_none(), "problem": problem })
        };
        json!({ "contracts": asked.into_iter().map(answer).collect::<Vec<_>>() })
    }
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

/// What every wallet counts as holding where there is no chain, as in the deployed software: 100 TON.
const PSEUDO_WALLET_NANOTONS: u64 = 100_000_000_000;

/// What is in a client contract, connected to its proxy or not.
fn contract_stats(address: String, view: &View) -> Value {
    json!({
        "sc_address": address,
        "stage": match view.stage {
            Stage::Unknown => "unknown",
            Stage::NotDeployed => "not deployed",
            Stage::Open => "open",
            Stage::Closing { .. } => "closing",
            Stage::Closed => "closed",
        },
        "balance": view.balance,
        "stake": view.stake,
        "left": view.left,
        "missing_in_wallet": view.missing,
        "failures": view.failures,
    })
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
    let contracts: HashMap<ton::Address, View> =
        shared.purse.as_ref().map(|purse| purse.views().into_iter().collect()).unwrap_or_default();
    let wallet = shared.purse.as_ref().map(|purse| purse.wallet().view());
    let (balance, open) = wallet.map_or((NanoTon::new(PSEUDO_WALLET_NANOTONS), 0), |wallet| {
        (wallet.balance.unwrap_or_default(), wallet.open)
    });
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
            "wallet_balance": balance,
            "ton_last_synced_at": shared.root_source.read_at(),
            "enabled": true,
            "version": env!("CARGO_PKG_VERSION"),
            "requests_in_flight": shared.stats.requests_in_flight(),
        },
        "stats": shared.stats.json(Instant::now().into_std()),
        "wallet": {
            "address": text(&shared.party.connecting.owner),
            "balance": balance,
            "seqno": 7,
            "pending_transactions_cnt": open,
            "active_transactions_cnt": 0,
        },
        "localconf": {
            "root_address": shared.config.root_address,
            "owner_address": shared.config.owner_address,
            "check_proxy_hash": shared.config.check_proxy_hashes,
        },
        "root_contract_config": admin::root_contract_config(&root, is_testnet),
        "proxy_connections": connections,
        "proxies": proxies,
        "contracts": contracts.iter().map(|(address, view)| contract_stats(text(address), view)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
