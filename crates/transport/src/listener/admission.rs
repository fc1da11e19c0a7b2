//! Which connections are let in, and what they have to do for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::Standing;
use tokio::time::Instant;

use super::acquaintances::Acquaintances;
use super::difficulty::{self, Rate};
use super::{ListenConfig, ListenMode};
use crate::budget::{Budget, Holding};
use crate::driver::Tenure;

/// Counts connections. Clones share it.
#[derive(Clone)]
pub(super) struct Admission {
    table: Arc<Mutex<Table>>,
    limits: Limits,
    budget: Budget,
}

#[derive(Clone, Copy)]
struct Limits {
    links_max: usize,
    links_per_address_max: usize,
    /// Handshakes of strangers at once: a quarter of all is kept for those who were here before.
    strangers_max: usize,
    handshakes_per_address_max: usize,
    /// Bits of work at rest; `None` behind a router, where all connections come from one address.
    at_rest: Option<u8>,
}

#[derive(Default)]
struct Table {
    links: usize,
    strangers: usize,
    sources: HashMap<IpAddr, Source>,
    acquaintances: Acquaintances,
    rate: Rate,
}

/// The connections of one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Source {
    /// Links and handshakes.
    links: usize,
    handshakes: usize,
}

/// A connection that was let in.
pub(crate) struct Permit {
    /// Held as long as the link lives.
    pub(crate) link: LinkPermit,
    /// Held until the handshake is done.
    pub(crate) handshake: HandshakePermit,
    /// Bits of work that the peer has to do.
    pub(crate) difficulty: u8,
}

/// One link, or what becomes one.
pub(crate) struct LinkPermit {
    table: Arc<Mutex<Table>>,
    source: Option<IpAddr>,
    is_vouched_for: bool,
    holding: Holding,
}

/// One handshake of an address.
pub(crate) struct HandshakePermit {
    table: Arc<Mutex<Table>>,
    source: Option<IpAddr>,
    is_stranger: bool,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.cause())]
pub(crate) enum NotAdmitted {
    Links,
    AddressLinks,
    AddressHandshakes,
    Strangers,
}

impl NotAdmitted {
    pub(crate) const fn cause(self) -> &'static str {
        match self {
            Self::Links => "too many links",
            Self::AddressLinks => "too many links from one address",
            Self::AddressHandshakes => "too many handshakes from one address",
            Self::Strangers => "too many handshakes of strangers",
        }
    }
}

impl HandshakePermit {
    /// What is known of the address.
    pub(crate) const fn standing(&self) -> Standing {
        if self.is_stranger { Standing::Stranger } else { Standing::Known }
    }
}

impl Admission {
    pub(super) fn new(config: &ListenConfig) -> Self {
        let at_rest = match config.mode {
            ListenMode::Tls { pow_difficulty, .. } => Some(pow_difficulty),
            ListenMode::BehindRouter => None,
        };
        let limits = Limits {
            links_max: config.links_max,
            links_per_address_max: config.links_per_address_max,
            strangers_max: (config.handshakes_max - config.handshakes_max / 4).max(1),
            handshakes_per_address_max: config.handshakes_per_address_max,
            at_rest,
        };
        Self { table: Arc::default(), limits, budget: Budget::new(config.message_bytes_max) }
    }

    pub(super) fn admit(&self, address: IpAddr, now: Instant) -> Result<Permit, NotAdmitted> {
        let Limits { links_max, links_per_address_max, strangers_max, .. } = self.limits;
        let mut table = lock(&self.table);
        if table.links >= links_max {
            return Err(NotAdmitted::Links);
        }
        let (source, is_stranger, difficulty) = match self.limits.at_rest {
            None => (None, false, 0),
            Some(at_rest) => {
                let key = counted_as(address);
                let held = table.sources.get(&key).copied().unwrap_or_default();
                if held.links >= links_per_address_max {
                    return Err(NotAdmitted::AddressLinks);
                }
                let is_stranger = !table.acquaintances.knows(key, now);
                // An eighth of what is free, so that a few addresses cannot take everything, however hard they try:
                // the fewer slots are left, the fewer an address may have, and one is left for the next.
                let share = if is_stranger {
                    let free = strangers_max.saturating_sub(table.strangers);
                    table.rate.count(now);
                    if free == 0 {
                        return Err(NotAdmitted::Strangers);
                    }
                    (free / 8).max(1)
                } else {
                    usize::MAX
                };
                if held.handshakes >= share.min(self.limits.handshakes_per_address_max) {
                    return Err(NotAdmitted::AddressHandshakes);
                }
                let difficulty = if is_stranger {
                    difficulty::bits(at_rest, &table.rate, now, table.strangers, strangers_max)
                } else {
                    table.acquaintances.spend(key);
                    0
                };
                (Some(key), is_stranger, difficulty)
            }
        };
        table.links += 1;
        table.strangers += usize::from(is_stranger);
        if let Some(key) = source {
            let source = table.sources.entry(key).or_default();
            source.links += 1;
            source.handshakes += 1;
        }
        drop(table);
        let table = &self.table;
        Ok(Permit {
            link: LinkPermit {
                table: Arc::clone(table),
                source,
                is_vouched_for: false,
                holding: self.budget.open(),
            },
            handshake: HandshakePermit { table: Arc::clone(table), source, is_stranger },
            difficulty,
        })
    }
}

/// Every change of the table is complete when its lock is released, so a panic elsewhere does not taint it.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// Forgets a source that has nothing any more.
    fn release(&mut self, source: Option<IpAddr>, release: impl FnOnce(&mut Source)) {
        if let Some(Entry::Occupied(mut entry)) = source.map(|source| self.sources.entry(source)) {
            release(entry.get_mut());
            if *entry.get() == Source::default() {
                entry.remove();
            }
        }
    }
}

