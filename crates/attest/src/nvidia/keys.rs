//! The keys that sign tokens, as the service publishes them (RFC 7517).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::json::{self, Members};

/// Keys of NVIDIA's attestation service, by their ids.
///
/// Nobody signs them: they are as genuine as the way they came, which is
/// `https://nras.attestation.nvidia.com/.well-known/jwks.json` over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuKeys(BTreeMap<String, Vec<u8>>);

/// A text that is no set of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuKeysError {
    /// Longer than any.
    #[error("the set of keys has {found} bytes, at most {} are read", GpuKeys::LEN_MAX)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Not JSON, or a member is there twice.
    #[error("the set of keys is no JSON: {reason}")]
    Json {
        /// What is wrong with it.
        reason: String,
    },
    /// Other JSON.
    #[error("this JSON is no set of keys: an object with an array `keys` of objects is one (RFC 7517)")]
    Form,
    /// A key on P-384 that cannot be read.
    #[error("key {at} (counted from 1) of the set is on P-384 and has no readable `kid`, `x` and `y`")]
    Key {
        /// Which one.
        at: usize,
    },
    /// Two keys have one id.
    #[error("two keys of the set have the id {id:?}")]
    Twice {
        /// The id.
        id: String,
    },
}

impl GpuKeys {
    /// Longest accepted text in bytes.
    pub const LEN_MAX: usize = 1 << 18;

    /// Reads a set of keys as JSON. Keys for other algorithms than ES384, or for other uses than signatures, are passed over.
    ///
    /// # Errors
    /// [`GpuKeysError`].
    pub fn from_json(text: &[u8]) -> Result<Self, GpuKeysError> {
        if text.len() > Self::LEN_MAX {
            return Err(GpuKeysError::TooLong { found: text.len() });
        }
        let set = json::parse(text).map_err(|reason| GpuKeysError::Json { reason })?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(GpuKeysError::Form)?;
        let mut points = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            let key = key.as_object().ok_or(GpuKeysError::Form)?;
            if !is_es384(key) {
                continue;
            }
            let (id, point) = read(key).ok_or(GpuKeysError::Key { at: at + 1 })?;
            if points.insert(id.to_owned(), point).is_some() {
                return Err(GpuKeysError::Twice { id: id.to_owned() });
            }
        }
        Ok(Self(points))
    }

    /// The key with an id, as an uncompressed point.
    pub(super) fn get(&self, id: &str) -> Option<&[u8]> {
        self.0.get(id).map(Vec::as_slice)
    }
}

fn is_es384(key: &Members) -> bool {
    let says = |name: &str, expected: &str| key.get(name).is_some_and(|found| found == expected);
    let does_not_deny = |name: &str, expected: &str| key.get(name).is_none_or(|found| found == expected);
    says("kty", "EC") && says("crv", "P-384") && does_not_deny("alg", "ES384") && does_not_deny("use", "sig")
}

fn read(key: &Members) -> Option<(&str, Vec<u8>)> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let coordinate = |name| URL_SAFE_NO_PAD.decode(text(name)?).ok().filter(|bytes| bytes.len() == 48);
    let point = [&[4][..], &coordinate("x")?, &coordinate("y")?].concat();
    Some((text("kid")?, point))
}
