//! Transactions, read from their cells: nothing else that a server says about one counts.

use std::fmt;

use ton::{Address, BocError, ExitCode, decode_boc};
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::error::Error as CellError;
use tycho_types::models::{ComputePhase, ComputePhaseSkipReason, IntAddr, MsgInfo, OwnedMessage, TxInfo};
use units::{LogicalTime, MessageHash, NanoTon, TransactionHash};

/// Longest bag of cells with one transaction: two messages of the largest size, and what happened.
const TRANSACTION_LEN_MAX: usize = 4 << 20;

/// What names a transaction of an account. The hash covers all earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionId {
    /// Its logical time.
    pub lt: LogicalTime,
    /// The hash of its cell.
    pub hash: TransactionHash,
}

/// A transaction of one account.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Its logical time and hash.
    pub id: TransactionId,
    /// The one before it on the same account; none before the first.
    pub previous: Option<TransactionId>,
    /// The time of its block, in seconds since 1970.
    pub unix_time: u32,
    /// What it was about. None for the ticks of the network's own contracts.
    pub incoming: Option<Message>,
    /// What it sent, in order.
    pub outgoing: Vec<Message>,
    /// How it ended.
    pub effect: Effect,
    /// What it cost the account, beside what its messages cost on their way.
    pub fees: NanoTon,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The contract ran and did what it wanted.
    Done,
    /// The contract refused: its state is as it was, the message's money was sent back if the message asked for it.
    Refused {
        /// Of the contract, or of the TVM.
        exit_code: i32,
    },
    /// The contract ran, but something it wanted to send could not be sent: its state is as it was.
    ActionFailed {
        /// The result of the action phase; 37 is too little money.
        result_code: i32,
    },
    /// No contract ran. What came with the message is on the account, unless the message came back.
    NotRun(NotRun),
}

/// In words, such as "refused with exit code 1010" and what that means.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Refused { exit_code } => {
                write!(f, "refused with exit code {exit_code}")?;
                match ExitCode::new(*exit_code).advice() {
                    Some((what, next)) => write!(f, ": {what}; {next}"),
                    None => Ok(()),
                }
            }
            Self::ActionFailed { result_code } => {
                write!(f, "the contract could not send what it wanted (result {result_code})")
            }
            Self::NotRun(NotRun::NoContract) => f.write_str("there is no contract"),
            Self::NotRun(NotRun::OtherState) => f.write_str("the state that came along is not the account's"),
            Self::NotRun(NotRun::NoGas) => {
                f.write_str("no contract ran: too little to pay for it came along")
            }
            Self::NotRun(NotRun::Suspended) => f.write_str("the network has suspended the account"),
        }
    }
}

impl Effect {
    /// Whether the contract ran and did what it wanted.
    #[must_use]
    pub fn is_done(self) -> bool {
        self == Self::Done
    }
}

/// Why no contract ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRun {
    /// There is none on the account.
    NoContract,
    /// The state that came with the message is not the account's.
    OtherState,
    /// The message brought too little to pay for it. So end notices of a nanoton.
    NoGas,
    /// The network has suspended the account.
    Suspended,
}

/// A message, to or from an account.
#[derive(Clone, Debug)]
pub struct Message {
    /// The hash of its cell.
    pub hash: MessageHash,
    /// Where it comes from and what it carries.
    pub route: Route,
    /// What its sender paid for its way, beside what is in its transaction's [`Transaction::fees`].
    pub forward_fee: NanoTon,
    /// What it says.
    pub body: Cell,
    /// Whether it brings a contract's first state.
    pub has_state_init: bool,
}

/// Ways of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// From outside to the account.
    In,
    /// From an account to another one.
    Internal {
        /// Its sender.
        from: Address,
        /// Its receiver.
        to: Address,
        /// What it carries.
        value: NanoTon,
        /// Whether it asks to come back when it is refused.
        bounce: bool,
        /// Whether it is one that came back.
        bounced: bool,
        /// When it was sent. No two messages of a sender share theirs.
        created_lt: LogicalTime,
    },
    /// From the account to whoever watches it.
    Out,
    /// From or to an address of a form that nobody in Cocoon has. It must not stop who reads on.
    Elsewhere,
}

impl Message {
    /// What it carries; nothing for those from and to the outside.
    #[must_use]
    pub fn value(&self) -> NanoTon {
        match self.route {
            Route::Internal { value, .. } => value,
            Route::In | Route::Out | Route::Elsewhere => NanoTon::ZERO,
        }
    }

    /// Whether it is one that came back.
    #[must_use]
    pub fn is_bounced(&self) -> bool {
        matches!(self.route, Route::Internal { bounced: true, .. })
    }
}

