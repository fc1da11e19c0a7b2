use proptest::prelude::*;

use super::*;

fn usage(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Usage {
    let count = TokenCount::new;
    Usage {
        prompt: count(prompt),
        cached: count(cached),
        completion: count(completion),
        reasoning: count(reasoning),
    }
}

fn metered(body: &str) -> MeteredUsage {
    let mut meter = UsageMeter::new(400, Some(TokenCount::new(50)));
    meter.feed(body.as_bytes());
    meter.finish()
}

fn reported(body: &str) -> Usage {
    let MeteredUsage { usage, estimated } = metered(body);
    assert!(!estimated, "estimated: {body}");
    usage
}

/// Prompt tokens cost one nanoton, completion tokens ten.
fn price(usage: &Usage) -> Option<UsageCost> {
    let (prompt, completion) = (usage.prompt.get(), usage.completion.get().checked_mul(10)?);
    let total = NanoTon::new(prompt.checked_add(completion)?);
    Some(UsageCost { prompt: NanoTon::new(prompt), completion: NanoTon::new(completion), total })
}

const JSON: &str = r#"{"id":"chatcmpl-1","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},
    "finish_reason":"stop"}],"usage":{"prompt_tokens":34,"prompt_tokens_details":{"cached_tokens":11},
    "completion_tokens":100,"completion_tokens_details":{"reasoning_tokens":10},"total_tokens":134}}"#;

const EVENTS: &str = concat!(
    ": keep-alive\r\n\r\n",
    "event: message\r\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\r\n\r\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tok\\\"0\"}}]}\r\n\r\n",
    "data:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tok1\"}}]}\r\n\r\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":34,\"total_tokens\":134,\"completion_tokens\":100}}\r\n\r\n",
    "data: [DONE]\r\n\r\n",
);

#[test]
fn usage_is_found_in_a_json_body_and_in_events() {
    assert_eq!(reported(JSON), usage(34, 11, 100, 10));
    assert_eq!(reported(EVENTS), usage(34, 0, 100, 0));
    assert_eq!(reported(&EVENTS.replace("\r\n", "\n")), usage(34, 0, 100, 0));
    assert_eq!(reported(&EVENTS.replace("\r\n", "\r")), usage(34, 0, 100, 0));
}

#[test]
fn usage_is_found_in_bare_json_values() {
    let lines = r#" {"choices":[{"delta":{"content":"a"}}]}
        {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"reasoning_tokens":2}}"#;
    assert_eq!(reported(lines), usage(3, 0, 4, 2));
}

#[test]
fn counters_only_grow() {
    let events = "data: {\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n\
                  data: {\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":5}}\n\n";
    assert_eq!(reported(events), usage(9, 0, 5, 0));
}

#[test]
fn an_event_may_span_several_data_lines() {
    let events = "data: {\"usage\":\ndata: {\"prompt_tokens\":9,\ndata: \"completion_tokens\":1}}\n\n";
    assert_eq!(reported(events), usage(9, 0, 1, 0));
    let cut_by_an_empty_line = "data: {\"usage\":\n\ndata: {\"prompt_tokens\":9}}\n\n";
    assert!(metered(cut_by_an_empty_line).estimated);
}

#[test]
fn only_the_top_level_usage_with_unsigned_integers_counts() {
    for uncounted in [
        r#"{"choices":[{"usage":{"prompt_tokens":9,"completion_tokens":9}}]}"#,
        r#"{"a":{"usage":{"prompt_tokens":9}}}"#,
        r#"[{"usage":{"prompt_tokens":9}}]"#,
        r#"{"usage":{"prompt_tokens":-9}}"#,
        r#"{"usage":{"prompt_tokens":9.5}}"#,
        r#"{"usage":{"prompt_tokens":1e3}}"#,
        r#"{"usage":{"prompt_tokens":true}}"#,
        r#"{"usage":{"prompt_tokens":99999999999999999999}}"#,
        r#"{"usage":{"prompt_tokens":9"#,
        r#"{"usage":null}"#,
        r#"{"a":"\"usage\":{\"prompt_tokens\":9}"}"#,
        "",
    ] {
        assert!(metered(uncounted).estimated, "counted: {uncounted}");
    }
    assert_eq!(
        reported(r#"{"usage":{"prompt_tokens":9,"completion_tokens":null,"extra":1.5}}"#),
        usage(9, 0, 0, 0)
    );
}

#[test]
fn parts_never_exceed_their_whole() {
    let body = r#"{"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":5},
        "completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":9}}}"#;
    assert_eq!(reported(body), usage(1, 1, 2, 2));
}

