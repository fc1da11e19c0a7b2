//! Sealed keys: an enclave on a guest's machine gives the guest the key that belongs to its image, and to no other.
//!
//! The protocol is the deployed network's. A guest sends a key of the moment, a report of itself that vouches for that key, and a name;
//! the enclave answers with the secret for that name and that image, enciphered for the key, and with a quote of SGX that vouches for
//! both. The guest keeps nothing: asked again, the same enclave gives the same image the same secret.
//!
//! - [`KeyRequest`], [`KeyAnswer`]: the messages, byte for byte.
//! - [`GuestKey`]: the guest's side. It opens an answer only with an [`Appraised`] quote of exactly that answer.
//! - [`policy`]: which enclaves are believed. [`wrap`]: the enclave's side of the cipher.
//!
//! The cipher is not authenticated by itself. What makes it whole is the quote, which vouches for the hash of it.

mod message;

use std::fmt;

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::iv::FixedLength;
use units::ImageHash;
use zeroize::Zeroizing;

use crate::appraise::Appraised;
use crate::measurements::{Hex, Measurements};
use crate::policy::{Allowed, Policy};
use crate::quote::Tee;

pub use message::{KeyAnswer, KeyMessageError, KeyName, KeyNameError, KeyRequest};

/// Longest message of either side in bytes, without the four bytes of its length before it.
pub const MESSAGE_LEN_MAX: usize = 16_536;
/// Length of a public key: both coordinates.
const PUBLIC_LEN: usize = 64;
/// Length of a secret that is enciphered: the enclave's key of the moment, and 32 bytes.
pub const WRAPPED_LEN: usize = PUBLIC_LEN + 32;

/// What an SGX enclave is known by.
pub type MrEnclave = Hex<32>;

/// A secret of 32 bytes that belongs to an image. Cleared when it is dropped, and never shown.
pub struct SealedKey(Zeroizing<[u8; 32]>);

impl SealedKey {
    /// The secret.
    #[must_use]
    pub const fn expose(&self) -> &Zeroizing<[u8; 32]> {
        &self.0
    }
}

/// Nothing of it.
impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedKey(..)")
    }
}

/// An answer that gives no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedKeyError {
    /// The quote is of something else.
    #[error(
        "the quote that was appraised is not the one of this answer: it vouches for another key or another secret"
    )]
    OtherQuote,
    /// The other side's key is no point of the curve.
    #[error("the public key is no point of P-256")]
    PublicKey,
    /// The library failed.
    #[error("the cryptographic library failed to {0}")]
    Cryptography(&'static str),
}

/// Which sealers are believed: these enclaves and no others, none if there are none; not under debug, and on machines whose firmware is
/// up to date.
#[must_use]
pub fn policy(enclaves: impl IntoIterator<Item = MrEnclave>) -> Policy {
    let images = enclaves.into_iter().map(|enclave| image_of(&enclave));
    Policy { tees: [Tee::Sgx].into(), ..Policy::for_images(Allowed::only(images)) }
}

fn image_of(enclave: &MrEnclave) -> ImageHash {
    Measurements::Sgx { mrenclave: *enclave.as_bytes(), report_data: [0; 64] }.image_hash()
}

/// A guest's key of the moment.
pub struct GuestKey {
    private: PrivateKey,
    public: [u8; PUBLIC_LEN],
}

impl fmt::Debug for GuestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestKey(..)")
    }
}

impl GuestKey {
    /// Draws one.
    ///
    /// # Errors
    /// [`SealedKeyError::Cryptography`] if the library has no randomness.
    pub fn generate() -> Result<Self, SealedKeyError> {
        let drawn = PrivateKey::generate(&ECDH_P256);
        Self::of(drawn.map_err(|_unspecified| SealedKeyError::Cryptography("draw a key"))?)
    }

    fn of(private: PrivateKey) -> Result<Self, SealedKeyError> {
        let public = coordinates(&private)?;
        Ok(Self { private, public })
    }

    /// What goes to the enclave: both coordinates, each little-endian.
    #[must_use]
    pub const fn public(&self) -> &[u8; PUBLIC_LEN] {
        &self.public
    }

