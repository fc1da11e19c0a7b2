//! The list of models and workers that clients ask for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use units::Coefficient;
use wire::client;

use super::{Core, Now};

/// The latest lists. Every client asks every few seconds, so a long list is made at most once a second for all of them.
#[derive(Debug, Default)]
pub(super) struct Lists {
    types: Option<List>,
    types_v2: Option<List>,
}

#[derive(Debug)]
struct List {
    message: Bytes,
    fresh_until: Instant,
}

/// Models in a list at most. A name has at most 512 bytes, so that the list fits one frame.
const MODELS_MAX: usize = 4096;
/// Workers in a list at most, over all models, the cheapest ones of each.
const WORKERS_MAX: usize = 1000;
/// How long a list is used for each of its entries, so that a short one is always new.
const FRESH_PER_ENTRY: Duration = Duration::from_millis(1);
/// How long any list is used.
const FRESH_MAX: Duration = Duration::from_secs(1);

impl List {
    fn new(message: Bytes, entries: usize, now: Now) -> Self {
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        let fresh = FRESH_PER_ENTRY.saturating_mul(entries).min(FRESH_MAX);
        Self { message, fresh_until: now.instant + fresh }
    }

    fn fresh(list: Option<&Self>, now: Now) -> Option<Bytes> {
        list.filter(|list| now.instant < list.fresh_until).map(|list| list.message.clone())
    }
}

impl Core {
    /// Prices summed up by model.
    pub(super) fn worker_types(&mut self, now: Now) -> Bytes {
        if let Some(message) = List::fresh(self.lists.types.as_ref(), now) {
            return message;
        }
        let listing: Vec<_> = self.market.listing(0).take(MODELS_MAX).collect();
        let types = listing.iter().filter_map(|model| {
            let [min, middle, max] = model.prices?.map(thousandths);
            Some(client::WorkerType {
                name: model.name.into(),
                active_workers: i32::try_from(model.enabled).unwrap_or(i32::MAX),
                coefficient_min: min,
                coefficient_bucket50: middle,
                coefficient_max: max,
            })
        });
        let message = wire::encode(&client::WorkerTypes { types: types.collect() });
        self.lists.types.insert(List::new(message, listing.len(), now)).message.clone()
    }

    /// Workers one by one.
    pub(super) fn worker_types_v2(&mut self, now: Now) -> Bytes {
        if let Some(message) = List::fresh(self.lists.types_v2.as_ref(), now) {
            return message;
        }
        let listing: Vec<_> = self.market.listing(WORKERS_MAX).take(MODELS_MAX).collect();
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let types = listing.iter().map(|model| {
            let workers = model.workers.iter().map(|worker| client::WorkerInstanceV2 {
                coefficient: thousandths(worker.coefficient),
                active_requests: count(worker.running),
                max_active_requests: count(worker.running_max),
            });
            client::WorkerTypeV2 { name: model.name.into(), workers: workers.collect() }
        });
        let message = wire::encode(&client::WorkerTypesV2 { types: types.collect() });
        let entries = listing.iter().map(|model| 1 + model.workers.len()).sum();
        self.lists.types_v2.insert(List::new(message, entries, now)).message.clone()
    }
}

fn thousandths(coefficient: Coefficient) -> i32 {
    i32::try_from(coefficient.get()).expect("coefficients are below 10^9")
}
