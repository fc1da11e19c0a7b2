//! A JSON scanner that keeps no text: it follows the structure byte by byte and picks out what is counted.

use units::{TokenCount, Usage};

use super::repeated::Repeated;

/// Containers remembered by what they are; deeper ones are only counted.
const DEPTH_MAX: usize = 24;
/// Longest key or number that can matter to us.
const TOKEN_LEN_MAX: usize = 32;

/// What a container holds, as far as counting cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The outermost object.
    Root,
    Usage,
    PromptDetails,
    CompletionDetails,
    /// `choices`
    Choices,
    /// One of `choices`.
    Choice,
    /// `delta` or `message` of a choice.
    Turn,
    /// Tool calls or content parts of a turn, at any depth.
    Parts,
    Other,
}

/// The keys that mean something somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// Of an item of an array, or of the outermost value.
    None,
    Usage,
    PromptTokens,
    CompletionTokens,
    PromptDetails,
    CompletionDetails,
    CachedTokens,
    ReasoningTokens,
    /// One of the cost members that a worker adds.
    Cost,
    Choices,
    Turn,
    Text,
    Content,
    Parts,
    Arguments,
    Other,
}

impl Key {
    fn from_bytes(key: &[u8]) -> Self {
        match key {
            b"usage" => Self::Usage,
            b"prompt_tokens" => Self::PromptTokens,
            b"completion_tokens" => Self::CompletionTokens,
            b"prompt_tokens_details" => Self::PromptDetails,
            b"completion_tokens_details" => Self::CompletionDetails,
            b"cached_tokens" => Self::CachedTokens,
            b"reasoning_tokens" => Self::ReasoningTokens,
            b"prompt_total_cost" | b"completion_total_cost" | b"total_cost" => Self::Cost,
            b"choices" => Self::Choices,
            b"delta" | b"message" => Self::Turn,
            b"text" => Self::Text,
            b"content" | b"reasoning_content" | b"reasoning" | b"refusal" => Self::Content,
            b"tool_calls" | b"function_call" => Self::Parts,
            b"arguments" => Self::Arguments,
            _ => Self::Other,
        }
    }
}

/// Where the scanner is inside a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Between tokens.
    None,
    /// A number or literal.
    Scalar,
    /// A string; `escaped` after its backslash.
    String { is_key: bool, is_text: bool, escaped: bool },
}

/// The usage object being read.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    usage: Usage,
    /// A number that is not an unsigned integer: the object does not count.
    is_refused: bool,
    has_costs: bool,
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// The counters of the engine; each only grows.
    pub(super) usage: Usage,
    /// Whether the engine reported any usage.
    pub(super) is_reported: bool,
    /// Complete outermost values.
    pub(super) values: u64,
    /// Choices of outermost values that brought text.
    pub(super) deltas: u64,
    /// Bytes of generated text, as they are written in JSON.
    pub(super) text_len: u64,
}

/// Where in a value the scanner is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    depth: usize,
    places: [(Place, bool); DEPTH_MAX],
    key: Key,
    expects_key: bool,
    token: Token,
}

impl Position {
    /// Before an outermost value.
    const START: Self = Self {
        depth: 0,
        places: [(Place::Other, false); DEPTH_MAX],
        key: Key::None,
        expects_key: false,
        token: Token::None,
    };

    fn is_start(&self) -> bool {
        self.depth == 0 && self.token == Token::None && self.key == Key::None && !self.expects_key
    }

    /// Inside a string of generated text.
    fn is_text(&self) -> bool {
        matches!(self.token, Token::String { is_text: true, .. })
    }
}

