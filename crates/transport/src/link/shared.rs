//! Where the application's handles and the link's task meet.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;
use std::{fmt, mem};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use units::Concealed;
use wire::frame::MESSAGE_LEN_MAX;
use wire::{Message, StatusCode};

use super::{LinkEvent, LinkLimits};
use crate::error::{CloseReason, QueryError};
use crate::peer::VerifiedPeer;

/// What a queued item costs besides its bytes, so that empty messages are bounded too.
const ITEM_COST: usize = 64;

/// What the application wants the link's task to do.
pub(crate) enum Command {
    Packet(Message),
    Query { message: Bytes, deadline: Instant, reply: oneshot::Sender<Result<Bytes, QueryError>> },
    Answer { id: i64, message: Bytes },
    Refuse { id: i64, code: StatusCode, message: String },
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, message) = match self {
            Self::Packet(message) => return f.debug_tuple("Packet").field(message).finish(),
            Self::Query { message, .. } => ("Query", message.as_ref()),
            Self::Answer { message, .. } => ("Answer", message.as_ref()),
            Self::Refuse { message, .. } => ("Refuse", message.as_bytes()),
        };
        f.debug_tuple(name).field(&Concealed::new(message)).finish()
    }
}

/// A command that was not queued.
#[derive(Debug)]
pub(crate) enum Refused {
    Full(Command),
    Closed,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: u64,
    pub(crate) peer: VerifiedPeer,
    pub(crate) limits: LinkLimits,
    queues: Mutex<Queues>,
    /// Tells those who wait for room in the outgoing queue.
    room: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    outgoing: VecDeque<Command>,
    /// Cost of all commands that are queued, or taken by the task and not yet encoded.
    outgoing_cost: usize,
    is_vouched_for: bool,
    closing: Option<CloseReason>,
    /// An answer found no room: the link closes. How much waited then.
    answers_unread: Option<usize>,
    /// The task, unless it was woken since it last looked.
    task: Option<Waker>,

    incoming: VecDeque<LinkEvent>,
    incoming_cost: usize,
    /// The task has stopped reading until the application takes events.
    is_reading_paused: bool,
    /// The last event has been queued.
    is_finished: bool,
    application: Option<Waker>,
}

/// What the task finds at each wake-up.
pub(crate) struct Orders {
    pub(crate) is_vouched_for: bool,
    pub(crate) closing: Option<CloseReason>,
    pub(crate) may_read: bool,
    /// Cost of everything that waits, in either direction.
    pub(crate) waiting: usize,
    /// So much waited when an answer found no room.
    pub(crate) answers_unread: Option<usize>,
}

