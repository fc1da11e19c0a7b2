//! A model from a GGUF file: its metadata says everything, tensors have the names llama.cpp gives them.

use std::collections::HashMap;
use std::io::{Read, Seek};

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Tensor};

use super::gguf::{Header, Value};
use super::gguf_tokenizer::{self, GgufParts};
use super::{LoadError, Loaded};
use crate::model::{LayerSlot, Model, Pairing, Shape, Slot, Weights};
use crate::sampler::SamplingDefaults;
use crate::template::{ChatTemplate, SpecialTokens};

/// Files with at most this many bytes of tensors are kept as f32 whatever their type: for small matrices
/// the bookkeeping of quantised products costs more than the memory they save. On two busy cores, a Q8_0 file
/// of 1 MB generated four times and one of 5 MB twice as many tokens when widened; at 20 MB both were equal,
/// at 50 MB the quantised one was ahead.
const DEQUANTISE_LEN_MAX: u64 = 16 << 20;

/// Loads a model from a file of `file_len` bytes.
pub(super) fn load(
    file: &mut (impl Read + Seek),
    file_len: u64,
    name: String,
    context_len_max: usize,
) -> Result<Loaded, LoadError> {
    let header = Header::read(file, file_len)?;
    let metadata = Metadata { values: &header.metadata };
    let architecture = Architecture::of(&metadata)?;
    let rope_factors = header.tensor(file, "rope_freqs.weight")?;
    let rows = header.dims("token_embd.weight").and_then(|dims| dims.first().copied());
    let vocabulary = rows.ok_or_else(|| LoadError::MissingTensor { name: "token_embd.weight".to_owned() })?;
    let shape = shape(&metadata, architecture, vocabulary, rope_factors.as_ref(), context_len_max)?;
    let dequantise = header.data_len() <= DEQUANTISE_LEN_MAX;
    let model = Model::load(shape, &mut GgufWeights { header: &header, file, dequantise })?;

    let parts = tokenizer_parts(&metadata)?;
    let special = |id: Option<u32>| id.and_then(|id| parts.pieces.get(usize::try_from(id).ok()?).cloned());
    let special_tokens =
        SpecialTokens { begin: special(parts.begin), end: special(parts.end), ..SpecialTokens::default() };
    let tokenizer = gguf_tokenizer::build(&parts)?;
    let template = match metadata.text("tokenizer.chat_template")? {
        Some(source) => ChatTemplate::new(source, special_tokens)?,
        None => ChatTemplate::fallback(&tokenizer),
    };
    let ends = ["eos", "eot", "eom"].map(|kind| metadata.integer(&format!("tokenizer.ggml.{kind}_token_id")));
    let ends = ends.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
    let end_tokens = tokenizer.end_tokens(ends);
    let sampling = SamplingDefaults {
        temperature: metadata.float("general.sampling.temp")?,
        top_p: metadata.float("general.sampling.top_p")?,
        top_k: metadata.integer("general.sampling.top_k")?,
    };
    Ok(Loaded { name, model, tokenizer, template, end_tokens, sampling })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
}

impl Architecture {
    fn of(metadata: &Metadata<'_>) -> Result<Self, LoadError> {
        match metadata.required("general.architecture", Metadata::text)? {
            "llama" => Ok(Self::Llama),
            "qwen2" => Ok(Self::Qwen2),
            "qwen3" => Ok(Self::Qwen3),
            other => Err(LoadError::Architecture { found: other.to_owned() }),
        }
    }

    /// What the architecture's own metadata keys begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// Typed access to metadata.
struct Metadata<'a> {
    values: &'a HashMap<String, Value>,
}

impl<'a> Metadata<'a> {
    fn required<T>(
        &self,
        key: &str,
        get: impl FnOnce(&Self, &str) -> Result<Option<T>, LoadError>,
    ) -> Result<T, LoadError> {
        get(self, key)?.ok_or_else(|| LoadError::MissingMetadata { key: key.to_owned() })
    }

