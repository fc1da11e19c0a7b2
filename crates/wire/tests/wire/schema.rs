//! Objects made from the schema alone, without the crate's types: the other opinion that the types must agree with.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tl_scheme::{Constructor, Scheme, Type};

/// `spec/wire.tl`.
pub(crate) static SCHEMA: LazyLock<Scheme<'static>> =
    LazyLock::new(|| Scheme::parse(include_str!("../../../../spec/wire.tl")).expect("checked by the build"));

/// An object in bytes, and what a test may want to know of it.
#[derive(Default)]
pub(crate) struct Object {
    /// Constructor id and fields.
    pub(crate) bytes: Vec<u8>,
    /// The fields by name; optional ones only if present, 256-bit values and bytes in hexadecimal.
    pub(crate) fields: Map<String, Value>,
    /// Names of all fields in wire order, those of inner objects after the field that holds them; no flags.
    pub(crate) names: Vec<&'static str>,
    /// Where in the bytes the flags are.
    pub(crate) flags_at: Vec<usize>,
}

/// How strings are written.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Style {
    /// Shortest header, padding of zeros.
    Canonical,
    /// Any header that is long enough, padding of other bytes.
    Loose,
}

/// Where the values of an object come from.
pub(crate) trait Values {
    fn int(&mut self) -> i32;
    fn long(&mut self) -> i64;
    fn double(&mut self) -> f64;
    fn data(&mut self, field: &str) -> Vec<u8>;
    /// Length of a vector.
    fn count(&mut self) -> u32;
    /// Index of one of `of` constructors.
    fn choice(&mut self, of: usize) -> usize;
    /// A subset of the bits of `known`.
    fn flags(&mut self, known: u32) -> u32;
}

/// Makes an object of the constructor called `name`.
pub(crate) fn object(name: &str, style: Style, values: &mut dyn Values) -> Object {
    let mut builder = Builder { style, values, object: Object::default() };
    let constructor = find(name);
    builder.put(&constructor.tl_id.expect("checked by the build").to_le_bytes());
    builder.object.fields = builder.fields(constructor);
    builder.object
}

fn find(name: &str) -> &'static Constructor<'static> {
    SCHEMA.find_constructor(name).unwrap_or_else(|| panic!("{name} is not in the schema")).1
}

struct Builder<'v> {
    style: Style,
    values: &'v mut dyn Values,
    object: Object,
}

impl Builder<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.object.bytes.extend_from_slice(bytes);
    }

    fn fields(&mut self, constructor: &'static Constructor<'static>) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut flags = BTreeMap::new();
        for field in &constructor.fields {
            let name = field.name.expect("all fields of the schema have names");
            let ty = match &field.ty {
                Type::Int => {
                    let value = self.values.flags(known_flags(constructor, name));
                    self.object.flags_at.push(self.object.bytes.len());
                    self.put(&value.to_le_bytes());
                    flags.insert(name, value);
                    continue;
                }
                Type::Flagged { flags_field, bit, .. } if flags[flags_field] >> bit & 1 == 0 => continue,
                Type::Flagged { ty, .. } => ty,
                ty => ty,
            };
            self.object.names.push(name);
            fields.insert(name.to_owned(), self.value(name, ty));
        }
        fields
    }

    fn value(&mut self, field: &str, ty: &'static Type<'static>) -> Value {
        match ty {
            Type::Named { ty: "int" } => {
                let value = self.values.int();
                self.put(&value.to_le_bytes());
                json!(value)
            }
            Type::Named { ty: "long" } => {
                let value = self.values.long();
                self.put(&value.to_le_bytes());
                json!(value)
            }
            Type::Named { ty: "double" } => {
                let value = self.values.double();
                self.put(&value.to_le_bytes());
                json!(value)
            }
            Type::Named { ty: "int256" } => {
                let mut value = self.values.data(field);
                value.resize(32, 0xee);
                self.put(&value);
                json!(hex::encode(value))
            }
            Type::Named { ty: "string" } => {
                let value = self.values.data(field);
                self.string(&value);
                json!(String::from_utf8_lossy(&value))
            }
            Type::Named { ty: "bytes" } => {
                let value = self.values.data(field);
                self.string(&value);
                json!(hex::encode(value))
            }
            Type::Generic { ty: "vector", ty_param } => {
                let count = self.values.count();
                self.put(&count.to_le_bytes());
                (0..count).map(|_| self.value(field, ty_param)).collect()
            }
            Type::Named { ty } => match SCHEMA.boxed_types.get(ty) {
                Some(constructors) => self.boxed(constructors),
                None => Value::Object(self.fields(find(ty))),
            },
            ty => panic!("{field} has the type {ty}, which the schema did not use so far"),
        }
    }

    fn boxed(&mut self, constructors: &[&'static str]) -> Value {
        let name = constructors[self.values.choice(constructors.len())];
        let constructor = find(name);
        self.put(&constructor.tl_id.expect("checked by the build").to_le_bytes());
        match name {
            "boolTrue" => json!(true),
            "boolFalse" => json!(false),
            _ => json!({ name: self.fields(constructor) }),
        }
    }

    fn string(&mut self, data: &[u8]) {
        let start = self.object.bytes.len();
        let len = (data.len() as u64).to_le_bytes();
        let shortest = if data.len() < 254 { 0 } else { 1 };
        let header = match self.style {
            Style::Canonical => shortest,
            Style::Loose => shortest + data.len() % (3 - shortest),
        };
        match header {
            0 => self.put(&len[..1]),
            1 => self.put(&[&[254], &len[..3]].concat()),
            _ => self.put(&[&[255], &len[..7]].concat()),
        }
        self.put(data);
        while !(self.object.bytes.len() - start).is_multiple_of(4) {
            self.put(if self.style == Style::Canonical { &[0] } else { &[0xaa] });
        }
    }
}

