//! The devnet as a running node: a chain, a clock, and a task that makes blocks when they are due.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use ton::Address;
use units::{BlockSeqno, MessageHash, NanoTon};

use crate::block::Pace;
use crate::devnet::{Devnet, SubmitError};
use crate::journal::Journal;
use crate::messages::ExternalMessage;

/// A handle to a running devnet. Clones are the same one.
///
/// Calls run transactions and get methods where they are made: within milliseconds, but tasks that share a thread with
/// others make them with `spawn_blocking`, as the HTTP face does.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    kept: Mutex<Kept>,
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    work: Notify,
    filled: watch::Sender<BlockSeqno>,
}

/// A chain, and perhaps the file that keeps it.
struct Kept {
    chain: Devnet,
    journal: Option<Journal>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

impl Node {
    /// A node with this chain, which ends with it. `clock` says how long ago 1970 began.
    #[must_use]
    pub fn new(chain: Devnet, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self::of(Kept { chain, journal: None }, clock)
    }

    /// A node whose blocks are in their file before anybody hears of them: see [`Journal::open`].
    #[must_use]
    pub fn kept(
        (chain, journal): (Devnet, Journal),
        clock: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self::of(Kept { chain, journal: Some(journal) }, clock)
    }

    fn of(kept: Kept, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let (filled, _receiver) = watch::channel(kept.chain.last_filled().seqno);
        let shared = Shared { kept: Mutex::new(kept), clock: Box::new(clock), work: Notify::new(), filled };
        Self { shared: Arc::new(shared) }
    }

    /// Makes blocks as they are due, until `stop`. While nothing waits for a block it sleeps: whoever looks makes the
    /// empty ones appear.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let wait = self.advance(|chain, now| chain.due().map(|due| due.saturating_sub(now)));
            let due = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.shared.work.notified() => {}
                () = due => {}
            }
        }
    }

    /// Takes an external message: see [`Devnet::submit`].
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit(&self, message: ExternalMessage) -> Result<MessageHash, SubmitError> {
        self.change(|chain, now| chain.submit(now, message))
    }

    /// Gives coins of the faucet: see [`Devnet::give`].
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn give(&self, to: &Address, amount: NanoTon) -> Result<MessageHash, SubmitError> {
        self.change(|chain, now| chain.give(now, to, amount))
    }

    /// Moves the chain's clock forward.
    pub fn travel(&self, by: Duration) {
        self.change(|chain, now| chain.travel(now, by));
    }

    /// Changes how often blocks come.
    pub fn set_pace(&self, pace: Pace) {
        self.change(|chain, now| chain.set_pace(now, pace));
    }

    /// Looks at the chain as it is now. Take out what you need: nothing else happens meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&Devnet, Duration) -> T) -> T {
        self.advance(|chain, now| look(chain, now))
    }

    /// The number of the newest block with something in it, and every later one.
    #[must_use]
    pub fn filled(&self) -> watch::Receiver<BlockSeqno> {
        self.shared.filled.subscribe()
    }

    /// Changes the chain, and wakes who makes blocks if the next one is due at another time now.
    fn change<T>(&self, change: impl FnOnce(&mut Devnet, Duration) -> T) -> T {
        let (result, is_due_otherwise) = self.advance(|chain, now| {
            let due = chain.due();
            let result = change(chain, now);
            (result, chain.due() != due)
        });
        if is_due_otherwise {
            self.shared.work.notify_one();
        }
        result
    }

    fn advance<T>(&self, then: impl FnOnce(&mut Devnet, Duration) -> T) -> T {
        let mut kept = self.lock();
        let Kept { chain, journal } = &mut *kept;
        let now = (self.shared.clock)();
        chain.advance(now);
        let result = then(chain, now);
        if let Some(Err(error)) = journal.as_mut().map(|journal| journal.save(chain)) {
            tracing::error!(%error, "the chain's file cannot be written: its newest blocks are in memory only");
        }
        let filled = chain.last_filled().seqno;
        drop(kept);
        self.shared.filled.send_if_modified(|seen| std::mem::replace(seen, filled) != filled);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A call that panicked may have left a block half made: better an old block than none.
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::testing::{ONE, START, balance, devnet};

    /// A node whose clock is the runtime's, which tests pause.
    fn node(pace: Pace) -> Node {
        let begin = Instant::now();
        Node::new(devnet(pace), move || START + begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn blocks_are_made_when_due_and_watchers_hear_of_them() {
        let node = node(Pace::Every(Duration::from_millis(200)));
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (node, stop) = (node.clone(), stop.clone());
            async move { node.run(stop).await }
        });
        let nobody = Address::new(0, [1; 32]);
        let mut filled = node.filled();
        tokio::time::sleep(Duration::from_millis(1_050)).await;
        node.give(&nobody, ONE).unwrap();
        filled.changed().await.unwrap();
        assert_eq!(filled.borrow_and_update().get(), 7);
        assert_eq!(node.look(|chain, _now| balance(chain, &nobody)), 1_000_000_000);
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_node_sleeps_and_its_blocks_come_all_the_same() {
        let node = node(Pace::Every(Duration::from_millis(200)));
        let begin = Instant::now();
        let idle = node.run(CancellationToken::new());
        let slept = tokio::time::timeout(Duration::from_secs(3_600), idle).await;
        assert!(slept.is_err() && begin.elapsed() == Duration::from_secs(3_600));
        assert_eq!(node.look(|chain, _now| chain.head()).get(), 1 + 3_600 * 5);
        node.travel(Duration::from_secs(60));
        assert_eq!(node.look(|chain, _now| chain.head()).get(), 1 + 3_660 * 5);
    }
}
