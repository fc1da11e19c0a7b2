//! The decoder shared by the Llama and Qwen families.
//!
//! One transformer serves every supported model: what differs between the families (bias on the projections,
//! norms on queries and keys, the pairing of rotated dimensions) is data of [`Shape`] and of the weights.
//! Weights are read-only and shared; what a sequence remembers lives in its own [`Memory`]. Several sequences
//! can therefore advance at the same time on different threads, and none sees another's tokens.

use candle_core::quantized::QMatMul;
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};

use crate::load::LoadError;

/// Positions by which a sequence's memory grows at a time.
const MEMORY_GROWTH: usize = 256;

/// Largest supported size of a head.
const HEAD_DIM_MAX: usize = 1 << 12;

/// Which dimensions of a head a rotation pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// `2i` with `2i + 1`: GGUF files of the `llama` architecture store heads in this order.
    Adjacent,
    /// `i` with `i + d/2`: safetensors of every family, GGUF files of the Qwen architectures.
    Halves,
}

/// Sizes and constants of a model, checked to agree with each other by [`Shape::check`].
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) feed_forward: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocabulary: usize,
    pub(crate) norm_epsilon: f32,
    pub(crate) pairing: Pairing,
    /// Rotation per position of each pair of dimensions, in radians.
    pub(crate) frequencies: Vec<f32>,
    /// Positions a sequence may use, prompt and answer together.
    pub(crate) context_len: usize,
    /// The family puts a bias on queries, keys and values (Qwen 2).
    pub(crate) attention_bias: bool,
    /// The family normalises each head's query and key (Qwen 3).
    pub(crate) head_norms: bool,
}

impl Shape {
    /// Refuses sizes with which no forward pass is possible, before anything is allocated for them.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        let bounded = [
            ("layers", self.layers, 1024),
            ("hidden size", self.hidden, 1 << 17),
            ("feed-forward size", self.feed_forward, 1 << 20),
            ("attention heads", self.heads, 1 << 12),
            ("key-value heads", self.kv_heads, 1 << 12),
            ("head dimension", self.head_dim, HEAD_DIM_MAX),
            ("vocabulary", self.vocabulary, 1 << 24),
            ("context length", self.context_len, 1 << 24),
        ];
        for (name, value, max) in bounded {
            if value == 0 || value > max {
                return Err(LoadError::SizeOutOfRange { name, value, max });
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(LoadError::UnevenHeads { heads: self.heads, kv_heads: self.kv_heads });
        }
        if self.frequencies.len() * 2 != self.head_dim {
            return Err(LoadError::PartialRotation {
                rotated: self.frequencies.len() * 2,
                head_dim: self.head_dim,
            });
        }
        Ok(())
    }
}

/// A tensor's place in the decoder, named by each file format in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Embedding,
    Output,
    OutputNorm,
    Layer(usize, LayerSlot),
}

/// A tensor's place within a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerSlot {
    AttentionNorm,
    Query,
    QueryBias,
    QueryNorm,
    Key,
    KeyBias,
    KeyNorm,
    Value,
    ValueBias,
    AttentionOutput,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
}

/// Where a decoder's tensors come from: a GGUF file or safetensors.
pub(crate) trait Weights {
    /// The matrix of `rows` outputs and `columns` inputs at `slot`, or `None` if the file has none there.
    fn matrix(&mut self, slot: Slot, rows: usize, columns: usize) -> Result<Option<QMatMul>, LoadError>;
    /// The `f32` vector at `slot`, or `None` if the file has none there.
    fn vector(&mut self, slot: Slot, len: usize) -> Result<Option<Tensor>, LoadError>;
    /// What the file would call `slot`.
    fn name(&self, slot: Slot) -> String;
}

#[derive(Debug)]
struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    fn forward(&self, input: &Tensor) -> candle_core::Result<Tensor> {
        let output = self.weight.forward(input)?;
        match &self.bias {
            Some(bias) => output.broadcast_add(bias),
            None => Ok(output),
        }
    }
}

