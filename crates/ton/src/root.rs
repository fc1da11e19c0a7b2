//! The root contract's state: who takes part, and on which terms.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use sha2::{Digest, Sha256};
use tycho_types::cell::Cell;
use units::{ConfigVersion, ImageHash, ModelHash, ModelName};

use crate::{Address, CodeMask, Params};

mod data;

/// What the root contract of a network says.
///
/// The lists fail closed: an empty one allows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootConfig {
    /// Who may change the root contract.
    pub owner: Address,
    /// Grows with every change.
    pub version: ConfigVersion,
    /// Images that proxies may run.
    pub proxy_hashes: BTreeSet<ImageHash>,
    /// Images that workers may run.
    pub worker_hashes: BTreeSet<ImageHash>,
    /// Models that workers may serve.
    pub model_hashes: BTreeSet<ModelHash>,
    /// Where proxies listen.
    pub registered_proxies: Vec<RegisteredProxy>,
    /// The number of the proxy registered last.
    pub last_proxy_seqno: u32,
    /// Prices, delays, stakes and codes.
    pub params: Params,
}

impl RootConfig {
    /// Whether a proxy may run `image`.
    #[must_use]
    pub fn allows_proxy_image(&self, image: &ImageHash) -> bool {
        self.proxy_hashes.contains(image)
    }

    /// Whether a worker may run `image`.
    #[must_use]
    pub fn allows_worker_image(&self, image: &ImageHash) -> bool {
        self.worker_hashes.contains(image)
    }

    /// Whether a worker may serve `model`. The full name counts: another commit is another model.
    #[must_use]
    pub fn allows_model(&self, model: &ModelName) -> bool {
        self.model_hashes.contains(&model_hash(model))
    }

    /// The params cell with those codes that `codes` names.
    #[must_use]
    pub fn params_cell(&self, codes: CodeMask) -> Cell {
        self.params.cell(codes)
    }
}

/// What the allow list holds for a model: the SHA-256 of its full name.
#[must_use]
pub fn model_hash(model: &ModelName) -> ModelHash {
    ModelHash::new(Sha256::digest(model.full()).into())
}

/// One entry of the root contract's list of proxies. The deployed network knows IPv4 only.
///
/// The contract holds the listeners as text: `workers` or `workers clients`, one space between. Brackets around
/// each are optional when reading and never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisteredProxy {
    /// Number of the entry, never used twice.
    pub seqno: u32,
    /// The listener for workers.
    pub workers: SocketAddrV4,
    /// The listener for clients; the same one where the text names only one.
    pub clients: SocketAddrV4,
}

/// A text that names no listeners of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no proxy address: write \"IPv4:port\" or \"IPv4:port IPv4:port\", workers first")]
pub struct ProxyTextError {
    found: String,
}

impl RegisteredProxy {
    /// Longest text that the contract can hold, in bytes.
    pub const TEXT_LEN_MAX: usize = 127;

    /// Reads the text of entry `seqno`.
    ///
    /// # Errors
    /// [`ProxyTextError`] if the text names anything but one or two IPv4 addresses with ports.
    pub fn from_text(seqno: u32, text: &str) -> Result<Self, ProxyTextError> {
        let refused = || ProxyTextError { found: text.chars().take(Self::TEXT_LEN_MAX).collect() };
        if text.len() > Self::TEXT_LEN_MAX {
            return Err(refused());
        }
        let (workers, clients) = text.split_once(' ').unwrap_or((text, text));
        let listeners = listener(workers).zip(listener(clients));
        listeners.map(|(workers, clients)| Self { seqno, workers, clients }).ok_or_else(refused)
    }

    /// The text that the contract holds.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { seqno: _, workers, clients } = self;
        if workers == clients { workers.to_string() } else { format!("{workers} {clients}") }
    }
}

fn listener(text: &str) -> Option<SocketAddrV4> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None => text,
    };
    let address: SocketAddrV4 = bare.parse().ok()?;
    (address.port() != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> RootConfig {
        RootConfig::pseudo(Address::new(0, [1; 32]))
    }

    #[test]
    fn empty_lists_allow_nothing() {
        let config = config();
        let model = ModelName::new("demo").unwrap();
        assert!(!config.allows_model(&model));
        assert!(!config.allows_proxy_image(&ImageHash::new([0; 32])));
        assert!(!config.allows_worker_image(&ImageHash::new([0; 32])));
    }

    #[test]
    fn lists_allow_what_they_hold_and_nothing_else() {
        let mut config = config();
        let (proxy, worker) = (ImageHash::new([1; 32]), ImageHash::new([2; 32]));
        config.proxy_hashes.insert(proxy);
        config.worker_hashes.insert(worker);
        assert!(config.allows_proxy_image(&proxy) && !config.allows_proxy_image(&worker));
        assert!(config.allows_worker_image(&worker) && !config.allows_worker_image(&proxy));

        let name = |full: &str| ModelName::new(full).unwrap();
        config.model_hashes.insert(model_hash(&name("demo@c0ffee:00")));
        assert!(config.allows_model(&name("demo@c0ffee:00")));
        assert!(!config.allows_model(&name("demo@c0ffee:01")));
        assert!(!config.allows_model(&name("demo")));
    }

    #[test]
    fn proxy_texts_are_read_in_all_forms() {
        let read = |text: &str| RegisteredProxy::from_text(7, text).unwrap();
        let both = read("10.0.2.2:11001 10.0.2.2:11002");
        assert_eq!((both.seqno, both.workers.port(), both.clients.port()), (7, 11001, 11002));
        assert_eq!(read("[10.0.2.2:11001] [10.0.2.2:11002]"), both);
        assert_eq!(read("10.0.2.2:11001 [10.0.2.2:11002]"), both);
        assert_eq!(both.to_text(), "10.0.2.2:11001 10.0.2.2:11002");
        let one = read("[10.0.2.2:11001]");
        assert_eq!(one.workers, one.clients);
        assert_eq!(one.to_text(), "10.0.2.2:11001");
    }

    #[test]
    fn other_proxy_texts_are_refused() {
        let long = format!("{} {}", "10.0.2.2:11001", " ".repeat(120));
        for refused in [
            "",
            " ",
            "10.0.2.2",
            "10.0.2.2:0",
            "10.0.2.2:65536",
            "localhost:11001",
            "[::1]:11001",
            "[10.0.2.2:11001",
            "10.0.2.2:11001]",
            "[10.0.2.2]:11001",
            "10.0.2.2:11001  10.0.2.2:11002",
            "10.0.2.2:11001 ",
            " 10.0.2.2:11001",
            "10.0.2.2:1 10.0.2.2:2 10.0.2.2:3",
            &long,
        ] {
            assert!(RegisteredProxy::from_text(1, refused).is_err(), "{refused:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn listeners_survive_their_text(workers: [u8; 4], clients: [u8; 4], ports in (1_u16.., 1_u16..)) {
            let proxy = RegisteredProxy {
                seqno: 1,
                workers: SocketAddrV4::new(workers.into(), ports.0),
                clients: SocketAddrV4::new(clients.into(), ports.1),
            };
            prop_assert_eq!(RegisteredProxy::from_text(1, &proxy.to_text()), Ok(proxy));
        }
    }
}
