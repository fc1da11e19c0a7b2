//! The model inside this program.

use candle_core::quantized::gguf_file;
use cocoon_engine::{Engine, Source, demo};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::support::{CHAT, answer, config, events, with};

fn question(text: &str) -> Value {
    json!({"model": demo::MODEL_ID, "messages": [{"role": "user", "content": text}]})
}

#[test]
fn the_file_is_small_enough_to_ship_and_says_what_it_is() {
    assert!(demo::BYTES.len() <= 4 << 20, "{} bytes", demo::BYTES.len());
    assert!(demo::CARD.contains("not intelligence"));
}

#[tokio::test]
async fn it_answers_a_question_about_its_network_in_a_readable_sentence() {
    let engine = Engine::load(&Source::Demo, config()).unwrap();
    let answered = answer(&engine, CHAT, &question("What is Cocoon?")).await;
    let choice = &answered["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap();
    assert_eq!(choice["finish_reason"], "stop", "{text}");
    assert!(text.contains("Cocoon") && text.ends_with('.'), "{text}");
    assert!(text.split_whitespace().count() > 5, "{text}");
    let printable = |c: char| c.is_ascii_graphic() || c == ' ';
    assert!(text.chars().all(printable), "{text}");
}

#[tokio::test]
async fn it_says_the_same_each_time_unless_asked_for_chance() {
    let engine = Engine::load(&Source::Demo, config()).unwrap();
    let body = question("What does a worker do?");
    let first = answer(&engine, CHAT, &body).await;
    assert_eq!(answer(&engine, CHAT, &body).await["choices"], first["choices"]);
    let streamed = events(&engine, CHAT, &with(body, json!({"stream": true}))).await;
    let joined: String =
        streamed.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(joined, first["choices"][0]["message"]["content"].as_str().unwrap());
}

#[test]
fn the_file_was_trained_on_the_corpus_beside_it() {
    let content = gguf_file::Content::read(&mut std::io::Cursor::new(demo::BYTES)).unwrap();
    let corpus = include_bytes!("../../demo/corpus.txt");
    let recorded = content.metadata["cocoon.corpus_sha256"].to_string().unwrap();
    let advice = "train the demo model again: examples/train_demo";
    assert_eq!(*recorded, hex::encode(sha2::Sha256::digest(corpus)), "{advice}");
}
