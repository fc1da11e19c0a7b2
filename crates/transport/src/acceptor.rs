//! Taking connections from the system, also when it has nothing left to take them with.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// Takes connections one by one. After an error that would come back at once, such as too many open files, it waits, longer each
/// time.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    pause: Duration,
    accept_at: Instant,
}

impl Acceptor {
    const PAUSE_FIRST: Duration = Duration::from_millis(10);
    const PAUSE_LAST: Duration = Duration::from_secs(1);

    /// One for connections to `listener`.
    #[must_use]
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, pause: Duration::ZERO, accept_at: Instant::now() }
    }

    /// The next connection, and where it comes from. Errors are logged. Nothing is lost when the future is dropped.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            sleep_until(self.accept_at).await;
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.pause = Duration::ZERO;
                    return accepted;
                }
                Err(error) => self.wait_after(&error),
            }
        }
    }

    fn wait_after(&mut self, error: &io::Error) {
        // The connection failed, not the listener.
        if matches!(
            error.kind(),
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
        ) {
            return;
        }
        self.pause = (self.pause * 2).clamp(Self::PAUSE_FIRST, Self::PAUSE_LAST);
        self.accept_at = Instant::now() + self.pause;
        let port = self.listener.local_addr().map_or(0, |address| address.port());
        tracing::warn!(%error, port, pause_ms = self.pause.as_millis(), "cannot accept connections");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn errors_of_the_listener_make_it_wait_longer_and_longer() {
        const EMFILE: i32 = 24;
        let exhausted = io::Error::from_raw_os_error(EMFILE);
        let mut acceptor = Acceptor::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = acceptor.listener.local_addr().unwrap();
        let pauses: Vec<u128> = (0..9)
            .map(|_| {
                acceptor.wait_after(&exhausted);
                (acceptor.accept_at - Instant::now()).as_millis()
            })
            .collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);

        let (begin, _waiting) = (Instant::now(), TcpStream::connect(address).await.unwrap());
        let _accepted = acceptor.accept().await;
        assert!(begin.elapsed() >= Acceptor::PAUSE_LAST);
        acceptor.wait_after(&ErrorKind::ConnectionAborted.into());
        assert!(acceptor.accept_at <= Instant::now(), "one connection failed");
        acceptor.wait_after(&exhausted);
        assert_eq!(acceptor.pause, Acceptor::PAUSE_FIRST, "it begins anew after a connection");
    }
}
