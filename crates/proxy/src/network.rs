//! The root configuration, followed while the proxy runs.

use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use ledger::Ledger;
use node::{RootError, RootFile};
use ton::{Address, RootConfig};

use crate::core::{Terms, TermsError};
use crate::journal::{BooksError, Store};
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
}

/// The proxy's part of its terms, whatever the network's part is.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) root_file: RootFile,
    pub(crate) root_address: Address,
    pub(crate) owner: Address,
    pub(crate) wallet: Address,
    pub(crate) machine_key: SigningKey,
    /// Folder of the books of all contracts that the key ever signed for.
    pub(crate) books: PathBuf,
    pub(crate) is_testnet: bool,
    pub(crate) check_worker_hashes: bool,
}

impl Party {
    /// The terms that follow from a root configuration.
    pub(crate) fn terms(&self, root: RootConfig) -> Result<Terms, TermsError> {
        let key = self.machine_key.clone();
        let (is_testnet, checks) = (self.is_testnet, self.check_worker_hashes);
        Terms::new(root, &self.root_address, &self.owner, self.wallet, key, is_testnet, checks)
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

/// Makes newer versions of the file the proxy's terms, for ever.
pub(crate) async fn follow(party: Arc<Party>, shell: Arc<Shell>) {
    loop {
        let known = shell.look(|core| core.terms().root().version);
        match party.terms(party.root_file.newer_than(known).await) {
            Ok(terms) if shell.look(|core| core.terms().shares_contracts(&terms)) => {
                shell.feed(|core, now| core.adopt(terms, now));
            }
            Ok(terms) => {
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
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "kept the old root configuration");
            }
        }
    }
}
