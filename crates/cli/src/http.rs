//! One small HTTP request with a deadline, for local services: engines to detect, roles to ask.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest answer that is read.
const BODY_LEN_MAX: usize = 1 << 20;

/// Asks `http://{authority}{path}` and returns status and body.
///
/// # Errors
/// If nothing answers within `deadline`, or the answer is larger than 1 MiB.
pub(crate) async fn get(authority: &str, path: &str, deadline: Duration) -> Result<(StatusCode, Bytes)> {
    let request = Request::get(path).header(HOST, authority).body(Empty::<Bytes>::new())?;
    within(deadline, authority, path, exchange(authority, request)).await
}

/// Has a role do something: a POST without a body, with the token of the role's state folder. Returns status and body.
///
/// # Errors
/// As [`get`].
pub(crate) async fn act(
    authority: &str,
    path: &str,
    token: &str,
    deadline: Duration,
) -> Result<(StatusCode, Bytes)> {
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).context("the token is no header")?;
    bearer.set_sensitive(true);
    let request = Request::post(path).header(HOST, authority).header(AUTHORIZATION, bearer);
    let exchange = exchange(authority, request.body(Empty::<Bytes>::new())?);
    within(deadline, authority, path, exchange).await
}

async fn within<T>(
    deadline: Duration,
    authority: &str,
    path: &str,
    exchange: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(deadline, exchange).await {
        Ok(outcome) => outcome.with_context(|| format!("http://{authority}{path}")),
        Err(_elapsed) => bail!("http://{authority}{path} did not answer within {deadline:?}"),
    }
}

/// As [`get`], but demands success and JSON.
///
/// # Errors
/// As [`get`], or if the status is not 2xx or the body is not JSON.
pub(crate) async fn get_json(authority: &str, path: &str, deadline: Duration) -> Result<serde_json::Value> {
    let (status, body) = get(authority, path, deadline).await?;
    ensure!(status.is_success(), "http://{authority}{path} answered {status}");
    serde_json::from_slice(&body).with_context(|| format!("http://{authority}{path} answered no JSON"))
}

async fn exchange(authority: &str, request: Request<Empty<Bytes>>) -> Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The connection future does the reading and writing; it ends with the exchange.
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_LEN_MAX).collect().await;
    driver.abort();
    match body {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) => bail!("the answer could not be read: {error}"),
    }
}
