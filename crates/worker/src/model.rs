//! A model on offer: its engine, its places, its price, and whether it takes requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use units::{Coefficient, ModelName};

use crate::backend::Backend;
use crate::targets::Targets;

/// How often an engine is asked whether it is up, at random between these.
const PROBE_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));

/// One model of this worker. All its links share it.
pub(crate) struct Model {
    pub(crate) name: ModelName,
    pub(crate) backend: Backend,
    pub(crate) max_active_requests: u16,
    /// The proxies that this model is being offered to.
    pub(crate) targets: Targets,
    places: Arc<Semaphore>,
    ready_links: Arc<()>,
    state: watch::Sender<ModelState>,
    has_warned_of_estimates: AtomicBool,
    has_warned_of_excess: AtomicBool,
}

/// What proxies are told about a model, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModelState {
    /// The price.
    pub(crate) coefficient: Coefficient,
    /// The operator's switch.
    pub(crate) is_enabled: bool,
    /// The engine answered its last probe.
    pub(crate) is_engine_up: bool,
    /// The worker is shutting down.
    pub(crate) is_draining: bool,
}

impl ModelState {
    /// Whether proxies should send no requests.
    pub(crate) const fn is_disabled(&self) -> bool {
        !self.is_enabled || !self.is_engine_up || self.is_draining
    }
}

impl Model {
    pub(crate) fn new(
        name: ModelName,
        backend: Backend,
        coefficient: Coefficient,
        max_active_requests: u16,
    ) -> Self {
        let state = ModelState { coefficient, is_enabled: true, is_engine_up: false, is_draining: false };
        Self {
            name,
            backend,
            max_active_requests,
            targets: Targets::default(),
            places: Arc::new(Semaphore::new(max_active_requests.into())),
            ready_links: Arc::new(()),
            state: watch::Sender::new(state),
            has_warned_of_estimates: AtomicBool::new(false),
            has_warned_of_excess: AtomicBool::new(false),
        }
    }

    /// The state as of now.
    pub(crate) fn state(&self) -> ModelState {
        *self.state.borrow()
    }

    /// The state as it changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<ModelState> {
        self.state.subscribe()
    }

    /// Changes the state; links announce it when it differs.
    pub(crate) fn change(&self, change: impl FnOnce(&mut ModelState)) {
        self.state.send_if_modified(|state| {
            let before = *state;
            change(state);
            *state != before
        });
    }

    /// A place among the requests that run at once, if there is one. It is given back when dropped.
    pub(crate) fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Requests that run now.
    pub(crate) fn active_requests(&self) -> usize {
        usize::from(self.max_active_requests).saturating_sub(self.places.available_permits())
    }

    /// Counts a ready link until the result is dropped.
    pub(crate) fn count_link(&self) -> Arc<()> {
        Arc::clone(&self.ready_links)
    }

    /// Links that are ready.
    pub(crate) fn ready_links(&self) -> usize {
        Arc::strong_count(&self.ready_links).saturating_sub(1)
    }

    /// Completes when no request runs.
    pub(crate) async fn idle(&self) {
        let all = u32::from(self.max_active_requests);
        let places = self.places.acquire_many(all).await;
        drop(places.expect("the places are never closed"));
    }

    /// An answer had to be metered by our own count. Said once, since every answer of such an engine is.
    pub(crate) fn warn_of_estimates(&self) {
        if !self.has_warned_of_estimates.swap(true, Ordering::Relaxed) {
            tracing::warn!(model = %self.name, "the engine reports no usage: tokens are estimated");
        }
    }

    /// An answer had to be cut. Said once, since it is the engine that does not know limits.
    pub(crate) fn warn_of_excess(&self) {
        if !self.has_warned_of_excess.swap(true, Ordering::Relaxed) {
            tracing::warn!(model = %self.name, "the engine generates more tokens than requests allow: answers are cut");
        }
    }

    /// Keeps asking the engine whether it is up.
    pub(crate) async fn watch_engine(&self) {
        let mut has_warned_of_name = false;
        loop {
            let was_up = self.state().is_engine_up;
            match self.backend.models().await {
                Ok(served) => {
                    self.change(|state| state.is_engine_up = true);
                    if !was_up {
                        tracing::info!(model = %self.name, "the engine is up");
                    }
                    let base = self.name.base();
                    let is_listed = served.is_empty() || served.iter().any(|id| id == base);
                    if !is_listed && !has_warned_of_name {
                        has_warned_of_name = true;
                        tracing::warn!(
                            model = base,
                            ?served,
                            "the engine does not list the configured model"
                        );
                    }
                }
                Err(error) => {
                    self.change(|state| state.is_engine_up = false);
                    if was_up {
                        tracing::warn!(model = %self.name, error = &error as &dyn std::error::Error, "the engine is down");
                    }
                }
            }
            let pause = rand::rng().random_range(PROBE_INTERVAL.0..PROBE_INTERVAL.1);
            tokio::time::sleep(pause).await;
        }
    }
}
