//! The server of a role's HTTP port.

mod refusals;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use http::StatusCode;
use http::header::HOST;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::router::json_response;
use refusals::Worded;

/// How long answers in progress may go on after the stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(15);
/// How long a request's head may take, and a connection may wait for its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections at once; more are told so and closed.
const CONNECTIONS_MAX: usize = 8192;
/// What those hear. They wait for nobody: it fits into any socket's buffer, or is lost.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 107\r\n\r\n\
    {\"error\":{\"message\":\"too many connections at once\",\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}";

/// Serves `router` on `listener` until `stop` is cancelled, then lets answers in progress finish for at most
/// [`DRAIN_MAX`] and cuts the rest.
///
/// On a loopback address, requests whose `Host` is a public name are refused with 421: a web page may point
/// its own name at this machine, and its browser would then let it read what it gets (DNS rebinding).
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_at_most(CONNECTIONS_MAX, listener, router, stop).await;
}

async fn serve_at_most(
    connections_max: usize,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) {
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let router = if is_local { router.layer(middleware::from_fn(refuse_public_names)) } else { router };
    let room = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_finished) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _address)) => {
                    let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                        let _too_slow = socket.try_write(NO_ROOM);
                        continue;
                    };
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

/// What one connection may hold: of a head on its way in, and of an answer that its application does not read.
const BUFFER_LEN_MAX: usize = 64 * 1024;

async fn serve_connection(socket: TcpStream, router: Router, stop: CancellationToken) {
    // A token is a small write: it must not wait for the acknowledgement of the one before.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let has_served = Arc::new(AtomicBool::new(false));
    let socket = Worded::new(socket, Arc::clone(&has_served));
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        has_served.store(true, Ordering::Relaxed);
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_LEN_MAX)
        .serve_connection(TokioIo::new(socket), service);
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
