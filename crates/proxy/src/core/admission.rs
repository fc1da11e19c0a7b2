//! A request arrives: may it run, and where?

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use market::{Affinity, Demand, NoWorker, WorkerId};
use sha2::{Digest, Sha256};
use transport::flow::{Inflow, WINDOW};
use units::{AdjustedTokens, AdjustedUsage, Coefficient, ModelName, ProtocolVersion, TokenCount};
use wire::frame::MESSAGE_LEN_MAX;
use wire::{StatusCode, client, http};

use super::answer::{Addressee, Failure};
use super::client_link::ClientParty;
use super::delivery::Delivery;
use super::moving::{KeptRequest, Post};
use super::running::{Request, RequestKey};
use super::upload::Errand;
use super::waiting::too_many_requests;
use super::{Core, LinkId, Now, Undelivered, proxy_disabled};

/// Both forms of a request.
pub(super) struct Wish<'a> {
    pub(super) model: Cow<'a, str>,
    /// The query, or its first part.
    pub(super) query: &'a [u8],
    /// Length of the whole query.
    pub(super) query_len: usize,
    /// Length of the HTTP body in it.
    pub(super) body_len: usize,
    pub(super) affinity: Option<Affinity>,
    pub(super) ceiling: Coefficient,
    pub(super) max_tokens: TokenCount,
    pub(super) timeout: Duration,
    pub(super) request_id: [u8; 32],
    pub(super) min_config_version: i32,
    pub(super) debug: bool,
}

impl Wish<'_> {
    /// All of the query is there.
    pub(super) fn is_whole(&self) -> bool {
        self.query.len() == self.query_len
    }
}

/// What the worker gets of the client's time, and what the client gave us of the application's.
const TIMEOUT_SHARE: f64 = 0.95;

/// A header of the application's HTTP request by which a client says what should run at one worker: 16 hexadecimal
/// digits, a hash of whatever the application named.
const AFFINITY_HEADER: &[u8] = b"X-Cocoon-Affinity";

/// Longest query, in bytes: to a worker it travels with a payment, whose link has to have a frame for both.
const QUERY_LEN_MAX: usize = MESSAGE_LEN_MAX - 4096;

impl Core {
    /// Starts a request at a worker, or tells the client why not.
    pub(super) fn run_query(
        &mut self,
        link: LinkId,
        party: ClientParty,
        query: client::RunQueryEx<'_>,
        query_len: usize,
        message: &Bytes,
        now: Now,
    ) {
        let debug = query.enable_debug.unwrap_or(false);
        let request = http::RequestStart::read(query.query, query_len).ok();
        let body_len = request.as_ref().map_or(0, |request| request.payload_len);
        let admitted = self
            .read_wish(&query, query_len, debug, request.as_ref())
            .and_then(|wish| self.admit(link, party, &wish, message, now));
        if let Err(failure) = admitted {
            self.refuse((link, party, query.request_id), &failure, (body_len, debug), now, now);
        }
    }

