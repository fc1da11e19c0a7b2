//! One model offered to one proxy: connect, shake hands, work, and begin again when the link is lost.

mod handshake;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;
use std::time::Duration;

use node::{Backoff, ConnectingParty, ProxyError, RootSource};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use transport::{CloseReason, ConnectConfig, ConnectError, QueryError};
use wire::{DecodeError, StatusCode};

use crate::model::Model;
use crate::network::Network;
use crate::session::{Accounts, SessionError};
use crate::stats::Stats;
use crate::targets::Target;

use handshake::shake_hands;
use work::work;

/// A proxy that was not ready for so long is exchanged for another one.
const UNREADY_MAX: Duration = Duration::from_secs(300);
/// When no proxy is free, how long until the next look.
const NO_TARGET_PAUSE: Duration = Duration::from_secs(10);

/// What all links of a worker share.
pub(crate) struct Common {
    pub(crate) party: ConnectingParty,
    pub(crate) root_source: Arc<RootSource>,
    pub(crate) network: Arc<watch::Sender<Arc<Network>>>,
    pub(crate) accounts: Accounts,
    pub(crate) stats: Arc<Stats>,
    pub(crate) connect: ConnectConfig,
    pub(crate) proxy_connections: usize,
    /// Whether proxies must attest an allowed image even on a test network.
    pub(crate) checks_proxy_hashes: bool,
    /// Ends all links at once.
    pub(crate) stop: CancellationToken,
}

/// Why a link ended or was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("cannot connect to the proxy")]
    Connect(#[from] ConnectError),
    #[error("the proxy is not one to work for")]
    Proxy(#[from] ProxyError),
    #[error("the proxy refused {step} with code {}", .code.code())]
    Refused { step: &'static str, code: StatusCode },
    #[error("{step} was not answered")]
    Unanswered {
        step: &'static str,
        #[source]
        source: QueryError,
    },
    #[error("the proxy does not agree with us")]
    Session(#[from] SessionError),
    #[error("the proxy sent a message that cannot be read")]
    Malformed(#[source] DecodeError),
    #[error(
        "the proxy begins a query of {query_len} bytes in parts, which is shorter than its first or too long"
    )]
    QueryLen { query_len: i32 },
    #[error("the proxy sends parts of requests that it never began")]
    UnknownStream,
    #[error("the proxy sends requests faster than it takes their refusals")]
    Flood,
    #[error("the link ended")]
    Closed(#[source] CloseReason),
    #[error("the proxy takes no more requests")]
    ProxyLeaves,
    #[error("the root configuration changed")]
    ConfigurationChanged,
    #[error("the worker is shutting down")]
    Stopped,
}

/// Keeps one link of `model` up until the worker stops.
pub(crate) async fn keep(common: Arc<Common>, model: Arc<Model>) {
    let stop = common.stop.clone();
    let mut network_changes = common.network.subscribe();
    let mut backoff = Backoff::default();
    let mut is_first_failure = true;
    let mut held: Option<Target> = None;
    let mut unready_since = Instant::now();
    // A proxy that said it goes away.
    let mut leaving = None;
    while !stop.is_cancelled() {
        let network = network_changes.borrow_and_update().clone();
        let registered = &network.config.registered_proxies;
        let mut avoided = leaving.take();
        if unready_since.elapsed() > UNREADY_MAX {
            avoided = held.take().map(|target| target.address);
            unready_since = Instant::now();
        }
        // A proxy that left the list is not tried again.
        held = held.filter(|target| registered.iter().any(|proxy| proxy.workers == target.address));
        held = held.or_else(|| model.targets.choose(registered, avoided, &mut rand::rng()));
        let Some(target) = &held else {
            tokio::select! {
                _ = network_changes.changed() => {}
                () = sleep(NO_TARGET_PAUSE) => {}
                () = stop.cancelled() => {}
            }
            continue;
        };

        let seqno = target.seqno;
        let (ready, error) = connect_and_work(&common, &model, &network, target).await;
        if let LinkError::Stopped = error {
            return;
        }
        if let LinkError::ProxyLeaves = error {
            leaving = held.take().map(|target| target.address);
        }
        if let Some(Readiness { ready_for, has_served }) = ready {
            unready_since = Instant::now();
            is_first_failure = true;
            backoff.link_ended(ready_for, has_served);
        }
        report(&error, seqno, &model, std::mem::take(&mut is_first_failure));
        let pause = backoff.pause(&mut rand::rng());
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Said once for each time that a proxy goes away, not for each attempt to get it back.
fn report(error: &LinkError, proxy: u32, model: &Model, is_first_failure: bool) {
    let (error, model) = (error as &dyn std::error::Error, model.name.base());
    if is_first_failure {
        tracing::warn!(proxy, model, error, "no link to a proxy");
    } else {
        tracing::debug!(proxy, model, error, "still no link to a proxy");
    }
}

/// What a link was good for.
struct Readiness {
    ready_for: Duration,
    /// A request came to its end.
    has_served: bool,
}

/// One link from its first to its last byte. Says what it was good for, if it ever was ready, and why it ended.
async fn connect_and_work(
    common: &Arc<Common>,
    model: &Arc<Model>,
    network: &Arc<Network>,
    target: &Target,
) -> (Option<Readiness>, LinkError) {
    let address = target.address.to_string();
    let connected = tokio::select! {
        connected = transport::connect(&address, &common.connect) => connected,
        () = common.stop.cancelled() => return (None, LinkError::Stopped),
    };
    let (link, mut events) = match connected {
        Ok(link) => link,
        Err(error) => return (None, error.into()),
    };
    let shaken = tokio::select! {
        shaken = shake_hands(common, model, network, &link, &mut events) => shaken,
        () = common.stop.cancelled() => Err(LinkError::Stopped),
    };
    let (session, announced) = match shaken {
        Ok(ready) => ready,
        Err(error) => return (None, error),
    };
    let ready_at = Instant::now();
    tracing::info!(proxy = target.seqno, model = %model.name, "linked to a proxy");
    let (error, has_served) = work(common, model, network, link, events, session, announced).await;
    (Some(Readiness { ready_for: ready_at.elapsed(), has_served }), error)
}
