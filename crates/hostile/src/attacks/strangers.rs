//! Attacks before anybody has said who they are: work, TLS, certificates, frames.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{BoxFuture, join_all};
use tokio::io::AsyncWriteExt as _;
use transport::pow::{Challenge, Solution};
use wire::tcp::Packet;

use super::{Attack, Left, Target};
use crate::certificate::Flaw;
use crate::raw::{
    GOOD_STRANGER, Raw, STRANGER, badly_worked, challenged, connected, encrypted, ended, worked,
};
use crate::stage::Stage;

/// A connection that broke a rule ends at once; this is for busy machines.
pub(super) const AT_ONCE: Duration = Duration::from_secs(15);
/// The longest deadline of a phase, and a bit.
const LATE: Duration = Duration::from_secs(45);

pub(super) const CLOSES: &str = "the connection ends";
pub(super) const LIVES: &str = "the connection bears it";

fn port(stage: &Stage, target: Target) -> SocketAddr {
    match target {
        Target::Workers => stage.workers,
        _ => stage.clients,
    }
}

/// An attack on one port by one connection.
pub(super) fn one<F>(name: &str, target: Target, expects: &'static str, run: F) -> Attack
where
    F: Fn(SocketAddr) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
{
    several(1, name, target, expects, run)
}

/// An attack on one port by so many connections.
pub(super) fn several<F>(
    connections: usize,
    name: &str,
    target: Target,
    expects: &'static str,
    run: F,
) -> Attack
where
    F: Fn(SocketAddr) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
{
    let side = if target == Target::Workers { "workers' port" } else { "clients' port" };
    let name = format!("{name} ({side})");
    Attack::new(name, target, expects, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
        let attack = run(port(stage, target));
        Box::pin(async move { attack.await.map(|()| Left::Connections(connections)) })
    })
}

pub(super) fn catalogue(target: Target) -> Vec<Attack> {
    let mut attacks = before_tls(target);
    attacks.extend(certificates(target));
    attacks.extend(frames(target));
    attacks.extend(waiting(target));
    attacks
}

fn before_tls(target: Target) -> Vec<Attack> {
    let garbage = |name: &str, bytes: &'static [u8]| {
        one(name, target, CLOSES, move |address| {
            Box::pin(async move {
                let mut stream = connected(address, STRANGER).await?;
                stream.write_all(bytes).await?;
                let received = ended(stream, AT_ONCE).await?;
                ensure!(received.len() <= Challenge::LEN, "more than a challenge came back");
                Ok(())
            })
        })
    };
    vec![
        garbage("HTTP instead of work", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        garbage("zeros instead of work", &[0; 4096]),
        garbage("ones instead of work", &[0xff; 4096]),
        one("wrong work", target, CLOSES, |address| {
            Box::pin(async move { ended(badly_worked(address).await?, AT_ONCE).await.map(drop) })
        }),
        one("gone in the middle of the work", target, CLOSES, |address| {
            Box::pin(async move {
                let (mut stream, _challenge) = challenged(address, STRANGER).await?;
                stream.write_all(&Solution { nonce: 0 }.encode()[..6]).await?;
                Ok(())
            })
        }),
        one("garbage instead of TLS", target, CLOSES, |address| {
            Box::pin(async move {
                let mut stream = worked(address, STRANGER).await?;
                stream.write_all(&[0xa5; 4096]).await?;
                ended(stream, AT_ONCE).await.map(drop)
            })
        }),
        one("frames instead of TLS", target, CLOSES, |address| {
            Box::pin(async move {
                let mut stream = worked(address, STRANGER).await?;
                stream
                    .write_all(&[12, 0, 0, 0, 0, 0, 0, 0, 0x61, 0x42, 0x7c, 0xa5, 1, 0, 0, 0, 0, 0, 0, 0])
                    .await?;
                ended(stream, AT_ONCE).await.map(drop)
            })
        }),
        one("TLS 1.2", target, CLOSES, |address| {
            Box::pin(async move {
                let mut stream = worked(address, STRANGER).await?;
                stream.write_all(&tls12_hello()).await?;
                ended(stream, AT_ONCE).await.map(drop)
            })
        }),
        one("an endless TLS record", target, CLOSES, |address| {
            Box::pin(async move {
                let mut stream = worked(address, STRANGER).await?;
                // A handshake record of 65,535 bytes: no TLS has one.
                let _closed_already =
                    stream.write_all(&[&[22, 3, 1, 0xff, 0xff][..], &[1; 65_535]].concat()).await;
                ended(stream, AT_ONCE).await.map(drop)
            })
        }),
    ]
}

