//! Results of get methods as typed values.

use std::fmt;

use num_bigint::{BigInt, Sign};
use units::{AdjustedTokens, ConfigVersion, Multiplier, NanoTon, PublicKey};

use super::GetterError;
use crate::cells::{Field as _, Reader};
use crate::stack::StackValue;
use crate::states::ContractState;
use crate::{Address, Seconds};

/// What can be wrong with one result of a get method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// Another kind of value.
    Kind {
        /// What the method gives.
        expected: &'static str,
        /// What there was.
        found: &'static str,
    },
    /// A number beyond what it can be.
    Range,
    /// Not exactly one standard address.
    Address,
    /// A number that stands for nothing.
    Meaning,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind { expected, found } => write!(f, "is {found} and should be {expected}"),
            Self::Range => f.write_str("is out of range"),
            Self::Address => f.write_str("is no standard address"),
            Self::Meaning => f.write_str("has a value without meaning"),
        }
    }
}

/// A value that get methods give.
pub(super) trait Told: Sized {
    fn read(value: &StackValue) -> Result<Self, ValueError>;
}

/// Results that are read one after the other.
pub(super) struct Values<'a> {
    method: &'static str,
    rest: std::iter::Zip<std::slice::Iter<'a, StackValue>, std::slice::Iter<'a, &'static str>>,
}

/// Checks that the method ended well and gave as many values as there are `fields`.
pub(super) fn read_all<'a>(
    method: &'static str,
    exit_code: i32,
    stack: &'a [StackValue],
    fields: &'a [&'static str],
) -> Result<Values<'a>, GetterError> {
    // 1 is TON's other way of ending well.
    if !matches!(exit_code, 0 | 1) {
        return Err(GetterError::Failed { method, exit_code });
    }
    let (found, expected) = (stack.len(), fields.len());
    if found != expected {
        return Err(GetterError::Count { method, found, expected });
    }
    Ok(Values { method, rest: stack.iter().zip(fields) })
}

impl Values<'_> {
    pub(super) fn next<T: Told>(&mut self) -> Result<T, GetterError> {
        let (value, field) = self.rest.next().expect("each getter reads as many values as it names fields");
        T::read(value).map_err(|problem| GetterError::Value { method: self.method, field, problem })
    }
}

const fn kind(value: &StackValue) -> &'static str {
    match value {
        StackValue::Null => "nothing",
        StackValue::NotANumber => "not a number",
        StackValue::Number(_) => "a number",
        StackValue::Cell(_) => "a cell",
        StackValue::Slice(_) => "a slice",
        StackValue::Builder(_) => "a builder",
        StackValue::Tuple(_) => "a tuple",
        StackValue::List(_) => "a list",
        StackValue::Continuation => "a continuation",
    }
}

fn number(value: &StackValue) -> Result<&BigInt, ValueError> {
    match value {
        StackValue::Number(number) => Ok(number),
        other => Err(ValueError::Kind { expected: "a number", found: kind(other) }),
    }
}

impl Told for u32 {
    fn read(value: &StackValue) -> Result<Self, ValueError> {
        Self::try_from(number(value)?).map_err(|_beyond| ValueError::Range)
    }
}

impl Told for u64 {
    fn read(value: &StackValue) -> Result<Self, ValueError> {
        Self::try_from(number(value)?).map_err(|_beyond| ValueError::Range)
    }
}

/// An unsigned number of 256 bits.
impl Told for [u8; 32] {
    fn read(value: &StackValue) -> Result<Self, ValueError> {
        let (sign, bytes) = number(value)?.to_bytes_be();
        let mut hash = [0; 32];
        let start = hash.len().checked_sub(bytes.len()).filter(|_| sign != Sign::Minus);
        hash[start.ok_or(ValueError::Range)?..].copy_from_slice(&bytes);
        Ok(hash)
    }
}

/// TVM's true is -1; contracts also say 1.
impl Told for bool {
    fn read(value: &StackValue) -> Result<Self, ValueError> {
        match i8::try_from(number(value)?) {
            Ok(0) => Ok(false),
            Ok(1 | -1) => Ok(true),
            _ => Err(ValueError::Meaning),
        }
    }
}

impl Told for ContractState {
    fn read(value: &StackValue) -> Result<Self, ValueError> {
        let number = u8::try_from(number(value)?).ok();
        number.and_then(Self::from_number).ok_or(ValueError::Meaning)
    }
}

impl Told for Address {
    fn read(value: &StackValue) -> Result<Self, ValueError> {
        let StackValue::Slice(cell) = value else {
            return Err(ValueError::Kind { expected: "a slice", found: kind(value) });
        };
        let read = || {
            let mut reader = Reader::new("address", cell)?;
            let address = reader.load("address", |slice| Self::load(slice))?;
            reader.end()?;
            Ok::<_, crate::LayoutError>(address)
        };
        read().map_err(|_layout| ValueError::Address)
    }
}

macro_rules! told_as {
    ($($type:ty: $number:ty),+ $(,)?) => { $(
        impl Told for $type {
            fn read(value: &StackValue) -> Result<Self, ValueError> {
                <$number>::read(value).map(Self::new)
            }
        }
    )+ };
}
told_as!(
    NanoTon: u64, AdjustedTokens: u64, ConfigVersion: u32, Multiplier: u32, Seconds: u32, PublicKey: [u8; 32],
);
