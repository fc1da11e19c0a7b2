//! One module for each suite.

pub(crate) mod attest;
pub(crate) mod cancel;
pub(crate) mod e2e;
pub(crate) mod hol;
pub(crate) mod ledger;
pub(crate) mod overload;
pub(crate) mod scale;
pub(crate) mod slow_reader;
pub(crate) mod stream;

use std::time::Duration;

use anyhow::Result;

use crate::process::Mock;
use crate::targets::{Cocoon, CocoonFolder, Nginx, Settings, Target};

/// Everything that is compared, running in front of one mock engine.
pub(crate) struct Running {
    pub(crate) targets: Vec<Target>,
    pub(crate) mock: Mock,
    _folder: CocoonFolder,
}

/// Starts the mock engine, the yardsticks where nginx is installed, and the network.
///
/// # Errors
/// If one does not start.
pub(crate) async fn start_targets(nginx: Option<&Nginx>, settings: Settings<'_>) -> Result<Running> {
    let mock = Mock::start()?;
    let Cocoon { target, folder, .. } = Cocoon::start(mock.port, settings).await?;
    let mut targets = vec![Target::direct(mock.port)];
    if let Some(nginx) = nginx {
        targets.push(nginx.one(mock.port).await?);
        targets.push(nginx.three(mock.port).await?);
    }
    targets.push(target);
    Ok(Running { targets, mock, _folder: folder })
}

/// What circumstances a figure was measured in.
pub(crate) fn versions(nginx: Option<&Nginx>) -> Vec<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut versions = vec![
        format!("cocoon {}", env!("CARGO_PKG_VERSION")),
        format!("Linux {}", kernel.trim()),
        format!("{cores} cores"),
    ];
    versions.extend(nginx.map(Nginx::version));
    if cfg!(debug_assertions) {
        versions.push("a debug build: not to be compared".to_owned());
    }
    versions
}

/// The quiet before a measurement: what the last one left must not be counted in the next.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
