//! Why a proxy is not worked for.

use ton::payment::PaymentError;
use ton::{Address, AddressParseError};
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
    /// A proxy too old to say whether it is in test mode.
    #[error("the proxy says neither whether it is in test mode nor which protocol it chose")]
    TooOld,
    /// One side plays with test money.
    #[error("the proxy's test mode is {theirs}, our root configuration says {ours}")]
    TestMode {
        /// What our root configuration says.
        ours: bool,
        /// What the proxy says.
        theirs: bool,
    },
    /// The proxy chose a version that we did not offer.
    #[error("the proxy chose protocol version {chosen}, we offered at most 3")]
    Protocol {
        /// The number it sent.
        chosen: i32,
    },
    /// The proxy chose version 3 and did not say at once what it can do.
    #[error("the proxy chose protocol version 3 and did not begin with its capabilities")]
    NoCapabilities,
    /// The proxy said a second time what it can do.
    #[error("the proxy showed its capabilities again")]
    CapabilitiesTwice,
    /// A text is no address.
    #[error("the {which} address of the proxy cannot be read")]
    Address {
        /// Which address.
        which: &'static str,
        /// What is wrong with it.
        #[source]
        source: AddressParseError,
    },
    /// A text is not UTF-8, and so no address.
    #[error("the {which} address of the proxy is not text")]
    AddressText {
        /// Which address.
        which: &'static str,
    },
    /// A contract is not where it must be under our root configuration.
    #[error(
        "the {which} contract is {claimed} according to the proxy and {computed} according to our root \
         configuration: both sides need the same root configuration and root address"
    )]
    Contract {
        /// Which contract.
        which: &'static str,
        /// What the proxy said.
        claimed: Address,
        /// What follows from the proxy's key and owner.
        computed: Address,
    },
    /// The right contract in a form that deployed peers refuse.
    #[error("the {which} address is bounceable or of the other network: messages carry non-bounceable ones")]
    AddressForm {
        /// Which address.
        which: &'static str,
    },
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
