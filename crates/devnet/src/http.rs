//! HTTP API v2, as toncenter's servers speak it: what `@ton/ton`, blueprint and wallets use of it.
//!
//! Every method answers under its own path, with parameters in the query (GET) or in a JSON object (POST), and under
//! `/api/v2/jsonRPC`. Answers are `{"ok":true,"result":…}` or `{"ok":false,"error":…,"code":…}` with that status.

mod accounts;
mod blocks;
mod params;
mod send;
mod transactions;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use units::NanoTon;

use self::params::Params;
use crate::node::Node;

/// Bytes of a request's body: an external message as base64 in JSON, with room to spare.
const BODY_LEN_MAX: usize = 256 * 1024;
/// How long a body may take.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// What the faucet gives to whoever does not say.
const GIFT: NanoTon = NanoTon::new(10_000_000_000);

/// A request that is not answered with a result.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    /// The caller asked for what does not exist or cannot be understood.
    fn unprocessable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, message: message.into() }
    }

    /// The chain refused: servers of this API say so with 500.
    fn refused(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message }
    }
}

/// Malformed cells of the chain's own: a bug, but not one to die of.
impl From<tycho_types::error::Error> for ApiError {
    fn from(error: tycho_types::error::Error) -> Self {
        Self::refused(&error)
    }
}

type Answer = Result<Value, ApiError>;

/// The routes of HTTP API v2.
pub fn router(node: Node) -> Router {
    Router::new()
        .route("/api/v2/jsonRPC", post(json_rpc))
        .route("/api/v2/{method}", get(by_path).post(by_path))
        .with_state(node)
}

/// What only a devnet has: `POST /faucet` with `address` and perhaps `nanotons`, and `POST /travel` with `seconds`. Not for web
/// pages: browsers send some requests of any page to any port of the machine.
pub fn control_router(node: Node) -> Router {
    let routes = Router::new().route("/faucet", post(faucet)).route("/travel", post(travel));
    routes.layer(from_fn(refuse_web_pages)).with_state(node)
}

async fn refuse_web_pages(request: Request, next: Next) -> Response {
    if request.headers().contains_key(ORIGIN) {
        let message = "web pages may not do that: call from a program".to_owned();
        return respond(Err(ApiError { status: StatusCode::FORBIDDEN, message }), Map::new());
    }
    next.run(request).await
}

async fn by_path(State(node): State<Node>, Path(method): Path<String>, request: Request) -> Response {
    let answer = match read_params(request).await {
        Ok(params) => call(node, method, params).await,
        Err(error) => Err(error),
    };
    respond(answer, Map::new())
}

async fn json_rpc(State(node): State<Node>, request: Request) -> Response {
    let mut envelope = Map::new();
    envelope.insert("jsonrpc".into(), "2.0".into());
    let answer = async {
        let mut body = object(&read_body(request).await?)?;
        let id = body.remove("id").unwrap_or_default();
        envelope.insert("id".into(), id);
        let Some(Value::String(method)) = body.remove("method") else {
            return Err(ApiError::unprocessable("the request names no method"));
        };
        let params = match body.remove("params") {
            Some(Value::Object(params)) => params,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(ApiError::unprocessable("params must be an object")),
        };
        call(node, method, Params::new(params)).await
    };
    let answer = answer.await;
    respond(answer, envelope)
}

async fn faucet(State(node): State<Node>, request: Request) -> Response {
    let answer = async {
        let params = read_params(request).await?;
        let to = params.address("address")?;
        let amount = params.number("nanotons")?.map_or(GIFT, NanoTon::new);
        let hash =
            blocking(move || node.give(&to, amount)).await?.map_err(|error| ApiError::refused(&error))?;
        Ok(json!({ "hash": params::base64(hash.as_bytes()) }))
    };
    respond(answer.await, Map::new())
}

async fn travel(State(node): State<Node>, request: Request) -> Response {
    let answer = async {
        let seconds: u32 = read_params(request).await?.required("seconds")?;
        blocking(move || node.travel(Duration::from_secs(u64::from(seconds)))).await?;
        Ok(json!({ "@type": "ok" }))
    };
    respond(answer.await, Map::new())
}

/// The one table of methods.
async fn call(node: Node, method: String, params: Params) -> Answer {
    blocking(move || match method.as_str() {
        "getAddressInformation" => accounts::information(&node, &params),
        "getExtendedAddressInformation" => accounts::extended_information(&node, &params),
        "getWalletInformation" => accounts::wallet_information(&node, &params),
        "getAddressBalance" => accounts::balance(&node, &params),
        "getAddressState" => accounts::state(&node, &params),
        "detectAddress" => accounts::detect(&params),
        "packAddress" => accounts::pack(&params),
        "unpackAddress" => accounts::unpack(&params),
        "getMasterchainInfo" => Ok(blocks::masterchain_info(&node)),
        "getConsensusBlock" => Ok(blocks::consensus_block(&node)),
        "lookupBlock" => blocks::lookup(&node, &params),
        "shards" | "getShards" => blocks::shards(&node, &params),
        "getBlockHeader" => blocks::header(&node, &params),
        "getBlockTransactions" => blocks::transactions(&node, &params),
        "getConfigParam" => blocks::config_param(&node, &params),
        "getConfigAll" => Ok(blocks::config_all(&node)),
        "getTransactions" => transactions::list(&node, &params),
        "tryLocateTx" | "tryLocateResultTx" => transactions::locate_result(&node, &params),
        "tryLocateSourceTx" => transactions::locate_source(&node, &params),
        "sendBoc" => send::boc(&node, &params),
        "sendBocReturnHash" => send::boc_return_hash(&node, &params),
        "estimateFee" => send::estimate(&node, &params),
        "runGetMethod" => send::run_get_method(&node, &params),
        _ => Err(ApiError {
            status: StatusCode::NOT_FOUND,
            message: format!("there is no method {:?} here", method.chars().take(80).collect::<String>()),
        }),
    })
    .await?
}

/// Runs what may take milliseconds where it delays no other task.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError { status: StatusCode::INTERNAL_SERVER_ERROR, message: error.to_string() })
}

async fn read_params(request: Request) -> Result<Params, ApiError> {
    if request.method() == Method::GET {
        return Ok(Params::from_query(request.uri().query().unwrap_or_default()));
    }
    let mut params = Params::from_query(request.uri().query().unwrap_or_default());
    let body = read_body(request).await?;
    if !body.is_empty() {
        params.extend(object(&body)?);
    }
    Ok(params)
}

async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(BODY_TIME_MAX, to_bytes(request.into_body(), BODY_LEN_MAX));
    match read.await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_cut_or_long)) => Err(ApiError {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            message: format!("a body may have {BODY_LEN_MAX} bytes"),
        }),
        Err(_late) => Err(ApiError {
            status: StatusCode::REQUEST_TIMEOUT,
            message: format!("a body must come within {} s", BODY_TIME_MAX.as_secs()),
        }),
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::unprocessable(format!("no JSON object: {error}")))
}

fn respond(answer: Answer, mut envelope: Map<String, Value>) -> Response {
    let status = match answer {
        Ok(result) => {
            envelope.insert("ok".into(), true.into());
            envelope.insert("result".into(), result);
            StatusCode::OK
        }
        Err(ApiError { status, message }) => {
            envelope.insert("ok".into(), false.into());
            envelope.insert("error".into(), message.into());
            envelope.insert("code".into(), status.as_u16().into());
            status
        }
    };
    let mut response = Response::new(Body::from(Value::Object(envelope).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
