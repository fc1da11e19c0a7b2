//! Work for the processor that peers cause, off the threads of messages: as many pieces at once as there are cores.

use std::io;
use std::num::NonZeroUsize;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// One for each core.
type Turns = LazyLock<Semaphore>;

fn one_for_each_core() -> Semaphore {
    Semaphore::new(available_parallelism().map_or(1, NonZeroUsize::get))
}

/// For all searches for nonces of the process. Peers say how much work there is, and threads that only search would be missing
/// elsewhere.
pub(crate) static SEARCHES: Turns = LazyLock::new(one_for_each_core);

/// For all handshakes of the process. A turn takes less than a thousandth of a second.
pub(crate) static HANDSHAKES: Turns = LazyLock::new(one_for_each_core);

/// Searches for a nonce, for about a hundredth of a second.
///
/// # Errors
/// If the runtime is shutting down, or the work panicked.
pub(crate) async fn of_searches<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    take(&SEARCHES, work).await
}

/// Does a step of a handshake.
///
/// # Errors
/// If the runtime is shutting down, or the work panicked.
pub(crate) async fn of_handshakes<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    take(&HANDSHAKES, work).await
}

/// The turn ends with the work, also when nobody waits for it any more.
async fn take<T: Send + 'static>(
    turns: &'static Turns,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let turn = turns.acquire().await.expect("nobody closes it");
    let working = spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    working.await.map_err(io::Error::other)
}
