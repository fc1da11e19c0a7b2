//! What the proxy's wallet sends, and the cells that say it.

use ed25519_dalek::SigningKey;
use ledger::{Anchor, Party};
use sha2::{Digest as _, Sha256};
use ton::contracts::{self, StateInit};
use ton::message::InternalMessage;
use ton::messages::{self, ProxyMessage};
use ton::payment::{PaymentKind, ProxyOrderKind, SignedPayment, SignedProxyOrder};
use ton::{Address, RootConfig};
use units::{AdjustedTokens, NanoTon, PublicKey};

/// An order, as the settlement numbers it. Numbers are not used twice in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// What the wallet has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which one.
    pub id: OrderId,
    /// What it is for.
    pub duty: Duty,
}

/// What an order is for. Tokens are totals since the contract began: landed twice, they count once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Make the proxy contract, with its stake.
    Deploy {
        /// The whole of it.
        stake: NanoTon,
    },
    /// Raise the stake of the proxy contract.
    RaiseStake {
        /// By so much.
        amount: NanoTon,
    },
    /// Show the proxy contract the books' anchor.
    Anchor(Anchor),
    /// Let a client's contract count what was used.
    Charge {
        /// Its owner.
        client: Address,
        /// The total.
        tokens: AdjustedTokens,
    },
    /// Let a client's contract count what was used, pay the rest back, and close.
    Refund {
        /// Its owner.
        client: Address,
        /// The total.
        tokens: AdjustedTokens,
    },
    /// Let a worker's contract pay out what was earned.
    Payout {
        /// Its owner.
        worker: Address,
        /// The total.
        tokens: AdjustedTokens,
    },
    /// Let a worker's contract pay out what was earned, and close.
    LastPayout {
        /// Its owner.
        worker: Address,
        /// The total.
        tokens: AdjustedTokens,
    },
    /// Pay the proxy's owner what the proxy earned.
    Withdraw,
    /// Let the proxy contract begin to close.
    Close,
    /// Close the proxy contract.
    CompleteClose,
}

impl Duty {
    /// The duty in one word of a log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Deploy { .. } => "deploy",
            Self::RaiseStake { .. } => "raise stake",
            Self::Anchor(_) => "anchor",
            Self::Charge { .. } => "charge",
            Self::Refund { .. } => "refund",
            Self::Payout { .. } => "payout",
            Self::LastPayout { .. } => "last payout",
            Self::Withdraw => "withdraw",
            Self::Close => "close",
            Self::CompleteClose => "complete close",
        }
    }

    /// Whose contract it is sent to; `None` for the proxy's own.
    #[must_use]
    pub const fn party(&self) -> Option<Party> {
        match *self {
            Self::Charge { client, .. } | Self::Refund { client, .. } => Some(Party::Client(client)),
            Self::Payout { worker, .. } | Self::LastPayout { worker, .. } => Some(Party::Worker(worker)),
            Self::Deploy { .. }
            | Self::RaiseStake { .. }
            | Self::Anchor(_)
            | Self::Withdraw
            | Self::Close
            | Self::CompleteClose => None,
        }
    }

    /// Whether it changes the proxy contract.
    #[must_use]
    pub const fn is_to_own_contract(&self) -> bool {
        self.party().is_none() && !matches!(self, Self::Anchor(_))
    }

    /// Coins to send along. What is not needed comes back to the wallet.
    #[must_use]
    pub fn value(&self) -> NanoTon {
        let beside = |amount: NanoTon| amount.checked_add(ATTACHED).unwrap_or(amount);
        match *self {
            Self::Deploy { stake } => beside(stake),
            Self::RaiseStake { amount } => beside(amount),
            Self::Anchor(_) => NanoTon::new(1),
            Self::Charge { .. }
            | Self::Refund { .. }
            | Self::Payout { .. }
            | Self::LastPayout { .. }
            | Self::Withdraw
            | Self::Close
            | Self::CompleteClose => ATTACHED,
        }
    }
}

