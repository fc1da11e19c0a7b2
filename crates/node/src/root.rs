//! The root configuration, read from a file and followed while a role runs.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use ton::{PseudoRootError, RootConfig};
use transport::clock::unix_now;
use units::ConfigVersion;

use crate::WrongNetwork;

/// How often the file is read again, at random between these.
const POLL_INTERVAL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));

/// The root configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The file cannot be read.
    #[error("cannot read the root configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no root configuration.
    #[error("the root configuration {} cannot be used", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PseudoRootError,
    },
    /// The chain is another one.
    #[error(transparent)]
    Network(#[from] WrongNetwork),
    /// The root contract cannot be read.
    #[error("the root contract cannot be read")]
    Chain(#[from] chain::RootWatchError),
}

/// The file that holds the root configuration.
#[derive(Debug)]
pub struct RootFile {
    path: PathBuf,
    /// When it was last read, in seconds since 1970.
    read_at: AtomicU64,
}

impl RootFile {
    /// Names the file; nothing is read yet.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, read_at: AtomicU64::new(0) }
    }

    /// Reads the file, a few kilobytes.
    ///
    /// # Errors
    /// [`RootError`] if it cannot be read or makes no sense.
    pub fn read(&self) -> Result<RootConfig, RootError> {
        let path = || self.path.clone();
        let text =
            std::fs::read_to_string(&self.path).map_err(|source| RootError::Read { path: path(), source })?;
        let config = RootConfig::from_pseudo_json(&text)
            .map_err(|source| RootError::Parse { path: path(), source })?;
        self.read_at.store(unix_now().as_secs(), Ordering::Relaxed);
        Ok(config)
    }

    /// When the file was last read with success, in seconds since 1970; 0 if never.
    #[must_use]
    pub fn read_at(&self) -> u64 {
        self.read_at.load(Ordering::Relaxed)
    }

    /// Reads the file about once a minute until it holds a newer configuration than `current`. A version is never
    /// taken back. What is wrong with the file meanwhile is logged.
    pub async fn newer_than(&self, current: ConfigVersion) -> RootConfig {
        loop {
            let pause = rand::rng().random_range(POLL_INTERVAL.0..POLL_INTERVAL.1);
            tokio::time::sleep(pause).await;
            match self.read() {
                Ok(newer) if newer.version > current => {
                    tracing::info!(version = %newer.version, "new root configuration");
                    return newer;
                }
                Ok(_same_or_older) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "kept the old root configuration");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ton::Address;

    use super::*;

    fn config(version: u32) -> RootConfig {
        let mut config = RootConfig::pseudo(Address::new(0, [1; 32]));
        config.version = ConfigVersion::new(version);
        config
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_newer_version_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.json");
        let write = |config: &RootConfig| std::fs::write(&path, config.to_pseudo_json().unwrap()).unwrap();
        let file = RootFile::new(path.clone());
        let wait = POLL_INTERVAL.1 * 3;

        write(&config(2));
        assert_eq!(file.newer_than(ConfigVersion::new(1)).await.version.get(), 2);
        assert!(file.read_at() > 0);

        write(&config(3));
        assert!(tokio::time::timeout(wait, file.newer_than(ConfigVersion::new(3))).await.is_err());
        assert!(tokio::time::timeout(wait, file.newer_than(ConfigVersion::new(4))).await.is_err());
        std::fs::write(&path, "broken").unwrap();
        assert!(tokio::time::timeout(wait, file.newer_than(ConfigVersion::new(3))).await.is_err());
    }

    #[test]
    fn files_that_make_no_sense_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.json");
        let file = RootFile::new(path.clone());
        let missing = file.read().unwrap_err();
        assert!(missing.to_string().contains("root.json"), "{missing}");
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(file.read(), Err(RootError::Parse { .. })));
        assert_eq!(file.read_at(), 0);
    }
}
