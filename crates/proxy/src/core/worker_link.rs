//! A worker's link: handshake, offers, answers.

use ahash::HashMap;
use attest::Attestation;
use bytes::Bytes;
use market::{Offer, Owner, WorkerId};
use ton::Address;
use units::{Coefficient, ModelName, ProtocolVersion};
use wire::{DecodeError, StatusCode, worker};

use super::accounts::{Freshness, Heard, Side};
use super::agreement::Agreement;
use super::client_link::{Breach, negotiate, no_account, parse_owner};
use super::running::RequestKey;
use super::{Core, LinkId, Now, PeerFacts, Refusal};

#[derive(Debug)]
pub(super) struct WorkerLink {
    pub(super) peer: PeerFacts,
    pub(super) party: Option<WorkerParty>,
    pub(super) agreement: Agreement,
    step: Step,
    pub(super) heard: Heard,
    /// Requests that this worker runs, by our name for them.
    pub(super) running: HashMap<[u8; 32], RequestKey>,
}

/// Who is at the other end.
#[derive(Debug)]
pub(super) struct WorkerParty {
    pub(super) account: Address,
    pub(super) protocol: ProtocolVersion,
    pub(super) model: ModelName,
}

/// What the handshake waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Compare,
    CompareExtended,
    Complete,
    Done,
}

impl WorkerLink {
    pub(super) fn new(peer: PeerFacts) -> Self {
        Self {
            peer,
            party: None,
            agreement: Agreement::Settled,
            step: Step::Connect,
            heard: Heard::default(),
            running: HashMap::default(),
        }
    }
}

impl WorkerLink {
    /// The handshake is complete.
    pub(super) fn is_ready(&self) -> bool {
        self.step == Step::Done
    }

    /// What is spoken with the worker; the oldest version until it was introduced.
    pub(super) fn protocol(&self) -> ProtocolVersion {
        self.party.as_ref().map_or(ProtocolVersion::V0, |party| party.protocol)
    }
}

impl Core {
    pub(super) fn answer_worker(&mut self, link: LinkId, message: &[u8], now: Now) -> Result<Bytes, Refusal> {
        let Some((step, account)) = self.workers.get(&link).map(|worker| {
            let account = worker.party.as_ref().map(|party| party.account);
            (worker.step, account)
        }) else {
            return Err(Refusal::harmless(StatusCode::CANCELLED, "the link is closing"));
        };
        let query = match (wire::decode::<worker::Query<'_>>(message), step) {
            (Ok(query), _) => query,
            (Err(error @ DecodeError::UnknownConstructor { .. }), Step::Done) => {
                return Err(Refusal::harmless(StatusCode::PROTOCOL_VIOLATION, error.to_string()));
            }
            (Err(error), _) => return Err(Refusal::closing(StatusCode::UNSPECIFIED, error.to_string())),
        };
        match (step, account, query) {
            (Step::Connect, _, worker::Query::ConnectToProxy(query)) => {
                self.connect_worker(link, &query.params, now)
            }
            (Step::Compare, Some(account), worker::Query::CompareBalanceWithProxy(query)) => {
                self.compare_balance(link, account, &query, now)
            }
            // Deployed proxies stay here for ever. There is nothing more to compare: only what the journal holds was
            // ever signed, so what the worker knows beyond that is what a crash of the last moments took.
            (Step::CompareExtended, _, worker::Query::ExtendedCompareBalanceWithProxy(_)) => {
                self.set_step(link, Step::Complete);
                Ok(wire::encode(&worker::ExtendedCompareBalanceWithProxyResult { error_code: 0 }))
            }
            (Step::Complete, _, worker::Query::ProxyHandshakeComplete(query)) => {
                self.set_step(link, Step::Done);
                self.vouch(link);
                self.market.set_enabled(WorkerId::new(link.0), !query.is_disabled);
                self.place_freed(link, now);
                Ok(wire::encode(&worker::ProxyHandshakeCompleted {}))
            }
            (Step::Done, Some(account), worker::Query::UpdatePaymentStatus(_)) => {
                let standing = self.standing(Side::Worker, account, Freshness::Total, now);
                let standing = standing.ok_or_else(no_account)?;
                Ok(wire::encode(&worker::PaymentStatus {
                    signed_payment: standing.payment(),
                    db_tokens: standing.settled,
                    max_tokens: standing.total,
                }))
            }
            _ => {
                let message = "query out of order: the handshake is connect, compare, complete";
                Err(Refusal::closing(StatusCode::PROTOCOL_VIOLATION, message))
            }
        }
    }

