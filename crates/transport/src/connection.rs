//! One connection as a value: bytes and instants go in, bytes and events come out. No socket, no clock.
//!
//! After any `handle_*` call, and after any of the calls that send, the caller writes what
//! [`Connection::outgoing`] holds, takes events until [`Connection::poll_event`] returns `None`, and wakes up at
//! [`Connection::poll_timeout`] at the latest.
//!
//! Invariants:
//! - The first frame each way is the hello (`tcp.connect`, `tcp.connected`); nothing else goes out or is accepted
//!   before it.
//! - Every query of ours ends exactly once: answered, refused, timed out, or failed because the connection closed.
//! - Every query of the peer is answered at most once, and only [`QUERIES_OPEN_MAX`] may be open.
//! - [`ConnectionEvent::Closed`] is the last event. Whatever the peer sends, the worst that follows is this event.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use ahash::{HashMap, HashSet};
use bytes::{Bytes, BytesMut};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use units::Concealed;
use wire::frame::{FrameReader, FrameWriter, MESSAGE_LEN_MAX, Outgoing, PAYLOAD_LEN_MAX};
use wire::tcp::Packet;
use wire::{Message, StatusCode, TlStr};

use crate::error::{CloseReason, QueryError, SendError};

/// Largest payload in bytes that the accepting side takes until its application vouches for the peer with
/// [`Connection::handshake_complete`]. The messages of a handshake take a few hundred bytes.
pub const UNKNOWN_PEER_PAYLOAD_LEN_MAX: usize = 16 * 1024;

/// How long a frame may take beside what [`FRAME_BYTES_PER_S_MIN`] allows.
pub const FRAME_GRACE: Duration = Duration::from_secs(10);
/// A frame that has begun must come at least at this rate, in bytes per second: every byte buys its share of time,
/// so that whoever holds our memory goes on sending. Deployed peers have no such rule, and no link too slow for it.
pub const FRAME_BYTES_PER_S_MIN: u64 = 16 * 1024;

/// Queries of the peer that may be open at once. Deployed peers have a handful.
pub const QUERIES_OPEN_MAX: usize = 256;

/// When a sign of life is asked for, and when a silent peer is given up.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// After the last byte of the peer.
    ping_after: Duration,
    /// The same on a quiet link, where the last byte was of a sign of life: ten thousand workers that wait for work
    /// need not say all the time that they live.
    quiet_ping_after: Duration,
    /// After the last byte.
    silence_max: Duration,
    quiet_silence_max: Duration,
}

/// Deployed clients ask after 10 s, however quiet the link is, and give up after 20 s.
const CONNECTING_SIDE: Patience = Patience {
    ping_after: Duration::from_secs(10),
    quiet_ping_after: Duration::from_secs(30),
    silence_max: Duration::from_secs(20),
    quiet_silence_max: Duration::from_secs(40),
};

/// Deployed servers give up after 60 s and never ask, but deployed clients answer. Here it is asked once the other side
/// should have: that finds peers that vanished without a word.
const ACCEPTING_SIDE: Patience = Patience {
    ping_after: Duration::from_secs(25),
    quiet_ping_after: Duration::from_secs(45),
    silence_max: Duration::from_secs(60),
    quiet_silence_max: Duration::from_secs(60),
};

/// The payload of a hello: constructor id and connection id.
const HELLO_LEN: usize = 12;

/// Pings answered while earlier bytes still wait to be written. Whoever sends more does not read the answers.
const PONGS_UNSENT_MAX: usize = 256;

/// Bytes kept of the message in a refusal; it ends up in logs and error answers.
const REFUSAL_LEN_MAX: usize = 1024;

/// The state machine of one connection, either side. `Q` is what the caller remembers an open query by.
pub struct Connection<Q> {
    state: State,
    keep_alive: KeepAlive,
    reader: FrameReader,
    writer: FrameWriter,
    outgoing: Outgoing,
    pongs_unsent: usize,
    events: VecDeque<ConnectionEvent<Q>>,
    queries: HashMap<i64, OpenQuery<Q>>,
    query_deadlines: BTreeSet<(Instant, i64)>,
    unanswered: HashSet<i64>,
    /// The frame whose first bytes are here and whose last are not.
    begun: Option<BegunFrame>,
    random: SmallRng,
}

/// Time runs for a frame from its first byte on, and again whenever the caller had stopped reading.
#[derive(Clone, Copy, Debug)]
struct BegunFrame {
    since: Instant,
    /// Bytes that were here at `since`.
    received_before: usize,
    received: usize,
}

