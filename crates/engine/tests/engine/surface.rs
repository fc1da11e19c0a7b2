//! The OpenAI surface: shapes of answers, what is accepted and what is refused by name.

use cocoon_engine::{Engine, EngineConfig, Source};
use serde_json::{Value, json};
use units::ModelName;

use crate::support::{
    CHAT, COMPLETIONS, CONTEXT, Family, TEMPLATE, TURN_END, Tiny, answer, ask, chat, config, engine, events,
    now, refusal, with, write_gguf,
};

fn completion(prompt: &str, tokens: usize) -> Value {
    json!({"model": "tiny", "prompt": prompt, "max_tokens": tokens, "temperature": 0})
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_chat_answer_has_every_member_of_the_api() {
    let engine = engine(config());
    let answered = answer(&engine, CHAT, &chat("hello", 5)).await;
    let expected = ["choices", "created", "id", "model", "object", "system_fingerprint", "usage"];
    let mut found = keys(&answered);
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(answered["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(
        (answered["object"].as_str(), answered["model"].as_str()),
        (Some("chat.completion"), Some("tiny"))
    );
    assert_eq!(answered["created"], json!(now().as_secs()));
    let choice = &answered["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["refusal"], Value::Null);
    assert_eq!(choice["logprobs"], Value::Null);
    let usage = &answered["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], json!(sum));
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], json!(0));
}

#[tokio::test]
async fn a_chat_stream_names_the_role_first_and_the_usage_last() {
    let engine = engine(config());
    let body = with(chat("hello", 5), json!({"stream": true, "logit_bias": {TURN_END.to_string(): -100}}));
    let plain = events(&engine, CHAT, &body).await;
    let delta = |event: &Value| event["choices"][0]["delta"].clone();
    assert_eq!(delta(&plain[0]), json!({"role": "assistant", "content": ""}));
    assert_eq!(delta(plain.last().unwrap()), json!({}));
    assert_eq!(plain.last().unwrap()["choices"][0]["finish_reason"], "length");
    assert!(
        plain.iter().all(|event| event["object"] == "chat.completion.chunk" && event["id"] == plain[0]["id"])
    );
    assert!(plain.iter().all(|event| event.get("usage").is_none()), "usage only when asked for");

    let options = json!({"stream_options": {"include_usage": true, "include_obfuscation": false}});
    let counted = events(&engine, CHAT, &with(body, options)).await;
    let (last, others) = counted.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(5)));
    assert!(others.iter().all(|event| event.get("usage") == Some(&Value::Null)));
}

