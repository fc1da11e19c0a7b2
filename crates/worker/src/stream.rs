//! What a proxy may say about a request while it runs, in version 3.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;
use units::RequestId;

/// The part of a running request that its link can reach.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    cancelled: CancellationToken,
}

impl Stream {
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
        let stream = Arc::new(Stream::default());
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

    fn find(&self, id: RequestId) -> Option<Arc<Stream>> {
        self.0.get(&id)?.upgrade()
    }
}
