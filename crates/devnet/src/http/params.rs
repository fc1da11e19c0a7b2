//! Parameters of a request, and the texts of values.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value};
use ton::{Address, AddressFlags, decode_boc};
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;

use super::ApiError;

/// Bytes of a cell in a parameter.
const CELL_LEN_MAX: usize = 128 * 1024;

/// Named parameters: texts from a query, any JSON from a body. Numbers may be texts, since logical times exceed what
/// JavaScript counts exactly.
#[derive(Debug)]
pub(super) struct Params {
    named: Map<String, Value>,
}

impl Params {
    pub(super) fn new(named: Map<String, Value>) -> Self {
        Self { named }
    }

    pub(super) fn from_query(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), Value::String(decoded(value)))
        });
        Self { named: pairs.collect() }
    }

    pub(super) fn extend(&mut self, named: Map<String, Value>) {
        self.named.extend(named);
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.named.get(name).filter(|value| !value.is_null())
    }

    /// A text; an empty one counts as none.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(ApiError::unprocessable(format!("{name} must be a string"))),
        }
    }

    /// A number, written as one or as a text.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let text = match self.value(name) {
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            None | Some(Value::String(_)) => return Ok(None),
            Some(_) => return Err(ApiError::unprocessable(format!("{name} must be a number"))),
        };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_no_number) => Err(ApiError::unprocessable(format!("{name} is no number in range"))),
        }
    }

    pub(super) fn required<T: FromStr>(&self, name: &str) -> Result<T, ApiError> {
        self.number(name)?.ok_or_else(|| missing(name))
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        match self.value(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) => match text.as_str() {
                "" => Ok(default),
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(ApiError::unprocessable(format!("{name} must be true or false"))),
            },
            Some(_) => Err(ApiError::unprocessable(format!("{name} must be true or false"))),
        }
    }

    pub(super) fn address(&self, name: &str) -> Result<Address, ApiError> {
        Ok(self.address_and_flags(name)?.0)
    }

    pub(super) fn address_and_flags(&self, name: &str) -> Result<(Address, Option<AddressFlags>), ApiError> {
        let text = self.text(name)?.ok_or_else(|| missing(name))?;
        Address::parse(text).map_err(|error| ApiError::unprocessable(format!("{name}: {error}")))
    }

    /// A hash as 64 hexadecimal digits or in either form of base64.
    pub(super) fn hash(&self, name: &str) -> Result<Option<[u8; 32]>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let mut hash = [0; 32];
        if hex::decode_to_slice(text, &mut hash).is_ok() {
            return Ok(Some(hash));
        }
        let bytes = bytes(text).filter(|bytes| bytes.len() == 32);
        let Some(bytes) = bytes else {
            return Err(ApiError::unprocessable(format!("{name} is no hash, in hexadecimal or base64")));
        };
        hash.copy_from_slice(&bytes);
        Ok(Some(hash))
    }

    pub(super) fn cell(&self, name: &str) -> Result<Option<Cell>, ApiError> {
        self.text(name)?.map(|text| cell(name, text)).transpose()
    }

    pub(super) fn required_bytes(&self, name: &str) -> Result<Vec<u8>, ApiError> {
        let text = self.text(name)?.ok_or_else(|| missing(name))?;
        bytes(text).ok_or_else(|| ApiError::unprocessable(format!("{name} is no base64")))
    }
}

pub(super) fn missing(name: &str) -> ApiError {
    ApiError::unprocessable(format!("{name} is missing"))
}

/// A bag of cells in base64.
pub(super) fn cell(name: &str, text: &str) -> Result<Cell, ApiError> {
    let bytes = bytes(text).ok_or_else(|| ApiError::unprocessable(format!("{name} is no base64")))?;
    decode_boc(&bytes, CELL_LEN_MAX).map_err(|error| ApiError::unprocessable(format!("{name}: {error}")))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    // In a query, `+` may have become a space on its way.
    let text = text.replace(' ', "+");
    STANDARD.decode(&text).or_else(|_other| URL_SAFE.decode(&text)).ok()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn boc(cell: &Cell) -> String {
    base64(&Boc::encode(cell))
}

/// The form in which servers of this API name accounts.
pub(super) fn address_text(address: &Address) -> String {
    address.to_text(AddressFlags { bounceable: true, testnet: false })
}

/// Percent-decodes; what is no valid escape stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.get(..2).filter(|_| *first == b'%').and_then(|digits| {
            let mut byte = [0];
            hex::decode_to_slice(digits, &mut byte).ok().map(|()| byte[0])
        });
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let params = Params::from_query("a=1&b=%2Bx%3D&c&a%20b=%zz%4&&d=");
        assert_eq!(params.number::<u32>("a").unwrap(), Some(1));
        assert_eq!(params.text("b").unwrap(), Some("+x="));
        assert_eq!(params.text("a b").unwrap(), Some("%zz%4"));
        assert_eq!((params.text("c").unwrap(), params.text("d").unwrap()), (None, None));
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused_by_name() {
        let params =
            Params::new(serde_json::from_str(r#"{"n":"x","t":5,"f":"maybe","h":"00","o":{}}"#).unwrap());
        assert!(params.number::<u32>("n").unwrap_err().message.starts_with("n "));
        assert!(params.text("t").unwrap_err().message.starts_with("t "));
        assert!(params.flag("f", true).unwrap_err().message.starts_with("f "));
        assert!(params.hash("h").unwrap_err().message.starts_with("h "));
        assert!(params.number::<u32>("o").is_err() && params.flag("o", true).is_err());
        assert!(params.required::<u32>("absent").unwrap_err().message.contains("absent"));
    }

    #[test]
    fn hashes_are_read_in_every_form() {
        let hash = [0xfb; 32];
        for text in [
            hex::encode(hash),
            STANDARD.encode(hash),
            URL_SAFE.encode(hash),
            STANDARD.encode(hash).replace('+', " "),
        ] {
            let params = Params::new([("h".to_owned(), Value::String(text))].into_iter().collect());
            assert_eq!(params.hash("h").unwrap(), Some(hash));
        }
    }
}
