//! What clients may see of the market.

use units::Coefficient;

/// One model and its enabled workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelListing<'a> {
    /// Base name of the model.
    pub name: &'a str,
    /// Enabled workers, cheapest first.
    pub workers: Vec<WorkerListing>,
}

/// One enabled worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerListing {
    /// Its price.
    pub coefficient: Coefficient,
    /// Requests it runs.
    pub running: u32,
    /// Requests it may run at once through this proxy.
    pub running_max: u32,
}

impl ModelListing<'_> {
    /// The lowest, the middle and the highest price; of an even number the upper middle. `None` when no worker
    /// is enabled.
    #[must_use]
    pub fn price_range(&self) -> Option<[Coefficient; 3]> {
        let middle = self.workers.get(self.workers.len() >> 1)?;
        let (first, last) = (self.workers.first()?, self.workers.last()?);
        Some([first.coefficient, middle.coefficient, last.coefficient])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(prices: &[i64]) -> ModelListing<'static> {
        let worker = |price: &i64| WorkerListing {
            coefficient: Coefficient::new(*price).unwrap(),
            running: 0,
            running_max: 1,
        };
        ModelListing { name: "m", workers: prices.iter().map(worker).collect() }
    }

    #[test]
    fn prices_are_summed_up() {
        let range = |prices: &[i64]| listing(prices).price_range().map(|range| range.map(Coefficient::get));
        assert_eq!(range(&[]), None);
        assert_eq!(range(&[7]), Some([7, 7, 7]));
        assert_eq!(range(&[1, 5]), Some([1, 5, 5]));
        assert_eq!(range(&[1, 5, 9]), Some([1, 5, 9]));
    }
}
