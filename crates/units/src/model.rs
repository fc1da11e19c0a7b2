//! Names of models.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A model's full name, `name@commit:hash`; commit and hash may be missing.
///
/// Requests and routing use [`ModelName::base`]; the allow list of the root contract holds the hash of the
/// full name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(String);

/// A text that names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidModelName {
    /// The part before `@` is empty.
    #[error("the model name {found:?} has nothing before its first \"@\"")]
    EmptyBase {
        /// The refused name.
        found: String,
    },
    /// The name is longer than [`ModelName::LEN_MAX`] bytes.
    #[error("the model name has {len} bytes, at most {} are accepted", ModelName::LEN_MAX)]
    TooLong {
        /// Length of the refused name in bytes.
        len: usize,
    },
    /// The name contains a control character.
    #[error("the model name {found:?} contains a control character")]
    ControlCharacter {
        /// The refused name.
        found: String,
    },
}

impl ModelName {
    /// Longest accepted full name in bytes.
    pub const LEN_MAX: usize = 512;

    /// Checks a full or base name.
    ///
    /// # Errors
    /// [`InvalidModelName`] if the base is empty, or the name is too long or holds control characters.
    pub fn new(full: impl Into<String>) -> Result<Self, InvalidModelName> {
        let full = full.into();
        if full.len() > Self::LEN_MAX {
            return Err(InvalidModelName::TooLong { len: full.len() });
        }
        if full.chars().any(char::is_control) {
            return Err(InvalidModelName::ControlCharacter { found: full });
        }
        if full.is_empty() || full.starts_with('@') {
            return Err(InvalidModelName::EmptyBase { found: full });
        }
        Ok(Self(full))
    }

    /// The full name as given.
    #[must_use]
    pub fn full(&self) -> &str {
        &self.0
    }

    /// The part up to the first `@`: what requests name.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.split('@').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelName({:?})", self.0)
    }
}

impl TryFrom<String> for ModelName {
    type Error = InvalidModelName;

    fn try_from(full: String) -> Result<Self, Self::Error> {
        Self::new(full)
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_ends_at_the_first_at_sign() {
        let name = ModelName::new("Qwen/Qwen3-8B@b968:7e9d").unwrap();
        assert_eq!(name.base(), "Qwen/Qwen3-8B");
        assert_eq!(name.full(), "Qwen/Qwen3-8B@b968:7e9d");
        assert_eq!(ModelName::new("plain").unwrap().base(), "plain");
        assert_eq!(ModelName::new("a@b@c").unwrap().base(), "a");
    }

    #[test]
    fn names_that_name_nothing_are_refused() {
        let too_long = "x".repeat(ModelName::LEN_MAX + 1);
        for refused in ["", "@commit:hash", "a\nb", &too_long] {
            assert!(ModelName::new(refused).is_err(), "{refused:?} was accepted");
        }
        assert!(ModelName::new("x".repeat(ModelName::LEN_MAX)).is_ok());
    }
}
