//! The core where a chain is followed: its settlement is fed here, and what that says about clients is obeyed.

use std::time::Duration;

use bytes::Bytes;
use ledger::Ledger;
use sha2::{Digest as _, Sha256};
use ton::Address;
use ton::states::ContractState;
use wire::StatusCode;

use super::client_link::ClientStage;
use super::{Action, Core, LinkId, Now, QueryToken, Refusal};
use crate::settlement::{self, Settlement, Unready};

/// The settlement of the contract that the core works under.
#[derive(Debug)]
pub(super) struct OnChain {
    pub(super) settlement: Box<Settlement>,
    /// Why nothing new is served, as of the last event from the chain.
    unready: Option<Unready>,
}

/// How a client shows on a chain who it is.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// The number of the connection, for a message to the client's contract.
    pub(super) nonce: u64,
    /// The chain has shown it.
    is_shown: bool,
    /// The query that waits for that.
    held: Option<QueryToken>,
}

impl Core {
    /// Follows a chain from now on: clients are those that it shows, and requests end in time for the chain's delays.
    pub fn follow_chain(&mut self, settlement: Settlement, now: Now) {
        let unready = settlement.unready(&self.ledger, now);
        self.on_chain = Some(OnChain { settlement: Box::new(settlement), unready });
        self.advance_chain(now);
    }

    /// Ends following the chain for the contract that is worked under, because another one will be.
    pub fn leave_chain(&mut self) -> Option<Settlement> {
        self.on_chain.take().map(|on_chain| *on_chain.settlement)
    }

    /// Longest time that a request may run.
    pub(super) fn timeout_max(&self) -> Duration {
        let by_chain = self.settlement().map_or(Duration::MAX, Settlement::request_max);
        self.limits.timeout_max.min(by_chain)
    }

    /// The settlement; `None` without a chain.
    #[must_use]
    pub fn settlement(&self) -> Option<&Settlement> {
        self.on_chain.as_ref().map(|on_chain| &*on_chain.settlement)
    }

    /// Why the chain keeps the proxy from serving; `None` if it does not, or there is none.
    #[must_use]
    pub fn unready(&self) -> Option<Unready> {
        self.on_chain.as_ref().and_then(|on_chain| on_chain.unready)
    }

    /// Feeds the settlement, and obeys what follows. Nothing without a chain. To be called now and then without an event
    /// too, since silence is one.
    pub fn feed_chain(&mut self, now: Now, event: impl FnOnce(&mut Settlement, &mut Ledger)) {
        if let Some(on_chain) = &mut self.on_chain {
            event(&mut on_chain.settlement, &mut self.ledger);
            self.advance_chain(now);
        }
    }

    pub(super) fn advance_chain(&mut self, now: Now) {
        let Some(on_chain) = &mut self.on_chain else { return };
        on_chain.settlement.advance(&mut self.ledger, now);
        let before = on_chain.unready;
        on_chain.unready = on_chain.settlement.unready(&self.ledger, now);
        let mut registered = Vec::new();
        while let Some(action) = on_chain.settlement.poll_action() {
            match action {
                settlement::Action::Registered { client, nonce } => registered.push((client, nonce)),
                action => self.outbox.push_back(Action::Settle(action)),
            }
        }
        let unready = on_chain.unready;
        for (client, nonce) in registered {
            self.registered(client, nonce, now);
        }
        // Books that may not be signed for are no use to anybody who is here.
        if matches!(unready, Some(Unready::Foreign(_))) && before != unready {
            self.end_everything("the proxy's books are not the newest", now);
        }
    }

    /// Whether a client's contract is on its way out, or is not there.
    pub(super) fn leaves(&self, client: Address) -> bool {
        let contract = self.ledger.client_contract(client);
        self.on_chain.is_some() && contract.is_none_or(|contract| contract.state != ContractState::Normal)
    }

    /// Whether a known client's contract is on its way out.
    pub(super) fn is_closing(&self, client: Address) -> bool {
        let contract = self.ledger.client_contract(client);
        self.on_chain.is_some() && contract.is_some_and(|contract| contract.state != ContractState::Normal)
    }

    /// The hash of the secret by which a client may authorise. None without a contract, or if everybody knows the secret.
    pub(super) fn secret_hash_of(&self, client: Address) -> Option<[u8; 32]> {
        let hash = self.ledger.client_contract(client)?.secret_hash;
        let of_empty: [u8; 32] = Sha256::digest(b"").into();
        (hash != [0; 32] && hash != of_empty).then_some(hash)
    }

    /// A client that waits for the chain to show what it has registered there.
    ///
    /// # Errors
    /// A refusal if it waits already.
    pub(super) fn await_registration(
        &mut self,
        link: LinkId,
        query: QueryToken,
        now: Now,
    ) -> Result<Option<Bytes>, Refusal> {
        let Some(client) = self.clients.get_mut(&link) else { return Ok(None) };
        let ClientStage::Authorizing(party) = client.stage else { return Ok(None) };
        if client.proof.is_shown {
            return self.authorize_client(link, party, now).map(Some);
        }
        if client.proof.held.is_some() {
            return Err(Refusal::closing(StatusCode::UNSPECIFIED, "duplicate auth message"));
        }
        client.proof.held = Some(query);
        // A transaction takes its time.
        self.newcomers.remove(link);
        self.newcomers.add(link, now.instant + self.limits.registration_max);
        Ok(None)
    }

    /// The chain shows that `owner` knows the number of a connection.
    fn registered(&mut self, owner: Address, nonce: u64, now: Now) {
        let link = self.clients.iter().find_map(|(link, client)| match client.stage {
            ClientStage::Authorizing(party) if party.account == owner && client.proof.nonce == nonce => {
                Some((*link, party))
            }
            _ => None,
        });
        let Some((link, party)) = link else { return };
        let Some(client) = self.clients.get_mut(&link) else { return };
        client.proof.is_shown = true;
        if let Some(query) = client.proof.held.take() {
            let answer = self.authorize_client(link, party, now);
            self.reply(link, query, answer.map(Some), now);
        }
    }
}
