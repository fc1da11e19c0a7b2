//! Attacks by proxies, on workers and on clients. Each has a victim of its own, which also has the real proxy: what
//! goes through that one must go on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use ton::Address;
use ton::payment::PaymentKind;
use wire::client;
use wire::proxy::{self, SignedPayment};

use super::{Attack, Left, Target, listeners};
use crate::engine::VICTIM_MODEL;
use crate::fake::{Claims, FakeProxy, Victim};
use crate::role::Role;
use crate::session::http_request;
use crate::stage::{Stage, models, until_answered};

pub(super) const LEAVES: &str = "the link ends, the other one works";
const BEARS: &str = "the link bears it, the other one works";
/// How long a victim may take to leave.
pub(super) const AT_ONCE: Duration = Duration::from_secs(20);

/// Starts a victim and waits until it works with the real proxy.
pub(super) async fn victim(stage: &Stage, target: Target, fake: SocketAddr) -> Result<Role> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    match target {
        Target::Worker => {
            let settings = [models(VICTIM_MODEL, stage.engine)];
            stage.victim("worker", &format!("victim-{number}"), fake, &settings).await
        }
        _ => stage.victim("client", &format!("victim-{number}"), fake, &[]).await,
    }
}

/// What the victim does for others still works, and it has said once why it left. Returns what its memory came to.
pub(super) async fn is_well(
    stage: &Stage,
    target: Target,
    victim: &mut Role,
    has_left: bool,
) -> Result<Left> {
    match target {
        Target::Worker => until_answered(stage.api, VICTIM_MODEL).await?,
        _ => until_answered(victim.address("http")?, crate::engine::MODEL).await?,
    }
    ensure!(victim.is_alive(), "the victim has ended:\n{}", victim.log_text());
    if has_left {
        let marker = if target == Target::Worker { "link to a proxy" } else { "connection to a proxy" };
        let lines = victim.wait_for_lines(marker, 1, Duration::from_secs(5)).await;
        ensure!(lines >= 1, "the victim does not say why it left");
    }
    Ok(Left::Victim { grown_kib: victim.grown_kib()? })
}

/// An attack by claims in the handshake.
fn claiming(name: &str, target: Target, change: fn(&mut Claims)) -> Attack {
    Attack::new(name, target, LEAVES, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
        Box::pin(async move {
            let mut fake = FakeProxy::start().await?;
            change(&mut fake.claims);
            let mut role = victim(stage, target, fake.address).await?;
            let link = fake.shake_hands(&stage.root).await;
            // The victim may leave in the middle.
            if let Ok(link) = link {
                link.ended().await?;
            }
            drop(fake);
            is_well(stage, target, &mut role, true).await
        })
    })
}

/// An attack by messages after the handshake.
fn saying(name: &str, target: Target, expects: &'static str, say: fn(&Victim) -> Result<()>) -> Attack {
    Attack::new(name, target, expects, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
        Box::pin(async move {
            let mut fake = FakeProxy::start().await?;
            let mut role = victim(stage, target, fake.address).await?;
            let link = fake.shake_hands(&stage.root).await?;
            say(&link)?;
            if expects == LEAVES {
                link.ended().await?;
            } else {
                link.is_alive().await?;
                // It would otherwise get requests, and not answer them.
                drop(link);
            }
            drop(fake);
            is_well(stage, target, &mut role, expects == LEAVES).await
        })
    })
}

pub(super) fn catalogue() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (side, target) in [("a worker", Target::Worker), ("a client", Target::Client)] {
        let name = |what: &str| format!("{what} ({side})");
        attacks.extend(listeners::catalogue(side, target));
        attacks.extend([
            flooding(&name("two hundred unknown messages of a megabyte"), target, 200, || {
                Bytes::from(vec![7; 1 << 20])
            }),
            claiming(&name("a proxy of another network"), target, |claims| claims.is_test = false),
            claiming(&name("a proxy of version 99"), target, |claims| claims.protocol = 99),
            claiming(&name("a proxy with a negative version"), target, |claims| claims.protocol = -1),
            claiming(&name("a proxy with another contract"), target, |claims| {
                claims.contract = Some(Address::new(0, [66; 32]));
            }),
            claiming(&name("a proxy with negative totals"), target, |claims| claims.earned = -1),
            claiming(&name("a proxy that answers nonsense"), target, |claims| {
                claims.garbage = Some(b"nonsense");
            }),
            saying(&name("an unknown message"), target, BEARS, |victim| {
                victim.send(Bytes::from_static(b"\x01\x02\x03\x04rest"))
            }),
            saying(&name("a message cut short"), target, LEAVES, |victim| {
                let whole = wire::encode(&SignedPayment::Payment { data: &[7; 40] });
                victim.send(whole.slice(..whole.len() - 8))
            }),
            saying(&name("a payment that is none"), target, BEARS, |victim| {
                for _ in 0..200 {
                    victim.send(wire::encode(&SignedPayment::Payment { data: &[7; 400] }))?;
                }
                Ok(())
            }),
        ]);
    }
    attacks.extend(on_workers());
    attacks.extend(on_clients());
    attacks
}

