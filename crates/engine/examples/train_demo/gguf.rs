//! Writes the model as a GGUF file that says where it comes from, and checks such a file.

use crate::lesson::CHAT_TEMPLATE;
use crate::model::{self, Model};
use crate::tokenizer::{END_OF_TEXT, IM_END, SPECIALS, Vocabulary};
use anyhow::{Context, Result, bail, ensure};
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use sha2::{Digest, Sha256};
use std::io::Cursor;

/// Rises when the recipe changes; the corpus and the seed have their own entries.
pub(crate) const RECIPE_VERSION: &str = "1";
pub(crate) const FILE_LEN_MAX: usize = 4 << 20;

/// What a file records about its making.
pub(crate) struct Origin {
    pub(crate) corpus_sha256: String,
    pub(crate) seed: u64,
    pub(crate) steps: usize,
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Matrices as `matrices`, norms as f32, as every reader of the format expects them.
pub(crate) fn write(
    model: &Model,
    vocabulary: &Vocabulary,
    origin: &Origin,
    matrices: GgmlDType,
) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (name, weight) in model.weights() {
        let format = if weight.rank() == 1 { GgmlDType::F32 } else { matrices };
        tensors.push((name.as_str(), QTensor::quantize(weight, format)?));
    }
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let metadata = metadata(vocabulary, origin, matrices)?;
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let mut file = Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors)?;
    let file = file.into_inner();
    ensure!(
        matrices == GgmlDType::F32 || file.len() <= FILE_LEN_MAX,
        "{} bytes are more than {FILE_LEN_MAX}",
        file.len()
    );
    Ok(file)
}

fn metadata(
    vocabulary: &Vocabulary,
    origin: &Origin,
    matrices: GgmlDType,
) -> Result<Vec<(&'static str, Value)>> {
    let text = |text: &str| Value::String(text.to_owned());
    let number = |number: usize| u32::try_from(number).map(Value::U32);
    let token =
        |token: &str| number(vocabulary.tokens.iter().position(|other| other == token).unwrap_or_default());
    // The numbers of `llama_ftype` in llama.cpp.
    let file_type = match matrices {
        GgmlDType::F32 => 0,
        GgmlDType::F16 => 1,
        GgmlDType::Q8_0 => 7,
        _ => bail!("no file type is known for {matrices:?}"),
    };
    // Of the token types of the format, 1 is ordinary and 3 is control.
    let kind = |token: &String| Value::I32(if SPECIALS.contains(&token.as_str()) { 3 } else { 1 });
    let merge = |(left, right): &(String, String)| Value::String(format!("{left} {right}"));
    Ok(vec![
        ("general.architecture", text("llama")),
        ("general.name", text("Cocoon demo")),
        ("general.description", text("Shows the Cocoon network at work; not a useful model")),
        ("general.version", text(RECIPE_VERSION)),
        ("general.license", text("Apache-2.0 OR MIT")),
        ("general.file_type", Value::U32(file_type)),
        ("general.quantization_version", Value::U32(2)),
        ("general.alignment", Value::U32(32)),
        ("cocoon.corpus_sha256", text(&origin.corpus_sha256)),
        ("cocoon.seed", Value::U64(origin.seed)),
        ("cocoon.steps", number(origin.steps)?),
        ("llama.vocab_size", number(vocabulary.tokens.len())?),
        ("llama.context_length", number(model::CONTEXT_LEN)?),
        ("llama.embedding_length", number(model::WIDTH)?),
        ("llama.block_count", number(model::BLOCKS)?),
        ("llama.feed_forward_length", number(model::FEED_FORWARD)?),
        ("llama.attention.head_count", number(model::HEADS)?),
        ("llama.attention.head_count_kv", number(model::HEADS)?),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(model::NORM_EPSILON)),
        ("llama.rope.dimension_count", number(model::HEAD_WIDTH)?),
        ("llama.rope.freq_base", Value::F32(model::ROPE_BASE)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", Value::Array(vocabulary.tokens.iter().map(|token| text(token)).collect())),
        ("tokenizer.ggml.token_type", Value::Array(vocabulary.tokens.iter().map(kind).collect())),
        ("tokenizer.ggml.merges", Value::Array(vocabulary.merges.iter().map(merge).collect())),
        ("tokenizer.ggml.bos_token_id", token(END_OF_TEXT)?),
        ("tokenizer.ggml.eos_token_id", token(IM_END)?),
        ("tokenizer.ggml.padding_token_id", token(END_OF_TEXT)?),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", text(CHAT_TEMPLATE)),
    ])
}

pub(crate) fn read(file: &[u8]) -> Result<Content> {
    Ok(Content::read(&mut Cursor::new(file))?)
}

/// Whether a file comes from this corpus, this seed and this recipe.
///
/// # Errors
/// Names the first entry that differs, and what to do.
pub(crate) fn check(content: &Content, origin: &Origin) -> Result<()> {
    let entry = |key: &str| content.metadata.get(key).with_context(|| format!("the file has no {key}"));
    let expect = |key: &str, found: String, expected: &str| {
        ensure!(
            found == expected,
            "{key} is {found}, the repository has {expected}: train the demo model again"
        );
        Ok(())
    };
    let text = |key: &str| Ok::<_, anyhow::Error>(entry(key)?.to_string()?.clone());
    expect("general.version", text("general.version")?, RECIPE_VERSION)?;
    expect("cocoon.corpus_sha256", text("cocoon.corpus_sha256")?, &origin.corpus_sha256)?;
    expect("cocoon.seed", entry("cocoon.seed")?.to_u64()?.to_string(), &origin.seed.to_string())?;
    expect("cocoon.steps", entry("cocoon.steps")?.to_u32()?.to_string(), &origin.steps.to_string())?;
    expect("tokenizer.chat_template", text("tokenizer.chat_template")?, CHAT_TEMPLATE)
}