    /// Turns numbers of the wire into quantities. The deployed proxy computes with negative ones.
    pub(super) fn read_wish<'a>(
        &self,
        query: &client::RunQueryEx<'a>,
        query_len: usize,
        debug: bool,
        request: Option<&http::RequestStart<'_>>,
    ) -> Result<Wish<'a>, Failure> {
        let invalid = |message| Failure::new(StatusCode::PROTOCOL_VIOLATION, message);
        if query_len > QUERY_LEN_MAX {
            return Err(invalid("the query is too long"));
        }
        let request = request.ok_or_else(|| invalid("the query is not an HTTP request"))?;
        let max_tokens =
            u64::try_from(query.max_tokens).map_err(|_negative| invalid("max_tokens is negative"))?;
        let ceiling = u32::try_from(query.max_coefficient)
            .map_err(|_negative| invalid("max_coefficient is negative"))?;
        let timeout = Some(query.timeout).filter(|seconds| *seconds > 0.0 && seconds.is_finite());
        let timeout = timeout.ok_or_else(|| invalid("timeout is not a positive number"))?;
        let timeout_max = self.timeout_max();
        Ok(Wish {
            model: query.model_name.to_string_lossy(),
            query: query.query,
            query_len,
            body_len: request.payload_len,
            affinity: affinity(&request.request),
            // No worker asks more than the highest legal price, so a higher ceiling means that one.
            ceiling: Coefficient::try_from(ceiling.min(Coefficient::LIMIT - 1))
                .expect("it is below the limit"),
            max_tokens: TokenCount::new(max_tokens),
            timeout: timeout_max.min(Duration::try_from_secs_f64(timeout).unwrap_or(timeout_max)),
            request_id: query.request_id,
            min_config_version: query.min_config_version,
            debug,
        })
    }

    /// The checks stand in the order of the deployed proxy, with its codes and texts, which clients know.
    fn admit(
        &mut self,
        link: LinkId,
        party: ClientParty,
        wish: &Wish<'_>,
        message: &Bytes,
        now: Now,
    ) -> Result<(), Failure> {
        let refused = |code, message: &'static str| Err(Failure::new(code, message));
        let client = self.clients.get(&link).expect("a request comes on a known link");
        let is_in_use = client.running.contains_key(&wish.request_id)
            || client.waiting.contains_key(&wish.request_id)
            || client.deliveries.contains_key(&wish.request_id);
        if is_in_use {
            return refused(StatusCode::PROTOCOL_VIOLATION, "request id is in use");
        }
        let open = client.running.len().max(client.deliveries.len()) + client.waiting.len();
        if open >= self.limits.running_per_client_max {
            return Err(too_many_requests());
        }
        if self.leaves(party.account) {
            return refused(StatusCode::NOT_READY, "client is closing");
        }
        let available =
            self.ledger.client(party.account).map_or(AdjustedTokens::ZERO, |limits| limits.available);
        if available.get() < wish.max_tokens.get() {
            return refused(StatusCode::ERROR, "client balance is too low");
        }
        if !self.is_config_known(wish.min_config_version) {
            return refused(StatusCode::ERROR, "active config version is too low");
        }
        if !self.takes_part() {
            return Err(proxy_disabled());
        }
        if !self.records_charges() {
            return refused(StatusCode::NOT_READY, "the proxy cannot record charges now");
        }
        if self.running.len() >= self.limits.running_max {
            return refused(StatusCode::NOT_READY, "the proxy runs too many queries");
        }
        if self.to_reserve(wish).is_none_or(|hold| hold > available) {
            return refused(StatusCode::NOT_READY, "balance is too low");
        }
        let post = self.find_worker(wish, now);
        if let Err(reason) = post
            && reason != NoWorker::Full
        {
            return Err(no_worker(reason, &wish.model));
        }
        // Of a query that comes in parts only the beginning is there: what else comes is kept with the upload.
        let is_kept = wish.is_whole() || post.is_err();
        let kept = is_kept.then(|| self.kept.keep(message, self.limits.kept_len_max)).flatten();
        match post {
            Ok(post) if wish.is_whole() => self.start(link, party, (wish, None), (now, kept), &post, now),
            Ok(post) => {
                if post.protocol < ProtocolVersion::V3 && !self.can_collect(wish.query_len) {
                    return Err(too_many_long_queries());
                }
                self.start(link, party, (wish, Some(message)), (now, None), &post, now)
            }
            Err(_full) => self.wait(link, party, wish, (kept, message), now),
        }
    }

    fn to_reserve(&self, wish: &Wish<'_>) -> Option<AdjustedTokens> {
        self.terms.prices().hold(wish.max_tokens, wish.query_len, wish.ceiling).ok()
    }

    /// Holds what a request may cost and hands it to its worker. A query in parts comes with its run message; if it
    /// has waited, what came meanwhile is there already.
    pub(super) fn start(
        &mut self,
        link: LinkId,
        party: ClientParty,
        (wish, run): (&Wish<'_>, Option<&Bytes>),
        (started, kept): (Now, Option<KeptRequest>),
        post: &Post,
        now: Now,
    ) -> Result<(), Failure> {
        let to_reserve = self.to_reserve(wish).unwrap_or(AdjustedTokens::new(u64::MAX));
        let hold = match self.ledger.reserve(party.account, post.account, to_reserve) {
            Ok(hold) => hold,
            Err(error) => {
                if let Some(kept) = kept {
                    self.kept.forget(kept);
                }
                let message = format!("client balance is too low: to_reserve={to_reserve}: {error}");
                return Err(Failure::new(StatusCode::ERROR, message));
            }
        };
        let mut request = Request {
            client_link: Some(link),
            is_given_up: false,
            is_forwarded: true,
            inflow: None,
            client_account: party.account,
            client: Addressee { protocol: party.protocol, request_id: wish.request_id },
            model: self.shares.begin(&wish.model, party.account),
            worker_link: post.link,
            worker_account: post.account,
            hop_id: self.hop_id(link, &wish.request_id),
            wants_notes: wish.debug,
            started,
            forwarded: now.instant,
            deadline: started.instant + wish.timeout,
            first_answer: None,
            status: 0,
            counted: AdjustedUsage::default(),
            bytes_received: wish.body_len,
            bytes_sent: 0,
            kept,
            tried: Vec::new(),
        };
        let key = self.running.next_key();
        if let Some(client) = self.clients.get_mut(&link) {
            client.running.insert(wish.request_id, key);
            if party.protocol == ProtocolVersion::V3 {
                client.deliveries.insert(wish.request_id, Delivery::new(key));
            }
        }
        self.join_worker(key, &mut request, post, now);
        let Some(run) = run else {
            self.forward(key, post, &request, wish, now);
            self.running.insert(key, request, hold);
            return Ok(());
        };
        request.is_forwarded = post.protocol == ProtocolVersion::V3;
        let errand = errand(post, &request, now);
        self.running.insert(key, request, hold);
        if !self.is_uploading(link, &wish.request_id) {
            self.open_upload(link, wish.request_id, (wish.query, wish.query_len, run));
        }
        self.direct_upload(key, (link, wish.request_id), errand, now);
        Ok(())
    }

    /// A worker for the request.
    pub(super) fn find_worker(&mut self, wish: &Wish<'_>, now: Now) -> Result<Post, NoWorker> {
        let demand = Demand { model: &wish.model, ceiling: wish.ceiling, affinity: wish.affinity };
        let id = self.market.pick(&demand, now.instant)?;
        let link = LinkId(id.get());
        let party = self.workers.get(&link).and_then(|worker| worker.party.as_ref());
        let party = party.expect("the market lists introduced workers only");
        let coefficient = self.market.worker(id).map_or(0, |worker| i64::from(worker.coefficient.get()));
        Ok(Post { link, account: party.account, protocol: party.protocol, coefficient })
    }

    /// From now on the request runs there.
    pub(super) fn join_worker(&mut self, key: RequestKey, request: &mut Request, post: &Post, now: Now) {
        self.market.started(WorkerId::new(post.link.0));
        if let Some(worker) = self.workers.get_mut(&post.link) {
            worker.running.insert(request.hop_id, key);
        }
        request.worker_link = post.link;
        request.worker_account = post.account;
        request.inflow = (post.protocol == ProtocolVersion::V3).then(|| Inflow::new(WINDOW));
        request.forwarded = now.instant;
    }

    /// Hands the request to its worker, in the worker's version.
    pub(super) fn forward(
        &mut self,
        key: RequestKey,
        post: &Post,
        request: &Request,
        wish: &Wish<'_>,
        now: Now,
    ) {
        let message = self.run_message(&errand(post, request, now), wish.query, now);
        self.send(post.link, message, Undelivered::FailRequest(key));
    }

    /// Our name for a request between us and its worker. It derives from the client's, so that logs of both
    /// hops can be joined, and no client can choose it, since requests of several clients meet at one worker.
    pub(super) fn hop_id(&mut self, link: LinkId, request_id: &[u8; 32]) -> [u8; 32] {
        let serial = self.running.next_serial();
        let mut hash = Sha256::new();
        hash.update(self.hop_secret);
        hash.update(serial.to_le_bytes());
        hash.update(link.0.to_le_bytes());
        hash.update(request_id);
        hash.finalize().into()
    }
}

