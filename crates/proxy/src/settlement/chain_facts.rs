//! What the chain shows: transactions of the proxy contract, and contracts that were read.

use std::time::Duration;

use ledger::{Anchor, ClientContract, ClientFunds, Followed, Ledger, Party, WorkerContract};
use ton::Address;
use ton::messages::{self, ClientPayload, ClientRequest, WorkerRequest};
use ton::states::{ClientData, ContractState, ProxyData, WorkerData};
use tycho_types::cell::Cell;
use units::{AdjustedTokens, LogicalTime, NanoTon};

use super::{Action, Foreign, LATER, NOTICE_MAX, Settlement, Stage, Wake, due};
use crate::core::{ACCOUNTS_MAX, Now};

/// A transaction of the proxy contract that a message of another account caused.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Which one.
    pub at: Followed,
    /// Who sent the message.
    pub from: Address,
    /// What it said.
    pub body: &'a Cell,
    /// Whether the contract ran and did what it wanted.
    pub is_done: bool,
}

/// Totals travel as signed numbers; a larger one is nonsense.
const TOKENS_MAX: AdjustedTokens = AdjustedTokens::new(i64::MAX as u64 / 2);

impl Settlement {
    /// The chain was asked about the own contract, and has answered as of a block of this time since 1970.
    pub fn heard(&mut self, now: Now, block_time: Duration) {
        // A server may answer and stand still.
        let age = now.unix.saturating_sub(block_time);
        self.heard = self.heard.max(now.instant.checked_sub(age));
        self.chain_time = self.chain_time.max(block_time);
    }

    /// The own contract as it is after all transactions that were seen; `None` if it is not deployed.
    pub fn own_contract(&mut self, own: Option<ProxyData>) {
        if own.as_ref().is_some_and(|own| own.balance == NanoTon::ZERO) {
            // There was nothing to withdraw. What comes later is the policy's affair again.
            self.own.withdraws = self.own.withdraws.filter(|asked_at| *asked_at >= self.chain_time);
        }
        self.own.contract = Some(own);
    }

    /// A transaction of the own contract. To be called for each, oldest first; one that was seen before changes nothing.
    pub fn seen(&mut self, books: &mut Ledger, seen: &Seen<'_>, now: Now) {
        if self.foreign.is_some() || books.followed().is_some_and(|followed| followed.lt >= seen.at.lt) {
            return;
        }
        if let Ok(request) = ClientRequest::from_cell(seen.body) {
            self.client_seen(books, seen, &request, now);
        } else if let Ok(request) = WorkerRequest::from_cell(seen.body) {
            self.worker_seen(books, seen, &request, now);
        } else if let Some(anchor) = messages::Anchor::from_cell(seen.body)
            && seen.from == self.desk.wallet()
        {
            self.anchor_seen(books, seen.at.lt, Anchor { number: anchor.seqno, hash: anchor.hash });
        }
        // What shows older books must show it again at the next start.
        if self.foreign.is_none() {
            books.followed_to(seen.at);
        }
    }

    fn anchor_seen(&mut self, books: &mut Ledger, lt: LogicalTime, anchor: Anchor) {
        match books.anchor_seen(anchor) {
            Ok(()) => {
                // The one that was on its way is there. Another one, if it is wanted, can go.
                self.own.anchors &= books.anchor_to_send().is_some();
            }
            Err(_foreign) if lt <= self.accepted => {}
            Err(_foreign) => self.stop(Foreign::Anchor { anchor, lt }),
        }
    }

