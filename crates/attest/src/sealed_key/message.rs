//! The messages: TL objects of the deployed sealer, each with its number before it.

use std::fmt;
use std::str::FromStr;

use super::{MESSAGE_LEN_MAX, PUBLIC_LEN, WRAPPED_LEN};
use crate::quote::Quote;
use crate::td_report::{TdReport, TdReportError};

/// `getPersistentKey`, as it is on the wire.
const REQUEST: [u8; 4] = [0x1c, 0x82, 0x7a, 0x31];
/// `persistentKey`.
const ANSWER: [u8; 4] = [0x9a, 0x17, 0x3a, 0x16];

/// What a key is for. An image has a key of its own for each name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

/// A text that is no name of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key's name has 1 to {} bytes, found {found}", KeyName::LEN_MAX)]
pub struct KeyNameError {
    found: usize,
}

impl KeyName {
    /// Longest name in bytes.
    pub const LEN_MAX: usize = 256;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        match text.len() {
            1..=Self::LEN_MAX => Ok(Self(text.to_owned())),
            found => Err(KeyNameError { found }),
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A guest asks for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// What the guest is. Vouches for the key.
    pub report: TdReport,
    /// The guest's key of the moment: both coordinates, each little-endian.
    pub public: [u8; PUBLIC_LEN],
    /// What the key is for.
    pub name: KeyName,
}

/// An enclave answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAnswer {
    /// What the enclave is: a quote of SGX, as it came. Vouches for the guest's key and for the secret.
    pub quote: Vec<u8>,
    /// The secret, enciphered: the enclave's key of the moment, and 32 bytes.
    pub wrapped: [u8; WRAPPED_LEN],
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyMessageError {
    /// Longer than any.
    #[error("the message has {found} bytes, at most {MESSAGE_LEN_MAX} are read")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Another one.
    #[error("the message is not {expected}")]
    Kind {
        /// The one expected.
        expected: &'static str,
    },
    /// It ends too early.
    #[error("the message is cut off within {field}")]
    CutOff {
        /// Where.
        field: &'static str,
    },
    /// Something follows it.
    #[error("{found} bytes follow the message")]
    Trailing {
        /// How many.
        found: usize,
    },
    /// A field of another length.
    #[error("{field} has {found} bytes")]
    Length {
        /// Which field.
        field: &'static str,
        /// Its length.
        found: usize,
    },
    /// A name of a key that is none.
    #[error(
        "the name of the key has {found} bytes, or is not UTF-8: it has to have 1 to {} of them",
        KeyName::LEN_MAX
    )]
    Name {
        /// Its length.
        found: usize,
    },
    /// A report that is none.
    #[error("the guest's report cannot be read")]
    Report(#[from] TdReportError),
}

impl KeyRequest {
    /// The message.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = REQUEST.to_vec();
        put(&mut bytes, self.report.as_bytes());
        put(&mut bytes, &self.public);
        put(&mut bytes, self.name.0.as_bytes());
        bytes
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`KeyMessageError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyMessageError> {
        let mut fields = Fields::new(bytes, REQUEST, "getPersistentKey")?;
        let report = TdReport::parse(fields.take("tdx_report")?)?;
        let public = fields.exactly("public_key")?;
        let name = fields.take("key_name")?;
        let unusable = KeyMessageError::Name { found: name.len() };
        let name = str::from_utf8(name).ok().and_then(|name| name.parse().ok()).ok_or(unusable)?;
        fields.end()?;
        Ok(Self { report, public, name })
    }
}

impl KeyAnswer {
    /// The message.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = ANSWER.to_vec();
        put(&mut bytes, &self.quote);
        put(&mut bytes, &self.wrapped);
        bytes
    }

    /// Reads one. Whether the quote is one is for [`Quote::parse`] to say.
    ///
    /// # Errors
    /// [`KeyMessageError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyMessageError> {
        const { assert!(MESSAGE_LEN_MAX <= Quote::LEN_MAX) };
        let mut fields = Fields::new(bytes, ANSWER, "persistentKey")?;
        let quote = fields.take("sgx_quote")?.to_vec();
        let wrapped = fields.exactly("encrypted_secret")?;
        fields.end()?;
        Ok(Self { quote, wrapped })
    }
}

/// `bytes` and `string` of TL: the length in one byte, or in three behind 254; zeros up to a multiple of four.
fn put(bytes: &mut Vec<u8>, field: &[u8]) {
    let [low, middle, high, ..] = field.len().to_le_bytes();
    let unpadded = match field.len() {
        0..254 => {
            bytes.push(low);
            1 + field.len()
        }
        _ => {
            bytes.extend([254, low, middle, high]);
            4 + field.len()
        }
    };
    bytes.extend_from_slice(field);
    bytes.resize(bytes.len() + (unpadded.next_multiple_of(4) - unpadded), 0);
}

