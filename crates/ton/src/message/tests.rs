use tycho_types::cell::CellFamily as _;

use super::*;
use crate::ContractCode;

const TO: Address = Address::new(0, [1; 32]);

fn state_init() -> StateInit {
    StateInit { code: ContractCode::empty(), data: CellBuilder::build_from(5_u8).unwrap() }
}

#[test]
fn messages_are_read_as_they_were_written() {
    for (state_init, body, bounce) in [
        (None, None, true),
        (Some(state_init()), None, false),
        (None, Some(CellBuilder::build_from(7_u32).unwrap()), true),
        (Some(state_init()), Some(Cell::default()), false),
    ] {
        let message = InternalMessage { to: TO, value: NanoTon::new(300_000_000), bounce, state_init, body };
        assert_eq!(InternalMessage::from_cell(&message.to_cell()).unwrap(), message);
    }
}

#[test]
fn the_head_says_whether_a_message_comes_back() {
    let head = |bounce| {
        let message = InternalMessage { to: TO, value: NanoTon::ZERO, bounce, state_init: None, body: None };
        message.to_cell().as_slice().unwrap().load_small_uint(6).unwrap()
    };
    assert_eq!((head(true), head(false)), (0x18, 0x10));
}

#[test]
fn state_and_body_may_be_in_place() {
    let init = state_init();
    let in_place = build(|builder| {
        builder.store_small_uint(0x18, 6)?;
        TO.store(builder)?;
        NanoTon::new(1).store(builder)?;
        builder.store_zeros(105)?;
        builder.store_small_uint(0b10, 2)?;
        builder.store_slice(init.to_cell().as_slice()?)?;
        builder.store_bit_zero()?;
        builder.store_u32(7)
    });
    let read = InternalMessage::from_cell(&in_place).unwrap();
    assert_eq!(read.state_init, Some(init));
    assert_eq!(read.body, Some(CellBuilder::build_from(7_u32).unwrap()));
}

#[test]
fn other_messages_are_refused() {
    let from_outside = external(&TO, Some(&state_init()), &Cell::default());
    let error = InternalMessage::from_cell(&from_outside).unwrap_err();
    assert_eq!(error.to_string(), "kind of the message has a value without meaning");
    let message =
        InternalMessage { to: TO, value: NanoTon::new(1), bounce: true, state_init: None, body: None };
    let cell = message.to_cell();
    let mut short = CellBuilder::new();
    short.store_slice(cell.as_slice().unwrap().get_prefix(cell.bit_len() - 1, 0)).unwrap();
    assert!(InternalMessage::from_cell(&short.build().unwrap()).is_err());
    assert!(InternalMessage::from_cell(&Cell::empty_cell()).is_err());
}

#[test]
fn only_modes_of_a_node_wallet_are_known() {
    for mode in [SendMode::PLAIN, SendMode::FEES_APART, SendMode::EVERYTHING] {
        assert_eq!(SendMode::from_number(mode.number()), Some(mode));
        assert_eq!(mode.ignoring_errors().number(), mode.number() | 2);
    }
    for refused in [4, 8, 16, 32, 64, 128 + 32] {
        assert_eq!(SendMode::from_number(refused), None);
    }
}

/// The text in a chain of cells, and how many there are.
fn comment_in(cell: &Cell) -> (Vec<u8>, usize) {
    let mut slice = cell.as_slice().unwrap();
    let mut bytes = vec![0; usize::from(slice.size_bits() / 8)];
    slice.load_raw(&mut bytes, slice.size_bits()).unwrap();
    match cell.reference_cloned(0) {
        None => (bytes, 1),
        Some(after) => {
            let (rest, cells) = comment_in(&after);
            ([bytes, rest].concat(), cells + 1)
        }
    }
}

#[test]
fn comments_of_any_length_are_texts_in_a_chain_of_cells() {
    for (len, cells) in [(0, 1), (1, 1), (123, 1), (124, 2), (250, 2), (251, 3), (COMMENT_LEN_MAX, 9)] {
        let text = "é".repeat(len / 2) + &"x".repeat(len % 2);
        let (found, found_cells) = comment_in(&comment(&text).unwrap());
        assert_eq!((&found[..4], &found[4..]), (&[0; 4][..], text.as_bytes()));
        assert_eq!(found_cells, cells, "{len}");
    }
    assert_eq!(comment(&"x".repeat(COMMENT_LEN_MAX + 1)), Err(CommentTooLong { found: 1025 }));
}
