//! The client contracts that were ever begun, kept in the state folder: what is in them belongs to the owner even if the
//! network's params have changed since, and then nothing else says where they are.
//!
//! The first line is `format 2`. Then one for each contract, without secrets: the proxy contract, its key, the params as a bag
//! of cells in hexadecimal, where the proxy listens, and the [`Memory`]: `closing` or `open`; when it was opened, the params
//! changed, it was abandoned, it was closed; when its day began and what was paid in on it. `-` stands for nothing, times
//! are seconds since 1970, amounts nanotons. Files without a first line like that are of format 1: they end with the params.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::time::Duration;

use node::{StateError, StateFolder};
use ton::{Address, BocError, CodeMask, LayoutError, Params, decode_boc};
use tycho_types::boc::Boc;
use units::{NanoTon, PublicKey};

use super::Memory;

pub(super) const FILE: &str = "contracts";
const FORMAT: &str = "format 2";

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
    /// Where the proxy listens, by the root contract's list.
    pub(super) via: Option<SocketAddrV4>,
    /// What its settlement remembers.
    pub(super) memory: Memory,
}

/// A list of contracts that this program did not write.
#[derive(Debug, thiserror::Error)]
pub enum MalformedContracts {
    /// The file cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file of a newer program.
    #[error("the file \"contracts\" has {found:?}, this program knows {FORMAT:?}: use a newer program")]
    Format {
        /// Its first line.
        found: String,
    },
    /// A line without its parts.
    #[error(
        "line {line} of the file \"contracts\" is not a proxy contract, its key, the params and what was done with it"
    )]
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
    match text.lines().next() {
        Some(FORMAT) => text.lines().zip(1..).skip(1).map(|(text, line)| read_line(text, line)).collect(),
        Some(other) if other.starts_with("format ") => {
            Err(MalformedContracts::Format { found: other.to_owned() })
        }
        _ => text.lines().zip(1..).map(|(text, line)| read_line_of_format_1(text, line)).collect(),
    }
}

/// Whatever was written then was opened at an unknown time.
fn read_line_of_format_1(text: &str, line: usize) -> Result<KeptContract, MalformedContracts> {
    let Ok([proxy, key, params]) = <[&str; 3]>::try_from(text.split(' ').collect::<Vec<_>>()) else {
        return Err(MalformedContracts::Line { line });
    };
    let memory = Memory { opened_at: Some(Duration::ZERO), ..Memory::default() };
    read_contract([proxy, key, params], None, memory, line)
}

fn read_line(text: &str, line: usize) -> Result<KeptContract, MalformedContracts> {
    let parts = <[&str; 11]>::try_from(text.split(' ').collect::<Vec<_>>());
    let Ok([proxy, key, params, via, stage, opened, outdated, unused, closed, day, paid]) = parts else {
        return Err(MalformedContracts::Line { line });
    };
    let read = || {
        let via = optional(via, |text| text.parse().ok())?;
        let close = match stage {
            "closing" => true,
            "open" => false,
            _ => return None,
        };
        let memory = Memory {
            close,
            opened_at: optional(opened, seconds)?,
            outdated_since: optional(outdated, seconds)?,
            unused_since: optional(unused, seconds)?,
            closed_since: optional(closed, seconds)?,
            day_since: seconds(day)?,
            paid_in: NanoTon::new(paid.parse().ok()?),
        };
        Some((via, memory))
    };
    let (via, memory) = read().ok_or(MalformedContracts::Line { line })?;
    read_contract([proxy, key, params], via, memory, line)
}

fn read_contract(
    [proxy, key, params]: [&str; 3],
    via: Option<SocketAddrV4>,
    memory: Memory,
    line: usize,
) -> Result<KeptContract, MalformedContracts> {
    let malformed = || MalformedContracts::Line { line };
    let (proxy, _no_flags) = Address::parse(proxy).map_err(|_no_address| malformed())?;
    let key = key.parse().map_err(|_no_key| malformed())?;
    let params = hex::decode(params).map_err(|_no_hex| malformed())?;
    let params =
        decode_boc(&params, PARAMS_LEN_MAX).map_err(|source| MalformedContracts::Boc { line, source })?;
    let params = Params::from_cell(&params, CodeMask::All)
        .map_err(|source| MalformedContracts::Params { line, source })?;
    Ok(KeptContract { proxy, key, params, via, memory })
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs)
}

