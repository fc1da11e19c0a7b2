//! Stacks of the TVM in JSON: `[["num","0x1"],["cell",{"bytes":…}],…]` at the top level, tagged objects within tuples.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use num_bigint::BigInt;
use serde_json::{Value, json};
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;

use super::{STACK_DEPTH_MAX, STACK_ITEMS_MAX, StackValue};
use crate::boc::{self, BocError};

/// Digits of a number: 257 bits have 78 decimal ones.
const DIGITS_MAX: usize = 100;
/// Bytes of a cell.
const CELL_LEN_MAX: usize = 128 * 1024;

/// JSON that is no stack.
#[derive(Debug, thiserror::Error)]
pub enum StackJsonError {
    /// No array, or no values in it, or more than there may be.
    #[error("stack {0}")]
    Form(&'static str),
    /// A cell that is none.
    #[error("stack has a cell that is none")]
    Cell(#[source] BocError),
}

/// Reads a stack, the deepest value first. Besides the spelling of the documentation (`num`, `cell`, `slice`), that of tonlib
/// (`tvm.Cell`, …) is read, which `@ton/ton` uses.
///
/// # Errors
/// [`StackJsonError`] for anything else, and for more than [`STACK_ITEMS_MAX`] values.
pub fn from_json(stack: &Value) -> Result<Vec<StackValue>, StackJsonError> {
    let items = stack.as_array().ok_or(StackJsonError::Form("must be an array"))?;
    let mut reader = Reader { room: STACK_ITEMS_MAX };
    items.iter().map(|item| reader.pair(item, 0)).collect()
}

/// Writes a stack as servers answer it, the deepest value first.
#[must_use]
pub fn to_json(stack: &[StackValue]) -> Value {
    stack.iter().map(written).collect()
}

struct Reader {
    /// Values that may still come.
    room: usize,
}

impl Reader {
    fn pair(&mut self, item: &Value, depth: usize) -> Result<StackValue, StackJsonError> {
        self.room = self.room.checked_sub(1).ok_or(StackJsonError::Form("holds too many values"))?;
        match item.as_array().map(Vec::as_slice) {
            Some([Value::String(kind)]) => self.kind(kind, &Value::Null, depth),
            Some([Value::String(kind), value]) => self.kind(kind, value, depth),
            _ if item.is_object() => self.tagged(item, depth),
            _ => Err(StackJsonError::Form("has values [\"kind\", value] only")),
        }
    }

    fn kind(&mut self, kind: &str, value: &Value, depth: usize) -> Result<StackValue, StackJsonError> {
        match kind {
            "num" | "number" | "int" => number(value),
            "cell" | "tvm.Cell" => Ok(StackValue::Cell(content(value)?)),
            "slice" | "tvm.Slice" => Ok(StackValue::Slice(content(value)?)),
            "builder" | "tvm.Builder" => Ok(StackValue::Builder(content(value)?)),
            "null" => Ok(StackValue::Null),
            "tuple" | "tvm.Tuple" => Ok(StackValue::Tuple(self.elements(value, depth)?)),
            "list" | "tvm.List" => Ok(StackValue::List(self.elements(value, depth)?)),
            _ => Err(StackJsonError::Form("has a value of unknown kind")),
        }
    }

    /// An element of a tuple: `{"@type":"tvm.stackEntryNumber","number":{…}}`.
    fn tagged(&mut self, item: &Value, depth: usize) -> Result<StackValue, StackJsonError> {
        let of = |name: &str| item.get(name).unwrap_or(&Value::Null);
        match item.get("@type").and_then(Value::as_str) {
            Some("tvm.stackEntryNumber") => number(of("number").get("number").unwrap_or(&Value::Null)),
            Some("tvm.stackEntryCell") => Ok(StackValue::Cell(content(of("cell"))?)),
            Some("tvm.stackEntrySlice") => Ok(StackValue::Slice(content(of("slice"))?)),
            Some("tvm.stackEntryTuple") => Ok(StackValue::Tuple(self.elements(of("tuple"), depth)?)),
            Some("tvm.stackEntryList") => Ok(StackValue::List(self.elements(of("list"), depth)?)),
            _ => Err(StackJsonError::Form("has an element of unknown kind")),
        }
    }

    fn elements(&mut self, value: &Value, depth: usize) -> Result<Vec<StackValue>, StackJsonError> {
        if depth >= STACK_DEPTH_MAX {
            return Err(StackJsonError::Form("has tuples too deep in each other"));
        }
        let elements = value.get("elements").unwrap_or(value).as_array();
        elements
            .ok_or(StackJsonError::Form("has a tuple without elements"))?
            .iter()
            .map(|item| self.pair(item, depth + 1))
            .collect()
    }
}

fn content(value: &Value) -> Result<Cell, StackJsonError> {
    const NO_TEXT: StackJsonError = StackJsonError::Form("has a cell that is no base64");
    let text = value.get("bytes").unwrap_or(value).as_str().ok_or(NO_TEXT)?;
    let bytes = STANDARD.decode(text).or_else(|_other| URL_SAFE.decode(text)).map_err(|_neither| NO_TEXT)?;
    boc::decode(&bytes, CELL_LEN_MAX).map_err(StackJsonError::Cell)
}

fn number(value: &Value) -> Result<StackValue, StackJsonError> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.len() <= DIGITS_MAX => text.clone(),
        _ => return Err(StackJsonError::Form("has a number that is none")),
    };
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let (radix, digits) = digits.strip_prefix("0x").map_or((10, digits), |digits| (16, digits));
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = BigInt::parse_bytes(format!("{sign}{digits}").as_bytes(), radix).filter(|_| is_number);
    // 257 bits with the sign: from -2^256 to 2^256 - 1.
    let number = number.filter(|number| {
        let magnitude = if sign.is_empty() { number.clone() } else { number + 1 };
        magnitude.bits() <= 256
    });
    number
        .map(StackValue::Number)
        .ok_or(StackJsonError::Form("has a number that is none, or beyond 257 bits"))
}

