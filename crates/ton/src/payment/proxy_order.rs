//! Orders that a proxy's key signs for its own contract: to begin to close, and to close.

use ed25519_dalek::{Signer, SigningKey};
use tycho_types::cell::Cell;

use crate::Address;
use crate::cells::{Field as _, FieldError, LayoutError, Reader, build};

/// What a proxy orders of its own contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyOrderKind {
    /// Begin to close: the proxy's delay runs.
    Close,
    /// Close, after the delay: everything that is not owed to others goes to the owner.
    CompleteClose,
}

impl ProxyOrderKind {
    /// The op of both cells.
    #[must_use]
    pub const fn op(self) -> u32 {
        match self {
            Self::Close => 0x636a_4391,
            Self::CompleteClose => 0xe511_abc7,
        }
    }

    /// The kind that `op` orders.
    #[must_use]
    pub const fn from_op(op: u32) -> Option<Self> {
        match op {
            0x636a_4391 => Some(Self::Close),
            0xe511_abc7 => Some(Self::CompleteClose),
            _ => None,
        }
    }
}

/// An order to the proxy's own contract (`SignedProxyOrder` in its envelope, in `spec/messages.tlb`).
///
/// States stop a replay: a contract closes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedProxyOrder {
    /// What is ordered.
    pub kind: ProxyOrderKind,
    /// The proxy's number of the order.
    pub query_id: u64,
    /// The proxy contract.
    pub contract: Address,
    /// Who gets what is left of the coins that the sender attaches. Not signed: the sender's choice.
    pub excesses_to: Address,
    /// Ed25519, over the hash of the order.
    pub signature: [u8; 64],
}

impl SignedProxyOrder {
    /// Signs an order for `contract`.
    #[must_use]
    pub fn sign(
        key: &SigningKey,
        kind: ProxyOrderKind,
        query_id: u64,
        contract: &Address,
        excesses_to: &Address,
    ) -> Self {
        let unsigned =
            Self { kind, query_id, contract: *contract, excesses_to: *excesses_to, signature: [0; 64] };
        let signature = key.sign(unsigned.order().repr_hash().as_slice());
        Self { signature: signature.to_bytes(), ..unsigned }
    }

    /// The body of the message that lands it.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        build(|builder| {
            builder.store_u32(self.kind.op())?;
            self.query_id.store(builder)?;
            self.excesses_to.store(builder)?;
            self.signature.store(builder)?;
            builder.store_reference(self.order())
        })
    }

    fn order(&self) -> Cell {
        build(|builder| {
            builder.store_u32(self.kind.op())?;
            self.query_id.store(builder)?;
            self.contract.store(builder)
        })
    }

    /// Reads a body, without a look at the signature.
    ///
    /// # Errors
    /// [`LayoutError`] if it is anything else, or if order and envelope disagree.
    pub fn from_cell(body: &Cell) -> Result<Self, LayoutError> {
        let mut envelope = Reader::new("envelope of an order to a proxy contract", body)?;
        let op = envelope.field("op")?;
        let kind = ProxyOrderKind::from_op(op).ok_or_else(|| envelope.unknown_op(op))?;
        let query_id = envelope.field("query_id")?;
        let excesses_to = envelope.field("send_excesses_to")?;
        let signature = envelope.field("signature")?;
        let order: Cell = envelope.field("order")?;
        envelope.end()?;
        let mut order = Reader::new("order to a proxy contract", &order)?;
        if order.field::<u32>("op")? != op {
            return Err(order.refuse("op", FieldError::Value));
        }
        if order.field::<u64>("query_id")? != query_id {
            return Err(order.refuse("query_id", FieldError::Value));
        }
        let contract = order.field("contract")?;
        order.end()?;
        Ok(Self { kind, query_id, contract, excesses_to, signature })
    }
}
