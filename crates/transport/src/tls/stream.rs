//! A TLS session over a stream, with memory only for bytes that wait.
//!
//! The usual session of the TLS library keeps 4 KiB for its next read, a third of what an idle link takes, and never reads
//! more at once, so that a message of 100 KB needs 25 system calls. This is the library's session without buffers, and
//! around it three that end when they are empty: what came and is not opened, what is opened and not read, what is sealed
//! and not written. Bytes come into and go out of a buffer that all streams of a thread share; only what waits is copied
//! out of it.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, ReadTraffic,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::server_name;

/// Bytes that are sealed at one go, four records.
const SEAL_LEN_MAX: usize = 64 * 1024;
/// Plain bytes of a full record (RFC 8446, section 5.1).
const RECORD_LEN_MAX: usize = 16 * 1024;
/// What sealing adds to a record: header, type and tag.
const RECORD_OVERHEAD: usize = 5 + 1 + 16;

/// Least and most free space for a read from the stream; in between, as much as the reader has room for.
const READ_LEN_MIN: usize = 1024;
const READ_LEN_MAX: usize = 64 * 1024;
/// Most bytes that may wait for the rest of their record, or of a handshake message over several: the library accepts
/// messages of 64 KiB.
const SEALED_LEN_MAX: usize = 96 * 1024;