impl BegunFrame {
    fn deadline(&self) -> Instant {
        let bought = (self.received - self.received_before) as u64 * 1000 / FRAME_BYTES_PER_S_MIN;
        self.since + FRAME_GRACE + Duration::from_millis(bought)
    }
}

/// What happened. `Q` as for [`Connection`].
pub enum ConnectionEvent<Q> {
    /// The hello is done: messages may go out.
    Ready,
    /// A one-way message.
    Packet(Bytes),
    /// The peer wants an answer: [`Connection::answer`] or [`Connection::refuse`], once.
    Query {
        /// The peer's name for the query.
        id: i64,
        /// What it asks.
        message: Bytes,
    },
    /// A query of ours has ended.
    QueryEnded {
        /// Which one.
        query: Q,
        /// How.
        result: Result<Bytes, QueryError>,
    },
    /// Nothing more will happen. Bytes that still wait in [`Connection::outgoing`] may be written.
    Closed(CloseReason),
}

impl<Q: fmt::Debug> fmt::Debug for ConnectionEvent<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("Ready"),
            Self::Packet(message) => f.debug_tuple("Packet").field(&Concealed::new(message)).finish(),
            Self::Query { id, message } => {
                f.debug_struct("Query").field("id", id).field("message", &Concealed::new(message)).finish()
            }
            Self::QueryEnded { query, result } => {
                let result = result.as_ref().map(|message| Concealed::new(message));
                f.debug_struct("QueryEnded").field("query", query).field("result", &result).finish()
            }
            Self::Closed(reason) => f.debug_tuple("Closed").field(reason).finish(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    ExpectConnect,
    ExpectConnected { id: i64 },
    Ready,
    Closed,
}

struct OpenQuery<Q> {
    deadline: Instant,
    query: Q,
}

#[derive(Debug)]
struct KeepAlive {
    patience: Patience,
    heard_at: Instant,
    /// The last frame was a sign of life, and no message.
    is_quiet: bool,
    has_pinged: bool,
}

impl<Q> Connection<Q> {
    /// The side that opened the connection. Its hello is ready to go out. `seed` makes its ids; any random number.
    #[must_use]
    pub fn connecting(now: Instant, seed: u64) -> Self {
        let keep_alive = KeepAlive::new(now, CONNECTING_SIDE);
        let mut connection = Self::new(State::ExpectConnect, keep_alive, seed);
        let id = connection.random_id();
        connection.state = State::ExpectConnected { id };
        connection.write(&Packet::Connect { id });
        connection
    }

    /// The side that accepted the connection: it waits for the peer's hello.
    #[must_use]
    pub fn accepting(now: Instant, seed: u64) -> Self {
        let keep_alive = KeepAlive::new(now, ACCEPTING_SIDE);
        Self::new(State::ExpectConnect, keep_alive, seed)
    }

    fn new(state: State, keep_alive: KeepAlive, seed: u64) -> Self {
        Self {
            state,
            keep_alive,
            reader: FrameReader::new(HELLO_LEN),
            writer: FrameWriter::new(),
            outgoing: Outgoing::default(),
            pongs_unsent: 0,
            events: VecDeque::new(),
            queries: HashMap::default(),
            query_deadlines: BTreeSet::new(),
            unanswered: HashSet::default(),
            begun: None,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Whether messages may go out.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// The application vouches for the peer: frames may have their full size from now on. Matters on the accepting
    /// side only; the connecting side has chosen its peer.
    pub fn handshake_complete(&mut self) {
        if self.is_ready() {
            self.reader.set_payload_len_max(PAYLOAD_LEN_MAX);
        }
    }

    /// Takes whole frames from the front of `input`; what remains is the beginning of a frame, to be continued.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) {
        self.keep_alive.heard(now);
        while self.state != State::Closed {
            let handled = match self.reader.next_frame(input) {
                Ok(Some(payload)) => {
                    self.begun = None;
                    self.handle_payload(&payload)
                }
                Ok(None) => return self.note_begun_frame(now, input.len()),
                Err(error) => Err(CloseReason::Frame(error)),
            };
            if let Err(reason) = handled {
                self.close(reason);
            }
        }
        input.clear();
    }

    /// The caller does not read at the moment, so the peer's silence is no sign of its death, and its frame no slower.
    pub fn handle_input_paused(&mut self, now: Instant) {
        self.keep_alive.heard(now);
        if let Some(begun) = &mut self.begun {
            *begun = BegunFrame { since: now, received_before: begun.received, ..*begun };
        }
    }

    fn note_begun_frame(&mut self, now: Instant, received: usize) {
        self.begun = match self.begun {
            _ if received == 0 => None,
            Some(begun) => Some(BegunFrame { received, ..begun }),
            None => Some(BegunFrame { since: now, received_before: 0, received }),
        };
    }

    /// To be called at [`Connection::poll_timeout`]; harmless at any other time.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, id)) = self.query_deadlines.first()
            && deadline <= now
        {
            self.end_query(id, Err(QueryError::Timeout));
        }
        if self.state == State::Closed {
            return;
        }
        if let Some(begun) = self.begun.filter(|begun| begun.deadline() <= now) {
            self.close(CloseReason::FrameTooSlow { received: begun.received });
        } else if now >= self.keep_alive.silent_at() {
            self.close(CloseReason::Silence { limit: self.keep_alive.silence_max() });
        } else if self.is_ready() && self.keep_alive.is_ping_due(now) {
            self.keep_alive.has_pinged = true;
            let id = self.random_id();
            self.write(&Packet::Ping { id });
        }
    }

