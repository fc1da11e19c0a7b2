//! Payments signed by a proxy: cumulative totals that its peers can cash in on chain.
//!
//! A payment is two cells (`SignedEnvelope` and `SignedOrder` in `spec/messages.tlb`): the order says which total
//! of tokens holds for which contract, the envelope around it carries the proxy's signature over the order's hash.
//! Nothing but the growing total stops a replay, so an older payment is worth less, never more.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, Load};
use tycho_types::error::Error as CellError;
use units::{AdjustedTokens, PublicKey};

use crate::Address;
use crate::boc::{self, BocError};
use crate::cells::{Field as _, build};

mod proxy_order;

pub use proxy_order::{ProxyOrderKind, SignedProxyOrder};

/// What a payment orders. Each kind works only on its kind of contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PaymentKind {
    /// The client contract counts the total as used.
    ClientCharge,
    /// The client contract counts the total as used, pays the rest back and closes.
    ClientRefund,
    /// The worker contract pays out up to the total.
    WorkerPayout,
    /// The worker contract pays out up to the total and closes.
    WorkerLastPayout,
}

impl PaymentKind {
    /// The op of both cells.
    #[must_use]
    pub const fn op(self) -> u32 {
        match self {
            Self::ClientCharge => 0xbb63_ff93,
            Self::ClientRefund => 0xefd7_11e1,
            Self::WorkerPayout => 0xa040_ad28,
            Self::WorkerLastPayout => 0xf5f2_6a36,
        }
    }

    /// The kind that `op` orders.
    #[must_use]
    pub const fn from_op(op: u32) -> Option<Self> {
        match op {
            0xbb63_ff93 => Some(Self::ClientCharge),
            0xefd7_11e1 => Some(Self::ClientRefund),
            0xa040_ad28 => Some(Self::WorkerPayout),
            0xf5f2_6a36 => Some(Self::WorkerLastPayout),
            _ => None,
        }
    }
}

impl fmt::Display for PaymentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientCharge => "client charge",
            Self::ClientRefund => "client refund",
            Self::WorkerPayout => "worker payout",
            Self::WorkerLastPayout => "last worker payout",
        })
    }
}

/// A payment as it travels: a signature that may be anybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedPayment {
    /// What is ordered.
    pub kind: PaymentKind,
    /// The proxy's number of the payment. Whoever sends it on keeps the number.
    pub query_id: u64,
    /// The total since the contract began.
    pub tokens: AdjustedTokens,
    /// The contract that the total holds for.
    pub contract: Address,
    /// Who gets what is left of the coins that the sender attaches. Not signed: the sender's choice.
    pub excesses_to: Address,
    /// Ed25519, over the hash of the order.
    pub signature: [u8; 64],
}

impl SignedPayment {
    /// Signs that `tokens` is the total for `contract`.
    #[must_use]
    pub fn sign(
        key: &SigningKey,
        kind: PaymentKind,
        query_id: u64,
        tokens: AdjustedTokens,
        contract: &Address,
        excesses_to: &Address,
    ) -> Self {
        let unsigned = Self {
            kind,
            query_id,
            tokens,
            contract: *contract,
            excesses_to: *excesses_to,
            signature: [0; 64],
        };
        let signature = key.sign(unsigned.order().repr_hash().as_slice());
        Self { signature: signature.to_bytes(), ..unsigned }
    }

    /// The same promise, carried by another sender.
    #[must_use]
    pub const fn with_excesses_to(self, excesses_to: Address) -> Self {
        Self { excesses_to, ..self }
    }

