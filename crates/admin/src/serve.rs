//! The server of a role's HTTP port.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use http::StatusCode;
use http::header::HOST;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::router::json_response;

/// How long answers in progress may go on after the stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(15);
/// How long a request's head may take, and a connection may wait for its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 8192;

/// Serves `router` on `listener` until `stop` is cancelled, then lets answers in progress finish for at most
/// [`DRAIN_MAX`] and cuts the rest.
///
/// On a loopback address, requests whose `Host` is a public name are refused with 421: a web page may point
/// its own name at this machine, and its browser would then let it read what it gets (DNS rebinding).
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let router = if is_local { router.layer(middleware::from_fn(refuse_public_names)) } else { router };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_finished) = connections.join_next() => {}
            (accepted, permit) = accepted => match accepted {
                Ok((socket, _address)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    connections.spawn(async move {
                        serve_connection(socket, router, stop).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, or the peer left early. Either passes by itself.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        tracing::warn!(open = connections.len(), "answers in progress were cut at shutdown");
    }
}

async fn refuse_public_names(request: Request, next: Next) -> Response {
    if request.headers().get_all(HOST).iter().all(|host| is_local_name(host.as_bytes())) {
        return next.run(request).await;
    }
    let message = "this address serves its own machine: ask for it as localhost or by number";
    json_response(StatusCode::MISDIRECTED_REQUEST, &json!({ "error": message }))
}

/// Whether the public name service cannot have given this name: a number, a name without dots, or one under
/// a top level that is never delegated (RFC 6761, RFC 6762, and ICANN's `internal`).
fn is_local_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let top = name.rsplit_once('.').map(|(_, top)| top);
    bare.parse::<IpAddr>().is_ok()
        || top.is_none_or(|top| {
            ["localhost", "local", "internal"].iter().any(|local| top.eq_ignore_ascii_case(local))
        })
}

async fn serve_connection(socket: TcpStream, router: Router, stop: CancellationToken) {
    // A token is a small write: it must not wait for the acknowledgement of the one before.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Applications leave in the middle of answers, and answers are cut on purpose: nothing to act on.
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

#[cfg(test)]
mod tests;
