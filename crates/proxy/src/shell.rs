//! The core with its surroundings: links feed it, its actions go back to links, a task watches its deadlines.
//!
//! The core stands behind one short lock. Actions are carried out under it, so that what the core decided first is
//! also sent first; nothing under the lock waits.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use ahash::HashMap;
use node::failpoint;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transport::clock::unix_now;
use transport::{IncomingQuery, Link, LinkEvent, LinkEvents, Listener, Responder, SendError};

use ledger::Ledger;
use ledger::journal::CommitNumber;

use crate::core::{Action, Core, LinkId, Now, PeerFacts, QueryToken, Report, Terms, Undelivered};
use crate::journal::{Bell, Source, Store, Writer};
use crate::settlement::{self, Settlement};
use crate::stats::Stats;

/// Everything that the tasks of a proxy share.
#[derive(Debug)]
pub(crate) struct Shell {
    state: Mutex<State>,
    /// The earliest deadline has changed.
    deadline_moved: Notify,
    /// No request runs any more.
    idle: Notify,
    pub(crate) stats: Stats,
    /// Writes the books of the core. Stopping it waits, so it stands behind its own lock.
    writer: Mutex<Option<Writer>>,
}

#[derive(Debug)]
struct State {
    core: Core,
    links: HashMap<LinkId, Link>,
    /// How short the queue of a link has to be for it to count as having room; each link's own task waits for that.
    awaited: HashMap<LinkId, watch::Sender<Option<usize>>>,
    waiting: HashMap<QueryToken, Responder>,
    next_query: u64,
    /// What the watcher of deadlines sleeps for.
    watched_deadline: Option<Instant>,
    /// Counts the books that the core has worked on: a writer of earlier ones must not touch the present ones.
    books: u64,
    /// Wakes the writer of the present books.
    bell: Option<Arc<Bell>>,
    /// What the settlement wants done goes here. It has at most a few orders on their way at once.
    settling: Option<UnboundedSender<settlement::Action>>,
}

/// Which listener a link came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Clients,
    Workers,
}

impl Shell {
    pub(crate) fn new(core: Core) -> Self {
        let state = State {
            core,
            links: HashMap::default(),
            awaited: HashMap::default(),
            waiting: HashMap::default(),
            next_query: 0,
            watched_deadline: None,
            books: 0,
            bell: None,
            settling: None,
        };
        Self {
            state: Mutex::new(state),
            deadline_moved: Notify::new(),
            idle: Notify::new(),
            stats: Stats::default(),
            writer: Mutex::new(None),
        }
    }

