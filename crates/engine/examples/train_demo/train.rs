//! The training loop: AdamW, a warm-up, a cosine down, gradients of bounded length.

use crate::lesson::{Batch, Teacher};
use crate::model::{self, Model};
use anyhow::{Context, Result};
use candle_core::Var;
use candle_core::backprop::GradStore;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use std::time::Instant;

const BATCH: usize = 32;
/// Each part of a batch has its own thread. The number is fixed, since it decides the order of additions.
const PARTS: usize = 2;
const PEAK_RATE: f64 = 3e-3;
const LAST_RATE: f64 = 1e-4;
const WARM_UP_STEPS: usize = 100;
const GRADIENT_LENGTH_MAX: f64 = 1.0;
const REPORT_EVERY: usize = 200;

/// Returns the mean loss of the last reported stretch.
pub(crate) fn train(model: &Model, teacher: &mut Teacher<'_>, steps: usize) -> Result<f64> {
    let vars: Vec<Var> = model.weights().iter().map(|(_, weight)| weight.clone()).collect();
    let settings = ParamsAdamW { beta2: 0.98, weight_decay: 0.01, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(vars.clone(), settings)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "progress for the person who waits; no result depends on it"
    )]
    let start = Instant::now();
    let (mut sum, mut count, mut mean) = (0.0, 0, f64::NAN);
    for step in 0..steps {
        optimizer.set_learning_rate(rate(step, steps));
        let batches = teacher.next_batches(BATCH, PARTS)?;
        let (gradients, loss) = learn(model, &vars, &batches)?;
        optimizer.step(&gradients)?;
        sum += loss;
        count += 1;
        if (step + 1) % REPORT_EVERY == 0 || step + 1 == steps {
            mean = sum / f64::from(count);
            println!("step {:>5} of {steps}  loss {mean:.4}  {:>4} s", step + 1, start.elapsed().as_secs());
            (sum, count) = (0.0, 0);
        }
    }
    Ok(mean)
}

fn rate(step: usize, steps: usize) -> f64 {
    if step < WARM_UP_STEPS {
        return PEAK_RATE * (step + 1) as f64 / WARM_UP_STEPS as f64;
    }
    let progress = (step - WARM_UP_STEPS) as f64 / steps.saturating_sub(WARM_UP_STEPS).max(1) as f64;
    LAST_RATE + (PEAK_RATE - LAST_RATE) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

/// Mean loss over all places of all batches, and its gradient, shortened to [`GRADIENT_LENGTH_MAX`].
fn learn(model: &Model, vars: &[Var], batches: &[Batch]) -> Result<(GradStore, f64)> {
    let parts: Vec<Result<(GradStore, f64)>> = std::thread::scope(|scope| {
        let work: Vec<_> = batches.iter().map(|batch| scope.spawn(|| learn_part(model, batch))).collect();
        work.into_iter()
            .map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut parts = parts.into_iter();
    let (mut total, mut loss) = parts.next().context("there is a batch")??;
    for part in parts {
        let (mut gradients, part_loss) = part?;
        loss += part_loss;
        for var in vars {
            if let (Some(left), Some(right)) = (total.remove(var), gradients.remove(var)) {
                total.insert(var, (left + right)?);
            }
        }
    }
    let places: usize = batches.iter().map(|batch| batch.targets.elem_count()).sum();
    let mut square = 0.0;
    for gradient in vars.iter().filter_map(|var| total.get(var)) {
        square += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let length = square.sqrt() / places as f64;
    let factor = (GRADIENT_LENGTH_MAX / length).min(1.0) / places as f64;
    for var in vars {
        if let Some(gradient) = total.remove(var) {
            total.insert(var, (gradient * factor)?);
        }
    }
    Ok((total, loss / places as f64))
}

fn learn_part(model: &Model, batch: &Batch) -> Result<(GradStore, f64)> {
    let loss = model::loss(&model.logits(&batch.ids, &batch.places)?, &batch.targets)?;
    Ok((loss.backward()?, f64::from(loss.to_scalar::<f32>()?)))
}