/// More than a victim has asked for.
fn flooding(name: &str, target: Target, count: usize, message: fn() -> Bytes) -> Attack {
    let expects = "the link ends or bears it, the other one works";
    Attack::new(name, target, expects, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
        Box::pin(async move {
            let mut fake = FakeProxy::start().await?;
            let mut role = victim(stage, target, fake.address).await?;
            let link = fake.shake_hands(&stage.root).await?;
            for _ in 0..count {
                if link.link.send(message()).await.is_err() {
                    break;
                }
            }
            drop((link, fake));
            is_well(stage, target, &mut role, false).await
        })
    })
}

fn on_workers() -> Vec<Attack> {
    vec![
        saying("a request at a price that was not asked", Target::Worker, BEARS, |victim| {
            victim.send(run(i64::MIN, 10.0, &http_request(b"{}")))
        }),
        saying("a request without a time", Target::Worker, BEARS, |victim| {
            victim.send(run(1000, f64::NAN, &http_request(b"{}")))
        }),
        saying("a request that is no HTTP", Target::Worker, BEARS, |victim| {
            victim.send(run(1000, 10.0, b"nonsense"))
        }),
        saying("a hundred requests of one name", Target::Worker, BEARS, |victim| {
            for _ in 0..100 {
                victim.send(run(1000, 10.0, &http_request(br#"{"model":"victim","messages":[]}"#)))?;
            }
            Ok(())
        }),
        flooding("ten thousand requests of many names", Target::Worker, 10_000, || {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let mut request_id = [0; 32];
            request_id[..8].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            run_as(request_id, 1000, 10.0, &http_request(br#"{"model":"victim","messages":[]}"#))
        }),
        saying("a settlement from another contract", Target::Worker, LEAVES, |victim| {
            settle(victim, &victim.signed_for_another(PaymentKind::WorkerPayout, 5), 5, 5)
        }),
        saying("a settlement without a payment", Target::Worker, LEAVES, |victim| settle(victim, &[], 5, 5)),
        saying("a settlement that falls", Target::Worker, LEAVES, |victim| {
            settle(victim, &victim.signed(PaymentKind::WorkerPayout, 5), 5, 9)?;
            settle(victim, &victim.signed(PaymentKind::WorkerPayout, 4), 5, 9)
        }),
        saying("a negative settlement", Target::Worker, LEAVES, |victim| {
            settle(victim, &victim.signed(PaymentKind::WorkerPayout, 5), i64::MIN, 9)
        }),
    ]
}

fn run(coefficient: i64, timeout: f64, query: &[u8]) -> Bytes {
    run_as([1; 32], coefficient, timeout, query)
}

fn run_as(request_id: [u8; 32], coefficient: i64, timeout: f64, query: &[u8]) -> Bytes {
    wire::encode(&proxy::RunQueryEx {
        query,
        signed_payment: SignedPayment::Empty,
        coefficient,
        timeout,
        request_id,
        enable_debug: None,
    })
}

fn settle(victim: &Victim, boc: &[u8], stored: i64, earned: i64) -> Result<()> {
    victim.send(wire::encode(&proxy::WorkerRequestPayment {
        request_id: [1; 32],
        signed_payment: SignedPayment::Payment { data: boc },
        db_tokens: stored,
        max_tokens: earned,
        request_tokens: 0,
        request_client_owner: "".into(),
    }))
}

fn on_clients() -> Vec<Attack> {
    vec![
        saying("an answer to nothing", Target::Client, BEARS, |victim| {
            for _ in 0..1000 {
                victim.send(wire::encode(&client::QueryAnswerPartEx {
                    request_id: [3; 32],
                    answer: b"x",
                    final_info: None,
                }))?;
            }
            Ok(())
        }),
        flooding("a hundred answers of megabytes to nothing", Target::Client, 100, || {
            let answer = vec![7; 4 << 20];
            wire::encode(&client::QueryAnswerPartEx {
                request_id: [3; 32],
                answer: &answer,
                final_info: None,
            })
        }),
        saying("a charge from another contract", Target::Client, BEARS, |victim| {
            charge(victim, &victim.signed_for_another(PaymentKind::ClientCharge, 5), 5)
        }),
        saying("a negative charge", Target::Client, LEAVES, |victim| {
            charge(victim, &victim.signed(PaymentKind::ClientCharge, 5), i64::MIN)
        }),
        Attack::new("a proxy that leaves at once", Target::Client, BEARS, |stage: &Stage| {
            Box::pin(async move {
                let mut fake = FakeProxy::start().await?;
                let mut role = victim(stage, Target::Client, fake.address).await?;
                let link = fake.shake_hands(&stage.root).await?;
                link.link.close("no more");
                drop(fake);
                is_well(stage, Target::Client, &mut role, true).await
            })
        }),
    ]
}

fn charge(victim: &Victim, boc: &[u8], used: i64) -> Result<()> {
    victim.send(wire::encode(&proxy::ClientRequestPayment {
        request_id: [1; 32],
        signed_payment: SignedPayment::Payment { data: boc },
        db_tokens: used,
        max_tokens: used,
        request_tokens: 0,
    }))
}
