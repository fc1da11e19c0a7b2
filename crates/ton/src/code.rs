//! Codes of contracts.

use std::fmt;

use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::error::Error as CellError;

use crate::boc::{self, BocError};
use crate::cells::{Field, FieldError};

/// The code of a contract: part of its address, never run here.
#[derive(Clone, PartialEq, Eq)]
pub struct ContractCode(Cell);

/// Bytes that are no contract's code.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// Not a bag of cells.
    #[error(transparent)]
    Boc(#[from] BocError),
    /// More nested than any account may be.
    #[error("the code is {depth} cells deep, an account may be at most {} deep", ContractCode::DEPTH_MAX)]
    TooDeep {
        /// Depth of the tree of cells.
        depth: u16,
    },
}

/// The contracts of a Cocoon network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contract {
    /// Lists and prices.
    Root,
    /// Holds the money of one proxy.
    Proxy,
    /// Counts what a worker was paid.
    Worker,
    /// Counts what a client paid in and was charged.
    Client,
    /// A node's hot wallet.
    Wallet,
}

impl Contract {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Root, Self::Proxy, Self::Worker, Self::Client, Self::Wallet];

    /// Which contract a code is, if it is one that this project builds.
    #[must_use]
    pub fn of_code(code: &Cell) -> Option<Self> {
        Self::ALL.into_iter().find(|contract| ContractCode::built(*contract).0 == *code)
    }

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Proxy => "proxy",
            Self::Worker => "worker",
            Self::Client => "client",
            Self::Wallet => "node wallet",
        }
    }
}

impl ContractCode {
    /// The code that this project builds for a contract (`contracts/build`).
    ///
    /// A network's own proxy, worker and client codes are those of its root contract; these are for new networks, and
    /// for node wallets, which nobody derives but their node.
    #[must_use]
    pub fn built(contract: Contract) -> Self {
        let bytes: &[u8] = match contract {
            Contract::Root => include_bytes!("../../../contracts/build/root.boc"),
            Contract::Proxy => include_bytes!("../../../contracts/build/proxy.boc"),
            Contract::Worker => include_bytes!("../../../contracts/build/worker.boc"),
            Contract::Client => include_bytes!("../../../contracts/build/client.boc"),
            Contract::Wallet => include_bytes!("../../../contracts/build/wallet.boc"),
        };
        Self::from_boc(bytes).expect("a test reads all five")
    }

    /// Longest accepted bag of cells in bytes; the deployed contracts take about 2 KiB each.
    pub const BOC_LEN_MAX: usize = 64 * 1024;
    /// Deepest accepted tree of cells: TON's limit for the state of an account.
    pub const DEPTH_MAX: u16 = 512;

    /// No code: one empty cell. Addresses still differ by their initial data.
    #[must_use]
    pub fn empty() -> Self {
        Self(Cell::default())
    }

    /// Reads a bag of cells.
    ///
    /// # Errors
    /// [`CodeError`] if the bytes are not one bag of cells within the bounds above.
    pub fn from_boc(bytes: &[u8]) -> Result<Self, CodeError> {
        let cell = boc::decode(bytes, Self::BOC_LEN_MAX)?;
        let depth = cell.depth(0);
        if depth > Self::DEPTH_MAX {
            return Err(CodeError::TooDeep { depth });
        }
        Ok(Self(cell))
    }

    /// The bag of cells, without index and checksum.
    #[must_use]
    pub fn to_boc(&self) -> Vec<u8> {
        Boc::encode(&self.0)
    }

    /// What the code is known by on chain.
    ///
    /// That is the hash at level 0: a part known only by hash and depth (a pruned branch) counts like the part
    /// itself.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.0.hash(0).0
    }

    /// Whether this is [`Self::empty`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cell.
    #[must_use]
    pub fn cell(&self) -> Cell {
        self.0.clone()
    }
}

impl Default for ContractCode {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for ContractCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContractCode({})", hex::encode(self.hash()))
    }
}

/// In a reference.
impl Field for ContractCode {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_reference(self.cell())
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        let cell = slice.load_reference_cloned()?;
        if cell.depth(0) > Self::DEPTH_MAX { Err(FieldError::Depth) } else { Ok(Self(cell)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(depth: u16) -> Cell {
        let mut cell = Cell::default();
        for _ in 0..depth {
            let mut builder = CellBuilder::new();
            builder.store_reference(cell).unwrap();
            cell = builder.build().unwrap();
        }
        cell
    }

    #[test]
    fn built_codes_have_the_hashes_that_are_committed_with_them() {
        let hashes = include_str!("../../../contracts/build/hashes.json");
        let hashes: serde_json::Value = serde_json::from_str(hashes).unwrap();
        for (contract, name) in Contract::ALL.into_iter().zip(["root", "proxy", "worker", "client", "wallet"])
        {
            let code = ContractCode::built(contract);
            assert_eq!(hashes["codes"][name], hex::encode(code.hash()).as_str(), "{name}");
            assert_eq!(Contract::of_code(&code.cell()), Some(contract));
        }
        assert_eq!(Contract::of_code(&Cell::default()), None);
    }

    #[test]
    fn codes_survive_their_bag_of_cells() {
        let code = ContractCode(CellBuilder::build_from(7_u8).unwrap());
        assert_eq!(ContractCode::from_boc(&code.to_boc()).unwrap(), code);
        assert!(!code.is_empty());
        assert!(ContractCode::from_boc(&ContractCode::empty().to_boc()).unwrap().is_empty());
    }

    #[test]
    fn codes_deeper_than_accounts_are_refused() {
        let deepest = Boc::encode(chain(ContractCode::DEPTH_MAX));
        assert!(ContractCode::from_boc(&deepest).is_ok());
        let deeper = Boc::encode(chain(ContractCode::DEPTH_MAX + 1));
        assert!(matches!(ContractCode::from_boc(&deeper), Err(CodeError::TooDeep { depth: 513 })));
    }

    #[test]
    fn oversized_bags_are_refused_unread() {
        let error = ContractCode::from_boc(&vec![0; ContractCode::BOC_LEN_MAX + 1]).unwrap_err();
        assert!(matches!(error, CodeError::Boc(BocError::TooLong { .. })), "{error}");
    }
}
