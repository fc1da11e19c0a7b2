//! What is generated, when it ends, and what runs beside it.

use cocoon_engine::{EngineConfig, openai};
use serde_json::{Value, json};

use crate::support::{
    CHAT, COMPLETIONS, CONTEXT, TURN_END, answer, ask, chat, config, engine, events, patient_engine, refusal,
    with,
};

fn content(answered: &Value) -> &str {
    answered["choices"][0]["message"]["content"].as_str().unwrap()
}

/// Keeps the model from ending its answer.
fn endless() -> Value {
    json!({"logit_bias": {TURN_END.to_string(): -100}})
}

/// The text of a stream's pieces put together.
fn streamed(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn greedy_answers_repeat_and_seeds_decide_random_ones() {
    let engine = engine(config());
    let greedy = chat("hello", 32);
    let first = answer(&engine, CHAT, &greedy).await;
    assert_eq!(content(&first), content(&answer(&engine, CHAT, &greedy).await));

    let seeded = |seed: i64| with(chat("hello", 32), json!({"temperature": 1.5, "top_p": 0.9, "seed": seed}));
    let a = answer(&engine, CHAT, &seeded(7)).await;
    assert_eq!(content(&a), content(&answer(&engine, CHAT, &seeded(7)).await));
    assert_ne!(content(&a), content(&answer(&engine, CHAT, &seeded(-8)).await));
}

#[tokio::test]
async fn a_stream_says_the_same_as_the_whole_answer() {
    let engine = engine(config());
    for more in [json!({}), json!({"temperature": 1.2, "seed": 5}), json!({"stop": ["a", "7"], "seed": 3})] {
        let body = with(with(chat("hello there", 48), endless()), more);
        let whole = answer(&engine, CHAT, &body).await;
        let events = events(
            &engine,
            CHAT,
            &with(body, json!({"stream": true, "stream_options": {"include_usage": true}})),
        )
        .await;
        assert_eq!(streamed(&events), content(&whole));
        let usage = &events.last().unwrap()["usage"];
        assert_eq!(usage, &whole["usage"]);
        let reasons: Vec<&Value> = events
            .iter()
            .map(|event| &event["choices"][0]["finish_reason"])
            .filter(|reason| reason.is_string())
            .collect();
        assert_eq!(reasons, [&whole["choices"][0]["finish_reason"]]);
    }
}

#[tokio::test]
async fn the_limit_of_tokens_is_kept_and_counted() {
    let engine = engine(config());
    for limit in [1, 2, 17] {
        let answered = answer(&engine, CHAT, &with(chat("hello", limit), endless())).await;
        assert_eq!(answered["usage"]["completion_tokens"], json!(limit));
        assert_eq!(answered["choices"][0]["finish_reason"], "length");
    }
    let both = with(with(chat("hello", 9), endless()), json!({"max_completion_tokens": 5}));
    assert_eq!(
        answer(&engine, CHAT, &both).await["usage"]["completion_tokens"],
        json!(5),
        "the smaller holds"
    );
}

#[tokio::test]
async fn the_end_token_ends_the_answer_and_is_counted() {
    let engine = engine(config());
    let body = with(chat("hello", 20), json!({"logit_bias": {TURN_END.to_string(): 100}}));
    let answered = answer(&engine, CHAT, &body).await;
    assert_eq!(answered["choices"][0]["finish_reason"], "stop");
    assert_eq!(answered["usage"]["completion_tokens"], json!(1));
    assert_eq!(content(&answered), "");
}

#[tokio::test]
async fn stop_strings_end_the_answer_before_them() {
    let engine = engine(config());
    let body = with(chat("hello", 60), endless());
    let text = content(&answer(&engine, CHAT, &body).await).to_owned();
    // A stop string that is spread over several tokens of this very answer.
    let chars: Vec<char> = text.chars().collect();
    let middle = chars.len() / 2;
    let stop: String = chars[middle..middle + 3].iter().collect();
    let expected = &text[..text.find(&stop).unwrap()];
    for stop in [json!(stop), json!([stop]), json!(["never in it", stop])] {
        let stopped = answer(&engine, CHAT, &with(body.clone(), json!({"stop": stop}))).await;
        assert_eq!(content(&stopped), expected);
        assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
        assert!(stopped["usage"]["completion_tokens"].as_u64() < Some(60));
    }
    let passed = answer(&engine, CHAT, &with(body, json!({"stop": "never in it"}))).await;
    assert_eq!(content(&passed), text, "text held back for a stop string that never comes is not lost");
}

#[tokio::test]
async fn an_answer_ends_with_the_context_and_a_prompt_beyond_it_is_refused() {
    let engine = engine(config());
    let prompt = |len: usize| {
        let tokens = vec![65; len];
        with(json!({"model": "tiny", "prompt": tokens, "max_tokens": 1000, "temperature": 0}), endless())
    };
    let filled = answer(&engine, COMPLETIONS, &prompt(CONTEXT - 10)).await;
    assert_eq!(filled["usage"]["completion_tokens"], json!(10));
    assert_eq!(filled["usage"]["total_tokens"], json!(CONTEXT));
    assert_eq!(filled["choices"][0]["finish_reason"], "length");
    assert_eq!(
        answer(&engine, COMPLETIONS, &prompt(CONTEXT - 1)).await["usage"]["completion_tokens"],
        json!(1)
    );

    let (status, error) = refusal(&engine, COMPLETIONS, &prompt(CONTEXT)).await;
    assert_eq!((status, error["code"].as_str()), (400, Some("context_length_exceeded")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("256 tokens") && message.contains("model 256"), "{message}");
    assert_eq!(error["param"], "prompt");
    let (_, error) = refusal(&engine, CHAT, &chat(&"long ".repeat(100), 5)).await;
    assert_eq!(
        (error["code"].as_str(), error["param"].as_str()),
        (Some("context_length_exceeded"), Some("messages"))
    );
    // So long that it is refused unread.
    let (_, error) = refusal(&engine, CHAT, &chat(&"x".repeat(64 * 300), 5)).await;
    assert_eq!(error["code"], "context_length_exceeded");
    assert!(error["message"].as_str().unwrap().contains("bytes"));
}

#[tokio::test]
async fn requests_side_by_side_get_what_each_gets_alone() {
    let engine = engine(EngineConfig { active_max: 3, ..config() });
    let bodies: Vec<Value> = (0..12)
        .map(|i| {
            let text = "hello ".repeat(1 + i % 5);
            with(with(chat(&text, 20 + i), endless()), json!({"temperature": 0.9, "seed": i}))
        })
        .collect();
    let mut alone = Vec::new();
    for body in &bodies {
        alone.push(content(&answer(&engine, CHAT, body).await).to_owned());
    }
    let mut together = tokio::task::JoinSet::new();
    let engine = std::sync::Arc::new(engine);
    for (index, body) in bodies.into_iter().enumerate() {
        let engine = std::sync::Arc::clone(&engine);
        together.spawn(async move { (index, content(&answer(&engine, CHAT, &body).await).to_owned()) });
    }
    while let Some(done) = together.join_next().await {
        let (index, text) = done.unwrap();
        assert_eq!(text, alone[index], "request {index}");
    }
    let activity = engine.activity();
    assert_eq!((activity.finished, activity.active, activity.waiting), (24, 0, 0));
}

/// A stream that nobody could wait for.
fn endless_stream() -> Vec<u8> {
    let body = with(with(chat("hello", 60_000), endless()), json!({"stream": true}));
    serde_json::to_vec(&body).unwrap()
}

#[tokio::test]
async fn dropping_a_response_stops_its_generation() {
    let engine = patient_engine(EngineConfig { threads: 1, ..config() });
    let mut response = openai::respond(&engine, CHAT, &endless_stream()).await;
    assert!(response.body.recv().await.is_some(), "a stream begins");
    drop(response);
    // The only thread serves this one between two tokens of the other, or after it.
    let after = answer(&engine, CHAT, &chat("hello", 3)).await;
    assert_eq!(after["choices"][0]["index"], 0);
    while engine.activity().active > 0 {
        tokio::task::yield_now().await;
    }
    let activity = engine.activity();
    assert_eq!((activity.finished, activity.cancelled, activity.failed), (1, 1, 0));
    assert!(activity.completion_tokens < 60_000, "{} tokens were generated", activity.completion_tokens);
}

#[tokio::test]
async fn what_does_not_fit_the_queue_is_refused_until_there_is_room() {
    let engine = patient_engine(EngineConfig { threads: 1, active_max: 1, waiting_max: 1, ..config() });
    let long = endless_stream();
    let first = openai::respond(&engine, CHAT, &long).await;
    let mut second = Box::pin(openai::respond(&engine, CHAT, &long));
    let short = chat("hello", 1);
    let (status, bytes) = tokio::select! {
        biased;
        _ = &mut second => panic!("the place is taken"),
        refused = ask(&engine, CHAT, &short) => refused,
    };
    let error: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((status, error["error"]["code"].as_str()), (503, Some("engine_overloaded")), "{error}");
    assert_eq!(error["error"]["type"], "server_error");

    // Whoever gives up while waiting gives the place to the next.
    drop(second);
    let mut third = Box::pin(openai::respond(&engine, CHAT, &long));
    tokio::select! {
        biased;
        _ = &mut third => panic!("the first is still being answered"),
        () = std::future::ready(()) => {}
    }
    assert_eq!((engine.activity().active, engine.activity().waiting), (1, 1));
    drop(first);
    assert_eq!(third.await.status, 200, "the one that waited gets the place");
    assert_eq!(engine.activity().cancelled, 2);
}

#[tokio::test]
async fn stopping_the_engine_ends_open_streams_with_an_error() {
    let engine = patient_engine(EngineConfig { threads: 1, ..config() });
    let mut response = openai::respond(&engine, CHAT, &endless_stream()).await;
    drop(engine);
    let mut last = None;
    while let Some(event) = response.body.recv().await {
        last = Some(event);
    }
    let last = String::from_utf8(last.unwrap().to_vec()).unwrap();
    assert!(last.starts_with("data: {\"error\"") && last.contains("engine_stopped"), "{last}");
}

#[tokio::test]
async fn penalties_and_bias_reach_the_sampler() {
    let engine = engine(config());
    let text = |answered: Value| content(&answered).to_owned();
    let letter = |bias: Value| with(chat("hello", 6), json!({"logit_bias": bias}));
    assert_eq!(text(answer(&engine, CHAT, &letter(json!({"97": 100}))).await), "aaaaaa");
    let both = with(letter(json!({"97": 100, "98": 99})), json!({"frequency_penalty": 2}));
    let mixed = text(answer(&engine, CHAT, &both).await);
    assert!(mixed.contains('a') && mixed.contains('b'), "{mixed}");
}