    fn client_seen(&mut self, books: &mut Ledger, seen: &Seen<'_>, request: &ClientRequest, now: Now) {
        let party = Party::Client(request.owner);
        let state = &request.state;
        let before = books.client_contract(request.owner);
        let is_full = before.is_none() && books.accounts_len().0 >= ACCOUNTS_MAX;
        let is_older = before.is_some_and(|before| before.funds.tokens_used > state.tokens_used);
        if is_full || is_older || state.tokens_used > TOKENS_MAX || seen.from != self.desk.contract_of(party)
        {
            self.ignored = self.ignored.saturating_add(1);
            return;
        }
        let known = books.client(request.owner).map_or(AdjustedTokens::ZERO, |limits| limits.used);
        if self.is_foreign_total(party, state.tokens_used, known, seen.at.lt) {
            return;
        }
        let moves_money = !matches!(request.payload, None | Some(ClientPayload::Register { .. }));
        if moves_money && !seen.is_done {
            // It comes back, and the client's contract undoes what it says here.
            self.look_soon(party, now);
            return;
        }
        // A client's contract counts a deposit before it has arrived, and takes it off again when it comes back. So a
        // balance grows here by what arrived and by nothing else.
        let arrived = match request.payload {
            Some(ClientPayload::TopUp { amount, .. }) => amount,
            _ => NanoTon::ZERO,
        };
        let known_balance = before.map_or(NanoTon::ZERO, |before| before.funds.balance);
        let balance = state.balance.min(known_balance.checked_add(arrived).unwrap_or(known_balance));
        let funds = ClientFunds { balance, stake: state.stake, tokens_used: state.tokens_used };
        let contract = ClientContract { funds, state: state.state, secret_hash: state.secret_hash };
        books.client_on_chain(request.owner, contract);
        self.changed(books, party, before.is_some_and(|before| before.state != state.state));
        if matches!(request.payload, Some(ClientPayload::RefundForced { .. })) {
            // A refund that the stake did not cover is owed to the client.
            self.look_soon(party, now);
        }
        if let Some(ClientPayload::Register { nonce }) = request.payload {
            self.outbox.push_back(Action::Registered { client: request.owner, nonce });
        }
    }

    fn worker_seen(&mut self, books: &mut Ledger, seen: &Seen<'_>, request: &WorkerRequest, now: Now) {
        let party = Party::Worker(request.owner);
        let before = books.worker_contract(request.owner);
        let is_full = books.worker(request.owner).is_none() && books.accounts_len().1 >= ACCOUNTS_MAX;
        let is_older = before.is_some_and(|before| before.paid > request.tokens);
        if is_full || is_older || request.tokens > TOKENS_MAX || seen.from != self.desk.contract_of(party) {
            self.ignored = self.ignored.saturating_add(1);
            return;
        }
        let known = books.worker(request.owner).map_or(AdjustedTokens::ZERO, |totals| totals.earned);
        if self.is_foreign_total(party, request.tokens, known, seen.at.lt) {
            return;
        }
        if request.payload.is_some() && !seen.is_done {
            self.look_soon(party, now);
            return;
        }
        let contract = WorkerContract { paid: request.tokens, state: request.state };
        books.worker_on_chain(request.owner, contract);
        self.changed(books, party, before.is_some_and(|before| before.state != request.state));
    }

    /// A client's contract was read as of a block of this time since 1970; `None` if it is not deployed.
    ///
    /// Servers can make states up more easily than transactions, and whatever a contract does it tells the proxy contract,
    /// in order; only what came back to it is told by nobody. So of one that works nothing here counts, and of one
    /// that was shown to close only what is left in it.
    pub fn looked_at_client(
        &mut self,
        books: &mut Ledger,
        client: Address,
        data: Option<&ClientData>,
        block_time: Duration,
        now: Now,
    ) {
        let party = Party::Client(client);
        if self.is_outdated(party, block_time, now) {
            return;
        }
        let (before, mut is_other_state, mut is_unconfirmed) = (books.client_contract(client), false, false);
        let known = books.client(client).map_or(AdjustedTokens::ZERO, |limits| limits.used);
        if let (Some(before), Some(data)) = (before, data)
            && before.state != ContractState::Normal
            && data.state != ContractState::Normal
            && (before.funds.tokens_used..=known).contains(&data.tokens_used)
        {
            // What the proxy contract has not confirmed may be gone in a moment.
            let balance = data.balance.saturating_sub(data.unconfirmed);
            let funds = ClientFunds { balance, stake: data.stake, tokens_used: data.tokens_used };
            let contract = ClientContract { funds, state: data.state, secret_hash: data.secret_hash };
            books.client_on_chain(client, contract);
            is_other_state = before.state != data.state;
            is_unconfirmed = balance < data.balance;
        }
        self.looked(books, party, is_other_state, now);
        if is_unconfirmed {
            self.look_soon(party, now);
        }
    }

