//! The network that is trained: a small Llama, with the names and the conventions of a GGUF file.

use crate::by_row::ByRow;
use crate::rng::Rng;
use candle_core::{D, Device, Result, Tensor, Var};

pub(crate) const CONTEXT_LEN: usize = 512;
pub(crate) const BLOCKS: usize = 4;
pub(crate) const WIDTH: usize = 128;
pub(crate) const HEADS: usize = 4;
pub(crate) const HEAD_WIDTH: usize = WIDTH / HEADS;
pub(crate) const FEED_FORWARD: usize = 384;
pub(crate) const NORM_EPSILON: f32 = 1e-5;
pub(crate) const ROPE_BASE: f32 = 10_000.0;

/// Named weights in the order of the file. Matrices are `(outputs, inputs)`; the embedding is also the output layer.
pub(crate) struct Model {
    weights: Vec<(String, Var)>,
    rope: Rope,
}

impl Model {
    pub(crate) fn new(vocabulary_len: usize, rng: &mut Rng) -> Result<Self> {
        let mut weights = Vec::new();
        let mut add = |name: String, shape: &[usize], spread: f32| -> Result<()> {
            let len = shape.iter().product();
            let values: Vec<f32> = match shape {
                [_] => vec![1.0; len],
                _ => (0..len).map(|_| rng.normal() * spread).collect(),
            };
            weights.push((name, Var::from_vec(values, shape, &Device::Cpu)?));
            Ok(())
        };
        add("token_embd.weight".into(), &[vocabulary_len, WIDTH], 0.02)?;
        let inward = 1.0 / (WIDTH as f32).sqrt();
        // What a block adds to the residual stream starts small, so that depth does not blow it up.
        let residual = 1.0 / (2.0 * BLOCKS as f32).sqrt();
        for block in 0..BLOCKS {
            let name = |part: &str| format!("blk.{block}.{part}.weight");
            add(name("attn_norm"), &[WIDTH], 0.0)?;
            add(name("attn_q"), &[WIDTH, WIDTH], inward)?;
            add(name("attn_k"), &[WIDTH, WIDTH], inward)?;
            add(name("attn_v"), &[WIDTH, WIDTH], inward)?;
            add(name("attn_output"), &[WIDTH, WIDTH], inward * residual)?;
            add(name("ffn_norm"), &[WIDTH], 0.0)?;
            add(name("ffn_gate"), &[FEED_FORWARD, WIDTH], inward)?;
            add(name("ffn_up"), &[FEED_FORWARD, WIDTH], inward)?;
            add(name("ffn_down"), &[WIDTH, FEED_FORWARD], residual / (FEED_FORWARD as f32).sqrt())?;
        }
        add("output_norm.weight".into(), &[WIDTH], 0.0)?;
        Ok(Self { weights, rope: Rope::new()? })
    }

    pub(crate) fn weights(&self) -> &[(String, Var)] {
        &self.weights
    }

    pub(crate) fn parameter_count(&self) -> usize {
        self.weights.iter().map(|(_, weight)| weight.elem_count()).sum()
    }

    /// Logits at chosen places of a batch of token ids `(batch, len)`; `places` are indices into the flattened batch.
    pub(crate) fn logits(&self, ids: &Tensor, places: &Tensor) -> Result<Tensor> {
        let (batch, len) = ids.dims2()?;
        let mut weights = self.weights.iter().map(|(_, weight)| weight.as_tensor());
        let mut next = || weights.next().expect("new() made every weight that is read here, in this order");
        let embedding = next();
        let softmax = ByRow::CausalSoftmax { scale: 1.0 / (HEAD_WIDTH as f32).sqrt() };
        let mut stream = embedding.index_select(&ids.flatten_all()?, 0)?;
        for _ in 0..BLOCKS {
            let input = norm(&stream, next())?;
            let query = self.rope.apply(&heads(&input, next(), batch, len)?)?;
            let key = self.rope.apply(&heads(&input, next(), batch, len)?)?;
            let value = heads(&input, next(), batch, len)?;
            let attention = query.matmul(&key.t()?)?.apply_op1(softmax)?;
            let mixed = attention.matmul(&value)?;
            let mixed = mixed.transpose(1, 2)?.reshape((batch * len, WIDTH))?;
            stream = (stream + mixed.matmul(&next().t()?)?)?;
            let input = norm(&stream, next())?;
            let gate = input.matmul(&next().t()?)?.silu()?;
            let up = input.matmul(&next().t()?)?;
            stream = (stream + (gate * up)?.matmul(&next().t()?)?)?;
        }
        norm(&stream.index_select(places, 0)?, next())?.matmul(&embedding.t()?)
    }
}

/// `(batch * len, WIDTH)` to `(batch, HEADS, len, HEAD_WIDTH)`.
fn heads(input: &Tensor, weight: &Tensor, batch: usize, len: usize) -> Result<Tensor> {
    input.matmul(&weight.t()?)?.reshape((batch, len, HEADS, HEAD_WIDTH))?.transpose(1, 2)?.contiguous()
}

fn norm(input: &Tensor, gain: &Tensor) -> Result<Tensor> {
    input.apply_op1(ByRow::UnitRms { epsilon: NORM_EPSILON })?.broadcast_mul(gain)
}

/// Rotary positions over adjacent pairs, as the `llama` architecture of GGUF has them.
struct Rope {
    cos: Tensor,
    sin: Tensor,
    /// Turns each pair `(x, y)` into `(-y, x)`: one small product is faster than slicing and joining.
    turn: Tensor,
}

impl Rope {
    fn new() -> Result<Self> {
        let angle = |position: usize, place: usize| {
            let exponent = (place / 2 * 2) as f32 / HEAD_WIDTH as f32;
            position as f32 / ROPE_BASE.powf(exponent)
        };
        let angles =
            (0..CONTEXT_LEN).flat_map(|position| (0..HEAD_WIDTH).map(move |place| angle(position, place)));
        let angles = Tensor::from_iter(angles, &Device::Cpu)?.reshape((CONTEXT_LEN, HEAD_WIDTH))?;
        let mut turn = vec![0f32; HEAD_WIDTH * HEAD_WIDTH];
        for pair in (0..HEAD_WIDTH).step_by(2) {
            turn[(pair + 1) * HEAD_WIDTH + pair] = -1.0;
            turn[pair * HEAD_WIDTH + pair + 1] = 1.0;
        }
        let turn = Tensor::from_vec(turn, (HEAD_WIDTH, HEAD_WIDTH), &Device::Cpu)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()?, turn })
    }

    fn apply(&self, input: &Tensor) -> Result<Tensor> {
        let (batch, head_count, len, width) = input.dims4()?;
        let turned =
            input.reshape(((), width))?.matmul(&self.turn)?.reshape((batch, head_count, len, width))?;
        let cos = self.cos.narrow(0, 0, len)?;
        let sin = self.sin.narrow(0, 0, len)?;
        input.broadcast_mul(&cos)? + turned.broadcast_mul(&sin)?
    }
}

/// Summed cross entropy of `logits` `(places, vocabulary)` against the right tokens.
pub(crate) fn loss(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let likely = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    likely.gather(&targets.unsqueeze(1)?, 1)?.sum_all()?.neg()
}