pub(super) fn too_many_long_queries() -> Failure {
    Failure::new(StatusCode::NOT_READY, "the proxy collects too many long queries")
}

/// What a worker is told about a request besides its query.
pub(super) fn errand(post: &Post, request: &Request, now: Now) -> Errand {
    let left = request.deadline.saturating_duration_since(now.instant);
    Errand {
        worker: post.link,
        account: post.account,
        protocol: post.protocol,
        coefficient: post.coefficient,
        timeout: left.as_secs_f64() * TIMEOUT_SHARE,
        hop_id: request.hop_id,
        debug: request.wants_notes,
    }
}

/// What the client wants to be near; anything but 16 hexadecimal digits is nothing.
fn affinity(request: &http::Request<'_>) -> Option<Affinity> {
    let named = |header: &&http::Header<'_>| header.name.as_bytes().eq_ignore_ascii_case(AFFINITY_HEADER);
    let value = request.headers.iter().find(named)?.value;
    let mut bytes = [0; 8];
    hex::decode_to_slice(value.as_bytes(), &mut bytes).ok()?;
    Some(Affinity::new(u64::from_be_bytes(bytes)))
}

pub(super) fn no_worker(reason: NoWorker, model: &str) -> Failure {
    let name = &model[..model.floor_char_boundary(ModelName::LEN_MAX)];
    let not_ready = StatusCode::NOT_READY;
    match reason {
        NoWorker::UnknownModel => {
            Failure::new(StatusCode::PROTOCOL_VIOLATION, format!("unknown model {name}"))
        }
        NoWorker::NoneConnected => Failure::new(not_ready, format!("no workers for model {name}")),
        NoWorker::NoneEnabled | NoWorker::Full => {
            Failure::new(not_ready, format!("no ready workers for model {name}"))
        }
        NoWorker::TooDear { cheapest } => {
            Failure::new(not_ready, format!("can run this query with coefficient={}", cheapest.get()))
        }
    }
}
