//! The root configuration, followed while the worker runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ledger::{FeeAbovePrice, Multipliers, PriceTable};
use rand::RngExt as _;
use tokio::sync::watch;
use ton::{PseudoRootError, RootConfig};
use transport::clock::unix_now;

/// How often the configuration is read again, at random between these.
const POLL_INTERVAL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));

/// One version of the root configuration.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) config: Arc<RootConfig>,
    /// What tokens weigh and cost under it.
    pub(crate) prices: PriceTable,
    /// When it was read, since 1970.
    pub(crate) read_at: Duration,
}

/// The root configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The file cannot be read.
    #[error("cannot read the root configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no root configuration.
    #[error("the root configuration {} cannot be used", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PseudoRootError,
    },
    /// Its prices make no sense.
    #[error(transparent)]
    Prices(#[from] FeeAbovePrice),
}

impl Network {
    /// Reads the file.
    pub(crate) async fn load(path: &Path) -> Result<Self, NetworkError> {
        let text = tokio::fs::read_to_string(path)
            .await
            .map_err(|source| NetworkError::Read { path: path.to_owned(), source })?;
        let config = RootConfig::from_pseudo_json(&text)
            .map_err(|source| NetworkError::Parse { path: path.to_owned(), source })?;
        Self::new(config)
    }

    pub(crate) fn new(config: RootConfig) -> Result<Self, NetworkError> {
        let params = &config.params;
        let ton::Multipliers { prompt, cached, completion, reasoning } = params.multipliers;
        let multipliers = Multipliers { prompt, cached, completion, reasoning };
        let prices = PriceTable::new(params.price_per_token, params.worker_fee_per_token, multipliers)?;
        Ok(Self { config: Arc::new(config), prices, read_at: unix_now() })
    }

    /// Whether `newer` replaces this one. A version is never taken back, and a network does not change its kind.
    fn is_replaced_by(&self, newer: &Self) -> bool {
        let (old, new) = (&self.config, &newer.config);
        if old.params.is_test != new.params.is_test {
            tracing::error!("the root configuration changed its test mode: it is another network's");
            return false;
        }
        new.version > old.version
    }
}

/// Reads the file again and again, and publishes newer versions.
pub(crate) async fn follow(path: PathBuf, current: Arc<watch::Sender<Arc<Network>>>) {
    loop {
        let pause = rand::rng().random_range(POLL_INTERVAL.0..POLL_INTERVAL.1);
        tokio::time::sleep(pause).await;
        match Network::load(&path).await {
            Ok(newer) if current.borrow().is_replaced_by(&newer) => {
                tracing::info!(version = %newer.config.version, "new root configuration");
                current.send_replace(Arc::new(newer));
            }
            Ok(_same_or_older) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "kept the old root configuration");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ton::Address;
    use units::{ConfigVersion, NanoTon};

    use super::*;

    fn network(version: u32, change: impl FnOnce(&mut RootConfig)) -> Network {
        let mut config = RootConfig::pseudo(Address::new(0, [1; 32]));
        config.version = ConfigVersion::new(version);
        change(&mut config);
        Network::new(config).unwrap()
    }

    #[test]
    fn only_newer_versions_of_the_same_network_replace() {
        let current = network(3, |_| {});
        assert!(current.is_replaced_by(&network(4, |_| {})));
        assert!(!current.is_replaced_by(&network(3, |config| config.last_proxy_seqno = 9)));
        assert!(!current.is_replaced_by(&network(2, |_| {})));
        assert!(!current.is_replaced_by(&network(4, |config| config.params.is_test = false)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_file_is_published_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.json");
        let write = |version| {
            let config = network(version, |_| {}).config;
            std::fs::write(&path, config.to_pseudo_json().unwrap()).unwrap();
        };
        write(1);
        let sender = Arc::new(watch::Sender::new(Arc::new(Network::load(&path).await.unwrap())));
        let mut published = sender.subscribe();
        let following = tokio::spawn(follow(path.clone(), sender));
        write(2);
        published.changed().await.unwrap();
        assert_eq!(published.borrow_and_update().config.version.get(), 2);
        std::fs::write(&path, "broken").unwrap();
        tokio::time::sleep(POLL_INTERVAL.1 * 2).await;
        assert!(!published.has_changed().unwrap());
        write(3);
        published.changed().await.unwrap();
        assert_eq!(published.borrow().config.version.get(), 3);
        following.abort();
    }

    #[tokio::test]
    async fn files_that_make_no_sense_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.json");
        let missing = Network::load(&path).await.unwrap_err();
        assert!(missing.to_string().contains("root.json"), "{missing}");
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(Network::load(&path).await, Err(NetworkError::Parse { .. })));

        let mut config = RootConfig::pseudo(Address::new(0, [1; 32]));
        config.params.worker_fee_per_token = NanoTon::new(2);
        config.params.price_per_token = NanoTon::new(1);
        assert!(matches!(Network::new(config), Err(NetworkError::Prices(_))));
    }
}
