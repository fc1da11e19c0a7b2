//! Bodies: what is read of a request and put into it for the network, and the usage of a stream.

use std::hint::black_box;

use bytes::Bytes;
use gateway::{RequestBody, RequestDefaults, Route, UsageMeter};

use crate::{Case, Step};

pub(crate) const CASES: &[Case] = &[
    ("gateway: take a prompt of 100 B", || take(100)),
    ("gateway: take a prompt of 100 KB", || take(100_000)),
    ("gateway: meter 64 tokens, one by one", meter),
];

fn take(prompt_len: usize) -> Step {
    let prompt = "the quick brown fox jumps over the lazy dog\\n".repeat(prompt_len / 44);
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}],"stream":true,"timeout":60}}"#
    );
    let body = Bytes::from(body);
    Box::new(move || {
        let request = RequestBody::parse(Route::ChatCompletions, black_box(&body).clone());
        let mut request = request.expect("a good request");
        black_box(request.take_for_wire(RequestDefaults { max_tokens: 4096 }));
    })
}

fn meter() -> Step {
    let token = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":64,\"total_tokens\":72}}\n\ndata: [DONE]\n\n";
    let (token, usage) = (AtCacheLine::new(token), AtCacheLine::new(usage));
    Box::new(move || {
        let mut meter = UsageMeter::new(100, None);
        (0..64).for_each(|_| meter.feed(black_box(token.bytes())));
        meter.feed(black_box(usage.bytes()));
        assert_eq!(meter.current().usage.completion.get(), 64, "the usage that the engine said");
    })
}

/// A text at the beginning of a cache line. Where the linker puts a constant changes with the rest of the program, and with
/// it how many instructions a search through it takes.
struct AtCacheLine {
    padded: Vec<u8>,
    start: usize,
}

impl AtCacheLine {
    const LINE: usize = 64;

    fn new(text: &str) -> Self {
        let mut padded = vec![0; text.len() + Self::LINE];
        let start = padded.as_ptr().align_offset(Self::LINE);
        padded[start..start + text.len()].copy_from_slice(text.as_bytes());
        padded.truncate(start + text.len());
        Self { padded, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.padded[self.start..]
    }
}
