//! Orders and what becomes of them.

use std::fmt;

use ton::message::{InternalMessage, SendMode};
use tycho_types::cell::Cell;
use units::NanoTon;

use super::hash;
use crate::transaction::{Effect, Message, NotRun, Route, TransactionId};

/// The number of an order, drawn at random by whoever orders. The same number is the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A message that a node wallet shall send, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its number.
    pub id: OrderId,
    /// The message.
    pub message: InternalMessage,
}

/// An order that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// More than a node wallet ever sends.
    #[error("the order sends {value}, a node wallet sends at most {value_max} at once: split it")]
    TooLarge {
        /// What it would send.
        value: NanoTon,
        /// What is sent at most.
        value_max: NanoTon,
    },
    /// The rest of the wallet is promised to others.
    #[error(
        "the order needs {needed}, and of the node wallet's balance {unpromised} is promised to no other order: wait for \
         those, or send it more"
    )]
    NotCovered {
        /// What is promised to nobody.
        unpromised: NanoTon,
        /// What the order and its fees need.
        needed: NanoTon,
    },
    /// Too many wait.
    #[error("{} orders of the node wallet wait already", super::WAITING_MAX)]
    Full,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver's contract did what the message asks.
    Done {
        /// The receiver's transaction.
        transaction: TransactionId,
    },
    /// The message arrived with its money, and no contract ran: a transfer to an account without one, or a notice
    /// of too little to pay for more.
    Arrived {
        /// The receiver's transaction.
        transaction: TransactionId,
        /// Why no contract ran.
        why: NotRun,
    },
    /// The receiver refused.
    Refused {
        /// The receiver's transaction.
        transaction: TransactionId,
        /// How it ended.
        effect: Effect,
        /// What is on its way back to the wallet.
        returned: NanoTon,
    },
    /// The wallet could not send the message: nothing has left.
    NotSent,
    /// The message left, and no server could say what became of it for ten minutes. The receiver's state tells.
    Unresolved,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { .. } => f.write_str("done"),
            Self::Arrived { why, .. } => write!(f, "arrived, but {}", Effect::NotRun(*why)),
            Self::Refused { effect, returned, .. } => write!(f, "{effect}; {returned} came back"),
            Self::NotSent => f.write_str("never left the node wallet"),
            Self::Unresolved => f.write_str("left the node wallet, and nobody could say what became of it"),
        }
    }
}

impl Outcome {
    /// Where the receiver dealt with it, if that is known.
    #[must_use]
    pub const fn transaction(self) -> Option<TransactionId> {
        match self {
            Self::Done { transaction }
            | Self::Arrived { transaction, .. }
            | Self::Refused { transaction, .. } => Some(transaction),
            Self::NotSent | Self::Unresolved => None,
        }
    }

    /// Whether the receiver's contract did what the message asks.
    #[must_use]
    pub fn is_done(self) -> bool {
        matches!(self, Self::Done { .. })
    }
}

impl Order {
    /// The message as the wallet sends it. Fees come out of the amount, unless there is hardly one. If it cannot be
    /// sent, the others of its batch are all the same, and the wallet's seqno goes on.
    pub(super) fn to_send(&self) -> (SendMode, Cell) {
        let is_notice = self.message.value.get() <= 1;
        let mode = if is_notice { SendMode::FEES_APART } else { SendMode::PLAIN };
        (mode.ignoring_errors(), self.message.to_cell())
    }

    /// Whether this is the message that the order became. Fees may have been taken off its amount.
    pub(super) fn became(&self, message: &Message) -> bool {
        let Route::Internal { to, value, bounce, bounced: false, .. } = message.route else { return false };
        let body = self.message.body.clone().unwrap_or_default();
        to == self.message.to
            && value <= self.message.value
            && bounce == self.message.bounce
            && message.has_state_init == self.message.state_init.is_some()
            && hash(&message.body) == hash(&body)
    }
}
