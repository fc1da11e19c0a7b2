//! What the root contract says a token costs.

use units::{
    AdjustedTokens, AdjustedUsage, Coefficient, InconsistentUsage, Multiplier, NanoTon, TokenCount, Usage,
};

use crate::{AdjustOverflow, adjust};

/// How much each kind of token weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Multipliers {
    /// Prompt tokens that no cache answered.
    pub prompt: Multiplier,
    /// Prompt tokens from a prefix cache.
    pub cached: Multiplier,
    /// Tokens of the visible answer.
    pub completion: Multiplier,
    /// Tokens generated before it.
    pub reasoning: Multiplier,
}

impl Multipliers {
    /// The heaviest kind.
    #[must_use]
    pub fn largest(&self) -> Multiplier {
        self.prompt.max(self.cached).max(self.completion).max(self.reasoning)
    }
}

/// Prices of one configuration of the network. They do not change while a ledger lives: new prices mean a new
/// proxy contract, and a new contract starts its own totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceTable {
    price_per_token: NanoTon,
    worker_fee_per_token: NanoTon,
    proxy_fee_per_token: NanoTon,
    multipliers: Multipliers,
}

/// Workers would be promised more than clients pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the root contract pays workers {worker_fee} per token but charges clients only {price}")]
pub struct FeeAbovePrice {
    price: NanoTon,
    worker_fee: NanoTon,
}

