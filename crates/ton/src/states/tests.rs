use tycho_types::cell::CellBuilder;

use super::*;
use crate::{CodeMask, Params, RootConfig};

const PARTIES: Parties = Parties {
    owner: Address::new(0, [1; 32]),
    proxy: Address::new(0, [2; 32]),
    key: PublicKey::new([3; 32]),
};

fn params() -> Cell {
    RootConfig::pseudo(PARTIES.owner).params_cell(CodeMask::None)
}

fn client(unconfirmed: u64) -> ClientData {
    ClientData {
        state: ContractState::Closing,
        balance: NanoTon::new(5_000_000_000),
        stake: NanoTon::new(1_000_000_000),
        tokens_used: AdjustedTokens::new(17),
        unlock_at: 1_800_000_000,
        secret_hash: [4; 32],
        parties: PARTIES,
        params: params(),
        unconfirmed: NanoTon::new(unconfirmed),
    }
}

fn proxy(pool: u64) -> ProxyData {
    ProxyData {
        owner: PARTIES.owner,
        key: PARTIES.key,
        root: PARTIES.proxy,
        state: ContractState::Normal,
        balance: NanoTon::new(1),
        stake: NanoTon::new(20_000_000_000),
        unlock_at: 0,
        params: params(),
        pool: NanoTon::new(pool),
    }
}

fn extended(cell: &Cell, more: impl FnOnce(&mut CellBuilder)) -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_slice(cell.as_slice().unwrap()).unwrap();
    more(&mut builder);
    builder.build().unwrap()
}

fn shortened(cell: &Cell) -> Cell {
    let mut builder = CellBuilder::new();
    let slice = cell.as_slice().unwrap();
    builder.store_slice(slice.get_prefix(cell.bit_len() - 1, cell.reference_count())).unwrap();
    builder.build().unwrap()
}

#[test]
fn states_are_read_as_they_were_written() {
    for unconfirmed in [0, 1, u64::MAX] {
        let data = client(unconfirmed);
        assert_eq!(ClientData::from_cell(&data.to_cell()).unwrap(), data);
    }
    for pool in [0, 1, u64::MAX] {
        let data = proxy(pool);
        assert_eq!(ProxyData::from_cell(&data.to_cell()).unwrap(), data);
    }
    let tokens = AdjustedTokens::new(3);
    let worker = WorkerData { parties: PARTIES, state: ContractState::Closed, tokens, params: params() };
    assert_eq!(WorkerData::from_cell(&worker.to_cell()).unwrap(), worker);
    let wallet = WalletData { seqno: 1, subwallet: 2, key: PARTIES.key, status: 1, owner: PARTIES.owner };
    assert_eq!(WalletData::from_cell(&wallet.to_cell()).unwrap(), wallet);
    assert!(wallet.is_blocked() && !WalletData { status: 2, ..wallet }.is_blocked());
}

#[test]
fn states_of_another_length_are_refused() {
    type IsRead = fn(&Cell) -> bool;
    let cells: [(Cell, IsRead); 4] = [
        (client(1).to_cell(), |cell| ClientData::from_cell(cell).is_ok()),
        (proxy(1).to_cell(), |cell| ProxyData::from_cell(cell).is_ok()),
        (
            WorkerData {
                parties: PARTIES,
                state: ContractState::Normal,
                tokens: AdjustedTokens::ZERO,
                params: params(),
            }
            .to_cell(),
            |cell| WorkerData::from_cell(cell).is_ok(),
        ),
        (
            WalletData { seqno: 0, subwallet: 0, key: PARTIES.key, status: 0, owner: PARTIES.owner }
                .to_cell(),
            |cell| WalletData::from_cell(cell).is_ok(),
        ),
    ];
    for (cell, is_read) in cells {
        assert!(is_read(&cell));
        assert!(!is_read(&shortened(&cell)));
        assert!(!is_read(&extended(&cell, |builder| builder.store_bit_zero().unwrap())));
        assert!(!is_read(&extended(&cell, |builder| builder.store_reference(Cell::default()).unwrap())));
        assert!(!is_read(&Cell::default()));
    }
}

#[test]
fn the_trailing_reference_holds_an_amount_alone() {
    let with_trailing = |trailing: Cell| {
        let data = extended(&proxy(0).to_cell(), |builder| builder.store_reference(trailing).unwrap());
        ProxyData::from_cell(&data).map(|data| data.pool.get())
    };
    let amount = build(|builder| NanoTon::new(9).store(builder));
    assert_eq!(with_trailing(amount.clone()), Ok(9));
    let error = with_trailing(extended(&amount, |builder| builder.store_bit_zero().unwrap())).unwrap_err();
    assert!(matches!(error, LayoutError::Trailing { bits: 1, references: 0, .. }), "{error}");
    let error = with_trailing(Cell::default()).unwrap_err();
    assert_eq!(error.to_string(), "pool of the data of a proxy contract is cut off");
}

#[test]
fn a_fourth_state_is_refused() {
    assert_eq!(ContractState::from_number(3), None);
    for state in [ContractState::Normal, ContractState::Closing, ContractState::Closed] {
        assert_eq!(ContractState::from_number(state.number()), Some(state));
    }
    let data = build(|builder| {
        builder.store_small_uint(3, 2)?;
        builder.store_zeros(500)
    });
    let error = ClientData::from_cell(&data).unwrap_err();
    assert_eq!(error.to_string(), "state of the data of a client contract has a value without meaning");
}

#[test]
fn params_are_read_with_the_codes_they_should_have() {
    let config = RootConfig::pseudo(PARTIES.owner);
    for codes in [CodeMask::All, CodeMask::WorkerAndClient, CodeMask::None] {
        let cell = config.params_cell(codes);
        assert_eq!(Params::from_cell(&cell, codes).unwrap(), config.params);
        for other in [CodeMask::All, CodeMask::WorkerAndClient, CodeMask::None] {
            assert_eq!(Params::from_cell(&cell, other).is_ok(), other == codes);
        }
        assert!(Params::from_cell(&shortened(&cell), codes).is_err());
        assert!(
            Params::from_cell(&extended(&cell, |builder| builder.store_bit_zero().unwrap()), codes).is_err()
        );
    }
    let newer = CellBuilder::build_from(4_u8).unwrap();
    assert_eq!(
        Params::from_cell(&newer, CodeMask::All).unwrap_err().to_string(),
        "struct_version of the params has a value without meaning"
    );
}