/// The first message of a client that knows TLS 1.2 and nothing newer.
fn tls12_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    // ECDHE-ECDSA and ECDHE-RSA with AES-128-GCM; no compression; no extensions.
    body.extend_from_slice(&[0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0, 0, 0]);
    let len = u8::try_from(body.len()).expect("it is short");
    let handshake = [&[1, 0, 0, len][..], &body].concat();
    [&[22, 3, 1, 0, len + 4][..], &handshake].concat()
}

fn certificates(target: Target) -> Vec<Attack> {
    let shown = |name: &str, flaw: Flaw| {
        one(name, target, CLOSES, move |address| {
            Box::pin(async move {
                match encrypted(address, flaw).await {
                    // In TLS 1.3 the client is done before the server has looked at its certificate.
                    Ok(mut stream) => {
                        let hello = [12, 0, 0, 0, 0, 0, 0, 0, 0x61, 0x42, 0x7c, 0xa5, 1, 0, 0, 0, 0, 0, 0, 0];
                        let _closed_already = stream.write_all(&hello).await;
                        let received = ended(stream, AT_ONCE).await?;
                        ensure!(received.is_empty(), "the hello was answered");
                    }
                    Err(_refused) => {}
                }
                Ok(())
            })
        })
    };
    let mut attacks = vec![one("a good certificate", target, LIVES, |address| {
        Box::pin(async move { Raw::greeted(address).await?.is_alive().await })
    })];
    attacks.extend([
        shown("no certificate", Flaw::Absent),
        shown("an ECDSA certificate", Flaw::KeyType),
        shown("two certificates", Flaw::Chain),
        shown("an expired certificate", Flaw::Expired),
        shown("a certificate of tomorrow", Flaw::NotYetValid),
        shown("an unknown critical extension", Flaw::UnknownCritical),
        shown("a quote of 60,000 bytes", Flaw::HugeQuote),
        shown("a certificate with a changed signature", Flaw::Signature),
        shown("somebody else's certificate", Flaw::OtherKey),
        shown("a certificate for another use", Flaw::Usage),
    ]);
    attacks
}