    /// The checks stand in the order of the deployed proxy.
    fn connect_worker(
        &mut self,
        link: LinkId,
        params: &worker::Params<'_>,
        now: Now,
    ) -> Result<Bytes, Refusal> {
        let refused = |code, message: String| Err(Refusal::closing(code, message));
        let violation = StatusCode::PROTOCOL_VIOLATION;
        let attestation = self.workers.get(&link).and_then(|worker| worker.peer.attestation);
        if !self.allows_image(attestation) {
            let found =
                attestation.map_or_else(|| "none".to_owned(), |attestation| attestation.image.to_string());
            let message = match attestation {
                Some(Attestation { is_simulated: true, .. }) if !self.terms.root().params.is_test => {
                    "the worker runs on a simulated platform, which only test networks accept".to_owned()
                }
                _ => format!("invalid worker image hash {found}: not in the root contract"),
            };
            return refused(violation, message);
        }
        let Some(deployment) = &params.deployment else {
            return refused(StatusCode::ERROR, "too old worker".to_owned());
        };
        if deployment.is_test != self.terms.root().params.is_test {
            return refused(StatusCode::ERROR, "test mode mismatch".to_owned());
        }
        let invalid = |error: &dyn std::fmt::Display| Refusal::closing(violation, error.to_string());
        let model = ModelName::new(params.model.to_string_lossy()).map_err(|error| invalid(&error))?;
        let coefficient = Coefficient::new(i64::from(params.coefficient)).map_err(|error| invalid(&error))?;
        let positive = |number: i32| u32::try_from(number).ok().filter(|number| *number > 0);
        let Some(running_max) = positive(deployment.max_active_requests) else {
            return refused(violation, "max_active_requests must be at least 1".to_owned());
        };
        let Some(proxies) = positive(deployment.proxy_cnt) else {
            return refused(violation, "proxy_cnt must be at least 1".to_owned());
        };
        if !self.allows_model(&model) {
            return refused(violation, format!("model {model} is not in the root contract"));
        }
        let protocol = negotiate(params.proto_range.as_ref())?;
        let account = parse_owner(params.worker_owner_address, StatusCode::UNSPECIFIED)?;
        if !self.takes_part() {
            let message = "proxy is not participating in this iteration";
            return refused(StatusCode::NOT_READY, message.to_owned());
        }
        let Ok(contract) = self.join_account(Side::Worker, account) else {
            return refused(StatusCode::NOT_READY, "proxy has no room for another worker".to_owned());
        };

        self.ledger.open_worker(account);
        // The worker shares its limit equally among the proxies it is connected to.
        let running_max = running_max.div_ceil(proxies).min(self.limits.running_per_worker_max);
        let owner = Owner::new(*account.hash());
        let offer = Offer { owner, model: model.clone(), coefficient, running_max };
        self.market
            .add(WorkerId::new(link.0), &offer, now.instant)
            .expect("a link joins once: the step of the handshake sees to it");
        if let Some(worker) = self.workers.get_mut(&link) {
            worker.party = Some(WorkerParty { account, protocol, model });
            worker.agreement = Agreement::on(protocol);
            worker.step = Step::Compare;
        }
        self.greeted = (protocol == ProtocolVersion::V3).then_some(link);
        let contract = self.terms.address_text(&contract);
        Ok(wire::encode(&worker::ConnectedToProxy {
            params: self.terms.introduction(protocol),
            worker_sc_address: contract.as_str().into(),
        }))
    }

