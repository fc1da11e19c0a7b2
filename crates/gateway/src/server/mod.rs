//! The API over HTTP: routes, limits, and answers that end as they should.

mod answer;
mod body;
mod models;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, get, on};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, ready};
use futures_util::stream::BoxStream;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, SET_COOKIE, VARY,
};
use http::{Method, StatusCode};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service as _;
use units::RequestId;

use crate::{ApiError, ErrorKind, RequestBody, Route};
use body::{Bodies, Held};
use models::Models;

/// Carries the request's id on every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// By this header an application names what its requests should be near, as by the member `prompt_cache_key`: requests
/// of one value run at the same worker while it has room. The value does not leave the client.
pub const AFFINITY: HeaderName = HeaderName::from_static("x-cocoon-affinity");

/// How the API is served.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Largest accepted body in bytes. Default: 15 MiB; a body must fit one frame of 16 MiB with its envelope.
    pub body_len_max: usize,
    /// How long a body may take to arrive; one below 8 KiB a second is given up after 10 s already. Default: 60 s.
    pub body_timeout: Duration,
    /// Memory for bodies, from their arrival to the head of the answer, in bytes; requests above are refused at once. A
    /// body counts twice: as it came, and as a message. What a link is writing comes on top, one message for each
    /// proxy. Default: 256 MiB.
    pub bodies_len_max: usize,
    /// Requests that run at once; more are refused at once. Default: 4096.
    pub requests_max: usize,
    /// Origin of the web pages that may call, or `*` for any. Default: none, no page may call: browsers send
    /// some requests of any page without asking, so a request that names another origin is refused.
    pub cors_origin: Option<String>,
}

impl ServerConfig {
    /// The largest `body_len_max` that still fits one frame with its envelope, in bytes.
    pub const BODY_LEN_LIMIT: usize = 16 * 1024 * 1024 - 64 * 1024;
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            body_len_max: 15 * 1024 * 1024,
            body_timeout: Duration::from_secs(60),
            bodies_len_max: 256 * 1024 * 1024,
            requests_max: 4096,
            cors_origin: None,
        }
    }
}

/// One inference request, scanned and with its id.
#[derive(Debug)]
pub struct InferenceRequest {
    /// Drawn at random; the same on the wire.
    pub id: RequestId,
    /// What the application sent.
    pub body: RequestBody,
}

/// The head of an answer and its body to come.
pub struct InferenceResponse {
    /// The engine's status.
    pub status: StatusCode,
    /// End-to-end headers; framing is the server's business.
    pub headers: HeaderMap,
    /// The body.
    pub body: AnswerBody,
}

/// An answer's body.
pub enum AnswerBody {
    /// All of it.
    Full(Bytes),
    /// Pieces as they come. An error ends the answer; dropping the stream gives the request up.
    Stream(BoxStream<'static, Result<Bytes, ApiError>>),
}

/// A model with the workers that serve it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Base name.
    pub id: String,
    /// Its workers; empty when the peer did not say.
    pub workers: Vec<ModelWorker>,
}

/// One worker of a model, as its proxy reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelWorker {
    /// Price in thousandths of the listed price.
    pub coefficient: u32,
    /// Requests it runs now.
    pub running_requests: u32,
    /// Requests it can run at once.
    pub max_running_requests: u32,
}

/// What answers behind the API. A future that is dropped gives its request up.
pub trait Inference: Send + Sync + 'static {
    /// The models of the network, now.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ApiError>>;

    /// Runs one request up to the head of its answer.
    fn run(&self, request: InferenceRequest) -> BoxFuture<'_, Result<InferenceResponse, ApiError>>;
}

/// What a handler needs.
struct Shared<I> {
    inference: Arc<I>,
    config: ServerConfig,
    running: Arc<Semaphore>,
    bodies: Bodies,
    models: Models,
    cors: Option<HeaderValue>,
}

/// The API over an [`Inference`], and other pages beside it.
///
/// Prompts go straight to their handler: a router with its layers costs a tenth of the processor time of a small request,
/// and memory for every stream. Everything else takes the router.
pub struct Api<I> {
    shared: Arc<Shared<I>>,
    others: Router,
}

impl<I> Clone for Api<I> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), others: self.others.clone() }
    }
}

