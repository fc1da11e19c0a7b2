//! Attacks by workers that answer wrongly, and by clients that ask for it.

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::BoxFuture;
use wire::{TokensUsed, client, http, proxy, worker};

use super::{Attack, Left, Target};
use crate::session::{Peer, http_request, run_query};
use crate::stage::Stage;

const CLIENT: u8 = 211;
const WORKER: u8 = 212;
const REQUEST: [u8; 32] = [5; 32];

const FAILS_AND_CLOSES: &str = "the request fails, the worker's link ends";
const FAILS: &str = "the request fails, the links live";
const IGNORED: &str = "ignored, the links live";
const CAPPED: &str = "the charge is capped, the links live";

/// A client and a worker of the attacker's, and a request between them.
struct Pair {
    client: Peer,
    worker: Peer,
    /// The proxy's name for the request.
    hop: [u8; 32],
}

impl Pair {
    async fn new(stage: &Stage, model: &str) -> Result<Self> {
        let worker = Peer::worker(stage.workers, WORKER, model).await?;
        let client = Peer::client(stage.clients, CLIENT).await?;
        let mut pair = Self { client, worker, hop: [0; 32] };
        pair.ask(model).await?;
        Ok(pair)
    }

    async fn ask(&mut self, model: &str) -> Result<()> {
        self.client.send(wire::encode(&run_query(model, &http_request(b"{}"), REQUEST)))?;
        loop {
            let message = self.worker.next().await?;
            if let worker::FromProxy::RunQueryEx(query) = wire::decode(&message)? {
                self.hop = query.request_id;
                return Ok(());
            }
        }
    }

    fn head(&self, end: Option<TokensUsed>) -> Result<()> {
        let answer = wire::encode(&http::Response {
            http_version: "HTTP/1.1".into(),
            status_code: 200,
            reason: "OK".into(),
            headers: vec![],
            payload: b"",
        });
        self.head_of(&answer, end)
    }

    fn head_of(&self, answer: &[u8], end: Option<TokensUsed>) -> Result<()> {
        let final_info = end.map(info);
        self.worker.send(wire::encode(&proxy::QueryAnswerEx { request_id: self.hop, answer, final_info }))
    }

    fn part(&self, end: Option<TokensUsed>) -> Result<()> {
        let (answer, final_info) = (&b"x"[..], end.map(info));
        self.worker.send(wire::encode(&proxy::QueryAnswerPartEx { request_id: self.hop, answer, final_info }))
    }

    /// How the request ends for the client: whether well.
    async fn outcome(&mut self) -> Result<bool> {
        loop {
            let message = self.client.next().await?;
            match wire::decode(&message)? {
                client::FromProxy::QueryAnswerEx(answer) if answer.request_id == REQUEST => {
                    let response: http::Response<'_> = wire::decode(answer.answer)?;
                    if response.status_code >= 400 || answer.final_info.is_some() {
                        return Ok(response.status_code < 400);
                    }
                }
                client::FromProxy::QueryAnswerPartEx(answer)
                    if answer.request_id == REQUEST && answer.final_info.is_some() =>
                {
                    return Ok(true);
                }
                client::FromProxy::QueryAnswerErrorEx(answer) if answer.request_id == REQUEST => {
                    return Ok(false);
                }
                _ => {}
            }
        }
    }

    async fn are_alive(&self) -> Result<()> {
        self.worker.ask(&worker::UpdatePaymentStatus {}).await.context("the worker's link")?;
        self.client.ask(&client::UpdatePaymentStatus {}).await.context("the client's link").map(drop)
    }
}

fn info(tokens_used: TokensUsed) -> proxy::QueryFinalInfo<'static> {
    proxy::QueryFinalInfo { tokens_used, worker_debug: None, times: None }
}

const fn tokens(prompt: i64, completion: i64, total: i64) -> TokensUsed {
    TokensUsed {
        prompt_tokens_used: prompt,
        cached_tokens_used: 0,
        completion_tokens_used: completion,
        reasoning_tokens_used: 0,
        total_tokens_used: total,
    }
}

const GOOD: TokensUsed = tokens(1, 2, 3);

/// Both links leave a line each.
const CONNECTIONS: Left = Left::Connections(2);

