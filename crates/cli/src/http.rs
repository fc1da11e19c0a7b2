//! One small HTTP GET with a deadline, for local services: engines to detect, roles to ask.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
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
    match tokio::time::timeout(deadline, exchange(authority, path)).await {
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

async fn exchange(authority: &str, path: &str) -> Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The connection future does the reading and writing; it ends with the exchange.
    let driver = tokio::spawn(connection);
    let request = Request::get(path).header(HOST, authority).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_LEN_MAX).collect().await;
    driver.abort();
    match body {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) => bail!("the answer could not be read: {error}"),
    }
}
