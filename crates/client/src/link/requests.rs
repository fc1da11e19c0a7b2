//! Requests in flight on one connection: who waits for which answer, and how much of it is waiting.

use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use ahash::HashMap;
use bytes::Bytes;
use gateway::{ApiError, ErrorKind};
use node::failpoint;
use transport::Link;
use transport::flow::{Gate, Inflow, WINDOW, part_cost};
use units::RequestId;
use wire::stream;

use super::mailbox;
use crate::session::{AnswerState, End, FromProxy, Step, request_of};

/// What a waiting step costs beside its bytes, so that a flood of empty parts is bounded too.
const STEP_LEN: usize = 256;

/// The open requests of one connection.
#[derive(Debug)]
pub(crate) struct Requests {
    /// `None` once the connection ended: nothing may be opened any more.
    open: Mutex<Option<HashMap<RequestId, Open>>>,
    /// Most bytes that may wait for one slow reader, before version 3.
    waiting_len_max: usize,
    /// Where to tell the proxy about single streams; `None` before version 3.
    streams: Option<Link>,
    /// A request was answered to its end.
    has_served: AtomicBool,
}

#[derive(Debug)]
struct Open {
    state: AnswerState,
    /// What the proxy may send, in version 3.
    inflow: Inflow,
    /// What the proxy takes of a long query, in version 3.
    query: Option<Arc<Gate>>,
    steps: mailbox::Sender<Delivered>,
    waiting_len: Arc<AtomicUsize>,
}

/// The waiting side of one request. Dropping it gives the request up: the proxy is told where its version knows how,
/// and later messages are passed over.
#[derive(Debug)]
pub(crate) struct Answering {
    id: RequestId,
    requests: Arc<Requests>,
    // Bounded by what the proxy may send or by `waiting_len_max`, not by a number of steps.
    steps: mailbox::Receiver<Delivered>,
    waiting_len: Arc<AtomicUsize>,
}

/// A step that waits for the application.
#[derive(Debug)]
struct Delivered {
    step: Step,
    /// What it takes of the window.
    cost: u32,
}

