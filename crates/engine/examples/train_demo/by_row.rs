//! The two row functions of the network as single operations with a gradient.
//!
//! Candle's fused kernels have no gradient, and built from parts each of them walks memory a dozen times, which would
//! take most of the training time.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// A function of each row (last dimension) of a contiguous f32 tensor.
#[derive(Clone, Copy)]
pub(crate) enum ByRow {
    /// Softmax of `scale * input` over the columns up to the diagonal of the last two dimensions, zero beyond it.
    CausalSoftmax { scale: f32 },
    /// Divides a row by its root mean square.
    UnitRms { epsilon: f32 },
}

impl ByRow {
    fn forward(self, row: usize, input: &[f32], output: &mut [f32]) {
        match self {
            Self::CausalSoftmax { scale } => {
                let seen = row % input.len() + 1;
                let largest = input[..seen].iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0.0;
                for (out, value) in output.iter_mut().zip(&input[..seen]) {
                    *out = (scale * (value - largest)).exp();
                    sum += *out;
                }
                output[..seen].iter_mut().for_each(|out| *out /= sum);
            }
            Self::UnitRms { epsilon } => {
                let factor = inverse_rms(input, epsilon);
                output.iter_mut().zip(input).for_each(|(out, value)| *out = value * factor);
            }
        }
    }

    /// The gradient with respect to `input`, where `output` is what `forward` made of it.
    fn backward(self, row: usize, input: &[f32], output: &[f32], gradient: &[f32], result: &mut [f32]) {
        match self {
            Self::CausalSoftmax { scale } => {
                let seen = row % input.len() + 1;
                let shared = dot(&output[..seen], &gradient[..seen]);
                for place in 0..seen {
                    result[place] = scale * output[place] * (gradient[place] - shared);
                }
            }
            Self::UnitRms { epsilon } => {
                let factor = inverse_rms(input, epsilon);
                let shared = dot(output, gradient) / input.len() as f32;
                for place in 0..input.len() {
                    result[place] = factor * (gradient[place] - output[place] * shared);
                }
            }
        }
    }
}

fn inverse_rms(row: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + epsilon).sqrt()
}

/// Eight sums side by side, always in the same order: as fast as the processor's vectors, and reproducible.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (left_chunks, right_chunks) = (left.chunks_exact(8), right.chunks_exact(8));
    let rest: f32 = left_chunks.remainder().iter().zip(right_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left_chunks.zip(right_chunks) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

impl CustomOp1 for ByRow {
    fn name(&self) -> &'static str {
        "by-row"
    }

    fn cpu_fwd(&self, input: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = layout.shape().dims().last().copied().unwrap_or(1);
        let input = contiguous(input, layout)?;
        let mut output = vec![0f32; input.len()];
        for (row, (input, output)) in input.chunks(width).zip(output.chunks_mut(width)).enumerate() {
            self.forward(row, input, output);
        }
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(&self, input: &Tensor, output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(input.apply_op3_no_bwd(output, &gradient.contiguous()?, &Backward(*self))?))
    }
}

struct Backward(ByRow);

impl CustomOp3 for Backward {
    fn name(&self) -> &'static str {
        "by-row-backward"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        output: &CpuStorage,
        output_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = input_layout.shape().dims().last().copied().unwrap_or(1);
        let input = contiguous(input, input_layout)?.chunks(width);
        let output = contiguous(output, output_layout)?.chunks(width);
        let gradient = contiguous(gradient, gradient_layout)?.chunks(width);
        let mut result = vec![0f32; input_layout.shape().elem_count()];
        for (row, (((input, output), gradient), result)) in
            input.zip(output).zip(gradient).zip(result.chunks_mut(width)).enumerate()
        {
            self.0.backward(row, input, output, gradient, result);
        }
        Ok((CpuStorage::F32(result), input_layout.shape().clone()))
    }
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a row function needs contiguous rows"),
    }
}

#[cfg(test)]
mod tests {
    use super::ByRow;
    use crate::rng::Rng;
    use anyhow::{Context, Result};
    use candle_core::{D, Device, Tensor, Var};

    fn noise(rng: &mut Rng, shape: &[usize]) -> Result<Tensor> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// Both ways of computing must agree in value and in gradient.
    fn agree(
        shape: &[usize],
        ours: ByRow,
        parts: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<()> {
        let mut rng = Rng::new(7);
        let input = Var::from_tensor(&noise(&mut rng, shape)?)?;
        let weights = noise(&mut rng, shape)?;
        let (left, right) = (input.apply_op1(ours)?, parts(&input)?);
        let gradient = |output: &Tensor| -> Result<Tensor> {
            let gradients = (output * &weights)?.sum_all()?.backward()?;
            Ok(gradients.get(&input).context("no gradient")?.clone())
        };
        for (left, right) in [(&left, &right), (&gradient(&left)?, &gradient(&right)?)] {
            let distance = (left - right)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(distance < 1e-5, "{distance}");
        }
        Ok(())
    }

    #[test]
    fn causal_softmax_equals_its_parts() -> Result<()> {
        let mask = (0..5)
            .flat_map(|row| (0..5).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 }));
        let mask = Tensor::from_iter(mask, &Device::Cpu)?.reshape((5, 5))?;
        agree(&[2, 3, 5, 5], ByRow::CausalSoftmax { scale: 0.5 }, |input| {
            candle_nn::ops::softmax(&(input * 0.5)?.broadcast_add(&mask)?, D::Minus1)
        })
    }

    #[test]
    fn unit_rms_equals_its_parts() -> Result<()> {
        agree(&[4, 13], ByRow::UnitRms { epsilon: 1e-5 }, |input| {
            input.broadcast_div(&(input.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?)
        })
    }

    #[test]
    fn strided_rows_are_refused() -> Result<()> {
        let input = noise(&mut Rng::new(7), &[4, 6])?.t()?;
        assert!(input.apply_op1(ByRow::UnitRms { epsilon: 1e-5 }).is_err());
        Ok(())
    }
}
