//! From the bytes of tokens to text that may be sent.
//!
//! A character can be spread over several tokens and a stop string over several characters of several tokens.
//! What might still become either is held back; everything else leaves at once.

/// Text on its way out.
pub(crate) struct TextStream {
    stops: Vec<String>,
    /// The beginning of a character whose other bytes have not come.
    partial: Vec<u8>,
    /// Text that ends like the beginning of a stop string.
    held: String,
}

/// What may leave after a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    /// Text that no stop string can reach any more.
    pub(crate) text: String,
    /// A stop string is complete: the answer ends before it.
    pub(crate) stopped: bool,
}

impl TextStream {
    /// `stops` must not contain an empty string.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, partial: Vec::new(), held: String::new() }
    }

    /// Adds the bytes of a token.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Released {
        self.decode(bytes);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return Released { text: std::mem::take(&mut self.held), stopped: true };
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - keep);
        Released { text: std::mem::replace(&mut self.held, kept), stopped: false }
    }

    /// What was held back when no more tokens come. An unfinished character is left out: half of one is
    /// nothing a reader could use.
    pub(crate) fn finish(&mut self) -> String {
        self.partial.clear();
        std::mem::take(&mut self.held)
    }

    /// Moves whole characters to `held`. Bytes that can never become a character are replaced by U+FFFD.
    fn decode(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let mut rest = self.partial.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.held.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.held.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    // Without a length the bytes are a beginning: the rest may follow.
                    let Some(invalid) = error.error_len() else { break };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[invalid..];
                }
            }
        }
        self.partial = rest.to_vec();
    }
}

/// Bytes at the end of `text` that are a beginning of `stop`, but not all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|&len| text.as_bytes().ends_with(&stop.as_bytes()[..len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(stops: &[&str]) -> TextStream {
        TextStream::new(stops.iter().map(|&stop| stop.to_owned()).collect())
    }

    fn released(text: &str, stopped: bool) -> Released {
        Released { text: text.to_owned(), stopped }
    }

    #[test]
    fn a_character_leaves_when_its_last_byte_has_come() {
        let mut stream = stream(&[]);
        assert_eq!(stream.push(&[b'a', 0xf0, 0x9f]), released("a", false));
        assert_eq!(stream.push(&[0xa6]), released("", false));
        assert_eq!(stream.push(&[0x8b, b'b']), released("🦋b", false));
        assert_eq!(stream.push(&[0xe2, 0x82]), released("", false));
        assert_eq!(stream.finish(), "", "an unfinished character is left out");
    }

    #[test]
    fn bytes_that_are_no_character_are_replaced_once_known() {
        let mut stream = stream(&[]);
        assert_eq!(stream.push(&[0xff, b'a']), released("\u{fffd}a", false));
        assert_eq!(stream.push(&[0xe2, 0x28]), released("\u{fffd}(", false));
    }

    #[test]
    fn a_stop_string_is_found_across_tokens_and_not_sent() {
        let mut stopping = stream(&["END"]);
        assert_eq!(stopping.push(b"text E"), released("text ", false));
        assert_eq!(stopping.push(b"N"), released("", false));
        assert_eq!(stopping.push(b"D and more"), released("", true));
        let mut passing = stream(&["END"]);
        assert_eq!(passing.push(b"E"), released("", false));
        assert_eq!(passing.push(b"NE"), released("EN", false));
        assert_eq!(passing.push(b"M"), released("EM", false));
        assert_eq!(passing.push(b"EN"), released("", false));
        assert_eq!(passing.finish(), "EN", "a stop string that never ends is text");
    }

    #[test]
    fn the_earliest_of_several_stop_strings_ends_the_text() {
        let mut stream = stream(&["later", "so", "é"]);
        assert_eq!(stream.push("a soé later".as_bytes()), released("a ", true));
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_text_is_the_same(
            text in "[ab🦋é ]{0,40}",
            stops in proptest::collection::vec("[ab🦋é]{1,3}", 0..3),
            cuts in proptest::collection::vec(1_usize..5, 0..160),
        ) {
            let mut stream = TextStream::new(stops.clone());
            let mut sent = String::new();
            let mut rest = text.as_bytes();
            let mut stopped = false;
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                rest = later;
                let released = stream.push(now);
                sent += &released.text;
                if released.stopped {
                    stopped = true;
                    break;
                }
            }
            if !stopped {
                sent += &stream.finish();
            }
            let end = stops.iter().filter_map(|stop| text.find(stop.as_str())).min();
            // Cut differently, a stop string that begins later may be complete earlier; it never ends later.
            let expected = &text[..end.unwrap_or(text.len())];
            prop_assert_eq!(stopped, end.is_some());
            prop_assert!(sent.starts_with(expected));
            if stops.len() <= 1 {
                prop_assert_eq!(sent, expected);
            }
        }
    }
}
