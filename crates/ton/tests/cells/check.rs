//! What must hold of any bag of cells that somebody calls a message or a state. The fuzz target `contract_cells` includes this
//! file too.

use std::fmt::Debug;

use ton::human::{HumanWallet, HumanWalletVersion, Network};
use ton::messages::Message;
use ton::states::{ClientData, ProxyData, WalletData, WorkerData};
use ton::wallet::WalletOrder;
use ton::{CodeMask, ContractCode, Params, RootConfig, decode_boc};
use tycho_types::cell::Cell;
use units::PublicKey;

/// Bytes of a bag of cells: more than a message from outside can bring in.
const LEN_MAX: usize = 64 * 1024;

/// Reads `bytes` as everything there is, and writes again what was read.
pub(crate) fn check(bytes: &[u8]) {
    let _code = ContractCode::from_boc(bytes);
    let Ok(cell) = decode_boc(bytes, LEN_MAX) else { return };
    means_the_same(&cell, Message::from_cell, Message::to_cell);
    means_the_same(&cell, ClientData::from_cell, |data| Some(data.to_cell()));
    means_the_same(&cell, WorkerData::from_cell, |data| Some(data.to_cell()));
    means_the_same(&cell, ProxyData::from_cell, |data| Some(data.to_cell()));
    means_the_same(&cell, WalletData::from_cell, |data| Some(data.to_cell()));
    for codes in [CodeMask::All, CodeMask::WorkerAndClient, CodeMask::None] {
        means_the_same(&cell, |cell| Params::from_cell(cell, codes), |params| Some(params.cell(codes)));
    }
    // Listed proxies without an address are left out, and trees may be written in several ways.
    if let Ok(root) = RootConfig::from_data(&cell) {
        let written = root.to_data();
        let again = RootConfig::from_data(&written).expect("what we write is data");
        assert_eq!((&again, again.to_data()), (&root, written));
    }
    let key = PublicKey::new([7; 32]);
    let _order = WalletOrder::from_cell(&cell, &key);
    for version in [HumanWalletVersion::V4R2, HumanWalletVersion::V5R1] {
        let _seqno = HumanWallet::new(version, Network::Mainnet, key).seqno(&cell);
    }
}

/// Contracts take coins with zeros before them, which nobody writes: then, and only then, less is written than was read.
fn means_the_same<T: Debug + PartialEq, E: Debug>(
    cell: &Cell,
    read: impl Fn(&Cell) -> Result<T, E>,
    write: impl Fn(&T) -> Option<Cell>,
) {
    let Ok(value) = read(cell) else { return };
    let Some(written) = write(&value) else { return };
    assert!(written == *cell || bits(&written) < bits(cell), "{value:?} became longer or other");
    let again = read(&written).expect("what we write can be read");
    assert_eq!(again, value);
    assert_eq!(write(&again), Some(written));
}

/// Bits of a cell and of those below it, where the amounts of messages and states are.
fn bits(cell: &Cell) -> u32 {
    let below = cell.references().map(|cell| u32::from(cell.bit_len()));
    u32::from(cell.bit_len()) + below.sum::<u32>()
}
