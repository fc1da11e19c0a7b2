//! The end of a stream that a worker cuts.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use units::{RequestId, Usage};

use crate::Route;

/// What a stream that is cut at its token limit had, for its last events.
#[derive(Clone, Copy, Debug)]
pub struct Closing<'a> {
    /// Decides the kind of chunks.
    pub route: Route,
    /// The model's base name.
    pub model: &'a str,
    /// The request's id; makes the id of the chunks.
    pub request_id: RequestId,
    /// Since 1970.
    pub created: Duration,
    /// How many choices the request asked for.
    pub choices: u32,
    /// What was delivered.
    pub usage: Usage,
}

/// Most choices that are closed one by one; no engine runs more.
const CHOICES_MAX: u32 = 128;

impl Closing<'_> {
    /// The last events of the stream: every choice ends with `finish_reason` `length`, then the usage, then `[DONE]`.
    #[must_use]
    pub fn events(&self) -> Bytes {
        let ends: Vec<Value> = (0..self.choices.min(CHOICES_MAX)).map(|index| self.end_of(index)).collect();
        let (prompt, completion) = (self.usage.prompt.get(), self.usage.completion.get());
        let usage = json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt.saturating_add(completion),
            "prompt_tokens_details": { "cached_tokens": self.usage.cached.get() },
            "completion_tokens_details": { "reasoning_tokens": self.usage.reasoning.get() },
        });
        let ends = self.chunk(json!({ "choices": ends }));
        let usage = self.chunk(json!({ "choices": [], "usage": usage }));
        format!("data: {ends}\n\ndata: {usage}\n\ndata: [DONE]\n\n").into()
    }

    fn end_of(&self, index: u32) -> Value {
        match self.route {
            Route::ChatCompletions => json!({ "index": index, "delta": {}, "finish_reason": "length" }),
            Route::Completions => json!({ "index": index, "text": "", "finish_reason": "length" }),
        }
    }

    fn chunk(&self, mut members: Value) -> Value {
        let (prefix, object) = match self.route {
            Route::ChatCompletions => ("chatcmpl", "chat.completion.chunk"),
            Route::Completions => ("cmpl", "text_completion"),
        };
        members["id"] = format!("{prefix}-{}", self.request_id).into();
        members["object"] = object.into();
        members["created"] = self.created.as_secs().into();
        members["model"] = self.model.into();
        members
    }
}

#[cfg(test)]
mod tests {
    use units::TokenCount;

    use super::*;
    use crate::sse::EventReader;

    fn events(route: Route, choices: u32) -> Vec<Value> {
        let count = TokenCount::new;
        let usage = Usage { prompt: count(7), cached: count(2), completion: count(5), reasoning: count(1) };
        let request_id = RequestId::new([1; 32]);
        let created = Duration::from_secs(9);
        let closing = Closing { route, model: "m", request_id, created, choices, usage };
        let mut reader = EventReader::new();
        reader.feed(&closing.events());
        let mut found = Vec::new();
        while let Some(event) = reader.next_event().unwrap() {
            found.push(serde_json::from_slice(&event).unwrap_or(Value::from("[DONE]")));
        }
        found
    }

    #[test]
    fn every_choice_ends_and_the_usage_follows() {
        let found = events(Route::ChatCompletions, 2);
        assert_eq!(found.len(), 3);
        let ends = found[0]["choices"].as_array().unwrap();
        assert_eq!(ends.len(), 2);
        assert_eq!(ends[1], json!({ "index": 1, "delta": {}, "finish_reason": "length" }));
        assert_eq!(found[0]["object"], "chat.completion.chunk");
        assert_eq!((&found[1]["choices"], &found[1]["usage"]["total_tokens"]), (&json!([]), &json!(12)));
        assert_eq!((&found[0]["id"], &found[0]["model"]), (&found[1]["id"], &json!("m")));
        assert_eq!(found[2], "[DONE]");
    }

    #[test]
    fn completions_have_their_own_form_and_choices_are_bounded() {
        let found = events(Route::Completions, u32::MAX);
        assert_eq!(found[0]["choices"].as_array().unwrap().len(), 128);
        assert_eq!(found[0]["choices"][0], json!({ "index": 0, "text": "", "finish_reason": "length" }));
        assert_eq!(found[0]["object"], "text_completion");
    }
}