#[derive(Debug)]
struct Layer {
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    head_norms: Option<(Tensor, Tensor)>,
    attention_output: Linear,
    feed_forward_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// A loaded decoder.
#[derive(Debug)]
pub(crate) struct Model {
    shape: Shape,
    embedding: QMatMul,
    layers: Vec<Layer>,
    output_norm: Tensor,
    output: QMatMul,
    cosines: Tensor,
    sines: Tensor,
}

/// What one sequence remembers: keys and values of every position so far.
#[derive(Debug)]
pub(crate) struct Memory {
    layers: Vec<KvCache>,
    positions: usize,
}

impl Memory {
    /// Positions remembered.
    pub(crate) fn positions(&self) -> usize {
        self.positions
    }
}

impl Model {
    pub(crate) fn load(shape: Shape, weights: &mut impl Weights) -> Result<Self, LoadError> {
        shape.check()?;
        let mut loader = Loader { weights };
        let embedding = loader.matrix(Slot::Embedding, shape.vocabulary, shape.hidden)?;
        let layers =
            (0..shape.layers).map(|index| loader.layer(&shape, index)).collect::<Result<Vec<_>, _>>()?;
        let output_norm = loader.vector(Slot::OutputNorm, shape.hidden)?;
        // A model without an output matrix shares the embedding's.
        let output = match loader.weights.matrix(Slot::Output, shape.vocabulary, shape.hidden)? {
            Some(output) => output,
            None => embedding.clone(),
        };
        let (cosines, sines) = rotations(&shape).map_err(LoadError::compute)?;
        Ok(Self { shape, embedding, layers, output_norm, output, cosines, sines })
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// An empty memory for a new sequence.
    pub(crate) fn memory(&self) -> Memory {
        // Keys and values have the layout (head, position, dimension).
        let layers = self.layers.iter().map(|_| KvCache::new(1, MEMORY_GROWTH)).collect();
        Memory { layers, positions: 0 }
    }

    /// Appends `tokens` to a sequence and returns the logits that follow the last of them.
    ///
    /// `tokens` must not be empty, each must be below the vocabulary's size, and the sequence must stay
    /// within the context.
    pub(crate) fn forward(&self, tokens: &[u32], memory: &mut Memory) -> candle_core::Result<Vec<f32>> {
        let len = tokens.len();
        let start = memory.positions;
        let mut x = self.embedding.embedding(&Tensor::new(tokens, &Device::Cpu)?)?;
        let mask = if len == 1 { None } else { Some(causal_mask(len, start)?) };
        let rotation = (self.cosines.narrow(0, start, len)?, self.sines.narrow(0, start, len)?);
        for (layer, cache) in self.layers.iter().zip(&mut memory.layers) {
            let normed = rms_norm(&x, &layer.attention_norm, self.shape.norm_epsilon)?;
            x = (x + self.attention(layer, &normed, cache, mask.as_ref(), &rotation)?)?;
            let normed = rms_norm(&x, &layer.feed_forward_norm, self.shape.norm_epsilon)?;
            let gated = (silu(&layer.gate.forward(&normed)?)? * layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&gated)?)?;
        }
        memory.positions += len;
        // Only the last position is asked for; the output matrix is the largest of all.
        let last = rms_norm(&x.narrow(0, len - 1, 1)?, &self.output_norm, self.shape.norm_epsilon)?;
        self.output.forward(&last)?.squeeze(0)?.to_vec1()
    }

    fn attention(
        &self,
        layer: &Layer,
        x: &Tensor,
        cache: &mut KvCache,
        mask: Option<&Tensor>,
        rotation: &(Tensor, Tensor),
    ) -> candle_core::Result<Tensor> {
        let Shape { heads, kv_heads, head_dim, .. } = self.shape;
        let len = x.dim(0)?;
        let query = layer.query.forward(x)?.reshape((len, heads, head_dim))?;
        let key = layer.key.forward(x)?.reshape((len, kv_heads, head_dim))?;
        let value = layer.value.forward(x)?.reshape((len, kv_heads, head_dim))?;
        let (query, key) = match &layer.head_norms {
            Some((query_norm, key_norm)) => (
                rms_norm(&query, query_norm, self.shape.norm_epsilon)?,
                rms_norm(&key, key_norm, self.shape.norm_epsilon)?,
            ),
            None => (query, key),
        };
        let query = self.rotate(&query, rotation)?;
        let key = self.rotate(&key, rotation)?;
        let value = value.transpose(0, 1)?.contiguous()?;
        let (keys, values) = cache.append(&key, &value)?;

        // Heads that share a key stand next to each other, so the group becomes more rows of one product
        // and no key or value is repeated in memory.
        let group = heads / kv_heads;
        let query = query.reshape((kv_heads, group * len, head_dim))?;
        #[expect(clippy::cast_precision_loss, reason = "a head dimension is far below 2^52")]
        let scale = 1.0 / (head_dim as f64).sqrt();
        let mut scores = (query.matmul(&keys.t()?)? * scale)?;
        if let Some(mask) = mask {
            let positions = keys.dim(1)?;
            scores = scores.reshape((kv_heads, group, len, positions))?.broadcast_add(mask)?.reshape((
                kv_heads,
                group * len,
                positions,
            ))?;
        }
        let mixed = softmax_last_dim(&scores)?.matmul(&values)?;
        let mixed =
            mixed.reshape((heads, len, head_dim))?.transpose(0, 1)?.reshape((len, heads * head_dim))?;
        layer.attention_output.forward(&mixed)
    }

