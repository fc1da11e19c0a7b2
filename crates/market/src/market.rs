//! The market and its one decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ahash::HashMap;
use units::Coefficient;

use crate::decay::DecayingMean;
use crate::random::{Random, mix};
use crate::record::{Ending, Memory, nanoseconds};
use crate::scored::ScoredSet;
use crate::worker::{FULL, RESTING, Worker, work};
use crate::{Affinity, AlreadyListed, Demand, NoWorker, Offer, WorkerId, WorkerState};

/// All workers of one proxy.
#[derive(Debug)]
pub struct Market {
    random: Random,
    /// Counts changes of scores, to order equal ones by age.
    clock: u32,
    pub(crate) names: BTreeMap<Arc<str>, usize>,
    pub(crate) models: Vec<Model>,
    /// Places in `models` of models that were forgotten.
    free: Vec<usize>,
    pub(crate) workers: HashMap<WorkerId, Worker>,
    /// Workers that rest after an outage, the first to come back first.
    resting: BTreeSet<(Instant, WorkerId)>,
    memory: Memory,
    /// Models without workers, the one that has waited longest first.
    pub(crate) abandoned: BTreeMap<u64, usize>,
    next_abandoned: u64,
    pub(crate) enabled_len: usize,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: Arc<str>,
    pub(crate) connected: usize,
    /// Enabled workers in order of price, scored by how soon they would answer.
    pub(crate) enabled: ScoredSet<Place>,
    /// Enabled workers on a circle: requests of one affinity start at one point of it.
    circle: BTreeSet<(u64, WorkerId)>,
    /// Requests that enabled workers may run at once.
    places: u64,
    /// Of answered requests at all workers, in nanoseconds.
    duration: DecayingMean,
    abandoned_at: Option<u64>,
}

/// Workers stand in order of price.
pub(crate) type Place = (Coefficient, WorkerId);

/// How many models without workers are remembered, so that "come back later" can be told from "never heard of it".
pub(crate) const ABANDONED_MODELS_MAX: usize = 1000;

/// One of so many requests goes to a random worker that runs no more than the best one, so that a worker which once
/// looked slow is measured again, and nobody starves.
const EXPLORATION: u64 = 64;

/// How many neighbours on the circle are asked before affinity is given up.
const NEIGHBOURS_MAX: usize = 2;

