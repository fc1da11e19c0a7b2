//! What a proxy may say about a request while it runs, in version 3.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use ahash::HashMap;
use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use transport::flow::{FlowError, Gate, Inflow, WINDOW, part_cost};
use units::RequestId;

/// The part of a running request that its link can reach.
#[derive(Debug)]
pub(crate) struct Stream {
    cancelled: CancellationToken,
    /// What the proxy takes of the answer.
    answer: Gate,
    query: Mutex<Query>,
    /// The query is complete, or will never be.
    query_ended: Notify,
}

/// A query as far as it has come. It has no `Debug` with its bytes: they are a prompt.
struct Query {
    bytes: BytesMut,
    len: usize,
    inflow: Inflow,
    fault: Option<QueryFault>,
}

/// The parts of a query make none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryFault {
    #[error("the parts of the query do not add up to its length")]
    Length,
    #[error(transparent)]
    Flow(FlowError),
}

/// A part came for a request that was never begun, or long after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownStream;

/// Room for a query is made at once up to this length, so that it need not move as it grows, and beyond it as it comes.
const AT_ONCE_MAX: usize = 256 * 1024;

impl Stream {
    /// A request whose query begins with `start` and takes `query_len` bytes in all.
    fn new(start: &[u8], query_len: usize) -> Self {
        let mut query =
            Query { bytes: BytesMut::new(), len: query_len, inflow: Inflow::new(WINDOW), fault: None };
        let is_complete = start.len() == query_len;
        if !is_complete {
            query.bytes.reserve(query_len.min(AT_ONCE_MAX));
            let _short_start_needs_no_grant = query.take(start, false);
        }
        Self {
            cancelled: CancellationToken::new(),
            answer: Gate::new(WINDOW),
            query: Mutex::new(query),
            query_ended: Notify::new(),
        }
    }

    /// Returns once the proxy wants no more of the answer.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Waits until the proxy takes a part of `len` bytes, and counts it as sent.
    pub(crate) async fn room(&self, len: usize) {
        self.answer.pass(part_cost(len)).await;
    }

    /// Waits for the rest of a query.
    ///
    /// # Errors
    /// [`QueryFault`] if its parts make none.
    pub(crate) async fn query(&self) -> Result<Bytes, QueryFault> {
        loop {
            // One task waits, so a part between the look and the wait is kept for it.
            let ended = self.with_query(|query| match query.fault {
                Some(fault) => Some(Err(fault)),
                None => (query.bytes.len() == query.len).then(|| Ok(query.bytes.split().freeze())),
            });
            match ended {
                Some(ended) => return ended,
                None => self.query_ended.notified().await,
            }
        }
    }

    fn with_query<T>(&self, work: impl FnOnce(&mut Query) -> T) -> T {
        // A panic elsewhere leaves a query that is short, which is noticed.
        work(&mut self.query.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Query {
    /// Takes the next part. Returns what to grant the proxy.
    fn take(&mut self, part: &[u8], is_last: bool) -> Option<i32> {
        let cost = part_cost(part.len());
        let fault = match self.inflow.receive(cost) {
            Err(error) => Some(QueryFault::Flow(error)),
            Ok(()) => {
                let len = self.bytes.len() + part.len();
                (len > self.len || is_last != (len == self.len)).then_some(QueryFault::Length)
            }
        };
        if let Some(fault) = fault {
            self.fault.get_or_insert(fault);
            return None;
        }
        self.bytes.extend_from_slice(part);
        self.inflow.pass(cost)
    }
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The running requests of one link, by the proxy's name for them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: HashMap<RequestId, Weak<Stream>>,
    /// What may still come for requests that have ended.
    late: u64,
}

impl Streams {
    /// A request begins. `None` if another one of that name runs.
    pub(crate) fn open(&mut self, id: RequestId, start: &[u8], query_len: usize) -> Option<Arc<Stream>> {
        if self.find(id).is_some() {
            return None;
        }
        let stream = Arc::new(Stream::new(start, query_len));
        self.open.insert(id, Arc::downgrade(&stream));
        Some(stream)
    }

    /// A request whose query continues was begun: what it may send at once may come after its end.
    pub(crate) fn expect_parts(&mut self) {
        self.late = self.late.saturating_add(WINDOW.into());
    }

    /// A request has ended.
    pub(crate) fn close(&mut self, id: RequestId) {
        if self.find(id).is_none() {
            self.open.remove(&id);
        }
    }

    /// A request has ended whose name is not known any more.
    pub(crate) fn close_ended(&mut self) {
        self.open.retain(|_, stream| stream.strong_count() > 0);
    }

    /// The proxy gives a request up. One that is unknown has just ended.
    pub(crate) fn cancel(&self, id: RequestId) {
        if let Some(stream) = self.find(id) {
            stream.cancelled.cancel();
        }
    }

    /// The proxy takes more of an answer. For one that is cancelled already it means nothing, so that a proxy is
    /// told off once for each request at most.
    ///
    /// # Errors
    /// [`FlowError`] if it grants what makes no sense; the request is cancelled then.
    pub(crate) fn grant(&self, id: RequestId, len: i32) -> Result<(), FlowError> {
        let Some(stream) = self.find(id).filter(|stream| !stream.cancelled.is_cancelled()) else {
            return Ok(());
        };
        stream.answer.grant(len).inspect_err(|_senseless| stream.cancelled.cancel())
    }

    /// The next part of a query. Returns what to grant the proxy.
    ///
    /// # Errors
    /// [`UnknownStream`] if more comes for unknown requests than can be late.
    pub(crate) fn part(
        &mut self,
        id: RequestId,
        part: &[u8],
        is_last: bool,
    ) -> Result<Option<i32>, UnknownStream> {
        let Some(stream) = self.find(id) else {
            self.late = self.late.checked_sub(part_cost(part.len()).into()).ok_or(UnknownStream)?;
            return Ok(None);
        };
        let (grant, has_ended) = stream.with_query(|query| {
            let grant = query.take(part, is_last);
            (grant, is_last || query.fault.is_some())
        });
        if has_ended {
            stream.query_ended.notify_one();
        }
        Ok(grant)
    }

    fn find(&self, id: RequestId) -> Option<Arc<Stream>> {
        self.open.get(&id)?.upgrade()
    }
}
