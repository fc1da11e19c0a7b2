//! What a worker contract accepts, and what it tells its proxy contract.

use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::error::Error as CellError;
use units::{AdjustedTokens, NanoTon};

use super::{bodies, request};
use crate::Address;
use crate::cells::{Field, FieldError, LayoutError, Reader, load_apart, store_apart};
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

request! {
    /// What a worker contract asks of its proxy contract; without a payload, a note for whoever watches that account.
    WorkerRequest = 0x4d72_5d2c, "request of a worker contract" {
        /// Whose worker contract this is.
        owner: Address,
        /// The contract's state after the operation.
        state: ContractState,
        /// Paid out since the beginning, this payout included.
        tokens: AdjustedTokens,
        /// What is asked.
        payload: Option<PayoutPayload>,
    }
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
        store_apart(builder, |builder| {
            builder.store_u32(Self::OP)?;
            self.worker_part.store(builder)?;
            self.proxy_part.store(builder)?;
            self.excess.store(builder)
        })
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        load_apart(slice, |slice| {
            if slice.load_u32()? != Self::OP {
                return Err(FieldError::Value);
            }
            Ok(Self {
                worker_part: Field::load(slice)?,
                proxy_part: Field::load(slice)?,
                excess: Field::load(slice)?,
            })
        })
    }
}
