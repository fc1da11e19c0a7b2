//! Data of the contracts, as their accounts hold it.
//!
//! Readers accept what contracts of `contracts/` add to the deployed layouts: an amount in a reference at the end.
//! An account without data has no contract yet: whoever reads the chain tells that from a malformed one.

use std::fmt;

use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::error::Error as CellError;
use units::{AdjustedTokens, NanoTon, PublicKey};

use crate::Address;
use crate::cells::{Field, FieldError, LayoutError, Reader, build, store_trailing_amount};

/// How far a contract is on its way. A worker contract never closes slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContractState {
    /// It works.
    #[default]
    Normal,
    /// Its delay runs.
    Closing,
    /// It is finished.
    Closed,
}

impl fmt::Display for ContractState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "open",
            Self::Closing => "closing",
            Self::Closed => "closed",
        })
    }
}

impl ContractState {
    /// The number in cells and get methods.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Closing => 1,
            Self::Closed => 2,
        }
    }

    /// What the number in a cell or get method means.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Normal),
            1 => Some(Self::Closing),
            2 => Some(Self::Closed),
            _ => None,
        }
    }
}

impl Field for ContractState {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_small_uint(self.number(), 2)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Self::from_number(slice.load_small_uint(2)?).ok_or(FieldError::Value)
    }
}

/// Whose contract it is, and with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// The client's node wallet, or the owner of the worker.
    pub owner: Address,
    /// The proxy contract.
    pub proxy: Address,
    /// The key that signs the proxy's payments.
    pub key: PublicKey,
}

impl Field for Parties {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        self.owner.store(builder)?;
        self.proxy.store(builder)?;
        self.key.store(builder)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(Self { owner: Field::load(slice)?, proxy: Field::load(slice)?, key: Field::load(slice)? })
    }
}

/// Data of a client contract. The money itself is in the proxy contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientData {
    /// Whether it works, closes or is closed.
    pub state: ContractState,
    /// Paid in and not charged.
    pub balance: NanoTon,
    /// The floor under the balance that withdrawing leaves.
    pub stake: NanoTon,
    /// Charged since the beginning.
    pub tokens_used: AdjustedTokens,
    /// When a closing contract may take what is left: Unix time in seconds.
    pub unlock_at: u32,
    /// SHA-256 of the login secret; zeros for none.
    pub secret_hash: [u8; 32],
    /// Whose contract it is.
    pub parties: Parties,
    /// The network's params, without codes.
    pub params: Cell,
    /// What of the balance the proxy contract has not confirmed, and no refund pays out yet.
    pub unconfirmed: NanoTon,
}

impl ClientData {
    /// The cell.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        build(|builder| {
            self.state.store(builder)?;
            self.balance.store(builder)?;
            self.stake.store(builder)?;
            self.tokens_used.store(builder)?;
            self.unlock_at.store(builder)?;
            self.secret_hash.store(builder)?;
            builder.store_reference(build(|builder| self.parties.store(builder)))?;
            self.params.store(builder)?;
            store_trailing_amount(builder, self.unconfirmed)
        })
    }

    /// Reads the cell.
    ///
    /// # Errors
    /// [`LayoutError`] if it is anything else.
    pub fn from_cell(data: &Cell) -> Result<Self, LayoutError> {
        const LAYOUT: &str = "data of a client contract";
        let mut reader = Reader::new(LAYOUT, data)?;
        let state = reader.field("state")?;
        let balance = reader.field("balance")?;
        let stake = reader.field("stake")?;
        let tokens_used = reader.field("tokens_used")?;
        let unlock_at = reader.field("unlock_ts")?;
        let secret_hash = reader.field("secret_hash")?;
        let parties: Cell = reader.field("parties")?;
        let params = reader.field("params")?;
        let unconfirmed = reader.trailing_amount("unconfirmed")?;
        reader.end()?;
        let mut inner = Reader::new(LAYOUT, &parties)?;
        let parties = inner.field("parties")?;
        inner.end()?;
        Ok(Self { state, balance, stake, tokens_used, unlock_at, secret_hash, parties, params, unconfirmed })
    }
}

