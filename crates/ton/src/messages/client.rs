//! What a client contract accepts, and what it tells its proxy contract.

use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::error::Error as CellError;
use units::{AdjustedTokens, NanoTon};

use super::{bodies, request};
use crate::Address;
use crate::cells::{Field, FieldError, LayoutError, Reader, load_apart, store_apart};
use crate::states::ContractState;

bodies! {
    /// Unsigned messages to a client contract. Each needs 0.1 TON beside the amount it moves.
    ClientMessage, "message to a client contract" {
        /// From anyone: the amount comes with the message and goes to the balance.
        TopUp = 0xf172_e6c2 {
            /// What the balance grows by.
            amount: NanoTon,
            /// Where the rest of the message's value goes.
            excess: Address,
        }
        /// From the owner: a new login secret and a top-up in one.
        ChangeSecretAndTopUp = 0x8473_b408 {
            /// What the balance grows by.
            amount: NanoTon,
            /// SHA-256 of the secret.
            secret_hash: [u8; 32],
            /// Where the rest of the message's value goes.
            excess: Address,
        }
        /// From the owner: proves to a proxy that the owner is behind one of its connections.
        Register = 0xc45f_9f3b {
            /// The proxy's number of the connection.
            nonce: u64,
            /// Where the rest of the message's value goes.
            excess: Address,
        }
        /// From the owner: a new login secret.
        ChangeSecret = 0xa935_7034 {
            /// SHA-256 of the secret.
            secret_hash: [u8; 32],
            /// Where the rest of the message's value goes.
            excess: Address,
        }
        /// From the owner: a higher floor under the balance. No money moves.
        IncreaseStake = 0x6a1f_6a60 {
            /// The floor; it must exceed the old one.
            new_stake: NanoTon,
            /// Where the rest of the message's value goes.
            excess: Address,
        }
        /// From the owner: what the balance has above the stake.
        Withdraw = 0xda06_8e78 {
            /// Where the rest of the message's value goes.
            excess: Address,
        }
        /// From the owner: begins to close, and after the client's delay closes and takes everything.
        RequestRefund = 0xfafa_6cc1 {
            /// Where the rest of the message's value goes.
            excess: Address,
        }
        /// From the proxy contract: a top-up has arrived. Only contracts of `contracts/` send it.
        TopUpConfirmed = 0x7d1c_9a05 {
            /// What is no longer unconfirmed.
            amount: NanoTon,
        }
        /// From the proxy contract: a forced refund was not covered. Only contracts of `contracts/` send it.
        RefundShortfall = 0x3be6_0d42 {
            /// What is owed as before.
            amount: NanoTon,
        }
    }
}

/// What a client contract is after the operation that sent the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSnapshot {
    /// Whether it works, closes or is closed.
    pub state: ContractState,
    /// Paid in and not charged.
    pub balance: NanoTon,
    /// The floor under the balance.
    pub stake: NanoTon,
    /// Charged since the beginning.
    pub tokens_used: AdjustedTokens,
    /// SHA-256 of the login secret; zeros for none.
    pub secret_hash: [u8; 32],
}

/// In a reference.
impl Field for ClientSnapshot {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        store_apart(builder, |builder| {
            self.state.store(builder)?;
            self.balance.store(builder)?;
            self.stake.store(builder)?;
            self.tokens_used.store(builder)?;
            self.secret_hash.store(builder)
        })
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        load_apart(slice, |slice| {
            Ok(Self {
                state: Field::load(slice)?,
                balance: Field::load(slice)?,
                stake: Field::load(slice)?,
                tokens_used: Field::load(slice)?,
                secret_hash: Field::load(slice)?,
            })
        })
    }
}

request! {
    /// What a client contract asks of its proxy contract; without a payload, a note for whoever watches that account.
    ///
    /// The proxy contract itself checks that the sender is `owner`'s client contract, but only where a payload makes it
    /// run: a watcher must compare the sender with the derived address.
    ClientRequest = 0x6544_8ff4, "request of a client contract" {
        /// Whose client contract this is.
        owner: Address,
        /// The contract after the operation.
        state: ClientSnapshot,
        /// What is asked.
        payload: Option<ClientPayload>,
    }
}

/// What a client contract asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPayload {
    /// Take the amount, which comes with the message.
    TopUp {
        /// What the balance grew by.
        amount: NanoTon,
        /// Where the rest of the value goes.
        excess: Address,
    },
    /// Nothing: the owner answers to a connection.
    Register {
        /// The proxy's number of the connection.
        nonce: u64,
    },
    /// Pay out of the clients' money: above the stake, or everything with the proxy's signature.
    RefundGranted {
        /// What the owner gets.
        amount: NanoTon,
        /// Where the rest of the value goes.
        excess: Address,
    },
    /// Pay out of the proxy's stake, after the client's delay.
    RefundForced {
        /// What the owner gets, as far as the stake covers it.
        amount: NanoTon,
        /// Where the rest of the value goes.
        excess: Address,
    },
}

impl ClientPayload {
    const TOP_UP: u32 = 0x5cfc_6b87;
    const REGISTER: u32 = 0xa35c_b580;
    const REFUND_GRANTED: u32 = 0xc68e_bc7b;
    const REFUND_FORCED: u32 = 0xf4c3_54c9;
}

/// In a reference.
impl Field for ClientPayload {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        store_apart(builder, |builder| {
            let (op, amount, excess) = match self {
                Self::Register { nonce } => {
                    builder.store_u32(Self::REGISTER)?;
                    return nonce.store(builder);
                }
                Self::TopUp { amount, excess } => (Self::TOP_UP, amount, excess),
                Self::RefundGranted { amount, excess } => (Self::REFUND_GRANTED, amount, excess),
                Self::RefundForced { amount, excess } => (Self::REFUND_FORCED, amount, excess),
            };
            builder.store_u32(op)?;
            amount.store(builder)?;
            excess.store(builder)
        })
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        load_apart(slice, |slice| {
            Ok(match slice.load_u32()? {
                Self::TOP_UP => Self::TopUp { amount: Field::load(slice)?, excess: Field::load(slice)? },
                Self::REGISTER => Self::Register { nonce: Field::load(slice)? },
                Self::REFUND_GRANTED => {
                    Self::RefundGranted { amount: Field::load(slice)?, excess: Field::load(slice)? }
                }
                Self::REFUND_FORCED => {
                    Self::RefundForced { amount: Field::load(slice)?, excess: Field::load(slice)? }
                }
                _unknown => return Err(FieldError::Value),
            })
        })
    }
}
