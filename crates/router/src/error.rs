//! How connections through a router end.

use std::io::{self, ErrorKind};
use std::time::Duration;

use evidence::AppraiseError;
use transport::{ConnectError, Phase};

use crate::relay::RelayError;
use crate::socks5::{Reply, Socks5Error};

/// Why a connection came to nothing, or ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// The port has as many as it may.
    #[error("{max} connections are open, and this one would be one more")]
    Full {
        /// How many there may be.
        max: usize,
    },
    /// The local program and SOCKS5.
    #[error("SOCKS5")]
    Socks5(#[from] Socks5Error),
    /// The local program takes its time.
    #[error("SOCKS5: not done within {} s", .limit.as_secs())]
    Socks5Late {
        /// How long it may take.
        limit: Duration,
    },
    /// The local program is lost, or has left.
    #[error("the local program's connection is lost")]
    Local(#[source] io::Error),
    /// It left while its peer was being connected to.
    #[error("the local program left before its peer was connected")]
    Left,
    /// The peer.
    #[error(transparent)]
    Peer(#[from] ConnectError),
    /// Nothing that anybody would sign.
    #[error("evidence: the policy is fake_tdx, and the peer shows {found} bytes in the place of 64")]
    NotFake {
        /// How many.
        found: usize,
    },
    /// The local program behind the port.
    #[error("the local program cannot be reached")]
    Destination(#[source] io::Error),
    /// It takes its time.
    #[error("the local program cannot be reached within {} s", .limit.as_secs())]
    DestinationLate {
        /// How long it may take.
        limit: Duration,
    },
    /// After all went well.
    #[error(transparent)]
    Relay(#[from] RelayError),
}

impl TunnelError {
    /// A few words for each way to end: a closed set.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Full { .. } => "router: too many connections",
            Self::Socks5(_) => "router: SOCKS5",
            Self::Socks5Late { .. } => "late: SOCKS5",
            Self::Local(_) | Self::Left => "router: local program lost",
            Self::Peer(error) => error.cause(),
            Self::NotFake { .. } => "evidence",
            Self::Destination(_) => "router: destination",
            Self::DestinationLate { .. } => "late: destination",
            Self::Relay(RelayError::Idle { .. }) => "router: idle",
            Self::Relay(RelayError::Lost(_)) => "router: lost",
        }
    }

    /// Whether an operator should see it. That a peer which we connect to closes without a word is how deployed ones refuse.
    pub(crate) const fn is_fault(&self, we_connect: bool) -> bool {
        match self {
            Self::Peer(error) => we_connect || error.is_fault(),
            Self::Local(_) | Self::Left | Self::Relay(_) => false,
            _ => true,
        }
    }

    /// What a program that asked by SOCKS5 is told.
    pub(crate) fn reply(&self) -> Reply {
        match self {
            Self::NotFake { .. } => Reply::NotAllowed,
            Self::Peer(error) => match error {
                // What could not be looked at is not what is refused.
                ConnectError::Evidence(AppraiseError::Busy | AppraiseError::Collateral(_)) => {
                    Reply::GeneralFailure
                }
                ConnectError::Evidence(_) | ConnectError::Certificate(_) => Reply::NotAllowed,
                ConnectError::Target { .. } | ConnectError::Deadline { phase: Phase::Tcp, .. } => {
                    Reply::HostUnreachable
                }
                ConnectError::Io { phase: Phase::Tcp, source } => match source.kind() {
                    ErrorKind::ConnectionRefused => Reply::ConnectionRefused,
                    ErrorKind::NetworkUnreachable => Reply::NetworkUnreachable,
                    _ => Reply::HostUnreachable,
                },
                _ => Reply::GeneralFailure,
            },
            _ => Reply::GeneralFailure,
        }
    }
}

/// An error with the port that it happened at: what is logged. It holds no address of a peer.
#[derive(Debug, thiserror::Error)]
#[error("port {port} ({mode}, policy {policy}): {source}")]
pub(crate) struct AtPort {
    pub(crate) port: u16,
    pub(crate) mode: &'static str,
    pub(crate) policy: String,
    pub(crate) source: TunnelError,
}