    /// The body of the message that lands it.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        let signature = Signature::from_bytes(&self.signature);
        envelope_cell(self.kind, self.query_id, &self.excesses_to, &signature, self.order())
    }

    /// [`Self::to_cell`] as a bag of cells: the form in which peers get it.
    #[must_use]
    pub fn to_boc(&self) -> Vec<u8> {
        Boc::encode(self.to_cell())
    }

    fn order(&self) -> Cell {
        order_cell(self.kind, self.query_id, self.tokens, &self.contract)
    }

    /// Reads a payment of the given kind, without a look at its signature.
    ///
    /// # Errors
    /// [`PaymentError`] if the cells are not exactly such a payment.
    pub fn from_cell(root: &Cell, kind: PaymentKind) -> Result<Self, PaymentError> {
        let envelope = Envelope::read(root, kind)?;
        let (tokens, contract) = read_order(&envelope, kind)?;
        let Envelope { query_id, excesses_to, signature, order: _ } = envelope;
        Ok(Self { kind, query_id, tokens, contract, excesses_to, signature })
    }

    /// Checks the payment as its receiver: the owner of `contract`, which belongs to the proxy with `key`.
    ///
    /// # Errors
    /// [`PaymentError::OtherContract`], [`PaymentError::Key`] or [`PaymentError::Signature`].
    pub fn verify(self, contract: &Address, key: &PublicKey) -> Result<VerifiedPayment, PaymentError> {
        if self.contract != *contract {
            return Err(PaymentError::OtherContract);
        }
        // The strict check also refuses weak keys, with which one signature would fit many orders.
        let key = VerifyingKey::from_bytes(key.as_bytes()).map_err(|_not_a_point| PaymentError::Key)?;
        key.verify_strict(self.order().repr_hash().as_slice(), &Signature::from_bytes(&self.signature))
            .map_err(|_invalid| PaymentError::Signature)?;
        Ok(VerifiedPayment(self))
    }
}

/// A payment that passed every check of [`verify`].
///
/// It proves that the proxy's key promised the total to the contract. It does not prove that the proxy contract
/// can pay, nor that this is the newest promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedPayment(SignedPayment);

impl VerifiedPayment {
    /// The proxy's number of the payment. A receiver that sends it on keeps the number.
    #[must_use]
    pub const fn query_id(&self) -> u64 {
        self.0.query_id
    }

    /// The total since the contract began.
    #[must_use]
    pub const fn tokens(&self) -> AdjustedTokens {
        self.0.tokens
    }

    /// The payment itself, to be landed.
    #[must_use]
    pub const fn signed(&self) -> &SignedPayment {
        &self.0
    }
}

/// Why a payment is worthless to its receiver. The blame is always the proxy's, which sent it and named its key.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// The bytes are no bag of cells.
    #[error("the payment cannot be read")]
    Boc(#[from] BocError),
    /// The envelope is too short, too long, or does not hold exactly one order.
    #[error(
        "the envelope has {bits} bits and {references} references, expected {ENVELOPE_BITS} and the order"
    )]
    EnvelopeSize {
        /// Bits found.
        bits: u16,
        /// References found.
        references: u8,
    },
    /// The envelope orders something else.
    #[error("expected a {expected} ({:08x}), the envelope has op {found:08x}", expected.op())]
    EnvelopeOp {
        /// What the receiver waits for.
        expected: PaymentKind,
        /// The op found.
        found: u32,
    },
    /// The address for excesses is not a standard one.
    #[error("the address for excesses is not a standard address")]
    ExcessesAddress,
    /// The order is too short, too long, or holds references.
    #[error("the order has {bits} bits and {references} references, expected {ORDER_BITS} bits alone")]
    OrderSize {
        /// Bits found.
        bits: u16,
        /// References found.
        references: u8,
    },
    /// The order is something else than its envelope says.
    #[error("expected a {expected} ({:08x}), the order has op {found:08x}", expected.op())]
    OrderOp {
        /// What the receiver waits for.
        expected: PaymentKind,
        /// The op found.
        found: u32,
    },
    /// The order's query id is not the envelope's.
    #[error("order and envelope have different query ids")]
    OrderQueryId,
    /// The contract in the order is not a standard address.
    #[error("the contract in the order is not a standard address")]
    OrderAddress,
    /// The order is for another contract.
    #[error("the order is for another contract than ours")]
    OtherContract,
    /// The key that should have signed is no Ed25519 key.
    #[error("the proxy's public key is not an Ed25519 key")]
    Key,
    /// Another key signed, or another order was signed.
    #[error("the signature does not fit the order and the proxy's key")]
    Signature,
}

/// Longest accepted payment in bytes. Deployed proxies send 180; an index, checksums and stored hashes fit too.
pub const LEN_MAX: usize = 512;