/// A value of a result.
fn written(item: &StackValue) -> Value {
    let held = |cell| json!({ "bytes": boc_text(cell) });
    match item {
        StackValue::Number(number) => json!(["num", hexadecimal(number)]),
        StackValue::Cell(cell) => json!(["cell", held(cell)]),
        StackValue::Slice(cell) => json!(["slice", held(cell)]),
        StackValue::Builder(cell) => json!(["builder", held(cell)]),
        StackValue::Tuple(items) => json!(["tuple", elements_of("tvm.tuple", items)]),
        StackValue::List(items) => json!(["list", elements_of("tvm.list", items)]),
        StackValue::Null => json!(["list", elements_of("tvm.list", &[])]),
        StackValue::NotANumber => json!(["num", "NaN"]),
        StackValue::Continuation => json!(["unsupported", {}]),
    }
}

fn elements_of(kind: &str, items: &[StackValue]) -> Value {
    json!({ "@type": kind, "elements": items.iter().map(element).collect::<Vec<_>>() })
}

fn element(item: &StackValue) -> Value {
    match item {
        StackValue::Number(number) => json!({
            "@type": "tvm.stackEntryNumber",
            "number": { "@type": "tvm.numberDecimal", "number": number.to_string() },
        }),
        StackValue::Cell(cell) => json!({
            "@type": "tvm.stackEntryCell",
            "cell": { "@type": "tvm.cell", "bytes": boc_text(cell) },
        }),
        StackValue::Slice(cell) => json!({
            "@type": "tvm.stackEntrySlice",
            "slice": { "@type": "tvm.slice", "bytes": boc_text(cell) },
        }),
        StackValue::Tuple(items) => json!({
            "@type": "tvm.stackEntryTuple",
            "tuple": elements_of("tvm.tuple", items),
        }),
        StackValue::List(items) => json!({
            "@type": "tvm.stackEntryList",
            "list": elements_of("tvm.list", items),
        }),
        StackValue::Null => json!({
            "@type": "tvm.stackEntryList",
            "list": elements_of("tvm.list", &[]),
        }),
        StackValue::Builder(_) | StackValue::NotANumber | StackValue::Continuation => {
            json!({ "@type": "tvm.stackEntryUnsupported" })
        }
    }
}

