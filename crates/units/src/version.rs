//! Versions that peers agree on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The `version` field of the root contract: grows with every change of the network's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigVersion(u32);

impl ConfigVersion {
    /// Wraps the number stored on chain.
    #[must_use]
    pub const fn new(version: u32) -> Self {
        Self(version)
    }

    /// The number stored on chain.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ConfigVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version of the wire protocol. The deployed network has 0 to 2; 3 is spoken only between our own peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// `runQuery` and `queryAnswer*`.
    V0,
    /// The `…Ex` forms of both.
    V1,
    /// Final information also carries times.
    V2,
    /// Requests are streams that either side can slow down or end. Unstable: see [`Capabilities`].
    V3,
}

/// What a peer can do in version 3, one bit each. Version 3 is unstable: a member that changes its meaning takes
/// another bit, and peers whose bits differ speak version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// What we can do.
    pub const OURS: Self =
        Self(Self::CANCEL | Self::ANSWER_CREDIT | Self::QUERY_PARTS | Self::NOTICES | Self::PAYMENTS_ONCE);

    /// `stream.cancel`.
    const CANCEL: u64 = 1 << 0;
    /// Answers flow by `stream.credit`.
    const ANSWER_CREDIT: u64 = 1 << 1;
    /// Long queries come in parts, by `stream.begin` and `stream.bodyPart`.
    const QUERY_PARTS: u64 = 1 << 2;
    /// `stream.usage` and `peer.goingAway`.
    const NOTICES: u64 = 1 << 3;
    /// A payment is sent once, and not with every request.
    const PAYMENTS_ONCE: u64 = 1 << 4;

    /// The bits of a message.
    #[must_use]
    pub const fn from_wire(bits: i64) -> Self {
        Self(bits.cast_unsigned())
    }

    /// The bits for a message.
    #[must_use]
    pub const fn to_wire(self) -> i64 {
        self.0.cast_signed()
    }

    /// The version that is spoken with a peer that chose version 3 and can do `self`. Both sides come to the same
    /// result, since both know both.
    #[must_use]
    pub fn settle(self) -> ProtocolVersion {
        if self == Self::OURS { ProtocolVersion::V3 } else { ProtocolVersion::V2 }
    }
}

/// Two peers share no protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no common protocol version: the peer speaks {peer_min} to {peer_max}, we speak 0 to 3")]
pub struct UnsupportedProtocol {
    peer_min: i32,
    peer_max: i32,
}

impl ProtocolVersion {
    /// The newest version we speak.
    pub const LATEST: Self = Self::V3;

    /// What a proxy chooses for a peer that speaks `peer_min` to `peer_max`: the peer's newest, at most ours.
    ///
    /// # Errors
    /// [`UnsupportedProtocol`] if the two ranges share no version.
    pub fn negotiate(peer_min: i32, peer_max: i32) -> Result<Self, UnsupportedProtocol> {
        let refused = UnsupportedProtocol { peer_min, peer_max };
        if peer_min > peer_max || peer_min > Self::LATEST.number() {
            return Err(refused);
        }
        Self::from_number(peer_max.min(Self::LATEST.number())).ok_or(refused)
    }

    /// The version behind a number from a message.
    #[must_use]
    pub const fn from_number(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::V0),
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            _ => None,
        }
    }

    /// The number in messages.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_chosen() {
        assert_eq!(ProtocolVersion::negotiate(0, 0), Ok(ProtocolVersion::V0));
        assert_eq!(ProtocolVersion::negotiate(1, 2), Ok(ProtocolVersion::V2));
        assert_eq!(ProtocolVersion::negotiate(1, 3), Ok(ProtocolVersion::V3));
        assert_eq!(ProtocolVersion::negotiate(1, 9), Ok(ProtocolVersion::V3));
        assert_eq!(ProtocolVersion::negotiate(-5, 1), Ok(ProtocolVersion::V1));
    }

    #[test]
    fn disjoint_ranges_are_refused() {
        assert!(ProtocolVersion::negotiate(4, 9).is_err());
        assert!(ProtocolVersion::negotiate(-2, -1).is_err());
        assert!(ProtocolVersion::negotiate(2, 1).is_err());
    }

    #[test]
    fn version_3_stands_between_equals_only() {
        assert_eq!(Capabilities::OURS.settle(), ProtocolVersion::V3);
        assert_eq!(Capabilities::from_wire(Capabilities::OURS.to_wire()), Capabilities::OURS);
        for bit in 0..64 {
            let other = Capabilities::from_wire(Capabilities::OURS.to_wire() ^ (1 << bit));
            assert_eq!(other.settle(), ProtocolVersion::V2);
        }
    }
}
