//! The thread that makes commits durable.
//!
//! It sleeps until the bell rings, waits a moment for more, takes everything that is there, and writes it as one
//! commit. Nobody waits for it: what is not durable yet is not signed yet, that is all.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Builder, JoinHandle, Thread};
use std::time::Duration;

use ledger::journal::CommitNumber;

use super::Store;

/// How long a commit gathers. With the flush after it, the time during which a crash takes a charge back: well below
/// the one or two seconds of deployed proxies.
const GATHERING: Duration = Duration::from_millis(10);
/// How long after a failure the disk is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Where records come from.
pub(crate) trait Source: Send + 'static {
    /// What the next commit has to hold, as [`ledger::Ledger::take_records`] says.
    fn take(&self, into: &mut Vec<u8>) -> Option<CommitNumber>;
    /// The commit is durable.
    fn committed(&self, commit: CommitNumber);
    /// Commits cannot be made durable until further notice.
    fn stuck(&self);
}

/// Wakes the writer. Ringing it again before the writer has looked costs one atomic operation.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    is_rung: AtomicBool,
    stops: AtomicBool,
    last: Mutex<Option<Batch>>,
    thread: OnceLock<Thread>,
}

/// Records of a commit.
type Batch = (CommitNumber, Vec<u8>);

/// A running writer. Dropping it writes what is left and waits for the end.
#[derive(Debug)]
pub(crate) struct Writer {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Bell {
    /// There are records.
    pub(crate) fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn wait(&self) {
        while !self.is_rung.swap(false, Ordering::AcqRel) && !self.stops() {
            thread::park();
        }
    }

    fn stops(&self) -> bool {
        self.stops.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stops.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there is none to be had.
    pub(crate) fn start(store: Store, source: impl Source) -> io::Result<Self> {
        let bell = Arc::new(Bell::default());
        let of_thread = Arc::clone(&bell);
        let run = move || {
            let _only_once = of_thread.thread.set(thread::current());
            // A ring before this line found no thread to wake; it is seen now.
            run(store, &source, &of_thread);
        };
        let thread = Builder::new().name("books".into()).spawn(run)?;
        Ok(Self { bell, thread: Some(thread) })
    }

    /// What to ring when there are records.
    pub(crate) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// Writes `last` after everything that the source gave, and ends.
    pub(crate) fn finish(self, last: Option<Batch>) {
        *self.bell.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.bell.stop();
        // What its thread is in the middle of may be what held it last.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the writer of the books broke off; they are as of its last commit");
        }
    }
}

fn run(mut store: Store, source: &impl Source, bell: &Bell) {
    let mut records = Vec::new();
    loop {
        bell.wait();
        if !bell.stops() {
            thread::sleep(GATHERING);
        }
        // Whoever stops the writer has seen to it that no records follow.
        let is_last_round = bell.stops();
        let mut is_written = true;
        while is_written && let Some(commit) = source.take(&mut records) {
            is_written = write(&mut store, source, bell, (commit, &records));
            if !is_last_round {
                break;
            }
        }
        if is_last_round || !is_written {
            let last = bell.last.lock().unwrap_or_else(PoisonError::into_inner).take();
            match last {
                Some((commit, records)) if is_written => {
                    write(&mut store, source, bell, (commit, &records));
                }
                Some((commit, records)) => lost(commit, &records),
                None => {}
            }
            return;
        }
        store.tidy();
    }
}

/// Makes one commit durable, however long it takes, unless the writer has to stop. Returns whether it is.
fn write(
    store: &mut Store,
    source: &impl Source,
    bell: &Bell,
    (commit, records): (CommitNumber, &[u8]),
) -> bool {
    let mut is_first = true;
    loop {
        match store.append(records) {
            Ok(sealed) => {
                assert_eq!(sealed, commit, "the ledger and its journal count commits alike");
                break;
            }
            Err(error) if is_first => {
                source.stuck();
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    commit = commit.get(),
                    "the journal cannot be written: new requests are refused until the disk of the state folder \
                     works"
                );
            }
            Err(_same) if bell.stops() => {
                lost(commit, records);
                return false;
            }
            Err(_same) => {}
        }
        is_first = false;
        if !bell.stops() {
            thread::park_timeout(RETRY_INTERVAL);
        }
    }
    if !is_first {
        tracing::warn!(commit = commit.get(), "the journal can be written again");
    }
    source.committed(commit);
    true
}

fn lost(commit: CommitNumber, records: &[u8]) {
    let (commit, len) = (commit.get(), records.len());
    tracing::error!(commit, len, "ended with charges that the disk did not take: they are lost");
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use ed25519_dalek::SigningKey;
    use ledger::journal::Identity;
    use ledger::{ClientFunds, Ledger, Multipliers, PriceTable};
    use ton::Address;
    use units::NanoTon;

    use super::*;

    /// Holds the writer, and lets it go when a commit is reported.
    struct Holder {
        books: Mutex<Ledger>,
        writer: Arc<Mutex<Option<Writer>>>,
        ended: Sender<()>,
    }

    impl Source for Holder {
        fn take(&self, into: &mut Vec<u8>) -> Option<CommitNumber> {
            self.books.lock().unwrap().take_records(into)
        }

        fn committed(&self, _commit: CommitNumber) {
            drop(self.writer.lock().unwrap().take());
            self.ended.send(()).unwrap();
        }

        fn stuck(&self) {}
    }

    #[test]
    fn a_writer_may_be_dropped_by_its_own_thread() {
        let folder = tempfile::tempdir().unwrap();
        let price = NanoTon::new(20);
        let prices = PriceTable::new(price, price, Multipliers::default()).unwrap();
        let identity = Identity { contract: Address::new(0, [1; 32]), prices };
        let (store, mut books) =
            Store::open(folder.path(), identity, SigningKey::from_bytes(&[7; 32])).unwrap();
        books.client_on_chain(
            Address::new(0, [2; 32]),
            ledger::ClientContract {
                funds: ClientFunds { balance: price, ..ClientFunds::default() },
                ..ledger::ClientContract::default()
            },
        );
        let (ended, end) = channel();
        let slot = Arc::new(Mutex::new(None));
        // Nobody is heard before the writer is in its place.
        let mut held = slot.lock().unwrap();
        let holder = Holder { books: Mutex::new(books), writer: Arc::clone(&slot), ended };
        let writer = Writer::start(store, holder).unwrap();
        writer.bell().ring();
        *held = Some(writer);
        drop(held);
        end.recv().unwrap();
        assert!(slot.lock().unwrap().is_none());
    }
}
