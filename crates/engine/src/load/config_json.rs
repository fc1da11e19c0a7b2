//! The JSON files of a model folder: how to compute, which tokens are special, what the makers recommend.

use serde::Deserialize;

use super::LoadError;
use crate::model::{Pairing, Shape, rope_frequencies};
use crate::template::SpecialTokens;

/// The members of `config.json` that decide how to compute.
#[derive(Debug, Deserialize)]
pub(super) struct ModelConfig {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    rms_norm_eps: f32,
    max_position_embeddings: usize,
    pub(super) tie_word_embeddings: Option<bool>,
    rope_theta: Option<f32>,
    rope_scaling: Option<Rope>,
    /// Newer converters write both members above here.
    rope_parameters: Option<Rope>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    hidden_act: Option<String>,
    quantization_config: Option<serde::de::IgnoredAny>,
    pub(super) eos_token_id: Option<Ids>,
}

/// How positions become rotations.
#[derive(Debug, Deserialize)]
struct Rope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<f32>,
    partial_rotary_factor: Option<f32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl Ids {
    pub(super) fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

impl ModelConfig {
    pub(super) fn shape(&self, context_len_max: usize) -> Result<Shape, LoadError> {
        let (attention_bias, head_norms) = match self.model_type.as_str() {
            "llama" => (false, false),
            "qwen2" => (true, false),
            "qwen3" => (false, true),
            other => return Err(LoadError::Architecture { found: other.to_owned() }),
        };
        let unsupported = [
            (self.attention_bias, "a bias on every attention projection"),
            (self.mlp_bias, "a bias in the feed-forward layers"),
            (self.use_sliding_window, "sliding window attention"),
            (self.quantization_config.is_some(), "a quantised safetensors model"),
            (self.hidden_act.as_deref().is_some_and(|act| act != "silu"), "an activation other than silu"),
        ];
        if let Some((_, feature)) = unsupported.into_iter().find(|(asked, _)| *asked) {
            return Err(LoadError::Feature { feature: feature.to_owned() });
        }
        let heads = self.num_attention_heads;
        let head_dim = self.head_dim.unwrap_or_else(|| self.hidden_size.checked_div(heads).unwrap_or(0));
        let shape = Shape {
            layers: self.num_hidden_layers,
            hidden: self.hidden_size,
            feed_forward: self.intermediate_size,
            heads,
            kv_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim,
            vocabulary: self.vocab_size,
            norm_epsilon: self.rms_norm_eps,
            pairing: Pairing::Halves,
            frequencies: self.frequencies(head_dim)?,
            context_len: self.max_position_embeddings.min(context_len_max),
            attention_bias,
            head_norms,
        };
        shape.check()?;
        Ok(shape)
    }

    fn frequencies(&self, head_dim: usize) -> Result<Vec<f32>, LoadError> {
        let rope = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref());
        let theta = self.rope_theta.or(rope.and_then(|rope| rope.rope_theta)).unwrap_or(10_000.0);
        let mut frequencies = rope_frequencies(head_dim, theta)?;
        let Some(rope) = rope else { return Ok(frequencies) };
        if rope.partial_rotary_factor.is_some_and(|factor| factor != 1.0) {
            return Err(LoadError::Feature { feature: "rotating only a part of each head".to_owned() });
        }
        match rope.rope_type.as_deref() {
            None | Some("default") => {}
            Some("linear") => {
                let factor = required(rope.factor, "rope_scaling.factor")?;
                frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
            }
            Some("llama3") => {
                let stretch = Stretch {
                    factor: required(rope.factor, "rope_scaling.factor")?,
                    low: required(rope.low_freq_factor, "rope_scaling.low_freq_factor")?,
                    high: required(rope.high_freq_factor, "rope_scaling.high_freq_factor")?,
                    trained_len: required(
                        rope.original_max_position_embeddings,
                        "rope_scaling.original_max_position_embeddings",
                    )?,
                };
                frequencies.iter_mut().for_each(|frequency| *frequency = stretch.apply(*frequency));
            }
            Some(other) => {
                return Err(LoadError::Feature {
                    feature: format!("position scaling of the type {other:?}"),
                });
            }
        }
        Ok(frequencies)
    }
}

/// Llama 3.1's scaling: fast rotations stay, slow ones are divided, those between are blended.
struct Stretch {
    factor: f32,
    low: f32,
    high: f32,
    trained_len: f32,
}

impl Stretch {
    fn apply(&self, frequency: f32) -> f32 {
        let turns = self.trained_len * frequency / std::f32::consts::TAU;
        let kept = ((turns - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        frequency * kept + frequency / self.factor * (1.0 - kept)
    }
}

fn required(value: Option<f32>, key: &str) -> Result<f32, LoadError> {
    value.ok_or_else(|| LoadError::MissingMetadata { key: key.to_owned() })
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenizerConfig {
    pub(super) chat_template: Option<Templates>,
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    pad_token: Option<TokenText>,
    unk_token: Option<TokenText>,
}

impl TokenizerConfig {
    pub(super) fn special_tokens(&self) -> SpecialTokens {
        let text = |token: &Option<TokenText>| token.as_ref().map(|token| token.text().to_owned());
        SpecialTokens {
            begin: text(&self.bos_token),
            end: text(&self.eos_token),
            padding: text(&self.pad_token),
            unknown: text(&self.unk_token),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Described { content: String },
}

impl TokenText {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Described { content: text } => text,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Debug, Deserialize)]
pub(super) struct NamedTemplate {
    name: String,
    template: String,
}

impl Templates {
    pub(super) fn default_source(self) -> Option<String> {
        match self {
            Self::One(source) => Some(source),
            Self::Named(named) => {
                named.into_iter().find(|named| named.name == "default").map(|named| named.template)
            }
        }
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct GenerationConfig {
    pub(super) eos_token_id: Option<Ids>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_k: Option<usize>,
}
