//! A wrapper for what must not be printed.

use std::fmt;

/// Holds a prompt, an answer or another text of a user: there is no `Display`, and `Debug` shows nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Hides `value` from every formatter.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for code that must read it. Never pass the result to a log, a metric or an error.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// Takes the value out, under the same rule as [`Self::expose`].
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Stands for bytes in debug output: shows how many there are, never what they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Concealed(usize);

impl Concealed {
    /// What may be shown of `bytes`.
    #[must_use]
    pub const fn new(bytes: &[u8]) -> Self {
        Self(bytes.len())
    }
}

impl fmt::Debug for Concealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concealed_bytes_show_their_number_alone() {
        assert_eq!(format!("{:?}", Concealed::new(b"my secret")), "<9 bytes>");
    }

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let prompt = Redacted::new("my secret".to_owned());
        assert_eq!(format!("{prompt:?}"), "<redacted>");
        assert_eq!(prompt.expose(), "my secret");
    }
}
