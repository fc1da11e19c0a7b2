//! A link as the application has it: a cheap handle to send with, and the stream of what the peer sends.
//!
//! Behind both stands one task that owns the socket and the [`Connection`](crate::connection::Connection). They meet
//! in [`Shared`]: two bounded queues under one short lock.

mod shared;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use units::Concealed;
use wire::frame::MESSAGE_LEN_MAX;
use wire::{Message, StatusCode};

use crate::error::{CloseReason, QueryError, SendError};
use crate::peer::VerifiedPeer;
pub(crate) use shared::{Command, Refused, Shared};

/// Bounds of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// Bytes of messages that may wait to be sent; one message always may, whatever its size. Default: 4 MiB.
    pub outgoing_bytes_max: usize,
    /// Bytes of received messages that may wait for the application. Above, nothing is read from the socket.
    /// Default: 1 MiB.
    pub incoming_bytes_max: usize,
    /// The link closes when the peer takes nothing of what waits for this long. Default: 30 s.
    pub write_stall_max: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            outgoing_bytes_max: 4 << 20,
            incoming_bytes_max: 1 << 20,
            write_stall_max: Duration::from_secs(30),
        }
    }
}

/// The sending half of a link; clones share it. Dropping it closes nothing.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

impl Link {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Tells links of this process apart; never used again.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Who is on the other side.
    #[must_use]
    pub fn peer(&self) -> &VerifiedPeer {
        &self.shared.peer
    }

    /// Queues a one-way message, in order with everything else that is sent here. Never waits.
    ///
    /// # Errors
    /// [`SendError`]: the message was not queued.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let message = checked(message)?;
        self.shared.push(Command::Packet(message)).map_err(|refused| match refused {
            Refused::Full(_) => SendError::QueueFull,
            Refused::Closed => SendError::Closed,
        })
    }

    /// Queues a one-way message as soon as there is room. Two peers that both wait here without taking events wait
    /// for each other until their links stall: take events in another task, or use [`Link::try_send`].
    ///
    /// # Errors
    /// [`SendError::TooLarge`] or [`SendError::Closed`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let message = checked(message)?;
        self.shared.push_waiting(Command::Packet(message)).await.or(Err(SendError::Closed))
    }

    /// Queues a short one-way message even if the queue is full: for messages whose number is bounded by other means,
    /// such as one for each open request.
    ///
    /// # Errors
    /// [`SendError::TooLarge`] or [`SendError::Closed`].
    pub fn send_bounded(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let message = checked(message)?;
        if self.shared.push_always(Command::Packet(message)) { Ok(()) } else { Err(SendError::Closed) }
    }

    /// Bytes that wait to be sent, with what it takes to keep them.
    #[must_use]
    pub fn queued_len(&self) -> usize {
        self.shared.queued_len()
    }

    /// Returns once no more than `queued_len` waits to be sent, or the link has closed.
    pub async fn room(&self, queued_len: usize) {
        self.shared.room(queued_len).await;
    }

    /// Asks the peer and waits for the answer, `timeout` at most, waiting for room included. Dropping the future
    /// gives up the answer; the peer is not told.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn query(&self, message: Bytes, timeout: Duration) -> Result<Bytes, QueryError> {
        if message.len() > MESSAGE_LEN_MAX {
            return Err(QueryError::TooLarge { len: message.len() });
        }
        let deadline = Instant::now() + timeout;
        let (reply, answer) = oneshot::channel();
        let ask = async {
            let command = Command::Query { message, deadline: deadline.into_std(), reply };
            self.shared.push_waiting(command).await.or(Err(QueryError::Closed))?;
            answer.await.unwrap_or(Err(QueryError::Closed))
        };
        // The connection has the same deadline, but looks at it only once the query has left the queue.
        timeout_at(deadline, ask).await.unwrap_or(Err(QueryError::Timeout))
    }

    /// The application vouches for the peer: frames may have their full size (16 MiB) from now on, before it is
    /// 16 KiB. To be called on the accepting side before the last answer of the application's handshake; the
    /// connecting side need not.
    pub fn handshake_complete(&self) {
        self.shared.handshake_complete();
    }

    /// Closes the link: what is queued still goes out, open queries fail at once, and the last event is
    /// [`LinkEvent::Closed`]. `reason` is for our own logs.
    pub fn close(&self, reason: &'static str) {
        self.shared.close(CloseReason::Local(reason));
    }

    /// As [`Link::close`], for something that the peer did wrong: `reason` says what, for an operator.
    pub fn expel(&self, reason: &'static str) {
        self.shared.close(CloseReason::Expelled(reason));
    }

    /// Whether the link has closed or is about to.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("id", &self.id()).finish_non_exhaustive()
    }
}

