//! A TLS session over a stream, with memory only for bytes that wait.
//!
//! The usual session of the TLS library keeps 4 KiB for its next read, a third of what an idle link takes, and the peer's
//! certificate, and never reads more at once, so that a message of 100 KB needs 25 system calls. Here the library does the
//! handshake; behind it stand [`Records`] and three buffers that end when they are empty: what came and is not opened, what is
//! opened and not read, what is sealed and not written. Bytes come into and go out of a buffer that all streams of a thread
//! share; only what waits is copied out of it.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::records::{Failure, OVERHEAD, Opened, PLAIN_LEN_MAX, Records};
use super::sealed::{Sealed, give_scratch, take_scratch};

/// Bytes that are sealed at one go, four records.
const SEAL_LEN_MAX: usize = 4 * PLAIN_LEN_MAX;

/// Least and most free space for a read from the stream; in between, as much as the reader has room for.
const READ_LEN_MIN: usize = 1024;
const READ_LEN_MAX: usize = 64 * 1024;

/// A stream of plain bytes over one of records. Errors of TLS come as [`ErrorKind::InvalidData`] around an
/// [`rustls::Error`]; an end without goodbye is [`ErrorKind::UnexpectedEof`].
pub(crate) struct TlsStream<S> {
    stream: S,
    /// Boxed, since they are several times the size of all else.
    records: Box<Records>,
    /// Came and is not opened: less than a record.
    sealed_in: Vec<u8>,
    /// Opened, and its reader had no room.
    opened: BytesMut,
    sealed_out: Sealed,
    /// The peer has said goodbye.
    is_over: bool,
    /// We have.
    is_closing: bool,
    /// Why the session cannot go on.
    broken: Option<Box<Error>>,
}

impl<S> fmt::Debug for TlsStream<S> {
    /// Nothing of the bytes: prompts are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// A session whose handshake is done; `sealed_in` came behind it.
    pub(super) fn new(stream: S, records: Records, mut sealed_in: Vec<u8>) -> Self {
        let mut this = Self {
            stream,
            records: Box::new(records),
            sealed_in: Vec::new(),
            opened: BytesMut::new(),
            sealed_out: Sealed::default(),
            is_over: false,
            is_closing: false,
            broken: None,
        };
        // What is wrong with it, if anything, is kept for whoever reads.
        let (used, _kept) = this.open(&mut sealed_in, None);
        this.sealed_in = sealed_in[used..].to_vec();
        this
    }

    /// The stream of records.
    pub(crate) const fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Opens the records in `sealed`, into `reader` first. Returns how many bytes are done with.
    fn open(&mut self, sealed: &mut [u8], mut reader: Option<&mut ReadBuf<'_>>) -> (usize, io::Result<()>) {
        let mut used = 0;
        while !self.is_over {
            match self.records.open(&mut sealed[used..]) {
                Ok(Some((len, opened))) => {
                    match opened {
                        Opened::Plain(plain) => give(plain, reader.as_deref_mut(), &mut self.opened),
                        Opened::Message => {}
                        Opened::Goodbye => self.is_over = true,
                    }
                    used += len;
                }
                Ok(None) => return (used, Ok(())),
                Err(Failure { error, alert }) => {
                    if let Some(alert) = alert {
                        self.records.seal_alert(alert, &mut self.sealed_out);
                    }
                    self.broken = Some(Box::new(error.clone()));
                    return (sealed.len(), Err(broken(error)));
                }
            }
        }
        // What follows a goodbye means nothing (RFC 8446, section 6.1).
        (sealed.len(), Ok(()))
    }

    /// Whether the session still goes on.
    fn check(&self) -> io::Result<()> {
        self.broken.as_ref().map_or(Ok(()), |error| Err(broken((**error).clone())))
    }

