//! A request as the application sent it, and as it travels.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use units::{Coefficient, ModelName};

use crate::json::{self, Edit, Member};
use crate::{ApiError, ErrorKind};

/// The inference routes of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
}

impl Route {
    /// The route behind an exact path; a query string makes it another path.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        [Self::ChatCompletions, Self::Completions].into_iter().find(|route| route.path() == path)
    }

    /// The path of this route.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }
}

/// What the client puts into a request that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestDefaults {
    /// Limit of generated tokens per choice; goes into the body too, so that an answer cut there says so.
    pub max_tokens: u32,
}

/// Members that mean something to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    MaxTokens,
    MaxCompletionTokens,
    /// One of ours: read by the client and not sent on.
    Extra,
    Other,
}

/// Longest accepted `timeout`.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest accepted `request_guid` in bytes.
const REQUEST_GUID_LEN_MAX: usize = 1024;

/// A request body of an application: scanned, checked where the network reads it, otherwise as received.
///
/// Read here are `model`, `stream`, the token limits, the numbers of choices, `prompt_cache_key`, and the network's own
/// members `max_coefficient` (price ceiling in thousandths), `timeout` (seconds), `enable_debug` and `request_guid`,
/// which do not travel. All else is for the engine to judge.
#[derive(Clone)]
pub struct RequestBody {
    text: Bytes,
    members: Vec<Member<Known>>,
    route: Route,
    model: String,
    stream: bool,
    max_tokens: Option<u32>,
    choices: u32,
    max_coefficient: Option<Coefficient>,
    timeout: Option<Duration>,
    enable_debug: bool,
    request_guid: Option<String>,
    affinity_key: Option<Bytes>,
}

impl std::fmt::Debug for RequestBody {
    /// Nothing of the text: it holds a prompt.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (route, model, len) = (&self.route, &self.model, self.text.len());
        f.debug_struct("RequestBody").field("route", route).field("model", model).field("len", &len).finish()
    }
}

impl RequestBody {
    /// Scans `text`, the body of a request to `route`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJson`] if the body is not a JSON object within the limits,
    /// [`ErrorKind::MissingModel`] without `model`, [`ErrorKind::InvalidParameter`] naming the member if one
    /// that the network reads has a wrong type, is out of range or occurs twice.
    pub fn parse(route: Route, text: Bytes) -> Result<Self, ApiError> {
        let members = json::members(&text)?;
        let fields = Fields { text: &text, members: &members };
        let model: String =
            fields.read("model", "a string")?.ok_or_else(|| missing_model("the body names no \"model\""))?;
        if ModelName::new(model.as_str()).is_err() {
            return Err(invalid("model", "must be a name of 1 to 512 bytes without control characters"));
        }
        let completion_limit = match route {
            Route::ChatCompletions => fields.count("max_completion_tokens")?,
            Route::Completions => None,
        };
        let choices = fields.choices(route)?;
        let max_coefficient = match fields.required_type("max_coefficient", "an unsigned integer")? {
            None => None,
            Some(value) => Some(
                Coefficient::new(value)
                    .map_err(|_range| invalid("max_coefficient", "must be from 0 to 999999999"))?,
            ),
        };
        let timeout = match fields.required_type::<f64>("timeout", "a number of seconds")? {
            None => None,
            Some(seconds) => match Duration::try_from_secs_f64(seconds) {
                Ok(timeout) if !timeout.is_zero() && timeout <= TIMEOUT_MAX => Some(timeout),
                _ => return Err(invalid("timeout", "must be above 0 and at most 86400 seconds")),
            },
        };
        let request_guid: Option<String> = fields.required_type("request_guid", "a string")?;
        if request_guid.as_ref().is_some_and(|guid| guid.len() > REQUEST_GUID_LEN_MAX) {
            return Err(invalid("request_guid", "must have at most 1024 bytes"));
        }
        let request = Self {
            route,
            model,
            stream: fields.read("stream", "a boolean")?.unwrap_or(false),
            max_tokens: match completion_limit {
                Some(limit) => Some(limit),
                None => fields.count("max_tokens")?,
            },
            choices,
            max_coefficient,
            timeout,
            enable_debug: fields.required_type("enable_debug", "a boolean")?.unwrap_or(false),
            request_guid,
            affinity_key: fields.raw("prompt_cache_key").filter(is_some_text).map(Bytes::copy_from_slice),
            members: Vec::new(),
            text: Bytes::new(),
        };
        let members = members.into_iter().map(|member| member.with_key(|key| known(&key, route))).collect();
        Ok(Self { text, members, ..request })
    }