thread_local! {
    /// What the streams of a thread read and seal into, one at a time. Never longer than what waits and a read.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The shared buffer, with `len` bytes at least. Whoever needs another one meanwhile makes it.
fn take_scratch(len: usize) -> Vec<u8> {
    let mut scratch = SCRATCH.take();
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
    scratch
}

/// A stream of plain bytes over one of records. Errors of TLS come as [`ErrorKind::InvalidData`] around an
/// [`rustls::Error`]; an end without goodbye is [`ErrorKind::UnexpectedEof`].
pub(crate) struct TlsStream<S> {
    stream: S,
    session: Session,
    /// Came and is not opened: less than a record, or less than a handshake message over several.
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

/// Either side. Boxed, since it is several times the size of all else.
enum Session {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

impl Session {
    fn common(&self) -> &CommonState {
        match self {
            Self::Client(session) => session,
            Self::Server(session) => session,
        }
    }

    /// Lets the session do its next thing. Returns how many bytes of `sealed_in` it is done with.
    fn process(
        &mut self,
        sealed_in: &mut [u8],
        buffers: &mut Buffers<'_, '_>,
    ) -> (usize, Result<Progress, Error>) {
        match self {
            Self::Client(session) => buffers.take(session.process_tls_records(sealed_in)),
            Self::Server(session) => buffers.take(session.process_tls_records(sealed_in)),
        }
    }
}

/// What to do once everything that came is opened.
#[derive(Clone, Copy)]
enum Order<'a> {
    Wait,
    Seal(&'a [u8]),
    SayGoodbye,
}

/// How far a session has come.
enum Progress {
    /// It has more to do with the same bytes.
    More,
    /// It needs more bytes.
    Done,
    /// The peer has said goodbye.
    Over,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Does the handshake of the connecting side.
    ///
    /// # Errors
    /// As the type says.
    pub(crate) async fn connect(stream: S, config: Arc<ClientConfig>) -> io::Result<Self> {
        let session = UnbufferedClientConnection::new(config, server_name()).map_err(broken)?;
        Self::new(stream, Session::Client(Box::new(session))).handshake().await
    }

    /// Does the handshake of the accepting side.
    ///
    /// # Errors
    /// As the type says.
    pub(crate) async fn accept(stream: S, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(config).map_err(broken)?;
        Self::new(stream, Session::Server(Box::new(session))).handshake().await
    }

    fn new(stream: S, session: Session) -> Self {
        let (sealed_in, opened, sealed_out) = Default::default();
        Self {
            stream,
            session,
            sealed_in,
            opened,
            sealed_out,
            is_over: false,
            is_closing: false,
            broken: None,
        }
    }

    async fn handshake(mut self) -> io::Result<Self> {
        poll_fn(|context| self.poll_handshake(context)).await?;
        Ok(self)
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.work(Order::Wait)?;
            ready!(self.poll_send(context))?;
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            if !self.session().is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            let received = ready!(self.poll_receive(context, None));
            if received.is_err() {
                // The peer learns why, if there is room.
                let _lost = self.poll_send(context);
            }
            if received? == 0 {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The stream of records.
    pub(crate) const fn get_ref(&self) -> &S {
        &self.stream
    }

    /// What is known of the session.
    pub(crate) fn session(&self) -> &CommonState {
        self.session.common()
    }

    /// Carries out `order`, with what has come before.
    fn work(&mut self, order: Order<'_>) -> io::Result<()> {
        let mut sealed = mem::take(&mut self.sealed_in);
        let (used, worked) = self.open(&mut sealed, None, order);
        sealed.drain(..used);
        self.sealed_in = sealed;
        worked
    }

    /// Opens the records in `sealed`, into `reader` first, and carries out `order`. Returns how many bytes are done with.
    fn open(
        &mut self,
        sealed: &mut [u8],
        mut reader: Option<&mut ReadBuf<'_>>,
        order: Order<'_>,
    ) -> (usize, io::Result<()>) {
        if let Some(error) = &self.broken {
            return (0, Err(broken((**error).clone())));
        }
        let Self { session, opened, sealed_out, .. } = self;
        let mut used = 0;
        loop {
            let mut buffers = Buffers { reader: reader.as_deref_mut(), opened, sealed_out, order };
            let (discard, progress) = session.process(&mut sealed[used..], &mut buffers);
            used += discard;
            match progress {
                Ok(Progress::More) => {}
                Ok(Progress::Done) => return (used, Ok(())),
                Ok(Progress::Over) => {
                    self.is_over = true;
                    // What follows a goodbye means nothing (RFC 8446, section 6.1).
                    used = sealed.len();
                }
                Err(error) => {
                    // The alert that it has for its peer: for that it looks at no byte.
                    let rest = &mut sealed[used..];
                    while session.common().wants_write() && session.process(rest, &mut buffers).1.is_ok() {}
                    self.broken = Some(Box::new(error.clone()));
                    return (used, Err(broken(error)));
                }
            }
        }
    }

    /// Reads once from the stream and opens what came, into `reader` first. Returns how many bytes came.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        reader: Option<&mut ReadBuf<'_>>,
    ) -> Poll<io::Result<usize>> {
        let begun = self.sealed_in.len();
        if begun >= SEALED_LEN_MAX {
            return Poll::Ready(Err(broken(Error::PeerSentOversizedRecord)));
        }
        let room = reader.as_ref().map_or(0, |reader| reader.remaining());
        let len = room.saturating_add(RECORD_OVERHEAD).clamp(READ_LEN_MIN, READ_LEN_MAX);
        let mut scratch = take_scratch(begun + len);
        let mut read = ReadBuf::new(&mut scratch[begun..begun + len]);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut read);
        let came = read.filled().len();
        let received = match polled {
            Poll::Ready(Ok(())) if came > 0 => {
                let sealed = &mut scratch[..begun + came];
                sealed[..begun].copy_from_slice(&self.sealed_in);
                let (used, opened) = self.open(sealed, reader, Order::Wait);
                self.sealed_in = sealed[used..].to_vec();
                Poll::Ready(opened.map(|()| came))
            }
            polled => polled.map_ok(|()| 0),
        };
        SCRATCH.set(scratch);
        received
    }

    /// Seals what can be at one go. Returns how much that is.
    fn seal(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            let plain = &piece[..piece.len().min(SEAL_LEN_MAX - taken)];
            self.work(Order::Seal(plain))?;
            taken += plain.len();
            if taken == SEAL_LEN_MAX {
                break;
            }
        }
        Ok(taken)
    }

    /// Writes what is sealed.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_sealed(context))?;
        self.sealed_out = Sealed::default();
        Poll::Ready(Ok(()))
    }

    fn poll_send_sealed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.sealed_out.waiting().is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, self.sealed_out.waiting()))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                len => self.sealed_out.start += len,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Bytes to be written.
#[derive(Default)]
struct Sealed {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Sealed {
    fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Lets `put` write behind what waits, where `room` should do.
    fn append(
        &mut self,
        mut room: usize,
        mut put: impl FnMut(&mut [u8]) -> Result<usize, TooSmall>,
    ) -> Result<(), Error> {
        loop {
            let end = self.end + room;
            if self.bytes.len() < end {
                self.bytes.resize(end, 0);
            }
            match put(&mut self.bytes[self.end..end]) {
                Ok(len) => {
                    self.end += len;
                    return Ok(());
                }
                Err(TooSmall::Needs(error)) => room = error.required_size,
                Err(TooSmall::Never(error)) => return Err(error),
            }
        }
    }

