//! Medians, spreads and quantiles of few numbers.

/// The middle of values measured in several rounds, and their extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Median {
    pub(crate) value: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Median {
    /// What was measured once.
    pub(crate) const fn once(value: f64) -> Self {
        Self { value, lowest: value, highest: value }
    }

    /// `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let upper = values[values.len() / 2];
        let value =
            if values.len().is_multiple_of(2) { (values[values.len() / 2 - 1] + upper) / 2.0 } else { upper };
        Some(Self { value, lowest, highest })
    }
}

/// The value below which `share` of the ascending `values` lie; not a number for nothing.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length is an index"
    )]
    let index = (values.len() as f64 * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_counts() {
        assert_eq!(Median::of([3.0, 1.0, 2.0]), Some(Median { value: 2.0, lowest: 1.0, highest: 3.0 }));
        assert_eq!(Median::of([4.0, 1.0]), Some(Median { value: 2.5, lowest: 1.0, highest: 4.0 }));
        assert_eq!(Median::of([]), None);
    }

    #[test]
    fn quantiles_stay_within_the_values() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!((quantile(&values, 0.0), quantile(&values, 0.5), quantile(&values, 1.0)), (1.0, 3.0, 4.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
