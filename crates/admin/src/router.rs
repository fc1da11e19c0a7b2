//! The pages every role has.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

/// What a role shows of itself. The functions are called once per request and must not block.
pub struct AdminConfig {
    /// What keeps the role from doing its work, one sentence each; empty when it is ready.
    pub missing: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// The body of `/jsonstats`.
    pub stats: Box<dyn Fn() -> Value + Send + Sync>,
    /// The metrics of the role.
    pub registry: Registry,
}

/// The routes `/healthz`, `/readyz`, `/metrics` and `/jsonstats`.
pub fn router(config: AdminConfig) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .route("/jsonstats", get(stats))
        .with_state(Arc::new(config))
}

async fn health() -> Response {
    json_response(StatusCode::OK, &json!({ "status": "ok" }))
}

async fn readiness(State(config): State<Arc<AdminConfig>>) -> Response {
    let missing = (config.missing)();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_response(status, &json!({ "ready": missing.is_empty(), "missing": missing }))
}

async fn metrics(State(config): State<Arc<AdminConfig>>) -> Response {
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &config.registry) {
        tracing::error!(%error, "metrics could not be encoded");
        return json_response(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": "metrics" }));
    }
    let mut response = Response::new(Body::from(text));
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

async fn stats(State(config): State<Arc<AdminConfig>>) -> Response {
    json_response(StatusCode::OK, &(config.stats)())
}

pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
