//! Waiting for the wish to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Returns at the first Ctrl-C or `SIGTERM`. A second one ends the process at once: a person who asks twice
/// does not want to wait for the drain.
pub(crate) async fn stop_requested() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _received = terminate.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _interrupted = tokio::signal::ctrl_c() => {}
            _received = terminate.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(())
}
