//! From logits to the next token.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What a model's makers recommend where a request does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SamplingDefaults {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<usize>,
}

/// How the next token is chosen. Order of application: bias, penalties, temperature, `top_k`, `top_p`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sampling {
    /// 0 takes the most probable token; above, the larger the more even the choice. Default: 1.
    pub(crate) temperature: f32,
    /// Only the most probable tokens that together reach this probability, above 0 and at most 1.
    /// Default: 1.
    pub(crate) top_p: f32,
    /// Only this many of the most probable tokens; 0 is no limit. Default: 0.
    pub(crate) top_k: usize,
    /// Subtracted from the logit of every token that the answer already contains. Default: 0.
    pub(crate) presence_penalty: f32,
    /// Subtracted as often as the answer already contains the token. Default: 0.
    pub(crate) frequency_penalty: f32,
    /// Added to the logits of single tokens. Default: none.
    pub(crate) logit_bias: Vec<(u32, f32)>,
    /// Same seed, same request, same model: same answer.
    pub(crate) seed: u64,
}

/// A token and the natural logarithm of its probability, before bias, penalties and temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) token: u32,
    pub(crate) logprob: f32,
}

/// The chosen token with what was asked about the alternatives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) token: u32,
    /// The chosen token's own probability; only when asked for.
    pub(crate) logprob: Option<f32>,
    /// The most probable tokens, best first, as many as asked for.
    pub(crate) alternatives: Vec<Scored>,
}

/// The model produced a logit that is no number: its weights are damaged.
#[derive(Debug)]
pub(crate) struct NotFinite;

/// The random choices of one answer.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    /// Alternatives to report with each token; `None` reports no probabilities at all.
    alternatives: Option<usize>,
    random: StdRng,
    /// How often the answer contains each token.
    counts: HashMap<u32, f32>,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling, alternatives: Option<usize>) -> Self {
        let random = StdRng::seed_from_u64(sampling.seed);
        Self { sampling, alternatives, random, counts: HashMap::new() }
    }

    pub(crate) fn choose(&mut self, mut logits: Vec<f32>) -> Result<Choice, NotFinite> {
        // Minus infinity is a token that can never come; one token must be able to.
        if !maximum(&logits).is_finite() || logits.iter().any(|logit| logit.is_nan()) {
            return Err(NotFinite);
        }
        let probabilities = self.alternatives.map(|count| (LogSoftmax::of(&logits), best(&logits, count)));
        let before = self.alternatives.map(|_| logits.clone());
        self.adjust(&mut logits);
        let token = if self.sampling.temperature <= 0.0 { argmax(&logits) } else { self.draw(&logits) };
        *self.counts.entry(token).or_default() += 1.0;

        let mut choice = Choice { token, logprob: None, alternatives: Vec::new() };
        if let (Some((softmax, best)), Some(before)) = (probabilities, before) {
            let scored = |token: u32| Scored { token, logprob: softmax.logprob(before[token as usize]) };
            choice.logprob = Some(scored(token).logprob);
            choice.alternatives = best.into_iter().map(scored).collect();
        }
        Ok(choice)
    }

    fn adjust(&self, logits: &mut [f32]) {
        for &(token, bias) in &self.sampling.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        let Sampling { presence_penalty, frequency_penalty, .. } = self.sampling;
        if presence_penalty != 0.0 || frequency_penalty != 0.0 {
            for (&token, &count) in &self.counts {
                logits[token as usize] -= presence_penalty + frequency_penalty * count;
            }
        }
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let max = maximum(logits);
        let weight = |logit: f32| f64::from((logit - max) / self.sampling.temperature).exp();
        let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
        // A token this improbable is not in the nucleus: all such together have less than 1 - top_p.
        #[expect(clippy::cast_precision_loss, reason = "a vocabulary's size is exact in f64")]
        let floor = (1.0 - f64::from(self.sampling.top_p)) / logits.len() as f64 * total;
        let mut candidates: Vec<(f64, u32)> = logits
            .iter()
            .map(|&logit| weight(logit))
            .zip(0..)
            .filter(|&(weight, _)| weight > 0.0 && weight >= floor)
            .collect();
        // Best first; equal ones by number, so that the order never depends on the sorting algorithm.
        candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if self.sampling.top_k > 0 {
            candidates.truncate(self.sampling.top_k);
        }
        let kept: f64 = if self.sampling.top_k > 0 {
            candidates.iter().map(|candidate| candidate.0).sum()
        } else {
            total
        };
        let nucleus = kept * f64::from(self.sampling.top_p);
        let mut reached = 0.0;
        let inside = candidates.iter().position(|candidate| {
            reached += candidate.0;
            reached >= nucleus
        });
        candidates.truncate(inside.map_or(candidates.len(), |last| last + 1));

        let mut left =
            self.random.random::<f64>() * candidates.iter().map(|candidate| candidate.0).sum::<f64>();
        for &(weight, token) in &candidates {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        // Rounding can leave a remainder; it belongs to the last candidate.
        candidates.last().map_or_else(|| argmax(logits), |candidate| candidate.1)
    }
}

fn maximum(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The first of the largest.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (&logit, token) in logits.iter().zip(0..) {
        if logit > best.0 {
            best = (logit, token);
        }
    }
    best.1
}