    /// The route it was sent to.
    #[must_use]
    pub const fn route(&self) -> Route {
        self.route
    }

    /// The model's base name.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Length as received, in bytes.
    #[must_use]
    pub const fn body_len(&self) -> usize {
        self.text.len()
    }

    /// Whether server-sent events are asked for.
    #[must_use]
    pub const fn stream(&self) -> bool {
        self.stream
    }

    /// The application's price ceiling, if it named one.
    #[must_use]
    pub const fn max_coefficient(&self) -> Option<Coefficient> {
        self.max_coefficient
    }

    /// The application's timeout, if it named one.
    #[must_use]
    pub const fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether times of all stops are asked for.
    #[must_use]
    pub const fn enable_debug(&self) -> bool {
        self.enable_debug
    }

    /// The name under which the client keeps the debug object.
    #[must_use]
    pub fn request_guid(&self) -> Option<&str> {
        self.request_guid.as_deref()
    }

    /// What the application named to say which of its requests should run at one worker, because their prompts begin
    /// alike: the header that it sent, else the JSON text of `prompt_cache_key`.
    #[must_use]
    pub fn affinity_key(&self) -> Option<&[u8]> {
        self.affinity_key.as_deref()
    }

    /// Sets the affinity key, in place of what the body names.
    #[must_use]
    pub fn with_affinity_key(self, key: impl Into<Bytes>) -> Self {
        Self { affinity_key: Some(key.into()), ..self }
    }

    /// Most tokens that may be generated, over all choices: what is reserved for the request.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidParameter`] if the product does not fit the wire's 31 bits.
    pub fn tokens_max(&self, defaults: RequestDefaults) -> Result<u32, ApiError> {
        let per_choice = self.max_tokens.unwrap_or(defaults.max_tokens);
        let total = per_choice.checked_mul(self.choices).filter(|total| i32::try_from(*total).is_ok());
        total.ok_or_else(|| invalid("max_tokens", "times the number of choices must stay below 2147483648"))
    }

    /// Takes the body out as it travels: without the network's own members, with one token limit. It is not copied
    /// where nothing is left out and nobody else holds it. What remains is the request without its text.
    #[must_use]
    pub fn take_for_wire(&mut self, defaults: RequestDefaults) -> Bytes {
        let limit = defaults.max_tokens.to_string();
        let in_completion_tokens = self.max_tokens.is_some()
            && self.members.iter().any(|member| {
                member.key == Known::MaxCompletionTokens && &self.text[member.value.clone()] != b"null"
            });
        let has_limit = self.max_tokens.is_some();
        let edit = |member: &Member<Known>| match member.key {
            Known::Extra => Edit::Remove,
            Known::MaxTokens if in_completion_tokens => Edit::Remove,
            Known::MaxTokens if !has_limit => Edit::Replace(limit.clone()),
            Known::MaxTokens | Known::MaxCompletionTokens | Known::Other => Edit::Keep,
        };
        let has_member = self.members.iter().any(|member| member.key == Known::MaxTokens);
        let added = match has_limit || has_member {
            false => vec![("max_tokens", limit.clone())],
            true => vec![],
        };
        if self.text.is_empty() {
            return Bytes::new();
        }
        json::splice(std::mem::take(&mut self.text), &std::mem::take(&mut self.members), edit, &added)
    }
}

/// Whether a member's JSON text is a string with something in it. Anything else is the engine's to judge.
fn is_some_text(text: &&[u8]) -> bool {
    text.starts_with(b"\"") && text.len() > 2
}

fn known(key: &str, route: Route) -> Known {
    match key {
        "max_tokens" => Known::MaxTokens,
        "max_completion_tokens" if route == Route::ChatCompletions => Known::MaxCompletionTokens,
        "max_coefficient" | "timeout" | "enable_debug" | "request_guid" => Known::Extra,
        _ => Known::Other,
    }
}

/// Typed access to the members of a scanned body, shared with the worker's own check.
pub(crate) struct Fields<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) members: &'a [Member<std::borrow::Cow<'a, str>>],
}

