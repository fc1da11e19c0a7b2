//! Long requests of version 3: their queries come in parts, between which the messages of others pass.
//!
//! A worker of version 3 gets each part when it comes and the worker has room for it. An older one wants the whole
//! query in one message: it is collected here, within a budget.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use ton::Address;
use transport::flow::{Inflow, Outflow, QUERY_WINDOW, part_cost};
use units::ProtocolVersion;
use wire::{client, proxy, stream};

use super::accounts::{Freshness, Side};
use super::client_link::{Breach, ClientParty};
use super::running::RequestKey;
use super::{Core, LinkId, Now, Undelivered};

/// What a worker is told about a request besides its query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand {
    pub(super) worker: LinkId,
    pub(super) account: Address,
    pub(super) protocol: ProtocolVersion,
    pub(super) coefficient: i64,
    /// In seconds.
    pub(super) timeout: f64,
    pub(super) hop_id: [u8; 32],
    pub(super) debug: bool,
}

/// A query that has not come to its end.
#[derive(Debug)]
pub(super) struct Upload {
    request: RequestKey,
    inflow: Inflow,
    received: usize,
    len: usize,
    /// All that has come, if the budget has room for it.
    collected: Option<Collected>,
    onward: Onward,
}

/// A query that is being put together.
struct Collected {
    /// The run message, whose query is only the first part.
    run: Bytes,
    query: BytesMut,
}

/// It holds a prompt.
impl std::fmt::Debug for Collected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collected").field("len", &self.query.len()).finish_non_exhaustive()
    }
}

/// How a query goes on to its worker.
enum Onward {
    Parts { worker: LinkId, hop_id: [u8; 32], outflow: Outflow, waiting: VecDeque<Waiting> },
    Whole { errand: Errand },
}

/// A part that the worker has no room for.
struct Waiting {
    message: Bytes,
    cost: u32,
}

/// It may hold a prompt.
impl std::fmt::Debug for Onward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Parts { .. } => "Parts",
            Self::Whole { .. } => "Whole",
        })
    }
}

impl Upload {
    /// What it takes of the budget for collected queries.
    fn collected_len(&self) -> usize {
        if self.collected.is_some() { self.len } else { 0 }
    }
}

impl Core {
    /// A long request begins.
    pub(super) fn begin_query(
        &mut self,
        link: LinkId,
        party: ClientParty,
        begin: &stream::Begin<'_>,
        message: &Bytes,
        now: Now,
    ) -> Result<(), Breach> {
        let query: client::RunQueryEx<'_> =
            wire::decode(begin.run).map_err(|_malformed| "malformed message")?;
        let query_len = usize::try_from(begin.query_len).map_err(|_negative| "a query of negative length")?;
        let cost = part_cost(query.query.len());
        if query_len <= query.query.len() || cost > QUERY_WINDOW {
            return Err("a query in parts is shorter than its first part, or that is too long");
        }
        let request_id = query.request_id;
        let run = message.slice_ref(begin.run);
        self.run_query(link, party, query, query_len, &run, now);
        // Refused: what the client may send before it hears of that is late.
        if let Some(client) = self.clients.get_mut(&link)
            && !client.uploads.contains_key(&request_id)
        {
            client.late = client.late.saturating_add((QUERY_WINDOW - cost).into());
        }
        Ok(())
    }

    /// Starts to hand on a query whose `first` part has come.
    pub(super) fn begin_upload(
        &mut self,
        key: RequestKey,
        link: LinkId,
        request_id: [u8; 32],
        errand: Errand,
        (first, len, run): (&[u8], usize, &Bytes),
        now: Now,
    ) {
        let cost = part_cost(first.len());
        let mut inflow = Inflow::new(QUERY_WINDOW);
        inflow.receive(cost).expect("the first part was measured against the window");
        let onward = if errand.protocol == ProtocolVersion::V3 {
            let mut outflow = Outflow::new(QUERY_WINDOW);
            let _has_room = outflow.take(cost);
            let run = self.run_message(&errand, first, now);
            let query_len = i32::try_from(len).expect("longer queries were refused");
            let begin = wire::encode(&stream::Begin { query_len, run: &run });
            self.send(errand.worker, begin, Undelivered::FailRequest(key));
            Onward::Parts { worker: errand.worker, hop_id: errand.hop_id, outflow, waiting: VecDeque::new() }
        } else {
            Onward::Whole { errand }
        };
        // For another worker, should the first one fail; or because its worker wants it whole.
        let is_collected = self.collected_len + len <= self.limits.collected_len_max;
        let collected = is_collected.then(|| {
            self.collected_len += len;
            Collected { run: run.clone(), query: BytesMut::from(first) }
        });
        let grant = inflow.pass(cost);
        let upload = Upload { request: key, inflow, received: first.len(), len, collected, onward };
        if let Some(client) = self.clients.get_mut(&link) {
            client.uploads.insert(request_id, upload);
        }
        self.grant_client(link, request_id, grant);
    }