fn boc_text(cell: &Cell) -> String {
    STANDARD.encode(Boc::encode(cell))
}

/// `0x2a`, `-0x1`.
fn hexadecimal(number: &BigInt) -> String {
    let digits = number.magnitude().to_str_radix(16);
    format!("{}0x{digits}", if number.sign() == num_bigint::Sign::Minus { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: Value) -> Result<StackValue, StackJsonError> {
        from_json(&Value::Array(vec![value])).map(|mut items| items.remove(0))
    }

    #[test]
    fn numbers_are_read_in_every_form_and_within_257_bits() {
        for (text, expected) in [("42", 42), ("-42", -42), ("0x2a", 42), ("-0x2a", -42), ("0", 0)] {
            assert_eq!(one(json!(["num", text])).unwrap(), StackValue::Number(expected.into()), "{text}");
        }
        assert_eq!(one(json!(["int", 7])).unwrap(), StackValue::Number(7.into()));
        let power = BigInt::from(2).pow(256);
        assert!(one(json!(["num", (&power - 1_u32).to_string()])).is_ok());
        assert!(one(json!(["num", power.to_string()])).is_err());
        assert!(one(json!(["num", (-&power).to_string()])).is_ok());
        assert!(one(json!(["num", (-&power - 1_u32).to_string()])).is_err());
        for text in ["", "-", "0x", "--1", "1_000", "1.5", "ten", "+1", &"9".repeat(101)] {
            assert!(one(json!(["num", text])).is_err(), "{text}");
        }
    }

    #[test]
    fn cells_and_tuples_are_read_in_every_spelling() {
        let text = boc_text(&Cell::default());
        assert_eq!(one(json!(["tvm.Cell", text])).unwrap(), StackValue::Cell(Cell::default()));
        assert_eq!(one(json!(["slice", { "bytes": text }])).unwrap(), StackValue::Slice(Cell::default()));
        let number = json!({ "@type": "tvm.stackEntryNumber", "number": { "number": "5" } });
        let tuple = json!(["tuple", { "elements": [number, { "@type": "tvm.stackEntryList", "list": { "elements": [] } }] }]);
        let expected = StackValue::Tuple(vec![StackValue::Number(5.into()), StackValue::List(vec![])]);
        assert_eq!(one(tuple).unwrap(), expected);
        for refused in
            [json!(["cell", "nonsense"]), json!(["what", 1]), json!(5), json!([]), json!({ "@type": "x" })]
        {
            assert!(one(refused.clone()).is_err(), "{refused}");
        }
        let deep = (0..100).fold(json!(["null"]), |inner, _| json!(["tuple", [inner]]));
        assert!(one(deep).is_err());
    }

    #[test]
    fn results_are_written_as_tonlib_writes_them() {
        assert_eq!(written(&StackValue::Number((-1).into())), json!(["num", "-0x1"]));
        assert_eq!(written(&StackValue::Null), json!(["list", { "@type": "tvm.list", "elements": [] }]));
        let tuple = StackValue::Tuple(vec![StackValue::Number(7.into()), StackValue::Null]);
        let seven = json!({ "@type": "tvm.stackEntryNumber", "number": { "@type": "tvm.numberDecimal", "number": "7" } });
        let nothing =
            json!({ "@type": "tvm.stackEntryList", "list": { "@type": "tvm.list", "elements": [] } });
        assert_eq!(written(&tuple), json!(["tuple", { "@type": "tvm.tuple", "elements": [seven, nothing] }]));
    }
}