    /// Begins to write what the core records to `store`, where its books came from.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub(crate) fn start_writer(self: &Arc<Self>, store: Store) -> io::Result<()> {
        let books = self.lock().books;
        let writer = Writer::start(store, Records { shell: Arc::downgrade(self), books })?;
        let bell = writer.bell();
        *self.writer() = Some(writer);
        // What was recorded before there was a bell.
        bell.ring();
        self.lock().bell = Some(bell);
        Ok(())
    }

    /// Writes what is left, and ends the writer. Waits for the disk.
    pub(crate) fn stop_writer(&self) {
        let writer = self.writer().take();
        drop(writer);
    }

    /// What the settlement wants done goes to `settling` from now on, and nowhere else any more.
    pub(crate) fn settle_with(&self, settling: UnboundedSender<settlement::Action>) {
        self.lock().settling = Some(settling);
    }

    /// Puts the core to work under another contract, with its settlement where a chain is followed. The last charges under
    /// the one before go to its own journal. Waits for the disk.
    ///
    /// # Errors
    /// As [`Self::start_writer`]; charges cannot be recorded then, so the core takes no requests.
    pub(crate) fn move_to(
        self: &Arc<Self>,
        terms: Terms,
        (store, books): (Store, Ledger),
        settlement: Option<Settlement>,
    ) -> io::Result<()> {
        let mut last = None;
        {
            let mut state = self.lock();
            state.books += 1;
            state.bell = None;
            self.feed_locked(&mut state, |core, now| {
                // Its books go on elsewhere, with another settlement.
                let _left = core.leave_chain();
                let mut before = core.move_to(terms, books, now);
                if let Some(settlement) = settlement {
                    core.follow_chain(settlement, now);
                }
                let mut records = Vec::new();
                last = before.take_records(&mut records).map(|commit| (commit, records));
            });
        }
        let writer = self.writer().take();
        if let Some(writer) = writer {
            writer.finish(last);
        }
        self.start_writer(store).inspect_err(|_no_thread| self.lock().core.journal_stuck())
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts links for as long as it is polled. Each gets a task of `links`, which ends at `stop` at the latest.
    pub(crate) async fn accept(
        self: Arc<Self>,
        mut listener: Listener,
        side: Side,
        links: TaskTracker,
        stop: CancellationToken,
    ) {
        while let Some((link, events)) = listener.accept().await {
            links.spawn(Arc::clone(&self).serve(link, events, side, stop.clone()));
        }
    }

    /// Feeds the core with what comes on one link, until the link ends.
    async fn serve(self: Arc<Self>, link: Link, mut events: LinkEvents, side: Side, stop: CancellationToken) {
        let id = LinkId(link.id());
        tracing::debug!(link = id.0, ?side, "link opened");
        let mut awaited = self.opened(id, link.clone(), side);
        loop {
            let room = async {
                // The sender lives as long as the link is known.
                let queued_len = awaited.wait_for(Option::is_some).await.map(|len| *len);
                match queued_len {
                    Ok(Some(queued_len)) => link.room(queued_len).await,
                    Ok(None) | Err(_) => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = stop.run_until_cancelled(events.next()) => event.flatten(),
                () = room => {
                    self.has_room(id);
                    continue;
                }
            };
            match event {
                Some(LinkEvent::Packet(message)) => self.feed(|core, now| core.packet(id, &message, now)),
                Some(LinkEvent::Query(query)) => self.query(id, query),
                // Its task has said why.
                Some(LinkEvent::Closed(_)) | None => break,
            }
        }
        self.closed(id);
    }

    fn has_room(&self, id: LinkId) {
        let mut state = self.lock();
        if let Some(awaited) = state.awaited.get(&id) {
            awaited.send_replace(None);
        }
        self.feed_locked(&mut state, |core, _now| core.has_room(id));
    }

    /// Returns what the link's task has to wait for.
    fn opened(&self, id: LinkId, link: Link, side: Side) -> watch::Receiver<Option<usize>> {
        let facts = PeerFacts { attestation: link.peer().attestation() };
        let mut state = self.lock();
        state.links.insert(id, link);
        let (sender, awaited) = watch::channel(None);
        state.awaited.insert(id, sender);
        self.feed_locked(&mut state, |core, now| match side {
            Side::Clients => core.client_opened(id, now),
            Side::Workers => {
                self.stats.worker_joined(id);
                core.worker_opened(id, facts, now);
            }
        });
        awaited
    }

    fn closed(&self, id: LinkId) {
        self.feed(|core, now| core.closed(id, now));
        let mut state = self.lock();
        state.links.remove(&id);
        state.awaited.remove(&id);
        drop(state);
        self.stats.worker_left(id);
    }

    fn query(&self, link: LinkId, IncomingQuery { message, responder }: IncomingQuery) {
        let mut state = self.lock();
        let token = QueryToken(state.next_query);
        state.next_query += 1;
        state.waiting.insert(token, responder);
        self.feed_locked(&mut state, |core, now| core.query(link, token, &message, now));
    }

    /// Tells the core about an event, and carries out what it decides. A panic in between is the end of the process:
    /// the books would be those of half an event, and a proxy that answers nobody any more would go on listening.
    pub(crate) fn feed(&self, event: impl FnOnce(&mut Core, Now)) {
        self.feed_locked(&mut self.lock(), event);
    }

    fn feed_locked(&self, state: &mut State, event: impl FnOnce(&mut Core, Now)) {
        let abort = AbortOnPanic;
        let now = now();
        event(&mut state.core, now);
        while let Some(action) = state.core.poll_action() {
            state.carry_out(action, now, &self.stats);
        }
        if state.core.records_len() > 0
            && let Some(bell) = &state.bell
        {
            bell.ring();
        }
        if state.core.running_len() == 0 {
            self.idle.notify_waiters();
        }
        let next = state.core.poll_timeout();
        if next.is_some_and(|next| state.watched_deadline.is_none_or(|watched| next < watched)) {
            self.deadline_moved.notify_one();
        }
        drop(abort);
    }

    /// Lets the core give up requests in time.
    pub(crate) async fn watch_deadlines(self: Arc<Self>) {
        loop {
            let deadline = {
                let mut state = self.lock();
                state.watched_deadline = state.core.poll_timeout();
                state.watched_deadline
            };
            let elapsed = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = elapsed => self.feed(Core::handle_timeout),
                () = self.deadline_moved.notified() => {}
            }
        }
    }

    /// Returns when no request runs.
    pub(crate) async fn until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.look(|core| core.running_len() == 0) {
                return;
            }
            idle.await;
        }
    }

    /// Looks at the core.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.lock().core)
    }

    /// Looking changes nothing, and an event that breaks off ends the process, so what is behind the lock is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the process when dropped by a panic.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "the proxy's books broke in the middle of an event: this is a bug, the process ends"
            );
            std::process::abort();
        }
    }
}

/// The records of one book, as its writer sees them.
struct Records {
    shell: Weak<Shell>,
    books: u64,
}

