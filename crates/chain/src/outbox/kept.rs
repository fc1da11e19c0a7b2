//! An outbox as text, for a file that survives the process.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use ton::contracts::StateInit;
use ton::message::InternalMessage;
use ton::{Address, LayoutError, decode_boc};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, HashBytes};
use units::{LogicalTime, MessageHash, TransactionHash};

use super::{Batch, LOOK_FIRST, Order, OrderId, Outbox, Outcome, Signed, UnderWay, hash};
use crate::transaction::{Effect, NotRun, TransactionId};

/// Grows when older programs cannot read what newer ones keep.
const FORMAT: u32 = 2;
/// Had the bodies of all messages that were signed, in place of their hashes.
const FORMAT_OF_BODIES: u32 = 1;
/// Bytes of a bag of cells with one message.
const MESSAGE_LEN_MAX: usize = 64 * 1024;

/// A text that is no outbox of this wallet.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// Not the form that outboxes have.
    #[error("the kept orders cannot be read")]
    Json(#[from] serde_json::Error),
    /// A form of other programs.
    #[error(
        "the kept orders have format {found}, this program knows {FORMAT}: use the program that wrote them"
    )]
    Format {
        /// The format found.
        found: u32,
    },
    /// Of another wallet.
    #[error("the kept orders are of wallet {found}, not of {expected}: key, owner or folder were mixed up")]
    OtherWallet {
        /// The wallet whose orders they are.
        found: String,
        /// Our wallet.
        expected: Address,
    },
    /// A message among them that is none.
    #[error("a message among the kept orders cannot be read")]
    Message(#[from] LayoutError),
    /// A cell or an address among them that is none.
    #[error("a value among the kept orders cannot be read")]
    Value,
    /// The file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    wallet: String,
    seqno: Option<u32>,
    cursor: Option<KeptId>,
    waiting: Vec<KeptOrder>,
    batch: Option<KeptBatch>,
    under_way: Vec<KeptUnderWay>,
    finished: Vec<KeptFinished>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct KeptId {
    lt: LogicalTime,
    hash: TransactionHash,
}

#[derive(Serialize, Deserialize)]
struct KeptOrder {
    id: u64,
    /// The message, as a bag of cells in hexadecimal.
    message: String,
}

#[derive(Serialize, Deserialize)]
struct KeptBatch {
    seqno: u32,
    orders: Vec<KeptOrder>,
    /// When each message signed for it is too late, and the hash of its body.
    signed: Vec<(u32, String)>,
    /// The body of the last one.
    #[serde(default)]
    body: Option<String>,
    has_failed: bool,
}

#[derive(Serialize, Deserialize)]
struct KeptUnderWay {
    id: u64,
    to: String,
    created_lt: LogicalTime,
    message: MessageHash,
    since: Duration,
}

#[derive(Serialize, Deserialize)]
struct KeptFinished {
    id: u64,
    outcome: KeptOutcome,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptOutcome {
    Done { transaction: KeptId },
    Arrived { transaction: KeptId, why: KeptNotRun },
    Refused { transaction: KeptId, effect: KeptEffect, returned: units::NanoTon },
    NotSent,
    Unresolved,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptEffect {
    Done,
    Refused { exit_code: i32 },
    ActionFailed { result_code: i32 },
    NotRun(KeptNotRun),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptNotRun {
    NoContract,
    OtherState,
    NoGas,
    Suspended,
}

impl Outbox {
    /// All that must survive the process, as text. Without secrets.
    #[must_use]
    pub fn to_text(&self) -> String {
        let orders = |orders: &mut dyn Iterator<Item = &Order>| {
            orders
                .map(|order| KeptOrder { id: order.id.0, message: hex_of(&order.message.to_cell()) })
                .collect()
        };
        let kept = Kept {
            format: FORMAT,
            wallet: self.address.to_string(),
            seqno: self.seqno,
            cursor: self.cursor.map(Into::into),
            waiting: orders(&mut self.waiting.iter()),
            batch: self.batch.as_ref().map(|batch| KeptBatch {
                seqno: batch.seqno,
                orders: orders(&mut batch.orders.iter()),
                signed: batch
                    .signed
                    .iter()
                    .map(|signed| (signed.valid_until, hex::encode(signed.hash.0)))
                    .collect(),
                body: batch.body.as_ref().map(hex_of),
                has_failed: batch.has_failed,
            }),
            under_way: self
                .under_way
                .iter()
                .map(|order| KeptUnderWay {
                    id: order.id.0,
                    to: order.to.to_string(),
                    created_lt: order.created_lt,
                    message: order.message,
                    since: order.since,
                })
                .collect(),
            finished: self
                .finished
                .iter()
                .map(|(id, outcome)| KeptFinished { id: id.0, outcome: (*outcome).into() })
                .collect(),
        };
        serde_json::to_string(&kept)
            .unwrap_or_else(|error| unreachable!("numbers and texts are JSON: {error}"))
    }

    /// Goes on with what [`Self::to_text`] gave in an earlier life.
    ///
    /// # Errors
    /// [`KeptError`] if the text is of another wallet, another program, or damaged.
    pub fn from_text(key: SigningKey, state_init: StateInit, text: &str) -> Result<Self, KeptError> {
        let kept: Kept = serde_json::from_str(text)?;
        if ![FORMAT, FORMAT_OF_BODIES].contains(&kept.format) {
            return Err(KeptError::Format { found: kept.format });
        }
        let new = Self::new(key, state_init);
        if kept.wallet != new.address.to_string() {
            return Err(KeptError::OtherWallet { found: kept.wallet, expected: new.address });
        }
        let orders =
            |orders: Vec<KeptOrder>| orders.into_iter().map(KeptOrder::read).collect::<Result<Vec<_>, _>>();
        let batch = kept.batch.map(|batch| {
            let has_bodies = kept.format == FORMAT_OF_BODIES;
            let last =
                batch.signed.last().filter(|_last| has_bodies).map(|(_valid_until, body)| body.clone());
            let body = batch.body.or(last).map(|body| cell_of(&body)).transpose()?;
            let signed = batch.signed.into_iter().map(|(valid_until, text)| {
                let hash = if has_bodies { hash(&cell_of(&text)?) } else { hash_of(&text)? };
                Ok::<_, KeptError>(Signed { valid_until, hash })
            });
            Ok::<_, KeptError>(Batch {
                seqno: batch.seqno,
                orders: orders(batch.orders)?,
                signed: signed.collect::<Result<_, _>>()?,
                body,
                handed_in_at: None,
                has_failed: batch.has_failed,
            })
        });
        let under_way = kept.under_way.into_iter().map(|order| {
            Ok::<_, KeptError>(UnderWay {
                id: OrderId(order.id),
                to: Address::parse(&order.to).map_err(|_no_address| KeptError::Value)?.0,
                created_lt: order.created_lt,
                message: order.message,
                since: order.since,
                look_at: Duration::ZERO,
                pause: LOOK_FIRST,
                looks: 0,
            })
        });
        let finished =
            kept.finished.into_iter().map(|finished| (OrderId(finished.id), finished.outcome.into()));
        Ok(Self {
            seqno: kept.seqno,
            cursor: kept.cursor.map(Into::into),
            waiting: orders(kept.waiting)?.into(),
            batch: batch.transpose()?,
            under_way: under_way.collect::<Result<_, _>>()?,
            finished: finished.collect(),
            ..new
        })
    }
}

impl KeptOrder {
    fn read(self) -> Result<Order, KeptError> {
        let message = InternalMessage::from_cell(&cell_of(&self.message)?)?;
        Ok(Order { id: OrderId(self.id), message })
    }
}

fn hex_of(cell: &Cell) -> String {
    hex::encode(Boc::encode(cell))
}

fn hash_of(text: &str) -> Result<HashBytes, KeptError> {
    let mut hash = HashBytes::ZERO;
    hex::decode_to_slice(text, &mut hash.0).map_err(|_no_hash| KeptError::Value)?;
    Ok(hash)
}

fn cell_of(text: &str) -> Result<Cell, KeptError> {
    let bytes = hex::decode(text).map_err(|_no_hex| KeptError::Value)?;
    decode_boc(&bytes, MESSAGE_LEN_MAX).map_err(|_no_cell| KeptError::Value)
}

impl From<TransactionId> for KeptId {
    fn from(id: TransactionId) -> Self {
        Self { lt: id.lt, hash: id.hash }
    }
}

impl From<KeptId> for TransactionId {
    fn from(id: KeptId) -> Self {
        Self { lt: id.lt, hash: id.hash }
    }
}

/// Two enums whose variants have one name and no content.
macro_rules! same_names {
    ($ours:ty, $kept:ty: $($variant:ident)+) => {
        impl From<$ours> for $kept {
            fn from(ours: $ours) -> Self {
                match ours { $( <$ours>::$variant => Self::$variant, )+ }
            }
        }
        impl From<$kept> for $ours {
            fn from(kept: $kept) -> Self {
                match kept { $( <$kept>::$variant => Self::$variant, )+ }
            }
        }
    };
}
same_names!(NotRun, KeptNotRun: NoContract OtherState NoGas Suspended);

impl From<Effect> for KeptEffect {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Done => Self::Done,
            Effect::Refused { exit_code } => Self::Refused { exit_code },
            Effect::ActionFailed { result_code } => Self::ActionFailed { result_code },
            Effect::NotRun(why) => Self::NotRun(why.into()),
        }
    }
}

impl From<KeptEffect> for Effect {
    fn from(effect: KeptEffect) -> Self {
        match effect {
            KeptEffect::Done => Self::Done,
            KeptEffect::Refused { exit_code } => Self::Refused { exit_code },
            KeptEffect::ActionFailed { result_code } => Self::ActionFailed { result_code },
            KeptEffect::NotRun(why) => Self::NotRun(why.into()),
        }
    }
}

impl From<Outcome> for KeptOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done { transaction } => Self::Done { transaction: transaction.into() },
            Outcome::Arrived { transaction, why } => {
                Self::Arrived { transaction: transaction.into(), why: why.into() }
            }
            Outcome::Refused { transaction, effect, returned } => {
                Self::Refused { transaction: transaction.into(), effect: effect.into(), returned }
            }
            Outcome::NotSent => Self::NotSent,
            Outcome::Unresolved => Self::Unresolved,
        }
    }
}

impl From<KeptOutcome> for Outcome {
    fn from(outcome: KeptOutcome) -> Self {
        match outcome {
            KeptOutcome::Done { transaction } => Self::Done { transaction: transaction.into() },
            KeptOutcome::Arrived { transaction, why } => {
                Self::Arrived { transaction: transaction.into(), why: why.into() }
            }
            KeptOutcome::Refused { transaction, effect, returned } => {
                Self::Refused { transaction: transaction.into(), effect: effect.into(), returned }
            }
            KeptOutcome::NotSent => Self::NotSent,
            KeptOutcome::Unresolved => Self::Unresolved,
        }
    }
}
