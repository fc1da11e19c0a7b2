//! A simulated sealer at a socket, for development.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{read_message, write_message};

/// Guests that are answered at the same time. More wait in the socket's queue.
const CONNECTIONS_MAX: usize = 16;
/// How long a guest may take for its question, and for hearing the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failure to take a connection nothing is tried for this long.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers guests, one question each. It ends when it is dropped.
pub async fn serve_simulated(listener: UnixListener, sealer: sim::Sealer) {
    let (sealer, places) = (Arc::new(sealer), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let mut answering = tokio::task::JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while answering.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _address)) => {
                let sealer = Arc::clone(&sealer);
                answering.spawn(async move {
                    let _place = place;
                    if timeout(CONNECTION_TIMEOUT, answer(stream, &sealer)).await.is_err() {
                        tracing::warn!("a guest was too slow, and gets no key");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the sealer cannot take a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, sealer: &sim::Sealer) {
    let request = match read_message(&mut stream).await {
        Ok(request) => request,
        Err(error) => return tracing::warn!(%error, "a guest's question cannot be read"),
    };
    match sealer.answer(&request) {
        Ok(answer) => {
            if let Err(error) = write_message(&mut stream, &answer).await {
                tracing::warn!(%error, "a guest went before its answer");
            }
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "a guest gets no key");
        }
    }
}
