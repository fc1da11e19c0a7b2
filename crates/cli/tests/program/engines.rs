//! What `cocoon up` serves: a model of the user's, or an engine that runs already.

use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Up, answer_is_metered, cocoon, exchange, json_in, serve_scripted_engine};

/// The same model, asked the same at temperature 0, says the same wherever its weights come from.
#[test]
fn a_gguf_file_is_served_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my-model.gguf");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/demo/cocoon-demo.gguf");
    std::fs::copy(demo, &file).unwrap();
    let mut up = Up::start(&folder.path().join("state"), &["--model", file.to_str().unwrap()]);
    let text = answer_is_metered(&up, "my-model");
    assert!(text.contains("Cocoon"), "{text:?}");
    assert_eq!(models(&up), ["my-model"]);
    assert!(up.interrupt().success());
}

#[test]
fn a_safetensors_folder_is_served_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny-llama");
    std::fs::create_dir(&model).unwrap();
    write_tiny_llama(&model);
    let mut up = Up::start(&folder.path().join("state"), &["--model", model.to_str().unwrap()]);
    let text = answer_is_metered(&up, "tiny-llama");
    assert_eq!(text, "b".repeat(40), "weights that always prefer one token");
    assert_eq!(models(&up), ["tiny-llama"]);
    assert!(up.interrupt().success());
}

#[test]
fn a_model_that_is_not_there_or_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let refused = |path: &Path| {
        let state = state.to_str().unwrap();
        let output = cocoon(&["up", "--free-ports", "--state", state, "--model", path.to_str().unwrap()]);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let message = refused(&folder.path().join("missing.gguf"));
    assert!(message.contains("missing.gguf"), "{message}");
    let damaged = folder.path().join("damaged.gguf");
    std::fs::write(&damaged, b"GGUF but no more").unwrap();
    let message = refused(&damaged);
    assert!(message.contains("damaged"), "{message}");
}

#[test]
fn a_running_engine_is_found_and_can_be_ignored() {
    // Ollama's usual port is asked first, so that no other engine on this host can come before it.
    let Ok(listener) = TcpListener::bind(("127.0.0.1", 11434)) else {
        println!("skipped: port 11434 is taken on this machine, perhaps by an engine");
        return;
    };
    serve_scripted_engine(listener);
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    assert_eq!(answer_is_metered(&up, "scripted"), "from the engine");
    assert_eq!(models(&up), ["scripted"]);
    assert!(up.interrupt().success());

    let mut up = Up::start(folder.path(), &["--no-detect"]);
    assert_eq!(models(&up), ["cocoon-demo"]);
    assert!(up.interrupt().success());
}

fn models(up: &Up) -> Vec<String> {
    let (status, body) = exchange(up.address("client"), "GET /v1/models", "");
    assert_eq!(status, 200, "{body}");
    let list = json_in(&body);
    let entries = list["data"].as_array().unwrap().iter();
    entries.map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

/// A Llama of one layer in the layout of Hugging Face, whose weights make it say "b" whatever it is asked: the
/// embedding is the same for all tokens, attention and feed-forward add nothing, and the output matrix prefers "b".
fn write_tiny_llama(folder: &Path) {
    const HIDDEN: usize = 8;
    let pieces = ["a", "b", "<end>"];
    let vocabulary: Value =
        pieces.iter().enumerate().map(|(id, piece)| ((*piece).to_owned(), json!(id))).collect();
    let write = |name: &str, value: Value| std::fs::write(folder.join(name), value.to_string()).unwrap();
    write(
        "config.json",
        json!({
            "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": HIDDEN, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": pieces.len(), "rms_norm_eps": 1e-5,
            "max_position_embeddings": 512, "rope_theta": 10000.0, "tie_word_embeddings": false,
            "hidden_act": "silu", "eos_token_id": 2,
        }),
    );
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    write(
        "tokenizer.json",
        json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": [{"id": 2, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
                              "normalized": false, "special": true}],
            "pre_tokenizer": byte_level, "decoder": byte_level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": "a"},
        }),
    );
    let template = "{% for message in messages %}{{ message['content'] }}{% endfor %}";
    write("tokenizer_config.json", json!({"eos_token": "<end>", "chat_template": template}));

    let constant = |value: f32, len: usize| vec![value; len];
    let square = HIDDEN * HIDDEN;
    let matrix = json!([HIDDEN, HIDDEN]);
    let mut tensors = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            json!([pieces.len(), HIDDEN]),
            constant(1.0, pieces.len() * HIDDEN),
        ),
        ("model.norm.weight".to_owned(), json!([HIDDEN]), constant(1.0, HIDDEN)),
        (
            "lm_head.weight".to_owned(),
            json!([pieces.len(), HIDDEN]),
            [constant(0.0, HIDDEN), constant(1.0, HIDDEN), constant(0.0, HIDDEN)].concat(),
        ),
    ];
    for name in ["input_layernorm", "post_attention_layernorm"] {
        let values = constant(1.0, HIDDEN);
        tensors.push((format!("model.layers.0.{name}.weight"), json!([HIDDEN]), values));
    }
    let linear = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
    for name in linear.iter().chain(&["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]) {
        tensors.push((format!("model.layers.0.{name}.weight"), matrix.clone(), constant(0.0, square)));
    }
    write_safetensors(&folder.join("model.safetensors"), &tensors);
}

/// The safetensors format: length of a JSON header, the header, the values of all tensors.
fn write_safetensors(path: &Path, tensors: &[(String, Value, Vec<f32>)]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let length = u64::try_from(header.len()).unwrap().to_le_bytes();
    std::fs::write(path, [&length, header.as_bytes(), &data].concat()).unwrap();
}
