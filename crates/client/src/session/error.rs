//! Why a client leaves a proxy.

use node::ProxyError;

/// A proxy that a client must not work with, or that said something which makes no sense. Ends one connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// Not the message that was due.
    #[error("the proxy sent a malformed message")]
    Malformed(#[from] wire::DecodeError),
    /// Not a proxy of our network.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// It chose version 3 and did not say at once what it can do.
    #[error("the proxy chose protocol 3 and did not begin with its capabilities")]
    NoCapabilities,
    /// A known proxy with another key or another contract of ours.
    #[error("a proxy contract that we know came with another key or another client contract")]
    Changed,
    /// It did not accept our secret.
    #[error("the proxy refused our authorisation with code {code}")]
    Unauthorized { code: i32 },
    /// A count below zero.
    #[error("the proxy's {total} total is negative ({tokens})")]
    Negative { total: &'static str, tokens: i64 },
}
