//! The client contracts that were ever begun, kept in the state folder: what is in them belongs to the owner even if the
//! network's params have changed since, and then nothing else says where they are.
//!
//! One line for each: the proxy contract, its key, and the params as a bag of cells in hexadecimal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use node::{StateError, StateFolder};
use ton::{Address, BocError, CodeMask, LayoutError, Params, decode_boc};
use tycho_types::boc::Boc;
use units::PublicKey;

pub(super) const FILE: &str = "contracts";

/// Bytes of the params with three codes, at most.
const PARAMS_LEN_MAX: usize = 256 * 1024;

/// A contract as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptContract {
    /// The proxy contract.
    pub(super) proxy: Address,
    /// The key that signs its payments.
    pub(super) key: PublicKey,
    /// What the contract follows from.
    pub(super) params: Params,
}

/// A list of contracts that this program did not write.
#[derive(Debug, thiserror::Error)]
pub enum MalformedContracts {
    /// The file cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A line without its three parts.
    #[error("line {line} of the file \"contracts\" is not a proxy contract, its key and the params")]
    Line {
        /// Which one, from 1 on.
        line: usize,
    },
    /// Params that are no bag of cells.
    #[error("the params in line {line} of the file \"contracts\" cannot be read")]
    Boc {
        /// Which one, from 1 on.
        line: usize,
        /// Why.
        source: BocError,
    },
    /// Cells that are no params.
    #[error("the params in line {line} of the file \"contracts\" are none")]
    Params {
        /// Which one, from 1 on.
        line: usize,
        /// Why.
        source: LayoutError,
    },
}

pub(super) fn read(state: &StateFolder) -> Result<Vec<KeptContract>, MalformedContracts> {
    let text = state.text(FILE)?.unwrap_or_default();
    text.lines().zip(1..).map(|(text, line)| read_line(text, line)).collect()
}

fn read_line(text: &str, line: usize) -> Result<KeptContract, MalformedContracts> {
    let malformed = || MalformedContracts::Line { line };
    let mut parts = text.split(' ');
    let (Some(proxy), Some(key), Some(params), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    let (proxy, _no_flags) = Address::parse(proxy).map_err(|_no_address| malformed())?;
    let key = key.parse().map_err(|_no_key| malformed())?;
    let params = hex::decode(params).map_err(|_no_hex| malformed())?;
    let params =
        decode_boc(&params, PARAMS_LEN_MAX).map_err(|source| MalformedContracts::Boc { line, source })?;
    let params = Params::from_cell(&params, CodeMask::All)
        .map_err(|source| MalformedContracts::Params { line, source })?;
    Ok(KeptContract { proxy, key, params })
}

pub(super) fn write<'a>(contracts: impl Iterator<Item = &'a KeptContract>) -> String {
    let line = |kept: &KeptContract| {
        let params = hex::encode(Boc::encode(kept.params.cell(CodeMask::All)));
        format!("{} {} {params}", kept.proxy, kept.key)
    };
    let lines: BTreeSet<String> = contracts.map(line).collect();
    let mut text = String::new();
    for line in lines {
        let written = writeln!(text, "{line}");
        written.expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use ton::RootConfig;

    use super::*;

    fn contract(number: u8) -> KeptContract {
        let mut params = RootConfig::pseudo(Address::new(0, [1; 32])).params;
        params.params_version = number.into();
        KeptContract { proxy: Address::new(0, [number; 32]), key: PublicKey::new([number; 32]), params }
    }

    #[test]
    fn contracts_survive_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(&folder.path().join("state")).unwrap();
        assert_eq!(read(&state).unwrap(), []);
        let contracts = [contract(1), contract(2)];
        state.replace(FILE, write(contracts.iter()).as_bytes()).unwrap();
        assert_eq!(read(&state).unwrap(), contracts);
    }

    #[test]
    fn what_is_no_contract_is_refused_by_its_line() {
        let good = write([contract(1)].iter());
        let parts: Vec<&str> = good.trim().split(' ').collect();
        let read = |text: String| read_line(&text, 7).unwrap_err();
        assert!(matches!(read(String::new()), MalformedContracts::Line { line: 7 }));
        assert!(matches!(read(format!("{} more", good.trim())), MalformedContracts::Line { .. }));
        assert!(matches!(read(format!("x {} {}", parts[1], parts[2])), MalformedContracts::Line { .. }));
        assert!(matches!(read(format!("{} x {}", parts[0], parts[2])), MalformedContracts::Line { .. }));
        assert!(matches!(read(format!("{} {} x", parts[0], parts[1])), MalformedContracts::Line { .. }));
        assert!(matches!(read(format!("{} {} 00", parts[0], parts[1])), MalformedContracts::Boc { .. }));
        let other = hex::encode(Boc::encode(tycho_types::cell::Cell::default()));
        assert!(matches!(
            read(format!("{} {} {other}", parts[0], parts[1])),
            MalformedContracts::Params { .. }
        ));
    }
}