impl Tenure for LinkPermit {
    fn vouched_for(&mut self) {
        self.is_vouched_for = true;
        if let Some(source) = self.source {
            lock(&self.table).acquaintances.met(source, Instant::now());
        }
    }

    fn may_hold(&mut self, len: usize) -> bool {
        self.holding.set(len)
    }
}

impl Drop for LinkPermit {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        table.links -= 1;
        table.release(self.source, |source| source.links -= 1);
        if let Some(source) = self.source.filter(|_| self.is_vouched_for) {
            table.acquaintances.left(source, Instant::now());
        }
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        table.strangers -= usize::from(self.is_stranger);
        table.release(self.source, |source| source.handshakes -= 1);
    }
}

/// Whoever has one IPv6 address has the 2^64 around it.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let prefix = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(prefix).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ListenConfig {
        ListenConfig::default()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn numbered(number: usize) -> IpAddr {
        std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into()
    }

    impl Admission {
        fn let_in(&self, address: IpAddr) -> Result<Permit, NotAdmitted> {
            self.admit(address, Instant::now())
        }

        fn refusal(&self, address: IpAddr) -> Option<NotAdmitted> {
            self.let_in(address).err()
        }

        fn is_empty(&self) -> bool {
            let table = lock(&self.table);
            table.links == 0 && table.strangers == 0 && table.sources.is_empty()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_share_of_handshakes() {
        let admission = Admission::new(&ListenConfig { handshakes_per_address_max: 2, ..config() });
        let first = admission.let_in(ip("192.0.2.1")).unwrap();
        let _second = admission.let_in(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(admission.refusal(ip("192.0.2.1")), Some(NotAdmitted::AddressHandshakes));
        assert!(admission.let_in(ip("192.0.2.2")).is_ok());
        // The handshake is done, the link lives on.
        drop(first.handshake);
        assert!(admission.let_in(ip("192.0.2.1")).is_ok());
        drop(first.link);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_share_of_links() {
        let admission = Admission::new(&ListenConfig { links_per_address_max: 2, ..config() });
        let mut links: Vec<LinkPermit> =
            (0..2).map(|_| admission.let_in(ip("192.0.2.1")).unwrap().link).collect();
        assert_eq!(admission.refusal(ip("192.0.2.1")), Some(NotAdmitted::AddressLinks));
        assert!(admission.let_in(ip("192.0.2.2")).is_ok());
        links.pop();
        assert!(admission.let_in(ip("192.0.2.1")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn neighbours_in_ipv6_count_as_one() {
        let admission = Admission::new(&ListenConfig { links_per_address_max: 1, ..config() });
        let _one = admission.let_in(ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(admission.refusal(ip("2001:db8:0:1:ffff::2")), Some(NotAdmitted::AddressLinks));
        assert!(admission.let_in(ip("2001:db8:0:2::1")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_remembered_of_those_who_left() {
        let admission = Admission::new(&config());
        let permits: Vec<Permit> = (0..4).map(|_| admission.let_in(ip("192.0.2.1")).unwrap()).collect();
        assert_eq!(lock(&admission.table).sources.len(), 1);
        drop(permits);
        assert!(admission.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn links_are_counted_until_they_end() {
        let mode = ListenMode::BehindRouter;
        let limits = ListenConfig { mode, links_max: 2, links_per_address_max: 1, ..config() };
        let admission = Admission::new(&limits);
        let _first = admission.let_in(ip("127.0.0.1")).unwrap();
        let second = admission.let_in(ip("127.0.0.1")).unwrap();
        drop(second.handshake);
        assert_eq!(admission.refusal(ip("127.0.0.1")), Some(NotAdmitted::Links));
        drop(second.link);
        assert!(admission.let_in(ip("127.0.0.1")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_greedy_addresses_leave_room_for_a_stranger() {
        let admission = Admission::new(&config());
        let mut held = Vec::new();
        for _ in 0..64 {
            held.extend((0..100).filter_map(|address| admission.let_in(numbered(address)).ok()));
        }
        let honest = admission.let_in(ip("192.0.2.1")).unwrap();
        assert!(honest.difficulty > 16, "the load shows in the work");
        drop((held, honest));
        assert!(admission.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_leave_a_quarter_for_those_who_were_here_before() {
        let admission = Admission::new(&ListenConfig { handshakes_max: 8, ..config() });
        let mut regular = admission.let_in(ip("192.0.2.1")).unwrap();
        regular.link.vouched_for();
        drop(regular);
        let strangers: Vec<Permit> = (0..6).map(|n| admission.let_in(numbered(n)).unwrap()).collect();
        assert_eq!(admission.refusal(numbered(6)), Some(NotAdmitted::Strangers));
        let regular = admission.let_in(ip("192.0.2.1")).unwrap();
        assert_eq!(regular.difficulty, 0);
        drop(strangers);
        assert!(admission.let_in(numbered(6)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_completed_a_handshake_comes_back_without_work() {
        let admission = Admission::new(&config());
        let first = admission.let_in(ip("192.0.2.1")).unwrap();
        assert_eq!(first.difficulty, 12);
        drop(first);
        assert_eq!(admission.let_in(ip("192.0.2.1")).unwrap().difficulty, 12, "nobody vouched for the first");
        let mut vouched = admission.let_in(ip("192.0.2.1")).unwrap();
        vouched.link.vouched_for();
        for difficulty in [0, 0, 12] {
            assert_eq!(admission.let_in(ip("192.0.2.1")).unwrap().difficulty, difficulty, "two are earned");
        }
        assert_eq!(admission.let_in(ip("192.0.2.2")).unwrap().difficulty, 12);
    }
}