/// See the module. Feeding it in one piece or byte by byte gives the same.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    counted: Counted,
    at: Position,
    text: [u8; TOKEN_LEN_MAX],
    text_len: usize,
    pending: Pending,
    choice_has_text: bool,
    repeated: Option<Box<Repeated>>,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            counted: Counted::default(),
            at: Position::START,
            text: [0; TOKEN_LEN_MAX],
            text_len: 0,
            pending: Pending::default(),
            choice_has_text: false,
            repeated: None,
        }
    }

    /// What was counted so far, with text of a choice that has not ended yet.
    pub(super) fn counted(&self) -> Counted {
        let open_choice = u64::from(self.choice_has_text);
        Counted { deltas: self.counted.deltas + open_choice, ..self.counted }
    }

    /// Forgets the value in progress: the next byte starts an outermost value.
    pub(super) fn restart(&mut self) {
        self.end_choice();
        self.at = Position::START;
    }

    /// Reads `bytes`. Calls `on_usage` with the place of the closing brace of each usage object that made a
    /// counter grow and carries no costs yet.
    pub(super) fn feed(&mut self, bytes: &[u8], mut on_usage: impl FnMut(usize, &Usage)) {
        self.read(bytes, 0, &mut on_usage);
    }

    /// As [`Self::feed`], for the data of an event: what it has in common with the event before is not read again.
    pub(super) fn feed_event(&mut self, bytes: &[u8], mut on_usage: impl FnMut(usize, &Usage)) {
        let is_new_value = self.at.is_start() && !self.choice_has_text && !bytes.is_empty();
        let at = if is_new_value { self.skim(bytes, &mut on_usage) } else { 0 };
        self.read(bytes, at, &mut on_usage);
    }

    /// Reads the beginning of an outermost value, or all of it. Returns how much.
    fn skim(&mut self, bytes: &[u8], on_usage: &mut impl FnMut(usize, &Usage)) -> usize {
        let mut repeated = self.repeated.take().unwrap_or_default();
        let mut at = if let Some((len, inside)) = repeated.beginning_of(bytes) {
            self.at = inside;
            len
        } else {
            let before = self.counted;
            let mut at = 0;
            while at < bytes.len() && !self.at.is_text() {
                at = self.step(bytes, at, on_usage);
            }
            let is_countless = self.counted == before && !self.choice_has_text;
            repeated.begins(&bytes[..at], self.at, self.at.is_text() && is_countless);
            at
        };
        while at < bytes.len() && self.at.is_text() {
            at = self.step(bytes, at, on_usage);
        }
        if at < bytes.len() && repeated.is_begun() {
            let rest = &bytes[at..];
            let before = self.counted();
            let ended = Counted { values: before.values.saturating_add(1), ..before };
            if repeated.is_end(rest) {
                self.restart();
                self.counted = ended;
            } else {
                self.read(bytes, at, on_usage);
                let is_ended = self.at.is_start() && !self.choice_has_text && self.counted == ended;
                repeated.ends(rest, is_ended);
            }
            at = bytes.len();
        }
        self.repeated = Some(repeated);
        at
    }

    fn read(&mut self, bytes: &[u8], mut at: usize, on_usage: &mut impl FnMut(usize, &Usage)) {
        while at < bytes.len() {
            at = self.step(bytes, at, on_usage);
        }
    }

    /// Reads one byte, or a run of a string. Returns where to go on.
    fn step(&mut self, bytes: &[u8], at: usize, on_usage: &mut impl FnMut(usize, &Usage)) -> usize {
        match self.at.token {
            Token::String { .. } => return self.string(bytes, at),
            Token::Scalar => match bytes[at] {
                byte @ (b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.') => {
                    self.remember(&[byte])
                }
                _ => {
                    self.end_scalar();
                    return at;
                }
            },
            Token::None => {
                if let Some(usage) = self.structure(bytes[at]) {
                    on_usage(at, &usage);
                }
            }
        }
        at + 1
    }

    /// One byte between tokens. Returns the counters when it closed a usage object that made one grow.
    fn structure(&mut self, byte: u8) -> Option<Usage> {
        match byte {
            b'"' => {
                let is_key = self.at.expects_key;
                let is_text = !is_key && self.is_text();
                self.at.token = Token::String { is_key, is_text, escaped: false };
                self.text_len = 0;
            }
            b'{' | b'[' => self.open(byte == b'{'),
            b'}' | b']' => return self.close(),
            b',' => {
                self.at.key = Key::None;
                self.at.expects_key = self.current().1;
            }
            b' ' | b'\t' | b'\r' | b'\n' | b':' => {}
            _ => {
                self.at.token = Token::Scalar;
                self.text_len = 0;
                self.remember(&[byte]);
            }
        }
        None
    }

    fn open(&mut self, is_object: bool) {
        let place = match (self.current().0, self.at.key) {
            _ if self.at.depth == 0 => {
                if is_object {
                    Place::Root
                } else {
                    Place::Other
                }
            }
            (Place::Root, Key::Usage) if is_object => {
                self.pending = Pending::default();
                Place::Usage
            }
            (Place::Root, Key::Choices) => Place::Choices,
            (Place::Usage, Key::PromptDetails) => Place::PromptDetails,
            (Place::Usage, Key::CompletionDetails) => Place::CompletionDetails,
            (Place::Choices, _) => Place::Choice,
            (Place::Choice, Key::Turn) => Place::Turn,
            (Place::Turn, Key::Parts | Key::Content) | (Place::Parts, _) => Place::Parts,
            _ => Place::Other,
        };
        if let Some(slot) = self.at.places.get_mut(self.at.depth) {
            *slot = (place, is_object);
        }
        self.at.depth = self.at.depth.saturating_add(1);
        self.at.key = Key::None;
        self.at.expects_key = is_object && self.at.depth <= DEPTH_MAX;
    }

    fn close(&mut self) -> Option<Usage> {
        let (place, _) = self.current();
        self.at.depth = self.at.depth.saturating_sub(1);
        self.at.expects_key = false;
        if self.at.depth == 0 {
            self.counted.values = self.counted.values.saturating_add(1);
            self.at.key = Key::None;
        }
        match place {
            Place::Usage => return self.end_usage(),
            Place::Choice => self.end_choice(),
            _ => {}
        }
        None
    }

    fn end_usage(&mut self) -> Option<Usage> {
        if self.pending.is_refused {
            return None;
        }
        let (old, new) = (self.counted.usage, self.pending.usage);
        let grown = Usage {
            prompt: old.prompt.max(new.prompt),
            cached: old.cached.max(new.cached),
            completion: old.completion.max(new.completion),
            reasoning: old.reasoning.max(new.reasoning),
        };
        self.counted.usage = grown;
        self.counted.is_reported = true;
        (grown != old && !self.pending.has_costs).then_some(grown)
    }

    fn end_choice(&mut self) {
        self.counted.deltas = self.counted.deltas.saturating_add(u64::from(self.choice_has_text));
        self.choice_has_text = false;
    }

    /// Reads on inside a string, up to its end or the end of `bytes`.
    fn string(&mut self, bytes: &[u8], at: usize) -> usize {
        let Token::String { is_key, is_text, escaped } = self.at.token else { return at };
        if escaped {
            // Keys with escapes are not ours: they overflow the token buffer on purpose.
            self.text_len = if is_key { TOKEN_LEN_MAX + 1 } else { self.text_len };
            self.count_text(is_text, 1);
            self.at.token = Token::String { is_key, is_text, escaped: false };
            return at + 1;
        }
        let rest = &bytes[at..];
        let run = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        if is_key {
            self.remember(&rest[..run]);
        }
        self.count_text(is_text, run);
        match rest.get(run) {
            None => return bytes.len(),
            Some(b'\\') => self.at.token = Token::String { is_key, is_text, escaped: true },
            Some(_) => {
                self.at.token = Token::None;
                if is_key {
                    self.at.key = self.text.get(..self.text_len).map_or(Key::Other, Key::from_bytes);
                    self.at.expects_key = false;
                    let is_cost = self.at.key == Key::Cost && self.current().0 == Place::Usage;
                    self.pending.has_costs |= is_cost;
                }
            }
        }
        at + run + 1
    }

    fn count_text(&mut self, is_text: bool, len: usize) {
        if is_text && len > 0 {
            self.choice_has_text = true;
            self.counted.text_len = self.counted.text_len.saturating_add(len as u64);
        }
    }

    /// Whether a string value here is generated text.
    fn is_text(&self) -> bool {
        matches!(
            (self.current().0, self.at.key),
            (Place::Choice, Key::Text)
                | (Place::Turn, Key::Content)
                | (Place::Parts, Key::Arguments | Key::Text)
        )
    }

    fn end_scalar(&mut self) {
        self.at.token = Token::None;
        let usage = &mut self.pending.usage;
        let place = match self.at.depth.checked_sub(1).and_then(|top| self.at.places.get(top)) {
            Some((place, _)) => *place,
            None => return,
        };
        let counter = match (place, self.at.key) {
            (Place::Usage, Key::PromptTokens) => &mut usage.prompt,
            (Place::Usage, Key::CompletionTokens) => &mut usage.completion,
            (Place::PromptDetails, Key::CachedTokens) => &mut usage.cached,
            (Place::Usage | Place::CompletionDetails, Key::ReasoningTokens) => &mut usage.reasoning,
            _ => return,
        };
        let text = self.text.get(..self.text_len).and_then(|text| std::str::from_utf8(text).ok());
        match text {
            Some("null") => {}
            // The wire carries counts as signed 64-bit integers.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse::<i64>() {
                Ok(count) => *counter = (*counter).max(TokenCount::new(count.unsigned_abs())),
                Err(_) => self.pending.is_refused = true,
            },
            _ => self.pending.is_refused = true,
        }
    }

    /// Keeps the bytes of a key or number while they fit; a longer one is none of ours.
    fn remember(&mut self, bytes: &[u8]) {
        match self.text.get_mut(self.text_len..self.text_len.saturating_add(bytes.len())) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.text_len += bytes.len();
            }
            None => self.text_len = TOKEN_LEN_MAX + 1,
        }
    }

    /// The innermost container and whether it is an object.
    fn current(&self) -> (Place, bool) {
        let top = self.at.depth.checked_sub(1).and_then(|top| self.at.places.get(top));
        top.copied().unwrap_or((Place::Other, false))
    }
}
