//! Long requests of version 3: their queries come in parts, between which the messages of others pass.
//!
//! A worker of version 3 gets each part when it comes and the worker has room for it. An older one wants the whole
//! query in one message. What has come is kept, within a budget: so a query can go to another worker while it comes, and
//! it can wait for a place. Until it has one the client is let send no more than its window.

use std::collections::VecDeque;

use bytes::Bytes;
use ton::Address;
use transport::flow::{Inflow, Outflow, PART_LEN_MAX, WINDOW, part_cost};
use units::ProtocolVersion;
use wire::proxy::SignedPayment;
use wire::{client, proxy, stream};

use super::accounts::{Freshness, Side, Standing};
use super::client_link::{Breach, ClientParty};
use super::parts::Parts;
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

/// A query that has not come to its end, or not gone on to it.
pub(super) struct Upload {
    inflow: Inflow,
    len: usize,
    /// Length of the part that it began with.
    first_len: usize,
    /// The run message, whose query is only the first part; if the budget has room for all that comes.
    run: Option<Bytes>,
    /// What has come of the query; from its beginning, where there is a run message.
    parts: Parts,
    /// Parts that have not gone on: where each ends in the query, and what it takes of the client's window.
    owed: VecDeque<(usize, u32)>,
    onward: Onward,
}

/// It holds a prompt.
impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("len", &self.len).finish_non_exhaustive()
    }
}

/// How a query goes on to its worker.
enum Onward {
    /// There is none yet.
    Waits,
    /// As it comes; `sent` bytes went on.
    Parts { request: RequestKey, worker: LinkId, hop_id: [u8; 32], outflow: Outflow, sent: usize },
    /// In one message, once it is complete.
    Whole { request: RequestKey, errand: Errand },
}

impl Upload {
    /// What it takes of the budget for collected queries.
    fn collected_len(&self) -> usize {
        if self.run.is_some() { self.len } else { 0 }
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
        if query_len <= query.query.len() || cost > WINDOW {
            return Err("a query in parts is shorter than its first part, or that is too long");
        }
        let request_id = query.request_id;
        let run = message.slice_ref(begin.run);
        self.run_query(link, party, query, query_len, &run, now);
        // Refused: what the client may send before it hears of that is late.
        if let Some(client) = self.clients.get_mut(&link)
            && !client.uploads.contains_key(&request_id)
        {
            client.late = client.late.saturating_add((WINDOW - cost).into());
        }
        Ok(())
    }

    /// Whether the budget has room for one more collected query.
    pub(super) const fn can_collect(&self, query_len: usize) -> bool {
        self.collected_len.saturating_add(query_len) <= self.limits.collected_len_max
    }

    /// The `first` part of a query has come, which goes nowhere yet.
    pub(super) fn open_upload(
        &mut self,
        link: LinkId,
        request_id: [u8; 32],
        (first, len, run): (&[u8], usize, &Bytes),
    ) {
        let cost = part_cost(first.len());
        let mut inflow = Inflow::new(WINDOW);
        inflow.receive(cost).expect("the first part was measured against the window");
        let run = self.can_collect(len).then(|| {
            self.collected_len += len;
            run.clone()
        });
        let mut parts = Parts::default();
        parts.push(first);
        let upload = Upload {
            inflow,
            len,
            first_len: first.len(),
            run,
            parts,
            owed: VecDeque::from([(first.len(), cost)]),
            onward: Onward::Waits,
        };
        if let Some(client) = self.clients.get_mut(&link) {
            client.uploads.insert(request_id, upload);
        }
    }

    /// A query goes to a worker, from its beginning: what has come of it, and what will.
    pub(super) fn direct_upload(
        &mut self,
        key: RequestKey,
        (link, request_id): (LinkId, [u8; 32]),
        errand: Errand,
        now: Now,
    ) {
        let Some(mut upload) = self.take_upload(link, &request_id) else { return };
        upload.onward = if errand.protocol == ProtocolVersion::V3 {
            let first = upload.parts.first(upload.first_len);
            let mut outflow = Outflow::new(WINDOW);
            let _has_room = outflow.take(part_cost(first.len()));
            let run = self.run_message(&errand, &first, now);
            let query_len = i32::try_from(upload.len).expect("longer queries were refused");
            let begin = wire::encode(&stream::Begin { query_len, run: &run });
            self.send(errand.worker, begin, Undelivered::FailRequest(key));
            let Errand { worker, hop_id, .. } = errand;
            Onward::Parts { request: key, worker, hop_id, outflow, sent: upload.first_len }
        } else {
            Onward::Whole { request: key, errand }
        };
        self.flush_query((link, request_id), upload, now);
    }

    /// The run message of a query that is coming and could begin anew elsewhere, and the length of the query.
    pub(super) fn collected_run(&self, link: LinkId, request_id: &[u8; 32]) -> Option<(Bytes, usize)> {
        let upload = self.clients.get(&link)?.uploads.get(request_id)?;
        upload.run.clone().map(|run| (run, upload.len))
    }

