//! Connections by hand: each step of the way to a link, to be left where an attack begins.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::BytesMut;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use transport::pow::{Challenge, Solution};
use wire::frame::FrameWriter;
use wire::tcp::Packet;

use crate::certificate::{Flaw, client_config};

/// Time for steps that a good peer does at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads until the other side has closed, at most for `time`.
///
/// # Errors
/// If it has not.
pub(crate) async fn ended(mut stream: impl AsyncRead + Unpin, time: Duration) -> Result<Vec<u8>> {
    let mut received = Vec::new();
    let reading = stream.read_to_end(&mut received);
    // A reset is an end too.
    let _reset = timeout(time, reading).await.context("the connection is still open")?;
    Ok(received)
}

/// Where attackers come from: another address than the good peers', whose good name would spare them the work.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
/// Where a good stranger comes from.
pub(crate) const GOOD_STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 78);

/// A TCP connection from `source`.
pub(crate) async fn connected(address: SocketAddr, source: Ipv4Addr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    Ok(socket.connect(address).await?)
}

/// A connection that has its challenge.
pub(crate) async fn challenged(address: SocketAddr, source: Ipv4Addr) -> Result<(TcpStream, Challenge)> {
    let mut stream = connected(address, source).await?;
    let mut challenge = [0; Challenge::LEN];
    timeout(PATIENCE, stream.read_exact(&mut challenge)).await.context("no challenge came")??;
    Ok((stream, Challenge::decode(&challenge, 28)?))
}

/// A connection whose work is done.
pub(crate) async fn worked(address: SocketAddr, source: Ipv4Addr) -> Result<TcpStream> {
    let (mut stream, challenge) = challenged(address, source).await?;
    let search = tokio::task::spawn_blocking(move || challenge.search(0..i64::MAX));
    let solution = search.await?.context("no nonce is right")?;
    stream.write_all(&solution.encode()).await?;
    Ok(stream)
}

/// A connection with wrong work.
pub(crate) async fn badly_worked(address: SocketAddr) -> Result<TcpStream> {
    let (mut stream, challenge) = challenged(address, STRANGER).await?;
    let wrong = (0..i64::MAX).map(|nonce| Solution { nonce }).find(|nonce| challenge.check(*nonce).is_err());
    let wrong = wrong.context("every nonce is right: the difficulty is zero")?;
    stream.write_all(&wrong.encode()).await?;
    Ok(stream)
}

/// A connection whose TLS handshake is done, as far as this side can tell.
pub(crate) async fn encrypted(address: SocketAddr, flaw: Flaw) -> Result<TlsStream<TcpStream>> {
    encrypted_from(address, STRANGER, flaw).await
}

async fn encrypted_from(address: SocketAddr, source: Ipv4Addr, flaw: Flaw) -> Result<TlsStream<TcpStream>> {
    encrypted_with(worked(address, source).await?, Arc::new(client_config(flaw)?), |_as_it_is| {}).await
}

/// TLS on a connection whose work is done. `prepare` may change it before the first byte.
pub(crate) async fn encrypted_with(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    prepare: impl FnOnce(&mut ClientConnection),
) -> Result<TlsStream<TcpStream>> {
    let connecting = TlsConnector::from(config).connect_with(server_name()?, stream, prepare);
    Ok(timeout(PATIENCE, connecting).await.context("TLS hangs")??)
}

/// The name that every peer of the network calls a server.
pub(crate) fn server_name() -> Result<ServerName<'static>> {
    Ok(ServerName::try_from("127.0.0.1")?)
}

/// A peer with frames: after the hello.
pub(crate) struct Raw {
    pub(crate) stream: TlsStream<TcpStream>,
    writer: FrameWriter,
}

impl Raw {
    /// Says hello and waits for the answer.
    pub(crate) async fn greeted(address: SocketAddr) -> Result<Self> {
        Self::greeted_from(address, STRANGER).await
    }

    /// As [`Self::greeted`], from another address.
    pub(crate) async fn greeted_from(address: SocketAddr, source: Ipv4Addr) -> Result<Self> {
        Self::greet(encrypted_from(address, source, Flaw::None).await?).await
    }

    /// Says hello on a connection that is encrypted, and waits for the answer.
    pub(crate) async fn greet(stream: TlsStream<TcpStream>) -> Result<Self> {
        let mut raw = Self { stream, writer: FrameWriter::new() };
        raw.say(&Packet::Connect { id: 7 }).await?;
        let mut answer = [0; 20];
        timeout(PATIENCE, raw.stream.read_exact(&mut answer)).await.context("no hello came")??;
        ensure!(answer[12..] == 7i64.to_le_bytes(), "another hello came");
        Ok(raw)
    }

    /// Sends a packet in its frame.
    pub(crate) async fn say(&mut self, packet: &Packet<'_>) -> Result<()> {
        let mut bytes = BytesMut::new();
        self.put(packet, &mut bytes)?;
        self.bytes(&bytes).await
    }

    /// Appends a packet in its frame to `bytes`, to be sent later.
    pub(crate) fn put(&mut self, packet: &Packet<'_>, bytes: &mut BytesMut) -> Result<()> {
        Ok(self.writer.write(packet, bytes)?)
    }

    /// Whether the other side has closed.
    pub(crate) async fn has_ended(&mut self) -> bool {
        let mut byte = [0];
        let read = timeout(Duration::from_millis(1), self.stream.read(&mut byte)).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }

    /// Sends bytes as they are. That the other side has closed already is no error.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let _closed_already = timeout(PATIENCE, sent).await.context("nothing is taken")?;
        Ok(())
    }

    /// Sends a frame of any length, number and payload.
    pub(crate) async fn frame(&mut self, len: u32, seqno: i32, payload: &[u8]) -> Result<()> {
        self.bytes(&[&len.to_le_bytes()[..], &seqno.to_le_bytes(), payload].concat()).await
    }

    /// The connection still answers.
    pub(crate) async fn is_alive(&mut self) -> Result<()> {
        const PONG: u32 = 0x0bd4_302c;
        self.say(&Packet::Ping { id: 99 }).await?;
        let heard = async {
            loop {
                let len = self.stream.read_u32_le().await?;
                let _seqno = self.stream.read_u32_le().await?;
                let mut payload = vec![0; len as usize];
                self.stream.read_exact(&mut payload).await?;
                let is_pong = payload.starts_with(&PONG.to_le_bytes());
                if is_pong && payload.ends_with(&99i64.to_le_bytes()) {
                    return Ok::<(), std::io::Error>(());
                }
            }
        };
        match timeout(PATIENCE, heard).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => bail!("the connection ended: {error}"),
            Err(_elapsed) => bail!("the connection does not answer"),
        }
    }

    /// The connection ends, within `time`.
    pub(crate) async fn ended(self, time: Duration) -> Result<()> {
        ended(self.stream, time).await.map(drop)
    }
}