    /// What the guest's report has to vouch for.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        report_data_of_public_key(&self.public)
    }

    /// What the quote of an answer has to vouch for.
    #[must_use]
    pub fn report_data_of(&self, answer: &KeyAnswer) -> [u8; 64] {
        report_data_of_answer(&self.public, &answer.wrapped)
    }

    /// The secret of an answer whose quote was appraised. The key serves one answer.
    ///
    /// # Errors
    /// [`SealedKeyError`] if the quote is of something else, or the enclave's key is none.
    pub fn open(self, answer: &KeyAnswer, quote: &Appraised) -> Result<SealedKey, SealedKeyError> {
        let claims = quote.claims();
        if claims.tee != Tee::Sgx || *claims.measurements.report_data() != self.report_data_of(answer) {
            return Err(SealedKeyError::OtherQuote);
        }
        let (public, secret) =
            answer.wrapped.split_first_chunk().expect("a wrapped secret is longer than a key");
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(secret);
        cipher(&self.private, public, &mut key)?;
        Ok(SealedKey(key))
    }
}

/// What a guest's report vouches for: SHA-256 of its key, and zeros.
#[must_use]
pub fn report_data_of_public_key(public: &[u8; PUBLIC_LEN]) -> [u8; 64] {
    let mut data = [0; 64];
    data[..32].copy_from_slice(digest(&SHA256, public).as_ref());
    data
}

/// What an enclave's quote vouches for: SHA-256 of the guest's key, and of the secret that is enciphered for it.
#[must_use]
pub fn report_data_of_answer(public: &[u8; PUBLIC_LEN], wrapped: &[u8; WRAPPED_LEN]) -> [u8; 64] {
    let mut data = report_data_of_public_key(public);
    data[32..].copy_from_slice(digest(&SHA256, wrapped).as_ref());
    data
}

/// Enciphers a secret for the holder of a key, with a key of the moment. The enclave's part.
///
/// # Errors
/// [`SealedKeyError`] if the key is no point of the curve, or the library fails.
pub fn wrap(public: &[u8; PUBLIC_LEN], secret: &[u8; 32]) -> Result<[u8; WRAPPED_LEN], SealedKeyError> {
    let own = GuestKey::generate()?;
    let mut wrapped = [0; WRAPPED_LEN];
    let mut enciphered = Zeroizing::new(*secret);
    cipher(&own.private, public, &mut enciphered)?;
    wrapped[..PUBLIC_LEN].copy_from_slice(&own.public);
    wrapped[PUBLIC_LEN..].copy_from_slice(&*enciphered);
    Ok(wrapped)
}

/// Both coordinates of a key, each little-endian.
fn coordinates(key: &PrivateKey) -> Result<[u8; PUBLIC_LEN], SealedKeyError> {
    let failed = || SealedKeyError::Cryptography("compute a public key of 65 bytes");
    let point = key.compute_public_key().map_err(|_unspecified| failed())?;
    // 4, and both coordinates, each big-endian.
    let mut both: [u8; PUBLIC_LEN] =
        point.as_ref().split_first().and_then(|(_form, both)| both.try_into().ok()).ok_or_else(failed)?;
    both.chunks_mut(32).for_each(<[u8]>::reverse);
    Ok(both)
}

/// AES-128 in counter mode, the same in both directions. Key and first counter are the halves of SHA-256 over the coordinate that both
/// sides agree on, little-endian.
fn cipher(own: &PrivateKey, other: &[u8; PUBLIC_LEN], text: &mut [u8; 32]) -> Result<(), SealedKeyError> {
    let mut point = [4; 1 + PUBLIC_LEN];
    point[1..].copy_from_slice(other);
    point[1..].chunks_mut(32).for_each(<[u8]>::reverse);
    let other = UnparsedPublicKey::new(&ECDH_P256, point);
    agreement::agree(own, other, SealedKeyError::PublicKey, |shared| {
        let failed = |_unspecified| SealedKeyError::Cryptography("encipher with AES-128");
        let mut shared = Zeroizing::new(shared.to_vec());
        shared.reverse();
        let hash = digest(&SHA256, &shared);
        let (key, counter) = hash.as_ref().split_at(16);
        let key = UnboundCipherKey::new(&AES_128, key).and_then(DecryptingKey::ctr).map_err(failed)?;
        let counter = FixedLength::<16>::try_from(counter).map_err(failed)?;
        key.decrypt(text, DecryptionContext::Iv128(counter)).map_err(failed)?;
        Ok(())
    })
}

#[cfg(test)]
mod tests;
