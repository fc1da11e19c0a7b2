//! A walk over JSON text (RFC 8259) that checks every byte and keeps none.
//!
//! Prompts are long strings with an escape here and there, and both ends of every request read them: so all of a request is
//! checked and cut in one walk.

use std::ops::Range;

/// Deepest accepted nesting. Engines that recurse fail somewhere above; schemas of tools stay far below.
pub(super) const DEPTH_MAX: u32 = 128;

/// What is wrong with the text, at the place where the scanner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It is not JSON.
    Malformed,
    /// It nests deeper than [`DEPTH_MAX`].
    TooDeep,
}

/// Objects and arrays that are open, one bit each; set for an object. The outermost one has the highest place.
#[derive(Clone, Copy, Default)]
struct Open {
    depth: u32,
    is_object: u128,
}

impl Open {
    fn push(&mut self, is_object: bool) -> Result<(), Problem> {
        if self.depth + 1 >= DEPTH_MAX {
            return Err(Problem::TooDeep);
        }
        self.depth += 1;
        self.is_object = (self.is_object << 1) | u128::from(is_object);
        Ok(())
    }

    const fn pop(&mut self) {
        self.depth -= 1;
        self.is_object >>= 1;
    }

    const fn is_in_object(&self) -> bool {
        self.is_object & 1 == 1
    }
}