#[tokio::test]
async fn completions_take_text_and_tokens() {
    let engine = engine(config());
    let body = completion("hello", 6);
    let text = answer(&engine, COMPLETIONS, &body).await;
    assert_eq!(text["object"], "text_completion");
    assert!(text["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(text["usage"]["prompt_tokens"], json!(1), "\"hello\" is one token");
    for same in [json!(["hello"]), json!([262]), json!([[262]])] {
        // Ids follow the vocabulary's order: 256 bytes, three control tokens, "he", "ll", "hell", "hello".
        let again = answer(&engine, COMPLETIONS, &with(body.clone(), json!({"prompt": same}))).await;
        assert_eq!(again["choices"][0]["text"], text["choices"][0]["text"]);
    }
    let streamed = events(&engine, COMPLETIONS, &with(body, json!({"stream": true}))).await;
    let joined: String = streamed.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(joined, text["choices"][0]["text"].as_str().unwrap());
    let default = json!({"model": "tiny", "prompt": "hello", "logit_bias": {TURN_END.to_string(): -100}});
    assert_eq!(answer(&engine, COMPLETIONS, &default).await["usage"]["completion_tokens"], json!(16));

    for refused in
        [json!([]), json!(["a", "b"]), json!([[1], [2]]), json!([1, "a"]), json!({}), json!(""), json!(7)]
    {
        let (status, error) =
            refusal(&engine, COMPLETIONS, &with(completion("", 1), json!({"prompt": refused}))).await;
        assert_eq!((status, error["param"].as_str()), (400, Some("prompt")), "{refused}");
    }
    let (_, error) =
        refusal(&engine, COMPLETIONS, &with(completion("", 1), json!({"prompt": [99_999]}))).await;
    assert!(error["message"].as_str().unwrap().contains("99999"));
}

#[tokio::test]
async fn probabilities_are_reported_when_asked_for() {
    let engine = engine(config());
    let asked = json!({"logprobs": true, "top_logprobs": 3, "logit_bias": {TURN_END.to_string(): -100}});
    let answered = answer(&engine, CHAT, &with(chat("hello", 8), asked.clone())).await;
    let content = answered["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(content.len(), 8);
    for token in &content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!(top[0]["logprob"], token["logprob"], "greedy takes the most probable");
        assert!(top[0]["logprob"].as_f64() >= top[2]["logprob"].as_f64());
    }
    let streamed = events(&engine, CHAT, &with(with(chat("hello", 8), asked), json!({"stream": true}))).await;
    let pieces = streamed.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(pieces.flatten().cloned().collect::<Vec<_>>(), content);

    let text = answer(&engine, COMPLETIONS, &with(completion("hello", 4), json!({"logprobs": 2}))).await;
    let logprobs = &text["choices"][0]["logprobs"];
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[list].as_array().unwrap().len(), 4, "{list}");
    }
    let (_, error) = refusal(&engine, CHAT, &with(chat("hello", 8), json!({"top_logprobs": 3}))).await;
    assert_eq!(error["param"], "top_logprobs");
}

#[tokio::test]
async fn models_are_listed_and_described() {
    let engine = engine(config());
    let (status, bytes) = ask(&engine, "/v1/models", &Value::Null).await;
    let list: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        (status, list["object"].as_str(), list["data"].as_array().unwrap().len()),
        (200, Some("list"), 1)
    );
    assert_eq!(list["data"][0]["id"], "tiny");
    assert_eq!(list["data"][0]["max_model_len"], json!(CONTEXT));
    assert_eq!(answer(&engine, "/v1/models/tiny?x=1", &Value::Null).await, list["data"][0]);
    let (status, error) = refusal(&engine, "/v1/models/other", &Value::Null).await;
    assert_eq!((status, error["code"].as_str()), (404, Some("model_not_found")));
    let (status, error) = refusal(&engine, "/v1/embeddings", &Value::Null).await;
    assert_eq!((status, error["code"].as_str()), (404, Some("unknown_url")));
}

#[tokio::test]
async fn a_configured_name_replaces_the_file_name() {
    let name = Some(ModelName::new("Org/Model-1@commit:hash").unwrap());
    let engine = engine(EngineConfig { model_id: name, ..config() });
    let named = with(chat("hello", 1), json!({"model": "Org/Model-1"}));
    assert_eq!(answer(&engine, CHAT, &named).await["model"], "Org/Model-1");
    assert_eq!(refusal(&engine, CHAT, &chat("hello", 1)).await.0, 404);
}

#[tokio::test]
async fn parameters_without_effect_are_accepted() {
    let engine = engine(config());
    let accepted = [
        json!({"user": "u", "metadata": {"a": "b"}, "store": false, "service_tier": "auto", "n": 1}),
        json!({"tools": [], "tool_choice": "none", "parallel_tool_calls": true, "response_format": {"type": "text"}}),
        json!({"modalities": ["text"], "reasoning_effort": "none", "verbosity": "medium", "safety_identifier": "s"}),
        json!({"prompt_cache_key": "k", "stream_options": {"include_usage": true}, "stop": null, "seed": null}),
        json!({"tools": null, "response_format": null, "max_completion_tokens": null, "unknown": null}),
        json!({"temperature": 2, "top_p": 1, "top_k": 5, "presence_penalty": -2, "stop": ["a", "b", "c", "d"]}),
        json!({"chat_template_kwargs": {"enable_thinking": true}}),
    ];
    for more in accepted {
        answer(&engine, CHAT, &with(chat("hello", 1), more)).await;
    }
    let legacy = json!({"echo": false, "suffix": null, "best_of": 1, "n": 1, "logprobs": null});
    answer(&engine, COMPLETIONS, &with(completion("hello", 1), legacy)).await;
}

