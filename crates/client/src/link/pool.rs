//! The connections that can take requests now.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Connection;

/// All ready connections.
#[derive(Debug)]
pub(crate) struct Pool {
    ready: Mutex<Vec<Arc<Connection>>>,
    count: watch::Sender<usize>,
    turn: AtomicUsize,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self { ready: Mutex::new(Vec::new()), count: watch::Sender::new(0), turn: AtomicUsize::new(0) }
    }

    /// A connection for a request to `model` that is not in `tried`: in turn among those whose proxy has a worker
    /// for it, as far as we know, else among all. What we know may be seconds old; the proxy has the last word.
    pub(crate) fn pick(&self, model: &str, tried: &[Arc<Connection>]) -> Option<Arc<Connection>> {
        let ready = self.lock();
        let untried = ready.iter().filter(|connection| !is_in(tried, connection));
        let serving: Vec<_> = untried.clone().filter(|connection| connection.has_worker_for(model)).collect();
        let candidates = if serving.is_empty() { untried.collect() } else { serving };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        candidates.get(turn.checked_rem(candidates.len())?).map(|connection| Arc::clone(connection))
    }

    /// Whether there is a connection beside those in `tried`.
    pub(crate) fn has_other(&self, tried: &[Arc<Connection>]) -> bool {
        self.lock().iter().any(|connection| !is_in(tried, connection))
    }

    /// All ready connections.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        self.lock().clone()
    }

    /// How many connections are ready, to wait for changes.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    pub(super) fn add(&self, connection: Arc<Connection>) {
        let mut ready = self.lock();
        ready.push(connection);
        self.count.send_replace(ready.len());
    }

    pub(super) fn remove(&self, connection: &Arc<Connection>) {
        let mut ready = self.lock();
        ready.retain(|other| !Arc::ptr_eq(other, connection));
        self.count.send_replace(ready.len());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        // Adding and removing are single steps: nothing half done can be seen.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_in(tried: &[Arc<Connection>], connection: &Arc<Connection>) -> bool {
    tried.iter().any(|other| Arc::ptr_eq(other, connection))
}
