//! Files that are damaged, hostile or unsupported are refused with a reason, never with a panic.

use std::path::Path;

use candle_core::quantized::gguf_file::Value as Meta;
use candle_core::quantized::{GgmlDType, QTensor};
use cocoon_engine::{Engine, LoadError, Source, TokenizerError};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Family, Tiny, config, write_gguf};

fn load_bytes(bytes: &[u8]) -> Result<Engine, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    std::fs::write(&path, bytes).unwrap();
    Engine::load(&Source::Gguf(path), config())
}

fn tiny_bytes() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    Tiny::new(Family::Llama).write_gguf(&path, GgmlDType::F16);
    std::fs::read(&path).unwrap()
}

type Metadata = Vec<(String, Meta)>;
type Tensors = Vec<(String, QTensor)>;

/// Loads a tiny model after `change`.
fn load_with(change: impl FnOnce(&mut Metadata, &mut Tensors)) -> LoadError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let tiny = Tiny::new(Family::Llama);
    let (mut metadata, mut tensors) = (tiny.metadata(), tiny.gguf_tensors(GgmlDType::F32));
    change(&mut metadata, &mut tensors);
    write_gguf(&path, &metadata, &tensors);
    Engine::load(&Source::Gguf(path), config()).expect_err("the model was accepted")
}

fn set(key: &str, value: Meta) -> impl FnOnce(&mut Metadata, &mut Tensors) {
    move |metadata, _| {
        metadata.retain(|(name, _)| name != key);
        metadata.push((key.to_owned(), value));
    }
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let bytes = tiny_bytes();
    for len in (0..bytes.len()).step_by(997).chain([3, 4, 8, 16, 24, bytes.len() - 64]) {
        assert!(load_bytes(&bytes[..len]).is_err(), "{len} of {} bytes were enough", bytes.len());
    }
    assert!(load_bytes(&bytes).is_ok());
}

#[test]
fn counts_beyond_the_file_are_refused_before_anything_is_reserved() {
    let header = |tensors: u64, metadata: u64| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(metadata.to_le_bytes());
        bytes
    };
    for (tensors, metadata) in [(u64::MAX, 0), (0, u64::MAX), (1 << 40, 1 << 40), (1, 0)] {
        assert!(matches!(load_bytes(&header(tensors, metadata)), Err(LoadError::Truncated { .. })));
    }
    // A string and an array that claim more than there is.
    let key = |kind: u32| {
        let mut bytes = header(0, 1);
        bytes.extend(1_u64.to_le_bytes());
        bytes.push(b'k');
        bytes.extend(kind.to_le_bytes());
        bytes
    };
    let mut string = key(8);
    string.extend(u64::MAX.to_le_bytes());
    assert!(matches!(load_bytes(&string), Err(LoadError::Truncated { .. })));
    for element in [0_u32, 4, 6, 8, 10] {
        let mut array = key(9);
        array.extend(element.to_le_bytes());
        array.extend((1_u64 << 60).to_le_bytes());
        assert!(matches!(load_bytes(&array), Err(LoadError::Truncated { .. })), "elements of type {element}");
    }
    let mut nested = key(9);
    nested.extend(9_u32.to_le_bytes());
    nested.extend(1_u64.to_le_bytes());
    assert!(matches!(load_bytes(&nested), Err(LoadError::Malformed { .. })));
}

#[test]
fn other_files_and_versions_are_named() {
    assert!(matches!(load_bytes(b"PK\x03\x04 something else"), Err(LoadError::NotGguf { .. })));
    let mut bytes = tiny_bytes();
    bytes[4] = 9;
    assert!(matches!(load_bytes(&bytes), Err(LoadError::GgufVersion { found: 9 })));
    let missing = Engine::load(&Source::Gguf("/nowhere/at all.gguf".into()), config());
    assert!(missing.unwrap_err().to_string().contains("at all.gguf"));
}

#[test]
fn what_the_engine_cannot_compute_is_named() {
    let error = load_with(set("general.architecture", Meta::String("gemma3".into())));
    assert!(matches!(&error, LoadError::Architecture { found } if found == "gemma3"), "{error}");
    let error = load_with(set("llama.expert_count", Meta::U32(8)));
    assert!(matches!(&error, LoadError::Feature { feature } if feature.contains("8 experts")), "{error}");
    let error = load_with(set("llama.rope.scaling.type", Meta::String("yarn".into())));
    assert!(matches!(&error, LoadError::Feature { feature } if feature.contains("yarn")), "{error}");
    let error = load_with(set("llama.rope.dimension_count", Meta::U32(4)));
    assert!(matches!(error, LoadError::PartialRotation { rotated: 4, head_dim: 8 }), "{error}");
    let error = load_with(set("tokenizer.ggml.pre", Meta::String("tekken".into())));
    assert!(matches!(error, LoadError::Tokenizer(TokenizerError::PreTokenizer { .. })), "{error}");
    let error = load_with(set("tokenizer.chat_template", Meta::String("{% for %}".into())));
    assert!(matches!(error, LoadError::ChatTemplate(_)), "{error}");
}

