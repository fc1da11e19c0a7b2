//! Why a request gets no answer, as OpenAI error objects.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::request::Surface;
use crate::scheduler::Busy;
use crate::sequence::Failure;
use crate::template::TemplateError;

/// A request that gets an error object.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the body is not a JSON object: see line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("{param:?} is required")]
    Missing { param: &'static str },
    #[error("{param:?} must be {expected}")]
    Invalid { param: String, expected: String },
    #[error("the embedded engine does not support {param:?}{}", detail(.only))]
    Unsupported { param: String, only: Option<&'static str> },
    #[error("{problem}")]
    Prompt { param: &'static str, problem: Failure },
    #[error("the prompt has {len} bytes, more than a context of {context} tokens can hold: shorten it")]
    PromptBytes { param: &'static str, len: usize, context: usize },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("the model {found:?} does not exist here: ask /v1/models for the one that does")]
    UnknownModel { found: String },
    #[error("nothing answers at {found:?}")]
    UnknownPath { found: String },
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("the engine was stopped before the answer was complete: try again")]
    Stopped,
    #[error("{0}")]
    Engine(Failure),
}

fn detail(only: &Option<&'static str>) -> String {
    only.map_or_else(String::new, |only| format!(", except {only}"))
}

impl Refusal {
    /// What a failure means depends on whether the request or the engine caused it.
    pub(super) fn failed(failure: Failure, surface: Surface) -> Self {
        let param = surface.prompt_param();
        match failure {
            Failure::EmptyPrompt
            | Failure::PromptTooLong { .. }
            | Failure::UnknownToken { .. }
            | Failure::Encode => Self::Prompt { param, problem: failure },
            Failure::NotFinite | Failure::Compute => Self::Engine(failure),
        }
    }

    pub(super) fn status(&self) -> u16 {
        match self {
            Self::UnknownModel { .. } | Self::UnknownPath { .. } => 404,
            Self::Busy(_) | Self::Stopped => 503,
            Self::Engine(_) => 500,
            _ => 400,
        }
    }

    fn kind(&self) -> &'static str {
        if self.status() < 500 { "invalid_request_error" } else { "server_error" }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            Self::NotJson { .. } => Some("invalid_json"),
            Self::Missing { .. } => Some("missing_required_parameter"),
            Self::Invalid { .. } => Some("invalid_value"),
            Self::Unsupported { .. } => Some("unsupported_parameter"),
            Self::Prompt { problem: Failure::PromptTooLong { .. }, .. } | Self::PromptBytes { .. } => {
                Some("context_length_exceeded")
            }
            Self::Prompt { .. } | Self::Template(_) => Some("invalid_prompt"),
            Self::UnknownModel { .. } => Some("model_not_found"),
            Self::UnknownPath { .. } => Some("unknown_url"),
            Self::Busy(_) => Some("engine_overloaded"),
            Self::Stopped => Some("engine_stopped"),
            Self::Engine(_) => Some("engine_failed"),
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::Missing { param } | Self::Prompt { param, .. } | Self::PromptBytes { param, .. } => {
                Some(param)
            }
            Self::Invalid { param, .. } | Self::Unsupported { param, .. } => Some(param),
            Self::Template(_) => Some("messages"),
            Self::UnknownModel { .. } => Some("model"),
            _ => None,
        }
    }

    /// The error object as a body.
    pub(super) fn body(&self) -> Bytes {
        let message = self.to_string();
        let error =
            ErrorObject { message: &message, kind: self.kind(), param: self.param(), code: self.code() };
        super::response::to_json(&ErrorBody { error })
    }

    /// The error object as an event of a stream that has begun.
    pub(super) fn event(&self) -> Bytes {
        let mut event = BytesMut::from(&b"data: "[..]);
        event.put(self.body());
        event.put(&b"\n\n"[..]);
        event.freeze()
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}
