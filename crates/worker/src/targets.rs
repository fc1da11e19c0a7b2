//! Which proxies a model is offered to.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::Rng;
use rand::seq::IndexedRandom as _;
use ton::RegisteredProxy;

/// The proxies in use by one model. Each link holds another one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets(Arc<Mutex<BTreeSet<SocketAddrV4>>>);

/// A proxy that one link of the model uses; free again when dropped.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) seqno: u32,
    pub(crate) address: SocketAddrV4,
    targets: Targets,
}

impl Targets {
    /// Takes one of the free proxies, each with the same chance. `avoided` is taken only if there is no other.
    pub(crate) fn choose(
        &self,
        registered: &[RegisteredProxy],
        avoided: Option<SocketAddrV4>,
        random: &mut impl Rng,
    ) -> Option<Target> {
        let mut taken = self.lock();
        let free: Vec<&RegisteredProxy> =
            registered.iter().filter(|proxy| !taken.contains(&proxy.workers)).collect();
        let others: Vec<&RegisteredProxy> =
            free.iter().copied().filter(|proxy| Some(proxy.workers) != avoided).collect();
        let chosen = others.choose(random).or_else(|| free.choose(random))?;
        taken.insert(chosen.workers);
        Some(Target { seqno: chosen.seqno, address: chosen.workers, targets: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<SocketAddrV4>> {
        // Insertions and removals leave a usable set even if a holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.targets.lock().remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn registered(count: u32) -> Vec<RegisteredProxy> {
        let proxy = |seqno| RegisteredProxy::from_text(seqno, &format!("10.0.0.{seqno}:11001")).unwrap();
        (1..=count).map(proxy).collect()
    }

    #[test]
    fn links_hold_different_proxies_and_give_them_back() {
        let (targets, registered) = (Targets::default(), registered(3));
        let mut random = StdRng::seed_from_u64(1);
        let mut choose = |avoided| targets.choose(&registered, avoided, &mut random);
        let held: Vec<Target> = (0..3).map(|_| choose(None).unwrap()).collect();
        let different: BTreeSet<u32> = held.iter().map(|target| target.seqno).collect();
        assert_eq!(different, BTreeSet::from([1, 2, 3]));
        assert!(choose(None).is_none());

        drop(held);
        let avoided = registered[0].workers;
        for _ in 0..20 {
            assert_ne!(choose(Some(avoided)).unwrap().address, avoided);
        }
    }

    #[test]
    fn a_lone_proxy_is_not_avoided() {
        let (targets, registered) = (Targets::default(), registered(1));
        let mut random = StdRng::seed_from_u64(1);
        let chosen = targets.choose(&registered, Some(registered[0].workers), &mut random).unwrap();
        assert_eq!(chosen.address, registered[0].workers);
        assert!(targets.choose(&[], None, &mut random).is_none());
    }
}
