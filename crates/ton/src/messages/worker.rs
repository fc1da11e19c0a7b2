//! What a worker contract accepts, and what it tells its proxy contract.

use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::error::Error as CellError;
use units::{AdjustedTokens, NanoTon};

use super::bodies;
use crate::Address;
use crate::cells::{Field, FieldError, LayoutError, Reader, build};
use crate::states::ContractState;

bodies! {
    /// Unsigned messages to a worker contract.
    WorkerMessage, "message to a worker contract" {
        /// From the owner: a note for whoever watches the proxy contract. More than 0.1 TON must come with it.
        Register = 0x26ed_7f65 {
            /// Where the rest of the message's value goes.
            excess: Address,
        }
    }
}

/// What a worker contract asks of its proxy contract; without a payload, a note for whoever watches that account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRequest {
    /// The number of the request that led to this one.
    pub query_id: u64,
    /// Whose worker contract this is.
    pub owner: Address,
    /// The contract's state after the operation.
    pub state: ContractState,
    /// Paid out since the beginning, this payout included.
    pub tokens: AdjustedTokens,
    /// What is asked.
    pub payload: Option<PayoutPayload>,
}

/// A payout that a worker contract asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayoutPayload {
    /// What the worker's owner gets.
    pub worker_part: NanoTon,
    /// What the proxy's owner has earned by it.
    pub proxy_part: NanoTon,
    /// Where the rest of the value goes.
    pub excess: Address,
}

impl PayoutPayload {
    const OP: u32 = 0x08e7_d036;
}

/// In a reference.
impl Field for PayoutPayload {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        let cell = build(|builder| {
            builder.store_u32(Self::OP)?;
            self.worker_part.store(builder)?;
            self.proxy_part.store(builder)?;
            self.excess.store(builder)
        });
        builder.store_reference(cell)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        let mut slice = slice.load_reference_as_slice()?;
        if slice.load_u32()? != Self::OP {
            return Err(FieldError::Value);
        }
        let payload = Self {
            worker_part: Field::load(&mut slice)?,
            proxy_part: Field::load(&mut slice)?,
            excess: Field::load(&mut slice)?,
        };
        if slice.is_empty() { Ok(payload) } else { Err(FieldError::TooLong) }
    }
}

impl WorkerRequest {
    /// The first 32 bits.
    pub const OP: u32 = 0x4d72_5d2c;

    /// The body.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        build(|builder| {
            builder.store_u32(Self::OP)?;
            self.query_id.store(builder)?;
            self.owner.store(builder)?;
            self.state.store(builder)?;
            self.tokens.store(builder)?;
            self.payload.store(builder)
        })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`LayoutError`] if it is anything else.
    pub fn from_cell(body: &Cell) -> Result<Self, LayoutError> {
        let mut reader = Reader::new("request of a worker contract", body)?;
        let op: u32 = reader.field("op")?;
        if op != Self::OP {
            return Err(reader.unknown_op(op));
        }
        let request = Self {
            query_id: reader.field("query_id")?,
            owner: reader.field("owner")?,
            state: reader.field("state")?,
            tokens: reader.field("tokens")?,
            payload: reader.field("payload")?,
        };
        reader.end()?;
        Ok(request)
    }
}
