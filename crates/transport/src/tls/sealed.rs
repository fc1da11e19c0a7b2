//! Memory for sealed bytes: a buffer that all streams of a thread share, and what waits to be written.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

thread_local! {
    /// What the streams of a thread read and seal into, one at a time. Never longer than what waits and a read.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The shared buffer, with `len` bytes at least. Whoever needs another one meanwhile makes it.
pub(super) fn take_scratch(len: usize) -> Vec<u8> {
    let mut scratch = SCRATCH.take();
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
    scratch
}

/// Leaves the shared buffer to the next stream.
pub(super) fn give_scratch(scratch: Vec<u8>) {
    SCRATCH.set(scratch);
}

/// Bytes to be written.
#[derive(Default)]
pub(super) struct Sealed {
    pub(super) bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Sealed {
    /// Nothing yet, in the shared buffer.
    pub(super) fn in_scratch() -> Self {
        Self { bytes: take_scratch(0), start: 0, end: 0 }
    }

    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Forgets what waits, and keeps its memory.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// What waits, to be opened in place.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn waiting_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Writes until nothing waits.
    pub(super) fn poll_write<S>(&mut self, stream: &mut S, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while !self.waiting().is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(context, self.waiting()))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                len => self.start += len,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// `len` more bytes, for the caller to fill.
    pub(super) fn grow(&mut self, len: usize) -> &mut [u8] {
        let start = self.end;
        self.end += len;
        if self.bytes.len() < self.end {
            self.bytes.resize(self.end, 0);
        }
        &mut self.bytes[start..self.end]
    }

    /// Takes back what was grown beyond the first `len` bytes that wait.
    pub(super) fn truncate(&mut self, len: usize) {
        self.end = self.start + len;
    }

    /// Gives the shared buffer back, and keeps a copy of what waits.
    pub(super) fn settle(&mut self) {
        let waiting = self.waiting().to_vec();
        let end = waiting.len();
        give_scratch(mem::replace(&mut self.bytes, waiting));
        (self.start, self.end) = (0, end);
    }
}