/// A place in a text. Whatever is skipped was valid, given that the text is UTF-8.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The next byte; `None` at the end.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Passes `byte` if it is next. Returns whether it was.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Passes `byte`, which has to be next.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Problem> {
        if self.take(byte) { Ok(()) } else { Err(Problem::Malformed) }
    }

    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes the space that is left, which has to be all.
    pub(super) fn end(&mut self) -> Result<(), Problem> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(Problem::Malformed) }
    }

    /// Passes the colon between a key and its value, with the space around it.
    pub(super) fn colon(&mut self) -> Result<(), Problem> {
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }

    /// Passes the value that begins here.
    pub(super) fn value(&mut self) -> Result<(), Problem> {
        let mut open = Open::default();
        loop {
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    open.push(bracket == b'{')?;
                    self.space();
                    if !self.take(bracket + 2) {
                        self.key_within(open)?;
                        continue;
                    }
                    open.pop();
                }
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                _ => self.number()?,
            }
            if !self.next_value(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Goes on to the next value of what is open, closing what ends here. Returns whether there is one.
    fn next_value(&mut self, open: &mut Open) -> Result<bool, Problem> {
        while open.depth > 0 {
            self.space();
            if self.take(b',') {
                self.space();
                self.key_within(*open)?;
                return Ok(true);
            }
            self.expect(if open.is_in_object() { b'}' } else { b']' })?;
            open.pop();
        }
        Ok(false)
    }

    /// Passes the key and colon in front of a value of an object; an array's values have none.
    fn key_within(&mut self, open: Open) -> Result<(), Problem> {
        if open.is_in_object() {
            self.string()?;
            self.colon()?;
        }
        Ok(())
    }

    /// Passes the string that begins here.
    pub(super) fn string(&mut self) -> Result<(), Problem> {
        self.expect(b'"')?;
        let start = self.at;
        for place in memchr::memchr2_iter(b'"', b'\\', &self.text[start..]).map(|place| start + place) {
            // Otherwise it is what the backslash before it escapes.
            if place >= self.at {
                self.at = place;
                if self.take(b'"') {
                    return self.refuse_control_characters(start..place);
                }
                self.escape()?;
            }
        }
        Err(Problem::Malformed)
    }

    /// They have to be escaped in strings.
    fn refuse_control_characters(&mut self, string: Range<usize>) -> Result<(), Problem> {
        let is_control = |byte: &u8| *byte < b' ';
        let inner = &self.text[string.clone()];
        // All of them without a branch: so the compiler looks at many at once.
        if !inner.iter().fold(false, |found, byte| found | is_control(byte)) {
            return Ok(());
        }
        self.at = string.start + inner.iter().position(is_control).unwrap_or_default();
        Err(Problem::Malformed)
    }

    fn escape(&mut self) -> Result<(), Problem> {
        self.expect(b'\\')?;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.get(self.at + 1..self.at + 5).ok_or(Problem::Malformed)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(Problem::Malformed);
                }
                self.at += 5;
            }
            _ => return Err(Problem::Malformed),
        }
        Ok(())
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Problem> {
        if !self.text[self.at..].starts_with(literal) {
            return Err(Problem::Malformed);
        }
        self.at += literal.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Problem> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    /// Passes one digit or more.
    fn digits(&mut self) -> Result<(), Problem> {
        let len = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += len;
        if len > 0 { Ok(()) } else { Err(Problem::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn scan(text: &str) -> Result<(), Problem> {
        let mut scanner = Scanner::new(text.as_bytes());
        scanner.space();
        scanner.value()?;
        scanner.end()
    }

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<&RawValue>(text).is_ok()
    }

    #[test]
    fn every_rule_has_its_refused_twin() {
        for (accepted, refused) in [
            ("{}", "{]"),
            ("[]", "[}"),
            ("[1,2]", "[1,]"),
            ("[1]", "[,1]"),
            ("{\"a\":1,\"b\":2}", "{\"a\":1,}"),
            ("{\"a\":[]}", "{\"a\":[}]"),
            ("{\"a\" : 1}", "{\"a\" 1}"),
            ("{\"1\":1}", "{1:1}"),
            ("true", "tru"),
            ("null", "nul1"),
            ("0", "01"),
            ("-1", "-"),
            ("1.5", "1."),
            ("0.5", ".5"),
            ("1e+5", "1e+"),
            ("1E5", "1E"),
            ("\"\\u00e9\"", "\"\\u00g9\""),
            ("\"\\/\"", "\"\\x\""),
            ("\"\u{7f}\"", "\"\u{1f}\""),
            ("\"\\\"\"", "\"\\\""),
            (" 1 ", " 1 1"),
        ] {
            assert_eq!((scan(accepted), is_json(accepted)), (Ok(()), true), "{accepted}");
            assert_eq!((scan(refused), is_json(refused)), (Err(Problem::Malformed), false), "{refused}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_kinds_of_brackets_are_told_apart_at_any_depth() {
        let nested = |depth: usize, inner: &str| "[{\"a\":".repeat(depth) + inner + &"}]".repeat(depth);
        assert_eq!(scan(&nested(63, "[0]")), Ok(()));
        assert_eq!(scan(&nested(63, "[[0]]")), Err(Problem::TooDeep));
        assert_eq!(scan(&nested(63, "{]")), Err(Problem::Malformed));
    }

    #[test]
    fn what_is_special_is_found_at_every_place() {
        for len in 0..100 {
            let plain = "p".repeat(len);
            assert_eq!(scan(&format!("\"{plain}\"")), Ok(()));
            assert_eq!(scan(&format!("\"{plain}\\n{plain}\"")), Ok(()));
            for bad in ["\n", "\\", "\\u12", "\u{0}"] {
                assert_eq!(scan(&format!("\"{plain}{bad}\"")), Err(Problem::Malformed), "{len} {bad:?}");
            }
            assert_eq!(scan(&format!("\"{plain}")), Err(Problem::Malformed));
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_parser_on_what_is_nearly_json(
            text in r#"([{}\[\],:0-9eE+.-]|"[a\\u/é]{0,3}"|true|null|"a{0,60}\\n"| |\\u00e9|\t){0,12}"#,
        ) {
            prop_assert_eq!(scan(&text).is_ok(), is_json(&text));
        }

        #[test]
        fn it_agrees_with_the_parser_on_damaged_json(
            value in prop::collection::vec(("[a-z\"\\\\\u{0}-\u{ff}]{0,70}", any::<f64>()), 0..8),
            at: prop::sample::Index,
            byte in 0_u8..128,
        ) {
            let mut text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(scan(&text), Ok(()));
            let at = at.index(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                text.replace_range(at..=at, &char::from(byte).to_string());
            }
            prop_assert_eq!(scan(&text).is_ok(), is_json(&text));
        }
    }
}
