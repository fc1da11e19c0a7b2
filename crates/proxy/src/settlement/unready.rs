//! Why a proxy does not serve.

use std::time::Duration;

use ledger::{Anchor, Ledger, Party};
use ton::Address;
use ton::states::ContractState;
use units::{AdjustedTokens, LogicalTime, NanoTon};

use super::{Settlement, Stage};
use crate::core::Now;

/// What the chain shows and the books do not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// An anchor.
    Anchor {
        /// Which one.
        anchor: Anchor,
        /// The transaction that showed it.
        lt: LogicalTime,
    },
    /// A total that only this proxy's key can have signed.
    Total {
        /// Whose.
        party: Party,
        /// The chain's.
        on_chain: AdjustedTokens,
        /// That of the books.
        known: AdjustedTokens,
        /// The transaction that showed it.
        lt: LogicalTime,
    },
}

impl Foreign {
    /// The transaction that showed it.
    #[must_use]
    pub const fn lt(&self) -> LogicalTime {
        match self {
            Self::Anchor { lt, .. } | Self::Total { lt, .. } => *lt,
        }
    }
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anchor { anchor, .. } => write!(f, "anchor {}", anchor.number),
            Self::Total { on_chain, known, .. } => {
                write!(f, "a total of {on_chain} tokens where these books have {known}")
            }
        }
    }
}

/// Why nothing new may be served. Each says who has to do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// Somebody else works with this proxy's key, or has.
    #[error(
        "the chain has {0} that these books do not hold: they are older than the newest ones, or another proxy works with a \
         copy of them. Stop the other proxy, or restore the newest books. If they are lost, set accept_chain_lt = {lt} to go \
         on with these: whatever was signed since is then lost to this proxy", lt = .0.lt().get()
    )]
    Foreign(Foreign),
    /// The chain was not read since the start.
    #[error("the proxy contract has not been read from the chain yet")]
    Unread,
    /// What is known of the chain is old.
    #[error(
        "nothing is known of the chain's last {} s: balances of clients may have changed; check the chain's server, and the \
         clock of this machine", .0.as_secs()
    )]
    Silent(Duration),
    /// The wallet cannot pay.
    #[error("the node wallet {wallet} has {balance} and needs {needed} to go on: send it the difference")]
    WalletShort {
        /// Its address.
        wallet: Address,
        /// What it has.
        balance: NanoTon,
        /// What it needs.
        needed: NanoTon,
    },
    /// The contract is on its way.
    #[error("the proxy contract {0} is being deployed")]
    Deploying(Address),
    /// Clients cannot pay in.
    #[error("the stake of the proxy contract is {stake}, the network wants {needed}: it is being raised")]
    StakeLow {
        /// What it is.
        stake: NanoTon,
        /// What it should be.
        needed: NanoTon,
    },
    /// The contract is on its way out.
    #[error(
        "the proxy contract closes: the proxy takes part again under the next params of the root contract"
    )]
    Closing,
    /// Too much would be lost with the disk.
    #[error("the books wait for an anchor on the chain: nothing new is taken on until it is there")]
    AnchorLate,
}

/// What a node wallet keeps, and what pays the proxy's next orders.
const WALLET_MIN: NanoTon = NanoTon::new(2_600_000_000);
/// Facts may be at least so old.
const SILENCE_MIN: Duration = Duration::from_secs(10);
/// And at most so old, however patient clients' contracts are.
const SILENCE_MAX: Duration = Duration::from_secs(2 * 3600);

impl Settlement {
    /// Why nothing new may be served under this contract; `None` if it may.
    #[must_use]
    pub fn unready(&self, books: &Ledger, now: Now) -> Option<Unready> {
        if let Some(foreign) = self.foreign {
            return Some(Unready::Foreign(foreign));
        }
        let (Some(own), Some(heard)) = (&self.own.contract, self.heard) else { return Some(Unready::Unread) };
        let silent = now.instant.saturating_duration_since(heard);
        if silent > self.silence_max() {
            return Some(Unready::Silent(silent));
        }
        let short = |needed: NanoTon| {
            let balance = self.wallet.filter(|balance| *balance < needed)?;
            Some(Unready::WalletShort { wallet: self.desk.wallet(), balance, needed })
        };
        if self.stage != Stage::Serving {
            return short(WALLET_MIN).or(Some(Unready::Closing));
        }
        let min_stake = self.desk.root().params.min_proxy_stake;
        let with = |amount: NanoTon| amount.checked_add(WALLET_MIN).unwrap_or(amount);
        let Some(own) = own else {
            return short(with(min_stake)).or(Some(Unready::Deploying(self.desk.contract())));
        };
        if own.state != ContractState::Normal {
            return Some(Unready::Closing);
        }
        if own.stake < min_stake {
            let low = Unready::StakeLow { stake: own.stake, needed: min_stake };
            return short(with(min_stake.saturating_sub(own.stake))).or(Some(low));
        }
        if books.is_anchor_late() {
            return short(WALLET_MIN).or(Some(Unready::AnchorLate));
        }
        None
    }

    /// What keeps a contract that closes from being closed, beside the time that it takes.
    #[must_use]
    pub fn trouble(&self, books: &Ledger, now: Now) -> Option<Unready> {
        self.unready(books, now).filter(|unready| !matches!(unready, Unready::Closing | Unready::Unread))
    }

    /// What the chain has and the books do not: nothing is signed any more then.
    #[must_use]
    pub const fn foreign(&self) -> Option<Foreign> {
        self.foreign
    }

    /// A client that leaves gets its money back without us after its delay. We must have heard of it well before.
    fn silence_max(&self) -> Duration {
        let delay = self.desk.root().params.client_delay_before_close.duration();
        (delay / 4).clamp(SILENCE_MIN, SILENCE_MAX)
    }
}
