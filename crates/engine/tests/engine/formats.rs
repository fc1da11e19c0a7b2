//! The same weights give the same answers whatever file they come from.

use candle_core::quantized::GgmlDType;
use cocoon_engine::{Engine, Source};
use serde_json::{Value, json};

use crate::support::{CHAT, COMPLETIONS, Family, Tiny, answer, config, token_text};

/// Greedy tokens after a fixed prompt longer than one turn reads, with their probabilities.
async fn greedy(engine: &Engine) -> (Vec<String>, Vec<f64>) {
    let prompt: Vec<u32> = (0..200).map(|i| i * 7 % 256).collect();
    let model = engine.model_id().base();
    let body = json!({"model": model, "prompt": prompt, "max_tokens": 24, "temperature": 0, "logprobs": 1});
    let answered = answer(engine, COMPLETIONS, &body).await;
    let values = |name: &str| answered["choices"][0]["logprobs"][name].as_array().unwrap().clone();
    let tokens = values("tokens").into_iter().map(|token| token.as_str().unwrap().to_owned());
    (tokens.collect(), values("token_logprobs").iter().map(|value| value.as_f64().unwrap()).collect())
}

/// What the models of `candle-transformers` 0.11.1 (llama, qwen2, qwen3) generate from the same weights and
/// prompt, and the logarithm of the first and the last token's probability.
fn reference(family: Family) -> ([u32; 24], f64, f64) {
    match family {
        Family::Llama => (
            [
                171, 78, 193, 214, 39, 182, 121, 214, 132, 76, 127, 245, 147, 36, 17, 251, 114, 182, 214, 2,
                214, 37, 169, 110,
            ],
            -2.738_328_9,
            -1.432_840_0,
        ),
        Family::Qwen2 => (
            [
                132, 245, 153, 3, 202, 87, 33, 123, 110, 139, 145, 66, 119, 97, 261, 144, 171, 186, 245, 52,
                183, 139, 247, 225,
            ],
            -2.642_842_9,
            -3.090_766_1,
        ),
        Family::Qwen3 => (
            [
                85, 221, 111, 39, 248, 24, 143, 257, 45, 232, 130, 206, 179, 236, 30, 203, 186, 206, 179,
                236, 117, 157, 35, 100,
            ],
            -1.484_091_2,
            -2.395_286_5,
        ),
    }
}

#[tokio::test]
async fn every_family_computes_what_the_reference_models_compute() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let folder = tempfile::tempdir().unwrap();
        let tiny = Tiny::new(family);
        tiny.write_safetensors(folder.path());
        tiny.write_gguf(&folder.path().join("tiny.gguf"), GgmlDType::F32);
        let (tokens, first, last) = reference(family);
        let gguf = Source::Gguf(folder.path().join("tiny.gguf"));
        for source in [gguf, Source::Safetensors(folder.path().into())] {
            let engine = Engine::load(&source, config()).unwrap();
            let (found, logprobs) = greedy(&engine).await;
            assert_eq!(found, tokens.map(token_text), "{family:?} from {source:?}");
            assert!((logprobs[0] - first).abs() < 1e-3, "{family:?}: {} instead of {first}", logprobs[0]);
            assert!((logprobs[23] - last).abs() < 1e-3, "{family:?}: {} instead of {last}", logprobs[23]);
        }
    }
}

#[tokio::test]
async fn half_precision_and_quantised_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::new(Family::Llama);
    let (_, first, _) = reference(Family::Llama);
    for dtype in [GgmlDType::F16, GgmlDType::BF16, GgmlDType::Q8_0, GgmlDType::Q5_1, GgmlDType::Q4_0] {
        let path = folder.path().join("tiny.gguf");
        tiny.write_gguf(&path, dtype);
        let engine = Engine::load(&Source::Gguf(path), config()).unwrap();
        let (_, logprobs) = greedy(&engine).await;
        // Coarser weights give another distribution, but not an unrelated one.
        assert!((logprobs[0] - first).abs() < 1.5, "{dtype:?}: {} instead of about {first}", logprobs[0]);
    }
}

#[tokio::test]
async fn large_files_are_computed_quantised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        Tiny::new(family).write_gguf(&path, GgmlDType::Q8_0);
        let widened = Engine::load(&Source::Gguf(path.clone()), config()).unwrap();
        // What follows the tensors makes the file large, not the model.
        std::fs::File::options().append(true).open(&path).unwrap().set_len(20 << 20).unwrap();
        let quantised = Engine::load(&Source::Gguf(path.clone()), config()).unwrap();
        let (expected, found) = (greedy(&widened).await.1, greedy(&quantised).await.1);
        assert!((expected[0] - found[0]).abs() < 0.3, "{family:?}: {} and {}", expected[0], found[0]);
        assert_ne!(expected, found, "{family:?}: int8 products differ from f32 ones");
    }
}

#[tokio::test]
async fn both_formats_read_the_same_chat() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::new(Family::Qwen3);
    tiny.write_safetensors(folder.path());
    tiny.write_gguf(&folder.path().join("tiny.gguf"), GgmlDType::F32);
    let mut usages = Vec::new();
    for source in [Source::Gguf(folder.path().join("tiny.gguf")), Source::Safetensors(folder.path().into())] {
        let engine = Engine::load(&source, config()).unwrap();
        let body = json!({"model": engine.model_id().base(), "max_tokens": 3, "temperature": 0,
            "messages": [{"role": "user", "content": "hello wörld"}]});
        usages.push(answer(&engine, CHAT, &body).await["usage"].clone());
    }
    // <|im_start|> u s e r \n, hello, space-w, ö as two bytes, r l d, <|im_end|> \n,
    // <|im_start|> and the ten bytes of "assistant\n".
    assert_eq!(usages[0]["prompt_tokens"], Value::from(6 + 1 + 1 + 2 + 3 + 2 + 1 + 10));
    assert_eq!(usages[0], usages[1]);
}

#[tokio::test]
async fn tied_output_matrices_and_shards_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let mut tiny = Tiny::new(Family::Llama);
    let embedding = tiny.tensors["model.embed_tokens.weight"].clone();
    tiny.tensors.insert("lm_head.weight".into(), embedding);
    tiny.write_gguf(&folder.path().join("whole.gguf"), GgmlDType::F32);
    let whole = Engine::load(&Source::Gguf(folder.path().join("whole.gguf")), config()).unwrap();
    let expected = greedy(&whole).await.0;

    tiny.tensors.remove("lm_head.weight");
    tiny.write_gguf(&folder.path().join("tied.gguf"), GgmlDType::F32);
    let tied = Engine::load(&Source::Gguf(folder.path().join("tied.gguf")), config()).unwrap();
    assert_eq!(greedy(&tied).await.0, expected);

    tiny.write_safetensors(folder.path());
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let shard_of = |index: usize| format!("model-{}.safetensors", index % 2);
    let weight_map: serde_json::Map<String, Value> =
        tiny.tensors.keys().enumerate().map(|(index, name)| (name.clone(), shard_of(index).into())).collect();
    for shard in ["model-0.safetensors", "model-1.safetensors"] {
        let part = tiny.tensors.iter().filter(|(name, _)| weight_map[*name] == shard);
        let part: std::collections::HashMap<_, _> =
            part.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        candle_core::safetensors::save(&part, folder.path().join(shard)).unwrap();
    }
    let index = serde_json::to_vec(&json!({"weight_map": weight_map})).unwrap();
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let sharded = Engine::load(&Source::Safetensors(folder.path().into()), config()).unwrap();
    assert_eq!(greedy(&sharded).await.0, expected);
}
