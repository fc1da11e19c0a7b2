//! The configuration of a network, in the form the executor wants.

use std::collections::hash_map::Entry;

use tycho_executor::ParsedConfig;
use tycho_types::cell::{Cell, CellBuilder, HashBytes};
use tycho_types::dict::Dict;
use tycho_types::error::Error as CellError;
use tycho_types::models::config::{
    BlockchainConfig, BlockchainConfigParams, WorkchainDescription, WorkchainFormat, WorkchainFormatBasic,
};

use ton::{BocError, decode_boc};

/// The main network's configuration: `config/README.md` says from where.
const MAINNET: &[u8] = include_bytes!("../config/mainnet-52956904.boc");
/// Parameter 0: the account of the configuration contract.
const CONFIG_ADDRESS: u32 = 0;
/// Parameter 12: the workchains.
const WORKCHAINS: u32 = 12;
/// Parameter 43: limits on the size of messages and accounts.
const SIZE_LIMITS: u32 = 43;
/// Bytes of a configuration. The main network's, with its validators, takes 115 KB.
const BOC_LEN_MAX: usize = 4 * 1024 * 1024;

/// Bytes that are no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No bag of cells.
    #[error("the configuration cannot be read")]
    Boc(#[from] BocError),
    /// No dictionary with the parameters that every network has.
    #[error("the configuration lacks a parameter, or holds one in another form than TON's block.tlb")]
    Parameters(#[from] CellError),
    /// Parameter 0 is missing.
    #[error("the configuration does not say which account holds it (parameter 0)")]
    NoAddress,
}

/// Prices, limits and versions of a network: what contracts read with `CONFIGPARAM`, and what the executor follows.
///
/// The executor's types follow another network in two parameters, so it is given them apart:
/// - 12, workchains: it knows tag `a6` only, TON has `workchain_v2#a7`. It gets workchains 0 and -1, open to messages.
/// - 43, size limits: its layout is another one under the same tag `02`, read *wrongly* instead of refused. It gets
///   TON's defaults, which its own are.
///
/// Contracts see the true parameters.
#[derive(Debug)]
pub struct NetworkConfig {
    parsed: ParsedConfig,
    root: Cell,
}

impl NetworkConfig {
    /// The main network's, at the block that `config/README.md` names.
    #[must_use]
    pub fn mainnet() -> Self {
        Self::from_boc(MAINNET).expect("the committed configuration is whole")
    }

    /// The configuration in a bag of cells whose root is the dictionary of parameters.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong with the bytes.
    pub fn from_boc(bytes: &[u8]) -> Result<Self, ConfigError> {
        let root = decode_boc(bytes, BOC_LEN_MAX)?;
        let params = BlockchainConfigParams::from_raw(root.clone());
        let Some(address) = params.get_raw_cell(CONFIG_ADDRESS)? else { return Err(ConfigError::NoAddress) };
        let original = BlockchainConfig { address: address.parse::<HashBytes>()?, params };

        let mut readable = original.clone();
        readable.params.set_raw(WORKCHAINS, CellBuilder::build_from(Dict::<i32, Cell>::new())?)?;
        readable.params.remove(SIZE_LIMITS)?;
        // All prices, also those that begin later: which one counts is looked up for each transaction.
        let mut parsed = ParsedConfig::parse(readable, u32::MAX)?;
        parsed.unpacked.size_limits_config = original.params.get_raw_cell(SIZE_LIMITS)?;
        for id in [-1, 0] {
            if let Entry::Vacant(vacant) = parsed.workchains.entry(id) {
                vacant.insert(open_workchain());
            }
        }
        parsed.raw = original;
        Ok(Self { parsed, root })
    }

    /// What names this configuration: the hash of its root cell.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.root.repr_hash().0
    }

    /// One parameter as contracts see it.
    #[must_use]
    pub fn parameter(&self, id: u32) -> Option<Cell> {
        self.parsed.raw.params.get_raw_cell(id).ok().flatten()
    }

    /// The dictionary of all parameters.
    #[must_use]
    pub fn root(&self) -> &Cell {
        &self.root
    }

    /// What contracts know the network by: -239 for the main one.
    #[must_use]
    pub fn global_id(&self) -> i32 {
        self.parsed.global_id
    }

    pub(crate) fn parsed(&self) -> &ParsedConfig {
        &self.parsed
    }
}

/// A workchain that takes messages, with the one format that TON has.
fn open_workchain() -> WorkchainDescription {
    WorkchainDescription {
        enabled_since: 0,
        actual_min_split: 0,
        min_split: 0,
        max_split: 0,
        active: true,
        accept_msgs: true,
        zerostate_root_hash: HashBytes::ZERO,
        zerostate_file_hash: HashBytes::ZERO,
        version: 0,
        format: WorkchainFormat::Basic(WorkchainFormatBasic { vm_mode: 0, vm_version: -1 }),
    }
}

#[cfg(test)]
mod tests {
    use tycho_types::cell::CellFamily as _;

    use super::*;

    #[test]
    fn the_committed_configuration_is_the_one_its_readme_names() {
        let config = NetworkConfig::mainnet();
        let readme = include_str!("../config/README.md");
        let hash = HashBytes(config.hash()).to_string();
        assert!(readme.contains(&hash), "{hash}");
        assert_eq!(config.parsed().global.version, 12);
        assert_eq!(config.parsed().gas_prices.gas_price >> 16, 400);
        assert_eq!(config.parsed().fwd_prices.lump_price, 400_000);
    }

    #[test]
    fn contracts_see_the_true_parameters() {
        let config = NetworkConfig::mainnet();
        let workchains = config.parameter(WORKCHAINS).unwrap();
        assert!(workchains.parse::<Dict<i32, WorkchainDescription>>().unwrap().get(0).is_err(), "tag a7");
        assert!(config.parameter(SIZE_LIMITS).is_none());
        assert!(config.parsed().unpacked.size_limits_config.is_none());
        assert_eq!(config.parsed().workchains.len(), 2);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        assert!(matches!(NetworkConfig::from_boc(b"nonsense"), Err(ConfigError::Boc(_))));
        let empty = tycho_types::boc::Boc::encode(Cell::empty_cell());
        assert!(matches!(NetworkConfig::from_boc(&empty), Err(ConfigError::Parameters(_))));
        let mut params = NetworkConfig::mainnet().parsed.raw.params.as_dict().clone();
        params.remove(CONFIG_ADDRESS).unwrap();
        let headless = tycho_types::boc::Boc::encode(params.root().clone().unwrap());
        let refused = NetworkConfig::from_boc(&headless);
        assert!(matches!(refused, Err(ConfigError::NoAddress)), "{refused:?}");
        let mut params = NetworkConfig::mainnet().parsed.raw.params;
        params.remove(21).unwrap();
        let priceless = tycho_types::boc::Boc::encode(params.as_dict().root().clone().unwrap());
        assert!(matches!(NetworkConfig::from_boc(&priceless), Err(ConfigError::Parameters(_))));
    }
}
