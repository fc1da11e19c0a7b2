//! What a proxy decides: whom it admits, which worker runs a request, what it costs, who hears about it.
//!
//! The core is a value to feed. Every method takes an event and the time, changes the state, and leaves
//! [`Action`]s behind that the shell takes with [`Core::poll_action`] and carries out in order. Links and queries
//! are numbers that the shell hands out. There is no socket, no clock, no task and no randomness but the seed.
//!
//! Invariants:
//! - Every query gets exactly one answer or refusal, every request of a connected client exactly one end, unless the
//!   client gives it up itself.
//! - A reservation ends exactly once, on every path: answered, failed, timed out, worker lost.
//! - A malformed message closes the link that it came on and touches nothing else.
//! - What peers can make us remember is bounded: accounts by [`Limits::accounts_max`], running requests by
//!   [`Limits::running_max`], those of one link by [`Limits::running_per_client_max`] and
//!   [`Limits::running_per_worker_max`], what each stream has under way by its windows ([`transport::flow`]).
//! - Nothing here holds or prints a prompt or an answer.

mod accounts;
mod admission;
mod agreement;
mod answer;
mod cancel;
mod client_link;
mod delivery;
mod listing;
mod moving;
mod newcomers;
mod on_chain;
mod pace;
mod parts;
mod relay;
mod running;
mod shares;
mod snapshot;
mod terms;
mod upload;
mod waiting;
mod worker_link;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use ahash::HashMap;
use attest::Attestation;
use bytes::Bytes;
use ledger::Ledger;
use ledger::journal::CommitNumber;
use market::Market;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use units::{AdjustedTokens, AdjustedUsage, Capabilities, Concealed, RequestId};
use wire::{Message, StatusCode, peer};

use accounts::Accounts;
use answer::Failure;
use client_link::ClientLink;
use listing::Lists;
use moving::Kept;
use newcomers::Newcomers;
use on_chain::OnChain;
use running::Running;
use shares::Shares;
use waiting::Waiting;
use worker_link::WorkerLink;

use crate::settlement;

pub use running::RequestKey;
pub use snapshot::{ClientSnapshot, ConnectionSnapshot, Snapshot, WorkerSnapshot};
pub use terms::{Terms, TermsError};

/// A connection, as the shell numbers it. Numbers are not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A query that waits for its answer, as the shell numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueryToken(pub u64);

/// The time of an event by both clocks: spans are measured with the first, messages carry the second.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines and durations.
    pub instant: Instant,
    /// Time since 1970-01-01 00:00:00 UTC.
    pub unix: Duration,
}

/// What a handshake has proved about a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerFacts {
    /// What its evidence came to, if it was asked for.
    pub attestation: Option<Attestation>,
}

/// What the shell has to do, in order.
#[derive(Clone, PartialEq)]
pub enum Action {
    /// Answer a query.
    Answer {
        /// Which one.
        query: QueryToken,
        /// A boxed object.
        message: Bytes,
    },
    /// Refuse a query.
    Refuse {
        /// Which one.
        query: QueryToken,
        /// Why, for programs.
        code: StatusCode,
        /// Why, for people.
        message: Cow<'static, str>,
    },
    /// Send a one-way message.
    Send {
        /// Where to.
        link: LinkId,
        /// A boxed object.
        message: Message,
        /// What follows if the link has no room for it.
        otherwise: Undelivered,
    },
    /// The peer completed its handshake: it may send large messages from now on. Stands before the answer that
    /// tells the peer so.
    Vouch {
        /// Which link.
        link: LinkId,
    },
    /// Close a link after everything that was sent on it; the core has forgotten it already.
    Close {
        /// Which one.
        link: LinkId,
        /// Why.
        reason: &'static str,
        /// Whether the peer did something wrong.
        is_fault: bool,
    },
    /// Tell [`Core::looked`] how much is queued on a link.
    Look {
        /// Which one.
        link: LinkId,
    },
    /// Call [`Core::has_room`] once no more than so much is queued on a link.
    AwaitRoom {
        /// Which one.
        link: LinkId,
        /// In bytes.
        queued_len: usize,
    },
    /// Note for logs and statistics that a request has ended.
    Report(Report),
    /// Have something done on the chain that is followed.
    Settle(settlement::Action),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { query, message } => f
                .debug_struct("Answer")
                .field("query", query)
                .field("message", &Concealed::new(message))
                .finish(),
            Self::Refuse { query, code, message } => {
                let mut refuse = f.debug_struct("Refuse");
                refuse.field("query", query).field("code", code).field("message", message).finish()
            }
            Self::Send { link, message, otherwise } => {
                let mut send = f.debug_struct("Send");
                send.field("link", link).field("message", message);
                send.field("otherwise", otherwise).finish()
            }
            Self::Vouch { link } => f.debug_struct("Vouch").field("link", link).finish(),
            Self::Close { link, reason, is_fault } => {
                let mut close = f.debug_struct("Close");
                close.field("link", link).field("reason", reason).field("is_fault", is_fault).finish()
            }
            Self::Look { link } => f.debug_struct("Look").field("link", link).finish(),
            Self::AwaitRoom { link, queued_len } => {
                f.debug_struct("AwaitRoom").field("link", link).field("queued_len", queued_len).finish()
            }
            Self::Report(report) => f.debug_tuple("Report").field(report).finish(),
            Self::Settle(action) => f.debug_tuple("Settle").field(action).finish(),
        }
    }
}

