//! What the cell layouts of this crate are made of.

use tycho_types::cell::{Cell, CellBuilder, CellFamily, HashBytes, Store};
use tycho_types::error::Error as CellError;
use tycho_types::num::Tokens;
use units::{NanoTon, PublicKey};

use crate::Address;

/// Builds a cell of one of the fixed layouts in `spec/messages.tlb`.
pub(crate) fn build(store: impl FnOnce(&mut CellBuilder) -> Result<(), CellError>) -> Cell {
    let mut builder = CellBuilder::new();
    store(&mut builder)
        .and_then(|()| builder.build())
        .expect("each layout has at most 1023 bits and 4 references, and a code is at most 512 cells deep")
}

/// `coins`: a length in 4 bits, then as many bytes.
pub(crate) fn store_coins(builder: &mut CellBuilder, amount: NanoTon) -> Result<(), CellError> {
    Tokens::new(u128::from(amount.get())).store_into(builder, Cell::empty_context())
}

pub(crate) fn store_address(builder: &mut CellBuilder, address: &Address) -> Result<(), CellError> {
    address.store_into(builder, Cell::empty_context())
}

pub(crate) fn store_key(builder: &mut CellBuilder, key: &PublicKey) -> Result<(), CellError> {
    builder.store_u256(&HashBytes(*key.as_bytes()))
}
