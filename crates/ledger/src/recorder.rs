//! What the ledger records, and what of it is durable.

use std::collections::VecDeque;
use std::collections::hash_map::Entry::Vacant;

use ahash::HashMap;
use ton::Address;
use units::AdjustedTokens;

use crate::Ledger;
use crate::account::{ClientAccount, WorkerAccount};
use crate::anchor::{Anchor, Anchors};
use crate::book::Sums;
use crate::facts::{Followed, Party, WorkerContract};
use crate::journal::{
    Bill, Books, CommitNumber, JournalError, put_anchor, put_anchored, put_charge, put_client,
    put_client_contract, put_followed, put_funds, put_worker, put_worker_contract,
};

/// Records that wait for their commit, and the totals before commits that may not be signed for yet.
#[derive(Debug)]
pub(crate) struct Recorder {
    records: Vec<u8>,
    clients: u32,
    workers: u32,
    /// Commits that are not durable, or not protected by an anchor, the one being collected last.
    commits: VecDeque<Commit>,
    /// Where the totals of accounts in those commits begin: what of them may be signed is asked for at every request.
    unsettled: HashMap<Entry, Unsettled>,
    /// The newest durable one.
    durable: Option<CommitNumber>,
    /// The sum of charges up to which commits count as protected.
    limit: AdjustedTokens,
    /// Whose totals may be signed higher than before; kept only where a chain is followed.
    settled: Option<Vec<Party>>,
}

#[derive(Debug)]
struct Commit {
    number: CommitNumber,
    /// The sum of all charges after the commit.
    tokens: AdjustedTokens,
    totals_before: HashMap<Entry, Before>,
}

/// An account in one commit.
#[derive(Debug)]
struct Before {
    party: Party,
    /// Its total before the first record of the commit.
    total: AdjustedTokens,
    /// The next commit that it is in.
    next: Option<CommitNumber>,
}

/// An account in all commits that are kept.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    /// Its total before the first of them.
    total: AdjustedTokens,
    /// The last of them that it is in.
    last: CommitNumber,
}

impl Commit {
    fn collecting(number: CommitNumber) -> Self {
        Self { number, tokens: AdjustedTokens::ZERO, totals_before: HashMap::default() }
    }
}

/// An account by its number in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entry {
    Client(u32),
    Worker(u32),
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new(CommitNumber::FIRST, 0, 0)
    }
}

impl Recorder {
    fn new(next: CommitNumber, clients: u32, workers: u32) -> Self {
        Self {
            records: Vec::new(),
            clients,
            workers,
            commits: VecDeque::from([Commit::collecting(next)]),
            unsettled: HashMap::default(),
            durable: None,
            limit: AdjustedTokens::new(u64::MAX),
            settled: None,
        }
    }

    /// Newer facts about a client that owes something, which owed `used_before`.
    pub(crate) fn note_funds(
        &mut self,
        client: &Address,
        account: &mut ClientAccount,
        used_before: AdjustedTokens,
    ) {
        let number = match account.number {
            Some(number) => {
                put_funds(&mut self.records, number, &account.funds);
                number
            }
            None => self.open_client(client, account),
        };
        self.note_total(Entry::Client(number), Party::Client(*client), used_before);
    }

    /// What the chain says about a client's contract.
    pub(crate) fn note_client(
        &mut self,
        client: &Address,
        account: &mut ClientAccount,
        used_before: AdjustedTokens,
    ) {
        self.note_funds(client, account, used_before);
        let number = account.number.expect("its funds are on record");
        put_client_contract(&mut self.records, number, account.state, &account.secret_hash);
    }

    /// What the chain says about a worker's contract.
    pub(crate) fn note_worker(
        &mut self,
        worker: &Address,
        account: &mut WorkerAccount,
        earned_before: AdjustedTokens,
        contract: WorkerContract,
    ) {
        let number = match account.number {
            Some(number) => number,
            None => self.open_worker(worker, account),
        };
        put_worker_contract(&mut self.records, number, &contract);
        self.note_total(Entry::Worker(number), Party::Worker(*worker), earned_before);
    }

    pub(crate) fn note_followed(&mut self, transaction: &Followed) {
        put_followed(&mut self.records, transaction);
    }

    /// Returns the commit that will hold it.
    pub(crate) fn note_anchor(&mut self, anchor: &Anchor) -> CommitNumber {
        put_anchor(&mut self.records, anchor);
        self.commits.back().expect(COLLECTING).number
    }

    pub(crate) fn note_anchored(&mut self, number: u32) {
        put_anchored(&mut self.records, number);
    }

    /// From now on commits count only up to `limit`, and whose totals they settle is kept.
    pub(crate) fn follow(&mut self, limit: AdjustedTokens) {
        self.limit = limit;
        self.settled.get_or_insert_default();
    }

    pub(crate) fn raise_limit(&mut self, limit: AdjustedTokens) {
        self.limit = self.limit.max(limit);
        self.settle();
    }