impl Fields<'_> {
    /// The JSON text of a member.
    pub(crate) fn raw(&self, name: &str) -> Option<&[u8]> {
        let member = self.members.iter().find(|member| member.key == name)?;
        Some(&self.text[member.value.clone()])
    }

    /// A member of the OpenAI API, where `null` is the same as absence.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        match self.raw(name) {
            None | Some(b"null") => Ok(None),
            Some(_) => self.required_type(name, expected),
        }
    }

    /// A member that must have its type when it is there.
    fn required_type<T: DeserializeOwned>(
        &self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.raw(name) else { return Ok(None) };
        // The parser's own text is dropped on purpose: it can quote the value.
        serde_json::from_slice(text)
            .map(Some)
            .map_err(|_quotes| invalid(name, &format!("must be {expected}")))
    }

    /// A count of tokens or choices: unsigned and within the wire's 31 bits.
    pub(crate) fn count(&self, name: &'static str) -> Result<Option<u32>, ApiError> {
        let value: Option<u64> = self.read(name, "an unsigned integer")?;
        match value.map(i32::try_from) {
            None => Ok(None),
            Some(Ok(fits)) => Ok(Some(fits.unsigned_abs())),
            Some(Err(_)) => Err(invalid(name, "must be at most 2147483647")),
        }
    }

    /// How many answers are generated: `n`, or `best_of` where it is larger, for each prompt. A completion may
    /// have several prompts in one request, as strings or as lists of token numbers; engines answer each.
    pub(crate) fn choices(&self, route: Route) -> Result<u32, ApiError> {
        let choices = self.count("n")?.unwrap_or(1);
        if choices == 0 {
            return Err(invalid("n", "must be at least 1"));
        }
        let best_of = match route {
            Route::ChatCompletions => None,
            Route::Completions => self.count("best_of")?,
        };
        let prompts = match (route, self.raw("prompt")) {
            (Route::Completions, Some(list @ [b'[', ..])) => match json::first_of_array(list) {
                b'"' | b'[' => json::count_elements(list)?,
                _ => 1,
            },
            _ => 1,
        };
        let per_prompt = choices.max(best_of.unwrap_or(0));
        let total = u32::try_from(prompts).ok().and_then(|prompts| per_prompt.checked_mul(prompts));
        total
            .filter(|total| i32::try_from(*total).is_ok())
            .ok_or_else(|| invalid("n", "times the number of prompts must stay below 2147483648"))
    }
}

pub(crate) fn invalid(name: &str, expectation: &str) -> ApiError {
    ApiError::new(ErrorKind::InvalidParameter, format!("\"{name}\" {expectation}")).with_param(name)
}

