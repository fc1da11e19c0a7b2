//! What the cell layouts of this crate are made of: fields that are written and read alike, and cells built of them.

use std::fmt;

use tycho_types::cell::{Cell, CellBuilder, CellFamily, CellSlice, HashBytes, Load, Store};
use tycho_types::error::Error as CellError;
use tycho_types::num::Tokens;
use units::{AdjustedTokens, NanoTon, PublicKey};

use crate::Address;

/// Builds a cell of one of the fixed layouts in `spec/messages.tlb`.
pub(crate) fn build(store: impl FnOnce(&mut CellBuilder) -> Result<(), CellError>) -> Cell {
    let mut builder = CellBuilder::new();
    store(&mut builder).and_then(|()| builder.build()).expect(
        "each layout has at most 1023 bits and 4 references, and what they hold is at most 512 cells deep",
    )
}

/// A cell that does not have the layout it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A field is cut off or has a value that it cannot have.
    #[error("{field} of the {layout} {problem}")]
    Field {
        /// What the cell should be.
        layout: &'static str,
        /// The field as `spec/messages.tlb` names it.
        field: &'static str,
        /// What is wrong with it.
        problem: FieldError,
    },
    /// Another message, or none of ours.
    #[error("op {found:08x} is none of a {layout}")]
    Op {
        /// What the cell should be.
        layout: &'static str,
        /// The first 32 bits.
        found: u32,
    },
    /// The layout ends before the cell does.
    #[error("{bits} bits and {references} references follow the {layout}")]
    Trailing {
        /// What the cell should be.
        layout: &'static str,
        /// Bits left over.
        bits: u16,
        /// References left over.
        references: u8,
    },
}

/// What can be wrong with one field of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// The cell ends, or is no ordinary one.
    CutOff,
    /// Not `addr_std` without anycast.
    Address,
    /// More than 2^64 - 1 nanotons, several times what exists.
    Amount,
    /// A number that stands for nothing.
    Value,
    /// The cell it is in goes on after it.
    TooLong,
    /// Deeper than the state of an account may be.
    Depth,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CutOff => "is cut off",
            Self::Address => "is no standard address",
            Self::Amount => "is more TON than there is",
            Self::Value => "has a value without meaning",
            Self::TooLong => "is too long",
            Self::Depth => "is too deep",
        })
    }
}

impl From<CellError> for FieldError {
    fn from(_error: CellError) -> Self {
        Self::CutOff
    }
}

/// A part of a layout.
pub(crate) trait Field: Sized {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError>;
    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError>;

    /// The amount of money that it is, if it is one.
    fn amount(&self) -> Option<NanoTon> {
        None
    }
}

/// Stores fields in a cell of their own.
pub(crate) fn store_apart(
    builder: &mut CellBuilder,
    store: impl FnOnce(&mut CellBuilder) -> Result<(), CellError>,
) -> Result<(), CellError> {
    builder.store_reference(build(store))
}