    pub(crate) fn is_commit_durable(&self, commit: CommitNumber) -> bool {
        self.durable.is_some_and(|durable| commit <= durable)
    }

    /// Lets go of commits whose totals may be signed now.
    fn settle(&mut self) {
        // The last one is still being collected, so nobody can have written it.
        while self.commits.len() > 1
            && let Some(first) = self.commits.front()
            && self.durable.is_some_and(|durable| first.number <= durable)
            && first.tokens <= self.limit
        {
            let settled = self.commits.pop_front().into_iter().flat_map(|first| first.totals_before);
            for (entry, Before { party, next, .. }) in settled {
                if let Some(parties) = &mut self.settled {
                    parties.push(party);
                }
                let next =
                    next.and_then(|next| commit_mut(&mut self.commits, next)?.totals_before.get(&entry));
                match next.map(|before| before.total).zip(self.unsettled.get_mut(&entry)) {
                    Some((total, unsettled)) => unsettled.total = total,
                    None => drop(self.unsettled.remove(&entry)),
                }
            }
        }
    }

    /// One record for both parties.
    pub(crate) fn charge(
        &mut self,
        ((client, client_account), (worker, worker_account)): (
            (&Address, &mut ClientAccount),
            (&Address, &mut WorkerAccount),
        ),
        tokens: AdjustedTokens,
        bill: &Bill<'_>,
    ) {
        let client_number = match client_account.number {
            Some(number) => number,
            None => self.open_client(client, client_account),
        };
        let worker_number = match worker_account.number {
            Some(number) => number,
            None => self.open_worker(worker, worker_account),
        };
        let (client_party, worker_party) = (Party::Client(*client), Party::Worker(*worker));
        self.note_total(Entry::Client(client_number), client_party, client_account.used());
        self.note_total(Entry::Worker(worker_number), worker_party, worker_account.total());
        put_charge(&mut self.records, (client_number, worker_number), tokens, bill);
    }

    fn open_client(&mut self, client: &Address, account: &mut ClientAccount) -> u32 {
        put_client(&mut self.records, client, &account.funds, account.brought_forward);
        let number = next(&mut self.clients);
        account.number = Some(number);
        number
    }

    fn open_worker(&mut self, worker: &Address, account: &mut WorkerAccount) -> u32 {
        put_worker(&mut self.records, worker);
        let number = next(&mut self.workers);
        account.number = Some(number);
        number
    }

    fn note_total(&mut self, entry: Entry, party: Party, total: AdjustedTokens) {
        let collecting = self.commits.back_mut().expect(COLLECTING);
        let number = collecting.number;
        let Vacant(first) = collecting.totals_before.entry(entry) else { return };
        first.insert(Before { party, total, next: None });
        let new = Unsettled { total, last: number };
        let unsettled = self.unsettled.entry(entry).or_insert(new);
        let last = std::mem::replace(&mut unsettled.last, number);
        if last != number
            && let Some(commit) = commit_mut(&mut self.commits, last)
            && let Some(before) = commit.totals_before.get_mut(&entry)
        {
            before.next = Some(number);
        }
    }

    /// The total of `entry` that may be signed, if it is not `total`.
    fn settled(&self, entry: Option<Entry>, total: AdjustedTokens) -> AdjustedTokens {
        let unsettled = entry.and_then(|entry| self.unsettled.get(&entry));
        unsettled.map_or(total, |unsettled| unsettled.total)
    }
}

/// A commit that is kept, by its number: they follow each other.
fn commit_mut(commits: &mut VecDeque<Commit>, number: CommitNumber) -> Option<&mut Commit> {
    let first = commits.front()?.number.get();
    let index = usize::try_from(number.get().checked_sub(first)?).ok()?;
    commits.get_mut(index)
}

impl Ledger {
    /// Takes what has to be written in the next commit. `into` becomes the records; what it held is given up, its
    /// room is used again. Returns the number of the commit, or `None` if there is nothing to write.
    ///
    /// To be called again and again, since records are kept until it is.
    pub fn take_records(&mut self, into: &mut Vec<u8>) -> Option<CommitNumber> {
        let recorder = &mut self.recorder;
        if recorder.records.is_empty() {
            return None;
        }
        into.clear();
        std::mem::swap(into, &mut recorder.records);
        let commit = recorder.commits.back_mut().expect(COLLECTING);
        commit.tokens = self.sums.clients_charged;
        let number = commit.number;
        recorder.commits.push_back(Commit::collecting(number.next()));
        Some(number)
    }

    /// Bytes of the records that wait for a commit.
    #[must_use]
    pub const fn records_len(&self) -> usize {
        self.recorder.records.len()
    }

