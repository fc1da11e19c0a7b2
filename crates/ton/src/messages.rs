//! Bodies of the messages that the five contracts exchange with the world, and with each other.
//!
//! `spec/messages.tlb` has their layouts. One enum for each contract holds what it accepts from people and nodes;
//! what contracts say to each other stands beside it. [`Message`] is any of them, for whoever watches an account.
//! Orders that travel signed are in [`crate::payment`].
//!
//! Reading is total: any cell gives a message or a [`LayoutError`].

mod client;
mod notice;
mod proxy;
mod root;
mod wallet;
mod worker;

use tycho_types::cell::Cell;

pub use client::{ClientMessage, ClientPayload, ClientRequest, ClientSnapshot};
pub use notice::{Anchor, Bounced, Notice, TextCommand};
pub use proxy::ProxyMessage;
pub use root::{ListedProxy, RootMessage};
pub use wallet::WalletMessage;
pub use worker::{PayoutPayload, WorkerMessage, WorkerRequest};

use crate::cells::{LayoutError, Reader};
use crate::payment::{PaymentError, PaymentKind, ProxyOrderKind, SignedPayment, SignedProxyOrder};

/// Declares the bodies that one contract accepts: an op, a query id, and the fields of `spec/messages.tlb` in order.
///
/// The query id is the sender's number of the request; what the contract sends in consequence repeats it.
macro_rules! bodies {
    (
        $(#[$doc:meta])*
        $name:ident, $layout:literal {
            $(
                $(#[$variant_doc:meta])*
                $variant:ident = $op:literal { $( $(#[$field_doc:meta])* $field:ident: $type:ty, )* }
            )+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $(
                $(#[$variant_doc])*
                $variant {
                    /// The sender's number of the request.
                    query_id: u64,
                    $( $(#[$field_doc])* $field: $type, )*
                },
            )+
        }

        impl $name {
            pub(super) const OPS: &[u32] = &[$($op),+];

            /// The first 32 bits.
            #[must_use]
            pub const fn op(&self) -> u32 {
                match self { $( Self::$variant { .. } => $op, )+ }
            }

            /// What the message is, as operators say it.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $( Self::$variant { .. } => stringify!($variant), )+ }
            }

            /// The sender's number of the request.
            #[must_use]
            pub const fn query_id(&self) -> u64 {
                match self { $( Self::$variant { query_id, .. } => *query_id, )+ }
            }

            /// The amounts of money that the message names, in the order of its fields.
            #[must_use]
            pub fn amounts(&self) -> Vec<units::NanoTon> {
                use crate::cells::Field as _;
                match self {
                    $( Self::$variant { query_id, $($field),* } => {
                        [query_id.amount(), $( $field.amount() ),*].into_iter().flatten().collect()
                    } )+
                }
            }

            /// The body.
            #[must_use]
            pub fn to_cell(&self) -> Cell {
                use crate::cells::Field as _;
                crate::cells::build(|builder| {
                    builder.store_u32(self.op())?;
                    match self {
                        $( Self::$variant { query_id, $($field),* } => {
                            query_id.store(builder)?;
                            $( $field.store(builder)?; )*
                        } )+
                    }
                    Ok(())
                })
            }

            /// Reads a body.
            ///
            /// # Errors
            /// [`LayoutError`] for everything that the contract would not understand either.
            pub fn from_cell(body: &Cell) -> Result<Self, LayoutError> {
                let mut reader = Reader::new($layout, body)?;
                let message = match reader.field("op")? {
                    $( $op => Self::$variant {
                        query_id: reader.field("query_id")?,
                        $( $field: reader.field(stringify!($field))?, )*
                    }, )+
                    op => return Err(reader.unknown_op(op)),
                };
                reader.end()?;
                Ok(message)
            }
        }
    };
}
use bodies;

/// Declares what one contract asks of another: an op, a query id, and the fields of `spec/messages.tlb` in order.
macro_rules! request {
    (
        $(#[$doc:meta])*
        $name:ident = $op:literal, $layout:literal { $( $(#[$field_doc:meta])* $field:ident: $type:ty, )* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            /// The number of the request that led to this one.
            pub query_id: u64,
            $( $(#[$field_doc])* pub $field: $type, )*
        }

        impl $name {
            /// The first 32 bits.
            pub const OP: u32 = $op;

            /// The body.
            #[must_use]
            pub fn to_cell(&self) -> Cell {
                crate::cells::build(|builder| {
                    builder.store_u32(Self::OP)?;
                    self.query_id.store(builder)?;
                    $( self.$field.store(builder)?; )*
                    Ok(())
                })
            }

            /// Reads a body.
            ///
            /// # Errors
            /// [`LayoutError`] if it is anything else.
            pub fn from_cell(body: &Cell) -> Result<Self, LayoutError> {
                let mut reader = Reader::new($layout, body)?;
                let op: u32 = reader.field("op")?;
                if op != Self::OP {
                    return Err(reader.unknown_op(op));
                }
                let request = Self {
                    query_id: reader.field("query_id")?,
                    $( $field: reader.field(stringify!($field))?, )*
                };
                reader.end()?;
                Ok(request)
            }
        }
    };
}
use request;

/// A body whose op is ours, and whose rest is not.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// An unsigned message.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A signed payment.
    #[error(transparent)]
    Payment(#[from] PaymentError),
}

/// Any body that means something to a contract of a Cocoon network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// No body: a plain transfer.
    Empty,
    /// To a client contract, unsigned.
    Client(ClientMessage),
    /// To a worker contract, unsigned.
    Worker(WorkerMessage),
    /// To a proxy contract, from people and nodes.
    Proxy(ProxyMessage),
    /// To a proxy contract, from a client contract.
    ClientRequest(ClientRequest),
    /// To a proxy contract, from a worker contract.
    WorkerRequest(WorkerRequest),
    /// To a node wallet, from its owner.
    Wallet(WalletMessage),
    /// To a root contract.
    Root(RootMessage),
    /// Signed by a proxy, to a client or worker contract.
    Payment(SignedPayment),
    /// Signed by a proxy, to its own contract.
    ProxyOrder(SignedProxyOrder),
    /// Accepted everywhere.
    Notice(Notice),
    /// Typed as a comment in any wallet.
    Text(TextCommand),
    /// A message that came back.
    Bounced(Bounced),
    /// No op of ours.
    Unknown {
        /// The first 32 bits, if there are as many.
        op: Option<u32>,
    },
}

impl Message {
    /// The body. None for what other contracts write: what came back, and what is not ours.
    #[must_use]
    pub fn to_cell(&self) -> Option<Cell> {
        Some(match self {
            Self::Empty => Cell::default(),
            Self::Client(body) => body.to_cell(),
            Self::Worker(body) => body.to_cell(),
            Self::Proxy(body) => body.to_cell(),
            Self::ClientRequest(body) => body.to_cell(),
            Self::WorkerRequest(body) => body.to_cell(),
            Self::Wallet(body) => body.to_cell(),
            Self::Root(body) => body.to_cell(),
            Self::Payment(body) => body.to_cell(),
            Self::ProxyOrder(body) => body.to_cell(),
            Self::Notice(body) => body.to_cell(),
            Self::Text(body) => body.to_cell(),
            Self::Bounced(_) | Self::Unknown { .. } => return None,
        })
    }

    /// Reads a body. Ops are unique among our contracts, so the receiver need not be known.
    ///
    /// # Errors
    /// [`MessageError`] if the op is ours and the rest is not.
    pub fn from_cell(body: &Cell) -> Result<Self, MessageError> {
        if body.bit_len() == 0 && body.reference_count() == 0 {
            return Ok(Self::Empty);
        }
        let Ok(op) = Reader::new("message", body).and_then(|mut reader| reader.field::<u32>("op")) else {
            return Ok(Self::Unknown { op: None });
        };
        if let Some(kind) = PaymentKind::from_op(op) {
            return Ok(Self::Payment(SignedPayment::from_cell(body, kind)?));
        }
        if ProxyOrderKind::from_op(op).is_some() {
            return Ok(Self::ProxyOrder(SignedProxyOrder::from_cell(body)?));
        }
        let read = match op {
            _ if ClientMessage::OPS.contains(&op) => ClientMessage::from_cell(body).map(Self::Client),
            _ if WorkerMessage::OPS.contains(&op) => WorkerMessage::from_cell(body).map(Self::Worker),
            _ if ProxyMessage::OPS.contains(&op) => ProxyMessage::from_cell(body).map(Self::Proxy),
            _ if WalletMessage::OPS.contains(&op) => WalletMessage::from_cell(body).map(Self::Wallet),
            _ if RootMessage::OPS.contains(&op) => RootMessage::from_cell(body).map(Self::Root),
            ClientRequest::OP => ClientRequest::from_cell(body).map(Self::ClientRequest),
            WorkerRequest::OP => WorkerRequest::from_cell(body).map(Self::WorkerRequest),
            TextCommand::OP => {
                Ok(TextCommand::from_cell(body).map_or(Self::Unknown { op: Some(op) }, Self::Text))
            }
            _ if Bounced::OPS.contains(&op) => Bounced::from_cell(body).map(Self::Bounced),
            _ if Notice::OPS.contains(&op) => Notice::from_cell(body).map(Self::Notice),
            _ => Ok(Self::Unknown { op: Some(op) }),
        };
        Ok(read?)
    }
}

#[cfg(test)]
mod tests;
