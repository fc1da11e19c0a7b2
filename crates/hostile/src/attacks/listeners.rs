//! Attacks by whatever listens where a proxy should: all that comes before there is a link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use transport::pow::{Challenge, Solution};
use wire::frame::FrameWriter;
use wire::tcp::Packet;

use super::proxies::{AT_ONCE, LEAVES, is_well, victim};
use super::{Attack, Left, Target};
use crate::certificate::{Flaw, server_config};
use crate::raw;
use crate::stage::Stage;

/// The longest deadline of a phase, and a bit.
const LATE: Duration = Duration::from_secs(45);

pub(super) fn catalogue(side: &str, target: Target) -> Vec<Attack> {
    let name = |what: &str| format!("{what} ({side})");
    vec![
        listening(&name("more work than anyone does"), target, |mut stream, _| {
            Box::pin(async move {
                challenge(&mut stream, 64).await?;
                raw::ended(stream, AT_ONCE).await.map(drop)
            })
        }),
        listening(&name("garbage instead of a challenge"), target, |mut stream, _| {
            Box::pin(async move {
                stream.write_all(&[0xa5; 1000]).await?;
                raw::ended(stream, AT_ONCE).await.map(drop)
            })
        }),
        listening(&name("an expired server certificate"), target, |stream, _| shown(stream, Flaw::Expired)),
        listening(&name("a server with somebody else's certificate"), target, |stream, _| {
            shown(stream, Flaw::OtherKey)
        }),
        listening(&name("a proxy that is an echo"), target, |mut stream, _| {
            Box::pin(async move {
                challenge(&mut stream, 0).await?;
                stream.read_exact(&mut [0; Solution::LEN]).await?;
                let (mut reader, mut writer) = stream.split();
                let echo = tokio::io::copy(&mut reader, &mut writer);
                let _reset = timeout(AT_ONCE, echo).await.context("the connection is still open")?;
                Ok(())
            })
        }),
        listening(&name("a good proxy's port for others"), target, |stream, elsewhere| {
            Box::pin(sent_on(stream, elsewhere.other_port))
        }),
        listening(&name("a proxy that is the victim itself"), target, |stream, elsewhere| {
            Box::pin(sent_on(stream, elsewhere.itself))
        })
        .long(),
        handing_out_sessions(&name("a proxy with a hundred sessions"), target),
        listening(&name("a frame of 4 GiB"), target, |stream, _| framed(stream, u32::MAX, 0)),
        listening(&name("a frame of 16 MiB that does not come"), target, |stream, _| {
            framed(stream, 1 << 24, 1 << 20)
        })
        .long(),
    ]
}

/// Where a victim can be sent on to.
#[derive(Clone, Copy)]
struct Elsewhere {
    /// The real proxy's port for the other kind of peers.
    other_port: SocketAddr,
    /// The victim's own HTTP port.
    itself: SocketAddr,
}

/// An attack before there is a link: `meet` gets a connection of the victim.
fn listening(
    name: &str,
    target: Target,
    meet: fn(TcpStream, Elsewhere) -> BoxFuture<'static, Result<()>>,
) -> Attack {
    Attack::new(name, target, LEAVES, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
        Box::pin(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let mut role = victim(stage, target, listener.local_addr()?).await?;
            let (stream, _) = timeout(AT_ONCE, listener.accept()).await??;
            let other_port = if target == Target::Worker { stage.clients } else { stage.workers };
            meet(stream, Elsewhere { other_port, itself: role.address("http")? }).await?;
            drop(listener);
            is_well(stage, target, &mut role, true).await
        })
    })
}

async fn challenge(stream: &mut TcpStream, difficulty: i32) -> Result<()> {
    stream.write_all(&Challenge { difficulty, salt: [1; 16] }.encode()).await?;
    Ok(())
}

fn shown(stream: TcpStream, flaw: Flaw) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        if let Ok(mut stream) = encrypted(stream, server_config(flaw)?).await {
            let received = raw::ended(&mut stream, AT_ONCE).await?;
            ensure!(received.is_empty(), "the victim said hello");
        }
        Ok(())
    })
}

/// TLS with a victim, whose work is done after this.
async fn encrypted(mut stream: TcpStream, config: ServerConfig) -> Result<TlsStream<TcpStream>> {
    challenge(&mut stream, 0).await?;
    stream.read_exact(&mut [0; Solution::LEN]).await?;
    Ok(TlsAcceptor::from(Arc::new(config)).accept(stream).await?)
}

/// A link up to the hellos, then a frame that claims `len` and of which no more than `sent` bytes come.
fn framed(stream: TcpStream, len: u32, sent: usize) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let mut stream = encrypted(stream, server_config(Flaw::None)?).await?;
        // Length, number, tag and id; the answer differs in the tag.
        let mut hello = [0; 20];
        stream.read_exact(&mut hello).await?;
        let Packet::Connect { id } = wire::decode(&hello[8..])? else { bail!("no hello came") };
        let mut bytes = BytesMut::new();
        FrameWriter::new().write(&Packet::Connected { id }, &mut bytes)?;
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&1i32.to_le_bytes());
        bytes.resize(bytes.len() + sent, 7);
        let _closed_already = stream.write_all(&bytes).await;
        raw::ended(stream, LATE).await.map(drop)
    })
}

/// The victim's bytes go there, and what comes back is for the victim.
async fn sent_on(mut stream: TcpStream, to: SocketAddr) -> Result<()> {
    let mut there = TcpStream::connect(to).await?;
    let _reset = timeout(LATE, copy_bidirectional(&mut stream, &mut there)).await.context("both are open")?;
    Ok(())
}

/// A server that hands out sessions: the victim must not come back with one.
fn handing_out_sessions(name: &str, target: Target) -> Attack {
    Attack::new(name, target, LEAVES, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
        Box::pin(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let mut role = victim(stage, target, listener.local_addr()?).await?;
            let mut config = server_config(Flaw::None)?;
            config.send_tls13_tickets = 100;
            config.max_early_data_size = 1 << 14;
            for _ in 0..2 {
                let (stream, _) = timeout(LATE, listener.accept()).await??;
                let mut stream = encrypted(stream, config.clone()).await?;
                stream.read_exact(&mut [0; 20]).await?;
                let kind = stream.get_ref().1.handshake_kind();
                ensure!(kind == Some(HandshakeKind::Full), "the victim came with a session: {kind:?}");
            }
            drop(listener);
            is_well(stage, target, &mut role, true).await
        })
    })
}