fn frames(target: Target) -> Vec<Attack> {
    let framed = |name: &str, len: u32, seqno: i32, payload: &'static [u8]| {
        one(name, target, CLOSES, move |address| {
            Box::pin(async move {
                let mut raw = Raw::greeted(address).await?;
                raw.frame(len, seqno, payload).await?;
                raw.ended(AT_ONCE).await
            })
        })
    };
    let first = |name: &str, packet: &'static Packet<'static>| {
        one(name, target, CLOSES, move |address| {
            Box::pin(async move {
                let mut stream = encrypted(address, Flaw::None).await?;
                let mut bytes = bytes::BytesMut::new();
                wire::frame::FrameWriter::new().write(packet, &mut bytes)?;
                stream.write_all(&bytes).await?;
                ended(stream, AT_ONCE).await.map(drop)
            })
        })
    };
    vec![
        first("a ping before the hello", &Packet::Ping { id: 1 }),
        first("a query before the hello", &Packet::Query { id: 1, data: b"\0\0\0\0" }),
        first("the hello of the other side", &Packet::Connected { id: 1 }),
        framed("a frame of 3 bytes", 3, 1, &[]),
        framed("a frame of 4 GiB", u32::MAX, 1, &[]),
        framed("a frame of 16 MiB before the handshake", 1 << 24, 1, &[]),
        framed("a frame number left out", 12, 2, &[0x7c, 0x62, 0xe9, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0]),
        framed("a frame number again", 12, 0, &[0x7c, 0x62, 0xe9, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0]),
        framed("a negative frame number", 12, -1, &[0x7c, 0x62, 0xe9, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0]),
        framed("an unknown packet", 4, 1, &[1, 2, 3, 4]),
        framed("a packet cut short", 8, 1, &[0x7c, 0x62, 0xe9, 0xbb, 0, 0, 0, 0]),
        framed(
            "a packet with bytes behind it",
            16,
            1,
            &[0x7c, 0x62, 0xe9, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        one("a second hello", target, LIVES, |address| {
            Box::pin(async move {
                let mut raw = Raw::greeted(address).await?;
                raw.say(&Packet::Connect { id: 8 }).await?;
                raw.is_alive().await
            })
        }),
        one("answers to nothing", target, LIVES, |address| {
            Box::pin(async move {
                let mut raw = Raw::greeted(address).await?;
                for id in -50..50 {
                    raw.say(&Packet::QueryAnswer { id, data: &[7; 100] }).await?;
                    raw.say(&Packet::QueryError { id, code: i32::MIN, message: "no".into() }).await?;
                }
                raw.is_alive().await
            })
        }),
        one("a thousand TLS key updates", target, "the connection ends or bears it", |address| {
            Box::pin(async move {
                let mut raw = Raw::greeted(address).await?;
                for _ in 0..1000 {
                    if raw.stream.get_mut().1.refresh_traffic_keys().is_err() {
                        break;
                    }
                    raw.bytes(&[]).await?;
                }
                Ok(())
            })
        }),
        one("a hundred thousand pings, no pong read", target, LIVES, |address| {
            Box::pin(async move {
                let mut raw = Raw::greeted(address).await?;
                for _ in 0..100 {
                    let mut pings = bytes::BytesMut::new();
                    for id in 0..1000 {
                        raw.put(&Packet::Ping { id }, &mut pings)?;
                    }
                    raw.bytes(&pings).await?;
                }
                raw.is_alive().await
            })
        }),
    ]
}

/// Attacks by doing nothing, or little: each is about one deadline.
fn waiting(target: Target) -> Vec<Attack> {
    vec![
        one("silence instead of work", target, CLOSES, |address| {
            Box::pin(async move { ended(challenged(address, STRANGER).await?.0, LATE).await.map(drop) })
        })
        .long(),
        one("silence instead of TLS", target, CLOSES, |address| {
            Box::pin(async move { ended(worked(address, STRANGER).await?, LATE).await.map(drop) })
        })
        .long(),
        one("silence instead of the hello", target, CLOSES, |address| {
            Box::pin(async move { ended(encrypted(address, Flaw::None).await?, LATE).await.map(drop) })
        })
        .long(),
        one("silence after the hello", target, CLOSES, |address| {
            Box::pin(async move { Raw::greeted(address).await?.ended(LATE).await })
        })
        .long(),
        one("a frame that drips", target, CLOSES, |address| {
            Box::pin(async move {
                let mut raw = Raw::greeted(address).await?;
                raw.bytes(&8000u32.to_le_bytes()).await?;
                raw.bytes(&1i32.to_le_bytes()).await?;
                for _ in 0..30 {
                    raw.bytes(&[0]).await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if raw.has_ended().await {
                        return Ok(());
                    }
                }
                anyhow::bail!("the connection is still open")
            })
        })
        .long(),
    ]
}

/// How long a good stranger may try, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Attacks by numbers. The proxy keeps some places for others whatever one address does.
pub(super) fn floods() -> Vec<Attack> {
    let many = |name: &str, count: usize| {
        let expects = "others get through meanwhile";
        Attack::new(name, Target::Clients, expects, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
            Box::pin(async move {
                let held = join_all((0..count).map(|_| connected(stage.clients, STRANGER))).await;
                ensure!(held.iter().any(Result::is_ok), "nobody got through");
                // Work under load takes seconds, and in an unlucky draw longer than a proxy waits for it.
                let good = async {
                    loop {
                        match Raw::greeted_from(stage.clients, GOOD_STRANGER).await {
                            Ok(mut raw) => return raw.is_alive().await,
                            Err(_again) => tokio::time::sleep(Duration::from_millis(100)).await,
                        }
                    }
                };
                tokio::time::timeout(PATIENCE, good)
                    .await
                    .context("a good stranger does not get through")??;
                drop(held);
                Ok(Left::Uncounted)
            })
        })
    };
    vec![
        many("500 silent connections at once", 500).grows_by(64 * 1024),
        many("3000 silent connections at once", 3000).grows_by(64 * 1024).long(),
    ]
}