/// The `count` tokens with the largest logits, best first.
fn best(logits: &[f32], count: usize) -> Vec<u32> {
    let order = |&(a, i): &(f32, u32), &(b, j): &(f32, u32)| b.total_cmp(&a).then(i.cmp(&j));
    let mut tokens: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
    let count = count.min(tokens.len());
    if count > 0 && count < tokens.len() {
        tokens.select_nth_unstable_by(count - 1, order);
    }
    tokens.truncate(count);
    tokens.sort_unstable_by(order);
    tokens.into_iter().map(|(_, token)| token).collect()
}

/// Turns logits into logarithms of probabilities.
struct LogSoftmax {
    /// Logarithm of the sum of all exponentials.
    normaliser: f64,
}

impl LogSoftmax {
    /// Below any logarithm of a probability a client can tell from zero, and writable in JSON.
    const LOWEST: f32 = -9999.0;

    fn of(logits: &[f32]) -> Self {
        let max = maximum(logits);
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
        Self { normaliser: f64::from(max) + sum.ln() }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a logarithm of a probability needs no more than f32"
    )]
    fn logprob(&self, logit: f32) -> f32 {
        ((f64::from(logit) - self.normaliser) as f32).max(Self::LOWEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sampling {
        /// Everything at the API's defaults.
        fn new(seed: u64) -> Self {
            Self {
                temperature: 1.0,
                top_p: 1.0,
                top_k: 0,
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
                logit_bias: Vec::new(),
                seed,
            }
        }
    }

    fn draws(sampling: Sampling, logits: &[f32]) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling, None);
        (0..500).map(|_| sampler.choose(logits.to_vec()).unwrap().token).collect()
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_best() {
        let greedy = Sampling { temperature: 0.0, ..Sampling::new(1) };
        assert_eq!(draws(greedy, &[0.5, 2.0, 2.0, -1.0]), vec![1; 500]);
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        let logits = [1.0; 16];
        assert_eq!(draws(Sampling::new(7), &logits), draws(Sampling::new(7), &logits));
        assert_ne!(draws(Sampling::new(7), &logits), draws(Sampling::new(8), &logits));
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let drawn = draws(Sampling::new(3), &[3.0_f32.ln(), 1.0_f32.ln()]);
        let first = drawn.iter().filter(|&&token| token == 0).count();
        assert!((330..420).contains(&first), "three of four were expected, {first} of 500 came");
    }

    #[test]
    fn top_p_keeps_the_token_that_reaches_it_and_no_more() {
        let logits = [0.5_f32, 0.3, 0.15, 0.05].map(f32::ln);
        let seen = |top_p| {
            let mut seen = draws(Sampling { top_p, ..Sampling::new(5) }, &logits);
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(seen(0.4), [0]);
        assert_eq!(seen(0.6), [0, 1]);
        assert_eq!(seen(0.9), [0, 1, 2]);
        assert_eq!(seen(1.0), [0, 1, 2, 3]);
    }

    #[test]
    fn top_k_keeps_that_many() {
        let mut seen = draws(Sampling { top_k: 2, ..Sampling::new(5) }, &[0.0, 1.0, 0.9, -0.5]);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn penalties_and_bias_move_the_choice() {
        let greedy = Sampling { temperature: 0.0, ..Sampling::new(0) };
        let logits = vec![1.0, 0.8, 0.0];
        let mut present = Sampler::new(Sampling { presence_penalty: 0.5, ..greedy.clone() }, None);
        let chosen: Vec<u32> = (0..4).map(|_| present.choose(logits.clone()).unwrap().token).collect();
        assert_eq!(chosen, [0, 1, 0, 0], "presence counts once");
        let mut frequent = Sampler::new(Sampling { frequency_penalty: 0.5, ..greedy.clone() }, None);
        let chosen: Vec<u32> = (0..4).map(|_| frequent.choose(logits.clone()).unwrap().token).collect();
        assert_eq!(chosen, [0, 1, 0, 1], "frequency counts every time");
        let biased = Sampling { logit_bias: vec![(2, 100.0), (99, 100.0)], ..greedy };
        assert_eq!(Sampler::new(biased, None).choose(logits).unwrap().token, 2);
    }

    #[test]
    fn probabilities_are_reported_as_the_model_gave_them() {
        let logits = [0.5_f32, 0.25, 0.25].map(f32::ln).to_vec();
        let biased = Sampling { temperature: 0.0, logit_bias: vec![(2, 10.0)], ..Sampling::new(0) };
        let choice = Sampler::new(biased, Some(2)).choose(logits).unwrap();
        assert_eq!(choice.token, 2);
        assert!((choice.logprob.unwrap() - 0.25_f32.ln()).abs() < 1e-6);
        assert_eq!(choice.alternatives.iter().map(|scored| scored.token).collect::<Vec<_>>(), [0, 1]);
        assert!((choice.alternatives[0].logprob - 0.5_f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn logits_that_are_no_numbers_are_refused() {
        let mut sampler = Sampler::new(Sampling::new(0), None);
        assert!(sampler.choose(vec![0.0, f32::NAN]).is_err());
        assert!(sampler.choose(vec![0.0, f32::INFINITY]).is_err());
        assert!(sampler.choose(Vec::new()).is_err());
        assert_eq!(sampler.choose(vec![f32::NEG_INFINITY, 0.0]).unwrap().token, 1);
    }
}