    /// Reads once from the stream and opens what came, into `reader` first. Returns how many bytes came.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        reader: Option<&mut ReadBuf<'_>>,
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let begun = self.sealed_in.len();
        let room = reader.as_ref().map_or(0, |reader| reader.remaining());
        let len = room.saturating_add(OVERHEAD).clamp(READ_LEN_MIN, READ_LEN_MAX);
        let mut scratch = take_scratch(begun + len);
        let mut read = ReadBuf::new(&mut scratch[begun..begun + len]);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut read);
        let came = read.filled().len();
        let received = match polled {
            Poll::Ready(Ok(())) if came > 0 => {
                let sealed = &mut scratch[..begun + came];
                sealed[..begun].copy_from_slice(&self.sealed_in);
                let (used, opened) = self.open(sealed, reader);
                self.sealed_in = sealed[used..].to_vec();
                Poll::Ready(opened.map(|()| came))
            }
            polled => polled.map_ok(|()| 0),
        };
        give_scratch(scratch);
        received
    }

    /// Seals what can be at one go, in as few records as it takes. Returns how much that is.
    fn seal(&mut self, pieces: &[IoSlice<'_>]) -> usize {
        let whole = pieces.iter().map(|piece| piece.len()).sum::<usize>().min(SEAL_LEN_MAX);
        let mut rest = Rest { pieces, taken: 0 };
        let mut left = whole;
        while left > 0 {
            let len = left.min(PLAIN_LEN_MAX);
            self.records.seal_plain(len, |room| rest.fill(room), &mut self.sealed_out);
            left -= len;
        }
        whole
    }

    /// Writes what is sealed.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.sealed_out.poll_write(&mut self.stream, context))?;
        self.sealed_out = Sealed::default();
        Poll::Ready(Ok(()))
    }
}

/// Opened bytes go to the reader, as far as it has room and nothing was opened before; the rest waits.
fn give(plain: &[u8], reader: Option<&mut ReadBuf<'_>>, opened: &mut BytesMut) {
    let mut later = plain;
    if let Some(reader) = reader
        && opened.is_empty()
    {
        let (now, rest) = plain.split_at(plain.len().min(reader.remaining()));
        reader.put_slice(now);
        later = rest;
    }
    opened.extend_from_slice(later);
}

/// Pieces of which some bytes are taken.
struct Rest<'a, 'b> {
    pieces: &'a [IoSlice<'b>],
    /// Bytes of the first piece.
    taken: usize,
}

impl Rest<'_, '_> {
    /// Fills `room` with the next bytes, which are there.
    fn fill(&mut self, mut room: &mut [u8]) {
        while !room.is_empty() {
            let Some(piece) = self.pieces.first() else { return };
            let piece = &piece[self.taken..];
            let len = piece.len().min(room.len());
            let (now, later) = room.split_at_mut(len);
            now.copy_from_slice(&piece[..len]);
            room = later;
            if len == piece.len() {
                (self.pieces, self.taken) = (&self.pieces[1..], 0);
            } else {
                self.taken += len;
            }
        }
    }
}

/// An error of TLS as one of I/O.
pub(super) fn broken(error: Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reader: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = reader.filled().len();
        loop {
            if !this.opened.is_empty() {
                let len = this.opened.len().min(reader.remaining());
                reader.put_slice(&this.opened[..len]);
                this.opened.advance(len);
                if this.opened.is_empty() {
                    this.opened = BytesMut::new();
                }
            }
            if reader.filled().len() > before || reader.remaining() == 0 || this.is_over {
                return Poll::Ready(Ok(()));
            }
            let received = ready!(this.poll_receive(context, Some(reader)));
            if this.broken.is_some() {
                // The peer learns why, if there is room.
                let _lost = this.poll_send(context);
            }
            // What came before an error is read before it.
            if reader.filled().len() == before && received? == 0 {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, plain: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(plain)])
    }

    /// Seals as soon as everything before is written, so that no more than that waits here. All pieces go out in one system
    /// call, in records that are as full as can be.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        this.check()?;
        if this.is_closing {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        this.sealed_out = Sealed::in_scratch();
        let taken = this.seal(pieces);
        let sent = this.sealed_out.poll_write(&mut this.stream, context);
        this.sealed_out.settle();
        match sent {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !mem::replace(&mut this.is_closing, true) && this.broken.is_none() {
            this.records.seal_goodbye(&mut this.sealed_out);
        }
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
