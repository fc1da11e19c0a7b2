//! Proof of work: what a connecting peer pays before the TLS handshake, as in the deployed network.
//!
//! Right after the TCP connect the accepting side sends a [`Challenge`]; the connecting side answers with a
//! [`Solution`]. Both have a fixed size, so that each side reads exactly one of them and no byte of what follows.
//! Anything wrong ends the connection without a word.
//!
//! It makes connecting cost something; it says nothing about who connects.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

const CHALLENGE_MAGIC: u32 = 0x418e_1291;
const SOLUTION_MAGIC: u32 = 0x0182_7319;

/// What the accepting side asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Leading zero bits that the hash must have. Every nonce satisfies zero and less; nothing satisfies more than 64.
    pub difficulty: i32,
    /// Random, so that nothing can be computed in advance.
    pub salt: [u8; 16],
}

/// The nonce that the connecting side found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solution {
    /// The number that was searched for.
    pub nonce: i64,
}

/// Why proof of work failed. All but [`PowError::GaveUp`] are the peer's doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PowError {
    /// The first bytes are of another protocol.
    #[error("expected a proof-of-work {expected}, the peer speaks something else")]
    Magic {
        /// `challenge` or `solution`.
        expected: &'static str,
    },
    /// More work than we are willing to do.
    #[error("the peer asks for {found} bits of work, at most {max} are accepted")]
    TooDifficult {
        /// What the peer asks for.
        found: i32,
        /// Our limit.
        max: u8,
    },
    /// The nonce does not satisfy the challenge.
    #[error("the nonce does not satisfy a difficulty of {difficulty} bits")]
    Unsatisfied {
        /// What was asked for.
        difficulty: i32,
    },
    /// The search ended before a nonce was found: the program stops, or there is none.
    #[error("the search for a nonce ended without one")]
    GaveUp,
}

impl Challenge {
    /// Bytes of a challenge.
    pub const LEN: usize = 24;

    /// The bytes that go to the connecting side.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&CHALLENGE_MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.difficulty.to_le_bytes());
        bytes[8..].copy_from_slice(&self.salt);
        bytes
    }

    /// Reads a challenge on the connecting side, which does work of `difficulty_max` bits at most.
    ///
    /// # Errors
    /// [`PowError::Magic`] or [`PowError::TooDifficult`].
    pub fn decode(bytes: &[u8; Self::LEN], difficulty_max: u8) -> Result<Self, PowError> {
        let [m0, m1, m2, m3, d0, d1, d2, d3, salt @ ..] = *bytes;
        if u32::from_le_bytes([m0, m1, m2, m3]) != CHALLENGE_MAGIC {
            return Err(PowError::Magic { expected: "challenge" });
        }
        let difficulty = i32::from_le_bytes([d0, d1, d2, d3]);
        if difficulty > i32::from(difficulty_max) {
            return Err(PowError::TooDifficult { found: difficulty, max: difficulty_max });
        }
        Ok(Self { difficulty, salt })
    }

    /// Checks a solution on the accepting side.
    ///
    /// # Errors
    /// [`PowError::Unsatisfied`].
    pub fn check(&self, solution: Solution) -> Result<(), PowError> {
        if zero_bits(&self.hash(solution.nonce)) >= self.difficulty {
            return Ok(());
        }
        Err(PowError::Unsatisfied { difficulty: self.difficulty })
    }

    /// Searches `nonces` for the first that satisfies the challenge. Among all there are, that takes 2^difficulty hashes on
    /// average: not for async tasks.
    #[must_use]
    pub fn search(&self, mut nonces: Range<i64>) -> Option<Solution> {
        let nonce = nonces.find(|nonce| zero_bits(&self.hash(*nonce)) >= self.difficulty)?;
        Some(Solution { nonce })
    }

    fn hash(&self, nonce: i64) -> [u8; 32] {
        let mut input = [0; 24];
        input[..16].copy_from_slice(&self.salt);
        input[16..].copy_from_slice(&nonce.to_le_bytes());
        Sha256::digest(input).into()
    }
}

impl Solution {
    /// Bytes of a solution.
    pub const LEN: usize = 12;