    /// A worker's numbers are compared, never taken over: one that claims more than we know is told so and goes
    /// on with what we know.
    fn compare_balance(
        &mut self,
        link: LinkId,
        account: Address,
        known: &worker::CompareBalanceWithProxy,
        now: Now,
    ) -> Result<Bytes, Refusal> {
        self.workers.get(&link).map_or(Ok(()), |worker| worker.agreement.check())?;
        let remembered =
            [known.tokens_committed_to_blockchain, known.tokens_committed_to_db, known.max_tokens];
        if remembered.iter().any(|tokens| *tokens < 0) {
            return Err(Refusal::closing(StatusCode::PROTOCOL_VIOLATION, "a token count is negative"));
        }
        let standing = self.standing(Side::Worker, account, Freshness::Total, now);
        let standing = standing.ok_or_else(no_account)?;
        let agrees = remembered.iter().all(|tokens| *tokens <= standing.total);
        self.set_step(link, if agrees { Step::Complete } else { Step::CompareExtended });
        Ok(wire::encode(&worker::CompareBalanceWithProxyResult {
            signed_payment: standing.payment(),
            tokens_committed_to_db: standing.settled,
            max_tokens: standing.total,
            error_code: i32::from(!agrees),
        }))
    }

    pub(super) fn packet_from_worker(
        &mut self,
        link: LinkId,
        message: &[u8],
        now: Now,
    ) -> Result<(), Breach> {
        let packet = match wire::decode::<worker::ToProxy<'_>>(message) {
            Ok(packet) => packet,
            Err(DecodeError::UnknownConstructor { .. }) => return Ok(()),
            Err(_malformed) => return Err("malformed message"),
        };
        if let worker::ToProxy::Capabilities(said) = packet {
            return self.worker_capabilities(link, said);
        }
        if self.workers.get(&link).is_none_or(|worker| worker.step != Step::Done) {
            return Err("message before the end of the handshake");
        }
        match packet {
            worker::ToProxy::EnabledDisabled(worker::EnabledDisabled { disabled }) => {
                self.market.set_enabled(WorkerId::new(link.0), disabled == 0);
                self.place_freed(link, now);
                Ok(())
            }
            worker::ToProxy::NewCoefficient(worker::NewCoefficient { new_coefficient }) => {
                let coefficient = Coefficient::new(i64::from(new_coefficient))
                    .map_err(|_out_of_range| "the new coefficient is out of range")?;
                self.market.set_coefficient(WorkerId::new(link.0), coefficient);
                self.place_freed(link, now);
                Ok(())
            }
            worker::ToProxy::Credit(credit) => {
                self.credit_from_worker(link, &credit, now);
                Ok(())
            }
            worker::ToProxy::Usage(usage) => self.usage_so_far(link, &usage, now),
            answer => self.worker_answered(link, &answer, now),
        }
    }

    /// Links of workers that the lists of the root configuration do not allow.
    pub(super) fn disallowed_workers(&self) -> Vec<LinkId> {
        let disallowed = self.workers.iter().filter(|(_, worker)| {
            let is_allowed = |party: &WorkerParty| {
                self.allows_image(worker.peer.attestation) && self.allows_model(&party.model)
            };
            worker.party.as_ref().is_some_and(|party| !is_allowed(party))
        });
        disallowed.map(|(link, _)| *link).collect()
    }

    fn allows_image(&self, attestation: Option<Attestation>) -> bool {
        let root = self.terms.root();
        let is_allowed = |Attestation { image, is_simulated }| {
            root.allows_worker_image(&image) && (root.params.is_test || !is_simulated)
        };
        !self.terms.checks_worker_hashes() || attestation.is_some_and(is_allowed)
    }

    fn allows_model(&self, model: &ModelName) -> bool {
        !self.terms.checks_worker_hashes() || self.terms.root().allows_model(model)
    }

    /// The link is gone. Its requests fail now, not when their time is over.
    pub(super) fn forget_worker_link(&mut self, link: LinkId, now: Now) {
        let Some(worker) = self.workers.remove(&link) else { return };
        self.market.remove(WorkerId::new(link.0), now.instant);
        for request in worker.running.into_values() {
            self.worker_lost(request, now);
        }
        if let Some(party) = worker.party {
            self.leave_account(Side::Worker, party.account);
        }
    }

    fn set_step(&mut self, link: LinkId, step: Step) {
        if let Some(worker) = self.workers.get_mut(&link) {
            worker.step = step;
        }
    }
}
