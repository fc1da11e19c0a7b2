//! Keeps connections to proxies: which proxy, when again, what went wrong last.

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use node::{Backoff, check_image};
use rand::Rng;
use rand::seq::IndexedRandom as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use ton::{Address, RegisteredProxy, RootConfig};
use transport::Link;

use super::{Ended, serve};
use crate::shared::Shared;

/// When no proxy is free, how long until the next look.
const NO_TARGET_PAUSE: Duration = Duration::from_secs(10);

/// What one slot is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotStatus {
    /// The proxy it keeps to, or tries.
    pub(crate) target: Option<SocketAddrV4>,
    /// The contract of the proxy it is connected to.
    pub(crate) proxy_contract: Option<Address>,
    /// Why there is no connection.
    pub(crate) problem: Option<String>,
    /// What the connection that ended last was good for, until it was looked at.
    last: Option<Readiness>,
}

/// What a connection was good for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readiness {
    pub(super) ready_for: Duration,
    /// A request was answered.
    pub(super) has_served: bool,
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

    pub(super) fn ready(&self, slot: usize, proxy_contract: Address) {
        let slot = &mut self.lock()[slot];
        slot.proxy_contract = Some(proxy_contract);
        slot.problem = None;
    }

    pub(super) fn left(&self, slot: usize, readiness: Readiness) {
        let slot = &mut self.lock()[slot];
        slot.proxy_contract = None;
        slot.last = Some(readiness);
    }

    /// What the latest connection was good for; `None` if it never was ready.
    fn take_last(&self, slot: usize) -> Option<Readiness> {
        self.lock()[slot].last.take()
    }

    fn failed(&self, slot: usize, problem: String) {
        self.lock()[slot].problem = Some(problem);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SlotStatus>> {
        // Plain assignments only: nothing half done can be seen.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a session must not go on under a new root configuration.
fn why_not(new: &RootConfig, params_version: u32, link: &Link, shared: &Shared) -> Option<&'static str> {
    if new.params.params_version != params_version {
        // New terms mean new contracts: the session must be made anew.
        return Some("the root configuration has new terms");
    }
    let is_allowed = check_image(new, link.peer().attestation(), shared.party.check_proxy_hashes).is_ok();
    (!is_allowed).then_some("the root configuration no longer allows the proxy's image")
}

/// Waits for a root configuration that `why_not` objects to, and says why. For ever if none comes any more.
async fn no_longer(
    root: &mut watch::Receiver<Arc<RootConfig>>,
    why_not: impl Fn(&RootConfig) -> Option<&'static str>,
) -> &'static str {
    let mut why = None;
    let found = root.wait_for(|new| {
        why = why_not(new);
        why.is_some()
    });
    let _same_as_why = found.await.is_ok();
    match why {
        Some(why) => why,
        // Nobody sends any more.
        None => std::future::pending().await,
    }
}

/// Connects, serves, and connects again, for ever. The first attempt is made at once.
pub(crate) async fn keep_connected(shared: Arc<Shared>, slot: usize) {
    let mut root = shared.root_changes();
    let mut backoff = Backoff::default();
    let mut is_first_failure = true;
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
                () = tokio::time::sleep(NO_TARGET_PAUSE) => {}
            }
            continue;
        };
        let mut leaves = false;
        let problem = match transport::connect(&address.to_string(), &shared.connect).await {
            Err(error) => chain(&error),
            Ok((link, events)) => {
                let params_version = config.params.params_version;
                tokio::select! {
                    ended = serve(&shared, link.clone(), events, slot, address) => {
                        let problem = chain(&ended);
                        if let Ended::Leaves(lingering) = ended {
                            leaves = true;
                            while lingerers.try_join_next().is_some() {}
                            lingerers.spawn(lingering.finish(Arc::clone(&shared)));
                        }
                        problem
                    }
                    why = no_longer(&mut root, |new| why_not(new, params_version, &link, &shared)) => {
                        link.close(why);
                        why.to_owned()
                    }
                }
            }
        };
        let last = shared.slots.take_last(slot);
        if let Some(Readiness { ready_for, has_served }) = last {
            backoff.link_ended(ready_for, has_served);
            is_first_failure = true;
        }
        // Said once for each time that a proxy goes away, not for each attempt to get it back. What the proxy said
        // may be anything, so it is for those who look closely.
        if std::mem::take(&mut is_first_failure) {
            tracing::warn!(slot, "no connection to a proxy: the client's status says why");
        } else {
            tracing::debug!(slot, problem, "still no connection to a proxy");
        }
        shared.slots.failed(slot, problem);
        // Neither is worth another attempt while there is a choice.
        failed = (last.is_none() || leaves).then_some(address);
        let pause = backoff.pause(&mut rand::rng());
        tokio::time::sleep(pause).await;
    }
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
}