/// Loads fields from a cell of their own, which ends with them.
pub(crate) fn load_apart<T>(
    slice: &mut CellSlice<'_>,
    load: impl FnOnce(&mut CellSlice<'_>) -> Result<T, FieldError>,
) -> Result<T, FieldError> {
    let mut apart = slice.load_reference_as_slice()?;
    let loaded = load(&mut apart)?;
    if apart.is_empty() { Ok(loaded) } else { Err(FieldError::TooLong) }
}

/// Reads a cell field by field, and names in errors what it was reading.
pub(crate) struct Reader<'a> {
    layout: &'static str,
    slice: CellSlice<'a>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(layout: &'static str, cell: &'a Cell) -> Result<Self, LayoutError> {
        let slice = cell.as_slice().map_err(|_exotic| LayoutError::Field {
            layout,
            field: "the cell",
            problem: FieldError::CutOff,
        })?;
        Ok(Self { layout, slice })
    }

    pub(crate) fn field<T: Field>(&mut self, field: &'static str) -> Result<T, LayoutError> {
        T::load(&mut self.slice).map_err(|problem| LayoutError::Field { layout: self.layout, field, problem })
    }

    pub(crate) fn load<T>(
        &mut self,
        field: &'static str,
        load: impl FnOnce(&mut CellSlice<'a>) -> Result<T, FieldError>,
    ) -> Result<T, LayoutError> {
        load(&mut self.slice).map_err(|problem| LayoutError::Field { layout: self.layout, field, problem })
    }

    /// An error of the caller's about a field that it read.
    pub(crate) fn refuse(&self, field: &'static str, problem: FieldError) -> LayoutError {
        LayoutError::Field { layout: self.layout, field, problem }
    }

    pub(crate) fn unknown_op(&self, found: u32) -> LayoutError {
        LayoutError::Op { layout: self.layout, found }
    }

    /// An amount in a reference of its own at the end of the data, absent while it is zero. Only contracts of
    /// `contracts/` write it; deployed ones end before it.
    pub(crate) fn trailing_amount(&mut self, field: &'static str) -> Result<NanoTon, LayoutError> {
        if self.slice.size_refs() == 0 {
            return Ok(NanoTon::ZERO);
        }
        let cell: Cell = self.field(field)?;
        let mut amount = Reader::new(self.layout, &cell)?;
        let read = amount.field(field)?;
        amount.end()?;
        Ok(read)
    }

    pub(crate) fn end(self) -> Result<(), LayoutError> {
        let (bits, references) = (self.slice.size_bits(), self.slice.size_refs());
        match (bits, references) {
            (0, 0) => Ok(()),
            _ => Err(LayoutError::Trailing { layout: self.layout, bits, references }),
        }
    }
}

pub(crate) fn store_trailing_amount(builder: &mut CellBuilder, amount: NanoTon) -> Result<(), CellError> {
    if amount == NanoTon::ZERO {
        return Ok(());
    }
    store_apart(builder, |builder| amount.store(builder))
}

/// `coins`: a length in 4 bits, then as many bytes.
impl Field for NanoTon {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        Tokens::new(u128::from(self.get())).store_into(builder, Cell::empty_context())
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        let amount = Tokens::load_from(slice)?.into_inner();
        u64::try_from(amount).map(Self::new).map_err(|_too_large| FieldError::Amount)
    }

    fn amount(&self) -> Option<NanoTon> {
        Some(*self)
    }
}

impl Field for Address {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        self.store_into(builder, Cell::empty_context())
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Self::load_from(slice).map_err(|_not_standard| FieldError::Address)
    }
}

impl Field for PublicKey {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_u256(&HashBytes(*self.as_bytes()))
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(Self::new(slice.load_u256()?.0))
    }
}

impl Field for [u8; 32] {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_u256(&HashBytes(*self))
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(slice.load_u256()?.0)
    }
}

impl Field for [u8; 64] {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_raw(self, 512)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        let mut bytes = [0; 64];
        slice.load_raw(&mut bytes, 512)?;
        Ok(bytes)
    }
}

impl Field for u8 {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_u8(*self)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(slice.load_u8()?)
    }
}

impl Field for u32 {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_u32(*self)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(slice.load_u32()?)
    }
}

impl Field for u64 {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_u64(*self)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(slice.load_u64()?)
    }
}

impl Field for AdjustedTokens {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_u64(self.get())
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(Self::new(slice.load_u64()?))
    }
}

impl Field for bool {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_bit(*self)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(slice.load_bit()?)
    }
}

/// In a reference.
impl Field for Cell {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_reference(self.clone())
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(slice.load_reference_cloned()?)
    }
}

/// `Maybe`: one bit, then the field if it is 1.
impl<T: Field> Field for Option<T> {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_bit(self.is_some())?;
        self.as_ref().map_or(Ok(()), |field| field.store(builder))
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        if slice.load_bit()? { T::load(slice).map(Some) } else { Ok(None) }
    }
}