#[tokio::test]
async fn parameters_that_would_change_the_answer_are_refused_by_name() {
    let engine = engine(config());
    let tool = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let refused = [
        ("tools", tool.clone()),
        ("functions", tool),
        ("tool_choice", json!("required")),
        ("response_format", json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {}}})),
        ("response_format", json!({"type": "json_object"})),
        ("n", json!(2)),
        ("store", json!(true)),
        ("service_tier", json!("priority")),
        ("modalities", json!(["text", "audio"])),
        ("audio", json!({"voice": "alloy"})),
        ("prediction", json!({"type": "content", "content": "x"})),
        ("reasoning_effort", json!("high")),
        ("verbosity", json!("low")),
        ("web_search_options", json!({})),
        ("min_p", json!(0.1)),
        ("no_such_parameter", json!(0)),
    ];
    for (param, value) in refused {
        let body = with(chat("hello", 1), json!({param: value}));
        let (status, error) = refusal(&engine, CHAT, &body).await;
        assert_eq!(
            (status, error["param"].as_str(), error["code"].as_str()),
            (400, Some(param), Some("unsupported_parameter"))
        );
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().contains(param));
    }
    for (param, value) in
        [("echo", json!(true)), ("suffix", json!("x")), ("best_of", json!(2)), ("messages", json!([1]))]
    {
        let body = with(completion("hello", 1), json!({param: value}));
        let (status, error) = refusal(&engine, COMPLETIONS, &body).await;
        assert_eq!((status, error["param"].as_str()), (400, Some(param)));
    }
    let options =
        with(chat("hello", 1), json!({"stream": true, "stream_options": {"continuous_usage_stats": true}}));
    assert_eq!(refusal(&engine, CHAT, &options).await.1["param"], "stream_options.continuous_usage_stats");
}