/// Data of a worker contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerData {
    /// Whose contract it is.
    pub parties: Parties,
    /// Whether it works or is closed.
    pub state: ContractState,
    /// Paid out since the beginning.
    pub tokens: AdjustedTokens,
    /// The network's params, without codes.
    pub params: Cell,
}

impl WorkerData {
    /// The cell.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        build(|builder| {
            self.parties.store(builder)?;
            self.state.store(builder)?;
            self.tokens.store(builder)?;
            self.params.store(builder)
        })
    }

    /// Reads the cell.
    ///
    /// # Errors
    /// [`LayoutError`] if it is anything else.
    pub fn from_cell(data: &Cell) -> Result<Self, LayoutError> {
        let mut reader = Reader::new("data of a worker contract", data)?;
        let read = Self {
            parties: reader.field("parties")?,
            state: reader.field("state")?,
            tokens: reader.field("tokens")?,
            params: reader.field("params")?,
        };
        reader.end()?;
        Ok(read)
    }
}

/// Data of a proxy contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyData {
    /// Who gets the earnings and the stake.
    pub owner: Address,
    /// Signs payments.
    pub key: PublicKey,
    /// The root contract; stored and never used.
    pub root: Address,
    /// Whether it works, closes or is closed.
    pub state: ContractState,
    /// Earned by the owner and not taken out. Not the clients' money.
    pub balance: NanoTon,
    /// What refunds by force are paid from.
    pub stake: NanoTon,
    /// When a closing contract may be closed: Unix time in seconds.
    pub unlock_at: u32,
    /// The network's params, with the codes of worker and client.
    pub params: Cell,
    /// Paid in by clients and not paid out: theirs and the workers'. Deployed contracts do not know it.
    pub pool: NanoTon,
}

impl ProxyData {
    /// The cell.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        build(|builder| {
            self.owner.store(builder)?;
            self.key.store(builder)?;
            self.root.store(builder)?;
            self.state.store(builder)?;
            self.balance.store(builder)?;
            self.stake.store(builder)?;
            self.unlock_at.store(builder)?;
            self.params.store(builder)?;
            store_trailing_amount(builder, self.pool)
        })
    }

    /// Reads the cell.
    ///
    /// # Errors
    /// [`LayoutError`] if it is anything else.
    pub fn from_cell(data: &Cell) -> Result<Self, LayoutError> {
        let mut reader = Reader::new("data of a proxy contract", data)?;
        let read = Self {
            owner: reader.field("owner")?,
            key: reader.field("proxy_public_key")?,
            root: reader.field("root")?,
            state: reader.field("state")?,
            balance: reader.field("balance")?,
            stake: reader.field("stake")?,
            unlock_at: reader.field("unlock_ts")?,
            params: reader.field("params")?,
            pool: reader.trailing_amount("pool")?,
        };
        reader.end()?;
        Ok(read)
    }
}

/// Data of a node wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalletData {
    /// Number of the next external message.
    pub seqno: u32,
    /// Tells wallets of one key apart; 0 everywhere.
    pub subwallet: u32,
    /// The node's key.
    pub key: PublicKey,
    /// Bit 0: external messages are refused.
    pub status: u32,
    /// Who may empty and block it.
    pub owner: Address,
}

impl WalletData {
    /// Whether the owner has told the wallet to refuse the node's messages.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.status & 1 != 0
    }

    /// The cell.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        build(|builder| {
            self.seqno.store(builder)?;
            self.subwallet.store(builder)?;
            self.key.store(builder)?;
            self.status.store(builder)?;
            self.owner.store(builder)
        })
    }

    /// Reads the cell.
    ///
    /// # Errors
    /// [`LayoutError`] if it is anything else.
    pub fn from_cell(data: &Cell) -> Result<Self, LayoutError> {
        let mut reader = Reader::new("data of a node wallet", data)?;
        let read = Self {
            seqno: reader.field("seqno")?,
            subwallet: reader.field("subwallet")?,
            key: reader.field("public_key")?,
            status: reader.field("status")?,
            owner: reader.field("owner")?,
        };
        reader.end()?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
