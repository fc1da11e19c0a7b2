//! The bytes of a query as they came: long parts stay as they are, so that they can go on and be kept without being
//! copied again; short ones are gathered, so that a query cannot cost more than a little beyond its length.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use transport::flow::PART_LEN_MAX;
use wire::SHARED_LEN_MIN;

/// A range of a query, from its beginning or from what was dropped.
#[derive(Clone, Default)]
pub(super) struct Parts {
    /// Each with the place in the query where it begins.
    pieces: VecDeque<(usize, Bytes)>,
    /// What comes after the pieces.
    gathered: BytesMut,
    /// Where the query ends, as far as it came.
    end: usize,
}

impl Parts {
    /// Appends what came.
    pub(super) fn push(&mut self, part: &[u8]) {
        // A message would copy it anyway.
        if part.len() < SHARED_LEN_MIN {
            self.gathered.extend_from_slice(part);
            self.end += part.len();
            if self.gathered.len() >= PART_LEN_MAX {
                self.close_gathered();
            }
        } else {
            self.close_gathered();
            self.pieces.push_back((self.end, Bytes::copy_from_slice(part)));
            self.end += part.len();
        }
    }

    fn close_gathered(&mut self) {
        if !self.gathered.is_empty() {
            let start = self.end - self.gathered.len();
            // With no more room than it needs.
            self.pieces.push_back((start, Bytes::copy_from_slice(&self.gathered)));
            self.gathered.clear();
        }
    }

    /// How much of the query came.
    pub(super) const fn end(&self) -> usize {
        self.end
    }

    /// Some bytes from `at` on, up to `len_max` of them: none only at the end. What is before `at` may be dropped.
    pub(super) fn from(&self, at: usize, len_max: usize) -> Bytes {
        let next = self.pieces.partition_point(|(start, _)| *start <= at);
        let piece = next.checked_sub(1).map(|index| &self.pieces[index]);
        match piece.and_then(|(start, piece)| Some((piece, at - start)).filter(|(_, at)| *at < piece.len())) {
            Some((piece, at)) => piece.slice(at..piece.len().min(at.saturating_add(len_max))),
            None => {
                let start = self.end - self.gathered.len();
                let left = &self.gathered[at.saturating_sub(start)..];
                Bytes::copy_from_slice(&left[..left.len().min(len_max)])
            }
        }
    }

    /// Forgets what is before `at`, in whole pieces.
    pub(super) fn drop_before(&mut self, at: usize) {
        while let Some((start, piece)) = self.pieces.front()
            && start + piece.len() <= at
        {
            self.pieces.pop_front();
        }
        if at == self.end {
            self.gathered.clear();
        }
    }

    /// The first `len` bytes in one piece; nothing of them may have been dropped.
    pub(super) fn first(&self, len: usize) -> BytesMut {
        let mut first = BytesMut::with_capacity(len);
        while first.len() < len {
            let more = self.from(first.len(), len - first.len());
            if more.is_empty() {
                break;
            }
            first.extend_from_slice(&more);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_pushed_comes_out_whatever_its_parts(
            lens in proptest::collection::vec(prop_oneof![0..40_usize, 1000..3000_usize, 10_000..17_000_usize], 0..40),
            len_max in 1..20_000_usize,
            drops in any::<bool>(),
        ) {
            let whole: Vec<u8> = (0..lens.iter().sum::<usize>()).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let (mut parts, mut taken) = (Parts::default(), Vec::new());
            for len in lens {
                let end = parts.end();
                parts.push(&whole[end..end + len]);
                // As far as it has come, as a query goes on to its worker.
                loop {
                    let more = parts.from(taken.len(), len_max);
                    prop_assert!(more.len() <= len_max);
                    if more.is_empty() {
                        break;
                    }
                    taken.extend_from_slice(&more);
                    if drops {
                        parts.drop_before(taken.len());
                    }
                }
                prop_assert_eq!(taken.len(), parts.end());
            }
            prop_assert_eq!(&taken, &whole);
            if !drops {
                prop_assert_eq!(&parts.first(whole.len())[..], &whole[..]);
                prop_assert_eq!(&parts.first(whole.len() / 3)[..], &whole[..whole.len() / 3]);
            }
        }
    }

    #[test]
    fn many_short_parts_take_little_more_than_their_length() {
        let mut parts = Parts::default();
        (0..100_000).for_each(|_| parts.push(b"x"));
        assert!(parts.pieces.len() <= 100_000 / PART_LEN_MAX + 1);
        assert_eq!(parts.first(100_000), vec![b'x'; 100_000]);
    }

    #[test]
    fn a_long_part_is_copied_once() {
        let mut parts = Parts::default();
        parts.push(&[1; PART_LEN_MAX]);
        let (once, again) = (parts.from(0, PART_LEN_MAX), parts.from(0, PART_LEN_MAX));
        assert_eq!(once.as_ptr(), again.as_ptr());
    }
}