#[tokio::test]
async fn values_out_of_range_are_refused_by_name() {
    let engine = engine(config());
    let refused = [
        ("temperature", json!(2.1)),
        ("temperature", json!(-0.1)),
        ("temperature", json!("hot")),
        ("top_p", json!(0)),
        ("top_p", json!(1.01)),
        ("top_k", json!(-1)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(1.5)),
        ("max_completion_tokens", json!(-3)),
        ("presence_penalty", json!(2.5)),
        ("frequency_penalty", json!(-2.5)),
        ("top_logprobs", json!(21)),
        ("logit_bias", json!({"x": 1})),
        ("logit_bias", json!({"1": 101})),
        ("seed", json!("7")),
        ("stop", json!("")),
        ("stop", json!(["a", "b", "c", "d", "e"])),
        ("stop", json!([1])),
        ("stop", json!("x".repeat(2000))),
        ("stream", json!("yes")),
        ("model", json!(1)),
        ("messages", json!([])),
        ("messages", json!("hello")),
    ];
    for (param, value) in refused {
        let (status, error) = refusal(&engine, CHAT, &with(chat("hello", 1), json!({param: value}))).await;
        assert_eq!((status, error["param"].as_str()), (400, Some(param)), "{value}");
    }
    for missing in ["model", "messages"] {
        let (status, error) = refusal(&engine, CHAT, &with(chat("hello", 1), json!({missing: null}))).await;
        assert_eq!((status, error["code"].as_str()), (400, Some("missing_required_parameter")));
    }
    let mut response =
        cocoon_engine::openai::respond(&engine, CHAT, b"{\"model\": \"tiny\", secret words").await;
    let text = String::from_utf8(response.body.recv().await.unwrap().to_vec()).unwrap();
    assert!(response.status == 400 && text.contains("invalid_json") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn messages_may_be_parts_of_text_and_nothing_else() {
    let engine = engine(config());
    let asking =
        |message: Value| json!({"model": "tiny", "messages": [message], "max_tokens": 1, "temperature": 0});
    let tokens = async |message: Value| {
        answer(&engine, CHAT, &asking(message)).await["usage"]["prompt_tokens"].clone()
    };
    let plain = tokens(json!({"role": "user", "content": "one\ntwo"})).await;
    let parts = json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]);
    assert_eq!(tokens(json!({"role": "user", "content": parts})).await, plain);
    let system = tokens(json!({"role": "system", "content": "x"})).await;
    assert_eq!(
        tokens(json!({"role": "developer", "content": "x"})).await,
        system,
        "the newer name of the role"
    );
    // As the official SDK echoes an answer.
    let echoed = json!({"role": "assistant", "content": "x", "refusal": null, "annotations": [], "audio": null,
        "function_call": null, "tool_calls": null});
    tokens(echoed).await;

    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]);
    let refused = [
        (json!({"role": "user", "content": image}), "messages.content"),
        (json!({"role": "user"}), "messages.content"),
        (json!({"role": "user", "content": 7}), "messages.content"),
        (json!({"role": "tool", "content": "x", "tool_call_id": "1"}), "messages.role"),
        (json!({"content": "x"}), "messages.role"),
        (json!({"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}), "messages.tool_calls"),
        (json!("hello"), "messages"),
    ];
    for (message, param) in refused {
        let (status, error) = refusal(&engine, CHAT, &asking(message)).await;
        assert_eq!((status, error["param"].as_str()), (400, Some(param)));
    }
}

#[tokio::test]
async fn template_arguments_reach_the_template_and_cannot_replace_its_own() {
    let engine = engine(config());
    let asking = |arguments: Value| with(chat("hello", 1), json!({"chat_template_kwargs": arguments}));
    let prompt = async |arguments: Value| {
        answer(&engine, CHAT, &asking(arguments)).await["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let thinking = prompt(json!({})).await;
    assert_eq!(prompt(json!({"enable_thinking": true})).await, thinking);
    let marks = "<think>\n\n</think>\n\n".len() as u64;
    // "he" and "ll" do not occur in it, so every byte is a token.
    assert_eq!(prompt(json!({"enable_thinking": false})).await, thinking + marks);
    for name in ["messages", "add_generation_prompt", "bos_token", "strftime_now"] {
        let (status, error) = refusal(&engine, CHAT, &asking(json!({name: 1}))).await;
        assert_eq!((status, error["param"].clone()), (400, json!(format!("chat_template_kwargs.{name}"))));
    }
}

/// An engine whose tiny model has this chat template.
fn with_template(template: Option<&str>) -> Engine {
    use candle_core::quantized::{GgmlDType, gguf_file::Value as Meta};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let tiny = Tiny::new(Family::Llama);
    let mut metadata = tiny.metadata();
    metadata.retain(|(key, _)| key != "tokenizer.chat_template");
    metadata
        .extend(template.map(|text| ("tokenizer.chat_template".to_owned(), Meta::String(text.to_owned()))));
    write_gguf(&path, &metadata, &tiny.gguf_tensors(GgmlDType::F32));
    Engine::load(&Source::Gguf(path), config()).unwrap()
}

#[tokio::test]
async fn a_template_can_refuse_a_conversation_in_its_own_words() {
    let engine = with_template(Some("{{ raise_exception('only one question') }}"));
    let (status, error) = refusal(&engine, CHAT, &chat("hello", 1)).await;
    assert_eq!((status, error["param"].as_str()), (400, Some("messages")));
    assert!(error["message"].as_str().unwrap().ends_with("only one question"));
}

#[tokio::test]
async fn a_model_that_knows_chatml_needs_no_template() {
    let body = chat("hello", 8);
    let expected = answer(&with_template(Some(TEMPLATE)), CHAT, &body).await;
    let found = answer(&with_template(None), CHAT, &body).await;
    assert_eq!(found["usage"], expected["usage"]);
    assert_eq!(found["choices"], expected["choices"]);
}
