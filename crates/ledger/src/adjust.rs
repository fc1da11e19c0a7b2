//! From tokens to adjusted tokens.

use units::{AdjustedTokens, Coefficient, Multiplier, TokenCount};

/// An adjusted amount that does not fit the 63 bits which the wire gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} tokens at coefficient {coefficient} and multiplier {multiplier} exceed 2^63 adjusted tokens"
)]
pub struct AdjustOverflow {
    count: u64,
    coefficient: u32,
    multiplier: u32,
}

/// Weighs `count` tokens by a worker's coefficient (thousandths) and a kind's multiplier (ten-thousandths).
/// Rounds toward zero, in favour of the client.
///
/// Deployed workers compute `double(n) * (coefficient * 0.001) * multiplier * 0.0001` in double precision and
/// truncate. The order of the four products decides the last bit, so it is kept exactly.
///
/// # Errors
/// [`AdjustOverflow`] if the result does not fit the signed 64 bits of the wire.
#[expect(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rule of the deployed network is defined in doubles; the range is checked before the cast back"
)]
pub fn adjust(
    count: TokenCount,
    coefficient: Coefficient,
    multiplier: Multiplier,
) -> Result<AdjustedTokens, AdjustOverflow> {
    const LIMIT: f64 = (1_u64 << 63) as f64;
    let price = f64::from(coefficient.get()) * 0.001;
    let adjusted = count.get() as f64 * price * f64::from(multiplier.get()) * 0.0001;
    if adjusted >= LIMIT {
        return Err(AdjustOverflow {
            count: count.get(),
            coefficient: coefficient.get(),
            multiplier: multiplier.get(),
        });
    }
    Ok(AdjustedTokens::new(adjusted as u64))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "test inputs are small")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn adjusted(count: u64, coefficient: i64, multiplier: u32) -> u64 {
        let coefficient = Coefficient::new(coefficient).unwrap();
        adjust(TokenCount::new(count), coefficient, Multiplier::new(multiplier)).unwrap().get()
    }

    #[test]
    fn halves_are_cut_off() {
        assert_eq!(adjusted(23, 1500, 10_000), 34);
        assert_eq!(adjusted(11, 1500, 10_000), 16);
        assert_eq!(adjusted(90, 1500, 10_000), 135);
        assert_eq!(adjusted(23, 2500, 10_000), 57);
    }

    #[test]
    fn the_deployed_order_of_rounding_decides_the_last_token() {
        // Exact arithmetic gives 867, 873 and 1989; doubles multiplied in the deployed order end just below.
        assert_eq!(adjusted(750, 1156, 10_000), 866);
        assert_eq!(adjusted(1500, 582, 10_000), 872);
        assert_eq!(adjusted(1700, 1170, 10_000), 1988);
        assert_eq!(adjusted(750, 1157, 10_000), 867);
    }

    #[test]
    fn nothing_costs_nothing() {
        assert_eq!(adjusted(0, 999_999_999, u32::MAX), 0);
        assert_eq!(adjusted(u64::MAX, 0, u32::MAX), 0);
        assert_eq!(adjusted(u64::MAX, 1000, 0), 0);
    }

    #[test]
    fn what_the_wire_cannot_carry_is_refused() {
        let one = (Coefficient::ONE, Multiplier::ONE);
        assert!(adjust(TokenCount::new(1 << 62), one.0, one.1).is_ok());
        assert!(adjust(TokenCount::new(1 << 63), one.0, one.1).is_err());
        let error = adjust(TokenCount::new(u64::MAX), one.0, one.1).unwrap_err();
        assert!(error.to_string().contains("18446744073709551615 tokens"), "{error}");
    }

    proptest! {
        /// More tokens, a higher coefficient or a higher multiplier never cost less.
        #[test]
        fn is_monotonic(
            count in 0..1_u64 << 32, more in 0..1000_u64,
            coefficient in 0..1_000_000_i64, dearer in 0..1000_i64,
            multiplier in 0..1_000_000_u32, heavier in 0..1000_u32,
        ) {
            let base = adjusted(count, coefficient, multiplier);
            prop_assert!(adjusted(count + more, coefficient, multiplier) >= base);
            prop_assert!(adjusted(count, coefficient + dearer, multiplier) >= base);
            prop_assert!(adjusted(count, coefficient, multiplier + heavier) >= base);
        }
    }
}
