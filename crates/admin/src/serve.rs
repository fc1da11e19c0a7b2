//! The server of a role's HTTP port.

mod head_timer;
mod reading;
mod refusals;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use futures_util::FutureExt as _;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use head_timer::{HeadTimer, IDLE_MAX};
use refusals::Worded;

/// How long answers in progress may go on after the stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(15);
/// Connections at once; more are told so and closed.
const CONNECTIONS_MAX: usize = 8192;
/// What those hear. They wait for nobody: it fits into any socket's buffer, or is lost.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 107\r\n\r\n\
    {\"error\":{\"message\":\"too many connections at once\",\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}";

/// What answers the requests of a port.
pub trait Answers: Clone + Send + Sync + 'static {
    /// Answers one request. Whatever the future holds stays for as long as the connection: an `async fn` would keep its
    /// arguments beside what becomes of them.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response> + Send + use<Self>;
}

impl Answers for Router {
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response> + Send + use<> {
        let answering = TowerToHyperService::new(self.clone()).call(request);
        answering.map(|answered| answered.unwrap_or_else(|never| match never {}))
    }
}

/// Serves `routes` on `listener` until `stop` is cancelled, then lets answers in progress finish for at most
/// [`DRAIN_MAX`] and cuts the rest.
///
/// A connection may wait 60 s for a request; once a head has begun, it must be complete within 10 s.
///
/// On a loopback address, requests for a public name are refused with 421: a web page may point
/// its own name at this machine, and its browser would then let it read what it gets (DNS rebinding).
pub async fn serve(listener: TcpListener, routes: impl Answers, stop: CancellationToken) {
    serve_at_most(CONNECTIONS_MAX, listener, routes, stop).await;
}

async fn serve_at_most(
    connections_max: usize,
    listener: TcpListener,
    routes: impl Answers,
    stop: CancellationToken,
) {
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
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
                    let (routes, stop) = (routes.clone(), stop.clone());
                    connections.spawn(async move {
                        serve_connection(socket, routes, is_local, stop).await;
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

/// What one connection may hold: of a head on its way in, and of an answer that its application does not read.
const BUFFER_LEN_MAX: usize = 64 * 1024;

/// How far a connection has come, as its socket, its timer and its service tell each other.
#[derive(Debug, Default)]
struct Progress {
    /// A request has reached the routes.
    has_served: AtomicBool,
    /// Bytes have come since the connection began to wait for a request.
    has_read: AtomicBool,
}

async fn serve_connection(socket: TcpStream, routes: impl Answers, is_local: bool, stop: CancellationToken) {
    // A token is a small write: it must not wait for the acknowledgement of the one before.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let progress = Arc::new(Progress::default());
    let socket = Worded::new(socket, Arc::clone(&progress));
    let timer = HeadTimer::new(Arc::clone(&progress));
    let service = service_fn(move |request| {
        progress.has_served.store(true, Ordering::Relaxed);
        reading::answer(&routes, is_local, request).map(Ok::<_, Infallible>)
    });
    let connection = http1::Builder::new()
        .timer(timer)
        .header_read_timeout(IDLE_MAX)
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