    /// Whether everything that happened is durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        let recorder = &self.recorder;
        // The commit before the one being collected is the newest that was taken.
        let mut taken = recorder.commits.iter().rev().skip(1);
        recorder.records.is_empty()
            && taken.next().is_none_or(|newest| recorder.is_commit_durable(newest.number))
    }

    /// The commit and all before it are durable now.
    pub fn committed(&mut self, commit: CommitNumber) {
        let recorder = &mut self.recorder;
        let collecting = recorder.commits.back().expect(COLLECTING).number;
        if commit < collecting {
            recorder.durable = recorder.durable.max(Some(commit));
        }
        recorder.settle();
    }

    /// What a client's requests have cost, as far as it may be signed: it is durable, and where a chain is followed an
    /// anchor protects it. `None` without an account.
    #[must_use]
    pub fn settled_client(&self, client: Address) -> Option<AdjustedTokens> {
        let account = self.clients.get(&client)?;
        Some(self.recorder.settled(account.number.map(Entry::Client), account.used()))
    }

    /// What a worker has earned, as far as it may be signed; `None` without an account.
    #[must_use]
    pub fn settled_worker(&self, worker: Address) -> Option<AdjustedTokens> {
        let account = self.workers.get(&worker)?;
        Some(self.recorder.settled(account.number.map(Entry::Worker), account.total()))
    }

    /// Moves to `into` whose totals may be signed higher than when it was called last, some of them more than once.
    /// Nobody, where no chain is followed.
    pub fn take_settled(&mut self, into: &mut Vec<Party>) {
        if let Some(settled) = &mut self.recorder.settled {
            into.append(settled);
        }
    }

    /// The ledger that goes on from recovered books. Nothing is held in it: what was pending has ended.
    ///
    /// # Errors
    /// [`JournalError::Sums`] if the books contradict themselves, which no ledger writes.
    pub fn from_books(books: &Books) -> Result<Self, JournalError> {
        let tokens = books.check_sums()?;
        let failed = |what| JournalError::Sums { what };
        let mut ledger = Self::new(books.identity().prices);
        ledger.clients.reserve(books.clients.len());
        ledger.workers.reserve(books.workers.len());
        let number = |index: usize| u32::try_from(index).map_err(|_overflow| failed("too many accounts"));
        for (index, entry) in books.clients.iter().enumerate() {
            let account = ClientAccount {
                funds: entry.funds,
                brought_forward: entry.brought_forward,
                charged: entry.charged,
                state: entry.state,
                secret_hash: entry.secret_hash,
                is_on_chain: entry.is_on_chain,
                number: Some(number(index)?),
                ..ClientAccount::default()
            };
            if ledger.clients.insert(entry.owner, account).is_some() {
                return Err(failed("a client has two accounts"));
            }
        }
        for (index, entry) in books.workers.iter().enumerate() {
            let account = WorkerAccount {
                earned: entry.earned,
                brought_forward: entry.brought_forward,
                contract: entry.contract,
                running: 0,
                number: Some(number(index)?),
            };
            if ledger.workers.insert(entry.owner, account).is_some() {
                return Err(failed("a worker has two accounts"));
            }
        }
        let paid = |price: units::NanoTon| {
            price.charge(tokens).map_err(|_overflow| failed("the charges do not fit 64 bits of nanotons"))
        };
        ledger.sums = Sums {
            held: AdjustedTokens::ZERO,
            clients_charged: tokens,
            workers_earned: tokens,
            clients_paid: paid(ledger.prices.price_per_token())?,
            workers_paid: paid(ledger.prices.worker_fee_per_token())?,
            proxy_fees: paid(ledger.prices.proxy_fee_per_token())?,
        };
        ledger.followed = books.followed;
        ledger.anchors = Anchors::recovered(books.confirmed, books.pending.clone());
        ledger.recorder = Recorder::new(
            books.position().commit,
            number(books.clients.len())?,
            number(books.workers.len())?,
        );
        Ok(ledger)
    }
}

impl Books {
    /// The sum of all charges, which must be the sum of all earnings.
    pub(crate) fn check_sums(&self) -> Result<AdjustedTokens, JournalError> {
        let failed = |what| JournalError::Sums { what };
        let add = |sum: AdjustedTokens, tokens| sum.checked_add(tokens).ok();
        let charged = self.clients.iter().map(|entry| entry.charged).try_fold(AdjustedTokens::ZERO, add);
        let earned = self.workers.iter().map(|entry| entry.earned).try_fold(AdjustedTokens::ZERO, add);
        if self.clients.iter().any(|entry| entry.brought_forward.checked_add(entry.charged).is_err()) {
            return Err(failed("a client's total does not fit 64 bits"));
        }
        if self.workers.iter().any(|entry| entry.brought_forward.checked_add(entry.earned).is_err()) {
            return Err(failed("a worker's total does not fit 64 bits"));
        }
        match (charged, earned) {
            (Some(charged), Some(earned)) if charged == earned => Ok(charged),
            (Some(_), Some(_)) => Err(failed("clients were charged another sum than workers earned")),
            _ => Err(failed("the charges do not fit 64 bits")),
        }
    }
}

fn next(counter: &mut u32) -> u32 {
    let number = *counter;
    *counter = counter.checked_add(1).expect("no memory holds 2^32 accounts");
    number
}

const COLLECTING: &str = "there is always a commit that collects records";
