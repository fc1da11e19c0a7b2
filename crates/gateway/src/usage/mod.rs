//! What an answer used, counted while it passes.

mod repeated;
mod scanner;

use bytes::{Bytes, BytesMut};
use units::{NanoTon, TokenCount, Usage};

use scanner::Scanner;

/// Bytes of text that one token stands for where nobody counted tokens: the usual figure for English text.
const BYTES_PER_TOKEN: u64 = 4;

/// Longer than any token of the vocabularies in use.
const BYTES_PER_TOKEN_MAX: u64 = 256;

/// What an answer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeteredUsage {
    /// Counts; cached never exceeds prompt, reasoning never exceeds completion.
    pub usage: Usage,
    /// Whether any of it is our estimate because the engine reported none.
    pub estimated: bool,
}

/// The price of a usage, for the members that a worker adds to the usage object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageCost {
    /// Cached and uncached prompt tokens.
    pub prompt: NanoTon,
    /// Visible and reasoning tokens.
    pub completion: NanoTon,
    /// Both together.
    pub total: NanoTon,
}

/// Meters one answer of an engine: server-sent events, bare JSON values one after another, or one JSON body,
/// cut into pieces in any way.
///
/// It reads every byte once, or compares it with the event before, and keeps no text: memory is bounded for any answer.
/// The counters of `usage` objects at the top level of each value only grow; an object with a number that is not an unsigned integer
/// does not count.
///
/// When the engine reports no usage the counts are estimates and marked so: a completion token per event and
/// choice that brought text (a body of one JSON value instead counts a token for every four bytes of text),
/// at most the limit of the request; prompt tokens as a quarter of the request's bytes. An engine that
/// reports a prompt but no completion, for instance because its stream was cut, keeps its prompt count.
#[derive(Clone, Debug)]
pub struct UsageMeter {
    scanner: Scanner,
    framing: Framing,
    request_len: u64,
    tokens_max: Option<TokenCount>,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    /// Nothing but white space so far.
    Unknown,
    /// JSON values with white space between them.
    Json,
    /// Lines of server-sent events; `between` after an empty line, which ends an event.
    Events { line: Line, after_cr: bool, between: bool },
}

/// Place in a line of server-sent events (WHATWG HTML, section 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` were seen.
    Name(usize),
    /// In the value of `data:`.
    Data,
    /// In a comment or a field that does not matter.
    Skipped,
}

const DATA: &[u8] = b"data:";

impl UsageMeter {
    /// Meters the answer to a request of `request_len` bytes that may generate at most `tokens_max` tokens.
    #[must_use]
    pub fn new(request_len: u64, tokens_max: Option<TokenCount>) -> Self {
        Self { scanner: Scanner::new(), framing: Framing::Unknown, request_len, tokens_max }
    }

