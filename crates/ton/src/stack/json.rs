//! Stacks of the TVM in JSON: `[["num","0x1"],["cell",{"bytes":…}],…]` at the top level, tagged objects within tuples.

use num_bigint::BigInt;
use serde_json::{Value, json};

use super::ApiError;
use super::params::{boc, cell};
use crate::getter::{STACK_DEPTH_MAX, STACK_ITEMS_MAX, StackItem};

/// Digits of a number: 257 bits have 78 decimal ones.
const DIGITS_MAX: usize = 100;

/// Arguments as callers write them. Besides the spelling of the documentation (`num`, `cell`, `slice`), that of tonlib
/// (`tvm.Cell`, …) is read, which `@ton/ton` uses.
pub(super) fn read(stack: Option<&Value>) -> Result<Vec<StackItem>, ApiError> {
    let items = match stack {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(refused("must be an array")),
    };
    if items.len() > STACK_ITEMS_MAX {
        return Err(refused("holds too many values"));
    }
    items.iter().map(|item| read_pair(item, 0)).collect()
}

fn refused(what: &str) -> ApiError {
    ApiError::unprocessable(format!("stack {what}"))
}

fn read_pair(item: &Value, depth: usize) -> Result<StackItem, ApiError> {
    match item.as_array().map(Vec::as_slice) {
        Some([Value::String(kind)]) => read_kind(kind, &Value::Null, depth),
        Some([Value::String(kind), value]) => read_kind(kind, value, depth),
        _ if item.is_object() => read_tagged(item, depth),
        _ => Err(refused("has values [\"kind\", value] only")),
    }
}

fn read_kind(kind: &str, value: &Value, depth: usize) -> Result<StackItem, ApiError> {
    match kind {
        "num" | "number" | "int" => number(value),
        "cell" | "tvm.Cell" => Ok(StackItem::Cell(content(value)?)),
        "slice" | "tvm.Slice" => Ok(StackItem::Slice(content(value)?)),
        "builder" | "tvm.Builder" => Ok(StackItem::Builder(content(value)?)),
        "null" => Ok(StackItem::Null),
        "tuple" | "tvm.Tuple" => Ok(StackItem::Tuple(elements(value, depth)?)),
        "list" | "tvm.List" => Ok(StackItem::List(elements(value, depth)?)),
        _ => Err(refused("has a value of unknown kind")),
    }
}

/// An element of a tuple: `{"@type":"tvm.stackEntryNumber","number":{…}}`.
fn read_tagged(item: &Value, depth: usize) -> Result<StackItem, ApiError> {
    let of = |name: &str| item.get(name).unwrap_or(&Value::Null);
    match item.get("@type").and_then(Value::as_str) {
        Some("tvm.stackEntryNumber") => number(of("number").get("number").unwrap_or(&Value::Null)),
        Some("tvm.stackEntryCell") => Ok(StackItem::Cell(content(of("cell"))?)),
        Some("tvm.stackEntrySlice") => Ok(StackItem::Slice(content(of("slice"))?)),
        Some("tvm.stackEntryTuple") => Ok(StackItem::Tuple(elements(of("tuple"), depth)?)),
        Some("tvm.stackEntryList") => Ok(StackItem::List(elements(of("list"), depth)?)),
        _ => Err(refused("has an element of unknown kind")),
    }
}

fn elements(value: &Value, depth: usize) -> Result<Vec<StackItem>, ApiError> {
    if depth >= STACK_DEPTH_MAX {
        return Err(refused("has tuples too deep in each other"));
    }
    let elements = value.get("elements").unwrap_or(value).as_array();
    elements
        .ok_or_else(|| refused("has a tuple without elements"))?
        .iter()
        .map(|item| read_pair(item, depth + 1))
        .collect()
}

fn content(value: &Value) -> Result<tycho_types::cell::Cell, ApiError> {
    let text = value.get("bytes").unwrap_or(value).as_str();
    cell("stack", text.ok_or_else(|| refused("has a cell that is no base64"))?)
}

fn number(value: &Value) -> Result<StackItem, ApiError> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.len() <= DIGITS_MAX => text.clone(),
        _ => return Err(refused("has a number that is none")),
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
    number.map(StackItem::Number).ok_or_else(|| refused("has a number that is none, or beyond 257 bits"))
}

