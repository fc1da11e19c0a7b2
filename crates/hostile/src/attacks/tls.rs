//! Attacks within TLS: sessions of other servers, words before their time, alerts, handshakes out of order, and
//! a target that meets itself.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional, duplex};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wire::frame::FrameWriter;
use wire::tcp::Packet;

use super::strangers::{AT_ONCE, CLOSES, LIVES, one, several};
use super::{Attack, Target};
use crate::certificate::{Flaw, client_config, impostor_config, server_config};
use crate::raw::{Raw, STRANGER, challenged, encrypted, encrypted_with, ended, server_name, worked};

pub(super) fn catalogue(target: Target) -> Vec<Attack> {
    let mut attacks = sessions(target);
    attacks.extend(records(target));
    attacks.extend(mirrors(target));
    attacks
}

/// What a session with another server is good for: nothing.
fn sessions(target: Target) -> Vec<Attack> {
    vec![
        one("a session of another server", target, LIVES, |address| {
            Box::pin(async move {
                let config = Arc::new(with_session_elsewhere(0).await?);
                let stream = encrypted_with(worked(address, STRANGER).await?, config, |_| {}).await?;
                let kind = stream.get_ref().1.handshake_kind();
                ensure!(kind == Some(HandshakeKind::Full), "no certificate was asked for: {kind:?}");
                Raw::greet(stream).await?.is_alive().await
            })
        }),
        one("words before the handshake", target, "nobody listens", |address| {
            Box::pin(async move {
                let mut config = with_session_elsewhere(4096).await?;
                config.enable_early_data = true;
                let mut hello = bytes::BytesMut::new();
                FrameWriter::new().write(&Packet::Connect { id: 7 }, &mut hello)?;
                let mut has_spoken = false;
                let speak = |tls: &mut ClientConnection| {
                    let early =
                        tls.early_data().map(|mut early| std::io::Write::write_all(&mut early, &hello));
                    has_spoken = matches!(early, Some(Ok(())));
                };
                let stream = worked(address, STRANGER).await?;
                let encrypted = encrypted_with(stream, Arc::new(config), speak).await;
                ensure!(has_spoken, "this side would not speak early");
                // A server that takes no early words may as well take offence.
                if let Ok(stream) = encrypted {
                    ensure!(!stream.get_ref().1.is_early_data_accepted(), "the words were taken");
                    let received = ended(stream, AT_ONCE).await?;
                    ensure!(received.is_empty(), "the hello was answered");
                }
                Ok(())
            })
        }),
    ]
}

/// A set-up that has resumable sessions with another server of the same name.
async fn with_session_elsewhere(early_len_max: u32) -> Result<ClientConfig> {
    let mut elsewhere = server_config(Flaw::None)?;
    elsewhere.max_early_data_size = early_len_max;
    let here = client_config(Flaw::None)?;
    let (ours, theirs) = duplex(1 << 16);
    let connect = TlsConnector::from(Arc::new(here.clone())).connect(server_name()?, ours);
    let accept = TlsAcceptor::from(Arc::new(elsewhere)).accept(theirs);
    let (mut ours, mut theirs) = tokio::try_join!(connect, accept)?;
    // The session comes with the first words after the handshake. Its store is shared with the copy.
    theirs.write_all(b"x").await?;
    ours.read_exact(&mut [0]).await?;
    Ok(here)
}

/// Records that are legal somewhere else, or would be if they were fewer.
fn records(target: Target) -> Vec<Attack> {
    let before = |name: &str, records: fn() -> Result<Vec<u8>>| {
        one(name, target, CLOSES, move |address| {
            Box::pin(async move {
                let mut stream = worked(address, STRANGER).await?;
                let _closed_already = stream.write_all(&records()?).await;
                ended(stream, AT_ONCE).await.map(drop)
            })
        })
    };
    vec![
        before("a goodbye instead of a TLS hello", || Ok(vec![21, 3, 3, 0, 2, 1, 0])),
        before("ten thousand warnings", || Ok([21, 3, 3, 0, 2, 1, 90].repeat(10_000))),
        before("ten thousand changes of cipher", || Ok([20, 3, 3, 0, 1, 1].repeat(10_000))),
        before("ten thousand empty records", || Ok([22, 3, 3, 0, 0].repeat(10_000))),
        before("a TLS hello of 16 MiB", || {
            let record = [&[22, 3, 1, 0x40, 0][..], &[1, 0xff, 0xff, 0xff], &[3; 0x3ffc]].concat();
            Ok(record.repeat(1024))
        }),
        before("two TLS hellos", || Ok(tls_hello()?.repeat(2))),
        one("a TLS hello in a link", target, CLOSES, |address| {
            Box::pin(async move {
                let mut raw = Raw::greeted(address).await?;
                raw.stream.get_mut().0.write_all(&tls_hello()?).await?;
                raw.ended(AT_ONCE).await
            })
        }),
        one("a goodbye in the middle of a frame", target, CLOSES, |address| {
            Box::pin(async move {
                let mut raw = Raw::greeted(address).await?;
                raw.bytes(&8000u32.to_le_bytes()).await?;
                raw.stream.get_mut().1.send_close_notify();
                raw.bytes(&[]).await?;
                raw.ended(AT_ONCE).await
            })
        }),
    ]
}

/// The first message of a good TLS client.
fn tls_hello() -> Result<Vec<u8>> {
    let mut tls = ClientConnection::new(Arc::new(client_config(Flaw::None)?), server_name()?)?;
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes)?;
    Ok(bytes)
}

/// What the target says itself, said to the target.
fn mirrors(target: Target) -> Vec<Attack> {
    vec![
        several(2, "its own certificate", target, CLOSES, |address| {
            Box::pin(async move {
                let stranger = encrypted(address, Flaw::None).await?;
                let shown = stranger.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let shown = shown.context("the target shows no certificate")?.clone().into_owned();
                // This side leaves first, so that one connection is looked at.
                let config = Arc::new(impostor_config(shown)?);
                refused(worked(address, STRANGER).await?, config).await?;
                drop(stranger);
                Ok(())
            })
        }),
        several(2, "a target that is connected to itself", target, CLOSES, |address| {
            Box::pin(async move { connected_to_itself(address).await })
        }),
    ]
}

/// The handshake fails, or the connection ends without a word.
async fn refused(stream: TcpStream, config: Arc<ClientConfig>) -> Result<()> {
    if let Ok(stream) = encrypted_with(stream, config, |_| {}).await {
        ensure!(ended(stream, AT_ONCE).await?.is_empty(), "something was said");
    }
    Ok(())
}

/// Two connections, each of which gets what the other one is told.
async fn connected_to_itself(address: SocketAddr) -> Result<()> {
    let (mut one, challenge) = challenged(address, STRANGER).await?;
    let (mut other, _) = challenged(address, STRANGER).await?;
    // In place of its work the other one gets a challenge, and the first one whatever comes of that.
    other.write_all(&challenge.encode()).await?;
    let _reset = timeout(AT_ONCE, copy_bidirectional(&mut one, &mut other)).await.context("both are open")?;
    Ok(())
}