    /// An integer in the range of `T`.
    fn integer<T: TryFrom<i128>>(&self, key: &str) -> Result<Option<T>, LoadError> {
        self.get(key, "an integer in range", |value| match value {
            Value::Integer(value) => T::try_from(*value).ok(),
            _ => None,
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "f32 is the precision the model computes in")]
    fn float(&self, key: &str) -> Result<Option<f32>, LoadError> {
        self.get(key, "a finite number", |value| match value {
            Value::Float(value) if value.is_finite() => Some(*value as f32),
            _ => None,
        })
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, LoadError> {
        self.get(key, "a string", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        self.get(key, "a boolean", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    fn texts(&self, key: &str) -> Result<Option<&'a [String]>, LoadError> {
        self.get(key, "an array of strings", |value| match value {
            Value::Texts(texts) => Some(texts.as_slice()),
            _ => None,
        })
    }

    fn integers(&self, key: &str) -> Result<Option<&'a [i64]>, LoadError> {
        self.get(key, "an array of integers", |value| match value {
            Value::Integers(integers) => Some(integers.as_slice()),
            _ => None,
        })
    }

    fn floats(&self, key: &str) -> Result<Option<&'a [f32]>, LoadError> {
        self.get(key, "an array of numbers", |value| match value {
            Value::Floats(floats) => Some(floats.as_slice()),
            _ => None,
        })
    }

    fn get<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, LoadError> {
        let wrong = || LoadError::MetadataType { key: key.to_owned(), expected };
        self.values.get(key).map(|value| read(value).ok_or_else(wrong)).transpose()
    }
}

fn shape(
    metadata: &Metadata<'_>,
    architecture: Architecture,
    vocabulary: usize,
    rope_factors: Option<&QTensor>,
    context_len_max: usize,
) -> Result<Shape, LoadError> {
    let key = |name: &str| format!("{}.{name}", architecture.prefix());
    let size = |name: &str| metadata.required(&key(name), Metadata::integer::<usize>);
    if let Some(experts) = metadata.integer::<usize>(&key("expert_count"))?
        && experts > 0
    {
        return Err(LoadError::Feature { feature: format!("a mixture of {experts} experts") });
    }
    let hidden = size("embedding_length")?;
    let heads = size("attention.head_count")?;
    let head_dim = match metadata.integer(&key("attention.key_length"))? {
        Some(head_dim) => head_dim,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    let rotated = metadata.integer(&key("rope.dimension_count"))?.unwrap_or(head_dim);
    let base = metadata.float(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let linear_factor = match metadata.text(&key("rope.scaling.type"))? {
        None | Some("none") => 1.0,
        Some("linear") => metadata.required(&key("rope.scaling.factor"), Metadata::float)?,
        Some(other) => {
            return Err(LoadError::Feature { feature: format!("position scaling of the type {other:?}") });
        }
    };
    let mut frequencies = crate::model::rope_frequencies(rotated, base)?;
    for frequency in &mut frequencies {
        *frequency /= linear_factor;
    }
    if let Some(factors) = rope_factors {
        apply_factors(&mut frequencies, factors)?;
    }
    let shape = Shape {
        layers: size("block_count")?,
        hidden,
        feed_forward: size("feed_forward_length")?,
        heads,
        kv_heads: metadata.integer(&key("attention.head_count_kv"))?.unwrap_or(heads),
        head_dim,
        vocabulary,
        norm_epsilon: metadata.required(&key("attention.layer_norm_rms_epsilon"), Metadata::float)?,
        pairing: if architecture == Architecture::Llama { Pairing::Adjacent } else { Pairing::Halves },
        frequencies,
        context_len: size("context_length")?.min(context_len_max),
        attention_bias: architecture == Architecture::Qwen2,
        head_norms: architecture == Architecture::Qwen3,
    };
    shape.check()?;
    Ok(shape)
}

/// Llama 3.1 and later stretch slow rotations; their converter writes the divisors as a tensor.
fn apply_factors(frequencies: &mut [f32], factors: &QTensor) -> Result<(), LoadError> {
    let expected = vec![frequencies.len()];
    if factors.shape().dims() != expected {
        let found = factors.shape().dims().to_vec();
        return Err(LoadError::TensorShape { name: "rope_freqs.weight".to_owned(), found, expected });
    }
    let factors = factors.dequantize(&Device::Cpu).and_then(|t| t.to_vec1::<f32>());
    for (frequency, factor) in frequencies.iter_mut().zip(factors.map_err(LoadError::compute)?) {
        *frequency /= factor;
    }
    Ok(())
}

fn tokenizer_parts<'a>(metadata: &Metadata<'a>) -> Result<GgufParts<'a>, LoadError> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    Ok(GgufParts {
        model: metadata.required(&key("model"), Metadata::text)?,
        pre: metadata.text(&key("pre"))?,
        pieces: metadata.required(&key("tokens"), Metadata::texts)?,
        kinds: metadata.integers(&key("token_type"))?.unwrap_or_default(),
        scores: metadata.floats(&key("scores"))?.unwrap_or_default(),
        merges: metadata.texts(&key("merges"))?.unwrap_or_default(),
        begin: metadata.integer(&key("bos_token_id"))?,
        end: metadata.integer(&key("eos_token_id"))?,
        unknown: metadata.integer(&key("unknown_token_id"))?,
        add_begin: metadata.flag(&key("add_bos_token"))?,
        add_space_prefix: metadata.flag(&key("add_space_prefix"))?,
    })
}