impl Shared {
    pub(crate) fn new(peer: VerifiedPeer, limits: LinkLimits) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self { id, peer, limits, queues: Mutex::default(), room: Notify::new() }
    }

    /// Every change of the queues is complete when its lock is released, so a panic elsewhere does not taint them.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a command if there is room.
    pub(crate) fn push(&self, command: Command) -> Result<(), Refused> {
        let cost = command.cost();
        let mut queues = self.lock();
        if queues.is_closed() {
            return Err(Refused::Closed);
        }
        if queues.outgoing_cost > 0 && queues.outgoing_cost + cost > self.limits.outgoing_bytes_max {
            return Err(Refused::Full(command));
        }
        queues.append(command, cost);
        wake(queues, |queues| &mut queues.task);
        Ok(())
    }

    /// Queues a command that does not ask for room. A peer for which too many bytes wait by then loses its link: it
    /// asks and does not read. False if the link has closed.
    pub(crate) fn push_always(&self, command: Command) -> bool {
        let cost = command.cost();
        let mut queues = self.lock();
        if queues.is_closed() {
            return false;
        }
        // A single message may always wait, whatever its size.
        let limit = self.limits.outgoing_bytes_max.saturating_add(MESSAGE_LEN_MAX + ITEM_COST);
        let is_room = queues.outgoing_cost + cost <= limit;
        if is_room {
            queues.append(command, cost);
        } else {
            queues.answers_unread = Some(queues.outgoing_cost);
        }
        wake(queues, |queues| &mut queues.task);
        is_room
    }

    /// Queues a command once there is room. Fails only when the link has closed.
    pub(crate) async fn push_waiting(&self, mut command: Command) -> Result<(), LinkClosed> {
        let mut room = pin!(self.room.notified());
        loop {
            // Registered before looking, so that no room made in between is missed.
            room.as_mut().enable();
            command = match self.push(command) {
                Ok(()) => return Ok(()),
                Err(Refused::Closed) => return Err(LinkClosed),
                Err(Refused::Full(command)) => command,
            };
            room.as_mut().await;
            room.set(self.room.notified());
        }
    }

    pub(crate) fn queued_len(&self) -> usize {
        self.lock().outgoing_cost
    }

    /// Returns once no more than `queued_len` is queued, or the link has closed.
    pub(crate) async fn room(&self, queued_len: usize) {
        let mut room = pin!(self.room.notified());
        loop {
            // Registered before looking, so that no room made in between is missed.
            room.as_mut().enable();
            let has_room = {
                let queues = self.lock();
                queues.is_closed() || queues.outgoing_cost <= queued_len
            };
            if has_room {
                return;
            }
            room.as_mut().await;
            room.set(self.room.notified());
        }
    }

    pub(crate) fn handshake_complete(&self) {
        let mut queues = self.lock();
        queues.is_vouched_for = true;
        wake(queues, |queues| &mut queues.task);
    }

    pub(crate) fn close(&self, reason: CloseReason) {
        let mut queues = self.lock();
        queues.closing.get_or_insert(reason);
        wake(queues, |queues| &mut queues.task);
        self.room.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed()
    }

    /// For the application: moves all waiting events to `taken`. False if there is none yet; then the waker is kept.
    pub(crate) fn take_events(&self, taken: &mut VecDeque<LinkEvent>, waker: &Waker) -> bool {
        let mut queues = self.lock();
        if queues.incoming.is_empty() {
            if !queues.is_finished {
                keep(&mut queues.application, waker);
            }
            return queues.is_finished;
        }
        mem::swap(&mut queues.incoming, taken);
        queues.incoming_cost = 0;
        if mem::take(&mut queues.is_reading_paused) {
            wake(queues, |queues| &mut queues.task);
        }
        true
    }

    /// For the task: moves all queued commands to `taken` if that is empty, and learns that commands of `encoded_cost`
    /// are gone. The waker is kept for the next change.
    pub(crate) fn take_commands(
        &self,
        taken: &mut VecDeque<Command>,
        encoded_cost: usize,
        waker: &Waker,
    ) -> Orders {
        let mut queues = self.lock();
        queues.outgoing_cost -= encoded_cost;
        if taken.is_empty() {
            mem::swap(&mut queues.outgoing, taken);
        }
        keep(&mut queues.task, waker);
        queues.is_reading_paused = queues.incoming_cost >= self.limits.incoming_bytes_max;
        let orders = Orders {
            is_vouched_for: queues.is_vouched_for,
            closing: queues.closing.clone(),
            may_read: !queues.is_reading_paused,
            waiting: queues.incoming_cost + queues.outgoing_cost,
            answers_unread: queues.answers_unread,
        };
        drop(queues);
        if encoded_cost > 0 {
            self.room.notify_waiters();
        }
        orders
    }

    /// For the task: hands events to the application.
    pub(crate) fn give_events(&self, events: &mut Vec<LinkEvent>) {
        let mut queues = self.lock();
        queues.incoming_cost += events.iter().map(LinkEvent::cost).sum::<usize>();
        queues.incoming.extend(events.drain(..));
        wake(queues, |queues| &mut queues.application);
    }

    /// For the task: the last event, unless there was one. No command is taken from now on.
    pub(crate) fn finish(&self, reason: CloseReason) {
        let mut queues = self.lock();
        if mem::replace(&mut queues.is_finished, true) {
            return;
        }
        queues.incoming.push_back(LinkEvent::Closed(reason));
        // Queries among them learn of the end through their dropped reply.
        let _abandoned = mem::take(&mut queues.outgoing);
        wake(queues, |queues| &mut queues.application);
        self.room.notify_waiters();
    }
}

/// The link has closed.
#[derive(Debug)]
pub(crate) struct LinkClosed;

impl Queues {
    fn is_closed(&self) -> bool {
        self.closing.is_some() || self.answers_unread.is_some() || self.is_finished
    }

    fn append(&mut self, command: Command, cost: usize) {
        self.outgoing_cost += cost;
        self.outgoing.push_back(command);
    }
}

impl Command {
    pub(crate) fn cost(&self) -> usize {
        ITEM_COST
            + match self {
                Self::Packet(message) => message.len(),
                Self::Query { message, .. } | Self::Answer { message, .. } => message.len(),
                Self::Refuse { message, .. } => message.len(),
            }
    }
}

impl LinkEvent {
    fn cost(&self) -> usize {
        ITEM_COST
            + match self {
                Self::Packet(message) => message.len(),
                Self::Query(query) => query.message.len(),
                Self::Closed(_) => 0,
            }
    }
}

/// Wakes outside the lock: the woken one wants it next.
fn wake(mut queues: MutexGuard<'_, Queues>, waker: impl FnOnce(&mut Queues) -> &mut Option<Waker>) {
    let waker = waker(&mut queues).take();
    drop(queues);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn keep(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(kept) => kept.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}
