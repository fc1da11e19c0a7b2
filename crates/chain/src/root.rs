//! Watching the root contract: a newer version replaces what is known, nothing else does.

use std::time::Duration;

use ton::{Address, LayoutError, RootConfig};
use units::ConfigVersion;

use crate::provider::{Provider, ProviderError};

/// What a look at the root contract gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootNews {
    /// The version that is known already.
    Same,
    /// A newer one, which is known from now on.
    Newer {
        /// What it says.
        config: Box<RootConfig>,
        /// Whether prices, delays, stakes or codes changed, and with them the addresses of contracts.
        params_changed: bool,
    },
    /// An older one than was seen before, which is ignored: the server is behind.
    Older {
        /// The version told.
        told: ConfigVersion,
        /// The version known.
        known: ConfigVersion,
    },
    /// The version that is known, with something else in it, which is ignored: this server or an earlier one lies.
    Contradicts {
        /// The version.
        version: ConfigVersion,
    },
}

/// The root contract cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RootWatchError {
    /// No answer, or none of use.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// There is no contract.
    #[error(
        "account {root} has no contract: check the address of the root contract and which network the server is of"
    )]
    NoContract {
        /// The account.
        root: Address,
    },
    /// There is another contract.
    #[error("account {root} is no root contract: check its address")]
    Data {
        /// The account.
        root: Address,
        /// What is wrong with its data.
        source: LayoutError,
    },
}

/// Watches one root contract.
#[derive(Debug)]
pub struct RootWatch {
    root: Address,
    known: Option<RootConfig>,
    block_time: Duration,
}

impl RootWatch {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(root: Address) -> Self {
        Self { root, known: None, block_time: Duration::ZERO }
    }

    /// The newest configuration seen.
    #[must_use]
    pub const fn known(&self) -> Option<&RootConfig> {
        self.known.as_ref()
    }

    /// When the newest block that the last look showed was made, since 1970.
    #[must_use]
    pub const fn block_time(&self) -> Duration {
        self.block_time
    }

    /// Looks once.
    ///
    /// # Errors
    /// [`RootWatchError`]; what is known stays known.
    pub async fn look(&mut self, provider: &Provider) -> Result<RootNews, RootWatchError> {
        let root = self.root;
        let account = provider.account(&root).await?;
        let data = account.data().ok_or(RootWatchError::NoContract { root })?;
        let told = RootConfig::from_data(data).map_err(|source| RootWatchError::Data { root, source })?;
        self.block_time = account.block_time;
        Ok(self.take(told))
    }

    /// Compares what the contract says with what is known.
    pub fn take(&mut self, told: RootConfig) -> RootNews {
        let Some(known) = &self.known else { return self.replace(told, true) };
        match told.version.cmp(&known.version) {
            std::cmp::Ordering::Less => RootNews::Older { told: told.version, known: known.version },
            std::cmp::Ordering::Equal if told == *known => RootNews::Same,
            std::cmp::Ordering::Equal => RootNews::Contradicts { version: told.version },
            std::cmp::Ordering::Greater => {
                let params_changed = told.params != known.params;
                self.replace(told, params_changed)
            }
        }
    }

    fn replace(&mut self, told: RootConfig, params_changed: bool) -> RootNews {
        self.known = Some(told.clone());
        RootNews::Newer { config: Box::new(told), params_changed }
    }
}

#[cfg(test)]
mod tests {
    use units::NanoTon;

    use super::*;

    fn config(version: u32, price: u64) -> RootConfig {
        let mut config = RootConfig::pseudo(Address::new(0, [1; 32]));
        config.version = ConfigVersion::new(version);
        config.params.price_per_token = NanoTon::new(price);
        config
    }

    #[test]
    fn only_a_newer_version_replaces() {
        let mut watch = RootWatch::new(Address::new(0, [9; 32]));
        assert!(matches!(watch.take(config(2, 20)), RootNews::Newer { params_changed: true, .. }));
        assert_eq!(watch.take(config(2, 20)), RootNews::Same);
        let (told, known) = (ConfigVersion::new(1), ConfigVersion::new(2));
        assert_eq!(watch.take(config(1, 20)), RootNews::Older { told, known });
        assert_eq!(watch.take(config(2, 21)), RootNews::Contradicts { version: known });
        assert!(matches!(watch.take(config(3, 20)), RootNews::Newer { params_changed: false, .. }));
        assert!(matches!(watch.take(config(9, 21)), RootNews::Newer { params_changed: true, .. }));
        assert_eq!(watch.known(), Some(&config(9, 21)));
    }
}
