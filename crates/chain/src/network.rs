//! Which network a server serves: real money must never move by mistake.

use std::fmt;

/// Networks, told apart by the hash of their first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// Real money.
    Mainnet,
    /// TON's public test network.
    Testnet,
    /// Neither of them: a devnet, or somebody's own.
    Other,
}

/// `zero_state.root_hash` of the public networks' configurations (`global.config.json`, `testnet-global.config.json`).
const MAINNET: &str = "F6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk=";
const TESTNET: &str = "gj+B8wb/AmlPk1z1AhVI484rhrUpgSr2oSFIh56VoSg=";

impl Network {
    /// The network whose first block has this hash, in base64.
    pub(crate) fn of_first_block(root_hash: &str) -> Self {
        match root_hash {
            MAINNET => Self::Mainnet,
            TESTNET => Self::Testnet,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mainnet => "TON mainnet",
            Self::Testnet => "TON testnet",
            Self::Other => "a private network",
        })
    }
}
