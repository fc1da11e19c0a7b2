//! A model from a folder in the layout of the Hugging Face hub.
//!
//! Weights are widened to f32, whatever type they are stored in: on a CPU, arithmetic in bf16 or f16 is
//! several times slower.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use candle_core::quantized::QMatMul;
use candle_core::safetensors::BufferedSafetensors;
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::config_json::{GenerationConfig, Ids, ModelConfig, TokenizerConfig};
use super::tokenizer::Tokenizer;
use super::{LoadError, Loaded};
use crate::model::{LayerSlot, Model, Slot, Weights};
use crate::sampler::SamplingDefaults;
use crate::template::ChatTemplate;

/// Loads the model in `folder`.
pub(super) fn load(folder: &Path, context_len_max: usize) -> Result<Loaded, LoadError> {
    let folder_of = Folder { path: folder };
    let config: ModelConfig = folder_of.json("config.json")?;
    let shape = config.shape(context_len_max)?;
    let mut weights = FolderWeights::open(&folder_of, config.tie_word_embeddings.unwrap_or(false))?;
    let model = Model::load(shape, &mut weights)?;

    let tokenizer = Tokenizer::from_json(&folder_of.required("tokenizer.json")?)?;
    let tokenizer_config: TokenizerConfig = folder_of.json("tokenizer_config.json")?;
    let special_tokens = tokenizer_config.special_tokens();
    let template = match (folder_of.optional("chat_template.jinja")?, tokenizer_config.chat_template) {
        (Some(source), _) => Some(String::from_utf8_lossy(&source).into_owned()),
        (None, Some(templates)) => templates.default_source(),
        (None, None) => None,
    };
    let template = match template {
        Some(source) => ChatTemplate::new(&source, special_tokens.clone())?,
        None => ChatTemplate::fallback(&tokenizer),
    };
    let generation: GenerationConfig = match folder_of.optional("generation_config.json")? {
        Some(text) => folder_of.parse("generation_config.json", &text)?,
        None => GenerationConfig::default(),
    };
    let named_end = special_tokens.end.as_deref().and_then(|piece| tokenizer.id(piece));
    let ends = [config.eos_token_id, generation.eos_token_id].into_iter().flatten().flat_map(Ids::into_vec);
    let end_tokens = tokenizer.end_tokens(ends.chain(named_end));
    let sampling = SamplingDefaults {
        temperature: generation.temperature,
        top_p: generation.top_p,
        top_k: generation.top_k,
    };
    let name = super::stem(&folder.canonicalize().map_err(LoadError::read(folder))?);
    Ok(Loaded { name, model, tokenizer, template, end_tokens, sampling })
}

/// The files of a model folder.
struct Folder<'a> {
    path: &'a Path,
}

impl Folder<'_> {
    fn optional(&self, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
        let path = self.path.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.path.is_dir() => Ok(None),
            Err(source) => Err(LoadError::Read { path, source }),
        }
    }

    fn required(&self, name: &str) -> Result<Vec<u8>, LoadError> {
        let missing = || LoadError::MissingFile { folder: self.path.to_owned(), name: name.to_owned() };
        self.optional(name)?.ok_or_else(missing)
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, LoadError> {
        self.parse(name, &self.required(name)?)
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, text: &[u8]) -> Result<T, LoadError> {
        serde_json::from_slice(text).map_err(|source| LoadError::Json { path: self.path.join(name), source })
    }
}

#[derive(Debug, Deserialize)]
struct ShardIndex {
    weight_map: HashMap<String, String>,
}

/// Tensors of a model folder. Shards are in memory only while the model is loaded.
struct FolderWeights {
    shards: Vec<(PathBuf, BufferedSafetensors)>,
    tied: bool,
}

