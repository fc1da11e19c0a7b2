//! The task behind a link: moves bytes between a stream and its [`Connection`], and commands and events between the
//! connection and the application's handles.
//!
//! Each wake-up encodes everything that waits into one buffer and writes it in one go. Reading goes on while a write
//! waits, so that two peers that both write never block each other; it stops only while the application lags.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use rand::Rng as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::connection::{Connection, ConnectionEvent};
use crate::ended;
use crate::error::{CloseReason, QueryError};
use crate::link::{Command, IncomingQuery, LinkEvent, Responder, Shared};

/// Encoding stops once this many bytes wait to be written: more would only grow the buffer.
const WRITE_LEN_MAX: usize = 256 * 1024;

/// Pieces handed to the stream at once.
const WRITE_SLICES_MAX: usize = 16;

/// Free space for a read on a quiet link, and what its buffers keep. Pings fit; whatever is more doubles it.
const READ_LEN_MIN: usize = 512;
/// Free space for a read on a busy link. No announced length makes it more.
const READ_LEN_MAX: usize = 64 * 1024;

/// How long the last bytes of a link that we closed may take.
const LAST_BYTES_DEADLINE: Duration = Duration::from_secs(2);

/// Rounds of work before other tasks of the thread get their turn.
const ROUNDS_MAX: usize = 32;

type Reply = oneshot::Sender<Result<Bytes, QueryError>>;

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Connecting,
    Accepting,
}

/// What lives exactly as long as a link, and has a say in it.
pub(crate) trait Tenure {
    /// The application vouches for the peer.
    fn vouched_for(&mut self) {}

    /// Whether the link may hold `len` bytes of messages now.
    fn may_hold(&mut self, _len: usize) -> bool {
        true
    }
}

/// The connecting side: its links are few, each to a peer of its choice.
impl Tenure for () {}

/// Owns stream and connection.
pub(crate) struct Driver<S, T> {
    stream: S,
    connection: Connection<Reply>,
    shared: Arc<Shared>,
    commands: VecDeque<Command>,
    /// Cost of the commands that were encoded since the shared queue was told.
    encoded_cost: usize,
    events: Vec<LinkEvent>,
    input: BytesMut,
    read_len: usize,
    /// Written bytes may still wait inside the stream.
    must_flush: bool,
    /// Since when the stream takes nothing of what waits.
    stalled_since: Option<Instant>,
    /// Nothing can be written any more; what the peer sent before may still be read.
    write_error: Option<CloseReason>,
    /// Goes off at the next deadline or earlier: moving it for every frame would cost more than waking up in vain.
    timer: Pin<Box<Sleep>>,
    ended: Option<CloseReason>,
    is_vouched_for: bool,
    side: Side,
    tenure: T,
}

impl<S, T> Driver<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: Tenure,
{
    pub(crate) fn new(stream: S, side: Side, shared: Arc<Shared>, tenure: T) -> Self {
        let now = Instant::now();
        let seed = rand::rng().next_u64();
        let connection = match side {
            Side::Connecting => Connection::connecting(now.into_std(), seed),
            Side::Accepting => Connection::accepting(now.into_std(), seed),
        };
        Self {
            stream,
            connection,
            shared,
            commands: VecDeque::new(),
            encoded_cost: 0,
            events: Vec::new(),
            input: BytesMut::new(),
            read_len: READ_LEN_MIN,
            must_flush: false,
            stalled_since: None,
            write_error: None,
            timer: Box::pin(sleep_until(now)),
            ended: None,
            is_vouched_for: false,
            side,
            tenure,
        }
    }

