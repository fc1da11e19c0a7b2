//! The market and its one decision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use units::{Coefficient, ModelName};

use crate::decay::DecayingMean;
use crate::ranked::RankedSet;
use crate::{ModelListing, WorkerListing};

/// One connection of a worker, as the caller numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(u64);

impl WorkerId {
    /// Wraps the caller's number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The caller's number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What a worker offers when it joins. It starts disabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The model; requests name its base.
    pub model: ModelName,
    /// The price.
    pub coefficient: Coefficient,
    /// How many requests it runs at once.
    pub running_max: u32,
}

/// A worker joined twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("worker {} is already listed", .0.get())]
pub struct AlreadyListed(WorkerId);

/// Why no worker was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWorker {
    /// Nobody offered this model lately.
    #[error("no worker has offered this model")]
    UnknownModel,
    /// The model was offered, but nobody is connected now.
    #[error("no worker for this model is connected")]
    NoneConnected,
    /// Nobody is both enabled and below its limit.
    #[error("every worker for this model is disabled or full")]
    NoneReady,
    /// Everybody ready is dearer than the client allows.
    #[error("the cheapest ready worker for this model has coefficient {}", cheapest.get())]
    TooDear {
        /// The lowest ceiling that would be served now.
        cheapest: Coefficient,
    },
}

/// How a listed worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// Its price.
    pub coefficient: Coefficient,
    /// Whether it takes part.
    pub enabled: bool,
    /// Requests it runs.
    pub running: u32,
    /// Requests it may run at once.
    pub running_max: u32,
}

/// All workers of one proxy.
#[derive(Debug, Default)]
pub struct Market {
    models: BTreeMap<Arc<str>, Model>,
    workers: HashMap<WorkerId, Worker>,
    /// Models without workers, the one that has waited longest first.
    abandoned: BTreeMap<u64, Arc<str>>,
    next_abandoned: u64,
}

#[derive(Debug)]
struct Model {
    connected: usize,
    /// Enabled workers, for listings.
    enabled: BTreeSet<Place>,
    /// Enabled workers with room, for picks.
    ready: RankedSet<Place>,
    abandoned_at: Option<u64>,
}

/// Workers stand in order of price.
type Place = (Coefficient, WorkerId);

#[derive(Debug)]
struct Worker {
    model: Arc<str>,
    coefficient: Coefficient,
    enabled: bool,
    running: u32,
    running_max: u32,
    /// Mean duration of successful requests. Failures stay out: a worker that fails at once is not quick.
    duration: DecayingMean,
    tree_priority: u64,
}

/// How many models without workers are remembered, so that "come back later" can be told from "never heard of it".
const ABANDONED_MODELS_MAX: usize = 1000;

impl Market {
    /// An empty market.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists a worker, disabled at first.
    ///
    /// # Errors
    /// [`AlreadyListed`] if the id is in use; nothing changed then.
    pub fn add(
        &mut self,
        id: WorkerId,
        offer: &Offer,
        now: Instant,
        random: &mut impl FnMut() -> u64,
    ) -> Result<(), AlreadyListed> {
        if self.workers.contains_key(&id) {
            return Err(AlreadyListed(id));
        }
        let known = self.models.get_key_value(offer.model.base()).map(|(name, _)| Arc::clone(name));
        let name = known.unwrap_or_else(|| Arc::from(offer.model.base()));
        let model = self.models.entry(Arc::clone(&name)).or_insert_with(Model::new);
        model.connected = model.connected.saturating_add(1);
        if let Some(serial) = model.abandoned_at.take() {
            self.abandoned.remove(&serial);
        }
        let worker = Worker {
            model: name,
            coefficient: offer.coefficient,
            enabled: false,
            running: 0,
            running_max: offer.running_max,
            duration: DecayingMean::new(now),
            tree_priority: random(),
        };
        self.workers.insert(id, worker);
        Ok(())
    }

    /// Forgets a worker. Unknown ids are ignored here and below: news about a worker that has left is normal.
    pub fn remove(&mut self, id: WorkerId) {
        self.set_enabled(id, false);
        let Some(worker) = self.workers.remove(&id) else { return };
        let Some(model) = self.models.get_mut(&worker.model) else { return };
        model.connected = model.connected.saturating_sub(1);
        if model.connected > 0 {
            return;
        }
        model.abandoned_at = Some(self.next_abandoned);
        self.abandoned.insert(self.next_abandoned, worker.model);
        self.next_abandoned = self.next_abandoned.saturating_add(1);
        if self.abandoned.len() > ABANDONED_MODELS_MAX
            && let Some((_, forgotten)) = self.abandoned.pop_first()
        {
            self.models.remove(&forgotten);
        }
    }

    /// Lets a worker take part, or stops new requests to it.
    pub fn set_enabled(&mut self, id: WorkerId, enabled: bool) {
        self.update(id, |worker| worker.enabled = enabled);
    }

    /// Changes a worker's price for later requests.
    pub fn set_coefficient(&mut self, id: WorkerId, coefficient: Coefficient) {
        self.update(id, |worker| worker.coefficient = coefficient);
    }