pub(crate) fn missing_model(message: &str) -> ApiError {
    ApiError::new(ErrorKind::MissingModel, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: RequestDefaults = RequestDefaults { max_tokens: 4096 };

    fn parse(text: &'static str) -> Result<RequestBody, ApiError> {
        RequestBody::parse(Route::ChatCompletions, Bytes::from_static(text.as_bytes()))
    }

    fn wire(text: &'static str) -> String {
        String::from_utf8(parse(text).unwrap().take_for_wire(DEFAULTS).to_vec()).unwrap()
    }

    #[test]
    fn routes_are_exact_paths() {
        assert_eq!(Route::from_path("/v1/chat/completions"), Some(Route::ChatCompletions));
        assert_eq!(Route::from_path("/v1/completions"), Some(Route::Completions));
        for refused in ["/v1/completions/", "/v1/completions?x=1", "/v1/embeddings", "v1/completions", ""] {
            assert_eq!(Route::from_path(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn a_request_with_all_our_members_is_understood_and_stripped() {
        let text = r#"{"z":1.0, "model":"Qwen/Qwen3-8B","max_coefficient":2500,"timeout":1.5,"stream":true,
            "enable_debug":true,"max_tokens":77,"request_guid":"g-1" }"#;
        let request = parse(text).unwrap();
        assert_eq!(request.model(), "Qwen/Qwen3-8B");
        assert_eq!(request.max_coefficient().map(Coefficient::get), Some(2500));
        assert_eq!(request.timeout(), Some(Duration::from_millis(1500)));
        assert_eq!(
            (request.stream(), request.enable_debug(), request.request_guid()),
            (true, true, Some("g-1"))
        );
        assert_eq!(request.tokens_max(DEFAULTS).unwrap(), 77);
        assert_eq!(wire(text), r#"{"z":1.0, "model":"Qwen/Qwen3-8B","stream":true,"max_tokens":77 }"#);
    }

    #[test]
    fn an_absent_limit_becomes_the_default_in_body_and_envelope() {
        assert_eq!(wire(r#"{"model":"m"}"#), r#"{"model":"m","max_tokens":4096}"#);
        assert_eq!(wire(r#"{"max_tokens":null,"model":"m"}"#), r#"{"max_tokens":4096,"model":"m"}"#);
        assert_eq!(parse(r#"{"model":"m","n":3}"#).unwrap().tokens_max(DEFAULTS).unwrap(), 3 * 4096);
    }

    #[test]
    fn max_completion_tokens_wins_in_chat_only() {
        let both = r#"{"max_tokens":5,"model":"m","max_completion_tokens":9}"#;
        assert_eq!(wire(both), r#"{"model":"m","max_completion_tokens":9}"#);
        assert_eq!(parse(both).unwrap().tokens_max(DEFAULTS).unwrap(), 9);
        let mut plain = RequestBody::parse(Route::Completions, Bytes::from_static(both.as_bytes())).unwrap();
        assert_eq!(plain.tokens_max(DEFAULTS).unwrap(), 5);
        assert_eq!(plain.take_for_wire(DEFAULTS), both);
        let null = r#"{"max_tokens":5,"model":"m","max_completion_tokens":null}"#;
        assert_eq!(wire(null), null);
    }

    #[test]
    fn a_body_is_copied_only_to_leave_something_out_or_because_it_is_shared() {
        let taken = |text: &Bytes| {
            let mut request = RequestBody::parse(Route::ChatCompletions, text.clone()).unwrap();
            request.take_for_wire(DEFAULTS)
        };
        let whole = Bytes::from_static(br#"{"model":"m","max_tokens":1}"#);
        assert_eq!(taken(&whole).as_ptr(), whole.as_ptr());

        let text = br#"{"model":"m","messages":[] } "#;
        let mut alone = Vec::with_capacity(text.len() + 64);
        alone.extend_from_slice(text);
        let pointer = alone.as_ptr();
        let mut request = RequestBody::parse(Route::ChatCompletions, alone.into()).unwrap();
        let body = request.take_for_wire(DEFAULTS);
        assert_eq!(
            (&body[..], body.as_ptr()),
            (&br#"{"model":"m","messages":[],"max_tokens":4096 } "#[..], pointer)
        );
        assert_eq!(request.take_for_wire(DEFAULTS), "", "it is gone");

        let shared = Bytes::copy_from_slice(text);
        assert_eq!(taken(&shared), body);
        assert_eq!(&shared[..], text, "what others hold stays as it is");
    }

    #[test]
    fn legal_members_reach_the_engine_untouched() {
        let text = r#"{"model":"m","max_tokens":8,"messages":[{"role":"user","content":"é\u00e9"}],"seed":18446744073709551615,
 "tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":"auto","logprobs":true,
 "temperature":0.10,"response_format":{"type":"json_schema"},"user":null,"a_future_member":1E+2}"#;
        assert_eq!(wire(text), text);
    }

    #[test]
    fn wrong_types_are_refused_by_name() {
        let cases = [
            (r#"{"model":7}"#, "model"),
            (r#"{"model":""}"#, "model"),
            (r#"{"model":"m","max_tokens":-1}"#, "max_tokens"),
            (r#"{"model":"m","max_tokens":"9"}"#, "max_tokens"),
            (r#"{"model":"m","max_tokens":9.0}"#, "max_tokens"),
            (r#"{"model":"m","max_tokens":2147483648}"#, "max_tokens"),
            (r#"{"model":"m","max_completion_tokens":99999999999999999999}"#, "max_completion_tokens"),
            (r#"{"model":"m","n":0}"#, "n"),
            (r#"{"model":"m","stream":"yes"}"#, "stream"),
            (r#"{"model":"m","max_coefficient":-1}"#, "max_coefficient"),
            (r#"{"model":"m","max_coefficient":1000000000}"#, "max_coefficient"),
            (r#"{"model":"m","max_coefficient":null}"#, "max_coefficient"),
            (r#"{"model":"m","timeout":"1"}"#, "timeout"),
            (r#"{"model":"m","timeout":0}"#, "timeout"),
            (r#"{"model":"m","timeout":-1}"#, "timeout"),
            (r#"{"model":"m","timeout":1e300}"#, "timeout"),
            (r#"{"model":"m","enable_debug":1}"#, "enable_debug"),
            (r#"{"model":"m","request_guid":5}"#, "request_guid"),
            (r#"{"model":"m","model":"m"}"#, "model"),
        ];
        for (text, param) in cases {
            let error = parse(text).unwrap_err();
            assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidParameter, Some(param)), "{text}");
        }
        assert_eq!(parse(r#"{"messages":[]}"#).unwrap_err().kind(), ErrorKind::MissingModel);
        assert_eq!(parse(r#"{"model":null}"#).unwrap_err().kind(), ErrorKind::MissingModel);
    }

    #[test]
    fn the_reservation_fits_the_wire_or_is_refused() {
        let fits = parse(r#"{"model":"m","max_tokens":1073741823,"n":2}"#).unwrap();
        assert_eq!(fits.tokens_max(DEFAULTS).unwrap(), 2_147_483_646);
        let over = parse(r#"{"model":"m","max_tokens":1073741824,"n":2}"#).unwrap();
        assert_eq!(over.tokens_max(DEFAULTS).unwrap_err().param(), Some("max_tokens"));
    }

    #[test]
    fn every_prompt_of_a_completion_is_reserved_for() {
        let reserved = |text: &'static str| {
            let body = RequestBody::parse(Route::Completions, Bytes::from_static(text.as_bytes()))?;
            body.tokens_max(DEFAULTS)
        };
        for (text, tokens) in [
            (r#"{"model":"m","max_tokens":5,"prompt":"a"}"#, 5),
            (r#"{"model":"m","max_tokens":5,"prompt":[]}"#, 5),
            (r#"{"model":"m","max_tokens":5,"prompt":[1,2,3]}"#, 5),
            (r#"{"model":"m","max_tokens":5,"prompt":["a","b","c"]}"#, 15),
            (r#"{"model":"m","max_tokens":5,"prompt":[ [1,2],[3] ],"n":2}"#, 20),
            (r#"{"model":"m","max_tokens":5,"prompt":["a","b"],"n":2,"best_of":3}"#, 30),
        ] {
            assert_eq!(reserved(text).unwrap(), tokens, "{text}");
        }
        let refused =
            reserved(r#"{"model":"m","max_tokens":1,"prompt":["a","b"],"n":2000000000}"#).unwrap_err();
        assert_eq!((refused.kind(), refused.param()), (ErrorKind::InvalidParameter, Some("n")));
        // In a chat the member means nothing to the network.
        let text = r#"{"model":"m","max_tokens":5,"prompt":["a","b"]}"#;
        assert_eq!(parse(text).unwrap().tokens_max(DEFAULTS).unwrap(), 5);
    }

    #[test]
    fn an_affinity_key_is_text_and_stays_in_the_body() {
        let key = |text| parse(text).unwrap().affinity_key().map(<[u8]>::to_vec);
        assert_eq!(key(r#"{"model":"m","prompt_cache_key":"a b"}"#), Some(br#""a b""#.to_vec()));
        for text in [
            r#"{"model":"m"}"#,
            r#"{"model":"m","prompt_cache_key":""}"#,
            r#"{"model":"m","prompt_cache_key":null}"#,
            r#"{"model":"m","prompt_cache_key":7}"#,
        ] {
            assert_eq!(key(text), None, "{text}");
        }
        let text = r#"{"model":"m","max_tokens":1,"prompt_cache_key":"a"}"#;
        assert_eq!(wire(text), text);
        let named = parse(text).unwrap().with_affinity_key("header");
        assert_eq!(named.affinity_key(), Some(&b"header"[..]));
    }

    #[test]
    fn a_request_prints_without_its_text() {
        let request = parse(r#"{"model":"m","messages":"secret"}"#).unwrap();
        assert!(!format!("{request:?}").contains("secret"));
    }
}
