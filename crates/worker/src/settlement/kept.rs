//! The network's params that this worker has earned under, kept in the state folder: a contract that is not deployed yet
//! follows from them, and when they have changed nothing else says what they were.
//!
//! One line for each: the params as a bag of cells in hexadecimal.

use std::fmt::Write as _;

use node::{StateError, StateFolder};
use ton::{CodeMask, Params, decode_boc};
use tycho_types::boc::Boc;

const FILE: &str = "params";
const EXPECTED: &str = "params as this program wrote them";
/// Bytes of params with three codes, at most.
const PARAMS_LEN_MAX: usize = 256 * 1024;

pub(super) fn read(state: &StateFolder) -> Result<Vec<Params>, StateError> {
    let text = state.text(FILE)?.unwrap_or_default();
    let kept: Option<Vec<Params>> = text.lines().map(read_line).collect();
    kept.ok_or_else(|| StateError::Content { path: state.path().join(FILE), expected: EXPECTED })
}

fn read_line(line: &str) -> Option<Params> {
    let cell = decode_boc(&hex::decode(line).ok()?, PARAMS_LEN_MAX).ok()?;
    Params::from_cell(&cell, CodeMask::All).ok()
}

pub(super) fn write(state: &StateFolder, kept: &[Params]) -> Result<(), StateError> {
    let mut text = String::new();
    for params in kept {
        let written = writeln!(text, "{}", hex::encode(Boc::encode(params.cell(CodeMask::All))));
        written.expect("writing to a string cannot fail");
    }
    state.replace(FILE, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use ton::{Address, RootConfig};

    use super::*;

    #[test]
    fn params_survive_their_file_and_nothing_else_is_taken_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        assert_eq!(read(&state).unwrap(), []);
        let mut params = RootConfig::pseudo(Address::new(0, [1; 32])).params;
        let first = params.clone();
        params.params_version += 1;
        write(&state, &[first.clone(), params.clone()]).unwrap();
        assert_eq!(read(&state).unwrap(), [first, params]);
        for text in ["x\n", "00\n", "\n"] {
            state.replace(FILE, text.as_bytes()).unwrap();
            assert!(matches!(read(&state), Err(StateError::Content { .. })), "{text:?}");
        }
    }
}
