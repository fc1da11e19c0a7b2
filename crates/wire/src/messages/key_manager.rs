//! Asking a key manager for keys.

use crate::macros::{tl_dispatch, tl_struct};

tl_dispatch! {
    /// Functions that a key manager answers, each in a `tcp.query`.
    pub enum Query {
        /// Asked by a proxy.
        GetProxyPrivateKeys(GetProxyPrivateKeys),
        /// Asked by a worker.
        GetWorkerPrivateKeys(GetWorkerPrivateKeys),
    }
}

tl_struct! {
    /// Wants the keys of proxies. Answered by [`PrivateKeys`].
    pub struct GetProxyPrivateKeys = keyManager.getProxyPrivateKeys {
        /// `version` of the root contract's state that the asker has; the answer may not be based on an older one.
        min_config_version: i32,
    }
}

tl_struct! {
    /// Wants the keys of workers. Answered by [`PrivateKeys`].
    pub struct GetWorkerPrivateKeys = keyManager.getWorkerPrivateKeys {
        /// `version` of the root contract's state that the asker has; the answer may not be based on an older one.
        min_config_version: i32,
    }
}

tl_struct! {
    /// The keys that are valid now.
    pub struct PrivateKeys = keyManager.privateKeys {
        /// In no particular order.
        keys: Vec<PrivateKey>,
    }
}

tl_struct! {
    /// A key and how long it is good for.
    pub struct PrivateKey = keyManager.privateKey {
        /// Unix seconds.
        valid_until_utime: i32,
        /// Ed25519 seed.
        private_key: [u8; 32],
    }
}