/// Contracts ask for 0.1 TON beside what an operation moves, and for as much again if they hold nothing yet.
const ATTACHED: NanoTon = NanoTon::new(250_000_000);

/// How a proxy writes and signs its orders: its keys, its addresses and the contracts that follow from them.
pub struct Desk {
    root: RootConfig,
    root_address: Address,
    owner: Address,
    wallet: Address,
    key: SigningKey,
    public_key: PublicKey,
    contract: Address,
}

/// The signing key stays out of everything printed.
impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("contract", &self.contract).finish_non_exhaustive()
    }
}

impl Desk {
    /// The desk of the contract that follows from `owner`, `key` and the root. `wallet` sends, and gets back what was
    /// not needed.
    #[must_use]
    pub fn new(
        root: RootConfig,
        root_address: Address,
        owner: Address,
        wallet: Address,
        key: SigningKey,
    ) -> Self {
        let public_key = PublicKey::new(key.verifying_key().to_bytes());
        let contract = contracts::proxy_address(&root, &owner, &public_key, &root_address);
        Self { root, root_address, owner, wallet, key, public_key, contract }
    }

    /// The proxy contract.
    #[must_use]
    pub const fn contract(&self) -> Address {
        self.contract
    }

    /// The wallet that sends.
    #[must_use]
    pub const fn wallet(&self) -> Address {
        self.wallet
    }

    pub(super) const fn root(&self) -> &RootConfig {
        &self.root
    }

    /// The contract between an owner and this proxy.
    #[must_use]
    pub fn contract_of(&self, party: Party) -> Address {
        match party {
            Party::Client(owner) => {
                contracts::client_address(&self.root, &owner, &self.contract, &self.public_key)
            }
            Party::Worker(owner) => {
                contracts::worker_address(&self.root, &owner, &self.contract, &self.public_key)
            }
        }
    }

