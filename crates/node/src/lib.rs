//! What every role does alike: its state folder, the settings that all have, the root configuration that it follows, from a file or
//! from the chain, and, for the roles that connect to proxies, the check of who the proxy is and when to try one again.
//!
//! It refuses to know what a role does with any of it.
//!
//! Invariants:
//! - A [`StateFolder`] is used by one process at a time, and its secrets are readable by their owner alone.
//! - Only a root configuration of a higher version replaces one.
//! - A [`VerifiedProxy`] exists only after everything it holds was computed here and found equal to what the proxy
//!   claims. It does not prove that the proxy runs an allowed image: [`check_image`] does, where images are checked.
#![forbid(unsafe_code)]

mod backoff;
mod chain;
mod evidence;
pub mod failpoint;
mod payments;
mod proxy;
mod root;
mod sealed_key;
mod settings;
mod state;

pub use self::evidence::{EnclaveKind, Evidence, EvidenceConfig, EvidenceConfigError, SimulatedConfig};
pub use backoff::Backoff;
pub use chain::{
    ChainConfig, ChainConfigError, RootSource, WalletNumbers, WrongNetwork, open_wallet, wallet_state,
};
pub use payments::{KeptPayment, follow_payments};
pub use proxy::{ConnectingParty, OwnContract, ProxyError, VerifiedProxy, check_image};
pub use root::{RootError, RootFile};
pub use sealed_key::{SealedKeyConfig, SealedKeyError};
pub use settings::{SettingError, connect_config, node_wallet, owner_address, root_address, seconds};
pub use state::{SECRET_LEN_MIN, StateError, StateFolder};
