//! Strings as the wire has them.

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;

/// A TL `string`: bytes that are meant as text. The wire does not promise UTF-8, and zero bytes are allowed.
///
/// `Debug` shows the length only: strings of this schema include secrets and parts of users' requests.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TlStr<'a>(&'a [u8]);

impl<'a> TlStr<'a> {
    /// Takes bytes as they are.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes as they are on the wire.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text.
    ///
    /// # Errors
    /// [`Utf8Error`] if the bytes are not UTF-8.
    pub const fn to_str(self) -> Result<&'a str, Utf8Error> {
        str::from_utf8(self.0)
    }

    /// The text, with U+FFFD in place of what is not UTF-8.
    pub fn to_string_lossy(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0)
    }
}

impl<'a> From<&'a str> for TlStr<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl fmt::Debug for TlStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_checked_when_it_is_wanted_as_text() {
        assert_eq!(TlStr::from("köln").to_str(), Ok("köln"));
        let not_utf8 = TlStr::new(b"k\xf6ln");
        assert!(not_utf8.to_str().is_err());
        assert_eq!(not_utf8.to_string_lossy(), "k\u{fffd}ln");
        assert_eq!(not_utf8.as_bytes(), b"k\xf6ln");
    }

    #[test]
    fn debug_shows_the_length_only() {
        assert_eq!(format!("{:?}", TlStr::from("secret")), "<6 bytes>");
    }
}
