//! Wallets of people: the contracts v4r2 and v5r1, which every wallet program knows.
//!
//! Layouts are those of the contracts' own repositories (`wallet-contract` and `wallet-contract-v5` of the TON
//! blockchain); `spec/vectors/ton/human-wallets.json` has what the official SDK makes of them. The codes are in
//! `codes/`, taken from that SDK: a wallet's address follows from them.

use ed25519_dalek::{Signature, Signer, SigningKey};
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::error::Error as CellError;
use units::PublicKey;

use crate::cells::{Field as _, LayoutError, Reader, build};
use crate::contracts::StateInit;
use crate::message::SendMode;
use crate::{Address, ContractCode};

/// Which contract a wallet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HumanWalletVersion {
    /// The widespread one, with at most 4 messages in a transfer.
    V4R2,
    /// The newest one, with at most 255.
    V5R1,
}

impl HumanWalletVersion {
    /// The most messages in one transfer.
    #[must_use]
    pub const fn messages_max(self) -> usize {
        match self {
            Self::V4R2 => 4,
            Self::V5R1 => 255,
        }
    }

    /// The contract's code.
    #[must_use]
    pub fn code(self) -> ContractCode {
        let bytes: &[u8] = match self {
            Self::V4R2 => include_bytes!("../codes/wallet-v4r2.boc"),
            Self::V5R1 => include_bytes!("../codes/wallet-v5r1.boc"),
        };
        ContractCode::from_boc(bytes).expect("a test reads both")
    }
}

/// The network that a wallet is for. Only v5r1 wallets differ: theirs have another address on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// Real money; devnets, too, run under this network's configuration.
    Mainnet,
    /// TON's public test network.
    Testnet,
}

impl Network {
    /// `global_id` of the network's configuration (parameter 19).
    #[must_use]
    pub const fn global_id(self) -> i32 {
        match self {
            Self::Mainnet => -239,
            Self::Testnet => -3,
        }
    }
}

/// A wallet of a person: the first one of a key, in workchain 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanWallet {
    version: HumanWalletVersion,
    wallet_id: u32,
    key: PublicKey,
}

/// More messages than one transfer can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a transfer of this wallet carries at most {max} messages, not {found}: send the rest with the next")]
pub struct TooManyTransfers {
    found: usize,
    max: usize,
}

/// v4r2: this number, plus the workchain.
const WALLET_ID_V4R2: u32 = 698_983_191;
/// v5r1: made by a client (1 bit), workchain 0 (8), version 0 (8), subwallet 0 (15), mixed with the network.
const CONTEXT_V5R1: u32 = 1 << 31;
/// v5r1: a signed request from outside.
const SIGNED_EXTERNAL: u32 = 0x7369_676e;
/// `action_send_msg` in TON's `block.tlb`.
const SEND_MESSAGE: u32 = 0x0ec3_c86d;

impl HumanWallet {
    /// The wallet of `key`.
    #[must_use]
    pub const fn new(version: HumanWalletVersion, network: Network, key: PublicKey) -> Self {
        let wallet_id = match version {
            HumanWalletVersion::V4R2 => WALLET_ID_V4R2,
            HumanWalletVersion::V5R1 => CONTEXT_V5R1 ^ network.global_id().cast_unsigned(),
        };
        Self { version, wallet_id, key }
    }

    /// Which contract it is.
    #[must_use]
    pub const fn version(&self) -> HumanWalletVersion {
        self.version
    }

    /// What it is deployed with, along with its first transfer.
    #[must_use]
    pub fn init(&self) -> StateInit {
        let data = build(|builder| {
            if self.version == HumanWalletVersion::V5R1 {
                builder.store_bit_one()?; // the signature counts
            }
            0_u32.store(builder)?; // seqno
            self.wallet_id.store(builder)?;
            self.key.store(builder)?;
            builder.store_bit_zero() // no plugins, no extensions
        });
        StateInit { code: self.version.code(), data }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.init().address()
    }

    /// The number of the next transfer, out of the data of the deployed wallet.
    ///
    /// # Errors
    /// [`LayoutError`] if the data is too short for it.
    pub fn seqno(&self, data: &Cell) -> Result<u32, LayoutError> {
        let mut reader = Reader::new("data of a wallet", data)?;
        if self.version == HumanWalletVersion::V5R1 {
            let _the_signature_counts: bool = reader.field("is_signature_allowed")?;
        }
        reader.field("seqno")
    }

    /// The body of the external message that sends `messages`, made by [`crate::message::InternalMessage::to_cell`].
    ///
    /// `valid_until` is Unix time in seconds. A message that cannot be sent is left out: the wallets' contracts would
    /// otherwise keep the seqno, and the same transfer could be sent again and again.
    ///
    /// # Errors
    /// [`TooManyTransfers`] for more than [`HumanWalletVersion::messages_max`].
    pub fn transfer(
        &self,
        key: &SigningKey,
        valid_until: u32,
        seqno: u32,
        messages: &[(SendMode, Cell)],
    ) -> Result<Cell, TooManyTransfers> {
        let max = self.version.messages_max();
        if messages.len() > max {
            return Err(TooManyTransfers { found: messages.len(), max });
        }
        let messages = messages.iter().map(|(mode, message)| (mode.ignoring_errors(), message));
        let order = match self.version {
            HumanWalletVersion::V4R2 => self.order_v4(valid_until, seqno, messages),
            HumanWalletVersion::V5R1 => self.order_v5(valid_until, seqno, messages),
        };
        let signature = key.sign(order.repr_hash().as_slice());
        Ok(self.signed(&order, &signature))
    }

    fn order_v4<'a>(
        &self,
        valid_until: u32,
        seqno: u32,
        messages: impl Iterator<Item = (SendMode, &'a Cell)>,
    ) -> Cell {
        build(|builder| {
            self.wallet_id.store(builder)?;
            valid_until.store(builder)?;
            seqno.store(builder)?;
            builder.store_u8(0)?; // a plain transfer
            for (mode, message) in messages {
                builder.store_u8(mode.number())?;
                message.store(builder)?;
            }
            Ok(())
        })
    }

    fn order_v5<'a>(
        &self,
        valid_until: u32,
        seqno: u32,
        messages: impl Iterator<Item = (SendMode, &'a Cell)>,
    ) -> Cell {
        // `OutList`: the last action holds the ones before it.
        let nothing: Option<Cell> = None;
        let actions = messages.fold(nothing, |before, (mode, message)| {
            Some(build(|builder| {
                builder.store_reference(before.unwrap_or_default())?;
                builder.store_u32(SEND_MESSAGE)?;
                builder.store_u8(mode.number())?;
                message.store(builder)
            }))
        });
        build(|builder| {
            SIGNED_EXTERNAL.store(builder)?;
            self.wallet_id.store(builder)?;
            valid_until.store(builder)?;
            seqno.store(builder)?;
            actions.store(builder)?;
            builder.store_bit_zero() // no other actions
        })
    }

    /// v4r2 has the signature in front, v5r1 at the end.
    fn signed(&self, order: &Cell, signature: &Signature) -> Cell {
        let store_order =
            |builder: &mut CellBuilder| -> Result<(), CellError> { builder.store_slice(order.as_slice()?) };
        let signature = signature.to_bytes();
        build(|builder| match self.version {
            HumanWalletVersion::V4R2 => {
                signature.store(builder)?;
                store_order(builder)
            }
            HumanWalletVersion::V5R1 => {
                store_order(builder)?;
                signature.store(builder)
            }
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
