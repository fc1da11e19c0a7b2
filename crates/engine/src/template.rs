//! Chat templates: from messages to the text the model was trained on.
//!
//! Templates are Jinja, rendered the way Hugging Face's `apply_chat_template` does: blocks swallow the white
//! space around them, Python's string and mapping methods work, `raise_exception` refuses a conversation,
//! `strftime_now` knows the time (UTC), `tojson` writes what Python's `json.dumps` writes.

mod clock;

use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind};
use serde::Serialize;

use crate::load::Tokenizer;

/// ChatML: `<|im_start|>role`, the content, `<|im_end|>`. Used for a model that knows these marks and brings
/// no template.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}";

/// A plain transcript, for a model that was never taught to chat: `User: …`, `Assistant: …`, a line each.
const TRANSCRIPT: &str = "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}";

/// A template could not be compiled or refused a conversation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is not Jinja, or uses parts of it that are not supported.
    #[error("the chat template does not compile")]
    Compile {
        /// Where and why.
        source: minijinja::Error,
    },
    /// The template refused these messages.
    #[error("the chat template refused the messages: {}", reason(source))]
    Refused {
        /// Why, in the template's words.
        source: minijinja::Error,
    },
}

/// The template's own words where it has some.
fn reason(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// Texts of control tokens that templates refer to by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecialTokens {
    pub(crate) begin: Option<String>,
    pub(crate) end: Option<String>,
    pub(crate) padding: Option<String>,
    pub(crate) unknown: Option<String>,
}

/// A compiled chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: SpecialTokens,
    /// Whether the rendered text still lacks what the model expects around every text.
    pub(crate) wants_special: bool,
}

/// Names of the template's context that a request cannot set.
const RESERVED: [&str; 10] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
    "raise_exception",
    "strftime_now",
];

impl ChatTemplate {
    const NAME: &'static str = "chat";

    pub(crate) fn new(source: &str, special_tokens: SpecialTokens) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the default delimiters differ from each other"));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(Self::NAME, source.to_owned())
            .map_err(|source| TemplateError::Compile { source })?;
        Ok(Self { environment, special_tokens, wants_special: false })
    }

    /// For a model without a template: ChatML if it knows the marks, else a plain transcript.
    pub(crate) fn fallback(tokenizer: &Tokenizer) -> Self {
        let knows_chatml = ["<|im_start|>", "<|im_end|>"].iter().all(|mark| tokenizer.id(mark).is_some());
        let source = if knows_chatml { CHATML } else { TRANSCRIPT };
        let template = Self::new(source, SpecialTokens::default()).expect("both fallbacks are valid Jinja");
        Self { wants_special: true, ..template }
    }

    /// Whether a request may set `name` in the template's context.
    pub(crate) fn may_set(name: &str) -> bool {
        !RESERVED.contains(&name)
    }

    /// The text that ends where the assistant's answer begins. `arguments` are further names of the
    /// template's context, of which [`ChatTemplate::may_set`] holds; `now` is the time since the Unix epoch.
    pub(crate) fn render(
        &self,
        messages: &[impl Serialize],
        arguments: &serde_json::Map<String, serde_json::Value>,
        now: Duration,
    ) -> Result<String, TemplateError> {
        let mut context: Vec<(String, Value)> = vec![
            ("messages".to_owned(), Value::from(Serde(messages))),
            ("tools".to_owned(), Value::from(())),
            ("documents".to_owned(), Value::from(())),
            ("add_generation_prompt".to_owned(), Value::from(true)),
        ];
        let now = move |format: &str| clock::format_utc(now.as_secs(), format).map_err(unknown_format);
        context.push(("strftime_now".to_owned(), Value::from_function(now)));
        let special = &self.special_tokens;
        let tokens = [
            ("bos_token", &special.begin),
            ("eos_token", &special.end),
            ("pad_token", &special.padding),
            ("unk_token", &special.unknown),
        ];
        for (name, piece) in tokens {
            context.extend(piece.as_ref().map(|piece| (name.to_owned(), Value::from(piece))));
        }
        context.extend(arguments.iter().map(|(name, value)| (name.clone(), Value::from(Serde(value)))));
        self.environment
            .get_template(Self::NAME)
            .and_then(|template| template.render(Value::from_pairs(context)))
            .map_err(|source| TemplateError::Refused { source })
    }
}

fn raise_exception(message: String) -> Result<String, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

fn unknown_format(specifier: char) -> minijinja::Error {
    let message = format!("strftime_now does not know %{specifier}");
    minijinja::Error::new(ErrorKind::InvalidOperation, message)
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: &Value, arguments: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    // Accepted because templates pass it; false already is what happens.
    let _: Option<bool> = arguments.get("ensure_ascii")?;
    arguments.assert_all_used()?;
    let mut text = Vec::new();
    let written = match indent {
        Some(width) => {
            // Wider than any template's, narrow enough to be harmless.
            let indent = " ".repeat(width.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, PythonSpacing)),
    };
    let unserialisable =
        |e| minijinja::Error::new(ErrorKind::BadSerialization, "not a JSON value").with_source(e);
    written.map_err(unserialisable)?;
    Ok(Value::from(String::from_utf8_lossy(&text).into_owned()))
}