#[test]
fn an_engine_that_reports_nothing_is_estimated() {
    let events = |count: usize| "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n".repeat(count);
    assert_eq!(metered(&events(7)), MeteredUsage { usage: usage(100, 0, 7, 0), estimated: true });
    assert_eq!(metered(&events(51)).usage.completion.get(), 50, "at most the limit of the request");
    let cut = format!("{}data: {{\"choices\":[{{\"delta\":{{\"content\":\"x", events(2));
    assert_eq!(metered(&cut).usage.completion.get(), 3, "text that was delivered counts");

    let body = r#"{"choices":[{"message":{"role":"assistant","content":"123456789"}}]}"#;
    assert_eq!(metered(body), MeteredUsage { usage: usage(100, 0, 3, 0), estimated: true });
    let call = r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"c","type":"function",
        "function":{"name":"f","arguments":"12345678"}}]}}]}"#;
    assert_eq!(metered(call).usage.completion.get(), 2);
    let error = r#"{"error":{"message":"no"}}"#;
    assert_eq!(metered(error), MeteredUsage { usage: usage(100, 0, 0, 0), estimated: true });
}

#[test]
fn a_stream_cut_after_its_first_usage_keeps_the_prompt_and_counts_what_came() {
    let events = "data: {\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":0}}\n\n\
                  data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    assert_eq!(metered(events), MeteredUsage { usage: usage(9, 0, 1, 0), estimated: true });
}

#[test]
fn several_choices_in_one_event_count_each() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}},{\"text\":\"y\"},{\"delta\":{}}]}\n\n";
    assert_eq!(metered(event).usage.completion.get(), 2);
}

#[test]
fn costs_are_spliced_into_the_usage_object() {
    let mut meter = UsageMeter::new(0, None);
    let plain = Bytes::from_static(b"{\"id\":1,");
    assert_eq!(
        meter.feed_priced(plain.clone(), price).as_ptr(),
        plain.as_ptr(),
        "nothing to add, nothing copied"
    );
    let rest = Bytes::from_static(b"\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4 }}");
    let expected = "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4 \
                    ,\"prompt_total_cost\":3,\"completion_total_cost\":40,\"total_cost\":43}}";
    assert_eq!(meter.feed_priced(rest, price), expected);
}

