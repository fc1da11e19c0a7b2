//! The handshake of a session, which the TLS library does.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::records::{End, HEADER_LEN, Records};
use super::sealed::Sealed;
use super::secrets::{SecretsOfHandshake, Suite};
use super::stream::{SEALED_LEN_MAX, TlsStream, broken};
use super::{Peer, server_name};

/// Bytes that are read at one go.
const READ_LEN: usize = 4096;

/// Does the handshake of the connecting side.
///
/// # Errors
/// As [`TlsStream`] says.
pub(crate) async fn connect<S>(stream: S, config: &ClientConfig) -> io::Result<(TlsStream<S>, Peer)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let secrets = Arc::<SecretsOfHandshake>::default();
    let mut config = config.clone();
    config.key_log = secrets.clone();
    let session = UnbufferedClientConnection::new(Arc::new(config), server_name()).map_err(broken)?;
    Handshake::new(stream, Session::Client(Box::new(session)), secrets).run().await
}

/// Does the handshake of the accepting side.
///
/// # Errors
/// As [`TlsStream`] says.
pub(crate) async fn accept<S>(stream: S, config: &ServerConfig) -> io::Result<(TlsStream<S>, Peer)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let secrets = Arc::<SecretsOfHandshake>::default();
    let mut config = config.clone();
    config.key_log = secrets.clone();
    let session = UnbufferedServerConnection::new(Arc::new(config)).map_err(broken)?;
    Handshake::new(stream, Session::Server(Box::new(session)), secrets).run().await
}

/// Either side. Boxed, since it is several times the size of all else.
enum Session {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

impl Session {
    const fn end(&self) -> End {
        match self {
            Self::Client(_) => End::Client,
            Self::Server(_) => End::Server,
        }
    }

    fn common(&self) -> &CommonState {
        match self {
            Self::Client(session) => session,
            Self::Server(session) => session,
        }
    }

    /// Lets the session do its next thing. Returns how many bytes of `sealed_in` it is done with.
    fn process(&mut self, sealed_in: &mut [u8], out: &mut Sealed) -> (usize, Result<Progress, Error>) {
        match self {
            Self::Client(session) => take(session.process_tls_records(sealed_in), out),
            Self::Server(session) => take(session.process_tls_records(sealed_in), out),
        }
    }
}

/// How far a handshake has come.
enum Progress {
    /// It has more to do with the same bytes.
    More,
    /// It needs more bytes.
    Blocked,
    /// It is complete, and what it has said is sealed.
    Complete,
}

fn take<D>(status: UnbufferedStatus<'_, '_, D>, out: &mut Sealed) -> (usize, Result<Progress, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let progress = state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(data) => encode(data, out),
        ConnectionState::TransmitTlsData(data) => {
            // It goes out before anything that is sealed later.
            data.done();
            Ok(Progress::More)
        }
        ConnectionState::BlockedHandshake => Ok(Progress::Blocked),
        ConnectionState::WriteTraffic(_) => Ok(Progress::Complete),
        // The session was shown no record behind its handshake, and no early data was offered.
        _ => Err(Error::General("the session is in a state that cannot be".to_owned())),
    });
    (discard, progress)
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Sealed) -> Result<Progress, Error> {
    let waiting = out.waiting().len();
    let mut room = 0;
    loop {
        match data.encode(out.grow(room)) {
            Ok(_len) => return Ok(Progress::More),
            Err(EncodeError::InsufficientSize(error)) => {
                out.truncate(waiting);
                room = error.required_size;
            }
            Err(error @ EncodeError::AlreadyEncoded) => return Err(Error::General(error.to_string())),
        }
    }
}

