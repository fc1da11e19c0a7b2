//! Money, tokens and prices.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A sum, difference or product left the range of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("amount out of range: {operation} of {left} and {right} does not fit 64 bits")]
pub struct AmountOverflow {
    operation: &'static str,
    left: u64,
    right: u64,
}

/// Declares a counted quantity: a `u64` that only adds to and subtracts from its own kind.
macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// Wraps a bare count.
            #[must_use]
            pub const fn new(count: u64) -> Self {
                Self(count)
            }

            /// The bare count.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// `self + other`.
            ///
            /// # Errors
            /// [`AmountOverflow`] if the sum exceeds `u64::MAX`.
            pub fn checked_add(self, other: Self) -> Result<Self, AmountOverflow> {
                let overflow = AmountOverflow { operation: "sum", left: self.0, right: other.0 };
                self.0.checked_add(other.0).map(Self).ok_or(overflow)
            }

            /// `self - other`.
            ///
            /// # Errors
            /// [`AmountOverflow`] if `other` is larger than `self`.
            pub fn checked_sub(self, other: Self) -> Result<Self, AmountOverflow> {
                let overflow = AmountOverflow { operation: "difference", left: self.0, right: other.0 };
                self.0.checked_sub(other.0).map(Self).ok_or(overflow)
            }

            /// `self - other`, or zero when `other` is larger.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
    };
}

quantity! {
    /// An amount in nanotons (1 TON = 10^9 nanotons). Checked integer arithmetic only.
    NanoTon
}
quantity! {
    /// Tokens as an engine counts them, before any price.
    TokenCount
}
quantity! {
    /// Tokens weighted by the worker's coefficient and the kind's multiplier: the unit of charges,
    /// payouts and reservations. One adjusted token costs `price_per_token` of the root contract.
    AdjustedTokens
}

impl fmt::Display for TokenCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AdjustedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const NANOTON_PER_TON: u64 = 1_000_000_000;

impl NanoTon {
    /// Whole tons.
    ///
    /// # Errors
    /// [`AmountOverflow`] if the amount exceeds `u64::MAX` nanotons.
    pub fn from_tons(tons: u64) -> Result<Self, AmountOverflow> {
        let overflow = AmountOverflow { operation: "product", left: tons, right: NANOTON_PER_TON };
        tons.checked_mul(NANOTON_PER_TON).map(Self).ok_or(overflow)
    }

    /// Price of `tokens` adjusted tokens at `self` per token.
    ///
    /// # Errors
    /// [`AmountOverflow`] if the result exceeds `u64::MAX` nanotons.
    pub fn charge(self, tokens: AdjustedTokens) -> Result<Self, AmountOverflow> {
        let overflow = AmountOverflow { operation: "product", left: self.0, right: tokens.0 };
        self.0.checked_mul(tokens.0).map(Self).ok_or(overflow)
    }

    /// How many adjusted tokens `self` buys at `price` each, rounded down in favour of the seller.
    /// `None` when the price is zero.
    #[must_use]
    pub fn buys(self, price: Self) -> Option<AdjustedTokens> {
        self.0.checked_div(price.0).map(AdjustedTokens)
    }
}

/// Prints tons exactly, without trailing zeros: `1.5 TON`, `0.000000002 TON`.
impl fmt::Display for NanoTon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tons, nanotons) = (self.0 / NANOTON_PER_TON, self.0 % NANOTON_PER_TON);
        if nanotons == 0 {
            return write!(f, "{tons} TON");
        }
        let fraction = format!("{nanotons:09}");
        write!(f, "{tons}.{} TON", fraction.trim_end_matches('0'))
    }
}

/// A text that is not an amount of tons.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an amount of TON: write digits with at most 9 after the point, such as \"1.5\"")]
pub struct NanoTonParseError {
    text: String,
}

/// Reads tons with at most nine decimals; the unit may be written or left out.
impl FromStr for NanoTon {
    type Err = NanoTonParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || NanoTonParseError { text: text.to_owned() };
        let digits = text.strip_suffix("TON").unwrap_or(text).trim();
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 9 {
            return Err(refused());
        }
        let tons: Option<u64> = whole.parse().ok();
        let nanotons: Option<u64> = format!("{fraction:0<9}").parse().ok();
        let sum = tons
            .zip(nanotons)
            .and_then(|(tons, nanotons)| tons.checked_mul(NANOTON_PER_TON)?.checked_add(nanotons));
        sum.map(Self).ok_or_else(refused)
    }
}

