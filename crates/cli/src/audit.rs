//! `cocoon audit`: where every nanoton of a devnet went.
//!
//! Whoever got money of somebody is looked at too, so nothing can go where nobody looks. Each account's balance has to be
//! what its transactions say, and all of them what the faucet gave, less the fees of the chain.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chain::{Account, Follower, Limits, Message, Provider, Route, Transaction};
use clap::Args;
use serde::{Deserialize, Serialize};
use ton::states::{ClientData, ProxyData, WorkerData};
use ton::{Address, Contract};
use units::NanoTon;

use crate::instance::state_folder;

/// More accounts than any private network has.
const ACCOUNTS_MAX: usize = 1000;

/// An account, and what happened on it since the beginning.
struct Line {
    address: Address,
    what: Named,
    balance: NanoTon,
    given: NanoTon,
    fees: NanoTon,
    /// What of the balance a proxy earned and its owner has not had paid out.
    proxy_fee: NanoTon,
}

/// All accounts that money of some reached.
struct Books {
    lines: Vec<Line>,
    given: NanoTon,
    fees: NanoTon,
    held: NanoTon,
}

/// Reads the books of everybody whom money of `named` reached.
///
/// # Errors
/// If the chain does not answer, or an account has not what its transactions say.
async fn read(provider: &Provider, named: &BTreeMap<Address, Named>) -> Result<Books> {
    let mut waiting: VecDeque<Address> = named.keys().copied().collect();
    let mut seen: BTreeSet<Address> = named.keys().copied().collect();
    let mut lines = Vec::new();
    while let Some(address) = waiting.pop_front() {
        ensure!(seen.len() <= ACCOUNTS_MAX, "money went to more than {ACCOUNTS_MAX} accounts");
        let (account, transactions) = history(provider, address).await?;
        for (from, to) in transactions.iter().flat_map(messages).filter_map(ends) {
            for other in [from, to] {
                if other != devnet::FAUCET && seen.insert(other) {
                    waiting.push_back(other);
                }
            }
        }
        let what = named.get(&address).cloned();
        let what = what.unwrap_or_else(|| Named { what: contract(&account), of: Party::Others });
        lines.push(line(address, what, &account, &transactions)?);
    }
    let sum = |of: fn(&Line) -> NanoTon| {
        lines
            .iter()
            .try_fold(NanoTon::ZERO, |sum, line| sum.checked_add(of(line)))
            .context("more than there is")
    };
    Ok(Books {
        given: sum(|line| line.given)?,
        fees: sum(|line| line.fees)?,
        held: sum(|line| line.balance)?,
        lines,
    })
}

/// An account and all its transactions. While money is under way it is asked again.
async fn history(provider: &Provider, address: Address) -> Result<(Account, Vec<Transaction>)> {
    let (mut follower, mut transactions) = (Follower::from_first(address), Vec::new());
    loop {
        let news = follower.look(provider).await?;
        transactions.extend(news.transactions);
        if let Some(account) = news.account {
            return Ok((account, transactions));
        }
    }
}

fn messages(transaction: &Transaction) -> impl Iterator<Item = &Message> {
    transaction.incoming.iter().chain(&transaction.outgoing)
}

fn ends(message: &Message) -> Option<(Address, Address)> {
    match message.route {
        Route::Internal { from, to, .. } => Some((from, to)),
        Route::In | Route::Out | Route::Elsewhere => None,
    }
}

fn line(address: Address, what: Named, account: &Account, transactions: &[Transaction]) -> Result<Line> {
    let (mut came, mut went, mut given, mut fees) = [0_u128; 4].into();
    for transaction in transactions {
        let incoming = transaction.incoming.as_ref();
        let value = incoming.map_or(0, |message| u128::from(message.value().get()));
        came += value;
        if incoming.and_then(ends).is_some_and(|(from, _to)| from == devnet::FAUCET) {
            given += value;
        }
        fees += u128::from(transaction.fees.get());
        for message in &transaction.outgoing {
            went += u128::from(message.value().get());
            fees += u128::from(message.forward_fee.get());
        }
    }
    let balance = account.balance;
    ensure!(
        came == went + fees + u128::from(balance.get()),
        "{} ({address}) has {balance}, and its transactions say {} nanotons",
        what.what,
        came.saturating_sub(went + fees)
    );
    let proxy_fee = proxy_fee(account);
    ensure!(proxy_fee <= balance, "{} ({address}) owes its owner {proxy_fee} and has {balance}", what.what);
    let amount = |nanotons: u128| anyhow::Ok(NanoTon::new(u64::try_from(nanotons)?));
    Ok(Line { address, what, balance, given: amount(given)?, fees: amount(fees)?, proxy_fee })
}

