//! JSON in which no member is there twice: readers that take the first and readers that take the last of two would see different
//! claims in one signed text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Members of an object.
pub(super) type Members = Map<String, Value>;

/// Reads a text, in short words about what is wrong with it.
pub(super) fn parse(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice::<Unique>(text).map(|unique| unique.0).map_err(|error| short(&error))
}

/// The reason, without what of the text may be in it at length.
fn short(error: &serde_json::Error) -> String {
    error.to_string().chars().take(120).collect()
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Unique, E> {
        Number::from_f64(value).map(|number| Unique(number.into())).ok_or_else(|| E::custom("no number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Unique, A::Error> {
        let mut all = Vec::new();
        while let Some(Unique(element)) = elements.next_element()? {
            all.push(element);
        }
        Ok(Unique(all.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
        let mut all = Members::new();
        while let Some((name, Unique(value))) = members.next_entry::<String, Unique>()? {
            if all.contains_key(&name) {
                return Err(A::Error::custom(format_args!("member {name:?} is there twice")));
            }
            all.insert(name, value);
        }
        Ok(Unique(all.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_json_without_twins_is_read_as_it_stands() {
        let text = r#"{"a": [null, true, 1, -1, 1.5, "b", {"c": {}}], "d": {"a": 2}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        for refused in [r#"{"a": 1, "a": 1}"#, r#"[{"b": {"a": 1, "\u0061": 2}}]"#, "{} {}", "", "{", "1e999"]
        {
            assert!(parse(refused.as_bytes()).is_err(), "{refused}");
        }
        let deep = "[".repeat(1000);
        assert!(parse(deep.as_bytes()).is_err());
        let long = format!("{{\"{0}\": 1, \"{0}\": 1}}", "a".repeat(10_000));
        assert!(parse(long.as_bytes()).unwrap_err().len() <= 120);
    }
}