/// What follows when a link has no room for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// The link closes: what comes later makes no sense without this message.
    CloseLink,
    /// [`Core::not_forwarded`]. A worker's link is shared: what one client asks never takes it from the others.
    FailRequest(RequestKey),
    /// Nothing: a later message says the same.
    Skip,
    /// It is queued all the same: running requests bound the number of such short messages.
    Never,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered completely.
    Success,
    /// Refused before any worker heard of it.
    Rejected,
    /// The worker gave up.
    WorkerFailed,
    /// The worker's connection ended.
    WorkerLost,
    /// The worker broke the protocol.
    WorkerMisbehaved,
    /// No complete answer in time.
    Timeout,
    /// The client gave it up.
    Cancelled,
    /// This proxy shut down.
    ShutDown,
}

/// One ended request.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The client's name for it.
    pub request_id: RequestId,
    /// How it ended.
    pub outcome: Outcome,
    /// The code that the client got; 0 for success.
    pub code: i32,
    /// The worker link that ran it; `None` for a rejected request.
    pub worker: Option<LinkId>,
    /// From its arrival to its end.
    pub duration: Duration,
    /// How often it went on to another worker because one had failed.
    pub moves: usize,
    /// Length of the request's HTTP body.
    pub bytes_received: usize,
    /// Length of the answer's HTTP body, as far as it came.
    pub bytes_sent: usize,
    /// What the client was charged.
    pub charged: AdjustedUsage,
    /// What the worker counted beyond the hold.
    pub capped: AdjustedTokens,
}

/// Accounts of each side: two million clients take about 400 MiB.
pub(crate) const ACCOUNTS_MAX: usize = 2_000_000;

/// Bytes that may wait for the journal before new requests are refused: about 100,000 charges. Those that run
/// already add at most as much again.
const RECORDS_LEN_MAX: usize = 8 << 20;

/// How much peers may make the core remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients with an account, and workers with one. Default: 2,000,000 each.
    pub accounts_max: usize,
    /// Running requests of one client link. Default: 4096.
    pub running_per_client_max: usize,
    /// Running requests of one worker link; larger offers are cut to it. Default: 4096.
    pub running_per_worker_max: u32,
    /// Running requests of all links: one may run on when its client leaves, so that the bound of a link is none for
    /// whoever comes again. Default: 100,000.
    pub running_max: usize,
    /// Bytes of requests that are kept until their answers begin, so that another worker can try if the first one fails;
    /// requests beyond are not moved. Default: 256 MiB.
    pub kept_len_max: usize,
    /// Bytes of long queries that are collected while they come, for workers which want them whole and for another try.
    /// Default: 256 MiB.
    pub collected_len_max: usize,
    /// Longest time that a request may run; longer wishes are cut to it. Default: one hour.
    pub timeout_max: Duration,
    /// Time from a link's beginning to the end of its handshake. Default: 30 s.
    pub handshake_max: Duration,
    /// Time that a client has to register its link on the chain. Default: 300 s.
    pub registration_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            accounts_max: ACCOUNTS_MAX,
            running_per_client_max: 4096,
            running_per_worker_max: 4096,
            running_max: 100_000,
            kept_len_max: 256 << 20,
            collected_len_max: 256 << 20,
            timeout_max: Duration::from_secs(3600),
            handshake_max: Duration::from_secs(30),
            registration_max: Duration::from_secs(300),
        }
    }
}

