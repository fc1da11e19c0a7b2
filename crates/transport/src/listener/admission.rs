//! Which connections are let in, and when to try again after an error.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ListenConfig, ListenMode};

/// Counts connections.
pub(super) struct Admission {
    links: Arc<Semaphore>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    /// `None` behind a router, where all connections come from one address.
    per_address_max: Option<usize>,
}

/// A connection that was let in.
pub(super) struct Permit {
    /// Held as long as the link lives.
    pub(super) link: OwnedSemaphorePermit,
    /// Held until the handshake is done.
    pub(super) address: Option<AddressPermit>,
}

/// One handshake of an address.
pub(super) struct AddressPermit {
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    key: IpAddr,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAdmitted {
    #[error("too many links")]
    Links,
    #[error("too many handshakes from one address")]
    Address,
}

impl Admission {
    pub(super) fn new(config: &ListenConfig) -> Self {
        let per_address_max = match config.mode {
            ListenMode::Tls { .. } => Some(config.handshakes_per_address_max),
            ListenMode::BehindRouter => None,
        };
        let links = Arc::new(Semaphore::new(config.links_max.min(Semaphore::MAX_PERMITS)));
        Self { links, addresses: Arc::default(), per_address_max }
    }

    pub(super) fn admit(&self, address: IpAddr) -> Result<Permit, NotAdmitted> {
        let link = self.links.clone().try_acquire_owned().or(Err(NotAdmitted::Links))?;
        let Some(max) = self.per_address_max else { return Ok(Permit { link, address: None }) };
        let key = counted_as(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(key).or_default();
        if *count >= max {
            return Err(NotAdmitted::Address);
        }
        *count += 1;
        drop(addresses);
        let address = AddressPermit { addresses: self.addresses.clone(), key };
        Ok(Permit { link, address: Some(address) })
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = addresses.entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
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

/// How long to wait after a failed accept. Out of file descriptors, the same error would come back at once, forever.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pause: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LAST: Duration = Duration::from_secs(1);

    pub(super) fn after(&mut self, error: &io::Error) -> Duration {
        // The connection failed, not the listener.
        if matches!(
            error.kind(),
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
        ) {
            return Duration::ZERO;
        }
        self.pause = (self.pause * 2).clamp(Self::FIRST, Self::LAST);
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(mode: ListenMode, links_max: usize, handshakes_per_address_max: usize) -> Admission {
        let config = ListenConfig { mode, links_max, handshakes_per_address_max, ..ListenConfig::default() };
        Admission::new(&config)
    }

    fn refused(result: Result<Permit, NotAdmitted>) -> Option<NotAdmitted> {
        result.err()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_share_of_handshakes() {
        let admission = admission(ListenConfig::default().mode, 100, 2);
        let first = admission.admit(ip("192.0.2.1")).unwrap();
        let _second = admission.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(refused(admission.admit(ip("192.0.2.1"))), Some(NotAdmitted::Address));
        assert!(admission.admit(ip("192.0.2.2")).is_ok());
        // The handshake is done, the link lives on.
        drop(first.address);
        assert!(admission.admit(ip("192.0.2.1")).is_ok());
        drop(first.link);
    }

    #[test]
    fn neighbours_in_ipv6_count_as_one() {
        let admission = admission(ListenConfig::default().mode, 100, 1);
        let _one = admission.admit(ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(refused(admission.admit(ip("2001:db8:0:1:ffff::2"))), Some(NotAdmitted::Address));
        assert!(admission.admit(ip("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn nothing_is_remembered_of_those_who_left() {
        let admission = admission(ListenConfig::default().mode, 100, 4);
        let permits: Vec<Permit> = (0..4).map(|_| admission.admit(ip("192.0.2.1")).unwrap()).collect();
        assert_eq!(admission.addresses.lock().unwrap().len(), 1);
        drop(permits);
        assert!(admission.addresses.lock().unwrap().is_empty());
        assert_eq!(admission.links.available_permits(), 100);
    }

    #[test]
    fn links_are_counted_until_they_end() {
        let admission = admission(ListenMode::BehindRouter, 2, 1);
        let _first = admission.admit(ip("127.0.0.1")).unwrap();
        let second = admission.admit(ip("127.0.0.1")).unwrap();
        drop(second.address);
        assert_eq!(refused(admission.admit(ip("127.0.0.1"))), Some(NotAdmitted::Links));
        drop(second.link);
        assert!(admission.admit(ip("127.0.0.1")).is_ok());
    }

    #[test]
    fn errors_of_the_listener_make_it_wait_longer_and_longer() {
        const EMFILE: i32 = 24;
        let exhausted = io::Error::from_raw_os_error(EMFILE);
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.after(&exhausted).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(Backoff::default().after(&ErrorKind::ConnectionAborted.into()), Duration::ZERO);
    }
}