impl<I: Inference> Api<I> {
    /// The API over `inference`, beside `pages`. It owns the fallback, so that an unknown path gets an OpenAI error
    /// object too.
    pub fn new(inference: Arc<I>, config: ServerConfig, pages: Router) -> Self {
        let running = Arc::new(Semaphore::new(config.requests_max.min(Semaphore::MAX_PERMITS)));
        let cors: Option<HeaderValue> = config.cors_origin.as_deref().and_then(|origin| origin.parse().ok());
        let bodies = Bodies::new(&config);
        let for_others = cors.clone();
        let shared = Arc::new(Shared { inference, config, running, bodies, models: Models::default(), cors });
        let prompts = || on(MethodFilter::OPTIONS, || options(PROMPT_METHODS)).fallback(prompts_are_posted);
        let others = Router::new()
            .route(Route::ChatCompletions.path(), prompts())
            .route(Route::Completions.path(), prompts())
            .route("/v1/models", get(list_models::<I>).options(|| options("GET, HEAD, OPTIONS")))
            .route("/v1/models/{*id}", get(show_model::<I>).options(|| options("GET, HEAD, OPTIONS")))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(unknown_path)
            .layer(middleware::from_fn(move |request: Request, next: Next| {
                let cors = for_others.clone();
                async move {
                    let (id, is_options) = (new_id(), request.method() == Method::OPTIONS);
                    let response = match may_call(request.headers(), cors.as_ref()) {
                        true => next.run(request).await,
                        false => origin_refused(),
                    };
                    dress(response, id, cors.as_ref(), is_options)
                }
            }))
            .with_state(Arc::clone(&shared))
            .merge(pages);
        Self { shared, others }
    }

    /// Answers one request.
    pub fn answer<B>(&self, request: http::Request<B>) -> impl Future<Output = Response> + use<I, B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let is_post = request.method() == Method::POST;
        match Route::from_path(request.uri().path()).filter(|_| is_post) {
            Some(route) => {
                let (id, shared) = (new_id(), Arc::clone(&self.shared));
                let answering = match may_call(request.headers(), shared.cors.as_ref()) {
                    true => Either::Left(complete(Arc::clone(&shared), route, id, request)),
                    false => Either::Right(ready(origin_refused())),
                };
                Either::Left(answering.map(move |response| dress(response, id, shared.cors.as_ref(), false)))
            }
            None => {
                let mut others = self.others.clone();
                let answering = others.as_service().call(request.map(Body::new));
                Either::Right(answering.map(|answered| answered.unwrap_or_else(|never| match never {})))
            }
        }
    }
}

fn new_id() -> RequestId {
    RequestId::new(rand::rng().random())
}

fn origin_refused() -> Response {
    let message = "web pages of this origin may not call: see cors_origin in the client's configuration";
    ApiError::new(ErrorKind::OriginRefused, message).into_response()
}

/// Gives an answer its common headers.
fn dress(mut response: Response, id: RequestId, cors: Option<&HeaderValue>, is_options: bool) -> Response {
    let headers = response.headers_mut();
    // What a browser does with an answer is for this client to say, not for a worker.
    for header in BROWSER_HEADERS {
        headers.remove(header);
    }
    let text = HeaderValue::try_from(id.to_string()).expect("hexadecimal digits are legal in a header");
    headers.insert(REQUEST_ID, text);
    if let Some(origin) = cors {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(VARY, HeaderValue::from_static("origin"));
        if is_options {
            let allowed = HeaderValue::from_static("GET, POST, OPTIONS");
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allowed);
            let allowed = HeaderValue::from_static("authorization, content-type");
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        }
    }
    response
}

/// Headers by which an engine would open its answers to web pages, or leave something in them.
const BROWSER_HEADERS: [HeaderName; 6] = [
    SET_COOKIE,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
];

/// Whether the sender is no web page, or one of the origin that is let in.
fn may_call(headers: &HeaderMap, cors: Option<&HeaderValue>) -> bool {
    let is_let_in = |origin: &HeaderValue| cors.is_some_and(|allowed| allowed == "*" || allowed == origin);
    headers.get_all(ORIGIN).iter().all(is_let_in)
}