/// Python puts a space after `,` and `:`.
struct PythonSpacing;

impl serde_json::ser::Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn render(source: &str, messages: &[Value], arguments: Value) -> Result<String, TemplateError> {
        let special = SpecialTokens {
            begin: Some("<s>".to_owned()),
            end: Some("</s>".to_owned()),
            ..SpecialTokens::default()
        };
        let Value::Object(arguments) = arguments else { panic!("not an object") };
        ChatTemplate::new(source, special)?.render(messages, &arguments, Duration::from_secs(1_763_735_045))
    }

    fn conversation() -> Vec<Value> {
        vec![
            json!({"role": "system", "content": "Be brief."}),
            json!({"role": "user", "content": "Hi <b> & \"you\""}),
            json!({"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello."}),
            json!({"role": "user", "content": "  And now?  "}),
        ]
    }

    /// The parts of Llama 3's, Mistral's and Qwen 3's published templates that are hard to render right.
    const DEMANDING: &str = "
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now('%d %b %Y') %}
{%- endif %}
{{- 'Today: ' + date_string + '\\n' + system_message + '\\n' }}
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == 'user' and loop.first %}
        {%- set ns.last = (messages|length - 1) - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- set content = message.content %}
    {%- if '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if message.role == 'assistant' %}
        {{- '[' ~ loop.index ~ '] ' ~ content.rstrip() ~ eos_token ~ '\\n' }}
    {%- else %}
        {{- message.role.upper() + ': ' + content.strip() + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if tools is not none %}never{% endif %}
{%- if add_generation_prompt %}
    {{- 'assistant' + ('' if enable_thinking is not defined or enable_thinking else ' briefly') + ns.last|string + ':' }}
{%- endif %}
";

    #[test]
    fn a_demanding_template_renders_as_in_python() {
        let expected =
            "<s>Today: 21 Nov 2025\nBe brief.\nUSER: Hi <b> & \"you\"\n[2] Hello.</s>\nUSER: And now?\n";
        let text = render(DEMANDING, &conversation(), json!({})).unwrap();
        assert_eq!(text, format!("{expected}assistant2:"));
        let text = render(DEMANDING, &conversation(), json!({"enable_thinking": false})).unwrap();
        assert_eq!(text, format!("{expected}assistant briefly2:"));
    }

    #[test]
    fn a_refusal_is_in_the_templates_words() {
        let twice = vec![json!({"role": "user", "content": "a"}), json!({"role": "user", "content": "b"})];
        let error = render(DEMANDING, &twice, json!({})).unwrap_err();
        assert_eq!(error.to_string(), "the chat template refused the messages: roles must alternate");
        assert!(matches!(render("{% if %}", &twice, json!({})), Err(TemplateError::Compile { .. })));
    }

    #[test]
    fn blocks_swallow_the_white_space_around_them() {
        let source = "{% for message in messages %}\n    {% if loop.first %}\n{{ message.content }}\n    {% endif %}\n{% endfor %}\nend\n";
        let text = render(source, &[json!({"role": "user", "content": "x"})], json!({})).unwrap();
        assert_eq!(text, "x\nend", "as with trim_blocks and lstrip_blocks, and the last newline removed");
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let source =
            "{{ value | tojson }} {{ value | tojson(indent=2) }} {{ value | tojson(ensure_ascii=False) }}";
        let value = json!({"value": {"a": [1, 2.5, null, true], "b": "é<"}});
        let text = render(source, &[] as &[Value], value).unwrap();
        let plain = r#"{"a": [1, 2.5, null, true], "b": "é<"}"#;
        let indented = "{\n  \"a\": [\n    1,\n    2.5,\n    null,\n    true\n  ],\n  \"b\": \"é<\"\n}";
        assert_eq!(text, format!("{plain} {indented} {plain}"));
    }

    #[test]
    fn both_fallbacks_read_as_documented() {
        let messages = &conversation()[..2];
        let chatml = render(CHATML, messages, json!({})).unwrap();
        assert_eq!(
            chatml,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <b> & \"you\"<|im_end|>\n<|im_start|>assistant\n"
        );
        let transcript = render(TRANSCRIPT, messages, json!({})).unwrap();
        assert_eq!(transcript, "System: Be brief.\nUser: Hi <b> & \"you\"\nAssistant:");
    }

    #[test]
    fn what_a_template_sees_besides_is_reserved() {
        let arguments = Map::from_iter([("custom".to_owned(), json!("c"))]);
        assert!(arguments.keys().all(|name| ChatTemplate::may_set(name)));
        assert!(RESERVED.iter().all(|name| !ChatTemplate::may_set(name)));
        assert_eq!(
            render("{{ custom }}{{ documents }}", &[] as &[Value], Value::Object(arguments)).unwrap(),
            "cNone"
        );
    }
}
