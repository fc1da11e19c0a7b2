//! Response bodies.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use units::Usage;

use super::request::Surface;
use crate::Engine;
use crate::sequence::{Delta, FinishReason, TokenLogprob, TokenReport};

/// Answers with the same fingerprint, seed and request are equal.
const FINGERPRINT: &str = concat!("cocoon-engine-", env!("CARGO_PKG_VERSION"));

/// Writes the events or the one body of an answer.
pub(super) struct Writer {
    surface: Surface,
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
    /// Characters of the answer so far, for the completion surface's `text_offset`.
    offset: usize,
}

/// An answer's pieces put together.
#[derive(Default)]
pub(super) struct Collected {
    text: String,
    tokens: Vec<TokenReport>,
}

impl Collected {
    pub(super) fn add(&mut self, delta: Delta) {
        self.text += &delta.text;
        self.tokens.extend(delta.tokens);
    }
}

impl Writer {
    pub(super) fn new(surface: Surface, id: u128, now: Duration, model: &str, include_usage: bool) -> Self {
        let prefix = match surface {
            Surface::Chat => "chatcmpl",
            Surface::Completion => "cmpl",
        };
        Self {
            surface,
            id: format!("{prefix}-{id:032x}"),
            created: now.as_secs(),
            model: model.to_owned(),
            include_usage,
            offset: 0,
        }
    }

    pub(super) fn surface(&self) -> Surface {
        self.surface
    }

    /// The event that says who speaks.
    pub(super) fn opening(&self) -> Option<Bytes> {
        match self.surface {
            Surface::Chat => {
                let delta = ChatDelta { role: Some("assistant"), content: Some("") };
                Some(self.event(&ChatChunkChoice { index: 0, delta, logprobs: None, finish_reason: None }))
            }
            Surface::Completion => None,
        }
    }

    /// A piece of the answer as an event.
    pub(super) fn delta(&mut self, delta: Delta) -> Bytes {
        let Delta { text, tokens } = delta;
        match self.surface {
            Surface::Chat => self.event(&ChatChunkChoice {
                index: 0,
                delta: ChatDelta { role: None, content: Some(&text) },
                logprobs: ChatLogprobs::of(&tokens),
                finish_reason: None,
            }),
            Surface::Completion => {
                let logprobs = TextLogprobs::of(&tokens, &mut self.offset);
                self.event(&TextChoice { index: 0, text: &text, logprobs, finish_reason: None })
            }
        }
    }

    /// The events that end a stream: the reason, the usage if asked for, the end mark.
    pub(super) fn closing(&self, reason: FinishReason, usage: Usage) -> Bytes {
        let finish_reason = Some(reason_name(reason));
        let mut events = match self.surface {
            Surface::Chat => {
                let delta = ChatDelta { role: None, content: None };
                self.event(&ChatChunkChoice { index: 0, delta, logprobs: None, finish_reason })
            }
            Surface::Completion => {
                self.event(&TextChoice { index: 0, text: "", logprobs: None, finish_reason })
            }
        }
        .to_vec();
        if self.include_usage {
            let body = self.body::<TextChoice<'_>>(self.chunk_object(), &[], Some(Some(usage.into())));
            events.extend_from_slice(&as_event(&body));
        }
        events.extend_from_slice(b"data: [DONE]\n\n");
        events.into()
    }

    /// The one body of an answer that is not streamed.
    pub(super) fn whole(mut self, answer: Collected, reason: FinishReason, usage: Usage) -> Bytes {
        let Collected { text, tokens } = answer;
        let usage = Some(Some(usage.into()));
        let finish_reason = Some(reason_name(reason));
        match self.surface {
            Surface::Chat => {
                let message = ChatMessage { role: "assistant", content: &text, refusal: None };
                let logprobs = ChatLogprobs::of(&tokens);
                let choice = ChatChoice { index: 0, message, logprobs, finish_reason };
                to_json(&self.body("chat.completion", &[choice], usage))
            }
            Surface::Completion => {
                let logprobs = TextLogprobs::of(&tokens, &mut self.offset);
                let choice = TextChoice { index: 0, text: &text, logprobs, finish_reason };
                to_json(&self.body("text_completion", &[choice], usage))
            }
        }
    }

    fn chunk_object(&self) -> &'static str {
        match self.surface {
            Surface::Chat => "chat.completion.chunk",
            Surface::Completion => "text_completion",
        }
    }

    fn event<C: Serialize>(&self, choice: &C) -> Bytes {
        // With usage asked for, every other event says that it has none.
        let usage = self.include_usage.then_some(None);
        as_event(&self.body(self.chunk_object(), std::slice::from_ref(choice), usage))
    }

    fn body<'a, C: Serialize>(
        &'a self,
        object: &'static str,
        choices: &'a [C],
        usage: Option<Option<UsageObject>>,
    ) -> Body<'a, C> {
        Body {
            id: &self.id,
            object,
            created: self.created,
            model: &self.model,
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
        }
    }
}

