//! Messages as cells: what a wallet sends, and what enters the chain from outside (`Message` in TON's `block.tlb`).

use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::error::Error as CellError;
use units::NanoTon;

use crate::Address;
use crate::cells::{Field, FieldError, LayoutError, Reader, build};
use crate::contracts::StateInit;

/// How a wallet sends a message: the mode of the TVM's `SENDRAWMSG`, as far as a node wallet allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SendMode(u8);

impl SendMode {
    /// Fees come out of the message's value.
    pub const PLAIN: Self = Self(0);
    /// Fees come out of the wallet's balance: the value arrives whole.
    pub const FEES_APART: Self = Self(1);
    /// The whole balance of the wallet instead of a value.
    pub const EVERYTHING: Self = Self(128);
    /// Beside another: if this message cannot be sent, the others are.
    const IGNORE_ERRORS: u8 = 2;

    /// The mode, and to go on with the next message if this one cannot be sent.
    #[must_use]
    pub const fn ignoring_errors(self) -> Self {
        Self(self.0 | Self::IGNORE_ERRORS)
    }

    /// The number in an order.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// What the number in an order means. `None` for modes that a node wallet refuses.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        if number & !(1 | Self::IGNORE_ERRORS | 128) == 0 { Some(Self(number)) } else { None }
    }
}

/// A message from one account to another, as its sender writes it: the chain adds source, fees and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalMessage {
    /// The receiver.
    pub to: Address,
    /// What it carries.
    pub value: NanoTon,
    /// Whether it comes back when the receiver fails or does not exist.
    pub bounce: bool,
    /// What the receiver becomes if it does not exist yet.
    pub state_init: Option<StateInit>,
    /// What it says; nothing for a plain transfer.
    pub body: Option<Cell>,
}

impl InternalMessage {
    /// The cell, with state and body in references.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        build(|builder| {
            // int_msg_info, no instant routing; not itself bounced; the chain writes the source.
            builder.store_small_uint(if self.bounce { 0b011000 } else { 0b010000 }, 6)?;
            self.to.store(builder)?;
            self.value.store(builder)?;
            // No other currencies (1), fees (4, 4) and times (64, 32): the chain's.
            builder.store_zeros(1 + 4 + 4 + 64 + 32)?;
            store_state_init(builder, self.state_init.as_ref())?;
            builder.store_bit(self.body.is_some())?;
            self.body.as_ref().map_or(Ok(()), |body| body.store(builder))
        })
    }

    /// Reads a message that its sender has not sent yet: with state and body in references or in place.
    ///
    /// # Errors
    /// [`LayoutError`] if it is anything else, or carries other currencies, libraries or a special account.
    pub fn from_cell(cell: &Cell) -> Result<Self, LayoutError> {
        let mut reader = Reader::new("message", cell)?;
        if reader.field::<bool>("kind")? {
            return Err(reader.refuse("kind", FieldError::Value));
        }
        let _no_instant_routing: bool = reader.field("ihr_disabled")?;
        let bounce = reader.field("bounce")?;
        let _bounced: bool = reader.field("bounced")?;
        reader.load("src", |slice| match slice.load_small_uint(2)? {
            0b00 => Ok(()),
            _written_by_the_chain => Err(FieldError::Value),
        })?;
        let to = reader.field("dest")?;
        let value = reader.field("value")?;
        if reader.field::<bool>("other")? {
            return Err(reader.refuse("other", FieldError::Value));
        }
        let _fees: [NanoTon; 2] = [reader.field("ihr_fee")?, reader.field("fwd_fee")?];
        let _created_lt: u64 = reader.field("created_lt")?;
        let _created_at: u32 = reader.field("created_at")?;
        let state_init = reader.load("init", load_state_init)?;
        let body = reader.load("body", load_body)?;
        reader.end()?;
        Ok(Self { to, value, bounce, state_init, body })
    }
}

/// A text longer than any wallet shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the comment has {found} bytes, {COMMENT_LEN_MAX} are allowed")]
pub struct CommentTooLong {
    found: usize,
}

/// Longest comment in bytes.
pub const COMMENT_LEN_MAX: usize = 1024;

/// A body that wallets show as a text: op 0 and UTF-8, as much as fits a cell, the rest in a chain of references (TEP-64's
/// snake format).
///
/// # Errors
/// [`CommentTooLong`] beyond [`COMMENT_LEN_MAX`].
pub fn comment(text: &str) -> Result<Cell, CommentTooLong> {
    const CELL_LEN: usize = 127;
    if text.len() > COMMENT_LEN_MAX {
        return Err(CommentTooLong { found: text.len() });
    }
    let bytes: Vec<u8> = [0; 4].into_iter().chain(text.bytes()).collect();
    // From the end: a cell holds the ones after it.
    let chain = bytes.chunks(CELL_LEN).rev().fold(None, |after: Option<Cell>, bytes| {
        Some(build(|builder| {
            builder.store_raw(
                bytes,
                u16::try_from(bytes.len() * 8).map_err(|_longer| CellError::IntOverflow)?,
            )?;
            after.map_or(Ok(()), |after| builder.store_reference(after))
        }))
    });
    Ok(chain.unwrap_or_default())
}

/// A message from outside to `to`, such as a signed order to a wallet. `state_init` goes along while the wallet is not
/// deployed.
#[must_use]
pub fn external(to: &Address, state_init: Option<&StateInit>, body: &Cell) -> Cell {
    build(|builder| {
        builder.store_small_uint(0b10, 2)?; // ext_in_msg_info
        builder.store_small_uint(0b00, 2)?; // from nobody
        to.store(builder)?;
        builder.store_zeros(4)?; // no fee for import
        store_state_init(builder, state_init)?;
        builder.store_bit_one()?;
        body.store(builder)
    })
}

/// `Maybe (Either StateInit ^StateInit)`.
fn store_state_init(builder: &mut CellBuilder, state_init: Option<&StateInit>) -> Result<(), CellError> {
    builder.store_bit(state_init.is_some())?;
    state_init.map_or(Ok(()), |state_init| {
        builder.store_bit_one()?;
        builder.store_reference(state_init.to_cell())
    })
}

fn load_state_init(slice: &mut CellSlice<'_>) -> Result<Option<StateInit>, FieldError> {
    if !slice.load_bit()? {
        return Ok(None);
    }
    if slice.load_bit()? {
        let mut referred = slice.load_reference_as_slice()?;
        let state_init = StateInit::load(&mut referred)?;
        return if referred.is_empty() { Ok(Some(state_init)) } else { Err(FieldError::TooLong) };
    }
    StateInit::load(slice).map(Some)
}

fn load_body(slice: &mut CellSlice<'_>) -> Result<Option<Cell>, FieldError> {
    if slice.load_bit()? {
        return Ok(Some(slice.load_reference_cloned()?));
    }
    let rest = slice.load_remaining();
    if rest.is_empty() {
        return Ok(None);
    }
    let mut builder = CellBuilder::new();
    builder.store_slice(rest)?;
    Ok(Some(builder.build()?))
}

impl StateInit {
    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        if slice.load_small_uint(5)? != 0b00110 {
            return Err(FieldError::Value);
        }
        Ok(Self { code: Field::load(slice)?, data: <Cell as Field>::load(slice)? })
    }
}

#[cfg(test)]
mod tests;