/// The deciding part of a proxy.
#[derive(Debug)]
pub struct Core {
    terms: Terms,
    limits: Limits,
    ledger: Ledger,
    market: Market,
    accounts: Accounts,
    clients: HashMap<LinkId, ClientLink>,
    workers: HashMap<LinkId, WorkerLink>,
    newcomers: Newcomers,
    running: Running,
    /// Ended requests whose clients have not taken the whole answer.
    tails: usize,
    kept: Kept,
    waiting: Waiting,
    shares: Shares,
    /// Bytes of the queries that are being collected, at their full length.
    collected_len: usize,
    lists: Lists,
    random: StdRng,
    /// Keeps our names for requests unpredictable to clients and workers.
    hop_secret: [u8; 32],
    enabled: bool,
    draining: bool,
    /// A link that chose version 3 with the query being answered, and hears after it what we can do.
    greeted: Option<LinkId>,
    /// The journal takes nothing at the moment: no new requests, lest charges pile up that nobody writes down.
    is_journal_stuck: bool,
    on_chain: Option<OnChain>,
    outbox: VecDeque<Action>,
}

/// A refused handshake step or query.
#[derive(Debug)]
struct Refusal {
    code: StatusCode,
    message: Cow<'static, str>,
    /// The peer cannot go on after this.
    closes: bool,
}

impl Refusal {
    fn closing(code: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), closes: true }
    }

    fn harmless(code: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), closes: false }
    }
}

impl Core {
    /// A proxy without links and with empty books. `seed` is the source of all its randomness: payment numbers and
    /// worker choice.
    #[must_use]
    pub fn new(terms: Terms, limits: Limits, seed: [u8; 32]) -> Self {
        let books = Ledger::new(*terms.prices());
        Self::resume(terms, books, limits, seed)
    }

    /// A proxy without links that goes on with recovered books of the contract in `terms`.
    #[must_use]
    pub fn resume(terms: Terms, books: Ledger, limits: Limits, seed: [u8; 32]) -> Self {
        let mut random = StdRng::from_seed(seed);
        let mut hop_secret = [0; 32];
        random.fill_bytes(&mut hop_secret);
        Self {
            ledger: books,
            terms,
            limits,
            market: Market::new(random.next_u64()),
            accounts: Accounts::default(),
            clients: HashMap::default(),
            workers: HashMap::default(),
            newcomers: Newcomers::default(),
            running: Running::default(),
            tails: 0,
            kept: Kept::default(),
            waiting: Waiting::default(),
            shares: Shares::default(),
            collected_len: 0,
            lists: Lists::default(),
            random,
            hop_secret,
            enabled: true,
            draining: false,
            greeted: None,
            is_journal_stuck: false,
            on_chain: None,
            outbox: VecDeque::new(),
        }
    }

    /// A link on the listener for clients is ready.
    pub fn client_opened(&mut self, link: LinkId, now: Now) {
        self.clients.insert(link, ClientLink::new());
        self.newcomers.add(link, now.instant + self.limits.handshake_max);
    }

    /// A link on the listener for workers is ready.
    pub fn worker_opened(&mut self, link: LinkId, peer: PeerFacts, now: Now) {
        self.workers.insert(link, WorkerLink::new(peer));
        self.newcomers.add(link, now.instant + self.limits.handshake_max);
    }

    /// A link has ended.
    pub fn closed(&mut self, link: LinkId, now: Now) {
        self.newcomers.remove(link);
        self.forget_client_link(link, now);
        self.forget_worker_link(link, now);
    }

    /// A query has arrived. It is answered or refused at once, but for a client that the chain has to vouch for first.
    pub fn query(&mut self, link: LinkId, query: QueryToken, message: &[u8], now: Now) {
        let result = if self.clients.contains_key(&link) {
            self.answer_client(link, query, message, now)
        } else if self.workers.contains_key(&link) {
            self.answer_worker(link, message, now).map(Some)
        } else {
            Err(Refusal::harmless(StatusCode::CANCELLED, "the link is closing"))
        };
        self.reply(link, query, result, now);
    }