impl Records {
    fn with<T>(&self, work: impl FnOnce(&mut Core) -> T) -> Option<T> {
        let shell = self.shell.upgrade()?;
        let mut state = shell.lock();
        (state.books == self.books).then(|| work(&mut state.core))
    }
}

impl Source for Records {
    fn take(&self, into: &mut Vec<u8>) -> Option<CommitNumber> {
        self.with(|core| core.take_records(into)).flatten()
    }

    fn committed(&self, commit: CommitNumber) {
        let Some(shell) = self.shell.upgrade() else { return };
        let mut state = shell.lock();
        if state.books == self.books {
            // What is durable may be due on the chain.
            shell.feed_locked(&mut state, |core, now| core.committed_at(commit, now));
        }
    }

    fn stuck(&self) {
        self.with(Core::journal_stuck);
    }
}

impl State {
    fn carry_out(&mut self, action: Action, now: Now, stats: &Stats) {
        match action {
            Action::Answer { query, message } => {
                failpoint::pass("link-answer");
                if let Some(responder) = self.waiting.remove(&query) {
                    responder.answer(message);
                }
            }
            Action::Refuse { query, code, message } => {
                if let Some(responder) = self.waiting.remove(&query) {
                    responder.refuse(code, &message);
                }
            }
            Action::Send { link, message, otherwise } => {
                failpoint::pass("link-send");
                let sent = self.links.get(&link).map_or(Ok(()), |link| match otherwise {
                    Undelivered::Never => link.send_bounded(message),
                    Undelivered::CloseLink | Undelivered::FailRequest(_) | Undelivered::Skip => {
                        link.try_send(message)
                    }
                });
                let reason = match sent {
                    // A closed link says so itself, as its last event.
                    Ok(()) | Err(SendError::Closed) => return,
                    Err(SendError::QueueFull) => "the peer does not take what it asked for",
                    Err(SendError::TooLarge { .. }) => "a message fits into no frame",
                };
                match otherwise {
                    Undelivered::CloseLink => {
                        self.close(link, reason, true);
                        self.core.closed(link, now);
                    }
                    Undelivered::FailRequest(request) => self.core.not_forwarded(request, now),
                    Undelivered::Skip | Undelivered::Never => {}
                }
            }
            Action::Vouch { link } => {
                if let Some(link) = self.links.get(&link) {
                    link.handshake_complete();
                }
            }
            Action::Close { link, reason, is_fault } => self.close(link, reason, is_fault),
            Action::Look { link } => {
                let queued_len = self.links.get(&link).map_or(0, Link::queued_len);
                self.core.looked(link, queued_len);
            }
            Action::AwaitRoom { link, queued_len } => {
                if let Some(awaited) = self.awaited.get(&link) {
                    awaited.send_replace(Some(queued_len));
                }
            }
            Action::Report(report) => {
                log(&report);
                stats.record(&report, now.instant);
            }
            Action::Settle(action) => {
                if let Some(settling) = &self.settling {
                    // Its receiver ends with the proxy.
                    let _ended = settling.send(action);
                }
            }
        }
    }

    fn close(&mut self, link: LinkId, reason: &'static str, is_fault: bool) {
        if let Some(link) = self.links.remove(&link) {
            if is_fault { link.expel(reason) } else { link.close(reason) }
        }
    }
}

fn log(report: &Report) {
    let Report { request_id, outcome, code, duration, .. } = report;
    tracing::debug!(%request_id, ?outcome, code, duration_ms = duration.as_millis(), "request ended");
}

pub(crate) fn now() -> Now {
    Now { instant: tokio::time::Instant::now().into_std(), unix: unix_now() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use ed25519_dalek::SigningKey;
    use ton::{Address, RootConfig};

    use super::*;
    use crate::core::{Limits, Terms};

    #[test]
    fn a_panic_in_the_middle_of_an_event_ends_the_process() {
        const IN_A_PROCESS_OF_ITS_OWN: &str = "COCOON_TEST_PANIC_UNDER_THE_LOCK";
        const SIGABRT: i32 = 6;
        if std::env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_some() {
            let owner = Address::new(0, [1; 32]);
            let (root, key) = (RootConfig::pseudo(owner), SigningKey::from_bytes(&[7; 32]));
            let terms = Terms::new(root, &owner, &owner, owner, key, false, false).unwrap();
            let shell = Shell::new(Core::new(terms, Limits::default(), [0; 32]));
            let task = std::thread::spawn(move || shell.feed(|_core, _now| panic!("on purpose")));
            let _ended = task.join();
            return;
        }
        let myself = std::env::current_exe().unwrap();
        let name = "shell::tests::a_panic_in_the_middle_of_an_event_ends_the_process";
        let mut child = Command::new(myself);
        let ended = child.args(["--exact", name]).env(IN_A_PROCESS_OF_ITS_OWN, "1").output().unwrap();
        assert_eq!(ended.status.signal(), Some(SIGABRT), "{ended:?}");
    }
}