    /// Counts the next bytes of the answer, which travel on unchanged.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.scan(chunk, |_, _| {});
    }

    /// Counts the next bytes and returns what to send on in their place: the same bytes, with the members
    /// `prompt_total_cost`, `completion_total_cost` and `total_cost` (nanotons) added to every usage object
    /// that made a counter grow, as the workers of the deployed network do. `price` may decline.
    #[must_use]
    pub fn feed_priced(&mut self, chunk: Bytes, price: impl Fn(&Usage) -> Option<UsageCost>) -> Bytes {
        let mut priced = BytesMut::new();
        let mut copied = 0;
        self.scan(&chunk, |place, usage| {
            if let Some(UsageCost { prompt, completion, total }) = price(&consistent(*usage)) {
                let (prompt, completion, total) = (prompt.get(), completion.get(), total.get());
                let members = format!(
                    ",\"prompt_total_cost\":{prompt},\"completion_total_cost\":{completion},\"total_cost\":{total}"
                );
                priced.extend_from_slice(&chunk[copied..place]);
                priced.extend_from_slice(members.as_bytes());
                copied = place;
            }
        });
        if priced.is_empty() {
            return chunk;
        }
        priced.extend_from_slice(&chunk[copied..]);
        priced.freeze()
    }

    /// What was used up to now.
    #[must_use]
    pub fn current(&self) -> MeteredUsage {
        let counted = self.scanner.counted();
        let mut usage = counted.usage;
        let mut estimated = false;
        if !counted.is_reported {
            usage.prompt = TokenCount::new(self.request_len.div_ceil(BYTES_PER_TOKEN));
            estimated = true;
        }
        if usage.completion == TokenCount::ZERO && counted.deltas > 0 {
            let is_one_body = matches!(self.framing, Framing::Json) && counted.values <= 1;
            let count = if is_one_body { counted.text_len.div_ceil(BYTES_PER_TOKEN) } else { counted.deltas };
            usage.completion =
                TokenCount::new(count).min(self.tokens_max.unwrap_or(TokenCount::new(u64::MAX)));
            estimated = true;
        }
        MeteredUsage { usage: consistent(usage), estimated }
    }

    /// Whether the answer certainly goes beyond the limit of the request: by the engine's own count, or by what came.
    ///
    /// What came is judged with care, so that no honest answer is taken for a long one. Some engines put several tokens
    /// into an event, and some that stand behind others cut text anew, letter by letter: then a token is four bytes, or
    /// a quarter of an event. However it comes, no token is longer than [`BYTES_PER_TOKEN_MAX`].
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        let Some(limit) = self.tokens_max.map(TokenCount::get) else { return false };
        let counted = self.scanner.counted();
        let is_more = |count: u64, per_token: u64| {
            count > limit.saturating_mul(per_token).saturating_add(per_token.saturating_mul(4))
        };
        let has_more_events = matches!(self.framing, Framing::Events { .. }) && counted.deltas > limit;
        counted.usage.completion.get() > limit
            || (has_more_events && is_more(counted.text_len, BYTES_PER_TOKEN))
            || (has_more_events && is_more(counted.deltas, 4))
            || is_more(counted.text_len, BYTES_PER_TOKEN_MAX)
    }

    /// Whether the bytes so far end with a complete server-sent event, so that other events may follow.
    #[must_use]
    pub const fn is_between_events(&self) -> bool {
        matches!(self.framing, Framing::Events { between: true, .. })
    }

    /// What the whole answer used.
    #[must_use]
    pub fn finish(self) -> MeteredUsage {
        self.current()
    }

    fn scan(&mut self, chunk: &[u8], mut on_usage: impl FnMut(usize, &Usage)) {
        let mut at = 0;
        while at < chunk.len() {
            match &mut self.framing {
                Framing::Unknown => match chunk[at] {
                    b' ' | b'\t' | b'\r' | b'\n' => at += 1,
                    b'{' | b'[' => self.framing = Framing::Json,
                    _ => {
                        let line = Line::Name(0);
                        self.framing = Framing::Events { line, after_cr: false, between: true };
                    }
                },
                Framing::Json => {
                    self.scanner.feed(&chunk[at..], |place, usage| on_usage(at + place, usage));
                    return;
                }
                Framing::Events { line, after_cr, between } => {
                    let rest = &chunk[at..];
                    if std::mem::take(after_cr) && rest[0] == b'\n' {
                        at += 1;
                        continue;
                    }
                    let run = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    let is_empty = *line == Line::Name(0) && run == 0;
                    *between = is_empty;
                    let data = line.value_in(&rest[..run]);
                    let offset = at + run - data.len();
                    self.scanner.feed_event(data, |place, usage| on_usage(offset + place, usage));
                    at += run;
                    if let Some(end) = rest.get(run) {
                        // A value may go on in the next data line; an empty line ends the event.
                        match (is_empty, *line == Line::Data) {
                            (true, _) => self.scanner.restart(),
                            (false, true) => self.scanner.feed(b"\n", |_, _| {}),
                            (false, false) => {}
                        }
                        (*line, *after_cr) = (Line::Name(0), *end == b'\r');
                        at += 1;
                    }
                }
            }
        }
    }
}

impl Line {
    /// Reads the next bytes of the line; returns those that belong to the value of `data:`.
    fn value_in<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Line::Name(seen) = *self else {
            return if *self == Line::Data { bytes } else { &[] };
        };
        let expected = &DATA[seen..];
        let shorter = bytes.len().min(expected.len());
        if bytes[..shorter] != expected[..shorter] {
            *self = Line::Skipped;
            return &[];
        }
        *self = if shorter == expected.len() { Line::Data } else { Line::Name(seen + shorter) };
        &bytes[shorter..]
    }
}

/// Bounds the parts by their whole, so that no price of a part is ever negative.
fn consistent(usage: Usage) -> Usage {
    Usage {
        cached: usage.cached.min(usage.prompt),
        reasoning: usage.reasoning.min(usage.completion),
        ..usage
    }
}

#[cfg(test)]
mod tests;