    /// Returns once the hello is done.
    ///
    /// # Errors
    /// Why the connection ended before.
    pub(crate) async fn ready(&mut self) -> Result<(), CloseReason> {
        poll_fn(|context| {
            let _ended = self.poll(context);
            match &self.ended {
                Some(reason) => Poll::Ready(Err(reason.clone())),
                None if self.connection.is_ready() => Poll::Ready(Ok(())),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Runs the link to its end. Boxed, since a future keeps two copies of what it is given by value.
    pub(crate) async fn run(mut self: Box<Self>) {
        let reason = poll_fn(|context| self.poll(context)).await;
        // The connecting side says itself what becomes of its links.
        if self.side == Side::Accepting {
            ended::closed(&reason);
        }
        let is_ours =
            matches!(reason, CloseReason::Local(_) | CloseReason::Expelled(_) | CloseReason::Evidence(_));
        self.shared.finish(reason);
        if is_ours {
            let _too_late = timeout(LAST_BYTES_DEADLINE, self.last_bytes()).await;
        }
    }

    /// Writes what waits and says goodbye, then reads until the peer has closed too: closing a socket that holds
    /// unread bytes resets the connection, and the peer may lose what we wrote last.
    async fn last_bytes(&mut self) -> io::Result<()> {
        const UNREAD_LEN_MAX: usize = 1 << 20;
        self.stream.write_all_buf(self.connection.outgoing()).await?;
        self.stream.shutdown().await?;
        let mut unread = vec![0; READ_LEN_MIN];
        let mut unread_len = 0;
        while unread_len < UNREAD_LEN_MAX {
            match self.stream.read(&mut unread).await? {
                0 => break,
                len => unread_len += len,
            }
        }
        Ok(())
    }

    /// Works until nothing can be done without waiting. Ready once the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<CloseReason> {
        for _round in 0..ROUNDS_MAX {
            let now = Instant::now();
            let may_read = self.take_commands(context, now);
            let has_written = self.poll_write(context, now);
            let has_read = may_read && self.poll_read(context, now);
            self.handle_timeouts(now);
            self.give_events();
            if let Some(reason) = &self.ended {
                return Poll::Ready(reason.clone());
            }
            let must_write = !self.connection.outgoing().is_empty() && self.stalled_since.is_none();
            if !has_written && !has_read && !must_write {
                return self.poll_timer(context);
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Encodes what the application has queued. Returns whether it keeps up with what it receives.
    fn take_commands(&mut self, context: &mut Context<'_>, now: Instant) -> bool {
        let encoded_cost = mem::take(&mut self.encoded_cost);
        let orders = self.shared.take_commands(&mut self.commands, encoded_cost, context.waker());
        if orders.is_vouched_for && !self.is_vouched_for {
            self.is_vouched_for = true;
            self.connection.handshake_complete();
            self.tenure.vouched_for();
        }
        let held = self.input.len() + self.connection.outgoing().len() + orders.waiting;
        if !self.tenure.may_hold(held) {
            self.connection.close(CloseReason::NoMemory { wanted: held });
        } else if let Some(waiting) = orders.answers_unread {
            self.connection.close(CloseReason::AnswersUnread { waiting });
        } else if let Some(reason) = orders.closing {
            self.encode(usize::MAX);
            // Nothing new is queued by now; this is what waited behind the first batch.
            self.shared.take_commands(&mut self.commands, 0, context.waker());
            self.encode(usize::MAX);
            self.connection.close(reason);
        } else if self.connection.is_ready() {
            self.encode(WRITE_LEN_MAX);
        }
        // A link that reads nothing would take the peer for dead.
        if !orders.may_read {
            self.connection.handle_input_paused(now.into_std());
        }
        orders.may_read
    }

    fn encode(&mut self, write_len_max: usize) {
        while self.connection.outgoing().len() < write_len_max
            && let Some(command) = self.commands.pop_front()
        {
            self.encoded_cost += command.cost();
            match command {
                Command::Packet(message) => {
                    // Its length was checked when it was queued. Before the hello, only a closing link comes here.
                    let _closed = self.connection.send(&message);
                }
                // Whoever asked may have given up meanwhile.
                Command::Query { reply, .. } if reply.is_closed() => {}
                Command::Query { message, deadline, reply } => {
                    self.connection.query(&message, deadline, reply);
                }
                Command::Answer { id, message } => self.connection.answer(id, &message),
                Command::Refuse { id, code, message } => self.connection.refuse(id, code, &message),
            }
        }
    }

    /// Writes until nothing is left or the stream takes no more. Returns whether it took anything.
    fn poll_write(&mut self, context: &mut Context<'_>, now: Instant) -> bool {
        let mut has_written = false;
        while !self.connection.outgoing().is_empty() {
            let outgoing = self.connection.outgoing();
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let count = outgoing.chunks_vectored(&mut slices);
            match Pin::new(&mut self.stream).poll_write_vectored(context, &slices[..count]) {
                Poll::Ready(Ok(0)) => return self.lose_writer(ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(len)) => {
                    outgoing.advance(len);
                    self.must_flush = true;
                    self.stalled_since = None;
                    has_written = true;
                }
                Poll::Ready(Err(error)) => return self.lose_writer(error),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    return has_written;
                }
            }
        }
        if self.must_flush {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => {
                    self.must_flush = false;
                    self.stalled_since = None;
                }
                Poll::Ready(Err(error)) => return self.lose_writer(error),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                }
            }
        }
        has_written
    }

    fn lose_writer(&mut self, error: io::Error) -> bool {
        self.connection.outgoing().clear();
        self.must_flush = false;
        self.stalled_since = None;
        self.write_error.get_or_insert_with(|| lost(error));
        false
    }

    /// Reads once. Returns whether anything came.
    fn poll_read(&mut self, context: &mut Context<'_>, now: Instant) -> bool {
        self.reserve_input();
        let space = self.input.capacity() - self.input.len();
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(context);
        match read {
            Poll::Ready(Ok(0)) => self.connection.close(CloseReason::Peer),
            Poll::Ready(Ok(len)) => {
                if len == space {
                    self.read_len = (self.read_len * 2).min(READ_LEN_MAX);
                }
                self.connection.handle_input(now.into_std(), &mut self.input);
                return true;
            }
            Poll::Ready(Err(error)) => self.connection.close(lost(error)),
            Poll::Pending => {
                if let Some(reason) = self.write_error.take() {
                    self.connection.close(reason);
                }
            }
        }
        false
    }

    /// Makes room for the rest of the frame that has begun, within bounds. Its length was judged when it came.
    fn reserve_input(&mut self) {
        let missing = self.input.first_chunk().map_or(0, |announced| {
            let frame_len = u32::from_le_bytes(*announced) as usize + 8;
            frame_len.saturating_sub(self.input.len()).min(READ_LEN_MAX)
        });
        let space = self.input.capacity() - self.input.len();
        if space < missing.max(self.read_len / 4) {
            self.input.reserve(missing.max(self.read_len));
        }
    }

    fn handle_timeouts(&mut self, now: Instant) {
        self.connection.handle_timeout(now.into_std());
        let limit = self.shared.limits.write_stall_max;
        if self.stalled_since.is_some_and(|since| now >= since + limit) {
            self.connection.close(CloseReason::WriteStalled { limit });
        }
    }

    fn give_events(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                ConnectionEvent::Ready => {}
                ConnectionEvent::Packet(message) => self.events.push(LinkEvent::Packet(message)),
                ConnectionEvent::Query { id, message } => {
                    let responder = Responder::new(&self.shared, id);
                    self.events.push(LinkEvent::Query(IncomingQuery { message, responder }));
                }
                ConnectionEvent::QueryEnded { query, result } => {
                    let _nobody_waits = query.send(result);
                }
                ConnectionEvent::Closed(reason) => self.ended = Some(reason),
            }
        }
        if !self.events.is_empty() {
            self.shared.give_events(&mut self.events);
        }
    }

    /// Sleeps until the next deadline.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<CloseReason> {
        let stalled = self.stalled_since.map(|since| since + self.shared.limits.write_stall_max);
        let connection = self.connection.poll_timeout().map(Instant::from_std);
        let Some(deadline) = connection.into_iter().chain(stalled).min() else { return Poll::Pending };
        if self.timer.is_elapsed() {
            self.timer.as_mut().reset(deadline);
            self.release_buffers();
        } else if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
        if self.timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Gives back what a burst has left. Called when a deadline has passed, that is every few seconds.
    fn release_buffers(&mut self) {
        self.read_len = READ_LEN_MIN;
        // Their capacity says nothing of what was already read or written off them.
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.connection.outgoing().release();
        self.commands.shrink_to(16);
        self.events.shrink_to(16);
    }
}

impl<S, T> Drop for Driver<S, T> {
    /// A link that never got ready, or whose runtime shut down.
    fn drop(&mut self) {
        self.shared.finish(self.ended.take().unwrap_or(CloseReason::Local("its task was dropped")));
    }
}

/// Deployed peers close TLS without a goodbye, so that a missing one is no error.
fn lost(error: io::Error) -> CloseReason {
    if error.kind() == ErrorKind::UnexpectedEof {
        return CloseReason::Peer;
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => CloseReason::Tls(error.clone()),
        None => CloseReason::Lost(error.kind()),
    }
}

#[cfg(test)]
mod tests;
