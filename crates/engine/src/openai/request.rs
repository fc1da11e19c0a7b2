//! Request bodies: every member is understood, known to be without effect, or refused by name.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};
use units::Redacted;

use super::refusal::Refusal;
use crate::Engine;
use crate::sampler::Sampling;
use crate::sequence::{Prompt, Request};
use crate::template::ChatTemplate;

/// A prompt with more bytes than this for each token of the context is refused unread: English has four
/// bytes per token, and tokens of long runs of spaces are the only ones that reach this many.
const BYTES_PER_TOKEN_MAX: usize = 64;
/// As in OpenAI's API.
const STOPS_MAX: usize = 4;
/// Longest stop string in bytes: each token is searched for all of them.
const STOP_LEN_MAX: usize = 1024;
/// What OpenAI's `/v1/completions` generates when it is not told.
const COMPLETION_TOKENS_DEFAULT: usize = 16;

/// Which of the two generating endpoints is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    Chat,
    Completion,
}

impl Surface {
    /// The member that holds the prompt.
    pub(super) fn prompt_param(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Completion => "prompt",
        }
    }
}

/// A request that can be generated for.
pub(super) struct Parsed {
    pub(super) request: Request,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

/// Reads a body. `seed` is used if the request has none, `now` is the time since the Unix epoch.
pub(super) fn parse(
    engine: &Engine,
    surface: Surface,
    body: &[u8],
    seed: u64,
    now: Duration,
) -> Result<Parsed, Refusal> {
    let mut members = Members::of(body)?;
    let model = members.text("model")?.ok_or(Refusal::Missing { param: "model" })?;
    if model != engine.model_id().base() {
        return Err(Refusal::UnknownModel { found: model });
    }
    let prompt = match surface {
        Surface::Chat => chat_prompt(engine, &mut members, now)?,
        Surface::Completion => completion_prompt(&mut members)?,
    };
    if let Prompt::Text { text, .. } = &prompt {
        let (len, context) = (text.expose().len(), engine.context_len());
        if len / BYTES_PER_TOKEN_MAX > context {
            return Err(Refusal::PromptBytes { param: surface.prompt_param(), len, context });
        }
    }
    let request = Request {
        prompt,
        tokens_max: tokens_max(&mut members, surface)?,
        alternatives: alternatives(&mut members, surface)?,
        sampling: sampling(engine, &mut members, seed)?,
        stop: stops(&mut members)?,
    };
    let stream = members.flag("stream")?.unwrap_or(false);
    let include_usage = include_usage(&mut members)? && stream;
    members.finish()?;
    Ok(Parsed { request, stream, include_usage })
}

fn sampling(engine: &Engine, members: &mut Members, seed: u64) -> Result<Sampling, Refusal> {
    let makers = engine.loaded.sampling;
    Ok(Sampling {
        temperature: members.number("temperature", 0.0..=2.0)?.or(makers.temperature).unwrap_or(1.0),
        top_p: members.number("top_p", f32::MIN_POSITIVE..=1.0)?.or(makers.top_p).unwrap_or(1.0),
        top_k: members.integer("top_k", 0..=i64::MAX)?.or(makers.top_k).unwrap_or(0),
        presence_penalty: members.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        frequency_penalty: members.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        logit_bias: logit_bias(members)?,
        // Any integer is a seed; negative ones have a bit pattern like all others.
        seed: members.integer::<i64>("seed", i64::MIN..=i64::MAX)?.map_or(seed, i64::cast_unsigned),
    })
}

/// `max_tokens`, or its newer name on the chat surface; the smaller one if both are there.
fn tokens_max(members: &mut Members, surface: Surface) -> Result<Option<usize>, Refusal> {
    let plain = members.integer("max_tokens", 1..=i64::MAX)?;
    match surface {
        Surface::Chat => {
            let newer = members.integer("max_completion_tokens", 1..=i64::MAX)?;
            Ok(plain.into_iter().chain(newer).min())
        }
        Surface::Completion => Ok(Some(plain.unwrap_or(COMPLETION_TOKENS_DEFAULT))),
    }
}

/// How many alternatives to report with each token, or `None` for no probabilities.
fn alternatives(members: &mut Members, surface: Surface) -> Result<Option<usize>, Refusal> {
    if surface == Surface::Completion {
        return members.integer("logprobs", 0..=5);
    }
    let wanted = members.flag("logprobs")?.unwrap_or(false);
    let count = members.integer("top_logprobs", 0..=20)?;
    match (wanted, count) {
        (true, count) => Ok(Some(count.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(invalid("top_logprobs", "absent unless \"logprobs\" is true")),
    }
}

fn logit_bias(members: &mut Members) -> Result<Vec<(u32, f32)>, Refusal> {
    const PARAM: &str = "logit_bias";
    let entry = |(token, bias): (String, Value)| -> Result<(u32, f32), Refusal> {
        let token = token.parse().ok();
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        token
            .zip(bias.map(narrow))
            .ok_or_else(|| invalid(PARAM, "an object from token numbers to numbers from -100 to 100"))
    };
    members.object(PARAM)?.unwrap_or_default().into_iter().map(entry).collect()
}

fn stops(members: &mut Members) -> Result<Vec<String>, Refusal> {
    let refused =
        || invalid("stop", format!("a string or up to {STOPS_MAX} strings of 1 to {STOP_LEN_MAX} bytes"));
    let stops = match members.take("stop") {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(stops) => serde_json::from_value(stops).map_err(|_not_strings| refused())?,
    };
    let fits = |stop: &String| (1..=STOP_LEN_MAX).contains(&stop.len());
    if stops.len() > STOPS_MAX || !stops.iter().all(fits) { Err(refused()) } else { Ok(stops) }
}

fn include_usage(members: &mut Members) -> Result<bool, Refusal> {
    let mut options =
        Members { values: members.object("stream_options")?.unwrap_or_default(), path: "stream_options." };
    let include_usage = options.flag("include_usage")?.unwrap_or(false);
    options.finish()?;
    Ok(include_usage)
}

fn completion_prompt(members: &mut Members) -> Result<Prompt, Refusal> {
    let refused = || invalid("prompt", "a string, an array with one string, or one array of tokens");
    let mut value = members.take("prompt").ok_or(Refusal::Missing { param: "prompt" })?;
    if let Value::Array(items) = &mut value
        && matches!(items.as_slice(), [Value::String(_) | Value::Array(_)])
    {
        value = items.remove(0);
    }
    match value {
        Value::String(text) => Ok(Prompt::Text { text: Redacted::new(text), add_special: true }),
        tokens @ Value::Array(_) => {
            let tokens = serde_json::from_value(tokens).map_err(|_not_tokens| refused())?;
            Ok(Prompt::Tokens(Redacted::new(tokens)))
        }
        _ => Err(refused()),
    }
}

fn chat_prompt(engine: &Engine, members: &mut Members, now: Duration) -> Result<Prompt, Refusal> {
    let messages = match members.take("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        Some(_) => return Err(invalid("messages", "an array of at least one message")),
        None => return Err(Refusal::Missing { param: "messages" }),
    };
    let messages = messages.into_iter().map(message).collect::<Result<Vec<_>, _>>()?;
    let arguments = members.object("chat_template_kwargs")?.unwrap_or_default();
    if let Some(name) = arguments.keys().find(|name| !ChatTemplate::may_set(name)) {
        return Err(Refusal::Unsupported { param: format!("chat_template_kwargs.{name}"), only: None });
    }
    let template = &engine.loaded.template;
    let text = template.render(&messages, &arguments, now)?;
    Ok(Prompt::Text { text: Redacted::new(text), add_special: template.wants_special })
}

/// A message as templates expect it: a role, and content that is one string.
fn message(value: Value) -> Result<Map<String, Value>, Refusal> {
    let Value::Object(values) = value else {
        return Err(invalid("messages", "an array of objects"));
    };
    let mut members = Members { values, path: "messages." };
    let role = members.text("role")?.ok_or(Refusal::Missing { param: "messages.role" })?;
    let role = match role.as_str() {
        "system" | "user" | "assistant" => role,
        // The newer name; models were trained on the older one.
        "developer" => "system".to_owned(),
        _ => {
            let only = Some("the roles system, developer, user and assistant");
            return Err(Refusal::Unsupported { param: "messages.role".to_owned(), only });
        }
    };
    let content = match members.take("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => joined(parts)?,
        Some(_) => return Err(invalid("messages.content", "a string or an array of parts")),
        None => return Err(Refusal::Missing { param: "messages.content" }),
    };
    let mut message =
        Map::from_iter([("role".to_owned(), role.into()), ("content".to_owned(), content.into())]);
    for optional in ["name", "reasoning_content"] {
        message.extend(members.text(optional)?.map(|text| (optional.to_owned(), text.into())));
    }
    members.finish()?;
    Ok(message)
}

/// The texts of content parts, a line each.
fn joined(parts: Vec<Value>) -> Result<String, Refusal> {
    let text = |part: Value| {
        let Value::Object(values) = part else {
            return Err(invalid("messages.content", "a string or an array of parts"));
        };
        let mut members = Members { values, path: "messages.content." };
        if members.text("type")?.as_deref() != Some("text") {
            let only = Some("parts of the type \"text\"");
            return Err(Refusal::Unsupported { param: "messages.content".to_owned(), only });
        }
        let text = members.text("text")?.ok_or(Refusal::Missing { param: "messages.content.text" })?;
        members.finish()?;
        Ok(text)
    };
    Ok(parts.into_iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// The members of an object, each taken once; what nobody takes is refused by [`Members::finish`].
/// `null` is the same as absent, as in OpenAI's API.
struct Members {
    values: Map<String, Value>,
    /// What stands before a member's name in messages: where the object is.
    path: &'static str,
}

impl Members {
    fn of(body: &[u8]) -> Result<Self, Refusal> {
        // Only the place: the library's message may quote the body.
        let not_json = |e: serde_json::Error| Refusal::NotJson { line: e.line(), column: e.column() };
        Ok(Self { values: serde_json::from_slice(body).map_err(not_json)?, path: "" })
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name).filter(|value| !value.is_null())
    }

    fn invalid(&self, name: &str, expected: impl Into<String>) -> Refusal {
        invalid(&format!("{}{name}", self.path), expected)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.invalid(name, "a string")),
        }
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        self.take(name)
            .map(|value| value.as_bool().ok_or_else(|| self.invalid(name, "a boolean")))
            .transpose()
    }

    fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(values)) => Ok(Some(values)),
            Some(_) => Err(self.invalid(name, "an object")),
        }
    }

    fn number(&mut self, name: &str, range: RangeInclusive<f32>) -> Result<Option<f32>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().map(narrow).filter(|number| range.contains(number));
        let (low, high) = (range.start(), range.end());
        let expected = if *low == f32::MIN_POSITIVE {
            format!("a number above 0 and at most {high}")
        } else {
            format!("a number from {low} to {high}")
        };
        number.map(Some).ok_or_else(|| self.invalid(name, expected))
    }

    fn integer<T: TryFrom<i64>>(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let integer =
            value.as_i64().filter(|integer| range.contains(integer)).and_then(|i| T::try_from(i).ok());
        let expected = match (*range.start(), *range.end()) {
            (i64::MIN, i64::MAX) => "an integer".to_owned(),
            (low, i64::MAX) => format!("an integer of at least {low}"),
            (low, high) => format!("an integer from {low} to {high}"),
        };
        integer.map(Some).ok_or_else(|| self.invalid(name, expected))
    }

    /// Refuses what is left, unless it asks for what happens anyway.
    fn finish(self) -> Result<(), Refusal> {
        let left = self.values.iter().find(|(name, value)| !is_without_effect(name, value));
        let Some((name, _)) = left else { return Ok(()) };
        Err(Refusal::Unsupported { param: format!("{}{name}", self.path), only: without_effect_hint(name) })
    }
}