/// A cell that is no transaction of the account.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// No bag of cells.
    #[error("the transaction cannot be read")]
    Boc(#[from] BocError),
    /// Something else, or a part of it is.
    #[error("the cell is no transaction")]
    Malformed(#[from] CellError),
    /// Of another account.
    #[error("the transaction is of account {found}, not of {expected}")]
    OtherAccount {
        /// The account that was asked for.
        expected: Address,
        /// Hexadecimal hash of the account it is of.
        found: String,
    },
    /// An amount beyond what exists.
    #[error("the transaction moves more coins than exist")]
    Amount,
}

impl Transaction {
    /// Reads a bag of cells as a transaction of `account`. All that it says follows from the bytes.
    ///
    /// # Errors
    /// [`TransactionError`] if the bytes are none.
    pub fn from_boc(account: &Address, bytes: &[u8]) -> Result<Self, TransactionError> {
        let cell = decode_boc(bytes, TRANSACTION_LEN_MAX)?;
        let parsed: tycho_types::models::Transaction = cell.parse()?;
        if parsed.account.0 != *account.hash() {
            let found = parsed.account.to_string();
            return Err(TransactionError::OtherAccount { expected: *account, found });
        }
        let outgoing = parsed.out_msgs.values().map(|message| Message::read(&message?));
        Ok(Self {
            id: TransactionId {
                lt: LogicalTime::new(parsed.lt),
                hash: TransactionHash::new(cell.repr_hash().0),
            },
            previous: (parsed.prev_trans_lt != 0).then(|| TransactionId {
                lt: LogicalTime::new(parsed.prev_trans_lt),
                hash: TransactionHash::new(parsed.prev_trans_hash.0),
            }),
            unix_time: parsed.now,
            incoming: parsed.in_msg.as_ref().map(Message::read).transpose()?,
            outgoing: outgoing.collect::<Result<_, _>>()?,
            effect: effect(&parsed.load_info()?),
            fees: amount(parsed.total_fees.tokens.into_inner())?,
        })
    }

    /// What it sent back to where its message came from.
    #[must_use]
    pub fn bounced(&self) -> Option<&Message> {
        self.outgoing.iter().find(|message| message.is_bounced())
    }
}

impl Message {
    pub(crate) fn read(cell: &Cell) -> Result<Self, TransactionError> {
        let parsed: OwnedMessage = cell.parse()?;
        let forward_fee = match &parsed.info {
            MsgInfo::Int(info) => amount(info.fwd_fee.into_inner())?,
            MsgInfo::ExtIn(_) | MsgInfo::ExtOut(_) => NanoTon::ZERO,
        };
        let route = match &parsed.info {
            MsgInfo::ExtIn(_info) => Route::In,
            MsgInfo::Int(info) => match (address(&info.src), address(&info.dst)) {
                (Some(from), Some(to)) => Route::Internal {
                    from,
                    to,
                    value: amount(info.value.tokens.into_inner())?,
                    bounce: info.bounce,
                    bounced: info.bounced,
                    created_lt: LogicalTime::new(info.created_lt),
                },
                _ => Route::Elsewhere,
            },
            MsgInfo::ExtOut(_info) => Route::Out,
        };
        let (range, holder) = &parsed.body;
        Ok(Self {
            hash: MessageHash::new(cell.repr_hash().0),
            route,
            forward_fee,
            body: CellBuilder::build_from(range.apply_allow_exotic(holder))?,
            has_state_init: parsed.init.is_some(),
        })
    }
}

fn address(address: &IntAddr) -> Option<Address> {
    match address {
        IntAddr::Std(address) if address.anycast.is_none() => {
            Some(Address::new(address.workchain, address.address.0))
        }
        _ => None,
    }
}

fn amount(nanotons: u128) -> Result<NanoTon, TransactionError> {
    u64::try_from(nanotons).map(NanoTon::new).map_err(|_beyond| TransactionError::Amount)
}

fn effect(info: &TxInfo) -> Effect {
    let (compute, action) = match info {
        TxInfo::Ordinary(info) => (&info.compute_phase, info.action_phase.as_ref()),
        TxInfo::TickTock(info) => (&info.compute_phase, info.action_phase.as_ref()),
    };
    match (compute, action) {
        (ComputePhase::Skipped(phase), _) => Effect::NotRun(match phase.reason {
            ComputePhaseSkipReason::NoState => NotRun::NoContract,
            ComputePhaseSkipReason::BadState => NotRun::OtherState,
            ComputePhaseSkipReason::NoGas => NotRun::NoGas,
            ComputePhaseSkipReason::Suspended => NotRun::Suspended,
        }),
        (ComputePhase::Executed(phase), _) if !phase.success => {
            Effect::Refused { exit_code: phase.exit_code }
        }
        (ComputePhase::Executed(_), Some(action)) if !action.success => {
            Effect::ActionFailed { result_code: action.result_code }
        }
        (ComputePhase::Executed(_), _) => Effect::Done,
    }
}
