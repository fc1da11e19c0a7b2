//! The handshake of a session, which the TLS library does. Its steps take hundreds of microseconds each; they are done off the
//! threads of messages, so that thousands of peers that come at once delay nobody's tokens and have all cores.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::task::Poll;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::records::{End, HEADER_LEN, Records};
use super::sealed::Sealed;
use super::secrets::{SecretsOfHandshake, Suite};
use super::stream::{TlsStream, broken};
use super::{Peer, server_name};
use crate::turns;

/// Bytes that are read at one go: a certificate with a quote, and what comes with it.
const READ_LEN: usize = 16 * 1024;
/// Most bytes that may wait for the rest of their record, or of a message over several: the library accepts messages of 64 KiB.
const SEALED_LEN_MAX: usize = 96 * 1024;
/// Records of a peer's handshake; it takes about ten. The library may look at each of them again with every further one, if the peer
/// says that it sends early data.
const RECORDS_MAX: u16 = 256;

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
    run(stream, Handshake::new(Session::Client(Box::new(session)), secrets)).await
}

/// Does the handshake of the accepting side.
///
/// # Errors
/// As [`TlsStream`] says.
pub(crate) async fn accept<S>(mut stream: S, config: &ServerConfig) -> io::Result<(TlsStream<S>, Peer)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let secrets = Arc::<SecretsOfHandshake>::default();
    let mut config = config.clone();
    config.key_log = secrets.clone();
    let session = UnbufferedServerConnection::new(Arc::new(config)).map_err(broken)?;
    let mut handshake = Handshake::new(Session::Server(Box::new(session)), secrets);
    // The peer begins.
    handshake.receive(&mut stream).await?;
    run(stream, handshake).await
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

/// Runs a handshake over `stream`: its steps in turns, what they say and need in between.
async fn run<S>(mut stream: S, mut handshake: Handshake) -> io::Result<(TlsStream<S>, Peer)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let worked;
        (handshake, worked) = turns::of_handshakes(move || {
            let worked = handshake.work();
            (handshake, worked)
        })
        .await?;
        let sealed = &mut handshake.sealed_out;
        match worked {
            Ok(is_complete) => {
                poll_fn(|context| sealed.poll_write(&mut stream, context)).await?;
                *sealed = Sealed::default();
                stream.flush().await?;
                if is_complete {
                    return handshake.done(stream);
                }
            }
            Err(error) => {
                // The peer learns why, if there is room.
                poll_fn(|context| {
                    let _lost = sealed.poll_write(&mut stream, context);
                    Poll::Ready(())
                })
                .await;
                return Err(broken(error));
            }
        }
        handshake.receive(&mut stream).await?;
        while !handshake.has_news() {
            handshake.receive(&mut stream).await?;
        }
    }
}

/// Everything of a handshake but the stream.
struct Handshake {
    session: Session,
    secrets: Arc<SecretsOfHandshake>,
    /// Came, and the session is not done with it.
    sealed_in: Vec<u8>,
    /// How much of that the session has been shown: one record more whenever it needs it, so that it opens nothing that
    /// follows the handshake.
    shown: usize,
    /// Where the first record begins that was not shown as a whole.
    next: usize,
    /// Whole records so far.
    records: u16,
    sealed_out: Sealed,
}

impl Handshake {
    fn new(session: Session, secrets: Arc<SecretsOfHandshake>) -> Self {
        let (sealed_in, sealed_out) = Default::default();
        Self { session, secrets, sealed_in, shown: 0, next: 0, records: 0, sealed_out }
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
                    if !self.show_more()? {
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
    fn show_more(&mut self) -> Result<bool, Error> {
        let shown_before = self.shown;
        let end = self.next + record_len(&self.sealed_in[self.next..]);
        if end <= self.sealed_in.len() {
            self.next = end;
            self.records += 1;
        }
        if self.records > RECORDS_MAX {
            return Err(Error::General(format!("the handshake has more than {RECORDS_MAX} records")));
        }
        self.shown = end.min(self.sealed_in.len());
        Ok(self.shown > shown_before)
    }

    /// Whether the session could go on with what has come: by a whole record, or by a header that it may refuse.
    fn has_news(&self) -> bool {
        let begun = self.sealed_in.len() - self.next;
        begun >= record_len(&self.sealed_in[self.next..]) || self.shown < self.next + HEADER_LEN
    }

    /// Waits for more bytes.
    async fn receive(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        let begun = self.sealed_in.len();
        if begun >= SEALED_LEN_MAX {
            return Err(broken(Error::PeerSentOversizedRecord));
        }
        self.sealed_in.resize(begun + READ_LEN, 0);
        let came = stream.read(&mut self.sealed_in[begun..]).await?;
        self.sealed_in.truncate(begun + came);
        if came == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Leaves the library's session behind.
    fn done<S>(self, stream: S) -> io::Result<(TlsStream<S>, Peer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { session, secrets, sealed_in, .. } = self;
        let common = session.common();
        if common.is_handshaking() {
            return Err(broken(Error::HandshakeNotComplete));
        }
        let suite = common.negotiated_cipher_suite().and_then(Suite::of);
        let secrets =
            suite.and_then(|suite| secrets.take(suite)).ok_or_else(|| broken(Error::HandshakeNotComplete))?;
        let certificate = common.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or_else(|| broken(Error::NoCertificatesPresented))?.clone();
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