async fn options(allowed: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

async fn unknown_path() -> Response {
    let message = "unknown path: served are POST /v1/chat/completions, POST /v1/completions, GET /v1/models \
                   and GET /v1/models/{id}";
    ApiError::new(ErrorKind::UnsupportedRoute, message).into_response()
}

/// Methods of the paths that take prompts.
const PROMPT_METHODS: &str = "POST, OPTIONS";

async fn prompts_are_posted() -> Response {
    let mut response = method_not_allowed().await;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(PROMPT_METHODS));
    response
}

async fn method_not_allowed() -> Response {
    ApiError::new(ErrorKind::MethodNotAllowed, "this path does not support the method").into_response()
}

async fn list_models<I: Inference>(State(shared): State<Arc<Shared<I>>>) -> Response {
    match shared.models.list(&*shared.inference).await {
        Ok(models) => {
            let data: Vec<Value> = models.iter().map(model_json).collect();
            json_response(&json!({ "object": "list", "data": data }))
        }
        Err(error) => error.into_response(),
    }
}

async fn show_model<I: Inference>(
    State(shared): State<Arc<Shared<I>>>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    // An id that is no text after decoding is the id of no model.
    let id = id.ok().map(|Path(id)| id);
    match shared.models.list(&*shared.inference).await {
        Ok(models) => match models.iter().find(|model| Some(&model.id) == id.as_ref()) {
            Some(model) => json_response(&model_json(model)),
            None => ApiError::new(ErrorKind::UnknownModel, "no worker serves this model").into_response(),
        },
        Err(error) => error.into_response(),
    }
}

/// A model as the OpenAI API shows it, with our `workers` beside. Nobody knows when it was made: 0.
fn model_json(model: &Model) -> Value {
    let worker = |worker: &ModelWorker| {
        json!({
            "coefficient": worker.coefficient,
            "running_requests": worker.running_requests,
            "max_running_requests": worker.max_running_requests,
        })
    };
    let workers: Vec<Value> = model.workers.iter().map(worker).collect();
    json!({ "id": model.id, "object": "model", "created": 0, "owned_by": "cocoon", "workers": workers })
}

fn json_response(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Runs a prompt.
///
/// Most of its life it waits for the head of its answer. The future is as large as its largest moment, and lives as long as
/// its connection: so the request and what reads it are in a box of their own, which ends before.
fn complete<I, B>(
    shared: Arc<Shared<I>>,
    route: Route,
    id: RequestId,
    request: http::Request<B>,
) -> impl Future<Output = Response> + use<I, B>
where
    I: Inference,
    B: http_body::Body<Data = Bytes>,
{
    let taking = Box::pin(take(Arc::clone(&shared), route, request));
    async move {
        let (running, stream_asked, permit, held) = match taking.await {
            Ok(Taken { body, permit, held }) => {
                let stream_asked = body.stream();
                (shared.inference.run(InferenceRequest { id, body }), stream_asked, permit, held)
            }
            Err(error) => return failed(id, error),
        };
        let answer = running.await;
        drop(held);
        match answer {
            Ok(answer) => answer::respond(answer, stream_asked, permit).await,
            Err(error) => failed(id, error),
        }
    }
}

/// A prompt that may run.
struct Taken {
    body: RequestBody,
    permit: OwnedSemaphorePermit,
    /// The memory is held until the request is on its way and the head of its answer is here.
    held: Held,
}

async fn take<I, B>(
    shared: Arc<Shared<I>>,
    route: Route,
    request: http::Request<B>,
) -> Result<Taken, ApiError>
where
    B: http_body::Body<Data = Bytes>,
{
    let permit = Arc::clone(&shared.running)
        .try_acquire_owned()
        .map_err(|_none_left| ApiError::new(ErrorKind::Overloaded, "too many requests at once"))?;
    let affinity = request.headers().get(AFFINITY).map(|value| Bytes::copy_from_slice(value.as_bytes()));
    let body::Body { text, held } = shared.bodies.read(request, &shared.config).await?;
    let body = RequestBody::parse(route, text)?;
    let body = match affinity {
        Some(key) if !key.is_empty() => body.with_affinity_key(key),
        _ => body,
    };
    Ok(Taken { body, permit, held })
}

fn failed(id: RequestId, error: ApiError) -> Response {
    tracing::debug!(%id, code = error.kind().row().code, "request failed");
    error.into_response()
}

#[cfg(test)]
mod tests;
