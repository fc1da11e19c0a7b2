//! What a request asks of the mock engine. It travels inside the prompt, which no hop may change.

use std::fmt::Write as _;
use std::time::Duration;

/// Begins and ends the part of the prompt that the mock reads.
const MARK: &str = "@bench ";

/// A request and the answer that it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Tokens of a streamed answer; 0 asks for a plain one.
    pub(crate) tokens: u32,
    /// Pause between two tokens.
    pub(crate) gap: Duration,
    /// Pause before the answer.
    pub(crate) first: Duration,
    /// Whether that pause begins only when the mock is told to release whom it holds.
    pub(crate) is_held: bool,
    /// Bytes of a token beside its number and time.
    pub(crate) padding: u32,
    /// Name under which the mock remembers when the caller went away; 0 is no name.
    pub(crate) id: u64,
    /// Bytes of the prompt, at least.
    pub(crate) prompt_len: usize,
}

impl Ask {
    /// A request of a few words with an answer of a few words.
    pub(crate) const TINY: Self = Self {
        tokens: 0,
        gap: Duration::ZERO,
        first: Duration::ZERO,
        is_held: false,
        padding: 0,
        id: 0,
        prompt_len: 0,
    };

    /// A streamed answer of `tokens` tokens as fast as they can be written.
    pub(crate) const fn stream(tokens: u32) -> Self {
        Self { tokens, ..Self::TINY }
    }

    /// The request's body.
    pub(crate) fn body(&self, model: &str) -> Vec<u8> {
        let mut prompt = format!(
            "{MARK}{} {} {} {} {} {} ",
            self.tokens,
            self.gap.as_micros(),
            self.first.as_micros(),
            u8::from(self.is_held),
            self.padding,
            self.id
        );
        // Text as people write it: words, and a line break, which JSON escapes, every eighty bytes.
        while prompt.len() < self.prompt_len {
            prompt.push_str(
                "the quick brown fox jumps over the lazy dog and then it rests for a little while\\n",
            );
        }
        let mut body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{prompt}"}}]"#);
        if self.tokens > 0 {
            body.push_str(r#","stream":true,"stream_options":{"include_usage":true}"#);
        }
        let _infallible = write!(body, r#","max_tokens":{}}}"#, self.tokens.max(16));
        body.into_bytes()
    }

    /// What the body of a request asks for; `None` if it is not one of ours.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let start = memchr::memmem::find(body, MARK.as_bytes())? + MARK.len();
        let text = std::str::from_utf8(&body[start..body.len().min(start + 120)]).ok()?;
        let mut numbers = text.split(' ').map_while(|word| word.parse::<u64>().ok());
        let mut next = || numbers.next();
        Some(Self {
            tokens: u32::try_from(next()?).ok()?,
            gap: Duration::from_micros(next()?),
            first: Duration::from_micros(next()?),
            is_held: next()? != 0,
            padding: u32::try_from(next()?).ok()?,
            id: next()?,
            prompt_len: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mock_reads_what_was_asked_and_nothing_from_other_prompts() {
        let ask = Ask {
            tokens: 64,
            gap: Duration::from_millis(20),
            first: Duration::from_micros(7),
            is_held: true,
            padding: 100,
            id: 9,
            prompt_len: 100_000,
        };
        let body = ask.body("bench");
        assert!(body.len() > 100_000);
        assert_eq!(Ask::read(&body), Some(Ask { prompt_len: 0, ..ask }));
        assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        assert_eq!(Ask::read(&Ask::TINY.body("bench")), Some(Ask::TINY));
        assert_eq!(Ask::read(br#"{"messages":[]}"#), None);
        assert_eq!(Ask::read(b"@bench 1 2 three"), None);
    }
}
