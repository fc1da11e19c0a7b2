//! What the ledger records, and what of it is durable.

use std::collections::VecDeque;

use ahash::HashMap;
use ton::Address;
use units::AdjustedTokens;

use crate::Ledger;
use crate::account::{ClientAccount, WorkerAccount};
use crate::book::Sums;
use crate::journal::{
    Bill, Books, CommitNumber, JournalError, put_charge, put_client, put_funds, put_worker,
};

/// Records that wait for their commit, and the totals before commits that are not durable yet.
#[derive(Debug)]
pub(crate) struct Recorder {
    records: Vec<u8>,
    clients: u32,
    workers: u32,
    /// Commits that are not durable, the one being collected last.
    commits: VecDeque<Commit>,
}

#[derive(Debug)]
struct Commit {
    number: CommitNumber,
    /// Totals before the first record of the commit.
    totals_before: HashMap<Party, AdjustedTokens>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Party {
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
        let commits = VecDeque::from([Commit { number: next, totals_before: HashMap::default() }]);
        Self { records: Vec::new(), clients, workers, commits }
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
        self.note_total(Party::Client(number), used_before);
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
        self.note_total(Party::Client(client_number), client_account.used());
        self.note_total(Party::Worker(worker_number), worker_account.earned);
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

    fn note_total(&mut self, party: Party, total: AdjustedTokens) {
        let collecting = self.commits.back_mut().expect(COLLECTING);
        collecting.totals_before.entry(party).or_insert(total);
    }

    /// The total of `party` that is durable, if it is not `total`.
    fn settled(&self, party: Option<Party>, total: AdjustedTokens) -> AdjustedTokens {
        let before = |party| self.commits.iter().find_map(|commit| commit.totals_before.get(&party));
        party.and_then(before).copied().unwrap_or(total)
    }
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
        let number = recorder.commits.back().expect(COLLECTING).number;
        recorder.commits.push_back(Commit { number: number.next(), totals_before: HashMap::default() });
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
        self.recorder.records.is_empty() && self.recorder.commits.len() == 1
    }

    /// The commit and all before it are durable now.
    pub fn committed(&mut self, commit: CommitNumber) {
        let commits = &mut self.recorder.commits;
        // The last one is still being collected, so nobody can have written it.
        while commits.len() > 1 && commits.front().is_some_and(|first| first.number <= commit) {
            commits.pop_front();
        }
    }

    /// What a client's requests have cost, as far as it is durable; `None` without an account.
    #[must_use]
    pub fn settled_client(&self, client: Address) -> Option<AdjustedTokens> {
        let account = self.clients.get(&client)?;
        Some(self.recorder.settled(account.number.map(Party::Client), account.used()))
    }

    /// What a worker has earned, as far as it is durable; `None` without an account.
    #[must_use]
    pub fn settled_worker(&self, worker: Address) -> Option<AdjustedTokens> {
        let account = self.workers.get(&worker)?;
        Some(self.recorder.settled(account.number.map(Party::Worker), account.earned))
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
                number: Some(number(index)?),
                ..ClientAccount::default()
            };
            if ledger.clients.insert(entry.owner, account).is_some() {
                return Err(failed("a client has two accounts"));
            }
        }
        for (index, entry) in books.workers.iter().enumerate() {
            let account = WorkerAccount { earned: entry.earned, running: 0, number: Some(number(index)?) };
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