/// A worker's price relative to the network's, in thousandths: 1000 is the listed price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Coefficient(u32);

/// A coefficient outside what the deployed proxy accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("coefficient {found} is outside 0..{}", Coefficient::LIMIT)]
pub struct InvalidCoefficient {
    found: i64,
}

impl Coefficient {
    /// The listed price.
    pub const ONE: Self = Self(1000);
    /// The first value that is refused.
    pub const LIMIT: u32 = 1_000_000_000;

    /// Checks a value from a message or a configuration.
    ///
    /// # Errors
    /// [`InvalidCoefficient`] if the value is negative or not below [`Self::LIMIT`].
    pub fn new(thousandths: i64) -> Result<Self, InvalidCoefficient> {
        match u32::try_from(thousandths) {
            Ok(value) if value < Self::LIMIT => Ok(Self(value)),
            _ => Err(InvalidCoefficient { found: thousandths }),
        }
    }

    /// Thousandths of the listed price.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Coefficient {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<u32> for Coefficient {
    type Error = InvalidCoefficient;

    fn try_from(thousandths: u32) -> Result<Self, Self::Error> {
        Self::new(i64::from(thousandths))
    }
}

impl From<Coefficient> for u32 {
    fn from(coefficient: Coefficient) -> Self {
        coefficient.0
    }
}

/// Price of one kind of token relative to the base price, in ten-thousandths: 10000 is the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Multiplier(u32);

impl Multiplier {
    /// The base price.
    pub const ONE: Self = Self(10_000);

    /// Wraps ten-thousandths.
    #[must_use]
    pub const fn new(ten_thousandths: u32) -> Self {
        Self(ten_thousandths)
    }

    /// Ten-thousandths of the base price.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Multiplier {
    fn default() -> Self {
        Self::ONE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tons_print_exactly() {
        assert_eq!(NanoTon::new(0).to_string(), "0 TON");
        assert_eq!(NanoTon::new(2).to_string(), "0.000000002 TON");
        assert_eq!(NanoTon::new(1_500_000_000).to_string(), "1.5 TON");
        assert_eq!(NanoTon::new(u64::MAX).to_string(), "18446744073.709551615 TON");
    }

    #[test]
    fn tons_parse_and_their_twins_are_refused() {
        assert_eq!("1.5".parse(), Ok(NanoTon::new(1_500_000_000)));
        assert_eq!("0.000000001 TON".parse(), Ok(NanoTon::new(1)));
        assert_eq!("18446744073.709551615".parse(), Ok(NanoTon::new(u64::MAX)));
        for refused in ["", ".5", "1.", "1.0000000001", "-1", "+1", "1e9", "18446744073.709551616", "1 EUR"] {
            assert!(refused.parse::<NanoTon>().is_err(), "{refused:?} was accepted");
        }
    }

    #[test]
    fn a_charge_fits_or_is_refused() {
        let price = NanoTon::new(20);
        assert_eq!(price.charge(AdjustedTokens::new(200)), Ok(NanoTon::new(4_000)));
        let most = AdjustedTokens::new(u64::MAX / 20);
        assert!(price.charge(most).is_ok());
        assert!(price.charge(AdjustedTokens::new(most.get() + 1)).is_err());
    }

    #[test]
    fn a_purchase_rounds_down_and_a_zero_price_buys_no_number() {
        assert_eq!(NanoTon::new(41).buys(NanoTon::new(20)), Some(AdjustedTokens::new(2)));
        assert_eq!(NanoTon::new(41).buys(NanoTon::ZERO), None);
    }

    #[test]
    fn coefficients_keep_their_range() {
        assert!(Coefficient::new(0).is_ok());
        assert!(Coefficient::new(999_999_999).is_ok());
        assert!(Coefficient::new(1_000_000_000).is_err());
        assert!(Coefficient::new(-1).is_err());
    }

    proptest! {
        #[test]
        fn tons_survive_their_text(nanotons: u64) {
            let amount = NanoTon::new(nanotons);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }

        #[test]
        fn sums_and_differences_agree(a: u64, b: u64) {
            let (a, b) = (AdjustedTokens::new(a), AdjustedTokens::new(b));
            if let Ok(sum) = a.checked_add(b) {
                prop_assert_eq!(sum.checked_sub(b), Ok(a));
            }
        }
    }
}
