//! One request on its way from prompt to the last token.
//!
//! A sequence advances in turns: a piece of the prompt, or one token of the answer. Between turns it belongs
//! to the scheduler, so that many sequences can take turns on few threads, and can be dropped.
//!
//! Types that hold a user's text have no `Debug`, or hold it redacted.

use tokio::sync::mpsc;
use units::{Redacted, TokenCount, Usage};

use crate::load::Loaded;
use crate::model::Memory;
use crate::sampler::{Choice, Sampler, Sampling};
use crate::stream::TextStream;

/// Prompt tokens of one turn: enough to keep the arithmetic busy, few enough that others wait little.
const PROMPT_TURN: usize = 128;

/// What to answer and how.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) prompt: Prompt,
    /// Tokens of the answer, at least 1; `None` is as many as the context holds.
    pub(crate) tokens_max: Option<usize>,
    pub(crate) sampling: Sampling,
    /// None of them empty.
    pub(crate) stop: Vec<String>,
    /// Report probabilities, and this many alternatives with each token.
    pub(crate) alternatives: Option<usize>,
}

/// The text to continue.
#[derive(Debug)]
pub(crate) enum Prompt {
    /// With `add_special`, what the model expects around every text is added.
    Text {
        text: Redacted<String>,
        add_special: bool,
    },
    Tokens(Redacted<Vec<u32>>),
}

/// What a request's receiver is told, in this order: `Started`, any number of `Text`, `Finished`; or
/// `Failed` instead of any of them. A channel that closes before `Finished` or `Failed` is an engine that
/// was stopped.
pub(crate) enum Event {
    Started,
    Text(Delta),
    Finished { reason: FinishReason, usage: Usage },
    Failed(Failure),
}

/// A piece of the answer.
#[derive(Default)]
pub(crate) struct Delta {
    pub(crate) text: String,
    /// The tokens since the piece before, when probabilities were asked for.
    pub(crate) tokens: Vec<TokenReport>,
}

/// A token's bytes and probability, with the alternatives there were.
pub(crate) struct TokenReport {
    pub(crate) chosen: TokenLogprob,
    pub(crate) alternatives: Vec<TokenLogprob>,
}

/// A token's bytes and the natural logarithm of its probability.
pub(crate) struct TokenLogprob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) logprob: f32,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model ended it, or a stop string did.
    Stop,
    /// The request's limit or the context is reached.
    Length,
}

/// Why there is no answer, or no rest of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error(
        "the prompt has {prompt} tokens and the context of this model {context}, of which the answer needs at \
         least one: shorten the prompt"
    )]
    PromptTooLong { prompt: usize, context: usize },
    #[error("token {token} is not in this model's vocabulary of {vocabulary}")]
    UnknownToken { token: u32, vocabulary: usize },
    #[error("the prompt cannot be split into tokens")]
    Encode,
    #[error("the model computed something that is no number: its weights are damaged")]
    NotFinite,
    #[error("the model could not be computed")]
    Compute,
}

/// What a turn left to do.
pub(crate) enum Turn {
    /// The sequence wants another turn.
    Again(Box<Sequence>),
    /// The sequence is over.
    Over(Farewell),
}

/// A sequence's last word, said after its place is free: whoever hears it can have the place.
pub(crate) struct Farewell {
    events: mpsc::Sender<Event>,
    /// `None` if nobody listens any more.
    last: Option<Event>,
}

impl Farewell {
    fn cancelled(events: mpsc::Sender<Event>) -> Turn {
        Turn::Over(Self { events, last: None })
    }

    fn failed(events: mpsc::Sender<Event>, failure: Failure) -> Turn {
        Turn::Over(Self { events, last: Some(Event::Failed(failure)) })
    }

    pub(crate) fn ending(&self) -> Ending {
        match self.last {
            _ if self.events.is_closed() => Ending::Cancelled,
            Some(Event::Finished { .. }) => Ending::Finished,
            Some(_) => Ending::Failed,
            None => Ending::Cancelled,
        }
    }

    pub(crate) fn say(self) {
        if let Some(last) = self.last {
            // There is room for it, and if nobody listens it does not matter.
            let _ = self.events.try_send(last);
        }
    }
}

/// How a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Finished,
    /// Nobody listens any more.
    Cancelled,
    Failed,
}

/// Tokens that went through the model in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) prompt: u64,
    pub(crate) completion: u64,
}

/// A request that has not been looked at.
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Job {
    /// Splits the prompt into tokens and finds out whether it can be answered.
    pub(crate) fn start(self, loaded: &Loaded) -> Turn {
        let Self { request, events } = self;
        if events.is_closed() {
            return Farewell::cancelled(events);
        }
        let tokens = match prompt_tokens(request.prompt, loaded) {
            Ok(tokens) => tokens,
            Err(failure) => return Farewell::failed(events, failure),
        };
        if events.try_send(Event::Started).is_err() {
            return Farewell::cancelled(events);
        }
        let room = loaded.model.shape().context_len - tokens.len();
        Turn::Again(Box::new(Sequence {
            memory: loaded.model.memory(),
            prompt_len: tokens.len(),
            unread: tokens,
            completion_len: 0,
            completion_len_max: request.tokens_max.unwrap_or(room).min(room),
            sampler: Sampler::new(request.sampling, request.alternatives),
            stream: TextStream::new(request.stop),
            reports: Vec::new(),
            events,
        }))
    }
}

