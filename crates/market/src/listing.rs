//! What clients may see of the market.

use units::Coefficient;

use crate::Market;
use crate::market::Model;

/// One model and its enabled workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelListing<'a> {
    /// Base name of the model.
    pub name: &'a str,
    /// How many workers are enabled.
    pub enabled: usize,
    /// The lowest, the middle and the highest price of enabled workers; of an even number the upper middle. `None` when
    /// no worker is enabled.
    pub prices: Option<[Coefficient; 3]>,
    /// Enabled workers, cheapest first, as many as were asked for.
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

impl Market {
    /// Models that somebody is connected for, by name, with at most `workers_max` workers listed one by one over all
    /// of them. Costs the logarithm of the number of workers for each model and each worker listed.
    pub fn listing(&self, workers_max: usize) -> impl Iterator<Item = ModelListing<'_>> + '_ {
        let mut left = workers_max;
        let models = self.names.values().filter_map(|index| self.models.get(*index));
        models.filter(|model| model.connected > 0).map(move |model| {
            let workers: Vec<_> =
                (0..model.enabled.len().min(left)).filter_map(|rank| self.listed(model, rank)).collect();
            left = left.saturating_sub(workers.len());
            ModelListing { name: &model.name, enabled: model.enabled.len(), prices: prices(model), workers }
        })
    }

    fn listed(&self, model: &Model, rank: usize) -> Option<WorkerListing> {
        let ((coefficient, id), _score) = model.enabled.nth(rank)?;
        let worker = self.workers.get(&id)?;
        Some(WorkerListing { coefficient, running: worker.running, running_max: worker.running_max })
    }
}

fn prices(model: &Model) -> Option<[Coefficient; 3]> {
    let count = model.enabled.len();
    let price = |rank| model.enabled.nth(rank).map(|((coefficient, _), _)| coefficient);
    Some([price(0)?, price(count >> 1)?, price(count.checked_sub(1)?)?])
}
