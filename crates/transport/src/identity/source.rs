//! Where listeners and connectors take their identity from, and the TLS configuration that goes with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};

use super::{IdentityError, TlsIdentity};
use crate::tls;

/// A generated identity is replaced after this long. Links that are open keep the one they began with.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(3600);

/// A supply of identities; clones share it.
#[derive(Clone, Debug)]
pub struct IdentitySource {
    supply: Arc<Supply>,
}

#[derive(Debug)]
enum Supply {
    Generated(Mutex<Option<Generated>>),
    Fixed(TlsConfigs),
}

#[derive(Debug)]
struct Generated {
    at: Duration,
    configs: TlsConfigs,
}

/// What both sides of a handshake need for one identity.
#[derive(Clone, Debug)]
pub(crate) struct TlsConfigs {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl IdentitySource {
    /// Identities made when needed, kept in memory only, and replaced every hour.
    #[must_use]
    pub fn generated() -> Self {
        Self { supply: Arc::new(Supply::Generated(Mutex::new(None))) }
    }

    /// The identity in use at `now` (time since 1970).
    pub(crate) fn configs(&self, now: Duration) -> Result<TlsConfigs, IdentityError> {
        let current = match &*self.supply {
            Supply::Fixed(configs) => return Ok(configs.clone()),
            Supply::Generated(current) => current,
        };
        // The value behind a poisoned lock is whole: it is replaced in one assignment.
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back also leads to a new identity: the old one may not be valid yet.
        let fresh =
            |generated: &&Generated| now.checked_sub(generated.at).is_some_and(|age| age < RENEWAL_INTERVAL);
        if let Some(generated) = current.as_ref().filter(fresh) {
            return Ok(generated.configs.clone());
        }
        let configs = TlsConfigs::new(TlsIdentity::generate(now)?);
        *current = Some(Generated { at: now, configs: configs.clone() });
        Ok(configs)
    }
}

impl Default for IdentitySource {
    /// [`IdentitySource::generated`].
    fn default() -> Self {
        Self::generated()
    }
}

impl From<TlsIdentity> for IdentitySource {
    /// Always this identity, for as long as the source lives: whoever gives it also replaces it in time.
    fn from(identity: TlsIdentity) -> Self {
        Self { supply: Arc::new(Supply::Fixed(TlsConfigs::new(identity))) }
    }
}

impl TlsConfigs {
    fn new(identity: TlsIdentity) -> Self {
        let certificate = Arc::new(SingleCertAndKey::from(identity.key));
        Self {
            server: Arc::new(tls::server_config(certificate.clone())),
            client: Arc::new(tls::client_config(certificate)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_795_000_000);

    fn same(left: &TlsConfigs, right: &TlsConfigs) -> bool {
        Arc::ptr_eq(&left.server, &right.server) && Arc::ptr_eq(&left.client, &right.client)
    }

    #[test]
    fn generated_identities_last_an_hour() {
        let source = IdentitySource::generated();
        let first = source.configs(NOW).unwrap();
        let before_renewal = NOW + RENEWAL_INTERVAL - Duration::from_secs(1);
        assert!(same(&first, &source.clone().configs(before_renewal).unwrap()));
        let second = source.configs(NOW + RENEWAL_INTERVAL).unwrap();
        assert!(!same(&first, &second));
        assert!(!same(&second, &source.configs(NOW).unwrap()), "the clock was set back");
    }

    #[test]
    fn a_given_identity_is_kept() {
        let source = IdentitySource::from(TlsIdentity::generate(NOW).unwrap());
        let later = NOW + 48 * RENEWAL_INTERVAL;
        assert!(same(&source.configs(NOW).unwrap(), &source.configs(later).unwrap()));
    }
}