    /// A worker's contract was read as of a block of this time since 1970; `None` if it is not deployed. A payout that came
    /// back is taken off the total; all else is told by transactions.
    pub fn looked_at_worker(
        &mut self,
        books: &mut Ledger,
        worker: Address,
        data: Option<&WorkerData>,
        block_time: Duration,
        now: Now,
    ) {
        if self.is_outdated(Party::Worker(worker), block_time, now) {
            return;
        }
        if let (Some(before), Some(data)) = (books.worker_contract(worker), data) {
            let contract = WorkerContract { paid: before.paid.min(data.tokens), state: before.state };
            books.worker_on_chain(worker, contract);
        }
        self.looked(books, Party::Worker(worker), false, now);
    }

    /// Whether a look is older than what is known. It is taken again then.
    fn is_outdated(&mut self, party: Party, block_time: Duration, now: Now) -> bool {
        let is_outdated = block_time < self.chain_time;
        if is_outdated {
            self.wakes.insert((now.instant + LATER, Wake::Look(party)));
        }
        is_outdated
    }

    /// What was read of a party's contract is in the books.
    fn looked(&mut self, books: &Ledger, party: Party, is_other_state: bool, now: Now) {
        if self.changed(books, party, is_other_state) {
            self.wakes.retain(|(_, wake)| *wake != Wake::Look(party));
            // Its contract did it, and took it back: the proxy contract refused what came of it.
            if let Some(side) = self.sides.get_mut(&party) {
                side.awaits_notice = false;
            }
            self.failed(party, now);
        }
    }

    /// The chain has shown a party's contract anew. Returns whether it does not show yet what an order has done.
    fn changed(&mut self, books: &Ledger, party: Party, is_other_state: bool) -> bool {
        let mut awaits_notice = false;
        if let Some(side) = self.sides.get_mut(&party) {
            if is_other_state {
                // What is due now is something else.
                side.forgive();
            }
            if side.order.is_none() && due::shows(books, &side.duty) {
                self.done(party);
            } else {
                awaits_notice = side.awaits_notice;
            }
        }
        if !awaits_notice {
            self.wakes.retain(|(_, wake)| *wake != Wake::Look(party));
        }
        if let Stage::Closing { leaving } = &mut self.stage {
            leaving.insert(party);
        }
        self.due.insert(party);
        awaits_notice
    }

    fn look_soon(&mut self, party: Party, now: Now) {
        if !self.wakes.iter().any(|(_, wake)| *wake == Wake::Look(party)) {
            self.wakes.insert((now.instant + NOTICE_MAX, Wake::Look(party)));
        }
    }

    /// The books are not the ones that the chain knows. Nothing more is signed or sent.
    fn stop(&mut self, foreign: Foreign) {
        self.foreign = Some(foreign);
        self.outbox.clear();
    }

    /// Only this proxy signs totals, and what it signs is in its books.
    fn is_foreign_total(
        &mut self,
        party: Party,
        on_chain: AdjustedTokens,
        known: AdjustedTokens,
        lt: LogicalTime,
    ) -> bool {
        let is_foreign = on_chain > known && lt > self.accepted;
        if is_foreign {
            self.stop(Foreign::Total { party, on_chain, known, lt });
        }
        is_foreign
    }
}