    /// The bytes that go to the accepting side.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&SOLUTION_MAGIC.to_le_bytes());
        bytes[4..].copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }

    /// Reads a solution on the accepting side. [`Challenge::check`] says whether it is right.
    ///
    /// # Errors
    /// [`PowError::Magic`].
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, PowError> {
        let [m0, m1, m2, m3, nonce @ ..] = *bytes;
        if u32::from_le_bytes([m0, m1, m2, m3]) != SOLUTION_MAGIC {
            return Err(PowError::Magic { expected: "solution" });
        }
        Ok(Self { nonce: i64::from_le_bytes(nonce) })
    }
}

/// Leading zero bits of the first eight bytes read as a *little-endian* number: counting begins at the top of byte 7.
fn zero_bits(hash: &[u8; 32]) -> i32 {
    let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = *hash;
    let zeros = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]).leading_zeros();
    i32::try_from(zeros).expect("a u64 has at most 64 zero bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Salt `000102…0f`, as in the vectors of the deployed network.
    fn challenge(difficulty: i32) -> Challenge {
        Challenge { difficulty, salt: std::array::from_fn(|index| u8::try_from(index).unwrap()) }
    }

    #[test]
    fn bytes_are_those_of_the_deployed_network() {
        let bytes = challenge(20).encode();
        assert_eq!(hex::encode(bytes), "91128e4114000000000102030405060708090a0b0c0d0e0f");
        assert_eq!(Challenge::decode(&bytes, 20), Ok(challenge(20)));

        let solution = Solution { nonce: 303_607 };
        assert_eq!(hex::encode(solution.encode()), "19738201f7a1040000000000");
        assert_eq!(Solution::decode(&solution.encode()), Ok(solution));
    }

    #[test]
    fn smallest_nonces_and_their_hashes() {
        assert_eq!(challenge(12).search(0..i64::MAX), Some(Solution { nonce: 7012 }));
        assert_eq!(challenge(12).search(0..7012), None);
        assert_eq!(challenge(12).search(7012..7013), Some(Solution { nonce: 7012 }));
        assert_eq!(hex::encode(&challenge(12).hash(7012)[..8]), "7e7aa796bce60400");
        assert_eq!(hex::encode(&challenge(20).hash(303_607)[..8]), "54378ad121060000");
        assert_eq!(challenge(20).check(Solution { nonce: 303_607 }), Ok(()));
    }

    #[test]
    fn one_bit_more_or_another_nonce_is_refused() {
        let zeros = zero_bits(&challenge(0).hash(7012));
        assert_eq!(challenge(zeros).check(Solution { nonce: 7012 }), Ok(()));
        let refused = Err(PowError::Unsatisfied { difficulty: zeros + 1 });
        assert_eq!(challenge(zeros + 1).check(Solution { nonce: 7012 }), refused);
        let refused = Err(PowError::Unsatisfied { difficulty: 12 });
        assert_eq!(challenge(12).check(Solution { nonce: 7011 }), refused);
    }

    #[test]
    fn no_difficulty_is_satisfied_by_anything() {
        for difficulty in [0, -1, i32::MIN] {
            assert_eq!(challenge(difficulty).check(Solution { nonce: -1 }), Ok(()));
            assert_eq!(challenge(difficulty).search(0..1), Some(Solution { nonce: 0 }));
        }
        assert!(challenge(65).check(Solution { nonce: 0 }).is_err());
    }

    #[test]
    fn too_much_work_is_refused() {
        let bytes = challenge(29).encode();
        assert_eq!(Challenge::decode(&bytes, 28), Err(PowError::TooDifficult { found: 29, max: 28 }));
        assert!(Challenge::decode(&bytes, 29).is_ok());
    }

    #[test]
    fn other_protocols_are_refused() {
        let mut bytes = challenge(1).encode();
        bytes[0] ^= 1;
        assert_eq!(Challenge::decode(&bytes, 28), Err(PowError::Magic { expected: "challenge" }));
        let mut bytes = Solution { nonce: 1 }.encode();
        bytes[3] ^= 0x80;
        assert_eq!(Solution::decode(&bytes), Err(PowError::Magic { expected: "solution" }));
    }
}