/// What a proxy contract has earned for its owner and not paid out.
fn proxy_fee(account: &Account) -> NanoTon {
    let is_proxy = account.code().and_then(Contract::of_code) == Some(Contract::Proxy);
    let data = account.data().filter(|_data| is_proxy);
    data.and_then(|data| ProxyData::from_cell(data).ok()).map_or(NanoTon::ZERO, |data| data.balance)
}

/// What a contract is, and whose money it holds.
fn contract(account: &Account) -> String {
    let (Some(code), Some(data)) = (account.code(), account.data()) else { return "an account".to_owned() };
    let Some(contract) = Contract::of_code(code) else { return "a contract".to_owned() };
    let keeps = match contract {
        Contract::Proxy => ProxyData::from_cell(data)
            .map(|data| format!(" ({}): earned {}, stake {}", data.state, data.balance, data.stake)),
        Contract::Client => {
            ClientData::from_cell(data).map(|data| format!(" ({}): paid in {}", data.state, data.balance))
        }
        Contract::Worker => WorkerData::from_cell(data).map(|data| format!(" ({})", data.state)),
        Contract::Root | Contract::Wallet => Ok(String::new()),
    };
    format!("a {} contract{}", contract.name(), keeps.unwrap_or_default())
}

impl Books {
    /// Whether nothing is under way: then all adds up.
    fn add_up(&self) -> bool {
        u128::from(self.given.get()) == u128::from(self.held.get()) + u128::from(self.fees.get())
    }
}

/// What `cocoon up` writes down of its chain, for commands that look at it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Accounts {
    /// Server of HTTP API v2.
    pub(crate) chain: String,
    /// Raw addresses, and what they are.
    pub(crate) accounts: BTreeMap<String, Named>,
}

/// An account whose purpose is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Named {
    /// Its name.
    pub(crate) what: String,
    /// Whose money it is.
    pub(crate) of: Party,
}

/// Who a nanoton belongs to, as far as the sum of the books tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Party {
    /// Who pays for answers: a wallet of his, or the one that acts for him.
    Client,
    /// Who owns the machine that works: the wallet to which earnings go.
    WorkerOwner,
    /// Everybody else: the operator, nodes that pay for messages, contracts.
    Others,
}

/// Name of that file in the state folder of `cocoon up`.
pub(crate) const ACCOUNTS_FILE: &str = "accounts.toml";

/// Flags of `cocoon audit`.
#[derive(Args)]
pub(crate) struct AuditArguments {
    /// Number of the network on this machine.
    #[arg(long, default_value_t = 0, value_name = "N")]
    instance: u16,