/// The bits of flags field `flags` that guard a field.
fn known_flags(constructor: &Constructor<'_>, flags: &str) -> u32 {
    let bits = constructor.fields.iter().filter_map(|field| match &field.ty {
        Type::Flagged { flags_field, bit, .. } if *flags_field == flags => Some(1 << bit),
        _ => None,
    });
    bits.fold(0, |known, bit| known | bit)
}

/// The same readable values in every run: numbers count up, texts name their field, everything optional is there.
#[derive(Default)]
pub(crate) struct Sample {
    last_number: i32,
}

impl Values for Sample {
    fn int(&mut self) -> i32 {
        self.last_number += 1;
        self.last_number
    }

    fn long(&mut self) -> i64 {
        self.int().into()
    }

    fn double(&mut self) -> f64 {
        f64::from(self.int()) + 0.5
    }

    fn data(&mut self, field: &str) -> Vec<u8> {
        format!("sample of {field}").into_bytes()
    }

    fn count(&mut self) -> u32 {
        2
    }

    fn choice(&mut self, _: usize) -> usize {
        0
    }

    fn flags(&mut self, known: u32) -> u32 {
        known
    }
}

/// Values drawn from a string of random bytes; zeros once it is used up, so that shrinking makes objects simpler.
#[derive(Clone, Debug)]
pub(crate) struct Random(std::vec::IntoIter<u8>);

/// Random values.
pub(crate) fn random() -> impl Strategy<Value = Random> {
    prop::collection::vec(any::<u8>(), 0..600).prop_map(|bytes| Random(bytes.into_iter()))
}

impl Random {
    fn byte(&mut self) -> u8 {
        self.0.next().unwrap_or(0)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }
}

impl Values for Random {
    fn int(&mut self) -> i32 {
        i32::from_le_bytes(self.bytes())
    }

    fn long(&mut self) -> i64 {
        i64::from_le_bytes(self.bytes())
    }

    fn double(&mut self) -> f64 {
        f64::from_le_bytes(self.bytes())
    }

    fn data(&mut self, _: &str) -> Vec<u8> {
        // Mostly short; now and then around the lengths where the header changes.
        let len: usize = match self.byte() {
            byte @ 0..=229 => (byte % 12).into(),
            byte => usize::from(byte) + 20,
        };
        (0..len).map(|_| self.byte()).collect()
    }

    fn count(&mut self) -> u32 {
        (self.byte() % 4).into()
    }

    fn choice(&mut self, of: usize) -> usize {
        usize::from(self.byte()) % of
    }

    fn flags(&mut self, known: u32) -> u32 {
        u32::from(self.byte()) & known
    }
}