/// A value of a result.
pub(super) fn written(item: &StackItem) -> Value {
    let held = |cell| json!({ "bytes": boc(cell) });
    match item {
        StackItem::Number(number) => json!(["num", hexadecimal(number)]),
        StackItem::Cell(cell) => json!(["cell", held(cell)]),
        StackItem::Slice(cell) => json!(["slice", held(cell)]),
        StackItem::Builder(cell) => json!(["builder", held(cell)]),
        StackItem::Tuple(items) => json!(["tuple", elements_of("tvm.tuple", items)]),
        StackItem::List(items) => json!(["list", elements_of("tvm.list", items)]),
        StackItem::Null => json!(["list", elements_of("tvm.list", &[])]),
        StackItem::NotANumber => json!(["num", "NaN"]),
        StackItem::Continuation => json!(["unsupported", {}]),
    }
}

fn elements_of(kind: &str, items: &[StackItem]) -> Value {
    json!({ "@type": kind, "elements": items.iter().map(element).collect::<Vec<_>>() })
}

fn element(item: &StackItem) -> Value {
    match item {
        StackItem::Number(number) => json!({
            "@type": "tvm.stackEntryNumber",
            "number": { "@type": "tvm.numberDecimal", "number": number.to_string() },
        }),
        StackItem::Cell(cell) => json!({
            "@type": "tvm.stackEntryCell",
            "cell": { "@type": "tvm.cell", "bytes": boc(cell) },
        }),
        StackItem::Slice(cell) => json!({
            "@type": "tvm.stackEntrySlice",
            "slice": { "@type": "tvm.slice", "bytes": boc(cell) },
        }),
        StackItem::Tuple(items) => json!({
            "@type": "tvm.stackEntryTuple",
            "tuple": elements_of("tvm.tuple", items),
        }),
        StackItem::List(items) => json!({
            "@type": "tvm.stackEntryList",
            "list": elements_of("tvm.list", items),
        }),
        StackItem::Null => json!({
            "@type": "tvm.stackEntryList",
            "list": elements_of("tvm.list", &[]),
        }),
        StackItem::Builder(_) | StackItem::NotANumber | StackItem::Continuation => {
            json!({ "@type": "tvm.stackEntryUnsupported" })
        }
    }
}

/// `0x2a`, `-0x1`.
fn hexadecimal(number: &BigInt) -> String {
    let digits = number.magnitude().to_str_radix(16);
    format!("{}0x{digits}", if number.sign() == num_bigint::Sign::Minus { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::empty;

    fn one(value: Value) -> Result<StackItem, ApiError> {
        read(Some(&Value::Array(vec![value]))).map(|mut items| items.remove(0))
    }

    #[test]
    fn numbers_are_read_in_every_form_and_within_257_bits() {
        for (text, expected) in [("42", 42), ("-42", -42), ("0x2a", 42), ("-0x2a", -42), ("0", 0)] {
            assert_eq!(one(json!(["num", text])).unwrap(), StackItem::Number(expected.into()), "{text}");
        }
        assert_eq!(one(json!(["int", 7])).unwrap(), StackItem::Number(7.into()));
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
        let text = boc(&empty());
        assert_eq!(one(json!(["tvm.Cell", text])).unwrap(), StackItem::Cell(empty()));
        assert_eq!(one(json!(["slice", { "bytes": text }])).unwrap(), StackItem::Slice(empty()));
        let number = json!({ "@type": "tvm.stackEntryNumber", "number": { "number": "5" } });
        let tuple = json!(["tuple", { "elements": [number, { "@type": "tvm.stackEntryList", "list": { "elements": [] } }] }]);
        let expected = StackItem::Tuple(vec![StackItem::Number(5.into()), StackItem::List(vec![])]);
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
        assert_eq!(written(&StackItem::Number((-1).into())), json!(["num", "-0x1"]));
        assert_eq!(written(&StackItem::Null), json!(["list", { "@type": "tvm.list", "elements": [] }]));
        let tuple = StackItem::Tuple(vec![StackItem::Number(7.into()), StackItem::Null]);
        let seven = json!({ "@type": "tvm.stackEntryNumber", "number": { "@type": "tvm.numberDecimal", "number": "7" } });
        let nothing =
            json!({ "@type": "tvm.stackEntryList", "list": { "@type": "tvm.list", "elements": [] } });
        assert_eq!(written(&tuple), json!(["tuple", { "@type": "tvm.tuple", "elements": [seven, nothing] }]));
    }
}