impl Requests {
    /// `streams` is the link, if its proxy speaks version 3.
    pub(crate) fn new(waiting_len_max: usize, streams: Option<Link>) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::new(Some(HashMap::default())),
            waiting_len_max,
            streams,
            has_served: AtomicBool::new(false),
        })
    }

    /// Starts to wait for the answer to `id`.
    ///
    /// # Errors
    /// [`ErrorKind::ProxyLost`] if the connection has ended.
    pub(crate) fn open(self: &Arc<Self>, id: RequestId) -> Result<Answering, ApiError> {
        let (sender, steps) = mailbox::mailbox();
        let waiting_len = Arc::new(AtomicUsize::new(0));
        match self.lock().as_mut().map(|open| open.entry(id)) {
            None => return Err(proxy_lost()),
            Some(Entry::Occupied(_)) => {
                return Err(ApiError::new(ErrorKind::Internal, "the id of the request is in use"));
            }
            Some(Entry::Vacant(place)) => {
                let waiting_len = Arc::clone(&waiting_len);
                let (state, inflow) = (AnswerState::ExpectHead, Inflow::new(WINDOW));
                place.insert(Open { state, inflow, query: None, steps: sender, waiting_len });
            }
        }
        Ok(Answering { id, requests: Arc::clone(self), steps, waiting_len })
    }

    /// Hands a message, read from `frame`, to the request it belongs to. Returns whether one waits for it.
    pub(crate) fn deliver(&self, message: &FromProxy<'_>, frame: &Bytes) -> bool {
        let Some(id) = request_of(message) else { return false };
        let mut guard = self.lock();
        let Some(Entry::Occupied(mut place)) = guard.as_mut().map(|open| open.entry(id)) else {
            return false;
        };
        let open = place.get_mut();
        let mut step = open.state.handle(message, frame);
        let cost = message.answer_len().map_or(0, part_cost);
        let len = step.bytes.len() + STEP_LEN;
        let waiting_len = open.waiting_len.fetch_add(len, Ordering::Relaxed) + len;
        match &self.streams {
            Some(link) => {
                if let Err(error) = open.inflow.receive(cost) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(request_id = %id, error, "a proxy broke the rules of a stream: it is cancelled");
                    step = Step::failed(ApiError::new(
                        ErrorKind::PeerMisbehaved,
                        "the proxy sent more than it was let",
                    ));
                    cancel(link, id);
                }
            }
            None if waiting_len > self.waiting_len_max => {
                let message = "the answer was not read as fast as it came";
                step = Step::failed(ApiError::new(ErrorKind::ReaderTooSlow, message));
            }
            None => {}
        }
        let is_over = step.end.is_some();
        if let Some(End::Complete(_)) = &step.end {
            self.has_served.store(true, Ordering::Relaxed);
        }
        let is_waited_for = open.steps.send(Delivered { step, cost });
        if is_over || !is_waited_for {
            place.remove();
        }
        is_waited_for
    }

    /// The proxy takes more of a query. One that is unknown has just ended.
    pub(crate) fn credit(&self, credit: &stream::Credit) {
        let id = RequestId::new(credit.request_id);
        let mut guard = self.lock();
        let Some(Entry::Occupied(place)) = guard.as_mut().map(|open| open.entry(id)) else { return };
        let granted = place.get().query.as_ref().map_or(Ok(()), |gate| gate.grant(credit.len));
        if let (Err(error), Some(link)) = (granted, &self.streams) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(request_id = %id, error, "a proxy broke the rules of a stream: it is cancelled");
            let message = "the proxy grants what makes no sense";
            let step = Step::failed(ApiError::new(ErrorKind::PeerMisbehaved, message));
            let _nobody_waits = place.remove().steps.send(Delivered { step, cost: 0 });
            cancel(link, id);
        }
    }

    /// The connection ended: every open request fails now, and no new one starts.
    pub(crate) fn fail_all(&self) {
        let open = self.lock().take().unwrap_or_default();
        for request in open.into_values() {
            // Whoever does not wait any more needs no word.
            let _gone = request.steps.send(Delivered { step: Step::failed(proxy_lost()), cost: 0 });
        }
    }

    /// The application took a step: the proxy may send as much again, once that is worth saying.
    fn pass(&self, id: RequestId, cost: u32) {
        let Some(link) = &self.streams else { return };
        let grant = self.lock().as_mut().and_then(|open| open.get_mut(&id)?.inflow.pass(cost));
        if let Some(len) = grant {
            let credit = stream::Credit { request_id: *id.as_bytes(), len };
            failpoint::pass("client-credit");
            // A lost link ends all its requests by itself.
            let _lost = link.send_bounded(wire::encode(&credit));
        }
    }

    /// Whether a request was answered to its end.
    pub(super) fn has_served(&self) -> bool {
        self.has_served.load(Ordering::Relaxed)
    }

    /// Whether no request is open.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().as_ref().is_none_or(HashMap::is_empty)
    }

    /// How many requests are open.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().as_ref().map_or(0, HashMap::len)
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<RequestId, Open>>> {
        // Entries are whole or absent at every step, also after a panic elsewhere.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the proxy that nobody waits any more. A lost link ends all its requests by itself.
fn cancel(link: &Link, id: RequestId) {
    failpoint::pass("client-cancel");
    let _lost = link.send_bounded(wire::encode(&stream::Cancel { request_id: *id.as_bytes() }));
}

fn proxy_lost() -> ApiError {
    ApiError::new(ErrorKind::ProxyLost, "the connection to the proxy ended before the answer did")
}

impl Answering {
    /// A long query begins with a part of `first_cost`. Returns what holds back the rest.
    pub(crate) fn begin_upload(&self, first_cost: u32) -> Arc<Gate> {
        let gate = Arc::new(Gate::begun(WINDOW, first_cost));
        if let Some(open) = self.requests.lock().as_mut().and_then(|open| open.get_mut(&self.id)) {
            open.query = Some(Arc::clone(&gate));
        }
        gate
    }

    /// The next step of the answer. After the last one, `Pending` for ever.
    pub(crate) fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        match std::task::ready!(self.steps.poll_recv(context)) {
            Some(Delivered { step, cost }) => {
                self.requests.pass(self.id, cost);
                self.waiting_len.fetch_sub(step.bytes.len() + STEP_LEN, Ordering::Relaxed);
                Poll::Ready(step)
            }
            // The sender goes only after a last step or with the connection's own end, which sends one.
            None => Poll::Ready(Step::failed(proxy_lost())),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let open = self.requests.lock().as_mut().and_then(|open| open.remove(&self.id));
        if let (Some(_unfinished), Some(link)) = (open, &self.requests.streams) {
            cancel(link, self.id);
        }
    }
}
