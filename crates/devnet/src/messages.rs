//! Messages on their way into the chain.

use ton::{Address, BocError, decode_boc};
use tycho_types::cell::{Cell, CellBuilder, CellFamily as _, CellSliceParts, HashBytes, Load as _};
use tycho_types::error::Error as CellError;
use tycho_types::models::{
    CurrencyCollection, ExtInMsgInfo, IntAddr, IntMsgInfo, MessageLayout, MsgInfo, OwnedMessage, StateInit,
    StdAddr,
};
use tycho_types::num::Tokens;
use units::{MessageHash, NanoTon};

/// Bytes of a bag of cells with one message: what TON's nodes accept (`max_ext_msg_size` of `SizeLimitsConfig`).
pub const MESSAGE_LEN_MAX: usize = 65_535;
/// Depth of a message's cells (`max_ext_msg_depth`).
pub const MESSAGE_DEPTH_MAX: u16 = 512;

/// The account that coins of the faucet come from. No key opens it, and it has no balance: they are made there.
pub const FAUCET: Address = Address::new(-1, [0; 32]);

/// Bytes or cells that are no external message to an account here.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// No bag of cells.
    #[error("the message cannot be read")]
    Boc(#[from] BocError),
    /// A cell that is no message.
    #[error("the cell is no message")]
    Malformed(#[from] CellError),
    /// A message from a contract: only contracts send those.
    #[error("the message is none from outside (`ext_in_msg_info$10`)")]
    NotExternal,
    /// An address that no contract can have.
    #[error("the message goes to no account of workchain 0 or -1")]
    Nowhere,
    /// More levels of cells than nodes accept.
    #[error("the message is {depth} cells deep, at most {MESSAGE_DEPTH_MAX} are accepted")]
    TooDeep {
        /// Depth found.
        depth: u16,
    },
}

/// An external message that is well formed. Whether a contract accepts it is not known yet.
#[derive(Clone, Debug)]
pub struct ExternalMessage {
    /// The message.
    pub cell: Cell,
    /// The account it goes to.
    pub to: Address,
}

impl ExternalMessage {
    /// Reads a bag of cells, as senders hand it in.
    ///
    /// # Errors
    /// [`MessageError`] names what is wrong.
    pub fn from_boc(bytes: &[u8]) -> Result<Self, MessageError> {
        Self::from_cell(decode_boc(bytes, MESSAGE_LEN_MAX)?)
    }

    /// Reads a cell.
    ///
    /// # Errors
    /// [`MessageError`] names what is wrong.
    pub fn from_cell(cell: Cell) -> Result<Self, MessageError> {
        let depth = cell.repr_depth();
        if depth > MESSAGE_DEPTH_MAX {
            return Err(MessageError::TooDeep { depth });
        }
        let message: OwnedMessage = cell.parse()?;
        let MsgInfo::ExtIn(info) = message.info else { return Err(MessageError::NotExternal) };
        let to = known_address(&info.dst).ok_or(MessageError::Nowhere)?;
        Ok(Self { cell, to })
    }

    /// A message to `to` made of its parts.
    ///
    /// # Errors
    /// [`MessageError`] if the parts do not fit one message.
    pub fn from_parts(to: &Address, init: Option<StateInit>, body: Cell) -> Result<Self, MessageError> {
        let info = ExtInMsgInfo { src: None, dst: std_addr(to).into(), import_fee: Tokens::ZERO };
        Self::from_cell(CellBuilder::build_from(OwnedMessage {
            info: MsgInfo::ExtIn(info),
            init,
            body: CellSliceParts::from(body),
            layout: None,
        })?)
    }
}

/// The faucet's message: `amount` to `to`, which keeps it whatever it is.
pub(crate) fn gift(
    to: &Address,
    amount: NanoTon,
    created_lt: u64,
    unix_time: u32,
) -> Result<Cell, CellError> {
    let info = IntMsgInfo {
        ihr_disabled: true,
        src: std_addr(&FAUCET).into(),
        dst: std_addr(to).into(),
        value: CurrencyCollection::new(u128::from(amount.get())),
        created_lt,
        created_at: unix_time,
        ..IntMsgInfo::default()
    };
    let body = CellSliceParts::from(Cell::empty_cell());
    CellBuilder::build_from(OwnedMessage { info: MsgInfo::Int(info), init: None, body, layout: None })
}

/// Receiver, logical time and amount of a message of the faucet.
pub(crate) fn gift_parts(message: &Cell) -> Option<(Address, u64, NanoTon)> {
    let MsgInfo::Int(info) = header(message)? else { return None };
    let amount = u64::try_from(info.value.tokens.into_inner()).ok()?;
    let is_gift = known_address(&info.src)? == FAUCET;
    is_gift.then_some((known_address(&info.dst)?, info.created_lt, NanoTon::new(amount)))
}

/// Where an internal message goes, and the logical time of its sending. `None` for messages to the outside.
pub(crate) fn internal_route(message: &Cell) -> Option<(Address, u64)> {
    let MsgInfo::Int(info) = header(message)? else { return None };
    Some((known_address(&info.dst)?, info.created_lt))
}

fn header(message: &Cell) -> Option<MsgInfo> {
    MsgInfo::load_from(&mut message.as_slice().ok()?).ok()
}

/// The hash of an external message without what its senders may vary: source, fee and initial state are left out and the body
/// has a cell of its own (TEP-467).
pub(crate) fn normalised_hash(message: &Cell) -> Option<MessageHash> {
    let parsed: OwnedMessage = message.parse().ok()?;
    let MsgInfo::ExtIn(info) = parsed.info else { return None };
    let normal = OwnedMessage {
        info: MsgInfo::ExtIn(ExtInMsgInfo { src: None, dst: info.dst, import_fee: Tokens::ZERO }),
        init: None,
        body: parsed.body,
        layout: Some(MessageLayout { init_to_cell: false, body_to_cell: true }),
    };
    Some(MessageHash::new(CellBuilder::build_from(normal).ok()?.repr_hash().0))
}

/// An account of a workchain that exists, without anycast.
pub(crate) fn known_address(address: &IntAddr) -> Option<Address> {
    match address {
        IntAddr::Std(StdAddr { anycast: None, workchain: workchain @ (0 | -1), address }) => {
            Some(Address::new(*workchain, address.0))
        }
        _ => None,
    }
}

pub(crate) fn std_addr(address: &Address) -> StdAddr {
    StdAddr::new(address.workchain(), HashBytes(*address.hash()))
}
