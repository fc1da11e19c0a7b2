//! Node wallets: the external messages by which a node spends what its owner gave it.
//!
//! A wallet carries out one order for each seqno, and only until the order expires. An order that is not seen in time
//! is signed anew with the same seqno: at most one of both can happen.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use tycho_types::cell::Cell;
use units::{NanoTon, PublicKey};

use crate::cells::{Field as _, FieldError, LayoutError, Reader, build};
use crate::message::SendMode;

/// Below this a node wallet refuses external messages (exit code 1035).
pub const BALANCE_MIN: NanoTon = NanoTon::new(2_000_000_000);

/// The most messages in one order: a cell has four references.
pub const MESSAGES_MAX: usize = 4;

/// What an external message orders of a node wallet (`WalletOrder` in `spec/messages.tlb`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletOrder {
    subwallet: u32,
    valid_until: u32,
    seqno: u32,
    messages: Vec<(SendMode, Cell)>,
}

/// More messages than one order can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an order of a node wallet carries at most {MESSAGES_MAX} messages, not {found}: send the rest with the next"
)]
pub struct TooManyMessages {
    found: usize,
}

impl WalletOrder {
    /// An order to send `messages`, made by [`crate::message::InternalMessage::to_cell`].
    ///
    /// `valid_until` is Unix time in seconds: at that second the order is too late. `seqno` is the wallet's.
    ///
    /// # Errors
    /// [`TooManyMessages`] for more than [`MESSAGES_MAX`].
    pub fn new(
        valid_until: u32,
        seqno: u32,
        messages: Vec<(SendMode, Cell)>,
    ) -> Result<Self, TooManyMessages> {
        if messages.len() > MESSAGES_MAX {
            return Err(TooManyMessages { found: messages.len() });
        }
        Ok(Self { subwallet: 0, valid_until, seqno, messages })
    }

    /// When it is too late for the order: Unix time in seconds.
    #[must_use]
    pub const fn valid_until(&self) -> u32 {
        self.valid_until
    }

    /// The number that the wallet must be at.
    #[must_use]
    pub const fn seqno(&self) -> u32 {
        self.seqno
    }

    /// What the wallet sends, and how.
    #[must_use]
    pub fn messages(&self) -> &[(SendMode, Cell)] {
        &self.messages
    }

    /// The body of the external message.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Cell {
        let signature = key.sign(self.unsigned().repr_hash().as_slice());
        build(|builder| {
            signature.to_bytes().store(builder)?;
            self.store(builder)
        })
    }

    fn unsigned(&self) -> Cell {
        build(|builder| self.store(builder))
    }

    fn store(&self, builder: &mut tycho_types::cell::CellBuilder) -> Result<(), tycho_types::error::Error> {
        self.subwallet.store(builder)?;
        self.valid_until.store(builder)?;
        self.seqno.store(builder)?;
        for (mode, _message) in &self.messages {
            mode.number().store(builder)?;
        }
        for (_mode, message) in &self.messages {
            message.store(builder)?;
        }
        Ok(())
    }

    /// Reads the body of an external message, and whether `key` signed it.
    ///
    /// # Errors
    /// [`LayoutError`] if it is anything else.
    pub fn from_cell(body: &Cell, key: &PublicKey) -> Result<(Self, bool), LayoutError> {
        let mut reader = Reader::new("external message to a node wallet", body)?;
        let signature: [u8; 64] = reader.field("signature")?;
        let subwallet = reader.field("subwallet")?;
        let valid_until = reader.field("valid_until")?;
        let seqno = reader.field("seqno")?;
        let modes = (0..body.reference_count())
            .map(|_each| {
                let mode = SendMode::from_number(reader.field("modes")?);
                mode.ok_or_else(|| reader.refuse("modes", FieldError::Value))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let messages = modes
            .into_iter()
            .map(|mode| Ok((mode, reader.field("messages")?)))
            .collect::<Result<Vec<_>, LayoutError>>()?;
        reader.end()?;
        let order = Self { subwallet, valid_until, seqno, messages };
        let is_signed = VerifyingKey::from_bytes(key.as_bytes()).is_ok_and(|key| {
            let hash = order.unsigned();
            key.verify_strict(hash.repr_hash().as_slice(), &Signature::from_bytes(&signature)).is_ok()
        });
        Ok((order, is_signed))
    }
}

#[cfg(test)]
mod tests;