    /// (position, head, dimension) to rotated (head, position, dimension).
    fn rotate(&self, x: &Tensor, (cosines, sines): &(Tensor, Tensor)) -> candle_core::Result<Tensor> {
        let x = x.transpose(0, 1)?.contiguous()?.unsqueeze(0)?;
        match self.shape.pairing {
            Pairing::Adjacent => candle_nn::rotary_emb::rope_i(&x, cosines, sines),
            Pairing::Halves => candle_nn::rotary_emb::rope(&x, cosines, sines),
        }?
        .squeeze(0)
    }
}

struct Loader<'a, W> {
    weights: &'a mut W,
}

impl<W: Weights> Loader<'_, W> {
    fn matrix(&mut self, slot: Slot, rows: usize, columns: usize) -> Result<QMatMul, LoadError> {
        let found = self.weights.matrix(slot, rows, columns)?;
        found.ok_or_else(|| LoadError::MissingTensor { name: self.weights.name(slot) })
    }

    fn vector(&mut self, slot: Slot, len: usize) -> Result<Tensor, LoadError> {
        let found = self.weights.vector(slot, len)?;
        found.ok_or_else(|| LoadError::MissingTensor { name: self.weights.name(slot) })
    }

    fn layer(&mut self, shape: &Shape, index: usize) -> Result<Layer, LoadError> {
        use LayerSlot::{
            AttentionNorm, AttentionOutput, Down, FeedForwardNorm, Gate, Key, KeyBias, KeyNorm, Query,
            QueryBias, QueryNorm, Up, Value, ValueBias,
        };
        let at = |slot| Slot::Layer(index, slot);
        let query_len = shape.heads * shape.head_dim;
        let kv_len = shape.kv_heads * shape.head_dim;
        let mut plain = |slot, rows, columns| -> Result<Linear, LoadError> {
            Ok(Linear { weight: self.matrix(at(slot), rows, columns)?, bias: None })
        };
        let mut query = plain(Query, query_len, shape.hidden)?;
        let mut key = plain(Key, kv_len, shape.hidden)?;
        let mut value = plain(Value, kv_len, shape.hidden)?;
        let attention_output = plain(AttentionOutput, shape.hidden, query_len)?;
        let gate = plain(Gate, shape.feed_forward, shape.hidden)?;
        let up = plain(Up, shape.feed_forward, shape.hidden)?;
        let down = plain(Down, shape.hidden, shape.feed_forward)?;
        if shape.attention_bias {
            query.bias = Some(self.vector(at(QueryBias), query_len)?);
            key.bias = Some(self.vector(at(KeyBias), kv_len)?);
            value.bias = Some(self.vector(at(ValueBias), kv_len)?);
        }
        let head_norms = if shape.head_norms {
            Some((self.vector(at(QueryNorm), shape.head_dim)?, self.vector(at(KeyNorm), shape.head_dim)?))
        } else {
            None
        };
        Ok(Layer {
            attention_norm: self.vector(at(AttentionNorm), shape.hidden)?,
            query,
            key,
            value,
            head_norms,
            attention_output,
            feed_forward_norm: self.vector(at(FeedForwardNorm), shape.hidden)?,
            gate,
            up,
            down,
        })
    }
}

/// Rotation per position of each pair among `rotated` dimensions, in radians.
pub(crate) fn rope_frequencies(rotated: usize, base: f32) -> Result<Vec<f32>, LoadError> {
    if rotated > HEAD_DIM_MAX {
        return Err(LoadError::SizeOutOfRange {
            name: "rotated dimensions",
            value: rotated,
            max: HEAD_DIM_MAX,
        });
    }
    #[expect(clippy::cast_precision_loss, reason = "dimensions of a head are small whole numbers")]
    let frequency = |i: usize| base.powf(-(i as f32) / rotated as f32);
    Ok((0..rotated).step_by(2).map(frequency).collect())
}

/// Added to attention scores: nothing for what position `start + i` may see, minus infinity for what follows.
fn causal_mask(len: usize, start: usize) -> candle_core::Result<Tensor> {
    let positions = start + len;
    let mask: Vec<f32> = (0..len)
        .flat_map(|i| (0..positions).map(move |j| if j > start + i { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Tensor::from_vec(mask, (len, positions), &Device::Cpu)
}

/// Cosines and sines of every position's rotation.
fn rotations(shape: &Shape) -> candle_core::Result<(Tensor, Tensor)> {
    let pairs = shape.frequencies.len();
    let frequencies = Tensor::new(shape.frequencies.as_slice(), &Device::Cpu)?.reshape((1, pairs))?;
    let last = u32::try_from(shape.context_len).map_err(candle_core::Error::wrap)?;
    let positions =
        Tensor::arange(0, last, &Device::Cpu)?.to_dtype(DType::F32)?.reshape((shape.context_len, 1))?;
    let angles = positions.matmul(&frequencies)?;
    Ok((angles.cos()?, angles.sin()?))
}