/// Nothing, or what `read` makes of it.
fn optional<T>(text: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if text == "-" { Some(None) } else { read(text).map(Some) }
}

pub(super) fn write<'a>(contracts: impl Iterator<Item = &'a KeptContract>) -> String {
    let or_nothing = |at: Option<Duration>| at.map_or_else(|| "-".to_owned(), |at| at.as_secs().to_string());
    let line = |KeptContract { proxy, key, params, via, memory }: &KeptContract| {
        let params = hex::encode(Boc::encode(params.cell(CodeMask::All)));
        let via = via.map_or_else(|| "-".to_owned(), |via| via.to_string());
        let Memory { close, opened_at, outdated_since, unused_since, closed_since, day_since, paid_in } =
            *memory;
        let stage = if close { "closing" } else { "open" };
        let times = [opened_at, outdated_since, unused_since, closed_since].map(or_nothing).join(" ");
        format!("{proxy} {key} {params} {via} {stage} {times} {} {}", day_since.as_secs(), paid_in.get())
    };
    let lines: BTreeSet<String> = contracts.map(line).collect();
    let mut text = format!("{FORMAT}\n");
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
        let opened_at = Some(Duration::ZERO);
        KeptContract {
            proxy: Address::new(0, [number; 32]),
            key: PublicKey::new([number; 32]),
            params,
            via: None,
            memory: Memory { opened_at, ..Memory::default() },
        }
    }

    fn eventful() -> KeptContract {
        let at = |seconds| Some(Duration::from_secs(seconds));
        let memory = Memory {
            close: true,
            opened_at: at(1),
            outdated_since: at(2),
            unused_since: at(3),
            closed_since: at(4),
            day_since: Duration::from_secs(5),
            paid_in: NanoTon::new(6),
        };
        KeptContract { via: Some("203.0.113.7:11002".parse().unwrap()), memory, ..contract(2) }
    }

    #[test]
    fn contracts_survive_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(&folder.path().join("state")).unwrap();
        assert_eq!(read(&state).unwrap(), []);
        let contracts = [contract(1), eventful()];
        state.replace(FILE, write(contracts.iter()).as_bytes()).unwrap();
        assert_eq!(read(&state).unwrap(), contracts);
    }

    #[test]
    fn files_of_format_1_are_read_and_those_of_newer_programs_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(&folder.path().join("state")).unwrap();
        let contracts = [contract(1), contract(2)];
        let text = write(contracts.iter());
        let old: String = text
            .lines()
            .skip(1)
            .map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ") + "\n")
            .collect();
        state.replace(FILE, old.as_bytes()).unwrap();
        assert_eq!(read(&state).unwrap(), contracts);
        state.replace(FILE, text.replace(FORMAT, "format 3").as_bytes()).unwrap();
        assert!(matches!(read(&state), Err(MalformedContracts::Format { .. })));
        // A line of one format is none of the other.
        state.replace(FILE, format!("{FORMAT}\n{old}").as_bytes()).unwrap();
        assert!(matches!(read(&state), Err(MalformedContracts::Line { line: 2 })));
    }

    #[test]
    fn what_is_no_contract_is_refused_by_its_line() {
        let good = write([eventful()].iter());
        let parts: Vec<&str> = good.trim().lines().nth(1).unwrap().split(' ').collect();
        let with = |at: usize, part: &str| {
            let mut parts = parts.clone();
            parts[at] = part;
            read_line(&parts.join(" "), 7)
        };
        assert_eq!(with(0, parts[0]).unwrap(), eventful());
        for at in (0..11).filter(|at| *at != 2) {
            assert!(matches!(with(at, "x"), Err(MalformedContracts::Line { line: 7 })), "{at}");
        }
        for text in [String::new(), format!("{} more", parts.join(" ")), parts[1..].join(" ")] {
            assert!(matches!(read_line(&text, 7), Err(MalformedContracts::Line { .. })));
        }
        assert!(matches!(with(2, "x"), Err(MalformedContracts::Line { .. })));
        assert!(matches!(with(2, "00"), Err(MalformedContracts::Boc { .. })));
        let other = hex::encode(Boc::encode(tycho_types::cell::Cell::default()));
        assert!(matches!(with(2, &other), Err(MalformedContracts::Params { .. })));
    }
}
