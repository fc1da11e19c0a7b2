//! Addresses from which a peer came lately that completed its application's handshake.
//!
//! Such a peer connects again without work. What it earned can be spent: each completed handshake is good for two
//! further connections, so that whoever shares its address cannot flood in its name.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Addresses that are remembered.
const LEN_MAX: usize = 16_384;
/// For how long after they were seen last.
const MEMORY: Duration = Duration::from_secs(3600);
/// Connections without work that one completed handshake earns, and that can be saved up.
const EARNED: u16 = 2;
const SAVED_MAX: u16 = 256;

#[derive(Debug, Default)]
pub(super) struct Acquaintances(HashMap<IpAddr, Acquaintance>);

#[derive(Debug)]
struct Acquaintance {
    seen_at: Instant,
    credit: u16,
}

impl Acquaintances {
    /// A peer at `address` completed its handshake.
    pub(super) fn met(&mut self, address: IpAddr, now: Instant) {
        if self.0.len() >= LEN_MAX && !self.0.contains_key(&address) {
            self.0.retain(|_, known| is_fresh(known, now));
            if self.0.len() >= LEN_MAX {
                return;
            }
        }
        let known = self.0.entry(address).or_insert(Acquaintance { seen_at: now, credit: 0 });
        known.seen_at = now;
        known.credit = known.credit.saturating_add(EARNED).min(SAVED_MAX);
    }

    /// Such a peer has left.
    pub(super) fn left(&mut self, address: IpAddr, now: Instant) {
        if let Some(known) = self.0.get_mut(&address) {
            known.seen_at = now;
        }
    }

    /// Whether `address` may connect without work.
    pub(super) fn knows(&self, address: IpAddr, now: Instant) -> bool {
        self.0.get(&address).is_some_and(|known| known.credit > 0 && is_fresh(known, now))
    }

    /// It did.
    pub(super) fn spend(&mut self, address: IpAddr) {
        if let Some(known) = self.0.get_mut(&address) {
            known.credit = known.credit.saturating_sub(1);
        }
    }
}

fn is_fresh(known: &Acquaintance, now: Instant) -> bool {
    now.saturating_duration_since(known.seen_at) < MEMORY
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_met_is_known_until_the_credit_is_spent() {
        let (mut known, now) = (Acquaintances::default(), Instant::now());
        assert!(!known.knows(address(1), now));
        known.met(address(1), now);
        for _ in 0..EARNED {
            assert!(known.knows(address(1), now) && !known.knows(address(2), now));
            known.spend(address(1));
        }
        assert!(!known.knows(address(1), now));
        known.met(address(1), now);
        assert!(known.knows(address(1), now));
    }

    #[tokio::test(start_paused = true)]
    async fn the_hour_counts_from_the_end_of_the_last_link() {
        let (mut known, now) = (Acquaintances::default(), Instant::now());
        known.met(address(1), now);
        known.left(address(1), now + MEMORY);
        let almost = now + 2 * MEMORY - Duration::from_secs(1);
        assert!(known.knows(address(1), almost));
        assert!(!known.knows(address(1), now + 2 * MEMORY));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_and_savings_are_bounded() {
        let (mut known, now) = (Acquaintances::default(), Instant::now());
        for number in 0..u32::try_from(LEN_MAX).unwrap() + 1 {
            known.met(address(number), now);
        }
        assert_eq!(known.0.len(), LEN_MAX);
        for _ in 0..1000 {
            known.met(address(0), now);
        }
        assert_eq!(known.0[&address(0)].credit, SAVED_MAX);
        known.met(address(u32::MAX), now + MEMORY);
        assert!(known.knows(address(u32::MAX), now + MEMORY), "who was forgotten makes room");
    }
}