    pub(super) fn is_uploading(&self, link: LinkId, request_id: &[u8; 32]) -> bool {
        self.clients.get(&link).is_some_and(|client| client.uploads.contains_key(request_id))
    }

    fn take_upload(&mut self, link: LinkId, request_id: &[u8; 32]) -> Option<Upload> {
        self.clients.get_mut(&link)?.uploads.remove(request_id)
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
        let received = upload.parts.end() + part.data.len();
        if received > upload.len || part.is_last != (received == upload.len) {
            return Err("the parts of a query do not add up to its length");
        }
        upload.parts.push(part.data);
        upload.owed.push_back((received, cost));
        if let Some(upload) = self.take_upload(link, &part.request_id) {
            self.flush_query((link, part.request_id), upload, now);
        }
        Ok(())
    }

    /// A query has gone on to its end: from now on another worker may try it as if it had come in one message.
    fn keep_complete(&mut self, key: RequestKey, run: Bytes, query: Parts) {
        let len_max = self.limits.kept_len_max;
        if let Some(request) = self.running.get_mut(key)
            && request.first_answer.is_none()
        {
            request.kept = self.kept.keep_parts(run, query, len_max);
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
        let Some(mut upload) = self.take_upload(client_link, &request_id) else { return };
        let granted = match &mut upload.onward {
            Onward::Parts { outflow, .. } => outflow.grant(credit.len),
            Onward::Waits | Onward::Whole { .. } => Ok(()),
        };
        if granted.is_ok() {
            return self.flush_query((client_link, request_id), upload, now);
        }
        if let Some(client) = self.clients.get_mut(&client_link) {
            client.uploads.insert(request_id, upload);
        }
        self.misbehaved(key, "worker: it grants what makes no sense", now);
    }

    /// The message that hands a request with its whole query, or the first part of it, to a worker.
    pub(super) fn run_message(&mut self, errand: &Errand, query: &[u8], now: Now) -> Bytes {
        let standing = (errand.protocol < ProtocolVersion::V3).then(|| {
            self.standing(Side::Worker, errand.account, Freshness::Recent, now)
                .expect("a connected worker has an account")
        });
        let &Errand { coefficient, timeout, hop_id, debug, .. } = errand;
        let signed_payment = standing.as_ref().map_or(SignedPayment::Empty, Standing::payment);
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
            if upload.parts.end() < upload.len {
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

    /// Hands on what the worker has room for. The upload was taken from its link, and returns there until it is over.
    fn flush_query(&mut self, (link, request_id): (LinkId, [u8; 32]), mut upload: Upload, now: Now) {
        let received = upload.parts.end();
        let has_come = received == upload.len;
        let (gone, key) = match &mut upload.onward {
            Onward::Waits => (0, None),
            Onward::Parts { request, worker, hop_id, outflow, sent } => {
                while *sent < received {
                    let data = upload.parts.from(*sent, PART_LEN_MAX);
                    if !outflow.take(part_cost(data.len())) {
                        break;
                    }
                    *sent += data.len();
                    let part =
                        stream::BodyPart { request_id: *hop_id, data: &data, is_last: *sent == upload.len };
                    let part = wire::encode_sharing(&part, &data);
                    self.send(*worker, part, Undelivered::FailRequest(*request));
                }
                if upload.run.is_none() {
                    upload.parts.drop_before(*sent);
                }
                (*sent, Some(*request))
            }
            // What is collected makes room.
            Onward::Whole { request, .. } => (received, Some(*request)),
        };
        if let Some(key) = key.filter(|_| has_come && gone == upload.len) {
            return self.has_gone_on(key, upload, now);
        }
        let mut grant = 0;
        while let Some((_, cost)) = upload.owed.pop_front_if(|(end, _)| *end <= gone) {
            grant += upload.inflow.pass(cost).unwrap_or(0);
        }
        if let Some(client) = self.clients.get_mut(&link) {
            client.uploads.insert(request_id, upload);
        }
        self.grant_client(link, request_id, Some(grant).filter(|len| *len > 0));
    }

    /// All of a query has come, and gone on or can.
    fn has_gone_on(&mut self, key: RequestKey, upload: Upload, now: Now) {
        self.collected_len -= upload.collected_len();
        if let Onward::Whole { errand, .. } = &upload.onward {
            if let Some(request) = self.running.get_mut(key) {
                request.is_forwarded = true;
            }
            let message = self.run_message(errand, &upload.parts.first(upload.len), now);
            self.send(errand.worker, message, Undelivered::FailRequest(key));
        }
        if let Some(run) = upload.run {
            self.keep_complete(key, run, upload.parts);
        }
    }

    fn grant_client(&mut self, link: LinkId, request_id: [u8; 32], grant: Option<i32>) {
        if let Some(len) = grant {
            self.send(link, wire::encode(&stream::Credit { request_id, len }), Undelivered::CloseLink);
        }
    }
}
