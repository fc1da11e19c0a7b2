//! Contracts that were left and are being closed: each has its settlement and its books here, beside those at work.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use chain::outbox::Hold;
use chain::{Provider, Wallet};
use ledger::Ledger;
use ledger::journal::CommitNumber;
use rand::RngExt as _;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use ton::Address;
use units::LogicalTime;

use crate::core::Now;
use crate::journal::{Bell, Source, Store, Writer};
use crate::settlement::{Action, Desk, Policy, Settlement, Unready};
use crate::settling::{self, Of};
use crate::shell::{AbortOnPanic, now};

/// What the tasks of all contracts share.
#[derive(Debug)]
pub(crate) struct OnChain {
    pub(crate) provider: Provider,
    pub(crate) wallet: Wallet,
    pub(crate) policy: Policy,
    pub(crate) accepted: LogicalTime,
    closing: Mutex<BTreeMap<Address, Arc<Closing>>>,
}

impl OnChain {
    pub(crate) fn new(provider: Provider, wallet: Wallet, policy: Policy, accepted: LogicalTime) -> Self {
        Self { provider, wallet, policy, accepted, closing: Mutex::default() }
    }

    /// The settlement of a contract, whose books follow the chain from now on.
    pub(crate) fn settlement(&self, desk: Desk, books: &mut Ledger) -> Settlement {
        Settlement::new(desk, self.policy, self.accepted, books, rand::rng().random())
    }

    /// Contracts that are being closed.
    pub(crate) fn closing(&self) -> Vec<Arc<Closing>> {
        self.lock().values().cloned().collect()
    }

    /// What keeps orders from being sent that an operator has to see to, beside too little money for the next one.
    pub(crate) fn hold(&self) -> Option<Hold> {
        let is_his = |hold: &Hold| matches!(hold, Hold::Blocked | Hold::Clock(_) | Hold::OtherContract);
        self.wallet.view().hold.filter(is_his)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Address, Arc<Closing>>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A contract that was left, its books, and who writes them.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) contract: Address,
    state: Mutex<State>,
    actions: UnboundedSender<Action>,
    writer: Mutex<Option<Writer>>,
    bell: OnceLock<Arc<Bell>>,
    /// Removed when the contract is closed, so that nobody opens it again.
    root_file: PathBuf,
}

#[derive(Debug)]
struct State {
    settlement: Settlement,
    books: Ledger,
    /// What the operator was told last.
    trouble: Option<Unready>,
}

impl Closing {
    /// An event that breaks off ends the process, so what is behind the lock is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Settlement, &Ledger) -> T) -> T {
        let state = self.lock();
        look(&state.settlement, &state.books)
    }

    /// What keeps it from being closed.
    pub(crate) fn trouble(&self) -> Option<Unready> {
        self.lock().trouble
    }

    pub(crate) fn feed(&self, event: impl FnOnce(&mut Settlement, &mut Ledger, Now)) {
        let mut state = self.lock();
        let abort = AbortOnPanic;
        let State { settlement, books, trouble } = &mut *state;
        let now = now();
        event(settlement, books, now);
        settlement.advance(books, now);
        while let Some(action) = settlement.poll_action() {
            // Its receiver ends with the proxy.
            let _ended = self.actions.send(action);
        }
        let before = std::mem::replace(trouble, settlement.trouble(books, now));
        let kind = |trouble: &Option<Unready>| trouble.as_ref().map(std::mem::discriminant);
        match trouble {
            Some(trouble) if kind(&before) != Some(std::mem::discriminant(trouble)) => {
                let contract = self.contract;
                tracing::warn!(%contract, reason = %trouble, "a proxy contract cannot be closed yet");
            }
            _ => {}
        }
        if books.records_len() > 0
            && let Some(bell) = self.bell.get()
        {
            bell.ring();
        }
        drop(abort);
    }

    /// Writes what is left of the books, and ends their writer. Waits for the disk.
    pub(crate) fn stop_writer(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(writer);
    }

    /// The contract is closed for good. Waits for the disk.
    pub(crate) fn end(&self, on_chain: &OnChain) {
        self.stop_writer();
        tracing::info!(contract = %self.contract, "a proxy contract is closed");
        if let Err(error) = std::fs::remove_file(&self.root_file) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "a closed contract will be looked at again at the next start");
        }
        on_chain.lock().remove(&self.contract);
    }
}

/// The records of the books of a contract that closes.
struct Records(Weak<Closing>);

impl Source for Records {
    fn take(&self, into: &mut Vec<u8>) -> Option<CommitNumber> {
        self.0.upgrade()?.lock().books.take_records(into)
    }

    fn committed(&self, commit: CommitNumber) {
        if let Some(closing) = self.0.upgrade() {
            closing.feed(|_, books, _| books.committed(commit));
        }
    }

    /// Nothing new happens in these books but what the chain says; it waits.
    fn stuck(&self) {}
}

/// Begins to close a contract that was left: its settlement and books are `desk`'s, its files in `store`. The task that
/// has to run.
///
/// # Errors
/// If the system has no thread to write the books.
pub(crate) fn close(
    on_chain: &Arc<OnChain>,
    desk: Desk,
    (store, mut books): (Store, Ledger),
    root_file: PathBuf,
) -> std::io::Result<impl Future<Output = ()> + use<>> {
    let contract = desk.contract();
    let mut settlement = on_chain.settlement(desk, &mut books);
    settlement.begin_close(&books);
    let (actions, receiver) = unbounded_channel();
    let closing = Arc::new(Closing {
        contract,
        state: Mutex::new(State { settlement, books, trouble: None }),
        actions,
        writer: Mutex::default(),
        bell: OnceLock::new(),
        root_file,
    });
    let writer = Writer::start(store, Records(Arc::downgrade(&closing)))?;
    let _only_once = closing.bell.set(writer.bell());
    *closing.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
    on_chain.lock().insert(contract, Arc::clone(&closing));
    tracing::info!(%contract, "a proxy contract is being closed");
    Ok(settling::settle(Of::Closing(closing), Arc::clone(on_chain), receiver))
}
