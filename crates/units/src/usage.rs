//! What a request consumed.

use serde::{Deserialize, Serialize};

use crate::{AdjustedTokens, AmountOverflow, TokenCount};

/// Tokens of one request as the engine counts them.
///
/// As in the OpenAI API, `cached` is a part of `prompt` and `reasoning` is a part of `completion`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All tokens of the prompt.
    pub prompt: TokenCount,
    /// Those of the prompt that a prefix cache answered.
    pub cached: TokenCount,
    /// All generated tokens.
    pub completion: TokenCount,
    /// Those generated before the visible answer.
    pub reasoning: TokenCount,
}

/// A usage whose parts are larger than their whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part_name} tokens ({part}) exceed {whole_name} tokens ({whole})")]
pub struct InconsistentUsage {
    part_name: &'static str,
    part: u64,
    whole_name: &'static str,
    whole: u64,
}

impl Usage {
    /// Prompt tokens that no cache answered.
    ///
    /// # Errors
    /// [`InconsistentUsage`] if more tokens were cached than the prompt has.
    pub fn uncached_prompt(&self) -> Result<TokenCount, InconsistentUsage> {
        part_of(self.cached, "cached", self.prompt, "prompt")
    }

    /// Generated tokens of the visible answer.
    ///
    /// # Errors
    /// [`InconsistentUsage`] if more tokens were reasoning than were generated.
    pub fn visible_completion(&self) -> Result<TokenCount, InconsistentUsage> {
        part_of(self.reasoning, "reasoning", self.completion, "completion")
    }
}

fn part_of(
    part: TokenCount,
    part_name: &'static str,
    whole: TokenCount,
    whole_name: &'static str,
) -> Result<TokenCount, InconsistentUsage> {
    let (part_count, whole_count) = (part.get(), whole.get());
    let inconsistent = InconsistentUsage { part_name, part: part_count, whole_name, whole: whole_count };
    whole.checked_sub(part).map_err(|_overflow| inconsistent)
}

/// Priced tokens of one request by kind. Here the kinds are disjoint: `prompt` excludes `cached`, and
/// `completion` excludes `reasoning`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdjustedUsage {
    /// Uncached prompt.
    pub prompt: AdjustedTokens,
    /// Cached prompt.
    pub cached: AdjustedTokens,
    /// Visible answer.
    pub completion: AdjustedTokens,
    /// Reasoning before it.
    pub reasoning: AdjustedTokens,
}

impl AdjustedUsage {
    /// The sum of all kinds: what the request costs.
    ///
    /// # Errors
    /// [`AmountOverflow`] if the sum does not fit 64 bits.
    pub fn total(&self) -> Result<AdjustedTokens, AmountOverflow> {
        self.prompt.checked_add(self.cached)?.checked_add(self.completion)?.checked_add(self.reasoning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Usage {
        let count = TokenCount::new;
        Usage {
            prompt: count(prompt),
            cached: count(cached),
            completion: count(completion),
            reasoning: count(reasoning),
        }
    }

    #[test]
    fn parts_are_taken_from_their_whole() {
        assert_eq!(usage(34, 11, 100, 10).uncached_prompt(), Ok(TokenCount::new(23)));
        assert_eq!(usage(34, 11, 100, 10).visible_completion(), Ok(TokenCount::new(90)));
    }

    #[test]
    fn parts_larger_than_the_whole_are_refused() {
        let error = usage(10, 11, 0, 0).uncached_prompt().unwrap_err();
        assert_eq!(error.to_string(), "cached tokens (11) exceed prompt tokens (10)");
        assert!(usage(0, 0, 9, 10).visible_completion().is_err());
    }

    #[test]
    fn totals_are_checked() {
        let most = AdjustedTokens::new(u64::MAX);
        let one = AdjustedTokens::new(1);
        assert_eq!(AdjustedUsage { prompt: most, ..Default::default() }.total(), Ok(most));
        assert!(AdjustedUsage { prompt: most, reasoning: one, ..Default::default() }.total().is_err());
    }
}