/// The prompt's tokens, which leave room for at least one more.
fn prompt_tokens(prompt: Prompt, loaded: &Loaded) -> Result<Vec<u32>, Failure> {
    let tokens = match prompt {
        Prompt::Tokens(tokens) => tokens.into_exposed(),
        Prompt::Text { text, add_special } => {
            // The library's message quotes the text, so it goes nowhere.
            loaded.tokenizer.encode(text.expose(), add_special).map_err(|_quotes_text| Failure::Encode)?
        }
    };
    let (context, vocabulary) = (loaded.model.shape().context_len, loaded.model.shape().vocabulary);
    if tokens.is_empty() {
        return Err(Failure::EmptyPrompt);
    }
    if tokens.len() >= context {
        return Err(Failure::PromptTooLong { prompt: tokens.len(), context });
    }
    match tokens.iter().find(|&&token| token as usize >= vocabulary) {
        Some(&token) => Err(Failure::UnknownToken { token, vocabulary }),
        None => Ok(tokens),
    }
}

/// A request that is being answered.
pub(crate) struct Sequence {
    memory: Memory,
    prompt_len: usize,
    /// Tokens the model has not read: the rest of the prompt, then the token chosen last.
    unread: Vec<u32>,
    completion_len: usize,
    completion_len_max: usize,
    sampler: Sampler,
    stream: TextStream,
    /// Probabilities of tokens whose text has not left.
    reports: Vec<TokenReport>,
    events: mpsc::Sender<Event>,
}

impl Sequence {
    /// Reads a piece of the prompt, or chooses the next token.
    pub(crate) fn advance(mut self: Box<Self>, loaded: &Loaded) -> (Turn, Progress) {
        if self.events.is_closed() {
            return (Farewell::cancelled(self.events), Progress::default());
        }
        let len = self.unread.len().min(PROMPT_TURN);
        let read: Vec<u32> = self.unread.drain(..len).collect();
        let of_prompt = self.prompt_len.saturating_sub(self.memory.positions()).min(len);
        let mut progress = Progress { prompt: of_prompt as u64, completion: 0 };
        let logits = match loaded.model.forward(&read, &mut self.memory) {
            Ok(logits) => logits,
            Err(error) => {
                // Shapes and types only: the tensor library knows no text.
                tracing::error!(%error, "forward pass failed");
                return (Farewell::failed(self.events, Failure::Compute), progress);
            }
        };
        if !self.unread.is_empty() {
            return (Turn::Again(self), progress);
        }
        progress.completion = 1;
        let turn = match self.sampler.choose(logits) {
            Ok(choice) => self.take(choice, loaded),
            Err(_not_finite) => Farewell::failed(self.events, Failure::NotFinite),
        };
        (turn, progress)
    }

    fn take(mut self: Box<Self>, choice: Choice, loaded: &Loaded) -> Turn {
        self.completion_len += 1;
        if loaded.end_tokens.contains(&choice.token) {
            return self.finish(FinishReason::Stop);
        }
        let report = |token: u32, logprob: f32| TokenLogprob {
            bytes: loaded.tokenizer.bytes(token).to_vec(),
            logprob,
        };
        if let Some(logprob) = choice.logprob {
            let alternatives = choice.alternatives.iter().map(|scored| report(scored.token, scored.logprob));
            self.reports.push(TokenReport {
                chosen: report(choice.token, logprob),
                alternatives: alternatives.collect(),
            });
        }
        let released = self.stream.push(loaded.tokenizer.bytes(choice.token));
        if !released.text.is_empty() && !self.send(released.text) {
            return Farewell::cancelled(self.events);
        }
        if released.stopped {
            // What is left to report belongs to the stop string.
            self.reports.clear();
            return self.finish(FinishReason::Stop);
        }
        if self.completion_len == self.completion_len_max {
            return self.finish(FinishReason::Length);
        }
        self.unread.push(choice.token);
        Turn::Again(self)
    }

    fn finish(mut self: Box<Self>, reason: FinishReason) -> Turn {
        let rest = self.stream.finish();
        if !(rest.is_empty() && self.reports.is_empty() || self.send(rest)) {
            return Farewell::cancelled(self.events);
        }
        let usage = Usage {
            prompt: TokenCount::new(self.prompt_len as u64),
            completion: TokenCount::new(self.completion_len as u64),
            ..Usage::default()
        };
        Turn::Over(Farewell { events: self.events, last: Some(Event::Finished { reason, usage }) })
    }

    /// Sends a piece of the answer; false if nobody listens. The channel has room for one event per token of
    /// the context, so only a closed one refuses.
    fn send(&mut self, text: String) -> bool {
        let tokens = std::mem::take(&mut self.reports);
        self.events.try_send(Event::Text(Delta { text, tokens })).is_ok()
    }
}
