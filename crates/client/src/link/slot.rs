//! Keeps connections to proxies: which proxy, when again, what went wrong last.

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::seq::IndexedRandom as _;
use rand::{Rng, RngExt as _};
use tokio::task::JoinSet;
use ton::{Address, RegisteredProxy};

use super::{Ended, serve};
use crate::shared::Shared;

/// First pause after a failure; each further failure doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A connection that lasted so long was a good one: the next attempt does not wait longer for it.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// What one slot is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotStatus {
    /// The proxy it keeps to, or tries.
    pub(crate) target: Option<SocketAddrV4>,
    /// The contract of the proxy it is connected to.
    pub(crate) proxy_contract: Option<Address>,
    /// Why there is no connection.
    pub(crate) problem: Option<String>,
}

/// All slots; each keeps one connection, to different proxies.
#[derive(Debug)]
pub(crate) struct Slots(Mutex<Vec<SlotStatus>>);

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self(Mutex::new(vec![SlotStatus::default(); count]))
    }

    pub(crate) fn all(&self) -> Vec<SlotStatus> {
        self.lock().clone()
    }

    /// Chooses at random a proxy that no other slot keeps to: not the one that has just failed, if there is
    /// another.
    fn choose(
        &self,
        slot: usize,
        proxies: &[RegisteredProxy],
        failed: Option<SocketAddrV4>,
        rng: &mut impl Rng,
    ) -> Option<SocketAddrV4> {
        let mut slots = self.lock();
        slots[slot].target = None;
        let is_taken = |address| slots.iter().any(|other| other.target == Some(address));
        let free: Vec<SocketAddrV4> =
            proxies.iter().map(|proxy| proxy.clients).filter(|address| !is_taken(*address)).collect();
        let others: Vec<SocketAddrV4> =
            free.iter().copied().filter(|address| Some(*address) != failed).collect();
        let target = others.choose(rng).or_else(|| free.choose(rng)).copied();
        slots[slot].target = target;
        target
    }

    pub(super) fn ready(&self, slot: usize, proxy_contract: Option<Address>) {
        let slot = &mut self.lock()[slot];
        slot.proxy_contract = proxy_contract;
        slot.problem = None;
    }

    fn failed(&self, slot: usize, problem: String) {
        self.lock()[slot].problem = Some(problem);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SlotStatus>> {
        // Plain assignments only: nothing half done can be seen.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects, serves, and connects again, for ever. The first attempt is made at once.
pub(crate) async fn keep_connected(shared: Arc<Shared>, slot: usize) {
    let mut root = shared.root_changes();
    let mut failures = 0;
    let mut failed = None;
    // Connections whose proxies take no more requests, while their last ones run.
    let mut lingerers = JoinSet::new();
    loop {
        let config = Arc::clone(&root.borrow_and_update());
        let target = shared.slots.choose(slot, &config.registered_proxies, failed, &mut rand::rng());
        let Some(address) = target else {
            let problem = "the root configuration has no further proxy".to_owned();
            shared.slots.failed(slot, problem);
            tokio::select! {
                _changed = root.changed() => {}
                () = tokio::time::sleep(PAUSE_MAX) => {}
            }
            continue;
        };
        let (began, mut was_ready) = (tokio::time::Instant::now(), false);
        let problem = match transport::connect(&address.to_string(), &shared.connect).await {
            Err(error) => chain(&error),
            Ok((link, events)) => {
                let params_version = config.params.params_version;
                tokio::select! {
                    ended = serve(&shared, link.clone(), events, slot) => {
                        was_ready = ended.was_ready();
                        let problem = chain(&ended);
                        if let Ended::Leaves(lingering) = ended {
                            while lingerers.try_join_next().is_some() {}
                            lingerers.spawn(lingering.finish(Arc::clone(&shared)));
                        }
                        problem
                    }
                    // New terms mean new contracts: the session must be made anew.
                    _changed = root.wait_for(|new| new.params.params_version != params_version) => {
                        link.close("the root configuration has new terms");
                        was_ready = true;
                        "the root configuration has new terms".to_owned()
                    }
                }
            }
        };
        let was_stable = was_ready && began.elapsed() >= STABLE_AFTER;
        failures = if was_stable { 0 } else { failures + 1 };
        // Said once for each time that a proxy goes away, not for each attempt to get it back. What the proxy said
        // may be anything, so it is for those who look closely.
        if failures <= 1 {
            tracing::warn!(slot, "no connection to a proxy: the client's status says why");
        } else {
            tracing::debug!(slot, problem, "still no connection to a proxy");
        }
        shared.slots.failed(slot, problem);
        failed = (!was_ready).then_some(address);
        let pause = pause(failures, &mut rand::rng());
        tokio::time::sleep(pause).await;
    }
}

/// The pause before the next attempt: doubled by each failure, and spread so that clients of a restarted proxy
/// do not all come back in the same moment.
fn pause(failures: u32, rng: &mut impl Rng) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
    longest.mul_f64(rng.random_range(0.5..1.0))
}

/// An error with its causes, for people.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn proxies(count: u16) -> Vec<RegisteredProxy> {
        let address = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let proxy =
            |port| RegisteredProxy { seqno: 1, workers: address(port), clients: address(1000 + port) };
        (1..=count).map(proxy).collect()
    }

    #[test]
    fn slots_keep_to_different_proxies() {
        let (slots, mut rng) = (Slots::new(3), StdRng::seed_from_u64(1));
        let first = slots.choose(0, &proxies(2), None, &mut rng).unwrap();
        let second = slots.choose(1, &proxies(2), None, &mut rng).unwrap();
        assert_ne!(first, second);
        assert_eq!(slots.choose(2, &proxies(2), None, &mut rng), None, "none is left");
        assert_eq!(slots.choose(0, &[], None, &mut rng), None);
    }

    #[test]
    fn another_proxy_is_tried_after_a_failure_and_the_same_if_it_is_the_only_one() {
        let (slots, mut rng) = (Slots::new(1), StdRng::seed_from_u64(1));
        let failed = proxies(3)[1].clients;
        for _ in 0..50 {
            assert_ne!(slots.choose(0, &proxies(3), Some(failed), &mut rng), Some(failed));
        }
        let only = proxies(1)[0].clients;
        assert_eq!(slots.choose(0, &proxies(1), Some(only), &mut rng), Some(only));
    }

    #[test]
    fn every_proxy_is_chosen_sometimes() {
        let (slots, mut rng) = (Slots::new(1), StdRng::seed_from_u64(1));
        let chosen: std::collections::BTreeSet<_> =
            (0..100).filter_map(|_| slots.choose(0, &proxies(4), None, &mut rng)).collect();
        assert_eq!(chosen.len(), 4);
    }

    #[test]
    fn pauses_grow_to_a_limit_and_are_spread() {
        let mut rng = StdRng::seed_from_u64(1);
        assert!(pause(0, &mut rng) <= PAUSE_MIN);
        for failures in [6, 20, u32::MAX] {
            let pauses: Vec<Duration> = (0..20).map(|_| pause(failures, &mut rng)).collect();
            assert!(pauses.iter().all(|pause| (PAUSE_MAX / 2..PAUSE_MAX).contains(pause)));
            assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
        }
    }
}
