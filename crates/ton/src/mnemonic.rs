//! The 24 words from which people's wallets are made.
//!
//! TON takes the word list of BIP-39 and nothing else of it: what makes words valid is that a slow hash of theirs
//! begins with a fixed byte, and the key comes from that hash (`Mnemonic` of TON's own node software; the official
//! SDK does the same). A password changes the key; words that are made for one say so themselves.

use std::fmt;

use bip39::Language;
use ed25519_dalek::SigningKey;
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use sha2::Sha512;
use zeroize::Zeroizing;

/// Words and perhaps a password. Neither is ever printed; both leave memory when dropped.
#[derive(Clone)]
pub struct Mnemonic {
    words: Zeroizing<String>,
    password: Zeroizing<String>,
}

/// Words that make no wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MnemonicError {
    /// Words are missing, or there are too many.
    #[error("a mnemonic has {} words, not {found}", Mnemonic::WORDS)]
    Count {
        /// Words found.
        found: usize,
    },
    /// A word that is not on the list. Which one it is would be part of a secret.
    #[error("word {position} is not on the list of mnemonic words: look for a typing error")]
    Word {
        /// Position in the text, the first one is 1.
        position: usize,
    },
    /// The words are made for a password and there is none.
    #[error("these words need a password")]
    PasswordNeeded,
    /// The words are made without a password and there is one.
    #[error("these words have no password: leave it out")]
    PasswordNotNeeded,
    /// The words belong to no wallet, or the password is wrong.
    #[error("these words make no TON wallet: look for a typing error, a wrong order or a wrong password")]
    Invalid,
}

/// Rounds of the slow hash.
const ROUNDS: u32 = 100_000;

type Hash = Zeroizing<[u8; 64]>;

impl Mnemonic {
    /// How many words there are.
    pub const WORDS: usize = 24;

    /// Reads words with white space between them, in any case. An empty password is none.
    ///
    /// # Errors
    /// [`MnemonicError`] says which word is wrong, or that they belong to no wallet.
    pub fn parse(text: &str, password: &str) -> Result<Self, MnemonicError> {
        let found = text.split_whitespace().count();
        if found != Self::WORDS {
            return Err(MnemonicError::Count { found });
        }
        // Reserved once, so that no copy is left behind in memory.
        let mut words = Zeroizing::new(String::with_capacity(text.len()));
        for (word, position) in text.split_whitespace().zip(1..) {
            let lower = Zeroizing::new(word.to_ascii_lowercase());
            Language::English.find_word(&lower).ok_or(MnemonicError::Word { position })?;
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(&lower);
        }
        let mnemonic = Self { words, password: Zeroizing::new(password.to_owned()) };
        mnemonic.check()?;
        Ok(mnemonic)
    }

    /// New words. `fill` must give unpredictable bytes; some 256 sets of words are tried until one is valid.
    #[must_use]
    pub fn generate(password: &str, mut fill: impl FnMut(&mut [u8])) -> Self {
        let list = Language::English.word_list();
        loop {
            let mut random = Zeroizing::new([0; 2 * Self::WORDS]);
            fill(&mut *random);
            let mut words = Zeroizing::new(String::with_capacity(9 * Self::WORDS));
            for bytes in random.chunks_exact(2) {
                if !words.is_empty() {
                    words.push(' ');
                }
                // 2^16 is a multiple of the number of words: each is as likely as any other.
                let index = usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) % list.len();
                words.push_str(list[index]);
            }
            let mnemonic = Self { words, password: Zeroizing::new(password.to_owned()) };
            if mnemonic.check().is_ok() {
                return mnemonic;
            }
        }
    }

    /// The words, to be shown to their owner once.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }

    /// The key of the wallets.
    #[must_use]
    pub fn key(&self) -> SigningKey {
        let seed = slow_hash(&self.entropy(&self.password), b"TON default seed", ROUNDS);
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(&seed[..32]);
        SigningKey::from_bytes(&secret)
    }

    fn check(&self) -> Result<(), MnemonicError> {
        let with_password = self.entropy(&self.password);
        if self.password.is_empty() {
            return match (is_basic(&with_password), is_for_password(&with_password)) {
                (true, _) => Ok(()),
                (false, true) => Err(MnemonicError::PasswordNeeded),
                (false, false) => Err(MnemonicError::Invalid),
            };
        }
        let without = self.entropy("");
        match (is_for_password(&without), is_basic(&without)) {
            (_, true) => Err(MnemonicError::PasswordNotNeeded),
            (true, false) if is_basic(&with_password) => Ok(()),
            _ => Err(MnemonicError::Invalid),
        }
    }

    fn entropy(&self, password: &str) -> Hash {
        let mut mac =
            Hmac::<Sha512>::new_from_slice(self.words.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(password.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Mnemonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mnemonic(secret)")
    }
}

/// Whether the words work with the password that went into `entropy`.
fn is_basic(entropy: &Hash) -> bool {
    slow_hash(entropy, b"TON seed version", ROUNDS / 256)[0] == 0
}

/// Whether the words, hashed without a password, are made for one.
fn is_for_password(entropy: &Hash) -> bool {
    slow_hash(entropy, b"TON fast seed version", 1)[0] == 1
}

fn slow_hash(entropy: &Hash, salt: &[u8], rounds: u32) -> Hash {
    let mut hash = Hash::new([0; 64]);
    pbkdf2_hmac::<Sha512>(&**entropy, salt, rounds, &mut *hash);
    hash
}

#[cfg(test)]
mod tests;