    /// When [`Connection::handle_timeout`] wants to be called; later calls of other methods may change it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let keep_alive = match self.state {
            State::Closed => return None,
            State::Ready => self.keep_alive.next_at(),
            State::ExpectConnect | State::ExpectConnected { .. } => self.keep_alive.silent_at(),
        };
        let query = self.query_deadlines.first().map(|&(deadline, _)| deadline);
        let frame = self.begun.map(|begun| begun.deadline());
        [query, frame].into_iter().flatten().chain([keep_alive]).min()
    }

    /// The next event, in the order in which things happened.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent<Q>> {
        self.events.pop_front()
    }

    /// Frames that are ready to go out. The caller takes written bytes off the front.
    pub fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// Sends a one-way message.
    ///
    /// # Errors
    /// [`SendError::TooLarge`]; [`SendError::Closed`] before the hello and after the end.
    pub fn send(&mut self, message: &Message) -> Result<(), SendError> {
        if !self.is_ready() {
            return Err(SendError::Closed);
        }
        if message.len() > MESSAGE_LEN_MAX {
            return Err(SendError::TooLarge { len: message.len() });
        }
        self.writer.write_message(message, &mut self.outgoing).expect("its length was checked");
        Ok(())
    }

    /// Asks the peer. The query ends with [`ConnectionEvent::QueryEnded`], at `deadline` at the latest.
    pub fn query(&mut self, message: &[u8], deadline: Instant, query: Q) {
        let refused = if !self.is_ready() {
            QueryError::Closed
        } else if message.len() > MESSAGE_LEN_MAX {
            QueryError::TooLarge { len: message.len() }
        } else {
            let id = self.unused_query_id();
            self.queries.insert(id, OpenQuery { deadline, query });
            self.query_deadlines.insert((deadline, id));
            self.write(&Packet::Query { id, data: message });
            return;
        };
        self.events.push_back(ConnectionEvent::QueryEnded { query, result: Err(refused) });
    }

    /// Answers a query of the peer. Nothing happens when it was answered before or the connection has closed.
    pub fn answer(&mut self, id: i64, message: &[u8]) {
        if message.len() > MESSAGE_LEN_MAX {
            return self.refuse(id, StatusCode::FAILURE, "the answer exceeds the largest frame");
        }
        if self.unanswered.remove(&id) {
            self.write(&Packet::QueryAnswer { id, data: message });
        }
    }

    /// Refuses a query of the peer, under the same rule as [`Connection::answer`].
    pub fn refuse(&mut self, id: i64, code: StatusCode, message: &str) {
        if self.unanswered.remove(&id) {
            let message = TlStr::from(&message[..message.floor_char_boundary(REFUSAL_LEN_MAX)]);
            self.write(&Packet::QueryError { id, code: code.into(), message });
        }
    }

    /// Ends the connection: open queries fail at once. Does nothing when it has ended before.
    pub fn close(&mut self, reason: CloseReason) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.query_deadlines.clear();
        self.unanswered.clear();
        self.begun = None;
        for (_id, open) in self.queries.drain() {
            let result = Err(QueryError::Closed);
            self.events.push_back(ConnectionEvent::QueryEnded { query: open.query, result });
        }
        self.events.push_back(ConnectionEvent::Closed(reason));
    }

    fn handle_payload(&mut self, payload: &Bytes) -> Result<(), CloseReason> {
        let packet = wire::decode::<Packet<'_>>(payload).map_err(CloseReason::Packet)?;
        self.keep_alive.is_quiet = matches!(packet, Packet::Ping { .. } | Packet::Pong { .. });
        match (self.state, packet) {
            (State::Closed, _) => {}
            (State::ExpectConnect, Packet::Connect { id }) => {
                self.write(&Packet::Connected { id });
                self.become_ready(UNKNOWN_PEER_PAYLOAD_LEN_MAX);
            }
            (State::ExpectConnect, _) => return Err(CloseReason::NoHello { expected: "tcp.connect" }),
            (State::ExpectConnected { id }, Packet::Connected { id: found }) => {
                // Deployed clients do not compare the ids; all deployed servers echo ours.
                if id != found {
                    return Err(CloseReason::HelloMismatch);
                }
                self.become_ready(PAYLOAD_LEN_MAX);
            }
            (State::ExpectConnected { .. }, _) => {
                return Err(CloseReason::NoHello { expected: "tcp.connected" });
            }
            // Deployed peers ignore a second hello.
            (State::Ready, Packet::Connect { .. } | Packet::Connected { .. } | Packet::Pong { .. }) => {}
            (State::Ready, Packet::Ping { id }) => self.pong(id),
            (State::Ready, Packet::Packet { data }) => {
                self.events.push_back(ConnectionEvent::Packet(payload.slice_ref(data)));
            }
            (State::Ready, Packet::Query { id, data }) => {
                if self.unanswered.len() == QUERIES_OPEN_MAX {
                    return Err(CloseReason::TooManyQueries { max: QUERIES_OPEN_MAX });
                }
                if !self.unanswered.insert(id) {
                    return Err(CloseReason::DuplicateQuery);
                }
                let message = payload.slice_ref(data);
                self.events.push_back(ConnectionEvent::Query { id, message });
            }
            (State::Ready, Packet::QueryAnswer { id, data }) => {
                self.end_query(id, Ok(payload.slice_ref(data)));
            }
            (State::Ready, Packet::QueryError { id, code, message }) => {
                let message = message.to_string_lossy();
                let message = message[..message.floor_char_boundary(REFUSAL_LEN_MAX)].to_owned();
                self.end_query(id, Err(QueryError::Refused { code: StatusCode::from(code), message }));
            }
        }
        Ok(())
    }

    fn become_ready(&mut self, payload_len_max: usize) {
        self.state = State::Ready;
        self.reader.set_payload_len_max(payload_len_max);
        self.events.push_back(ConnectionEvent::Ready);
    }

    fn pong(&mut self, id: i64) {
        if self.outgoing.is_empty() {
            self.pongs_unsent = 0;
        }
        if self.pongs_unsent < PONGS_UNSENT_MAX {
            self.pongs_unsent += 1;
            self.write(&Packet::Pong { id });
        }
    }

    /// Answers to unknown ids are ignored: the query may just have timed out.
    fn end_query(&mut self, id: i64, result: Result<Bytes, QueryError>) {
        if let Some(OpenQuery { deadline, query }) = self.queries.remove(&id) {
            self.query_deadlines.remove(&(deadline, id));
            self.events.push_back(ConnectionEvent::QueryEnded { query, result });
        }
    }

    fn unused_query_id(&mut self) -> i64 {
        loop {
            let id = self.random_id();
            if !self.queries.contains_key(&id) {
                return id;
            }
        }
    }

    fn random_id(&mut self) -> i64 {
        self.random.next_u64().cast_signed()
    }

    fn write(&mut self, packet: &Packet<'_>) {
        self.writer.write(packet, &mut self.outgoing).expect("callers have checked the length of messages");
    }
}

impl KeepAlive {
    fn new(now: Instant, patience: Patience) -> Self {
        Self { patience, heard_at: now, is_quiet: false, has_pinged: false }
    }

    fn ping_after(&self) -> Duration {
        if self.is_quiet { self.patience.quiet_ping_after } else { self.patience.ping_after }
    }

    fn silence_max(&self) -> Duration {
        if self.is_quiet { self.patience.quiet_silence_max } else { self.patience.silence_max }
    }

    fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.has_pinged = false;
    }

    fn silent_at(&self) -> Instant {
        self.heard_at + self.silence_max()
    }

    fn is_ping_due(&self, now: Instant) -> bool {
        !self.has_pinged && now >= self.heard_at + self.ping_after()
    }

    fn next_at(&self) -> Instant {
        if self.has_pinged { self.silent_at() } else { self.heard_at + self.ping_after() }
    }
}

#[cfg(test)]
mod tests;
