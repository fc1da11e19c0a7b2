//! The root configuration, followed while the proxy runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ledger::Ledger;
use rand::RngExt as _;
use ton::{Address, PseudoRootError, RootConfig};
use transport::clock::unix_now;

use crate::core::{Terms, TermsError};
use crate::journal::{BooksError, Store};
use crate::shell::Shell;

/// How often the configuration is read again, at random between these.
const POLL_INTERVAL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));

/// The root configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The file cannot be read.
    #[error("cannot read the root configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no root configuration.
    #[error("the root configuration {} cannot be used", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PseudoRootError,
    },
    /// No proxy can work on it.
    #[error(transparent)]
    Terms(#[from] TermsError),
}

/// The proxy's part of its terms, whatever the network's part is.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) root_config: PathBuf,
    pub(crate) root_address: Address,
    pub(crate) owner: Address,
    pub(crate) wallet: Address,
    pub(crate) machine_key: SigningKey,
    /// Folder of the books of all contracts that the key ever signed for.
    pub(crate) books: PathBuf,
    pub(crate) is_testnet: bool,
    pub(crate) check_worker_hashes: bool,
    /// When the file was last read, in seconds since 1970.
    pub(crate) read_at: AtomicU64,
}

impl Party {
    /// Reads the root configuration and derives the terms from it.
    pub(crate) async fn terms(&self) -> Result<Terms, NetworkError> {
        let root = read(&self.root_config).await?;
        self.read_at.store(unix_now().as_secs(), Ordering::Relaxed);
        let key = self.machine_key.clone();
        let (is_testnet, checks) = (self.is_testnet, self.check_worker_hashes);
        Ok(Terms::new(root, &self.root_address, &self.owner, self.wallet, key, is_testnet, checks)?)
    }
}

impl Party {
    /// Opens the books of the contract that follows from `terms`. Reads all of them.
    ///
    /// # Errors
    /// [`BooksError`] if they cannot be recovered.
    pub(crate) fn open_books(&self, terms: &Terms) -> Result<(Store, Ledger), BooksError> {
        let identity = terms.books_identity();
        let folder = self.books.join(hex::encode(identity.contract.hash()));
        Store::open(&folder, identity, self.machine_key.clone())
    }
}

async fn read(path: &Path) -> Result<RootConfig, NetworkError> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|source| NetworkError::Read { path: path.to_owned(), source })?;
    RootConfig::from_pseudo_json(&text)
        .map_err(|source| NetworkError::Parse { path: path.to_owned(), source })
}

/// Reads the file again and again; newer versions become the proxy's terms. A version is never taken back.
pub(crate) async fn follow(party: Arc<Party>, shell: Arc<Shell>) {
    loop {
        let pause = rand::rng().random_range(POLL_INTERVAL.0..POLL_INTERVAL.1);
        tokio::time::sleep(pause).await;
        match party.terms().await {
            Ok(terms) if terms.root().version > shell.look(|core| core.terms().root().version) => {
                tracing::info!(version = %terms.root().version, "new root configuration");
                if shell.look(|core| core.terms().shares_contracts(&terms)) {
                    shell.feed(|core, now| core.adopt(terms, now));
                    continue;
                }
                let (party, shell) = (Arc::clone(&party), Arc::clone(&shell));
                let moved = tokio::task::spawn_blocking(move || {
                    let (store, books) = party.open_books(&terms)?;
                    shell.move_to(terms, books, store).map_err(BooksError::from)
                });
                if let Ok(Err(error)) = moved.await {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        "cannot work on the new root configuration: its books cannot be opened"
                    );
                }
            }
            Ok(_same_or_older) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "kept the old root configuration");
            }
        }
    }
}
