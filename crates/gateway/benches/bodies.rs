//! What is read of bodies on the hot path, beside the general reader of JSON.

use bytes::Bytes;
use cocoon_gateway::{RequestBody, Route, UsageMeter};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Lengths of prompts.
const PROMPTS: [usize; 2] = [100, 100_000];

fn request(prompt_len: usize) -> Bytes {
    let prompt = "the quick brown fox jumps over the lazy dog\\n".repeat(prompt_len / 44);
    format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}],"stream":true,"max_tokens":64}}"#
    )
    .into()
}

#[divan::bench(args = PROMPTS)]
fn scan(bencher: Bencher<'_, '_>, prompt_len: usize) {
    let body = request(prompt_len);
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        RequestBody::parse(Route::ChatCompletions, black_box(&body).clone()).expect("a good request").stream()
    });
}

/// The yardstick.
#[divan::bench(args = PROMPTS)]
fn json_tree(bencher: Bencher<'_, '_>, prompt_len: usize) {
    let body = request(prompt_len);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| serde_json::from_slice::<serde_json::Value>(black_box(&body)).expect("good JSON"));
}

/// A stream of 64 tokens and its usage, in slices of so many bytes: the time must not depend much on them.
#[divan::bench(args = [1, 16, 1_000, 16_000])]
fn meter(bencher: Bencher<'_, '_>, slice_len: usize) {
    let token = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":64,\"total_tokens\":72}}\n\ndata: [DONE]\n\n";
    let stream = Bytes::from(token.repeat(64) + usage);
    bencher.counter(BytesCount::new(stream.len())).bench(|| {
        let mut meter = UsageMeter::new(100, None);
        let mut rest = black_box(&stream).clone();
        while !rest.is_empty() {
            let slice = rest.split_to(slice_len.min(rest.len()));
            meter.feed(&slice);
        }
        assert_eq!(meter.current().usage.completion.get(), 64);
    });
}