    /// State folder of `cocoon up`.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// How often a chain is read again while messages are under way.
const LOOKS: u32 = 20;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(300);

/// Prints the books of a private network.
///
/// # Errors
/// If no network runs there, or a nanoton is missing.
pub(crate) fn run(arguments: &AuditArguments) -> Result<()> {
    let state = state_folder(arguments.state.as_deref(), "up", arguments.instance)?;
    let file = state.join(ACCOUNTS_FILE);
    let text = std::fs::read_to_string(&file);
    let text =
        text.with_context(|| format!("{} is not there: has `cocoon up` run with a chain?", file.display()))?;
    let Accounts { chain, accounts } =
        toml::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
    let named = accounts.into_iter().map(|(address, what)| Ok((Address::parse(&address)?.0, what)));
    let named: BTreeMap<Address, Named> = named.collect::<Result<_>>()?;
    let provider = Provider::new(chain.parse()?, Limits::default());
    crate::runtime()?.block_on(async {
        let mut looks = 0;
        loop {
            let books = read(&provider, &named).await?;
            if books.add_up() {
                books.print();
                return Ok(());
            }
            looks += 1;
            let Books { given, held, fees, .. } = books;
            ensure!(
                looks < LOOKS,
                "{given} were given, {held} are held and {fees} went for fees: what is between them is under way, so ask again \
                 when less is going on; if it is the same then, it is missing"
            );
            tokio::time::sleep(PAUSE).await;
        }
    })
}

impl Books {
    /// All there is by whose it is, gas included: the first balance, to the nanoton.
    fn sums(&self) -> [(&'static str, NanoTon); 5] {
        // Sums of parts of what is held, which is a sum.
        let sum = |amounts: &dyn Fn(&Line) -> u64| NanoTon::new(self.lines.iter().map(amounts).sum());
        let of = |party| {
            sum(&|line| if line.what.of == party { line.balance.get() - line.proxy_fee.get() } else { 0 })
        };
        [
            ("client's wallet", of(Party::Client)),
            ("worker owner's wallet", of(Party::WorkerOwner)),
            ("proxy's fee", sum(&|line| line.proxy_fee.get())),
            ("gas", self.fees),
            ("the operator's, the nodes' and in contracts", of(Party::Others)),
        ]
    }

    fn print(&self) {
        let width = self.lines.iter().map(|line| line.what.what.len()).max().unwrap_or_default();
        println!("{:<width$}  {:>20}  {:>16}  {:>18}  address", "account", "has", "was given", "fees");
        for Line { address, what, balance, given, fees, .. } in &self.lines {
            let [has, was, fees] = [balance, given, fees].map(ToString::to_string);
            println!("{:<width$}  {has:>20}  {was:>16}  {fees:>18}  {address}", what.what);
        }
        println!();
        for (name, amount) in self.sums() {
            println!("{name:<43}  {:>19}", amount.to_string());
        }
        println!(
            "{} given = {} held + {} fees of the chain, to the nanoton",
            self.given, self.held, self.fees
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chain::AccountStatus;
    use units::BlockSeqno;

    use super::*;

    fn account(balance: u64) -> Account {
        Account {
            balance: NanoTon::new(balance),
            status: AccountStatus::Uninit,
            last: None,
            block: BlockSeqno::new(1),
            block_time: Duration::ZERO,
        }
    }

    #[test]
    fn a_balance_from_nowhere_is_told_by_its_account() {
        let purse = || Named { what: "a purse".to_owned(), of: Party::Client };
        let read = |balance| line(Address::new(0, [1; 32]), purse(), &account(balance), &[]);
        assert!(read(0).is_ok());
        let said = read(1).map(|_line| ()).unwrap_err().to_string();
        assert!(said.contains("a purse") && said.contains("0.000000001 TON"), "{said}");
    }

    #[test]
    fn everything_is_somebodys() {
        let line = |of, balance: u64, proxy_fee: u64| Line {
            address: Address::new(0, [1; 32]),
            what: Named { what: String::new(), of },
            balance: NanoTon::new(balance),
            given: NanoTon::ZERO,
            fees: NanoTon::ZERO,
            proxy_fee: NanoTon::new(proxy_fee),
        };
        let lines = vec![
            line(Party::Client, 1, 0),
            line(Party::Client, 2, 0),
            line(Party::WorkerOwner, 4, 0),
            line(Party::Others, 24, 8),
        ];
        let [given, held, fees] = [63, 31, 32].map(NanoTon::new);
        let books = Books { lines, given, held, fees };
        assert!(books.add_up());
        let sums = books.sums().map(|(_name, amount)| amount.get());
        assert_eq!((sums, sums.iter().sum::<u64>()), ([3, 4, 8, 32, 16], given.get()));
    }

    #[test]
    fn a_nanoton_more_or_less_does_not_add_up() {
        let books = |given: u64, held: u64, fees: u64| {
            let [given, held, fees] = [given, held, fees].map(NanoTon::new);
            Books { lines: Vec::new(), given, fees, held }
        };
        assert!(books(10, 7, 3).add_up());
        assert!(!books(10, 7, 2).add_up() && !books(10, 7, 4).add_up());
    }
}