    /// Answers a query, unless it has to wait.
    fn reply(&mut self, link: LinkId, query: QueryToken, result: Result<Option<Bytes>, Refusal>, now: Now) {
        match result {
            Ok(None) => {}
            Ok(Some(message)) => {
                self.outbox.push_back(Action::Answer { query, message });
                if let Some(link) = self.greeted.take() {
                    let capabilities = Capabilities::OURS.to_wire();
                    let message = wire::encode(&peer::Capabilities { capabilities });
                    self.send(link, message, Undelivered::CloseLink);
                }
            }
            Err(Refusal { code, message, closes }) => {
                self.outbox.push_back(Action::Refuse { query, code, message });
                if closes {
                    self.close(link, "a query was refused", now);
                }
            }
        }
    }

    /// A one-way message has arrived.
    pub fn packet(&mut self, link: LinkId, message: &Bytes, now: Now) {
        let result = if self.clients.contains_key(&link) {
            self.packet_from_client(link, message, now)
        } else if self.workers.contains_key(&link) {
            self.packet_from_worker(link, message, now)
        } else {
            Ok(())
        };
        if let Err(reason) = result {
            self.close(link, reason, now);
        }
    }

    /// Gives up requests and handshakes whose time is over. To be called when [`Self::poll_timeout`] has passed; earlier calls
    /// do no harm.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(request) = self.running.due(now.instant) {
            self.time_out(request, now);
        }
        while let Some(request) = self.waiting.due(now.instant) {
            self.waited_in_vain(request, now);
        }
        while let Some(link) = self.newcomers.due(now.instant) {
            self.close(link, "the handshake was not completed in time", now);
        }
        if self.on_chain.is_some() {
            self.advance_chain(now);
        }
    }

    /// When [`Self::handle_timeout`] has something to do. Changes with every event.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_chain = self.settlement().and_then(settlement::Settlement::poll_timeout);
        let of_peers =
            [self.running.next_deadline(), self.waiting.next_deadline(), self.newcomers.next_deadline()];
        let deadlines = of_peers.into_iter().chain([of_chain]);
        deadlines.flatten().min()
    }

    /// The peer completed its handshake. Stands before the answer that tells it so.
    fn vouch(&mut self, link: LinkId) {
        self.newcomers.remove(link);
        self.outbox.push_back(Action::Vouch { link });
    }

    /// The next thing to do. To be called until it returns `None`, after every other method.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.outbox.pop_front()
    }

    /// Lets the proxy take part, or refuses new links and requests. Running requests go on either way.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
        if !enabled {
            self.clear_rooms(&proxy_disabled());
        }
    }

    /// Refuses new links and requests for good, so that [`Self::running_len`] falls to zero.
    /// Peers of version 3 hear of it, so that they look for another proxy before a request fails.
    pub fn begin_drain(&mut self) {
        self.draining = true;
        self.clear_rooms(&proxy_disabled());
        for link in self.streaming_links() {
            self.send(link, wire::encode(&peer::GoingAway {}), Undelivered::Skip);
        }
    }

    /// Gives up every running request and closes every link.
    pub fn shut_down(&mut self, now: Now) {
        self.draining = true;
        self.end_everything("the proxy shuts down", now);
    }

    /// Works on newer terms of the same contract from now on: only lists and versions changed. Workers that the
    /// lists no longer allow lose their links.
    pub fn adopt(&mut self, terms: Terms, now: Now) {
        assert!(self.terms.shares_contracts(&terms), "another contract has other books: move_to takes them");
        self.terms = terms;
        for link in self.disallowed_workers() {
            self.dismiss(link, "the root configuration no longer allows this worker", now);
        }
    }

    /// Works under another contract from now on, because the params of the root configuration changed. All requests
    /// end and all links close. Returns the books of the contract before, whose last records are still to be taken.
    #[must_use = "the last charges under the old contract have to be written down"]
    pub fn move_to(&mut self, terms: Terms, books: Ledger, now: Now) -> Ledger {
        self.end_everything("the params of the root configuration changed", now);
        self.accounts = Accounts::default();
        self.terms = terms;
        std::mem::replace(&mut self.ledger, books)
    }

    /// Takes what has to be written to the journal as the next commit, as [`Ledger::take_records`] says. To be called
    /// after every other method, or whenever [`Self::records_len`] is not zero.
    pub fn take_records(&mut self, into: &mut Vec<u8>) -> Option<CommitNumber> {
        self.ledger.take_records(into)
    }

    /// Bytes that wait for the journal.
    #[must_use]
    pub const fn records_len(&self) -> usize {
        self.ledger.records_len()
    }

    /// A commit and all before it are durable: what they hold may be signed.
    pub fn committed(&mut self, commit: CommitNumber) {
        self.is_journal_stuck = false;
        self.ledger.committed(commit);
    }

    /// The same where a chain is followed: what may be signed now may be due on it.
    pub fn committed_at(&mut self, commit: CommitNumber, now: Now) {
        self.committed(commit);
        self.advance_chain(now);
    }

    /// The journal cannot be written. Running requests go on, new ones are refused until [`Self::committed`].
    pub fn journal_stuck(&mut self) {
        self.is_journal_stuck = true;
    }

    /// Whether charges of new requests will be written down in time.
    #[must_use]
    pub const fn records_charges(&self) -> bool {
        !self.is_journal_stuck && self.ledger.records_len() < RECORDS_LEN_MAX
    }

    /// How many requests run, or have ended and wait only for their client to take the rest of the answer.
    #[must_use]
    pub fn running_len(&self) -> usize {
        self.running.len() + self.tails
    }

    /// Bytes of requests that are kept because their answers have not begun, and of those that are still coming.
    #[must_use]
    pub const fn kept_len(&self) -> usize {
        self.kept.len() + self.collected_len
    }

    /// How many links of clients and of workers there are, in whatever stage.
    #[must_use]
    pub fn links_len(&self) -> (usize, usize) {
        (self.clients.len(), self.workers.len())
    }

    /// Whether any worker takes part.
    #[must_use]
    pub fn has_enabled_worker(&self) -> bool {
        self.market.has_enabled_worker()
    }

    /// Whether the proxy takes part: the operator lets it, it does not shut down, and a chain that is followed has
    /// nothing against it.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        self.enabled && !self.draining && self.unready().is_none()
    }

    /// Recomputes the sums of all accounts. Costs time in proportion to their number.
    ///
    /// # Errors
    /// [`ledger::Imbalance`] names the first sum that the accounts do not confirm: a bug.
    pub fn audit(&self) -> Result<(), ledger::Imbalance> {
        self.ledger.audit()
    }

    /// The books of the contract that is worked under.
    #[must_use]
    pub const fn books(&self) -> &Ledger {
        &self.ledger
    }

    /// The proxy's own side of the business.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Closes the link of a peer that did something wrong.
    fn close(&mut self, link: LinkId, reason: &'static str, now: Now) {
        self.closed(link, now);
        self.outbox.push_back(Action::Close { link, reason, is_fault: true });
    }

    /// Closes a link for a reason of our own.
    fn dismiss(&mut self, link: LinkId, reason: &'static str, now: Now) {
        self.closed(link, now);
        self.outbox.push_back(Action::Close { link, reason, is_fault: false });
    }

    fn end_everything(&mut self, reason: &'static str, now: Now) {
        self.clear_rooms(&proxy_disabled());
        while let Some(request) = self.running.any() {
            self.abandon(request, now);
        }
        let links: Vec<_> = self.clients.keys().chain(self.workers.keys()).copied().collect();
        for link in links {
            self.dismiss(link, reason, now);
        }
    }

    fn send(&mut self, link: LinkId, message: impl Into<Message>, otherwise: Undelivered) {
        let message = message.into();
        self.outbox.push_back(Action::Send { link, message, otherwise });
    }
}

/// Why nothing new runs.
fn proxy_disabled() -> Failure {
    Failure::new(StatusCode::NOT_READY, "proxy is disabled")
}

/// An amount as messages carry it. The ledger keeps totals below 2^63.
fn on_wire(tokens: AdjustedTokens) -> i64 {
    i64::try_from(tokens.get()).unwrap_or(i64::MAX)
}
