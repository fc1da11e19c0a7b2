//! The root configuration, followed while the proxy runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ledger::Ledger;
use node::{RootError, RootSource};
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ton::{Address, RootConfig};
use units::ConfigVersion;

use crate::closing::{self, OnChain};
use crate::core::{Terms, TermsError};
use crate::journal::{BooksError, Store};
use crate::kept::{self, ROOT_FILE};
use crate::settlement::{Desk, Settlement};
use crate::settling::{self, Of};
use crate::shell::Shell;

/// The root configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is none.
    #[error(transparent)]
    Root(#[from] RootError),
    /// No proxy can work on it.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// It is older than what this proxy worked on before.
    #[error(
        "the chain's server tells of version {told} of the root configuration, this proxy worked on version {known} before: the \
         server is behind; wait, or set another one in the section chain. Was the network begun anew at its old address? Then move \
         machine.key and books away"
    )]
    Behind {
        /// The version told.
        told: ConfigVersion,
        /// The version known.
        known: ConfigVersion,
    },
}

/// The proxy's part of its terms, whatever the network's part is.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) root: RootSource,
    pub(crate) root_address: Address,
    pub(crate) owner: Address,
    pub(crate) wallet: Address,
    pub(crate) machine_key: SigningKey,
    /// Folder of the books of all contracts that the key ever signed for.
    pub(crate) books: PathBuf,
    pub(crate) is_testnet: bool,
    pub(crate) check_worker_hashes: bool,
    /// The chain that is followed, if there is one.
    pub(crate) on_chain: Option<Arc<OnChain>>,
}

impl Party {
    /// The terms that follow from a root configuration.
    pub(crate) fn terms(&self, root: RootConfig) -> Result<Terms, TermsError> {
        let key = self.machine_key.clone();
        let (is_testnet, checks) = (self.is_testnet, self.check_worker_hashes);
        let terms = if self.on_chain.is_some() { Terms::on_chain } else { Terms::new };
        terms(root, &self.root_address, &self.owner, self.wallet, key, is_testnet, checks)
    }

    /// How orders of the contract of `terms` are written.
    fn desk(&self, terms: &Terms) -> Desk {
        let key = self.machine_key.clone();
        Desk::new(terms.root().clone(), self.root_address, self.owner, self.wallet, key)
    }

    /// The settlement of the contract of `terms`, if a chain is followed.
    pub(crate) fn settlement(&self, terms: &Terms, books: &mut Ledger) -> Option<Settlement> {
        let on_chain = self.on_chain.as_ref()?;
        Some(on_chain.settlement(self.desk(terms), books))
    }

    /// Where the books of the contract of `terms` are.
    pub(crate) fn folder(&self, terms: &Terms) -> PathBuf {
        self.books.join(hex::encode(terms.books_identity().contract.hash()))
    }
}

impl Party {
    /// Opens the books of the contract that follows from `terms`. Reads all of them.
    ///
    /// # Errors
    /// [`BooksError`] if they cannot be recovered.
    pub(crate) fn open_books(&self, terms: &Terms) -> Result<(Store, Ledger), BooksError> {
        let folder = self.folder(terms);
        let opened = Store::open(&folder, terms.books_identity(), self.machine_key.clone())?;
        if self.on_chain.is_some() {
            let path = folder.join(ROOT_FILE);
            kept::keep_root(terms.root(), &path).map_err(|source| BooksError::Io { path, source })?;
        }
        Ok(opened)
    }
}

/// What the tasks of contracts run in.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.stop.clone().run_until_cancelled_owned(task));
    }
}

/// Settles the contract that the core works under; the task of the one before ends.
pub(crate) fn settle(party: &Party, shell: &Arc<Shell>, tasks: &Tasks) {
    let Some(on_chain) = &party.on_chain else { return };
    let (sender, actions) = unbounded_channel();
    shell.settle_with(sender);
    let contract = shell.look(|core| core.settlement().map(|settlement| settlement.desk().contract()));
    if let Some(contract) = contract {
        let of = Of::Present(Arc::clone(shell), contract);
        tasks.spawn(settling::settle(of, Arc::clone(on_chain), actions));
    }
}

/// Goes on closing those of the `kept` contracts that were left in an earlier life of this process.
pub(crate) fn close_left(party: &Party, shell: &Shell, tasks: &Tasks, kept: Vec<Terms>) {
    for left in kept {
        if shell.look(|core| kept::is_left(&left, core.terms())) {
            close(party, &left, tasks);
        }
    }
}

/// Closes a contract that was left.
fn close(party: &Party, left: &Terms, tasks: &Tasks) {
    let Some(on_chain) = &party.on_chain else { return };
    let closed = party.open_books(left).and_then(|books| {
        let file = party.folder(left).join(ROOT_FILE);
        closing::close(on_chain, party.desk(left), books, file).map_err(BooksError::from)
    });
    match closed {
        Ok(task) => tasks.spawn(task),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                error,
                "a contract that was left cannot be closed now; the next start tries again"
            );
        }
    }
}

/// How long after a move that failed it is tried again.
const MOVE_AGAIN: Duration = Duration::from_secs(10);

/// Makes newer versions of the configuration the proxy's terms, for ever.
pub(crate) async fn follow(party: Arc<Party>, shell: Arc<Shell>, tasks: Tasks) {
    loop {
        let known = shell.look(|core| core.terms().root().version);
        let newer = party.root.newer_than(known).await;
        if let Err(error) = take_over(&party, &shell, &tasks, newer).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot work on the new root configuration; it is tried again"
            );
        } else {
            continue;
        }
        tokio::time::sleep(MOVE_AGAIN).await;
    }
}

/// A newer root configuration cannot be worked on.
#[derive(Debug, thiserror::Error)]
enum MoveError {
    /// What it says.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The books of its contract.
    #[error("the books of its contract cannot be opened")]
    Books(#[from] BooksError),
    /// Params only ever rise on the chain.
    #[error(
        "its params are not newer than those before, as on a chain they always are: the chain's server lies"
    )]
    OlderParams,
}

/// Puts the core to work on a newer root configuration. If that means another contract, the one before is closed beside it.
async fn take_over(
    party: &Arc<Party>,
    shell: &Arc<Shell>,
    tasks: &Tasks,
    newer: RootConfig,
) -> Result<(), MoveError> {
    let terms = party.terms(newer)?;
    if shell.look(|core| core.terms().shares_contracts(&terms)) {
        shell.feed(|core, now| core.adopt(terms, now));
        return Ok(());
    }
    let left = shell.look(|core| core.terms().root().clone());
    if party.on_chain.is_some() && terms.root().params.params_version <= left.params.params_version {
        return Err(MoveError::OlderParams);
    }
    let (moving, to) = (Arc::clone(party), Arc::clone(shell));
    let moved = tokio::task::spawn_blocking(move || {
        let (store, mut books) = moving.open_books(&terms)?;
        let settlement = moving.settlement(&terms, &mut books);
        to.move_to(terms, (store, books), settlement).map_err(BooksError::from)
    });
    if let Ok(moved) = moved.await {
        moved?;
    }
    settle(party, shell, tasks);
    let left = party.terms(left)?;
    let (party, tasks) = (Arc::clone(party), tasks.clone());
    let closing = tokio::task::spawn_blocking(move || close(&party, &left, &tasks));
    let _panicked_only = closing.await;
    Ok(())
}
