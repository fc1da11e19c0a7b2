//! What a proxy may say about a request while it runs, in version 3.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use transport::flow::{ANSWER_WINDOW, FlowError, Outflow, part_cost};
use units::RequestId;

/// The part of a running request that its link can reach.
#[derive(Debug)]
pub(crate) struct Stream {
    cancelled: CancellationToken,
    /// What the proxy takes of the answer.
    answer: Mutex<Outflow>,
    granted: Notify,
}

impl Stream {
    fn new() -> Self {
        Self {
            cancelled: CancellationToken::new(),
            answer: Mutex::new(Outflow::new(ANSWER_WINDOW)),
            granted: Notify::new(),
        }
    }

    /// Waits until the proxy takes a part of `len` bytes, and counts it as sent.
    pub(crate) async fn room(&self, len: usize) {
        // One task waits, so a grant between the look and the wait is kept for it.
        while !self.with_answer(|answer| answer.take(part_cost(len))) {
            self.granted.notified().await;
        }
    }

    fn with_answer<T>(&self, work: impl FnOnce(&mut Outflow) -> T) -> T {
        // Its methods change it in one step, so a panic elsewhere leaves it whole.
        work(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns once the proxy wants no more of the answer.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}

/// The running requests of one link, by the proxy's name for them.
#[derive(Debug, Default)]
pub(crate) struct Streams(HashMap<RequestId, Weak<Stream>>);

impl Streams {
    /// A request begins. `None` if another one of that name runs.
    pub(crate) fn open(&mut self, id: RequestId) -> Option<Arc<Stream>> {
        if self.find(id).is_some() {
            return None;
        }
        let stream = Arc::new(Stream::new());
        self.0.insert(id, Arc::downgrade(&stream));
        Some(stream)
    }

    /// A request has ended.
    pub(crate) fn close(&mut self, id: RequestId) {
        if self.find(id).is_none() {
            self.0.remove(&id);
        }
    }

    /// A request has ended whose name is not known any more.
    pub(crate) fn close_ended(&mut self) {
        self.0.retain(|_, stream| stream.strong_count() > 0);
    }

    /// The proxy gives a request up. One that is unknown has just ended.
    pub(crate) fn cancel(&self, id: RequestId) {
        if let Some(stream) = self.find(id) {
            stream.cancelled.cancel();
        }
    }

    /// The proxy takes more of an answer.
    ///
    /// # Errors
    /// [`FlowError`] if it grants what makes no sense; the request is cancelled then.
    pub(crate) fn grant(&self, id: RequestId, len: i32) -> Result<(), FlowError> {
        let Some(stream) = self.find(id) else { return Ok(()) };
        let granted = stream.with_answer(|answer| answer.grant(len));
        match granted {
            Ok(()) => stream.granted.notify_one(),
            Err(_senseless) => stream.cancelled.cancel(),
        }
        granted
    }

    fn find(&self, id: RequestId) -> Option<Arc<Stream>> {
        self.0.get(&id)?.upgrade()
    }
}