#[test]
fn costs_are_added_once_and_only_to_what_grew() {
    let mut meter = UsageMeter::new(0, None);
    for unchanged in [
        r#"{"usage":{}}"#,
        r#"{"usage":{"prompt_tokens":1,"total_cost":5}}"#,
        r#"{"usage":{"prompt_tokens":1}}"#,
        r#"{"usage":{"prompt_tokens":-1}}"#,
    ] {
        assert_eq!(meter.feed_priced(Bytes::from_static(unchanged.as_bytes()), price), unchanged);
    }
    let grown = Bytes::from_static(br#"{"usage":{"prompt_tokens":2}}"#);
    assert_eq!(meter.feed_priced(grown.clone(), |_| None), grown, "the price declined");
}

#[test]
fn deep_nesting_costs_nothing_and_is_survived() {
    let body = format!(
        "{{\"a\":{}{},\"usage\":{{\"prompt_tokens\":7}}}}",
        "[{\"b\":".repeat(90_000),
        "0}]".repeat(90_000)
    );
    assert_eq!(reported(&body), usage(7, 0, 0, 0));
    assert!(size_of::<UsageMeter>() < 512, "the meter is what a stream costs in memory");
}

/// Feeds `body` cut at the given lengths; the rest in one piece.
fn in_pieces(body: &[u8], cuts: &[usize]) -> (MeteredUsage, Vec<u8>) {
    let mut meter = UsageMeter::new(400, Some(TokenCount::new(50)));
    let (mut out, mut rest) = (Vec::new(), body);
    for cut in cuts {
        let (piece, tail) = rest.split_at((*cut).min(rest.len()));
        out.extend_from_slice(&meter.feed_priced(Bytes::copy_from_slice(piece), price));
        rest = tail;
    }
    out.extend_from_slice(&meter.feed_priced(Bytes::copy_from_slice(rest), price));
    (meter.finish(), out)
}

fn body() -> impl Strategy<Value = String> {
    let numbers = prop_oneof![
        (0_u64..500).prop_map(|n| n.to_string()),
        Just("1.5".to_owned()),
        Just("null".to_owned())
    ];
    let usage = prop::collection::vec(numbers, 4).prop_map(|n| {
        format!(
            "{{\"prompt_tokens\":{},\"prompt_tokens_details\":{{\"cached_tokens\":{}}},\"completion_tokens\":{},\
             \"reasoning_tokens\":{}}}",
            n[0], n[1], n[2], n[3]
        )
    });
    let value = (usage, "[a-z\"\\\\{}\\[\\]:é\n]{0,12}", 0..3).prop_map(|(usage, text, shape)| {
        let text = serde_json::to_string(&text).unwrap();
        match shape {
            0 => format!("{{\"choices\":[{{\"delta\":{{\"content\":{text}}}}}],\"usage\":{usage}}}"),
            1 => format!("{{\"choices\":[{{\"text\":{text},\"usage\":{usage}}}], \"usage\" : null }}"),
            _ => format!("{{{text}:[{text},{{\"usage\":{usage}}}],\"usage\":{usage}}}"),
        }
    });
    let ends = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
    (prop::collection::vec(value, 1..5), ends, 0..3).prop_map(|(values, end, framing)| match framing {
        0 => values.join(end),
        1 => values.iter().map(|value| format!("data: {value}{end}{end}")).collect(),
        _ => values.iter().map(|value| format!(":c{end}event: x{end}data:{value}{end}{end}")).collect(),
    })
}

/// Events as engines send them, alike and not; some are broken.
const ALIKE: [&str; 14] = [
    r#"{"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{"content":"t\"wo\\"},"finish_reason":null}]}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{"content":"end"},"finish_reason":"stop"}]}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a"}]}}]}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{"content":"a","reasoning":"b"},"finish_reason":null}]}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{"content":"c"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#,
    r#"{"usage":{"prompt_tokens":7,"completion_tokens":2},"choices":[{"index":0,"delta":{"content":"d"}}]}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}]}"#,
    r#"{"id":"x","choices":[{"index":0,"text":"whole"}]}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}"#,
    r#"{"id":"x","choices":[{"index":0,"delta":{"content":"one},"finish_reason":null}]}"#,
];

proptest! {
    #[test]
    fn events_alike_are_counted_as_if_each_were_the_first(
        events in prop::collection::vec(prop::sample::select(&ALIKE[..]), 1..40),
        ends in prop::sample::select(&["\n", "\r\n", "\n\n"][..]),
    ) {
        // Single bytes are never compared with the event before.
        let stream: String = events.iter().map(|event| format!("data: {event}{ends}")).collect();
        let bytes = vec![1; stream.len()];
        prop_assert_eq!(in_pieces(stream.as_bytes(), &[]), in_pieces(stream.as_bytes(), &bytes));
    }

    #[test]
    fn any_cutting_gives_the_same(body in body(), cuts in prop::collection::vec(0_usize..9, 0..200), flip in 0_usize..400) {
        let mut bytes = body.into_bytes();
        if let Some(byte) = bytes.get_mut(flip) {
            *byte = b'"'; // broken bodies must not depend on the cutting either
        }
        let whole = in_pieces(&bytes, &[]);
        prop_assert_eq!(&in_pieces(&bytes, &cuts), &whole);
        prop_assert_eq!(&in_pieces(&bytes, &vec![1; bytes.len()]), &whole);
    }

    #[test]
    fn the_scanner_agrees_with_a_parsed_tree(body in body()) {
        let trees = serde_json::Deserializer::from_str(&body).into_iter::<serde_json::Value>();
        let Ok(trees) = trees.collect::<Result<Vec<_>, _>>() else { return Ok(()) };
        let mut expected = Usage::default();
        let mut is_reported = false;
        for tree in trees {
            let number = |path: &str| match tree.pointer(path) {
                None | Some(serde_json::Value::Null) => Some(0),
                Some(value) => value.as_u64(),
            };
            let Some(serde_json::Value::Object(_)) = tree.get("usage") else { continue };
            let paths = ["prompt_tokens", "prompt_tokens_details/cached_tokens", "completion_tokens", "reasoning_tokens"];
            let numbers: Option<Vec<u64>> = paths.iter().map(|path| number(&format!("/usage/{path}"))).collect();
            let Some(numbers) = numbers else { continue };
            let new = usage(numbers[0], numbers[1], numbers[2], numbers[3]);
            is_reported = true;
            expected.prompt = expected.prompt.max(new.prompt);
            expected.cached = expected.cached.max(new.cached);
            expected.completion = expected.completion.max(new.completion);
            expected.reasoning = expected.reasoning.max(new.reasoning);
        }
        let seen = metered(&body);
        if is_reported && expected.completion > TokenCount::ZERO {
            prop_assert_eq!(seen, MeteredUsage { usage: consistent(expected), estimated: false });
        } else if !is_reported {
            prop_assert!(seen.estimated);
        }
    }

    #[test]
    fn priced_values_parse_and_differ_only_by_their_costs(body in body()) {
        let (_, priced) = in_pieces(body.as_bytes(), &[]);
        let read = |bytes: &[u8]| {
            let values = serde_json::Deserializer::from_slice(bytes).into_iter::<serde_json::Value>();
            values.collect::<Result<Vec<_>, _>>().ok()
        };
        let (Some(before), Some(mut after)) = (read(body.as_bytes()), read(&priced)) else { return Ok(()) };
        for value in &mut after {
            if let Some(serde_json::Value::Object(usage)) = value.get_mut("usage") {
                usage.retain(|key, _| !key.ends_with("_cost"));
            }
        }
        prop_assert_eq!(before, after);
    }
}

/// After how many copies of `event` an answer with a limit of 10 tokens is over it.
fn over_limit_after(event: &str) -> Option<usize> {
    let mut meter = UsageMeter::new(400, Some(TokenCount::new(10)));
    (1..=5000).find(|_| {
        meter.feed(event.as_bytes());
        meter.is_over_limit()
    })
}

#[test]
fn an_answer_beyond_its_limit_is_noticed_and_an_honest_one_is_not() {
    let event = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    assert_eq!(over_limit_after(&event(" hello")), Some(11), "a token for each event");
    assert_eq!(over_limit_after(&event("h")), Some(57), "letters are no tokens");
    assert_eq!(over_limit_after(&event(&"h".repeat(400))), Some(9), "no ten tokens are that long");
    assert_eq!(over_limit_after(&event("")), None);
    let counted =
        |count: u64| format!("data: {{\"choices\":[],\"usage\":{{\"completion_tokens\":{count}}}}}\n\n");
    assert_eq!(over_limit_after(&counted(10)), None);
    assert_eq!(over_limit_after(&counted(11)), Some(1));
    // One JSON body: nothing is known of its tokens but their bytes.
    let mut meter = UsageMeter::new(400, Some(TokenCount::new(10)));
    meter.feed(br#"{"choices":[{"message":{"content":""#);
    meter.feed(&[b'x'; 3584]);
    assert!(!meter.is_over_limit());
    meter.feed(b"x");
    assert!(meter.is_over_limit() && !meter.is_between_events());
    let mut unlimited = UsageMeter::new(400, None);
    unlimited.feed(counted(u64::from(u32::MAX)).as_bytes());
    assert!(!unlimited.is_over_limit());
}

#[test]
fn the_place_between_events_is_known_byte_by_byte() {
    for end in ["\n", "\r\n", "\r"] {
        let mut meter = UsageMeter::new(400, None);
        assert!(!meter.is_between_events(), "nothing came yet");
        let text = format!("data: {{}}{end}id: 1{end}{end}: comment{end}{end}data: [DONE]{end}{end}");
        let mut ends = Vec::new();
        for (index, byte) in text.bytes().enumerate() {
            meter.feed(&[byte]);
            if meter.is_between_events() {
                ends.push(text[..=index].trim_end_matches(['\r', '\n']).to_owned());
            }
        }
        ends.dedup();
        let firsts = [format!("data: {{}}{end}id: 1"), format!("data: {{}}{end}id: 1{end}{end}: comment")];
        assert_eq!(ends, [&firsts[0], &firsts[1], text.trim_end()]);
    }
}
