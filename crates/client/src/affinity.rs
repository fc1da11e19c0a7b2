//! What proxies learn of an application's affinity keys.

use sha2::{Digest as _, Sha256};

/// Turns affinity keys into numbers by which a proxy can tell which requests belong together, and nothing else: drawn
/// anew at every start, so that no key can be guessed from its number, and no two clients have the same one.
pub(crate) struct AffinitySecret([u8; 32]);

impl AffinitySecret {
    pub(crate) const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// The value of the header that travels: 16 hexadecimal digits.
    pub(crate) fn conceal(&self, model: &str, key: &[u8]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update((model.len() as u64).to_le_bytes());
        hash.update(model);
        hash.update(key);
        hex::encode(&hash.finalize()[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_depends_on_secret_model_and_key_alone() {
        let secret = AffinitySecret::new([1; 32]);
        let number = secret.conceal("m", b"key");
        assert_eq!(number.len(), 16);
        assert_eq!(secret.conceal("m", b"key"), number);
        let others = [
            secret.conceal("m", b"other"),
            secret.conceal("mk", b"ey"),
            AffinitySecret::new([2; 32]).conceal("m", b"key"),
        ];
        assert!(others.iter().all(|other| *other != number));
    }
}