#[test]
fn metadata_that_contradicts_itself_or_the_tensors_is_named() {
    let error = load_with(|metadata, _| metadata.retain(|(key, _)| key != "llama.block_count"));
    assert!(matches!(&error, LoadError::MissingMetadata { key } if key == "llama.block_count"), "{error}");
    let error = load_with(set("llama.block_count", Meta::String("two".into())));
    assert!(matches!(&error, LoadError::MetadataType { .. }), "{error}");
    let error = load_with(set("llama.block_count", Meta::U32(3)));
    assert!(matches!(&error, LoadError::MissingTensor { name } if name.starts_with("blk.2.")), "{error}");
    let error = load_with(set("llama.block_count", Meta::U64(u64::MAX)));
    assert!(matches!(error, LoadError::SizeOutOfRange { .. }), "{error}");
    let error = load_with(set("llama.rope.dimension_count", Meta::U64(u64::MAX)));
    assert!(matches!(error, LoadError::SizeOutOfRange { .. }), "{error}");
    let error = load_with(set("llama.attention.head_count_kv", Meta::U32(3)));
    assert!(matches!(error, LoadError::UnevenHeads { heads: 4, kv_heads: 3 }), "{error}");
    let error = load_with(set("llama.attention.head_count_kv", Meta::U32(4)));
    assert!(
        matches!(&error, LoadError::TensorShape { name, .. } if name == "blk.0.attn_k.weight"),
        "{error}"
    );
    let error = load_with(set("general.alignment", Meta::U32(0)));
    assert!(matches!(error, LoadError::Malformed { .. }), "{error}");
    let error = load_with(|_, tensors| tensors.retain(|(name, _)| name != "output_norm.weight"));
    assert!(matches!(&error, LoadError::MissingTensor { name } if name == "output_norm.weight"), "{error}");
}

#[test]
fn tensor_sizes_that_overflow_are_refused() {
    let bytes = tiny_bytes();
    let at = bytes.windows(17).position(|window| window == b"token_embd.weight").unwrap() + 17 + 4;
    for dim in [u64::MAX, 1 << 63, 1 << 40, 0] {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&dim.to_le_bytes());
        bytes[at + 8..at + 16].copy_from_slice(&dim.to_le_bytes());
        assert!(load_bytes(&bytes).is_err(), "{dim}");
    }
    let mut beyond = bytes.clone();
    beyond[at + 20..at + 28].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(load_bytes(&beyond), Err(LoadError::Truncated { .. } | LoadError::TensorShape { .. })));
    let mut unknown_type = bytes;
    unknown_type[at + 16..at + 20].copy_from_slice(&17_u32.to_le_bytes());
    assert!(matches!(load_bytes(&unknown_type), Err(LoadError::TensorType { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_flipped_bytes_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = tiny_bytes();
        // Most of the file is weights, where any byte is legal; the header is what a reader must distrust.
        let header_len = 8192;
        for (index, byte) in flips {
            bytes[index.index(header_len)] = byte;
        }
        let _ = load_bytes(&bytes);
    }
}

/// A folder with a tiny model, one of whose JSON files has been changed.
fn load_folder(name: &str, change: impl FnOnce(&mut Value)) -> LoadError {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new(Family::Llama).write_safetensors(folder.path());
    let path = folder.path().join(name);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&path, serde_json::to_vec(&value).unwrap()).unwrap();
    Engine::load(&Source::Safetensors(folder.path().into()), config()).expect_err("the model was accepted")
}

#[test]
fn a_folder_must_hold_what_a_model_needs() {
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        let folder = tempfile::tempdir().unwrap();
        Tiny::new(Family::Llama).write_safetensors(folder.path());
        std::fs::remove_file(folder.path().join(name)).unwrap();
        let error = Engine::load(&Source::Safetensors(folder.path().into()), config()).unwrap_err();
        let named = matches!(&error, LoadError::MissingFile { name: missing, .. } if missing.contains(name));
        assert!(named, "{error}");
    }
    let nowhere = Engine::load(&Source::Safetensors(Path::new("/nowhere").into()), config());
    assert!(matches!(nowhere, Err(LoadError::Read { .. })));
}

#[test]
fn a_folder_with_an_unsupported_model_is_refused_by_name() {
    let error = load_folder("config.json", |config| config["model_type"] = json!("mamba"));
    assert!(matches!(&error, LoadError::Architecture { found } if found == "mamba"), "{error}");
    let yarn = json!({"rope_type": "yarn", "factor": 4.0});
    let error = load_folder("config.json", |config| config["rope_scaling"] = yarn);
    assert!(matches!(&error, LoadError::Feature { feature } if feature.contains("yarn")), "{error}");
    let gptq = json!({"quant_method": "gptq"});
    let error = load_folder("config.json", |config| config["quantization_config"] = gptq);
    assert!(matches!(&error, LoadError::Feature { .. }), "{error}");
    let error = load_folder("config.json", |config| config["hidden_size"] = json!(48));
    assert!(matches!(&error, LoadError::TensorShape { .. }), "{error}");
    let error = load_folder("config.json", |config| config["hidden_size"] = json!("large"));
    assert!(matches!(&error, LoadError::Json { .. }), "{error}");
    let error = load_folder("tokenizer.json", |tokenizer| tokenizer["decoder"] = json!(null));
    assert!(matches!(error, LoadError::Tokenizer(TokenizerError::Decoder)), "{error}");
}

#[test]
fn a_shard_index_cannot_lead_out_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new(Family::Llama).write_safetensors(folder.path());
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    for escape in ["../model.safetensors", "/etc/passwd", "a/b.safetensors"] {
        let index = json!({"weight_map": {"model.norm.weight": escape}});
        let index = serde_json::to_vec(&index).unwrap();
        std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        let error = Engine::load(&Source::Safetensors(folder.path().into()), config()).unwrap_err();
        assert!(matches!(&error, LoadError::MissingFile { name, .. } if name == escape), "{error}");
    }
}