    /// Gives the shared buffer back, and keeps a copy of what waits.
    fn settle(&mut self) {
        let waiting = self.waiting().to_vec();
        let end = waiting.len();
        SCRATCH.set(mem::replace(&mut self.bytes, waiting));
        (self.start, self.end) = (0, end);
    }
}

/// Where a session's bytes go.
struct Buffers<'a, 'b> {
    reader: Option<&'a mut ReadBuf<'b>>,
    opened: &'a mut BytesMut,
    sealed_out: &'a mut Sealed,
    order: Order<'a>,
}

impl Buffers<'_, '_> {
    /// Does what the session asks for. Returns how many bytes it is done with.
    fn take<D>(&mut self, status: UnbufferedStatus<'_, '_, D>) -> (usize, Result<Progress, Error>) {
        let UnbufferedStatus { mut discard, state } = status;
        let progress = match state {
            Ok(ConnectionState::ReadTraffic(traffic)) => self.open(traffic, &mut discard),
            Ok(ConnectionState::EncodeTlsData(data)) => self.encode(data),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // It goes out before anything that is sealed later.
                data.done();
                Ok(Progress::More)
            }
            Ok(ConnectionState::WriteTraffic(traffic)) => self.carry_out(traffic),
            Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Progress::Done),
            Ok(ConnectionState::PeerClosed) => Ok(Progress::Over),
            // Early data, which was not offered.
            Ok(_) => Err(Error::General("the session is in a state that cannot be".to_owned())),
            Err(error) => Err(error),
        };
        (discard, progress)
    }

    fn open<D>(
        &mut self,
        mut traffic: ReadTraffic<'_, '_, D>,
        discard: &mut usize,
    ) -> Result<Progress, Error> {
        while let Some(record) = traffic.next_record() {
            let record = record?;
            *discard += record.discard;
            let mut rest = record.payload;
            // What was opened before is read before.
            if let Some(reader) = &mut self.reader
                && self.opened.is_empty()
            {
                let (now, later) = rest.split_at(rest.len().min(reader.remaining()));
                reader.put_slice(now);
                rest = later;
            }
            self.opened.extend_from_slice(rest);
        }
        Ok(Progress::More)
    }

    fn encode<D>(&mut self, mut data: EncodeTlsData<'_, D>) -> Result<Progress, Error> {
        self.sealed_out.append(0, |room| {
            data.encode(room).map_err(|error| match error {
                EncodeError::InsufficientSize(error) => TooSmall::Needs(error),
                EncodeError::AlreadyEncoded => TooSmall::Never(Error::General(error.to_string())),
            })
        })?;
        Ok(Progress::More)
    }

    fn carry_out<D>(&mut self, mut traffic: WriteTraffic<'_, D>) -> Result<Progress, Error> {
        let too_small = |error| match error {
            EncryptError::InsufficientSize(error) => TooSmall::Needs(error),
            EncryptError::EncryptExhausted => TooSmall::Never(Error::EncryptError),
        };
        match self.order {
            Order::Wait => {}
            Order::Seal(plain) => {
                let sealed_len = plain.len() + (plain.len() / RECORD_LEN_MAX + 1) * RECORD_OVERHEAD;
                self.sealed_out.append(sealed_len, |room| traffic.encrypt(plain, room).map_err(too_small))?;
            }
            Order::SayGoodbye => {
                self.sealed_out.append(0, |room| traffic.queue_close_notify(room).map_err(too_small))?;
            }
        }
        Ok(Progress::Done)
    }
}

/// Why bytes were not put into a buffer.
enum TooSmall {
    Needs(InsufficientSizeError),
    Never(Error),
}

fn broken(error: Error) -> io::Error {
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
            // An alert, or our part of new keys; what does not go out now goes with the next bytes.
            let sent = this.poll_send(context);
            if received? == 0 {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            if let Poll::Ready(sent) = sent {
                sent?;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, plain: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(plain)])
    }

    /// Seals as soon as everything before is written, so that no more than that waits here. Each piece is a record or
    /// several; all of them go out in one system call.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        this.sealed_out.bytes = take_scratch(0);
        let taken = this.seal(pieces);
        let sent = this.poll_send_sealed(context);
        this.sealed_out.settle();
        match sent {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(taken),
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
        if !mem::replace(&mut this.is_closing, true) {
            this.work(Order::SayGoodbye)?;
        }
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
