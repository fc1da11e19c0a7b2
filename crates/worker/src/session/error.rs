//! Why a proxy is not worked for.

use node::ProxyError;
use ton::payment::PaymentError;
use units::AdjustedTokens;
use wire::DecodeError;

use super::account::ContractsChanged;

/// A proxy said something that ends the connection. All variants blame the proxy, or a configuration that
/// differs from ours; none is repaired by asking again on the same connection.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A message cannot be read.
    #[error("the proxy sent a message that cannot be read")]
    Malformed(#[from] DecodeError),
    /// Not a proxy of our network.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The proxy chose version 3 and did not say at once what it can do.
    #[error("the proxy chose protocol version 3 and did not begin with its capabilities")]
    NoCapabilities,
    /// The proxy said a second time what it can do.
    #[error("the proxy showed its capabilities again")]
    CapabilitiesTwice,
    /// A known contract with other partners.
    #[error(transparent)]
    Changed(#[from] ContractsChanged),
    /// A total below zero.
    #[error("the proxy says {tokens} {total} tokens")]
    Negative {
        /// Which total.
        total: &'static str,
        /// What it said.
        tokens: i64,
    },
    /// No signature, not even for nothing.
    #[error("the proxy signed no payment")]
    NoPayment,
    /// A payment that is worth nothing to us.
    #[error("the proxy sent a payment that does not hold")]
    Payment(#[from] PaymentError),
    /// The proxy forgot what it had said before.
    #[error("the proxy knows {said} {total} tokens and had said {known}: it lost data, or was rolled back")]
    Lower {
        /// Which total.
        total: &'static str,
        /// What it says now.
        said: AdjustedTokens,
        /// What it said before.
        known: AdjustedTokens,
    },
    /// The proxy does not agree that it forgot.
    #[error("the proxy refused the extended comparison of balances with code {code}")]
    ComparisonRefused {
        /// Its error code.
        code: i32,
    },
}
