//! Bytes on their way to a socket.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::codec::Sink;

/// Frames that wait to be written: long pieces are shared with whoever made them, what is between them is gathered.
/// Written bytes are taken off with [`Buf::advance`].
#[derive(Default)]
pub struct Outgoing {
    pieces: VecDeque<Bytes>,
    pieces_len: usize,
    /// What comes after the pieces.
    gathered: BytesMut,
}

impl Outgoing {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces_len + self.gathered.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.pieces_len = 0;
        self.gathered.clear();
    }

    /// Gives back the memory that a burst has left, if nothing waits.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Appends a piece without copying it.
    pub(super) fn share(&mut self, piece: &Bytes) {
        for piece in [self.gathered.split().freeze(), piece.clone()] {
            if !piece.is_empty() {
                self.pieces_len += piece.len();
                self.pieces.push_back(piece);
            }
        }
    }
}

impl Sink for Outgoing {
    fn expect(&mut self, len: usize) {
        self.gathered.reserve(len);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.gathered, |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let gathered = Some(&self.gathered[..]).filter(|gathered| !gathered.is_empty());
        let chunks = self.pieces.iter().map(|piece| &piece[..]).chain(gathered);
        let filled = slices.iter_mut().zip(chunks).map(|(slice, chunk)| *slice = IoSlice::new(chunk));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let taken = count.min(piece.len());
            piece.advance(taken);
            self.pieces_len -= taken;
            count -= taken;
            if !piece.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.gathered.advance(count);
    }
}

/// There may be prompts in it.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_has_left_is_given_back_once_it_is_written() {
        let mut out = Outgoing::default();
        out.put(&[1; 10_000]);
        out.release();
        assert_eq!(out.len(), 10_000, "it waits");
        out.advance(10_000);
        assert!(out.gathered.try_reclaim(10_000), "the next burst has room at once");
        out.release();
        assert!(!out.gathered.try_reclaim(1));
    }
}
