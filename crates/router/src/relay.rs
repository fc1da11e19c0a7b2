//! Bytes between a local program and a peer, both ways, until both have ended or nothing moves any more.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep_until};

/// Bytes under way in each direction: a record of TLS. A reader that is slow stops the writer at these, and what the system holds.
const BUFFER_LEN: usize = 16 * 1024;

/// Why bytes do not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// Nothing moved.
    #[error("nothing moved in either direction for {} s", .limit.as_secs())]
    Idle {
        /// For how long.
        limit: Duration,
    },
    /// A side is lost.
    #[error("the connection is lost")]
    Lost(#[source] io::Error),
}

/// Carries bytes, and the end of each direction, until both have ended.
///
/// # Errors
/// [`RelayError`].
pub(crate) async fn relay<L, P>(local: L, peer: P, idle: Duration) -> Result<(), RelayError>
where
    L: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Moved { since: Instant::now(), ms: AtomicU64::new(0) };
    let mut local = Watched { stream: local, moved: &moved };
    let mut peer = Watched { stream: peer, moved: &moved };
    tokio::select! {
        ended = copy_bidirectional_with_sizes(&mut local, &mut peer, BUFFER_LEN, BUFFER_LEN) => match ended {
            Ok(_lengths) => Ok(()),
            Err(error) => Err(RelayError::Lost(error)),
        },
        () = moved.nothing_for(idle) => Err(RelayError::Idle { limit: idle }),
    }
}

/// When bytes moved last.
struct Moved {
    since: Instant,
    ms: AtomicU64,
}

impl Moved {
    fn now(&self) {
        let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ms.store(ms, Ordering::Relaxed);
    }

    async fn nothing_for(&self, limit: Duration) {
        loop {
            let until = self.since + Duration::from_millis(self.ms.load(Ordering::Relaxed)) + limit;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// A stream that tells when bytes move.
struct Watched<'a, S> {
    stream: S,
    moved: &'a Moved,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reader: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = reader.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, reader);
        if reader.filled().len() > before {
            self.moved.now();
        }
        match polled {
            // Many programs close without saying goodbye in TLS. Whether all has come, the program's own protocol has to say.
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.moved.now();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// The far ends of both sides, and what carries bytes between them.
    fn between() -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<Result<(), RelayError>>) {
        let ((left, local), (peer, right)) = (duplex(1024), duplex(1024));
        (left, right, tokio::spawn(relay(local, peer, IDLE)))
    }

    #[tokio::test(start_paused = true)]
    async fn each_direction_ends_by_itself() {
        let (mut left, mut right, relay) = between();
        left.write_all(b"question").await.unwrap();
        left.shutdown().await.unwrap();
        let mut received = String::new();
        right.read_to_string(&mut received).await.unwrap();
        right.write_all(b"answer").await.unwrap();
        right.shutdown().await.unwrap();
        left.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "questionanswer");
        relay.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_in_either_direction_keeps_both_alive() {
        let (mut left, mut right, relay) = between();
        for _ in 0..5 {
            tokio::time::sleep(IDLE * 2 / 3).await;
            right.write_all(b"x").await.unwrap();
            assert_eq!(left.read_u8().await.unwrap(), b'x');
        }
        let idle_since = Instant::now();
        assert!(matches!(relay.await.unwrap(), Err(RelayError::Idle { limit: IDLE })));
        assert_eq!(idle_since.elapsed(), IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_reading_stops_the_writer() {
        let (mut left, right, relay) = between();
        let mut taken = 0;
        let writing = async {
            loop {
                taken += left.write(&[0; 1024]).await.unwrap();
            }
        };
        // Nobody reads at the other end.
        let stopped = tokio::time::timeout(IDLE / 2, writing).await;
        assert!(stopped.is_err());
        assert!(taken <= BUFFER_LEN + 2 * 1024, "{taken}");
        assert!(matches!(relay.await.unwrap(), Err(RelayError::Idle { .. })), "who never reads is let go");
        drop(right);
    }
}
