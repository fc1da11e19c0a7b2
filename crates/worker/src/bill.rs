//! What one answer costs, while it passes.

use bytes::Bytes;
use gateway::{UsageCost, UsageMeter};
use ledger::{AdjustError, PriceTable};
use units::{AdjustedTokens, AdjustedUsage, AmountOverflow, Coefficient, TokenCount, Usage};

/// Counts an answer and prices it at the coefficient of its request.
pub(crate) struct Bill {
    meter: UsageMeter,
    tokens_max: Option<TokenCount>,
    price: Price,
}

/// What tokens of one request cost.
#[derive(Clone, Copy, Debug)]
struct Price {
    prices: PriceTable,
    coefficient: Coefficient,
}

/// A cost in adjusted tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// By kind of token.
    pub(crate) usage: AdjustedUsage,
    /// The sum of the kinds; fits the 63 bits of the wire.
    pub(crate) total: AdjustedTokens,
}

/// An engine reported a usage that nobody can be charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BillError {
    #[error(transparent)]
    Adjust(#[from] AdjustError),
    #[error("the sum of the adjusted tokens does not fit the wire")]
    Total(#[from] AmountOverflow),
    #[error("{total} adjusted tokens do not fit the wire")]
    Wire { total: AdjustedTokens },
}

impl Bill {
    /// For the answer to a body of `request_len` bytes that allows at most `tokens_max` tokens.
    pub(crate) fn new(
        prices: PriceTable,
        coefficient: Coefficient,
        request_len: usize,
        tokens_max: Option<TokenCount>,
    ) -> Self {
        let request_len = u64::try_from(request_len).unwrap_or(u64::MAX);
        let meter = UsageMeter::new(request_len, tokens_max);
        Self { meter, tokens_max, price: Price { prices, coefficient } }
    }

    /// Counts a piece and returns what to send on: the piece, with the cost added to every usage that it completes.
    pub(crate) fn pass(&mut self, piece: Bytes) -> Bytes {
        let (price, tokens_max) = (self.price, self.tokens_max);
        self.meter.feed_priced(piece, |usage| price.in_nanotons(&within(*usage, tokens_max)))
    }

    /// Whether the answer goes beyond what its request allows.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.meter.is_over_limit()
    }

    /// Whether what passed ends with a complete server-sent event.
    pub(crate) fn is_between_events(&self) -> bool {
        self.meter.is_between_events()
    }

    /// What was used, as far as it is charged.
    pub(crate) fn usage(&self) -> Usage {
        within(self.meter.current().usage, self.tokens_max)
    }

    /// The cost of what passed up to now, and whether its tokens were estimated.
    pub(crate) fn current(&self) -> Result<(Cost, bool), BillError> {
        let metered = self.meter.current();
        Ok((self.price.of(&self.usage())?, metered.estimated))
    }
}

/// A usage without what the request did not allow: nobody ordered that, whatever the engine counts.
fn within(usage: Usage, tokens_max: Option<TokenCount>) -> Usage {
    let Some(limit) = tokens_max else { return usage };
    Usage { completion: usage.completion.min(limit), reasoning: usage.reasoning.min(limit), ..usage }
}

impl Price {
    fn of(&self, usage: &Usage) -> Result<Cost, BillError> {
        let usage = self.prices.adjust(usage, self.coefficient)?;
        let total = usage.total()?;
        match i64::try_from(total.get()) {
            Ok(_fits) => Ok(Cost { usage, total }),
            Err(_) => Err(BillError::Wire { total }),
        }
    }

    /// The cost as the application pays it. Information only, so left out where it overflows.
    fn in_nanotons(&self, usage: &Usage) -> Option<UsageCost> {
        let Cost { usage, total } = self.of(usage).ok()?;
        let charge = |tokens| self.prices.price_per_token().charge(tokens).ok();
        Some(UsageCost {
            prompt: charge(usage.prompt.checked_add(usage.cached).ok()?)?,
            completion: charge(usage.completion.checked_add(usage.reasoning).ok()?)?,
            total: charge(total)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use ledger::Multipliers;
    use units::NanoTon;

    use super::*;

    fn bill(coefficient: i64) -> Bill {
        let prices = PriceTable::new(NanoTon::new(2), NanoTon::new(1), Multipliers::default()).unwrap();
        Bill::new(prices, Coefficient::new(coefficient).unwrap(), 73, None)
    }

    const USAGE: &str = r#"{"prompt_tokens":34,"prompt_tokens_details":{"cached_tokens":11},"completion_tokens":100,"completion_tokens_details":{"reasoning_tokens":10}}"#;

    /// The costs that a deployed worker wrote for one answer at two prices.
    #[test]
    fn recorded_costs_come_out() {
        for (coefficient, total, costs) in [(1500, 200, [100, 300, 400]), (2500, 334, [168, 500, 668])] {
            let mut bill = bill(coefficient);
            let passed = bill.pass(format!("{{\"usage\":{USAGE}}}").into());
            let passed: serde_json::Value = serde_json::from_slice(&passed).unwrap();
            let names = ["prompt_total_cost", "completion_total_cost", "total_cost"];
            assert_eq!(names.map(|name| passed["usage"][name].as_u64().unwrap()), costs);
            let (cost, is_estimated) = bill.current().unwrap();
            assert_eq!((cost.total.get(), is_estimated), (total, false));
        }
    }

    #[test]
    fn an_absurd_usage_has_no_price() {
        let mut bill = bill(999_999_999);
        let piece = r#"{"usage":{"prompt_tokens":9000000000000000000,"completion_tokens":1}}"#;
        // Nothing is added to it either.
        assert_eq!(bill.pass(Bytes::from_static(piece.as_bytes())), piece);
        assert!(bill.current().is_err());
    }

    #[test]
    fn what_the_request_did_not_allow_costs_nothing() {
        for (limit, total) in [(None, 200), (Some(100), 200), (Some(20), 80), (Some(0), 50)] {
            let prices = PriceTable::new(NanoTon::new(2), NanoTon::new(1), Multipliers::default()).unwrap();
            let limit = limit.map(TokenCount::new);
            let mut bill = Bill::new(prices, Coefficient::new(1500).unwrap(), 73, limit);
            let passed = bill.pass(format!("{{\"usage\":{USAGE}}}").into());
            let passed: serde_json::Value = serde_json::from_slice(&passed).unwrap();
            let (cost, _) = bill.current().unwrap();
            assert_eq!(cost.total.get(), total, "{limit:?}");
            assert_eq!(passed["usage"]["total_cost"], 2 * total, "the application reads the same");
        }
    }

    #[test]
    fn a_sum_above_the_wire_is_refused_although_its_parts_fit() {
        let mut bill = bill(1000);
        let half = i64::MAX / 2 + 512;
        let piece = format!(r#"{{"usage":{{"prompt_tokens":{half},"completion_tokens":{half}}}}}"#);
        let _passed = bill.pass(piece.into());
        assert!(matches!(bill.current(), Err(BillError::Wire { .. })));
    }
}
