//! 256-bit identities. Each kind is its own type; the text form is lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not 32 bytes in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits, found {found:?}")]
pub struct Hash32ParseError {
    found: String,
}

/// Declares an identity of 32 bytes.
macro_rules! hash32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps the raw bytes.
            #[must_use]
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; 64];
                let written = hex::encode_to_slice(self.0, &mut text);
                debug_assert!(written.is_ok(), "two digits for each byte");
                f.write_str(str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Hash32ParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 32];
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) => Ok(Self(bytes)),
                    Err(_) => Err(Hash32ParseError { found: text.chars().take(80).collect() }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Hash32ParseError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

hash32! {
    /// One application request, drawn at random by the client; the same in HTTP header, wire and logs.
    RequestId
}
hash32! {
    /// What a measured image is known by: SHA-256 over its measurement registers.
    ImageHash
}
hash32! {
    /// What an allowed model is known by: SHA-256 of its full name `name@commit:hash`.
    ModelHash
}
hash32! {
    /// An Ed25519 public key.
    PublicKey
}
hash32! {
    /// A message on TON: the representation hash of its cell.
    MessageHash
}
hash32! {
    /// A transaction on TON: the representation hash of its cell.
    TransactionHash
}
hash32! {
    /// A block on TON: the representation hash of its root.
    BlockHash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_lower_case_and_round_trips() {
        let id = RequestId::new([0xab; 32]);
        assert_eq!(id.to_string(), "ab".repeat(32));
        assert_eq!("AB".repeat(32).parse(), Ok(id));
        assert_eq!(format!("{id:?}"), format!("RequestId({id})"));
    }

    #[test]
    fn other_lengths_and_digits_are_refused() {
        for refused in ["", &"ab".repeat(31), &"ab".repeat(33), &"xy".repeat(32)] {
            assert!(refused.parse::<RequestId>().is_err(), "{refused:?} was accepted");
        }
    }
}