    /// More of a query has come. A client that breaks the rules loses its link.
    pub(super) fn query_part(
        &mut self,
        link: LinkId,
        part: &stream::BodyPart<'_>,
        now: Now,
    ) -> Result<(), Breach> {
        let Some(client) = self.clients.get_mut(&link) else { return Ok(()) };
        let cost = part_cost(part.data.len());
        let Some(upload) = client.uploads.get_mut(&part.request_id) else {
            let left = client.late.checked_sub(cost.into());
            client.late = left.ok_or("parts of a query that was never begun")?;
            return Ok(());
        };
        upload.inflow.receive(cost).map_err(|_overrun| "more of a query than was let")?;
        upload.received += part.data.len();
        if upload.received > upload.len || part.is_last != (upload.received == upload.len) {
            return Err("the parts of a query do not add up to its length");
        }
        if let Some(collected) = &mut upload.collected {
            collected.query.extend_from_slice(part.data);
        }
        let complete = if part.is_last { upload.collected.take() } else { None };
        if complete.is_some() {
            self.collected_len -= upload.len;
        }
        let key = upload.request;
        match &mut upload.onward {
            Onward::Parts { hop_id, waiting, .. } => {
                let message = wire::encode(&stream::BodyPart { request_id: *hop_id, ..part.clone() });
                waiting.push_back(Waiting { message, cost });
                self.flush_query(link, part.request_id);
            }
            Onward::Whole { errand } => {
                let errand = *errand;
                let grant = upload.inflow.pass(cost);
                if let Some(Collected { query, .. }) = &complete {
                    self.end_upload(link, &part.request_id);
                    if let Some(request) = self.running.get_mut(key) {
                        request.is_forwarded = true;
                    }
                    let message = self.run_message(&errand, query, now);
                    self.send(errand.worker, message, Undelivered::FailRequest(key));
                } else {
                    self.grant_client(link, part.request_id, grant);
                }
            }
        }
        if let Some(complete) = complete {
            self.keep_complete(key, &complete);
        }
        Ok(())
    }

    /// A query has come to its end: another worker may try it from now on.
    fn keep_complete(&mut self, key: RequestKey, Collected { run, query }: &Collected) {
        let Ok(run) = wire::decode::<client::RunQueryEx<'_>>(run) else { return };
        let message = wire::encode(&client::RunQueryEx { query, ..run });
        let len_max = self.limits.kept_len_max;
        if let Some(request) = self.running.get_mut(key)
            && request.first_answer.is_none()
        {
            request.kept = self.kept.keep(&message, len_max);
        }
    }

    /// A worker takes more of a query. One that is unknown has just ended.
    pub(super) fn credit_from_worker(&mut self, link: LinkId, credit: &stream::Credit, now: Now) {
        let running = self.workers.get(&link).map(|worker| &worker.running);
        let Some(&key) = running.and_then(|running| running.get(&credit.request_id)) else { return };
        let Some(request) = self.running.get_mut(key) else { return };
        let (Some(client_link), request_id) = (request.client_link, request.client.request_id) else {
            return;
        };
        let upload = self.clients.get_mut(&client_link).and_then(|it| it.uploads.get_mut(&request_id));
        let Some(Upload { onward: Onward::Parts { outflow, .. }, .. }) = upload else { return };
        match outflow.grant(credit.len) {
            Ok(()) => self.flush_query(client_link, request_id),
            Err(_senseless) => self.misbehaved(key, "worker: it grants what makes no sense", now),
        }
    }

    /// The message that hands a request with its whole query, or the first part of it, to a worker.
    pub(super) fn run_message(&mut self, errand: &Errand, query: &[u8], now: Now) -> Bytes {
        let standing = self.standing(Side::Worker, errand.account, Freshness::Recent, now);
        let standing = standing.expect("a connected worker has an account");
        let &Errand { coefficient, timeout, hop_id, debug, .. } = errand;
        let signed_payment = standing.payment();
        match errand.protocol {
            ProtocolVersion::V0 => wire::encode(&proxy::RunQuery {
                query,
                signed_payment,
                coefficient,
                timeout,
                request_id: hop_id,
            }),
            ProtocolVersion::V1 | ProtocolVersion::V2 | ProtocolVersion::V3 => {
                wire::encode(&proxy::RunQueryEx {
                    query,
                    signed_payment,
                    coefficient,
                    timeout,
                    request_id: hop_id,
                    enable_debug: Some(debug),
                })
            }
        }
    }

    /// A query has come to its end, or its request has.
    pub(super) fn end_upload(&mut self, link: LinkId, request_id: &[u8; 32]) {
        let Some(client) = self.clients.get_mut(&link) else { return };
        if let Some(upload) = client.uploads.remove(request_id) {
            if upload.received < upload.len {
                // What was let may still come.
                client.late = client.late.saturating_add(upload.inflow.left().into());
            }
            self.collected_len -= upload.collected_len();
        }
    }

    /// The link is gone, and what it was sending.
    pub(super) fn forget_uploads(&mut self, uploads: impl Iterator<Item = Upload>) {
        self.collected_len -= uploads.map(|upload| upload.collected_len()).sum::<usize>();
    }

    /// Hands on what the worker has room for.
    fn flush_query(&mut self, link: LinkId, request_id: [u8; 32]) {
        let Some(client) = self.clients.get_mut(&link) else { return };
        let Some(upload) = client.uploads.get_mut(&request_id) else { return };
        let Onward::Parts { worker, outflow, waiting, .. } = &mut upload.onward else { return };
        let (worker, key) = (*worker, upload.request);
        let mut grant = 0;
        let mut messages = Vec::new();
        while waiting.front().is_some_and(|next| outflow.take(next.cost))
            && let Some(Waiting { message, cost }) = waiting.pop_front()
        {
            grant += upload.inflow.pass(cost).unwrap_or(0);
            messages.push(message);
        }
        let is_over = upload.received == upload.len && waiting.is_empty();
        for message in messages {
            self.send(worker, message, Undelivered::FailRequest(key));
        }
        if is_over {
            self.end_upload(link, &request_id);
        } else {
            self.grant_client(link, request_id, Some(grant).filter(|len| *len > 0));
        }
    }

    fn grant_client(&mut self, link: LinkId, request_id: [u8; 32], grant: Option<i32>) {
        if let Some(len) = grant {
            self.send(link, wire::encode(&stream::Credit { request_id, len }), Undelivered::CloseLink);
        }
    }
}
