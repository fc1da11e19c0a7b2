//! Chains that come back, and files that do not pass for one.

use std::time::Duration;

use tempfile::TempDir;
use ton::Address;

use super::*;
use crate::block::Pace;
use crate::network_config::NetworkConfig;
use crate::testing::{ONE, Pilot, at, balance, history};

const PACE: Pace = Pace::Every(Duration::from_millis(200));
const NOBODY: Address = Address::new(0, [1; 32]);

fn genesis(milliseconds: u64, pace: Pace) -> Genesis {
    Genesis { config: NetworkConfig::mainnet(), seed: [7; 32], start: at(milliseconds), pace }
}

fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain");
    (folder, path)
}

/// A chain with two blocks, its file closed.
fn lived(path: &Path) -> Devnet {
    let (mut chain, mut journal) = Journal::open(path, genesis(0, PACE)).unwrap();
    let pilot = Pilot::new(0);
    chain.give(at(10), &pilot.address, ONE).unwrap();
    chain.submit(at(450), pilot.order(0, &[])).unwrap();
    chain.advance(at(600));
    journal.save(&chain).unwrap();
    chain
}

#[test]
fn a_chain_comes_back_as_it_was_and_goes_on() {
    let (_folder, path) = file();
    let before = lived(&path);
    let pilot = Pilot::new(0);
    let (mut after, mut journal) = Journal::open(&path, genesis(10_000, PACE)).unwrap();
    assert_eq!(after.account(&pilot.address), before.account(&pilot.address));
    assert_eq!(history(&after, &pilot.address).len(), history(&before, &pilot.address).len());
    assert_eq!(after.minted(), before.minted());
    // Blocks were due while nobody made them.
    assert_eq!(after.head().get(), 51);
    after.submit(at(10_100), pilot.order(1, &[])).unwrap();
    after.advance(at(10_200));
    journal.save(&after).unwrap();
    drop(journal);
    let (again, _journal) = Journal::open(&path, genesis(10_200, PACE)).unwrap();
    assert_eq!(again.filled_after(BlockSeqno::new(0)), after.filled_after(BlockSeqno::new(0)));
}

#[test]
fn pace_and_time_travel_come_back() {
    let (_folder, path) = file();
    let (mut chain, mut journal) = Journal::open(&path, genesis(0, PACE)).unwrap();
    chain.travel(at(100), Duration::from_secs(3_600));
    chain.give(at(200), &NOBODY, ONE).unwrap();
    journal.save(&chain).unwrap();
    assert_eq!(chain.head().get(), 3_600 * 5 + 2);
    drop(journal);
    // Killed before the coins had a block: they are gone, and the hour is not.
    let (mut chain, mut journal) = Journal::open(&path, genesis(1_000, Pace::Instant)).unwrap();
    assert_eq!((chain.ahead().as_secs(), balance(&chain, &NOBODY)), (3_600, 0));
    assert_eq!(chain.head().get(), 3_600 * 5 + 6, "numbers never go back");
    chain.give(at(5_000), &NOBODY, ONE).unwrap();
    journal.save(&chain).unwrap();
    drop(journal);
    let (chain, _journal) = Journal::open(&path, genesis(9_000, PACE)).unwrap();
    assert_eq!((chain.head().get(), balance(&chain, &NOBODY)), (3_600 * 5 + 7, 1_000_000_000));
}

#[test]
fn a_file_cut_anywhere_is_the_chain_up_to_there() {
    let (_folder, path) = file();
    let whole = lived(&path);
    let bytes = std::fs::read(&path).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for len in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let (chain, journal) = Journal::open(&path, genesis(600, PACE)).unwrap();
        let (all, found) = (whole.filled_after(BlockSeqno::new(1)), chain.filled_after(BlockSeqno::new(1)));
        assert_eq!(found, &all[..found.len()], "cut at {len}");
        seen.insert(found.len());
        drop(journal);
        assert!(Journal::open(&path, genesis(600, PACE)).is_ok(), "cut at {len}, once more");
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_changed_byte_is_refused_unless_the_end_could_be_unfinished() {
    let (_folder, path) = file();
    let whole = lived(&path);
    let bytes = std::fs::read(&path).unwrap();
    for index in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[index] ^= 0x10;
        std::fs::write(&path, &changed).unwrap();
        match Journal::open(&path, genesis(600, PACE)) {
            Err(JournalError::Foreign { .. } | JournalError::Damaged { .. }) => {
                assert_eq!(
                    std::fs::read(&path).unwrap(),
                    changed,
                    "byte {index}: what is refused stays as it is"
                );
            }
            // The content of the last record: it could be one that was being written.
            Ok((chain, _journal)) => {
                let (all, found) =
                    (whole.filled_after(BlockSeqno::new(1)), chain.filled_after(BlockSeqno::new(1)));
                assert_eq!(found, &all[..1], "byte {index}");
            }
            Err(error) => panic!("byte {index}: {error}"),
        }
    }
}

#[test]
fn another_chain_is_refused() {
    let (_folder, path) = file();
    lived(&path);
    let other = Genesis { seed: [8; 32], ..genesis(600, PACE) };
    assert!(matches!(Journal::open(&path, other), Err(JournalError::OtherGenesis { what: "seed", .. })));
    let (_chain, _journal) = Journal::open(&path, genesis(600, PACE)).unwrap();
    assert!(matches!(Journal::open(&path, genesis(600, PACE)), Err(JournalError::InUse { .. })));
    let folder = path.parent().unwrap();
    assert!(matches!(Journal::open(folder, genesis(600, PACE)), Err(JournalError::Io { .. })));
    let foreign = folder.join("foreign");
    for len in [1, 200] {
        std::fs::write(&foreign, vec![b'x'; len]).unwrap();
        assert!(matches!(Journal::open(&foreign, genesis(600, PACE)), Err(JournalError::Foreign { .. })));
        assert_eq!(std::fs::read(&foreign).unwrap().len(), len, "it is left as it is");
    }
}
