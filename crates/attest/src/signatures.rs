//! Signatures that were found good, remembered.
//!
//! Most of what is verified for a quote is the same for all quotes: the vendor's certificates, lists of revocations, and what it says
//! of its platforms. Of ten signatures, the platform's certificate, its quoting enclave and the quote itself have the
//! other three. Whether a signature is good follows from key, message and signature alone, so a remembered answer is a true
//! one; dates and revocations are looked at elsewhere, each time.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{LazyLock, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use lru::LruCache;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

/// Good signatures that are remembered, 100 bytes each. What all quotes share is used again and again and stays.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// ECDSA with SHA-256 on P-256, which is all that Intel signs with.
pub(crate) static ECDSA_P256: LazyLock<Remembering> =
    LazyLock::new(|| Remembering::new(webpki::aws_lc_rs::ECDSA_P256_SHA256));

/// An algorithm that remembers what it found good.
pub(crate) struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    good: Mutex<LruCache<[u8; 32], ()>>,
}

impl Remembering {
    fn new(algorithm: &'static dyn SignatureVerificationAlgorithm) -> Self {
        Self { algorithm, good: Mutex::new(LruCache::new(REMEMBERED_MAX)) }
    }

    fn good(&self) -> std::sync::MutexGuard<'_, LruCache<[u8; 32], ()>> {
        // The table behind a poisoned lock is whole: entries come and go in one step each.
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Remembering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let name = name(public_key, message, signature);
        if self.good().get(&name).is_some() {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        self.good().put(name, ());
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

/// No two triples have the same: each part goes in with its length.
fn name(public_key: &[u8], message: &[u8], signature: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in [public_key, message, signature] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut name = [0; 32];
    name.copy_from_slice(hash.finish().as_ref());
    name
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Finds good what is signed `good`, and counts how often it was asked.
    #[derive(Debug, Default)]
    struct Counting {
        asked: AtomicUsize,
    }

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(&self, _: &[u8], _: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if signature.starts_with(b"good") { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            webpki::aws_lc_rs::ECDSA_P256_SHA256.public_key_alg_id()
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            webpki::aws_lc_rs::ECDSA_P256_SHA256.signature_alg_id()
        }
    }

    fn counting() -> (Remembering, &'static Counting) {
        let counting: &'static Counting = Box::leak(Box::default());
        (Remembering::new(counting), counting)
    }

    #[test]
    fn the_same_good_signature_is_verified_once() {
        let (algorithm, counting) = counting();
        for _time in 0..3 {
            algorithm.verify_signature(b"key", b"message", b"good").unwrap();
        }
        assert_eq!(counting.asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn nothing_else_is_taken_for_it() {
        let (algorithm, counting) = counting();
        algorithm.verify_signature(b"key", b"message", b"good").unwrap();
        // Other parts, and the same bytes with the borders elsewhere.
        let others: [[&[u8]; 3]; 5] = [
            [b"kex", b"message", b"good"],
            [b"key", b"messagf", b"good"],
            [b"key", b"message", b"good "],
            [b"keym", b"essage", b"good"],
            [b"", b"keymessage", b"good"],
        ];
        for [key, message, signature] in others {
            algorithm.verify_signature(key, message, signature).unwrap();
        }
        assert_eq!(counting.asked.load(Ordering::Relaxed), 1 + others.len());
    }

    #[test]
    fn bad_signatures_are_bad_each_time_and_not_remembered() {
        let (algorithm, counting) = counting();
        for _time in 0..2 {
            assert!(algorithm.verify_signature(b"key", b"message", b"bad").is_err());
        }
        assert_eq!(counting.asked.load(Ordering::Relaxed), 2);
        assert!(algorithm.good().is_empty());
    }

    #[test]
    fn what_is_not_used_again_is_forgotten() {
        let (algorithm, counting) = counting();
        let shared = || algorithm.verify_signature(b"root", b"certificate", b"good").unwrap();
        for number in 0..2 * REMEMBERED_MAX.get() {
            shared();
            algorithm.verify_signature(b"key", &number.to_le_bytes(), b"good").unwrap();
        }
        shared();
        assert_eq!(counting.asked.load(Ordering::Relaxed), 1 + 2 * REMEMBERED_MAX.get());
        assert_eq!(algorithm.good().len(), REMEMBERED_MAX.get());
    }
}
