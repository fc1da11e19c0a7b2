//! One signed token (RFC 7519), in the compact form of RFC 7515.
//!
//! It is read by hand and not with a crate for such tokens: those take the clock from the system, let the header choose among
//! algorithms, and take the last of two claims of one name. What is needed is this file.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::json::{self, Members};
use super::{GpuKeys, GpuRefusal, GpuTokenError};

/// A token as it was read. Its claims are no more than that until it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jwt {
    /// What is signed: header and claims, as they came.
    signed: String,
    signature: Vec<u8>,
    algorithm: String,
    key_id: String,
    pub(super) claims: Members,
    /// SHA-256 of the whole text.
    pub(super) digest: [u8; 32],
}

impl Jwt {
    /// Reads a token; `name` is what it is called in errors.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, GpuTokenError> {
        let error = |reason: &str| GpuTokenError::Jwt { name: name.to_owned(), reason: reason.to_owned() };
        let parts: Vec<&str> = text.splitn(4, '.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(error("it has not three parts between dots"));
        };
        // Refuses padding and bits behind the last byte, so that no second text means the same.
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_refused| error("a part is not base64url"));
        let object = |part| match json::parse(&decode(part)?) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_other) => Err(error("a part is JSON and no object")),
            Err(reason) => Err(error(&reason)),
        };
        let header = object(header)?;
        let text_of = |member| header.get(member).and_then(Value::as_str).map(ToOwned::to_owned);
        if header.contains_key("crit") {
            return Err(error("its header has extensions that have to be understood (crit), and none is"));
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Ok(Self {
            signed: text[..text.len() - signature.len() - 1].to_owned(),
            signature: decode(signature)?,
            algorithm: text_of("alg").ok_or_else(|| error("its header names no algorithm (alg)"))?,
            key_id: text_of("kid").ok_or_else(|| error("its header names no key (kid)"))?,
            claims: object(claims)?,
            digest: sha256,
        })
    }

    /// Whether one of the keys signed it. The algorithm is ours to choose: a header that names another is refused before any
    /// key is looked for, so that nobody signs with a public key as a secret, or not at all.
    pub(super) fn verify(&self, name: &str, keys: &GpuKeys) -> Result<(), GpuRefusal> {
        let name = || name.to_owned();
        if self.algorithm != "ES384" {
            return Err(GpuRefusal::Algorithm { name: name(), found: short(&self.algorithm) });
        }
        let unknown = || GpuRefusal::UnknownKey { name: name(), found: short(&self.key_id) };
        let key =
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, keys.get(&self.key_id).ok_or_else(unknown)?);
        let verified = key.verify(self.signed.as_bytes(), &self.signature);
        verified.map_err(|_forged| GpuRefusal::TokenSignature { name: name(), key: short(&self.key_id) })
    }
}

/// What strangers wrote, no longer than errors should be.
pub(super) fn short(text: &str) -> String {
    text.chars().take(100).collect()
}