    /// The number of a duty's order: another for each thing that an order can do, and in another process the same.
    #[must_use]
    pub fn number(&self, duty: &Duty, with_state: bool) -> u64 {
        let mut digest = Sha256::new();
        digest.update(self.contract.to_string());
        digest.update(duty.name());
        digest.update([0, u8::from(with_state)]);
        if let Some(party) = duty.party() {
            digest.update(party.owner().to_string());
        }
        match *duty {
            Duty::Deploy { stake: amount } | Duty::RaiseStake { amount } => {
                digest.update(amount.get().to_be_bytes());
            }
            Duty::Anchor(Anchor { number, hash }) => {
                digest.update(number.to_be_bytes());
                digest.update(hash);
            }
            Duty::Charge { tokens, .. }
            | Duty::Refund { tokens, .. }
            | Duty::Payout { tokens, .. }
            | Duty::LastPayout { tokens, .. } => digest.update(tokens.get().to_be_bytes()),
            Duty::Withdraw | Duty::Close | Duty::CompleteClose => {}
        }
        let [a, b, c, d, e, f, g, h, ..] = digest.finalize().0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The message that carries a duty out. What needs a signature is signed here and now. `with_state` sends a worker's
    /// contract its first state, which does nothing if it has one.
    #[must_use]
    pub fn message(&self, duty: &Duty, query_id: u64, with_state: bool) -> InternalMessage {
        let excess = self.wallet;
        let signed = |kind, party, tokens| {
            node::failpoint::pass("order-sign");
            let contract = self.contract_of(party);
            SignedPayment::sign(&self.key, kind, query_id, tokens, &contract, &excess).to_cell()
        };
        let own = |kind| {
            node::failpoint::pass("order-sign");
            SignedProxyOrder::sign(&self.key, kind, query_id, &self.contract, &excess).to_cell()
        };
        let body = match *duty {
            Duty::Deploy { stake } if stake == NanoTon::ZERO => None,
            Duty::Deploy { stake: amount } | Duty::RaiseStake { amount } => {
                Some(ProxyMessage::IncreaseStake { query_id, amount, excess }.to_cell())
            }
            Duty::Anchor(Anchor { number: seqno, hash }) => {
                Some(messages::Anchor { query_id, seqno, hash }.to_cell())
            }
            Duty::Charge { client, tokens } => {
                Some(signed(PaymentKind::ClientCharge, Party::Client(client), tokens))
            }
            Duty::Refund { client, tokens } => {
                Some(signed(PaymentKind::ClientRefund, Party::Client(client), tokens))
            }
            Duty::Payout { worker, tokens } => {
                Some(signed(PaymentKind::WorkerPayout, Party::Worker(worker), tokens))
            }
            Duty::LastPayout { worker, tokens } => {
                Some(signed(PaymentKind::WorkerLastPayout, Party::Worker(worker), tokens))
            }
            Duty::Withdraw => Some(ProxyMessage::Payout { query_id, excess }.to_cell()),
            Duty::Close => Some(own(ProxyOrderKind::Close)),
            Duty::CompleteClose => Some(own(ProxyOrderKind::CompleteClose)),
        };
        InternalMessage {
            to: duty.party().map_or(self.contract, |party| self.contract_of(party)),
            value: duty.value(),
            // A nanoton buys no way back either.
            bounce: !matches!(duty, Duty::Anchor(_)),
            state_init: self.state_of(duty, with_state),
            body,
        }
    }

    fn state_of(&self, duty: &Duty, with_state: bool) -> Option<StateInit> {
        match duty.party() {
            Some(Party::Worker(owner)) if with_state => {
                Some(contracts::worker_init(&self.root, &owner, &self.contract, &self.public_key))
            }
            None if matches!(duty, Duty::Deploy { .. }) => {
                Some(contracts::proxy_init(&self.root, &self.owner, &self.public_key, &self.root_address))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_do_the_same_and_no_others_have_one_number() {
        let owner = |number: u8| Address::new(0, [number; 32]);
        let desk = |params_version: u32| {
            let mut root = RootConfig::pseudo(owner(1));
            root.params.params_version = params_version;
            Desk::new(root, owner(3), owner(2), owner(4), SigningKey::from_bytes(&[7; 32]))
        };
        let (one, two) = (AdjustedTokens::new(1), AdjustedTokens::new(2));
        let amount = NanoTon::new(1);
        let orders = [
            (Duty::Deploy { stake: amount }, false),
            (Duty::Deploy { stake: NanoTon::new(2) }, false),
            (Duty::RaiseStake { amount }, false),
            (Duty::Anchor(Anchor { number: 1, hash: [1; 32] }), false),
            (Duty::Anchor(Anchor { number: 1, hash: [2; 32] }), false),
            (Duty::Anchor(Anchor { number: 2, hash: [1; 32] }), false),
            (Duty::Charge { client: owner(5), tokens: one }, false),
            (Duty::Charge { client: owner(5), tokens: two }, false),
            (Duty::Charge { client: owner(6), tokens: one }, false),
            (Duty::Refund { client: owner(5), tokens: one }, false),
            (Duty::Payout { worker: owner(5), tokens: one }, false),
            (Duty::Payout { worker: owner(5), tokens: one }, true),
            (Duty::LastPayout { worker: owner(5), tokens: one }, false),
            (Duty::Withdraw, false),
            (Duty::Close, false),
            (Duty::CompleteClose, false),
        ];
        let numbers = || {
            let desks = [desk(1), desk(2)];
            let of = |desk: &Desk| orders.map(|(duty, with_state)| desk.number(&duty, with_state));
            desks.each_ref().map(of).concat()
        };
        assert_eq!(numbers(), numbers());
        let different: std::collections::BTreeSet<_> = numbers().into_iter().collect();
        assert_eq!(different.len(), 2 * orders.len());
    }
}