    /// A request goes to the worker.
    pub fn started(&mut self, id: WorkerId) {
        self.update(id, |worker| worker.running = worker.running.saturating_add(1));
    }

    /// A request at the worker has ended after `duration`.
    pub fn finished(&mut self, id: WorkerId, duration: Duration, success: bool, now: Instant) {
        self.update(id, |worker| {
            worker.running = worker.running.saturating_sub(1);
            if success {
                worker.duration.record(duration, now);
            }
        });
    }

    /// Chooses a worker for a request: of two eligible ones drawn at random the one with less work ahead of it
    /// (running requests × mean duration), at equal work the cheaper one. While a mean is unknown, running
    /// requests alone are compared. `model` is a base name.
    ///
    /// # Errors
    /// [`NoWorker`] says what would have to change.
    pub fn pick(
        &self,
        model: &str,
        ceiling: Coefficient,
        now: Instant,
        random: &mut impl FnMut() -> u64,
    ) -> Result<WorkerId, NoWorker> {
        let model = self.models.get(model).ok_or(NoWorker::UnknownModel)?;
        if model.connected == 0 {
            return Err(NoWorker::NoneConnected);
        }
        let eligible = model.ready.count_up_to(&(ceiling, WorkerId(u64::MAX)));
        let first_rank = below(eligible, random);
        let Some((_, first)) = first_rank.and_then(|rank| model.ready.nth(rank)) else {
            let (cheapest, _) = model.ready.nth(0).ok_or(NoWorker::NoneReady)?;
            return Err(NoWorker::TooDear { cheapest });
        };
        // The second is drawn from the others: ranks from the first one's on move down by one.
        let others = eligible.saturating_sub(1);
        let second_rank = below(others, random)
            .map(|rank| if Some(rank) >= first_rank { rank.saturating_add(1) } else { rank });
        let second = second_rank.and_then(|rank| model.ready.nth(rank));
        Ok(second.map_or(first, |(_, second)| self.less_busy(first, second, now)))
    }

    /// How a worker stands; `None` for one that is not listed.
    #[must_use]
    pub fn worker(&self, id: WorkerId) -> Option<WorkerState> {
        let Worker { coefficient, enabled, running, running_max, .. } = *self.workers.get(&id)?;
        Some(WorkerState { coefficient, enabled, running, running_max })
    }

    /// Every model somebody is connected for, by name.
    pub fn listing(&self) -> impl Iterator<Item = ModelListing<'_>> + '_ {
        self.models.iter().filter(|(_, model)| model.connected > 0).map(|(name, model)| {
            let workers = model.enabled.iter().filter_map(|(coefficient, id)| {
                let worker = self.workers.get(id)?;
                Some(WorkerListing {
                    coefficient: *coefficient,
                    running: worker.running,
                    running_max: worker.running_max,
                })
            });
            ModelListing { name, workers: workers.collect() }
        })
    }

    /// Whether any worker is enabled.
    #[must_use]
    pub fn has_enabled_worker(&self) -> bool {
        self.models.values().any(|model| !model.enabled.is_empty())
    }

    /// Applies a change and puts the worker where it belongs then.
    fn update(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker)) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(model) = self.models.get_mut(&worker.model) else { return };
        let before = worker.standing();
        let place_before = (worker.coefficient, id);
        change(worker);
        let place = (worker.coefficient, id);
        if (before, place_before) == (worker.standing(), place) {
            return;
        }
        model.enabled.remove(&place_before);
        model.ready.remove(&place_before);
        if worker.enabled {
            model.enabled.insert(place);
        }
        if worker.standing() == Standing::Ready {
            model.ready.insert(place, worker.tree_priority);
        }
    }

    fn less_busy(&self, first: WorkerId, second: WorkerId, now: Instant) -> WorkerId {
        let (Some(one), Some(other)) = (self.workers.get(&first), self.workers.get(&second)) else {
            return first;
        };
        let means = one.duration.mean_ns(now).zip(other.duration.mean_ns(now));
        let (mean_of_one, mean_of_other) = means.unwrap_or((1, 1));
        let work =
            |worker: &Worker, mean_ns: u64| u128::from(worker.running).saturating_mul(u128::from(mean_ns));
        let rank_of_one = (work(one, mean_of_one), one.coefficient);
        let rank_of_other = (work(other, mean_of_other), other.coefficient);
        if rank_of_other < rank_of_one { second } else { first }
    }
}

impl Model {
    fn new() -> Self {
        Self { connected: 0, enabled: BTreeSet::new(), ready: RankedSet::new(), abandoned_at: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Disabled,
    Full,
    Ready,
}

impl Worker {
    fn standing(&self) -> Standing {
        match (self.enabled, self.running < self.running_max) {
            (false, _) => Standing::Disabled,
            (true, false) => Standing::Full,
            (true, true) => Standing::Ready,
        }
    }
}

/// A number below `count`, each about equally likely; `None` when there is none.
fn below(count: usize, random: &mut impl FnMut() -> u64) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let scaled = u128::from(random()).saturating_mul(count as u128) >> 64;
    usize::try_from(scaled).ok()
}

#[cfg(test)]
#[path = "market_tests.rs"]
mod tests;
