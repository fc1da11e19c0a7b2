//! Keys that follow from a seed: ECDSA on P-256, all that quotes and their certificates use.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use aws_lc_rs::{agreement, hmac, rand};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use crate::SimError;

/// A private key: a number below the curve's order.
pub(crate) type Scalar = Zeroizing<[u8; 32]>;

/// A key that signs certificates, and bytes as quotes hold signatures.
pub(crate) struct Key {
    scalar: Scalar,
    /// 4, and both coordinates.
    public: [u8; 65],
    for_certificates: EcdsaKeyPair,
    for_quotes: EcdsaKeyPair,
}

impl Key {
    /// The key that a seed has for a purpose.
    pub(crate) fn derive(seed: &[u8; 32], purpose: &str, of: &[u8]) -> Result<Self, SimError> {
        let seed = hmac::Key::new(hmac::HMAC_SHA256, seed);
        // One number of 2^32 is above the curve's order.
        let keys = (0..=u8::MAX).map(|attempt| {
            let tag = hmac::sign(&seed, &[purpose.as_bytes(), &[0, attempt], of].concat());
            let mut scalar = Zeroizing::new([0; 32]);
            scalar.copy_from_slice(tag.as_ref());
            Self::new(scalar)
        });
        let mut refused = Err(SimError::Cryptography("derive a key"));
        for key in keys {
            refused = key;
            if refused.is_ok() {
                break;
            }
        }
        refused
    }

    /// The key of a number.
    pub(crate) fn new(scalar: Scalar) -> Result<Self, SimError> {
        let refused = |_refused| SimError::Cryptography("take a key");
        let agreement = agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, &*scalar)
            .map_err(|_rejected| SimError::Cryptography("take a key"))?;
        let computed = agreement.compute_public_key().map_err(refused)?;
        let public: [u8; 65] = computed
            .as_ref()
            .try_into()
            .map_err(|_length| SimError::Cryptography("compute a public key of 65 bytes"))?;
        let pair = |algorithm| {
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, &*scalar, &public)
                .map_err(|_rejected| SimError::Cryptography("take a key"))
        };
        let for_certificates = pair(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        let for_quotes = pair(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        Ok(Self { scalar, public, for_certificates, for_quotes })
    }

    pub(crate) const fn scalar(&self) -> &Scalar {
        &self.scalar
    }

    /// The point, as certificates hold it: 4, and both coordinates.
    pub(crate) const fn point(&self) -> &[u8; 65] {
        &self.public
    }

    /// Both coordinates, as quotes hold a key.
    pub(crate) fn coordinates(&self) -> &[u8] {
        &self.public[1..]
    }

    /// Both numbers of a signature, as quotes hold it.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64], SimError> {
        let signed = self.for_quotes.sign(&rand::SystemRandom::new(), message);
        let signature = signed.map_err(|_refused| SimError::Cryptography("sign"))?;
        signature
            .as_ref()
            .try_into()
            .map_err(|_length| SimError::Cryptography("make a signature of 64 bytes"))
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signed = self.for_certificates.sign(&rand::SystemRandom::new(), message);
        Ok(signed.map_err(|_refused| rcgen::Error::RemoteKeyError)?.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_key_for_each_purpose() {
        let public = |seed, purpose, of: &[u8]| *Key::derive(&[seed; 32], purpose, of).unwrap().point();
        let key = public(1, "root", b"");
        assert_eq!(public(1, "root", b""), key);
        for other in [public(2, "root", b""), public(1, "authority", b""), public(1, "root", b"1")] {
            assert_ne!(other, key);
        }
    }

    #[test]
    fn numbers_beyond_the_curve_are_no_keys() {
        assert!(Key::new(Zeroizing::new([1; 32])).is_ok());
        for refused in [[0; 32], [0xff; 32]] {
            assert!(matches!(Key::new(Zeroizing::new(refused)), Err(SimError::Cryptography(_))));
        }
    }
}