impl FolderWeights {
    fn open(folder: &Folder<'_>, tied: bool) -> Result<Self, LoadError> {
        let single = folder.path.join("model.safetensors");
        let names = if single.is_file() {
            BTreeSet::from(["model.safetensors".to_owned()])
        } else {
            let missing = || LoadError::MissingFile {
                folder: folder.path.to_owned(),
                name: "model.safetensors or model.safetensors.index.json".to_owned(),
            };
            let index = folder.optional("model.safetensors.index.json")?.ok_or_else(missing)?;
            let index: ShardIndex = folder.parse("model.safetensors.index.json", &index)?;
            index.weight_map.into_values().collect()
        };
        let mut shards = Vec::new();
        for name in names {
            // An index names files beside itself; anything else would read what the folder does not hold.
            let mut components = Path::new(&name).components();
            if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
                return Err(LoadError::MissingFile { folder: folder.path.to_owned(), name });
            }
            let path = folder.path.join(&name);
            let buffer = folder.required(&name)?;
            let shard = BufferedSafetensors::new(buffer)
                .map_err(|source| LoadError::Safetensors { path: path.clone(), source })?;
            shards.push((path, shard));
        }
        Ok(Self { shards, tied })
    }

    fn tensor(&mut self, slot: Slot, expected: &[usize]) -> Result<Option<Tensor>, LoadError> {
        let name = self.name(slot);
        let Some((path, shard)) = self.shards.iter().find(|(_, shard)| shard.get(&name).is_ok()) else {
            return Ok(None);
        };
        let damaged = |source| LoadError::Safetensors { path: path.clone(), source };
        let tensor = shard.load(&name, &Device::Cpu).map_err(damaged)?;
        if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
            return Err(LoadError::TensorType {
                name,
                found: format!("{:?}", tensor.dtype()),
                supported: "F32, F16 and BF16",
            });
        }
        if tensor.dims() != expected {
            return Err(LoadError::TensorShape {
                name,
                found: tensor.dims().to_vec(),
                expected: expected.to_vec(),
            });
        }
        tensor.to_dtype(DType::F32).map(Some).map_err(LoadError::compute)
    }
}

impl Weights for FolderWeights {
    fn matrix(&mut self, slot: Slot, rows: usize, columns: usize) -> Result<Option<QMatMul>, LoadError> {
        // Some tied models carry a stale copy of the output matrix.
        if slot == Slot::Output && self.tied {
            return Ok(None);
        }
        Ok(self.tensor(slot, &[rows, columns])?.map(QMatMul::Tensor))
    }

    fn vector(&mut self, slot: Slot, len: usize) -> Result<Option<Tensor>, LoadError> {
        self.tensor(slot, &[len])
    }

    fn name(&self, slot: Slot) -> String {
        let (layer, slot) = match slot {
            Slot::Embedding => return "model.embed_tokens.weight".to_owned(),
            Slot::Output => return "lm_head.weight".to_owned(),
            Slot::OutputNorm => return "model.norm.weight".to_owned(),
            Slot::Layer(layer, slot) => (layer, slot),
        };
        let name = match slot {
            LayerSlot::AttentionNorm => "input_layernorm.weight",
            LayerSlot::Query => "self_attn.q_proj.weight",
            LayerSlot::QueryBias => "self_attn.q_proj.bias",
            LayerSlot::QueryNorm => "self_attn.q_norm.weight",
            LayerSlot::Key => "self_attn.k_proj.weight",
            LayerSlot::KeyBias => "self_attn.k_proj.bias",
            LayerSlot::KeyNorm => "self_attn.k_norm.weight",
            LayerSlot::Value => "self_attn.v_proj.weight",
            LayerSlot::ValueBias => "self_attn.v_proj.bias",
            LayerSlot::AttentionOutput => "self_attn.o_proj.weight",
            LayerSlot::FeedForwardNorm => "post_attention_layernorm.weight",
            LayerSlot::Gate => "mlp.gate_proj.weight",
            LayerSlot::Up => "mlp.up_proj.weight",
            LayerSlot::Down => "mlp.down_proj.weight",
        };
        format!("model.layers.{layer}.{name}")
    }
}