/// The rest of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], number: [u8; 4], expected: &'static str) -> Result<Self, KeyMessageError> {
        if bytes.len() > MESSAGE_LEN_MAX {
            return Err(KeyMessageError::TooLong { found: bytes.len() });
        }
        bytes.strip_prefix(&number).map(Self).ok_or(KeyMessageError::Kind { expected })
    }

    fn take(&mut self, field: &'static str) -> Result<&'a [u8], KeyMessageError> {
        let (head_len, len) = match *self.0 {
            [len @ ..254, ..] => (1, usize::from(len)),
            [254, low, middle, high, ..] => {
                (4, usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16)
            }
            _ => return Err(KeyMessageError::CutOff { field }),
        };
        let (whole, rest) = self
            .0
            .split_at_checked((head_len + len).next_multiple_of(4))
            .ok_or(KeyMessageError::CutOff { field })?;
        self.0 = rest;
        Ok(&whole[head_len..][..len])
    }

    fn exactly<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], KeyMessageError> {
        let bytes = self.take(field)?;
        bytes.try_into().map_err(|_length| KeyMessageError::Length { field, found: bytes.len() })
    }

    fn end(self) -> Result<(), KeyMessageError> {
        if self.0.is_empty() { Ok(()) } else { Err(KeyMessageError::Trailing { found: self.0.len() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str) -> KeyRequest {
        let mut report = [5; TdReport::LEN];
        report[..4].copy_from_slice(&[0x81, 0, 1, 0]);
        KeyRequest { report: TdReport::parse(&report).unwrap(), public: [6; 64], name: name.parse().unwrap() }
    }

    #[test]
    fn messages_are_those_of_the_deployed_network() {
        let bytes = request("app").to_bytes();
        let head = [0x1c, 0x82, 0x7a, 0x31, 254, 0, 4, 0, 0x81, 0, 1, 0];
        let tail = [vec![64], vec![6; 64], vec![0; 3], b"\x03app".to_vec()].concat();
        assert_eq!((&bytes[..12], &bytes[4 + 4 + 1024..]), (&head[..], &tail[..]));
        assert_eq!(KeyRequest::parse(&bytes), Ok(request("app")));

        let answer = KeyAnswer { quote: vec![7; 5], wrapped: [8; 96] };
        let bytes = answer.to_bytes();
        let expected =
            [&[0x9a, 0x17, 0x3a, 0x16, 5, 7, 7, 7, 7, 7, 0, 0, 96][..], &[8; 96], &[0; 3]].concat();
        assert_eq!(bytes, expected);
        assert_eq!(KeyAnswer::parse(&bytes), Ok(answer));
    }

    #[test]
    fn fields_of_every_length_come_back() {
        for len in [0, 1, 2, 3, 4, 252, 253, 254, 255, 256, 257, 4_000] {
            let answer = KeyAnswer { quote: vec![9; len], wrapped: [1; 96] };
            assert_eq!(KeyAnswer::parse(&answer.to_bytes()), Ok(answer), "{len}");
        }
        for len in [1, 2, 253, 254, 256] {
            let request = request(&"n".repeat(len));
            assert_eq!(KeyRequest::parse(&request.to_bytes()), Ok(request), "{len}");
        }
    }

    #[test]
    fn what_is_cut_off_or_followed_is_refused() {
        let (request, answer) =
            (request("app").to_bytes(), KeyAnswer { quote: vec![7; 300], wrapped: [8; 96] }.to_bytes());
        for len in 0..request.len() {
            assert!(KeyRequest::parse(&request[..len]).is_err(), "{len}");
        }
        for len in 0..answer.len() {
            assert!(KeyAnswer::parse(&answer[..len]).is_err(), "{len}");
        }
        for message in [&request, &answer] {
            let long = [&message[..], &[0; 4]].concat();
            let refused = [KeyRequest::parse(&long).err(), KeyAnswer::parse(&long).err()];
            assert!(refused.contains(&Some(KeyMessageError::Trailing { found: 4 })), "{refused:?}");
        }
        assert!(matches!(KeyRequest::parse(&answer), Err(KeyMessageError::Kind { .. })));
        assert!(matches!(KeyAnswer::parse(&request), Err(KeyMessageError::Kind { .. })));
        let found = MESSAGE_LEN_MAX + 1;
        assert_eq!(KeyAnswer::parse(&vec![0; found]), Err(KeyMessageError::TooLong { found }));
    }

    #[test]
    fn fields_of_another_length_are_refused() {
        let with = |report: &[u8], public: &[u8], name: &[u8]| {
            let mut bytes = REQUEST.to_vec();
            [report, public, name].iter().for_each(|field| put(&mut bytes, field));
            KeyRequest::parse(&bytes).unwrap_err()
        };
        let whole = request("app");
        let report = whole.report.as_bytes();
        assert_eq!(
            with(&report[1..], &[0; 64], b"app"),
            KeyMessageError::Report(TdReportError::Length { found: 1023 })
        );
        assert_eq!(
            with(report, &[0; 65], b"app"),
            KeyMessageError::Length { field: "public_key", found: 65 }
        );
        for name in [&b""[..], &[b'n'; 257], b"\xff"] {
            assert_eq!(with(report, &[0; 64], name), KeyMessageError::Name { found: name.len() });
        }
        let mut answer = ANSWER.to_vec();
        put(&mut answer, &[1]);
        put(&mut answer, &[1; 95]);
        let refused = KeyMessageError::Length { field: "encrypted_secret", found: 95 };
        assert_eq!(KeyAnswer::parse(&answer), Err(refused));
        assert!("".parse::<KeyName>().is_err() && "n".repeat(257).parse::<KeyName>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            for number in [REQUEST, ANSWER] {
                let message = [&number[..], &bytes].concat();
                let _ = (KeyRequest::parse(&message), KeyAnswer::parse(&message));
            }
        }
    }
}
