//! The worker's own check of a request that a proxy handed it.

use std::borrow::Cow;

use bytes::Bytes;
use units::TokenCount;

use crate::json::{self, Edit};
use crate::request::{Fields, Route, invalid, missing_model};
use crate::{ApiError, ErrorKind};

/// A request that a worker may hand to its engine.
#[derive(Clone)]
pub struct WorkerRequest {
    /// Where the engine gets it.
    pub route: Route,
    /// What the engine gets. Debug output of this type leaves it out.
    pub body: Bytes,
    /// Whether the engine will answer with server-sent events.
    pub stream: bool,
    /// Whether the application itself asked for the usage event. The deployed network always has the engine
    /// send it and always passes it on, so that an application sees it either way.
    pub usage_asked: bool,
    /// How many answers are generated.
    pub choices: u32,
    /// Most tokens the body lets the engine generate, over all choices; `None` when it sets no limit.
    pub tokens_max: Option<TokenCount>,
}

impl std::fmt::Debug for WorkerRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerRequest").field("route", &self.route).field("stream", &self.stream).finish()
    }
}

/// Checks a received request against `served`, the base name of the worker's model, and prepares it for the
/// engine.
///
/// Only what the network depends on is checked; every other member is the engine's to judge, and its refusal
/// goes back as it is. As on the deployed network, `stream_options` without `stream` asks for a stream, and a
/// stream always reports its usage, because that is what is paid for.
///
/// # Errors
/// [`ErrorKind::MethodNotAllowed`], [`ErrorKind::UnsupportedRoute`] (a query string is another path),
/// [`ErrorKind::InvalidJson`], [`ErrorKind::MissingModel`], [`ErrorKind::ModelMismatch`], or
/// [`ErrorKind::InvalidParameter`] naming the member.
pub fn worker_request(
    method: &[u8],
    url: &[u8],
    body: Bytes,
    served: &str,
) -> Result<WorkerRequest, ApiError> {
    let path = std::str::from_utf8(url).ok();
    let route = path
        .and_then(Route::from_path)
        .ok_or_else(|| ApiError::new(ErrorKind::UnsupportedRoute, "unsupported method: no such path"))?;
    if method != b"POST" {
        return Err(ApiError::new(ErrorKind::MethodNotAllowed, "only POST is supported on this path"));
    }
    let members = json::members(&body)?;
    let fields = Fields { text: &body, members: &members };
    let model: String =
        fields.read("model", "a string")?.ok_or_else(|| missing_model("the body names no \"model\""))?;
    if model != served {
        return Err(ApiError::new(ErrorKind::ModelMismatch, "model name mismatch"));
    }
    let per_choice = match route {
        Route::ChatCompletions => fields.count("max_completion_tokens")?,
        Route::Completions => None,
    };
    let per_choice = per_choice.or(fields.count("max_tokens")?);
    let choices = fields.choices(route)?;
    let tokens_max = per_choice.map(|limit| TokenCount::new(u64::from(limit) * u64::from(choices)));

    let asked_to_stream: Option<bool> = fields.read("stream", "a boolean")?;
    let options = fields.raw("stream_options").filter(|text| *text != b"null");
    let stream = asked_to_stream.unwrap_or(options.is_some());
    let (options, usage_asked) = match options {
        _ if !stream => (None, false),
        None => (Some("{\"include_usage\":true}".to_owned()), false),
        Some(text) => with_usage(text)?,
    };
    let edit = |member: &json::Member<Cow<'_, str>>| match (&*member.key, &options) {
        ("stream_options", Some(options)) => Edit::Replace(options.clone()),
        ("stream", _) if stream && asked_to_stream.is_none() => Edit::Replace("true".to_owned()),
        _ => Edit::Keep,
    };
    let mut added = Vec::new();
    if stream && fields.raw("stream").is_none() {
        added.push(("stream", "true".to_owned()));
    }
    if let (Some(options), None) = (&options, fields.raw("stream_options")) {
        added.push(("stream_options", options.clone()));
    }
    let body = json::splice(body.clone(), &members, edit, &added);
    Ok(WorkerRequest { route, body, stream, usage_asked, choices, tokens_max })
}

