//! The server of a role's HTTP port.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long answers in progress may go on after the stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(15);
/// How long a request's head may take, and a connection may wait for its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 8192;

/// Serves `router` on `listener` until `stop` is cancelled, then lets answers in progress finish for at most
/// [`DRAIN_MAX`] and cuts the rest.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
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
