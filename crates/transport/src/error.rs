//! How sending, asking, connecting and links themselves end.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use evidence::AppraiseError;
use wire::frame::{FrameError, MESSAGE_LEN_MAX};
use wire::{DecodeError, StatusCode};

use crate::identity::{CertificateRefused, IdentityError};
use crate::peer_header::PeerHeaderError;
use crate::pow::PowError;
use crate::socks::SocksError;

/// A message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer reads more slowly than we send. The message was not queued.
    #[error("the link's queue is full: the peer does not keep up")]
    QueueFull,
    /// The message fits into no frame.
    #[error("a message of {len} bytes exceeds the largest frame ({MESSAGE_LEN_MAX})")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
    },
    /// The link has closed.
    #[error("the link has closed")]
    Closed,
}

/// A query got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The peer refused it.
    #[error("the peer refused the query with code {}: {message}", .code.code())]
    Refused {
        /// Why, as a number.
        code: StatusCode,
        /// Why, in the peer's words: UTF-8, 1 KiB at most. Not to be trusted, and not to be logged above debug level.
        message: String,
    },
    /// No answer came in time.
    #[error("the query was not answered in time")]
    Timeout,
    /// The link closed before an answer came.
    #[error("the link closed before the query was answered")]
    Closed,
    /// The message fits into no frame.
    #[error("a query of {len} bytes exceeds the largest frame ({MESSAGE_LEN_MAX})")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
    },
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CloseReason {
    /// We closed it.
    #[error("closed by us: {0}")]
    Local(&'static str),
    /// We closed it for what the peer did.
    #[error("the peer was sent away: {0}")]
    Expelled(&'static str),
    /// We closed it, since the peer's evidence is accepted no longer.
    #[error("the peer's evidence is accepted no longer")]
    Evidence(#[source] NoLongerAccepted),
    /// The peer closed it.
    #[error("closed by the peer")]
    Peer,
    /// The network failed.
    #[error("connection lost: {0}")]
    Lost(io::ErrorKind),
    /// TLS failed. On the connecting side this is also how a refusal of our certificate arrives.
    #[error("TLS failed")]
    Tls(#[source] rustls::Error),
    /// The peer broke the framing.
    #[error("protocol violation: bad frame")]
    Frame(#[source] FrameError),
    /// The peer sent a frame whose content cannot be read.
    #[error("protocol violation: malformed packet")]
    Packet(#[source] DecodeError),
    /// The peer's first frame was not the hello.
    #[error("protocol violation: the first frame is not {expected}")]
    NoHello {
        /// The hello of its side.
        expected: &'static str,
    },
    /// The peer's hello answers another one.
    #[error("protocol violation: tcp.connected carries another id than our tcp.connect")]
    HelloMismatch,
    /// The peer used the id of an open query again.
    #[error("protocol violation: two open queries with one id")]
    DuplicateQuery,
    /// The peer asks faster than we answer.
    #[error("protocol violation: more than {max} open queries")]
    TooManyQueries {
        /// How many may be open.
        max: usize,
    },
    /// Nothing came from the peer.
    #[error("nothing came from the peer for {} s", .limit.as_secs())]
    Silence {
        /// For how long.
        limit: Duration,
    },
    /// A frame was begun and came too slowly: see
    /// [`FRAME_BYTES_PER_S_MIN`](crate::connection::FRAME_BYTES_PER_S_MIN).
    #[error("a frame came too slowly: {received} bytes of it are here")]
    FrameTooSlow {
        /// How many bytes of the frame came.
        received: usize,
    },
    /// The peer asks faster than it takes the answers.
    #[error("answers of {waiting} bytes wait for the peer")]
    AnswersUnread {
        /// Bytes that wait.
        waiting: usize,
    },
    /// The links of this listener together hold as many bytes as they may.
    #[error("the memory for messages of all links is used up, this one wanted {wanted} bytes of it")]
    NoMemory {
        /// What the link would have held.
        wanted: usize,
    },
    /// The peer took nothing of what we sent.
    #[error("the peer took no bytes for {} s", .limit.as_secs())]
    WriteStalled {
        /// For how long.
        limit: Duration,
    },
}

/// Why evidence that was accepted is so no longer. Equal are only clones of one.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct NoLongerAccepted(Arc<AppraiseError>);

impl From<AppraiseError> for NoLongerAccepted {
    fn from(error: AppraiseError) -> Self {
        Self(Arc::new(error))
    }
}

impl PartialEq for NoLongerAccepted {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A phase on the way to a link. Each has its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Resolving the name and connecting.
    Tcp,
    /// The router's SOCKS5 exchange.
    Socks,
    /// Asking for proof of work, or doing it.
    ProofOfWork,
    /// The TLS handshake.
    Tls,
    /// Fetching collateral and verifying the peer's quote.
    Evidence,
    /// What the local router says about the peer.
    PeerHeader,
    /// The first frame each way.
    Hello,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP connect",
            Self::Socks => "SOCKS5 exchange with the router",
            Self::ProofOfWork => "proof of work",
            Self::Tls => "TLS handshake",
            Self::Evidence => "appraisal of evidence",
            Self::PeerHeader => "peer header of the router",
            Self::Hello => "first frame",
        })
    }
}

/// Why a connection, of either side, did not become a link.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The peer or the network was too slow: worth another attempt.
    #[error("{phase}: not done within {} s", .limit.as_secs())]
    Deadline {
        /// What took too long.
        phase: Phase,
        /// How long it may take.
        limit: Duration,
    },
    /// The network failed, or the peer closed without a word, as deployed peers do when they refuse.
    #[error("{phase}: connection failed")]
    Io {
        /// During what.
        phase: Phase,
        /// How.
        source: io::Error,
    },
    /// The target is not `host:port`, or the name has no address.
    #[error("{target:?} has no address: expected \"host:port\", and IPv4 if a router is used")]
    Target {
        /// What was asked for.
        target: String,
    },
    /// The router refused.
    #[error("the router at the configured address refused")]
    Socks(#[from] SocksError),
    /// Wrong or too much work.
    #[error("proof of work")]
    ProofOfWork(#[from] PowError),
    /// The peer's certificate is not acceptable.
    #[error("TLS handshake: the peer's certificate was refused")]
    Certificate(#[source] CertificateRefused),
    /// The peer's TLS is not acceptable, or ours is not to the peer.
    #[error("TLS handshake")]
    Tls(#[source] rustls::Error),
    /// The peer's evidence is not accepted, or could not be verified.
    #[error("evidence")]
    Evidence(#[from] AppraiseError),
    /// The local router sent a header that cannot be read.
    #[error("peer header of the router")]
    PeerHeader(#[from] PeerHeaderError),
    /// The peer broke the frame protocol in its first frame.
    #[error("first frame")]
    Hello(#[source] CloseReason),
    /// We have no identity to show.
    #[error("our own certificate")]
    Identity(#[from] IdentityError),
}

impl CloseReason {
    /// One word for each way to end, or our own words.
    pub(crate) const fn cause(&self) -> &'static str {
        match self {
            Self::Local(reason) | Self::Expelled(reason) => reason,
            Self::Evidence(_) => "evidence",
            Self::Peer => "closed by the peer",
            Self::Lost(_) => "connection lost",
            Self::Tls(_) => "TLS",
            Self::Frame(_) => "bad frame",
            Self::Packet(_) => "malformed packet",
            Self::NoHello { .. } | Self::HelloMismatch => "hello",
            Self::DuplicateQuery => "duplicate query",
            Self::TooManyQueries { .. } => "too many queries",
            Self::Silence { .. } => "silence",
            Self::FrameTooSlow { .. } => "slow frame",
            Self::AnswersUnread { .. } => "answers unread",
            Self::NoMemory { .. } => "no memory",
            Self::WriteStalled { .. } => "write stalled",
        }
    }

    /// Whether the peer did something that it should not have.
    pub(crate) const fn is_fault(&self) -> bool {
        !matches!(self, Self::Local(_) | Self::Peer | Self::Lost(_) | Self::Silence { .. })
    }
}

impl ConnectError {
    /// A few words for each way to fail: a closed set, for [`ended::log`](crate::ended::log).
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Deadline { phase, .. } => match phase {
                Phase::Tcp => "late: TCP connect",
                Phase::Socks => "late: SOCKS5",
                Phase::ProofOfWork => "late: proof of work",
                Phase::Tls => "late: TLS handshake",
                Phase::Evidence => "late: evidence",
                Phase::PeerHeader => "late: peer header",
                Phase::Hello => "late: first frame",
            },
            Self::Io { phase, .. } => match phase {
                Phase::Tcp => "lost: TCP connect",
                Phase::Socks => "lost: SOCKS5",
                Phase::ProofOfWork => "lost: proof of work",
                Phase::Tls => "lost: TLS handshake",
                Phase::Evidence => "lost: evidence",
                Phase::PeerHeader => "lost: peer header",
                Phase::Hello => "lost: first frame",
            },
            Self::Target { .. } => "target",
            Self::Socks(_) => "SOCKS5",
            Self::ProofOfWork(_) => "proof of work",
            Self::Certificate(_) => "certificate",
            Self::Tls(_) => "TLS handshake",
            Self::Evidence(_) => "evidence",
            Self::PeerHeader(_) => "peer header",
            Self::Hello(reason) => reason.cause(),
            Self::Identity(_) => "our own certificate",
        }
    }

    /// Whether the peer did something that it should not have, or we did.
    #[must_use]
    pub const fn is_fault(&self) -> bool {
        match self {
            // Whoever looks whether the port is open leaves so.
            Self::Io { .. } => false,
            Self::Hello(reason) => reason.is_fault(),
            _ => true,
        }
    }
}