/// Whether a member asks for nothing this engine would do differently without it.
fn is_without_effect(name: &str, value: &Value) -> bool {
    let text = value.as_str();
    match name {
        _ if value.is_null() => true,
        // For the operator's records and caches.
        "user" | "safety_identifier" | "prompt_cache_key" | "prompt_cache_retention" => text.is_some(),
        "metadata" => value.is_object(),
        "store" | "echo" | "include_obfuscation" => *value == Value::Bool(false),
        "service_tier" => matches!(text, Some("auto" | "default")),
        "n" | "best_of" => value.as_i64() == Some(1),
        // Without tools nothing can be called.
        "tools" | "functions" | "tool_calls" | "annotations" => value.as_array().is_some_and(Vec::is_empty),
        "tool_choice" | "function_call" => matches!(text, Some("none" | "auto")),
        "parallel_tool_calls" => value.is_boolean(),
        "response_format" => value
            .as_object()
            .is_some_and(|f| f.len() == 1 && f.get("type").and_then(Value::as_str) == Some("text")),
        "modalities" => {
            matches!(value.as_array().map(Vec::as_slice), Some([Value::String(only)]) if only == "text")
        }
        "reasoning_effort" => text == Some("none"),
        "verbosity" => text == Some("medium"),
        _ => false,
    }
}

/// Which values of a refused member would have been accepted, where that helps.
fn without_effect_hint(name: &str) -> Option<&'static str> {
    Some(match name {
        "n" | "best_of" => "the value 1",
        "store" | "echo" | "include_obfuscation" => "the value false",
        "service_tier" => "the values \"auto\" and \"default\"",
        "response_format" => "the type \"text\"",
        "modalities" => "[\"text\"]",
        _ => return None,
    })
}

fn invalid(param: &str, expected: impl Into<String>) -> Refusal {
    Refusal::Invalid { param: param.to_owned(), expected: expected.into() }
}

#[expect(clippy::cast_possible_truncation, reason = "f32 is the precision of logits")]
fn narrow(number: f64) -> f32 {
    number as f32
}