struct Handshake<S> {
    stream: S,
    session: Session,
    secrets: Arc<SecretsOfHandshake>,
    /// Came, and the session is not done with it.
    sealed_in: Vec<u8>,
    /// How much of that the session has been shown: one record more whenever it needs it, so that it opens nothing that
    /// follows the handshake.
    shown: usize,
    /// Where the first record begins that was not shown as a whole.
    next: usize,
    sealed_out: Sealed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Handshake<S> {
    fn new(stream: S, session: Session, secrets: Arc<SecretsOfHandshake>) -> Self {
        Self {
            stream,
            session,
            secrets,
            sealed_in: Vec::new(),
            shown: 0,
            next: 0,
            sealed_out: Sealed::default(),
        }
    }

    async fn run(mut self) -> io::Result<(TlsStream<S>, Peer)> {
        poll_fn(|context| self.poll(context)).await?;
        self.done()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let worked = self.work();
            if worked.is_err() {
                // The peer learns why, if there is room.
                let _lost = self.poll_send(context);
            }
            let is_complete = worked.map_err(broken)?;
            ready!(self.poll_send(context))?;
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            if is_complete {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(context))?;
        }
    }

    /// Goes on as far as the bytes that have come allow. Returns whether the handshake is complete.
    fn work(&mut self) -> Result<bool, Error> {
        loop {
            let shown = &mut self.sealed_in[..self.shown];
            let (used, progress) = self.session.process(shown, &mut self.sealed_out);
            self.sealed_in.drain(..used);
            (self.shown, self.next) = (self.shown - used, self.next.saturating_sub(used));
            match progress {
                Ok(Progress::More) => {}
                Ok(Progress::Blocked) => {
                    if !self.show_more() {
                        return Ok(false);
                    }
                }
                Ok(Progress::Complete) => return Ok(true),
                Err(error) => {
                    // The alert that it has for its peer: for that it looks at no byte.
                    let shown = &mut self.sealed_in[..self.shown];
                    while self.session.common().wants_write()
                        && self.session.process(shown, &mut self.sealed_out).1.is_ok()
                    {}
                    return Err(error);
                }
            }
        }
    }

    /// Shows the session one more record, or what is there of it: whoever speaks another protocol is told at once.
    fn show_more(&mut self) -> bool {
        let shown_before = self.shown;
        let end = self.next + record_len(&self.sealed_in[self.next..]);
        if end <= self.sealed_in.len() {
            self.next = end;
        }
        self.shown = end.min(self.sealed_in.len());
        self.shown > shown_before
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.sealed_out.poll_write(&mut self.stream, context))?;
        self.sealed_out = Sealed::default();
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sealed_in.len() >= SEALED_LEN_MAX {
            return Poll::Ready(Err(broken(Error::PeerSentOversizedRecord)));
        }
        let begun = self.sealed_in.len();
        self.sealed_in.resize(begun + READ_LEN, 0);
        let mut read = ReadBuf::new(&mut self.sealed_in[begun..]);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut read);
        let came = read.filled().len();
        self.sealed_in.truncate(begun + came);
        ready!(polled)?;
        match came {
            0 => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Leaves the library's session behind.
    fn done(self) -> io::Result<(TlsStream<S>, Peer)> {
        let Self { stream, session, secrets, sealed_in, .. } = self;
        let common = session.common();
        let suite = common.negotiated_cipher_suite().and_then(Suite::of);
        let secrets =
            suite.and_then(|suite| secrets.take(suite)).ok_or_else(|| broken(Error::HandshakeNotComplete))?;
        let certificate = common.peer_certificates().and_then(<[_]>::first);
        let certificate =
            certificate.ok_or_else(|| broken(Error::NoCertificatesPresented))?.clone().into_owned();
        let peer = Peer::new(certificate, secrets.exporter.tls_exporter()).map_err(broken)?;
        let records = Records::new(session.end(), secrets.of_client, secrets.of_server);
        Ok((TlsStream::new(stream, records, sealed_in), peer))
    }
}

/// Bytes of the record that `sealed` begins with; the least that it can have where its header is not there yet.
fn record_len(sealed: &[u8]) -> usize {
    match sealed {
        [_kind, _major, _minor, l0, l1, ..] => HEADER_LEN + usize::from(u16::from_be_bytes([*l0, *l1])),
        _ => HEADER_LEN,
    }
}