/// The body of `/v1/models`.
pub(super) fn models(engine: &Engine) -> Bytes {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: [ModelObject<'a>; 1],
    }
    to_json(&List { object: "list", data: [ModelObject::of(engine)] })
}

/// The body of `/v1/models/{id}`.
pub(super) fn model(engine: &Engine) -> Bytes {
    to_json(&ModelObject::of(engine))
}

/// Text form of a value of ours.
pub(super) fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("string keys and finite numbers have a JSON form").into()
}

fn as_event(value: &impl Serialize) -> Bytes {
    let mut event = b"data: ".to_vec();
    event.extend_from_slice(&to_json(value));
    event.extend_from_slice(b"\n\n");
    event.into()
}

fn reason_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// A token as text; bytes that are no text by themselves in OpenAI's notation, `bytes:\xf0\x9f`.
fn token_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_part_of_a_character) => bytes.iter().fold("bytes:".to_owned(), |mut text, byte| {
            let written = write!(text, "\\x{byte:02x}");
            debug_assert!(written.is_ok(), "a string takes every character");
            text
        }),
    }
}

#[derive(Serialize)]
struct ModelObject<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    /// vLLM's name for the longest sequence.
    max_model_len: usize,
}

impl<'a> ModelObject<'a> {
    fn of(engine: &'a Engine) -> Self {
        Self {
            id: engine.model_id().base(),
            object: "model",
            created: engine.loaded_at.as_secs(),
            owned_by: "cocoon",
            max_model_len: engine.context_len(),
        }
    }
}

#[derive(Serialize)]
struct Body<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: &'a [C],
    /// Outer `None` leaves the member out, inner `None` writes `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageObject>>,
}

#[derive(Serialize)]
struct ChatChoice<'a> {
    index: u32,
    message: ChatMessage<'a>,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct ChatMessage<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<&'a str>,
}

#[derive(Serialize)]
struct ChatChunkChoice<'a> {
    index: u32,
    delta: ChatDelta<'a>,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct ChatDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Serialize)]
struct TextChoice<'a> {
    index: u32,
    text: &'a str,
    logprobs: Option<TextLogprobs>,
    finish_reason: Option<&'static str>,
}

/// Probabilities on the chat surface.
#[derive(Serialize)]
struct ChatLogprobs {
    content: Vec<ChatToken>,
    refusal: Option<Vec<ChatToken>>,
}

impl ChatLogprobs {
    fn of(tokens: &[TokenReport]) -> Option<Self> {
        let token = |report: &TokenReport| ChatToken {
            chosen: ChatAlternative::of(&report.chosen),
            top_logprobs: report.alternatives.iter().map(ChatAlternative::of).collect(),
        };
        (!tokens.is_empty()).then(|| Self { content: tokens.iter().map(token).collect(), refusal: None })
    }
}

#[derive(Serialize)]
struct ChatToken {
    #[serde(flatten)]
    chosen: ChatAlternative,
    top_logprobs: Vec<ChatAlternative>,
}

#[derive(Serialize)]
struct ChatAlternative {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl ChatAlternative {
    fn of(token: &TokenLogprob) -> Self {
        Self { token: token_text(&token.bytes), logprob: token.logprob, bytes: token.bytes.clone() }
    }
}

/// Probabilities on the completion surface: parallel lists.
#[derive(Default, Serialize)]
struct TextLogprobs {
    text_offset: Vec<usize>,
    token_logprobs: Vec<f32>,
    tokens: Vec<String>,
    top_logprobs: Vec<BTreeMap<String, f32>>,
}

impl TextLogprobs {
    /// `offset` is where the first token begins, in characters; it is moved behind the last.
    fn of(tokens: &[TokenReport], offset: &mut usize) -> Option<Self> {
        if tokens.is_empty() {
            return None;
        }
        let mut logprobs = Self::default();
        for TokenReport { chosen, alternatives } in tokens {
            logprobs.text_offset.push(*offset);
            *offset += String::from_utf8_lossy(&chosen.bytes).chars().count();
            logprobs.token_logprobs.push(chosen.logprob);
            logprobs.tokens.push(token_text(&chosen.bytes));
            let alternatives = alternatives.iter().map(|token| (token_text(&token.bytes), token.logprob));
            logprobs.top_logprobs.push(alternatives.collect());
        }
        Some(logprobs)
    }
}

#[derive(Clone, Copy, Serialize)]
struct UsageObject {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for UsageObject {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt.get(),
            completion_tokens: usage.completion.get(),
            total_tokens: usage.prompt.get() + usage.completion.get(),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached.get() },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning.get() },
        }
    }
}