/// A usage that has no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdjustError {
    /// Parts are larger than their whole.
    #[error(transparent)]
    Inconsistent(#[from] InconsistentUsage),
    /// The result does not fit the wire.
    #[error(transparent)]
    Overflow(#[from] AdjustOverflow),
}

impl PriceTable {
    /// Checks that the proxy's fee, the difference of the two prices, is not negative.
    ///
    /// # Errors
    /// [`FeeAbovePrice`] if workers would earn more than clients pay.
    pub fn new(
        price_per_token: NanoTon,
        worker_fee_per_token: NanoTon,
        multipliers: Multipliers,
    ) -> Result<Self, FeeAbovePrice> {
        let refused = FeeAbovePrice { price: price_per_token, worker_fee: worker_fee_per_token };
        let proxy_fee_per_token =
            price_per_token.checked_sub(worker_fee_per_token).map_err(|_negative| refused)?;
        Ok(Self { price_per_token, worker_fee_per_token, proxy_fee_per_token, multipliers })
    }

    /// What a client pays for one adjusted token.
    #[must_use]
    pub const fn price_per_token(&self) -> NanoTon {
        self.price_per_token
    }

    /// What a worker earns for one adjusted token.
    #[must_use]
    pub const fn worker_fee_per_token(&self) -> NanoTon {
        self.worker_fee_per_token
    }

    /// What the proxy keeps of one adjusted token.
    #[must_use]
    pub const fn proxy_fee_per_token(&self) -> NanoTon {
        self.proxy_fee_per_token
    }

    /// The weights of the kinds.
    #[must_use]
    pub const fn multipliers(&self) -> &Multipliers {
        &self.multipliers
    }

    /// The price of a finished request. Each kind is rounded toward zero by itself, as deployed peers do.
    ///
    /// # Errors
    /// [`AdjustError`] if the usage contradicts itself or the price does not fit the wire.
    pub fn adjust(&self, usage: &Usage, coefficient: Coefficient) -> Result<AdjustedUsage, AdjustError> {
        Ok(AdjustedUsage {
            prompt: adjust(usage.uncached_prompt()?, coefficient, self.multipliers.prompt)?,
            cached: adjust(usage.cached, coefficient, self.multipliers.cached)?,
            completion: adjust(usage.visible_completion()?, coefficient, self.multipliers.completion)?,
            reasoning: adjust(usage.reasoning, coefficient, self.multipliers.reasoning)?,
        })
    }

    /// The hold of a request: the worst it may cost. Every byte of the query counts as one prompt token, every
    /// token weighs as much as the heaviest kind, and the worker is as dear as `ceiling` allows.
    ///
    /// Deployed proxies use the multiplier 10000 here. While all multipliers are at most 10000 that is never
    /// less than ours; a network that prices reasoning above the base would let requests there cost more than
    /// was held, so we take the largest multiplier instead.
    ///
    /// # Errors
    /// [`AdjustOverflow`] if the hold does not fit the wire.
    pub fn hold(
        &self,
        max_tokens: TokenCount,
        query_len_bytes: usize,
        ceiling: Coefficient,
    ) -> Result<AdjustedTokens, AdjustOverflow> {
        // A sum above 2^64 is refused by `adjust` like any other that does not fit.
        let query_tokens = u64::try_from(query_len_bytes).unwrap_or(u64::MAX);
        let worst_count = TokenCount::new(max_tokens.get().saturating_add(query_tokens));
        adjust(worst_count, ceiling, self.multipliers.largest())
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "test inputs are small")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(multipliers: Multipliers) -> PriceTable {
        PriceTable::new(NanoTon::new(2), NanoTon::new(1), multipliers).unwrap()
    }

    fn usage(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Usage {
        let count = TokenCount::new;
        Usage {
            prompt: count(prompt),
            cached: count(cached),
            completion: count(completion),
            reasoning: count(reasoning),
        }
    }

    fn kinds(adjusted: AdjustedUsage) -> [u64; 4] {
        [adjusted.prompt, adjusted.cached, adjusted.completion, adjusted.reasoning].map(AdjustedTokens::get)
    }

    /// The numbers that a deployed worker reported for one and the same answer at two prices.
    #[test]
    fn recorded_prices_come_out() {
        let table = table(Multipliers::default());
        let answer = usage(34, 11, 100, 10);
        let at = |coefficient| table.adjust(&answer, Coefficient::new(coefficient).unwrap()).unwrap();
        assert_eq!(kinds(at(1500)), [34, 16, 135, 15]);
        assert_eq!(at(1500).total().unwrap().get(), 200);
        assert_eq!(kinds(at(2500)), [57, 27, 225, 25]);
        assert_eq!(at(2500).total().unwrap().get(), 334);
    }

    #[test]
    fn each_kind_has_its_own_multiplier() {
        let weighted = table(Multipliers {
            prompt: Multiplier::new(10_000),
            cached: Multiplier::new(1_000),
            completion: Multiplier::new(30_000),
            reasoning: Multiplier::new(40_000),
        });
        let adjusted = weighted.adjust(&usage(34, 11, 100, 10), Coefficient::ONE).unwrap();
        assert_eq!(kinds(adjusted), [23, 1, 270, 40]);
    }

    #[test]
    fn contradictory_usage_has_no_price() {
        let table = table(Multipliers::default());
        for refused in [usage(10, 11, 0, 0), usage(0, 0, 5, 6)] {
            assert!(matches!(table.adjust(&refused, Coefficient::ONE), Err(AdjustError::Inconsistent(_))));
        }
        let huge = usage(u64::MAX, 0, 0, 0);
        assert!(matches!(table.adjust(&huge, Coefficient::ONE), Err(AdjustError::Overflow(_))));
    }

    #[test]
    fn workers_cannot_earn_more_than_clients_pay() {
        let price =
            |price, fee| PriceTable::new(NanoTon::new(price), NanoTon::new(fee), Multipliers::default());
        assert_eq!(price(2, 2).unwrap().proxy_fee_per_token(), NanoTon::ZERO);
        let error = price(1, 2).unwrap_err();
        assert!(error.to_string().starts_with("the root contract pays workers 0.000000002 TON"), "{error}");
    }

    #[test]
    fn a_hold_takes_the_largest_multiplier() {
        let heavy = table(Multipliers { reasoning: Multiplier::new(30_000), ..Multipliers::default() });
        let ceiling = Coefficient::new(4000).unwrap();
        let hold = |table: &PriceTable| table.hold(TokenCount::new(1000), 250, ceiling).unwrap().get();
        assert_eq!(hold(&table(Multipliers::default())), 5000);
        assert_eq!(hold(&heavy), 15_000);
        assert!(heavy.hold(TokenCount::new(u64::MAX), usize::MAX, ceiling).is_err());
    }

    proptest! {
        /// A usage within the promised limits costs at most its hold. The bound allows one unit for each kind:
        /// the hold is rounded once, the four kinds each by themselves.
        #[test]
        fn a_hold_covers_what_was_promised(
            query_len in 0..100_000_usize, max_tokens in 0..100_000_u64,
            cached_percent in 0..=100_u64, reasoning_percent in 0..=100_u64,
            coefficient in 0..10_000_i64, prompt_multiplier in 0..50_000_u32, reasoning_multiplier in 0..50_000_u32,
        ) {
            let prompt = query_len as u64;
            let answer =
                usage(prompt, prompt * cached_percent / 100, max_tokens, max_tokens * reasoning_percent / 100);
            let table = table(Multipliers {
                prompt: Multiplier::new(prompt_multiplier),
                reasoning: Multiplier::new(reasoning_multiplier),
                ..Multipliers::default()
            });
            let coefficient = Coefficient::new(coefficient).unwrap();
            let hold = table.hold(TokenCount::new(max_tokens), query_len, coefficient).unwrap().get();
            let cost = table.adjust(&answer, coefficient).unwrap().total().unwrap().get();
            prop_assert!(cost <= hold + 3, "cost {cost}, hold {hold}");
        }
    }
}
