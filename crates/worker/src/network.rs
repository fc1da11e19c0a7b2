//! What a worker knows of its network.

use std::sync::Arc;

use ledger::{FeeAbovePrice, Multipliers, PriceTable};
use node::{RootError, RootSource};
use tokio::sync::watch;
use ton::RootConfig;

/// One version of the root configuration.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) config: Arc<RootConfig>,
    /// What tokens weigh and cost under it.
    pub(crate) prices: PriceTable,
}

/// The root configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is none.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Its prices make no sense.
    #[error("the prices of the root configuration make no sense")]
    Prices(#[from] FeeAbovePrice),
}

impl Network {
    pub(crate) fn new(config: RootConfig) -> Result<Self, NetworkError> {
        let params = &config.params;
        let ton::Multipliers { prompt, cached, completion, reasoning } = params.multipliers;
        let multipliers = Multipliers { prompt, cached, completion, reasoning };
        let prices = PriceTable::new(params.price_per_token, params.worker_fee_per_token, multipliers)?;
        Ok(Self { config: Arc::new(config), prices })
    }
}

/// Publishes newer versions, for ever.
pub(crate) async fn follow(source: Arc<RootSource>, current: Arc<watch::Sender<Arc<Network>>>) {
    loop {
        let known = current.borrow().config.version;
        match Network::new(source.newer_than(known).await) {
            Ok(newer) => {
                current.send_replace(Arc::new(newer));
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "kept the old root configuration");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use node::RootFile;
    use ton::Address;
    use units::{ConfigVersion, NanoTon};

    use super::*;

    fn config(version: u32) -> RootConfig {
        let mut config = RootConfig::pseudo(Address::new(0, [1; 32]));
        config.version = ConfigVersion::new(version);
        config
    }

    #[test]
    fn prices_that_make_no_sense_are_refused() {
        let mut config = config(1);
        config.params.worker_fee_per_token = NanoTon::new(2);
        config.params.price_per_token = NanoTon::new(1);
        assert!(matches!(Network::new(config), Err(NetworkError::Prices(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_file_is_published_and_one_with_senseless_prices_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.json");
        let write = |config: RootConfig| std::fs::write(&path, config.to_pseudo_json().unwrap()).unwrap();
        write(config(1));
        let source = Arc::new(RootSource::File(RootFile::new(path.clone())));
        let first = Network::new(source.read().await.unwrap()).unwrap();
        let sender = Arc::new(watch::Sender::new(Arc::new(first)));
        let mut published = sender.subscribe();
        let following = tokio::spawn(follow(source, sender));
        write(config(2));
        published.changed().await.unwrap();
        assert_eq!(published.borrow_and_update().config.version.get(), 2);
        let mut senseless = config(3);
        senseless.params.worker_fee_per_token = NanoTon::new(2);
        senseless.params.price_per_token = NanoTon::new(1);
        write(senseless);
        tokio::time::sleep(std::time::Duration::from_secs(300)).await;
        assert!(!published.has_changed().unwrap());
        write(config(4));
        published.changed().await.unwrap();
        assert_eq!(published.borrow().config.version.get(), 4);
        following.abort();
    }
}
