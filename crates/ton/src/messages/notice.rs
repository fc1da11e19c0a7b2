//! What every contract accepts, and what comes back.

use tycho_types::cell::Cell;

use crate::cells::{Field as _, LayoutError, Reader, build};

/// Accepted by every contract, from anyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// What was left of a message's value.
    Excess {
        /// The number of the request.
        query_id: u64,
    },
    /// Money that was owed, to the owner of a client, worker or proxy contract.
    Payout {
        /// The number of the request.
        query_id: u64,
    },
    /// The anchor of a proxy's journal.
    Anchor(Anchor),
    /// A note for whoever watches the account, in a form that is not ours.
    Other {
        /// The note with its op.
        body: Cell,
    },
}

/// Binds a proxy's journal to the chain: which state of it its node wallet stood by last. A journal that is older, or
/// another one, shows by its anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The sender's number of the message.
    pub query_id: u64,
    /// Number of the anchor; grows by one.
    pub seqno: u32,
    /// Hash of the journal.
    pub hash: [u8; 32],
}

impl Anchor {
    const MARK: u32 = 0x5310_9c0f;

    /// The body.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        build(|builder| {
            builder.store_u32(Notice::DO_NOT_PROCESS)?;
            self.query_id.store(builder)?;
            builder.store_u32(Self::MARK)?;
            self.seqno.store(builder)?;
            self.hash.store(builder)
        })
    }

    /// Reads a body. `None` for any other note.
    #[must_use]
    pub fn from_cell(body: &Cell) -> Option<Self> {
        let mut reader = Reader::new("anchor", body).ok()?;
        let op: u32 = reader.field("op").ok()?;
        let query_id = reader.field("query_id").ok()?;
        let mark: u32 = reader.field("mark").ok()?;
        let anchor = Self { query_id, seqno: reader.field("seqno").ok()?, hash: reader.field("hash").ok()? };
        reader.end().ok()?;
        (op == Notice::DO_NOT_PROCESS && mark == Self::MARK).then_some(anchor)
    }
}

impl Notice {
    const EXCESS: u32 = 0x2565_934c;
    const PAYOUT: u32 = 0xc59a_7cd3;
    const DO_NOT_PROCESS: u32 = 0x9a12_47c0;
    pub(super) const OPS: &[u32] = &[Self::EXCESS, Self::PAYOUT, Self::DO_NOT_PROCESS];

    /// The body.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        let (op, query_id) = match self {
            Self::Excess { query_id } => (Self::EXCESS, query_id),
            Self::Payout { query_id } => (Self::PAYOUT, query_id),
            Self::Anchor(anchor) => return anchor.to_cell(),
            Self::Other { body } => return body.clone(),
        };
        build(|builder| {
            builder.store_u32(op)?;
            query_id.store(builder)
        })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`LayoutError`] if it is anything else. A note may go on in any way.
    pub fn from_cell(body: &Cell) -> Result<Self, LayoutError> {
        let mut reader = Reader::new("notice", body)?;
        let notice = match reader.field("op")? {
            Self::EXCESS => Self::Excess { query_id: reader.field("query_id")? },
            Self::PAYOUT => Self::Payout { query_id: reader.field("query_id")? },
            Self::DO_NOT_PROCESS => {
                return Ok(match Anchor::from_cell(body) {
                    Some(anchor) => Self::Anchor(anchor),
                    None => Self::Other { body: body.clone() },
                });
            }
            op => return Err(reader.unknown_op(op)),
        };
        reader.end()?;
        Ok(notice)
    }
}

/// A command of an owner, typed as a comment in any wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextCommand {
    /// `c`, to a proxy contract: begin to close.
    Close,
    /// `w`, to a proxy contract: pay what the owner earned; to a node wallet: send everything to the owner.
    Withdraw,
    /// `b`, to a node wallet: refuse the node's external messages.
    Block,
    /// `u`, to a node wallet: accept them again.
    Unblock,
}

impl TextCommand {
    pub(super) const OP: u32 = 0;

    /// The letter to type.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Close => 'c',
            Self::Withdraw => 'w',
            Self::Block => 'b',
            Self::Unblock => 'u',
        }
    }

    /// The body.
    #[must_use]
    pub fn to_cell(self) -> Cell {
        let letter = match self {
            Self::Close => b'c',
            Self::Withdraw => b'w',
            Self::Block => b'b',
            Self::Unblock => b'u',
        };
        build(|builder| {
            builder.store_u32(Self::OP)?;
            builder.store_u8(letter)
        })
    }

    /// Reads a body. `None` for any other text.
    #[must_use]
    pub fn from_cell(body: &Cell) -> Option<Self> {
        let mut reader = Reader::new("text command", body).ok()?;
        let op: u32 = reader.field("op").ok()?;
        let letter: u8 = reader.field("command").ok()?;
        reader.end().ok()?;
        match (op, letter) {
            (Self::OP, b'c') => Some(Self::Close),
            (Self::OP, b'w') => Some(Self::Withdraw),
            (Self::OP, b'b') => Some(Self::Block),
            (Self::OP, b'u') => Some(Self::Unblock),
            _ => None,
        }
    }
}

/// A message of ours that came back: its receiver failed, or does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounced {
    /// The op that was sent, if there was one.
    pub op: Option<u32>,
    /// The number of the request, if there was one.
    pub query_id: Option<u64>,
    /// The whole body that was sent; only the form of bounce that a sender asks for with `extra_flags` repeats it.
    pub body: Option<Cell>,
}

impl Bounced {
    /// The old form: the first 256 bits of the body follow.
    const SHORT: u32 = 0xffff_ffff;
    /// The form of global version 12: the body in a reference, then what went wrong (`new_bounce_body` in TON's
    /// `block.tlb`).
    const RICH: u32 = 0xffff_fffe;
    pub(super) const OPS: &[u32] = &[Self::SHORT, Self::RICH];

    /// Reads the body of a bounced message.
    ///
    /// # Errors
    /// [`LayoutError`] if it is of neither form.
    pub fn from_cell(body: &Cell) -> Result<Self, LayoutError> {
        let mut reader = Reader::new("bounced message", body)?;
        match reader.field("op")? {
            Self::SHORT => {
                let op = reader.field("sent op").ok();
                let query_id = op.and_then(|_op: u32| reader.field("sent query_id").ok());
                Ok(Self { op, query_id, body: None })
            }
            Self::RICH => {
                let sent: Cell = reader.field("original_body")?;
                let mut original = Reader::new("bounced message", &sent)?;
                let op = original.field("sent op").ok();
                let query_id = op.and_then(|_op: u32| original.field("sent query_id").ok());
                Ok(Self { op, query_id, body: Some(sent) })
            }
            op => Err(reader.unknown_op(op)),
        }
    }
}
