//! What the chain says about the contracts of clients and workers, as far as the books have to remember it.

use units::{AdjustedTokens, LogicalTime, TransactionHash};

use crate::{ClientFunds, Ledger};
use ton::Address;
use ton::states::ContractState;

/// A client's contract as the chain showed it last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientContract {
    /// What the client can spend there.
    pub funds: ClientFunds,
    /// Whether it may.
    pub state: ContractState,
    /// SHA-256 of the client's secret; zero for none.
    pub secret_hash: [u8; 32],
}

/// A worker's contract as the chain showed it last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerContract {
    /// Tokens that were paid out, since the contract exists.
    pub paid: AdjustedTokens,
    /// Whether more will be.
    pub state: ContractState,
}

/// A transaction of the proxy's contract, by what names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its logical time.
    pub lt: LogicalTime,
    /// The hash of its cell, which covers all transactions before it.
    pub hash: TransactionHash,
}

/// Whose total it is. One owner may be both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A client.
    Client(Address),
    /// A worker.
    Worker(Address),
}

impl Party {
    /// Whose it is.
    #[must_use]
    pub const fn owner(&self) -> Address {
        match *self {
            Self::Client(owner) | Self::Worker(owner) => owner,
        }
    }
}

impl Ledger {
    /// Notes a client's contract as the chain shows it now. Unlike [`Self::open_client`] it is recorded whatever it
    /// says: the transactions that said it are not read again. Tokens that the chain counts and this ledger does not
    /// are brought forward; whether that may be is the caller's to decide, since nobody but this proxy signs them.
    pub fn client_on_chain(&mut self, client: Address, contract: ClientContract) {
        let account = self.clients.entry(client).or_default();
        let (before, used_before) = (account.contract(), account.used());
        if before == contract && account.is_on_chain {
            return;
        }
        account.is_on_chain = true;
        account.funds = contract.funds;
        account.state = contract.state;
        account.secret_hash = contract.secret_hash;
        account.bring_forward();
        self.recorder.note_client(&client, account, used_before);
    }

    /// The client's contract; `None` if the chain has not shown it.
    #[must_use]
    pub fn client_contract(&self, client: Address) -> Option<ClientContract> {
        let account = self.clients.get(&client)?;
        account.is_on_chain.then(|| account.contract())
    }

    /// Notes a worker's contract as the chain shows it now. What it paid out and this ledger does not know is brought
    /// forward, as with clients.
    pub fn worker_on_chain(&mut self, worker: Address, contract: WorkerContract) {
        let account = self.workers.entry(worker).or_default();
        if account.contract == Some(contract) {
            return;
        }
        let earned_before = account.total();
        account.contract = Some(contract);
        account.bring_forward();
        self.recorder.note_worker(&worker, account, earned_before, contract);
    }

    /// The worker's contract; `None` if the chain has not shown it.
    #[must_use]
    pub fn worker_contract(&self, worker: Address) -> Option<WorkerContract> {
        self.workers.get(&worker).and_then(|account| account.contract)
    }

    /// All facts of the transactions of the proxy's contract up to this one are in these books.
    pub fn followed_to(&mut self, transaction: Followed) {
        if self.followed.is_none_or(|before| before.lt < transaction.lt) {
            self.followed = Some(transaction);
            self.recorder.note_followed(&transaction);
        }
    }

    /// The transaction to go on after; `None` before the first.
    #[must_use]
    pub const fn followed(&self) -> Option<Followed> {
        self.followed
    }
}