fn checked(message: impl Into<Message>) -> Result<Message, SendError> {
    let message = message.into();
    if message.len() > MESSAGE_LEN_MAX {
        return Err(SendError::TooLarge { len: message.len() });
    }
    Ok(message)
}

/// What the peer sends, in order. Dropping it closes the link.
pub struct LinkEvents {
    shared: Arc<Shared>,
    /// Taken from the shared queue in one go.
    taken: VecDeque<LinkEvent>,
}

/// One thing that came from the peer.
pub enum LinkEvent {
    /// A one-way message.
    Packet(Bytes),
    /// A question.
    Query(IncomingQuery),
    /// The end. Nothing follows.
    Closed(CloseReason),
}

impl fmt::Debug for LinkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(message) => f.debug_tuple("Packet").field(&Concealed::new(message)).finish(),
            Self::Query(query) => f.debug_tuple("Query").field(query).finish(),
            Self::Closed(reason) => f.debug_tuple("Closed").field(reason).finish(),
        }
    }
}

/// A question and the means to answer it.
pub struct IncomingQuery {
    /// What the peer asks.
    pub message: Bytes,
    /// Takes the answer.
    pub responder: Responder,
}

impl fmt::Debug for IncomingQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = Concealed::new(&self.message);
        f.debug_struct("IncomingQuery").field("message", &message).finish_non_exhaustive()
    }
}

impl LinkEvents {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, taken: VecDeque::new() }
    }

    /// The next event; `None` after [`LinkEvent::Closed`]. Nothing is lost when the future is dropped.
    ///
    /// Events must be taken: while too many wait, the link reads nothing, and after 20 s without an answer to its ping
    /// the connecting side gives up.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        if self.taken.is_empty() {
            poll_fn(|context| {
                if self.shared.take_events(&mut self.taken, context.waker()) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
        self.taken.pop_front()
    }
}

impl Drop for LinkEvents {
    fn drop(&mut self) {
        self.shared.close(CloseReason::Local("the application no longer listens"));
    }
}

impl fmt::Debug for LinkEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkEvents").field("id", &self.shared.id).finish_non_exhaustive()
    }
}

/// Answers one query of the peer. Dropped without an answer, it refuses with [`StatusCode::CANCELLED`]: a peer
/// should not have to wait for its timeout.
pub struct Responder {
    /// Weak, since responders wait in a queue of the same.
    shared: Weak<Shared>,
    id: Option<i64>,
}

impl Responder {
    pub(crate) fn new(shared: &Arc<Shared>, id: i64) -> Self {
        Self { shared: Arc::downgrade(shared), id: Some(id) }
    }

    /// Answers. Does not wait: when more than [`LinkLimits::outgoing_bytes_max`] and one frame wait, the peer
    /// asks and does not read, and the link closes. An answer that fits into no frame becomes a refusal.
    pub fn answer(mut self, message: Bytes) {
        self.reply(|id| Command::Answer { id, message });
    }

    /// Refuses. `message` is cut to 1 KiB, and read by people and programs of the peer.
    pub fn refuse(mut self, code: StatusCode, message: &str) {
        self.reply(|id| Command::Refuse { id, code, message: message.to_owned() });
    }

    fn reply(&mut self, command: impl FnOnce(i64) -> Command) {
        if let (Some(id), Some(shared)) = (self.id.take(), self.shared.upgrade()) {
            let _closed = shared.push_always(command(id));
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.reply(|id| {
            let message = "the query was dropped without an answer".to_owned();
            Command::Refuse { id, code: StatusCode::CANCELLED, message }
        });
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("id", &self.id).finish_non_exhaustive()
    }
}