/// Signs that `tokens` is the total for `contract`, and returns the payment as a bag of cells.
///
/// `key` is the proxy's machine key, whose public half is part of the proxy contract. `excesses_to` receives what
/// is left of the coins that the sender of the payment attaches.
#[must_use]
pub fn sign(
    key: &SigningKey,
    kind: PaymentKind,
    query_id: u64,
    tokens: AdjustedTokens,
    contract: &Address,
    excesses_to: &Address,
) -> Vec<u8> {
    SignedPayment::sign(key, kind, query_id, tokens, contract, excesses_to).to_boc()
}

fn order_cell(kind: PaymentKind, query_id: u64, tokens: AdjustedTokens, contract: &Address) -> Cell {
    build(|builder| {
        builder.store_u32(kind.op())?;
        query_id.store(builder)?;
        tokens.store(builder)?;
        contract.store(builder)
    })
}

fn envelope_cell(
    kind: PaymentKind,
    query_id: u64,
    excesses_to: &Address,
    signature: &Signature,
    order: Cell,
) -> Cell {
    build(|builder| {
        builder.store_u32(kind.op())?;
        query_id.store(builder)?;
        excesses_to.store(builder)?;
        signature.to_bytes().store(builder)?;
        builder.store_reference(order)
    })
}

const SIGNATURE_BITS: u16 = 512;
/// op, query id, standard address, signature.
const ENVELOPE_BITS: u16 = 32 + 64 + 267 + SIGNATURE_BITS;
/// op, query id, tokens, standard address.
const ORDER_BITS: u16 = 32 + 64 + 64 + 267;

/// Checks a payment as its receiver: the owner of `contract`, which belongs to the proxy with `key`.
///
/// # Errors
/// [`PaymentError`], one variant for each check. The cells may come in any form of a bag of cells, as on chain.
pub fn verify(
    boc: &[u8],
    kind: PaymentKind,
    contract: &Address,
    key: &PublicKey,
) -> Result<VerifiedPayment, PaymentError> {
    let root = boc::decode(boc, LEN_MAX)?;
    SignedPayment::from_cell(&root, kind)?.verify(contract, key)
}

struct Envelope {
    query_id: u64,
    excesses_to: Address,
    signature: [u8; 64],
    order: Cell,
}

impl Envelope {
    fn read(root: &Cell, kind: PaymentKind) -> Result<Self, PaymentError> {
        let (bits, references) = (root.bit_len(), root.reference_count());
        let wrong_size = |_error: CellError| PaymentError::EnvelopeSize { bits, references };
        if (bits, references) != (ENVELOPE_BITS, 1) {
            return Err(PaymentError::EnvelopeSize { bits, references });
        }
        let mut slice = root.as_slice().map_err(wrong_size)?;
        let op = slice.load_u32().map_err(wrong_size)?;
        if op != kind.op() {
            return Err(PaymentError::EnvelopeOp { expected: kind, found: op });
        }
        let query_id = slice.load_u64().map_err(wrong_size)?;
        let excesses_to =
            Address::load_from(&mut slice).map_err(|_not_standard| PaymentError::ExcessesAddress)?;
        let mut signature = [0; 64];
        slice.load_raw(&mut signature, SIGNATURE_BITS).map_err(wrong_size)?;
        let order = slice.load_reference_cloned().map_err(wrong_size)?;
        Ok(Self { query_id, excesses_to, signature, order })
    }
}

fn read_order(envelope: &Envelope, kind: PaymentKind) -> Result<(AdjustedTokens, Address), PaymentError> {
    let (bits, references) = (envelope.order.bit_len(), envelope.order.reference_count());
    let wrong_size = |_error: CellError| PaymentError::OrderSize { bits, references };
    if (bits, references) != (ORDER_BITS, 0) {
        return Err(PaymentError::OrderSize { bits, references });
    }
    let mut slice = envelope.order.as_slice().map_err(wrong_size)?;
    let op = slice.load_u32().map_err(wrong_size)?;
    if op != kind.op() {
        return Err(PaymentError::OrderOp { expected: kind, found: op });
    }
    if slice.load_u64().map_err(wrong_size)? != envelope.query_id {
        return Err(PaymentError::OrderQueryId);
    }
    let tokens = slice.load_u64().map_err(wrong_size)?;
    let contract = Address::load_from(&mut slice).map_err(|_not_standard| PaymentError::OrderAddress)?;
    Ok((AdjustedTokens::new(tokens), contract))
}

#[cfg(test)]
mod tests;