/// Tensors of a GGUF file.
struct GgufWeights<'a, F> {
    header: &'a Header,
    file: &'a mut F,
    dequantise: bool,
}

impl<F: Read + Seek> GgufWeights<'_, F> {
    fn tensor(&mut self, slot: Slot, expected: &[usize]) -> Result<Option<QTensor>, LoadError> {
        let name = self.name(slot);
        if let Some(found) = self.header.dims(&name)
            && found != expected
        {
            return Err(LoadError::TensorShape { name, found: found.to_vec(), expected: expected.to_vec() });
        }
        self.header.tensor(self.file, &name)
    }
}

impl<F: Read + Seek> Weights for GgufWeights<'_, F> {
    fn matrix(&mut self, slot: Slot, rows: usize, columns: usize) -> Result<Option<QMatMul>, LoadError> {
        let Some(tensor) = self.tensor(slot, &[rows, columns])? else { return Ok(None) };
        let matrix = if self.dequantise {
            tensor.dequantize(&Device::Cpu).map(QMatMul::Tensor)
        } else {
            QMatMul::from_qtensor(tensor)
        };
        matrix.map(Some).map_err(LoadError::compute)
    }

    fn vector(&mut self, slot: Slot, len: usize) -> Result<Option<Tensor>, LoadError> {
        let Some(tensor) = self.tensor(slot, &[len])? else { return Ok(None) };
        tensor.dequantize(&Device::Cpu).map(Some).map_err(LoadError::compute)
    }

    fn name(&self, slot: Slot) -> String {
        let (layer, slot) = match slot {
            Slot::Embedding => return "token_embd.weight".to_owned(),
            Slot::Output => return "output.weight".to_owned(),
            Slot::OutputNorm => return "output_norm.weight".to_owned(),
            Slot::Layer(layer, slot) => (layer, slot),
        };
        let name = match slot {
            LayerSlot::AttentionNorm => "attn_norm.weight",
            LayerSlot::Query => "attn_q.weight",
            LayerSlot::QueryBias => "attn_q.bias",
            LayerSlot::QueryNorm => "attn_q_norm.weight",
            LayerSlot::Key => "attn_k.weight",
            LayerSlot::KeyBias => "attn_k.bias",
            LayerSlot::KeyNorm => "attn_k_norm.weight",
            LayerSlot::Value => "attn_v.weight",
            LayerSlot::ValueBias => "attn_v.bias",
            LayerSlot::AttentionOutput => "attn_output.weight",
            LayerSlot::FeedForwardNorm => "ffn_norm.weight",
            LayerSlot::Gate => "ffn_gate.weight",
            LayerSlot::Up => "ffn_up.weight",
            LayerSlot::Down => "ffn_down.weight",
        };
        format!("blk.{layer}.{name}")
    }
}
