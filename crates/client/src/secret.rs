//! What authorises a client at a proxy without a transaction: another secret for each of its contracts.
//!
//! A proxy is shown the secret, and the chain its hash. One that was shown a secret shared by all contracts could show it to
//! the others, and spend there what this client has paid in.

use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use ton::Address;

/// What the secrets of all contracts follow from. No proxy ever sees it.
#[derive(Clone)]
pub struct LoginSecret(Arc<Hmac<Sha256>>);

impl LoginSecret {
    /// The secret of the node wallet with the Ed25519 seed `seed` and of a `text` that only its owner knows: another text
    /// gives other secrets. The text alone would not do: before there was one secret for each contract, proxies were shown it.
    #[must_use]
    pub fn new(seed: &[u8; 32], text: &str) -> Self {
        let mut root = mac(seed);
        root.update(b"cocoon client login");
        root.update(text.as_bytes());
        Self(Arc::new(mac(&root.finalize().into_bytes().into())))
    }

    /// The secret of one client contract.
    pub(crate) fn of(&self, contract: &Address) -> ContractSecret {
        let mut secret = Hmac::clone(&self.0);
        secret.update(&contract.workchain().to_be_bytes());
        secret.update(contract.hash());
        ContractSecret(hex::encode(secret.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for LoginSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoginSecret(<redacted>)")
    }
}

/// What is shown to one proxy.
pub(crate) struct ContractSecret(String);

impl ContractSecret {
    /// What is shown.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// What the chain knows of it.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.as_bytes()).into()
    }
}

fn mac(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_says_anything_about_another() {
        let shown = |seed: u8, text: &str, contract: u8| {
            LoginSecret::new(&[seed; 32], text).of(&Address::new(0, [contract; 32])).as_bytes().to_vec()
        };
        let text = "a text of at least 32 characters";
        let first = shown(1, text, 1);
        assert_eq!((first.len(), &first), (64, &shown(1, text, 1)));
        for other in [shown(2, text, 1), shown(1, "another", 1), shown(1, text, 2)] {
            assert_ne!(first, other);
        }
        // Who was shown the text, as all proxies once were, cannot tell either.
        assert_ne!(first, text.as_bytes());
        assert_eq!(format!("{:?}", LoginSecret::new(&[1; 32], text)), "LoginSecret(<redacted>)");
    }
}
