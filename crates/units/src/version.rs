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

/// A version of the wire protocol of the deployed network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// `runQuery` and `queryAnswer*`.
    V0,
    /// The `…Ex` forms of both.
    V1,
    /// Final information also carries times.
    V2,
}

/// Two peers share no protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no common protocol version: the peer speaks {peer_min} to {peer_max}, we speak 0 to 2")]
pub struct UnsupportedProtocol {
    peer_min: i32,
    peer_max: i32,
}

impl ProtocolVersion {
    /// The newest version we speak.
    pub const LATEST: Self = Self::V2;

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
        assert_eq!(ProtocolVersion::negotiate(1, 9), Ok(ProtocolVersion::V2));
        assert_eq!(ProtocolVersion::negotiate(-5, 1), Ok(ProtocolVersion::V1));
    }

    #[test]
    fn disjoint_ranges_are_refused() {
        assert!(ProtocolVersion::negotiate(3, 9).is_err());
        assert!(ProtocolVersion::negotiate(-2, -1).is_err());
        assert!(ProtocolVersion::negotiate(2, 1).is_err());
    }
}