/// The text of `stream_options` with `include_usage` forced, if that changes it, and whether it was set.
fn with_usage(text: &[u8]) -> Result<(Option<String>, bool), ApiError> {
    let options = Bytes::copy_from_slice(text);
    if !options.starts_with(b"{") {
        return Err(invalid("stream_options", "must be an object"));
    }
    let members = json::members(&options)?;
    let fields = Fields { text: &options, members: &members };
    if fields.read("include_usage", "a boolean")? == Some(true) {
        return Ok((None, true));
    }
    let edit = |member: &json::Member<Cow<'_, str>>| match &*member.key {
        "include_usage" => Edit::Replace("true".to_owned()),
        _ => Edit::Keep,
    };
    let added = match fields.raw("include_usage") {
        Some(_) => vec![],
        None => vec![("include_usage", "true".to_owned())],
    };
    let forced = json::splice(options.clone(), &members, edit, &added);
    Ok((Some(String::from_utf8_lossy(&forced).into_owned()), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, body: &'static str) -> Result<WorkerRequest, ApiError> {
        worker_request(b"POST", url.as_bytes(), Bytes::from_static(body.as_bytes()), "m")
    }

    fn chat(body: &'static str) -> WorkerRequest {
        check("/v1/chat/completions", body).unwrap()
    }

    #[test]
    fn all_legal_members_pass_untouched() {
        let text = r#"{"model":"m","messages":[],"tools":[{}],"tool_choice":"none","logprobs":true,"top_logprobs":3,
            "seed":7,"response_format":{"type":"json_object"},"logit_bias":{},"user":"u","temperature":0.70}"#;
        let request = chat(text);
        assert_eq!(request.body, text);
        assert!(!request.stream && request.tokens_max.is_none());
    }

    #[test]
    fn a_stream_always_reports_usage() {
        let forced = chat(r#"{"model":"m","stream":true}"#);
        assert_eq!(forced.body, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
        assert!(forced.stream && !forced.usage_asked);

        let kept = chat(r#"{"model":"m","stream":true,"stream_options":{"include_usage":true} }"#);
        assert_eq!(kept.body, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true} }"#);
        assert!(kept.usage_asked);

        let off = chat(
            r#"{"stream_options":{"include_usage":false,"include_obfuscation":true},"stream":true,"model":"m"}"#,
        );
        let expected = r#"{"stream_options":{"include_usage":true,"include_obfuscation":true},"stream":true,"model":"m"}"#;
        assert_eq!(off.body, expected);
        assert!(!off.usage_asked);

        let null = chat(r#"{"model":"m","stream":true,"stream_options":null}"#);
        assert_eq!(null.body, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
        let empty = chat(r#"{"model":"m","stream":true,"stream_options":{}}"#);
        assert_eq!(empty.body, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
    }

    #[test]
    fn stream_options_alone_ask_for_a_stream() {
        let request = chat(r#"{"model":"m","stream_options":{"include_usage":true}}"#);
        assert_eq!(request.body, r#"{"model":"m","stream_options":{"include_usage":true},"stream":true}"#);
        let request = chat(r#"{"model":"m","stream":null,"stream_options":{"include_usage":true}}"#);
        assert_eq!(request.body, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
        let refused_stream = chat(r#"{"model":"m","stream":false,"stream_options":{"include_usage":true}}"#);
        assert!(!refused_stream.stream, "an explicit refusal is the engine's to judge");
    }

    #[test]
    fn limits_count_over_all_choices() {
        let limit = |body| chat(body).tokens_max.map(TokenCount::get);
        assert_eq!(limit(r#"{"model":"m","max_tokens":5,"n":3}"#), Some(15));
        assert_eq!(limit(r#"{"model":"m","max_tokens":5,"max_completion_tokens":7}"#), Some(7));
        let best_of = check("/v1/completions", r#"{"model":"m","max_tokens":5,"n":2,"best_of":4}"#).unwrap();
        assert_eq!(best_of.tokens_max.map(TokenCount::get), Some(20));
        let prompts = check("/v1/completions", r#"{"model":"m","max_tokens":5,"prompt":["a","b"]}"#).unwrap();
        assert_eq!(prompts.tokens_max.map(TokenCount::get), Some(10));
    }

    #[test]
    fn what_is_not_for_this_worker_is_refused() {
        let kind = |url: &str, body| check(url, body).unwrap_err().kind();
        let ok = r#"{"model":"m"}"#;
        assert!(check("/v1/completions", ok).is_ok());
        assert_eq!(kind("/v1/completions?a=b", ok), ErrorKind::UnsupportedRoute);
        assert_eq!(kind("/v1/embeddings", ok), ErrorKind::UnsupportedRoute);
        assert_eq!(kind("/v1/completions", r#"{"model":"other"}"#), ErrorKind::ModelMismatch);
        assert_eq!(kind("/v1/completions", r#"{}"#), ErrorKind::MissingModel);
        assert_eq!(kind("/v1/completions", "[]"), ErrorKind::InvalidJson);
        assert_eq!(kind("/v1/completions", r#"{"model":"m","stream":1}"#), ErrorKind::InvalidParameter);
        assert_eq!(
            kind("/v1/completions", r#"{"model":"m","stream":true,"stream_options":[]}"#),
            ErrorKind::InvalidParameter
        );
        let get = worker_request(b"GET", b"/v1/completions", Bytes::from_static(ok.as_bytes()), "m");
        assert_eq!(get.unwrap_err().kind(), ErrorKind::MethodNotAllowed);
    }

    #[test]
    fn refusals_travel_as_protocol_violations() {
        let error = check("/v1/completions", r#"{"model":"other"}"#).unwrap_err();
        assert_eq!((error.wire_code(), error.message()), (621, "model name mismatch"));
        let at_client = ApiError::from_wire(621, "worker: invalid http request: model name mismatch");
        assert_eq!(at_client.kind(), ErrorKind::ModelMismatch);
    }
}
