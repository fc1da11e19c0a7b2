//! Why a client leaves a proxy.

use ton::{Address, AddressParseError};

/// A proxy that a client must not work with, or that said something which makes no sense. Ends one connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// Not the message that was due.
    #[error("the proxy sent a malformed message")]
    Malformed(#[from] wire::DecodeError),
    /// It knows neither test mode nor versions.
    #[error("the proxy speaks a protocol older than any that we know")]
    TooOld,
    /// It belongs to another kind of network.
    #[error("the proxy's test mode is {theirs}, ours is {ours}: use the root configuration of its network")]
    TestMode { ours: bool, theirs: bool },
    /// It chose a version that was not offered.
    #[error("the proxy chose protocol {chosen}, we speak 0 to 3")]
    Protocol { chosen: i32 },
    /// It chose version 3 and did not say at once what it can do.
    #[error("the proxy chose protocol 3 and did not begin with its capabilities")]
    NoCapabilities,
    /// It attests no image.
    #[error("the proxy attests no image, so it cannot be looked up in the root contract")]
    NotAttested,
    /// Its image is not allowed.
    #[error("the proxy's image is not in the root contract: it is outdated, or not what it should be")]
    ImageNotAllowed,
    /// A text that should be an address is none.
    #[error("the address of the {which} is not text")]
    AddressText { which: &'static str },
    /// A text that should be an address is none.
    #[error("the address of the {which} cannot be read")]
    Address { which: &'static str, source: AddressParseError },
    /// A contract that does not follow from the root configuration.
    #[error("the {which} contract is said to be {claimed}, from our root configuration follows {computed}")]
    Contract { which: &'static str, claimed: Address, computed: Address },
    /// The right contract in a text form that the network does not use.
    #[error("the address of the {which} contract is not in the non-bounceable form of this network")]
    AddressForm { which: &'static str },
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
