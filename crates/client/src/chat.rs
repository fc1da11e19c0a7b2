//! Chat without JSON: a question in, text, usage and cost out.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::StreamExt as _;
use gateway::sse::EventReader;
use gateway::{ApiError, ErrorKind, RequestBody, Route};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use units::{TokenCount, Usage};

use crate::session::refusal;
use crate::{Answer, Client, Cost};

/// A chat request. Everything the API knows beyond the methods here goes through [`ChatRequest::with`].
#[derive(Clone, Serialize)]
pub struct ChatRequest {
    model: String,
    messages: Vec<ChatMessage>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// One message of a conversation.
#[derive(Clone, Serialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or what else the model knows.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl ChatRequest {
    /// An empty conversation with a model, named by its base name.
    #[must_use]
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into(), messages: Vec::new(), more: Map::new() }
    }

    /// Adds an instruction to the model.
    #[must_use]
    pub fn system(self, content: impl Into<String>) -> Self {
        self.message("system", content)
    }

    /// Adds what the user says.
    #[must_use]
    pub fn user(self, content: impl Into<String>) -> Self {
        self.message("user", content)
    }

    /// Adds what the model said.
    #[must_use]
    pub fn assistant(self, content: impl Into<String>) -> Self {
        self.message("assistant", content)
    }

    /// Limits the answer. Without a limit the client's configured one holds.
    #[must_use]
    pub fn max_tokens(self, limit: u32) -> Self {
        self.with("max_tokens", limit)
    }

    /// Sets any other member of the request, for example `temperature`, `tools` or `max_coefficient`.
    #[must_use]
    pub fn with(mut self, member: impl Into<String>, value: impl Into<Value>) -> Self {
        self.more.insert(member.into(), value.into());
        self
    }

    fn message(mut self, role: &str, content: impl Into<String>) -> Self {
        self.messages.push(ChatMessage { role: role.to_owned(), content: content.into() });
        self
    }

    fn body(&self) -> Result<RequestBody, ApiError> {
        let text = serde_json::to_vec(self).map_err(|_no_json| {
            ApiError::new(ErrorKind::InvalidJson, "the request cannot be written as JSON")
        })?;
        RequestBody::parse(Route::ChatCompletions, text.into())
    }
}

/// A complete chat answer.
#[derive(Clone, Debug)]
pub struct ChatAnswer {
    /// Text of the first choice; empty if the model called tools instead.
    pub text: String,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// Tokens as the engine counted them.
    pub usage: Option<Usage>,
    /// The charge.
    pub cost: Option<Cost>,
    /// The answer as it came.
    pub json: Value,
}

/// A chat answer that is being written.
pub struct ChatStream {
    answer: Answer,
    reader: EventReader,
    waiting: VecDeque<String>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    state: StreamState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamState {
    Open,
    /// `[DONE]` came: the answer is complete, its cost may still be on its way.
    Done,
    Over,
}

impl Client {
    /// Asks for a whole answer.
    ///
    /// # Errors
    /// [`ApiError`] if the request was refused or failed.
    pub async fn chat(&self, request: &ChatRequest) -> Result<ChatAnswer, ApiError> {
        let answer = self.run(&request.body()?).await?;
        let (status, headers) = (answer.status, answer.headers.clone());
        let (body, cost) = answer.collect().await?;
        if !status.is_success() {
            return Err(refused(status, &headers, &body));
        }
        let json: Value = serde_json::from_slice(&body).map_err(|_no_json| no_json())?;
        let choice = &json["choices"][0];
        Ok(ChatAnswer {
            text: choice["message"]["content"].as_str().unwrap_or_default().to_owned(),
            finish_reason: choice["finish_reason"].as_str().map(str::to_owned),
            usage: usage_of(&json),
            cost,
            json,
        })
    }

    /// Asks for an answer piece by piece.
    ///
    /// # Errors
    /// [`ApiError`] if the request was refused or failed before its first piece.
    pub async fn chat_stream(&self, request: &ChatRequest) -> Result<ChatStream, ApiError> {
        let answer = self.run(&request.clone().with("stream", true).body()?).await?;
        if !answer.status.is_success() {
            let (status, headers) = (answer.status, answer.headers.clone());
            let (body, _cost) = answer.collect().await?;
            return Err(refused(status, &headers, &body));
        }
        Ok(ChatStream {
            answer,
            reader: EventReader::new(),
            waiting: VecDeque::new(),
            finish_reason: None,
            usage: None,
            state: StreamState::Open,
        })
    }
}

impl ChatStream {
    /// The next piece of text of the first choice; `None` at the end.
    ///
    /// # Errors
    /// [`ApiError`] if the answer breaks off. Then nothing follows.
    pub async fn next(&mut self) -> Result<Option<String>, ApiError> {
        loop {
            if let Some(text) = self.waiting.pop_front() {
                return Ok(Some(text));
            }
            if self.state == StreamState::Over {
                return Ok(None);
            }
            let outcome = match self.answer.next().await {
                Some(Ok(bytes)) => self.read(&bytes),
                Some(Err(error)) => Err(error),
                None if self.state == StreamState::Open => {
                    Err(ApiError::new(ErrorKind::StreamCut, "the stream ended without its last event"))
                }
                None => {
                    self.state = StreamState::Over;
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                self.state = StreamState::Over;
                return Err(error);
            }
        }
    }

    /// Why the model stopped, once it did.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    /// Tokens as the engine counted them, once it said so.
    #[must_use]
    pub const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The charge, once the stream has ended.
    #[must_use]
    pub const fn cost(&self) -> Option<Cost> {
        self.answer.cost()
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        self.reader.feed(bytes);
        let too_large =
            |error: gateway::sse::EventTooLarge| ApiError::new(ErrorKind::PeerMisbehaved, error.to_string());
        while let Some(event) = self.reader.next_event().map_err(too_large)? {
            if event == "[DONE]" {
                self.state = StreamState::Done;
            } else if self.state == StreamState::Open {
                self.event(&event)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &Bytes) -> Result<(), ApiError> {
        let json: Value = serde_json::from_slice(event).map_err(|_no_json| no_json())?;
        if json.get("error").is_some_and(|error| !error.is_null()) {
            return Err(error_of(&json, StatusCode::BAD_GATEWAY));
        }
        let choice = &json["choices"][0];
        if let Some(text) = choice["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
            self.waiting.push_back(text.to_owned());
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish_reason = Some(reason.to_owned());
        }
        self.usage = usage_of(&json).or(self.usage);
        Ok(())
    }
}

fn usage_of(json: &Value) -> Option<Usage> {
    let usage = json.get("usage").filter(|usage| usage.is_object())?;
    let count = |value: &Value| TokenCount::new(value.as_u64().unwrap_or(0));
    Some(Usage {
        prompt: count(&usage["prompt_tokens"]),
        cached: count(&usage["prompt_tokens_details"]["cached_tokens"]),
        completion: count(&usage["completion_tokens"]),
        reasoning: count(&usage["completion_tokens_details"]["reasoning_tokens"]),
    })
}

fn no_json() -> ApiError {
    ApiError::new(ErrorKind::PeerMisbehaved, "the answer is not JSON")
}

/// The error in an answer that is a refusal: a proxy's, else the engine's.
fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ApiError {
    refusal(headers, body)
        .unwrap_or_else(|| error_of(&serde_json::from_slice(body).unwrap_or_default(), status))
}

fn error_of(json: &Value, status: StatusCode) -> ApiError {
    let error = &json["error"];
    let text = error["message"].as_str().or(error.as_str()).unwrap_or("the engine refused the request");
    ApiError::engine_refused(status, text)
}