impl Market {
    /// An empty market. Equal seeds and events give equal decisions.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            clock: 0,
            names: BTreeMap::new(),
            models: Vec::new(),
            free: Vec::new(),
            workers: HashMap::default(),
            resting: BTreeSet::new(),
            memory: Memory::default(),
            abandoned: BTreeMap::new(),
            next_abandoned: 0,
            enabled_len: 0,
        }
    }

    /// Lists a worker, disabled at first. It comes back with the outages it left with.
    ///
    /// # Errors
    /// [`AlreadyListed`] if the id is in use; nothing changed then.
    pub fn add(&mut self, id: WorkerId, offer: &Offer, now: Instant) -> Result<(), AlreadyListed> {
        if self.workers.contains_key(&id) {
            return Err(AlreadyListed(id));
        }
        let index = self.model_named(offer.model.base(), now);
        let model = self.model_mut(index);
        model.connected = model.connected.saturating_add(1);
        let name = Arc::clone(&model.name);
        if let Some(serial) = model.abandoned_at.take() {
            self.abandoned.remove(&serial);
        }
        let worker = Worker {
            owner: offer.owner,
            model: index,
            coefficient: offer.coefficient,
            enabled: false,
            running: 0,
            running_max: offer.running_max,
            record: self.memory.recall(offer.owner, &name, now),
            slowness: 0,
            priority: self.random.next(),
        };
        self.workers.insert(id, worker);
        Ok(())
    }

    /// Forgets a worker. If it leaves while requests run, that is an outage, which its owner's next worker for the
    /// model inherits.
    ///
    /// Unknown ids are ignored here and below: news about a worker that has left is normal.
    pub fn remove(&mut self, id: WorkerId, now: Instant) {
        self.set_enabled(id, false);
        let Some(mut worker) = self.workers.remove(&id) else { return };
        if worker.running > 0 {
            worker.record.note(Ending::Failed, now);
        }
        let index = worker.model;
        let model = self.model_mut(index);
        model.connected = model.connected.saturating_sub(1);
        let (is_left, name) = (model.connected == 0, Arc::clone(&model.name));
        if worker.record.is_worth_keeping(now) {
            self.memory.keep(worker.owner, &name, worker.record);
        }
        if is_left {
            self.abandon(index);
        }
    }

    /// Lets a worker take part, or stops new requests to it.
    pub fn set_enabled(&mut self, id: WorkerId, enabled: bool) {
        self.place_anew(id, |worker| worker.enabled = enabled);
    }

    /// Changes a worker's price for later requests.
    pub fn set_coefficient(&mut self, id: WorkerId, coefficient: Coefficient) {
        self.place_anew(id, |worker| worker.coefficient = coefficient);
    }

    /// A request goes to the worker.
    pub fn started(&mut self, id: WorkerId) {
        self.score_anew(id, |worker, _mean| worker.running = worker.running.saturating_add(1));
    }

    /// A request at the worker has ended.
    pub fn finished(&mut self, id: WorkerId, ending: Ending, now: Instant) {
        let Some(worker) = self.workers.get(&id) else { return };
        if let (Ending::Answered(duration), Some(model)) = (ending, self.models.get_mut(worker.model)) {
            model.duration.record(nanoseconds(duration), now);
        }
        let rested_until = worker.record.rests_until;
        self.score_anew(id, |worker, model| {
            worker.running = worker.running.saturating_sub(1);
            worker.record.note(ending, now);
            worker.slowness = worker.record.slowness(model.duration.mean(now), now);
        });
        let enabled = self.workers.get(&id).filter(|worker| worker.enabled);
        if let Some(rests_until) = enabled.map(|worker| worker.record.rests_until)
            && rests_until != rested_until
        {
            self.note_rest(id, rested_until, rests_until);
        }
    }

    /// Chooses a worker for a request, among the enabled ones with room that are not dearer than the ceiling.
    ///
    /// The one that would answer soonest is taken: the least running requests, weighted by how long the worker takes,
    /// failures included, in comparison; at equal work the cheaper one; among equals they take turns. Workers that
    /// failed a moment ago come last, whatever they run. A request with an affinity goes to its neighbour instead as
    /// long as that has not much more work, and a few requests go anywhere, to learn.
    ///
    /// # Errors
    /// [`NoWorker`] says what would have to change.
    pub fn pick(&mut self, demand: &Demand<'_>, now: Instant) -> Result<WorkerId, NoWorker> {
        self.wake(now);
        let index = *self.names.get(demand.model).ok_or(NoWorker::UnknownModel)?;
        let model = self.models.get(index).ok_or(NoWorker::UnknownModel)?;
        if model.connected == 0 {
            return Err(NoWorker::NoneConnected);
        }
        let bound = (demand.ceiling, WorkerId(u64::MAX));
        let Some(((_, best), score)) = model.enabled.best_up_to(&bound) else {
            let cheapest = model.enabled.first_below(FULL).or(model.enabled.nth(0).map(|(place, _)| place));
            let (cheapest, _) = cheapest.ok_or(NoWorker::NoneEnabled)?;
            return Err(NoWorker::TooDear { cheapest });
        };
        if score >= FULL {
            return Err(NoWorker::Full);
        }
        if score >= RESTING {
            return Ok(best);
        }
        if let Some(affinity) = demand.affinity {
            return Ok(self.neighbour(model, affinity, demand.ceiling, work(score)).unwrap_or(best));
        }
        let explores = self.random.next().checked_rem(EXPLORATION) == Some(0);
        let other = explores.then(|| self.random.below(model.enabled.count_up_to(&bound))).flatten();
        let other = other.and_then(|rank| model.enabled.nth(rank)).filter(|(_, score)| *score < RESTING);
        let running = |id| self.workers.get(&id).map(|worker| worker.running);
        match other {
            Some(((_, other), _)) if running(other) <= running(best) => Ok(other),
            _ => Ok(best),
        }
    }

    /// How a worker stands; `None` for one that is not listed.
    #[must_use]
    pub fn worker(&self, id: WorkerId) -> Option<WorkerState> {
        let Worker { coefficient, enabled, running, running_max, .. } = *self.workers.get(&id)?;
        Some(WorkerState { coefficient, enabled, running, running_max })
    }

    /// How many requests the enabled workers of a model may run at once.
    #[must_use]
    pub fn places(&self, model: &str) -> u64 {
        self.names.get(model).and_then(|index| self.models.get(*index)).map_or(0, |model| model.places)
    }

    /// Whether any enabled worker of a model has room, at whatever price.
    #[must_use]
    pub fn has_room(&self, model: &str) -> bool {
        let model = self.names.get(model).and_then(|index| self.models.get(*index));
        model.is_some_and(|model| model.enabled.first_below(FULL).is_some())
    }

    /// Whether any worker is enabled.
    #[must_use]
    pub const fn has_enabled_worker(&self) -> bool {
        self.enabled_len > 0
    }

    /// The first neighbour that may be asked and has at most twice the least work, and some more if it has many
    /// places: what it has in its cache saves work too.
    fn neighbour(
        &self,
        model: &Model,
        affinity: Affinity,
        ceiling: Coefficient,
        least_work: u64,
    ) -> Option<WorkerId> {
        let point = (mix(affinity.0), WorkerId(0));
        let around = model.circle.range(point..).chain(model.circle.range(..point));
        around.take(NEIGHBOURS_MAX).map(|(_, id)| *id).find(|id| {
            self.workers.get(id).is_some_and(|worker| {
                let score = worker.score(0);
                let spare = worker.work_of(worker.running_max >> 3);
                let work_max = least_work.saturating_mul(2).saturating_add(spare);
                worker.coefficient <= ceiling && score < RESTING && work(score) <= work_max
            })
        })
    }

    /// Workers whose rest is over are normal again.
    fn wake(&mut self, now: Instant) {
        while let Some((until, id)) = self.resting.first().copied().filter(|(until, _)| *until <= now) {
            self.resting.remove(&(until, id));
            self.score_anew(id, |worker, _model| worker.record.wake(now));
        }
    }

    fn note_rest(&mut self, id: WorkerId, before: Option<Instant>, after: Option<Instant>) {
        if let Some(before) = before {
            self.resting.remove(&(before, id));
        }
        if let Some(after) = after {
            self.resting.insert((after, id));
        }
    }

    fn model_named(&mut self, name: &str, now: Instant) -> usize {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        let name: Arc<str> = Arc::from(name);
        let model = Model::new(Arc::clone(&name), now);
        let index = self.free.pop().unwrap_or(self.models.len());
        match self.models.get_mut(index) {
            Some(place) => *place = model,
            None => self.models.push(model),
        }
        self.names.insert(name, index);
        index
    }

    fn model_mut(&mut self, index: usize) -> &mut Model {
        self.models.get_mut(index).expect("a model stays as long as a worker names it")
    }

    fn abandon(&mut self, index: usize) {
        let serial = self.next_abandoned;
        self.next_abandoned = self.next_abandoned.saturating_add(1);
        self.model_mut(index).abandoned_at = Some(serial);
        self.abandoned.insert(serial, index);
        if self.abandoned.len() > ABANDONED_MODELS_MAX
            && let Some((_, forgotten)) = self.abandoned.pop_first()
        {
            let name = Arc::clone(&self.model_mut(forgotten).name);
            self.names.remove(&name);
            self.free.push(forgotten);
        }
    }

    /// Applies a change that concerns where a worker stands, and puts it there.
    fn place_anew(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker)) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(model) = self.models.get_mut(worker.model) else { return };
        let point = (worker.priority, id);
        if worker.enabled {
            model.enabled.remove(&(worker.coefficient, id));
            model.circle.remove(&point);
            model.places = model.places.saturating_sub(worker.running_max.into());
            self.enabled_len = self.enabled_len.saturating_sub(1);
        }
        let rested_until = worker.record.rests_until.filter(|_| worker.enabled);
        change(worker);
        if worker.enabled {
            self.clock = self.clock.wrapping_add(1);
            let score = worker.score(self.clock);
            model.enabled.insert((worker.coefficient, id), score, worker.priority);
            model.circle.insert(point);
            model.places = model.places.saturating_add(worker.running_max.into());
            self.enabled_len = self.enabled_len.saturating_add(1);
        }
        let rests_until = worker.record.rests_until.filter(|_| worker.enabled);
        self.note_rest(id, rested_until, rests_until);
    }

    /// Applies a change that concerns how soon a worker would answer.
    fn score_anew(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker, &Model)) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(model) = self.models.get_mut(worker.model) else { return };
        change(worker, model);
        if worker.enabled {
            self.clock = self.clock.wrapping_add(1);
            let score = worker.score(self.clock);
            model.enabled.set_score(&(worker.coefficient, id), score);
        }
    }
}

impl Model {
    fn new(name: Arc<str>, now: Instant) -> Self {
        Self {
            name,
            connected: 0,
            enabled: ScoredSet::new(),
            circle: BTreeSet::new(),
            places: 0,
            duration: DecayingMean::new(now),
            abandoned_at: None,
        }
    }
}

#[cfg(test)]
#[path = "market_tests.rs"]
mod tests;