pub(super) fn catalogue() -> Vec<Attack> {
    let attack = |name: &'static str, expects: &'static str, answer: fn(&Pair) -> Result<()>| {
        Attack::new(name, Target::Workers, expects, move |stage: &Stage| -> BoxFuture<'_, Result<Left>> {
            Box::pin(async move {
                let mut pair = Pair::new(stage, name).await?;
                answer(&pair)?;
                let is_good = pair.outcome().await?;
                let should_be_good = expects == IGNORED || expects == CAPPED;
                ensure!(is_good == should_be_good, "the request ended well: {is_good}");
                if expects == FAILS_AND_CLOSES {
                    pair.worker.ended().await?;
                } else {
                    pair.are_alive().await?;
                }
                Ok(CONNECTIONS)
            })
        })
    };
    let mut attacks = vec![
        attack("an answer that is no HTTP", FAILS_AND_CLOSES, |pair| pair.head_of(b"nonsense", None)),
        attack("an answer with 2^32-1 headers", FAILS_AND_CLOSES, |pair| {
            pair.head_of(
                b"\x2b\xc4\xd0\x1c\x08HTTP/1.1\0\0\0\xc8\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0",
                None,
            )
        }),
        attack("a part before the head", FAILS, |pair| pair.part(None)),
        attack("two heads", FAILS, |pair| pair.head(None).and_then(|()| pair.head(None))),
        attack("negative tokens", FAILS_AND_CLOSES, |pair| pair.head(Some(tokens(-1, 1, 0)))),
        attack("tokens beyond counting", FAILS_AND_CLOSES, |pair| {
            pair.head(Some(tokens(i64::MAX, i64::MAX, i64::MAX)))
        }),
        attack("tokens that do not add up", FAILS_AND_CLOSES, |pair| pair.head(Some(tokens(1, 1, 3)))),
        attack("a part after the end", IGNORED, |pair| pair.head(Some(GOOD)).and_then(|()| pair.part(None))),
        attack("the end twice", IGNORED, |pair| {
            pair.head(None)?;
            pair.part(Some(GOOD))?;
            pair.part(Some(tokens(1000, 1000, 2000)))
        }),
        attack("a head after the end", IGNORED, |pair| {
            pair.head(Some(GOOD)).and_then(|()| pair.head(Some(GOOD)))
        }),
        attack("notes of a megabyte", IGNORED, |pair| {
            let notes = "x".repeat(1 << 20);
            pair.head(None)?;
            let mut end = info(GOOD);
            end.worker_debug = Some(notes.as_str().into());
            let (answer, final_info) = (&b""[..], Some(end));
            pair.worker.send(wire::encode(&proxy::QueryAnswerPartEx {
                request_id: pair.hop,
                answer,
                final_info,
            }))
        }),
        attack("more tokens than were held", CAPPED, |pair| pair.head(Some(tokens(1 << 40, 0, 1 << 40)))),
    ];
    attacks.push(Attack::new(
        "a request id again while it runs",
        Target::Workers,
        "the second is refused, the first goes on",
        |stage: &Stage| {
            Box::pin(async move {
                let mut pair = Pair::new(stage, "replayed").await?;
                pair.client.send(wire::encode(&run_query("replayed", &http_request(b"{}"), REQUEST)))?;
                ensure!(!pair.outcome().await?, "the second was answered");
                pair.head(Some(GOOD))?;
                ensure!(pair.outcome().await?, "the first was not answered");
                pair.are_alive().await?;
                Ok(CONNECTIONS)
            })
        },
    ));
    attacks.push(Attack::new(
        "a request id again after its end",
        Target::Workers,
        "it is another request",
        |stage: &Stage| {
            Box::pin(async move {
                let mut pair = Pair::new(stage, "repeated").await?;
                let first = pair.hop;
                pair.head(Some(GOOD))?;
                ensure!(pair.outcome().await?, "the first was not answered");
                pair.ask("repeated").await?;
                if pair.hop == first {
                    bail!("the proxy uses a name again");
                }
                pair.head(Some(GOOD))?;
                ensure!(pair.outcome().await?, "the second was not answered");
                Ok(CONNECTIONS)
            })
        },
    ));
    attacks
}
