//! `cocoon chain`: accounts and transactions of a Cocoon network, with our contracts and messages by name.

mod words;

use std::time::Duration;

use anyhow::{Result, ensure};
use chain::{Account, AccountStatus, Effect, Message, NotRun, Route, Transaction, newest};
use clap::Subcommand;
use ton::{Address, ExitCode};
use transport::clock::unix_now;

use crate::on_chain::{AddressArgument, Chain, ChainArguments};

/// Transactions shown at most.
const TRANSACTIONS_MAX: u16 = 1_000;

/// What to look at.
#[derive(Subcommand)]
pub(crate) enum ChainCommand {
    /// Show an account: balance, contract, and what our contracts keep.
    Show {
        /// The account, in any text form.
        account: AddressArgument,
        #[command(flatten)]
        chain: ChainArguments,
    },
    /// Show the newest transactions of an account, the newest first, with our messages by name.
    Transactions {
        /// The account, in any text form.
        account: AddressArgument,
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=i64::from(TRANSACTIONS_MAX)))]
        limit: u16,
        #[command(flatten)]
        chain: ChainArguments,
    },
}

/// Shows what is asked for.
///
/// # Errors
/// If the server cannot be asked, or says what cannot be true.
pub(crate) fn run(command: &ChainCommand) -> Result<()> {
    crate::runtime()?.block_on(async {
        match command {
            ChainCommand::Show { account, chain } => {
                let chain = chain.open().await?;
                account.check(chain.network)?;
                let state = chain.provider.account(&account.address).await?;
                print!("{}", account_text(&chain, &account.address, &state, unix_now()));
            }
            ChainCommand::Transactions { account, limit, chain } => {
                let chain = chain.open().await?;
                account.check(chain.network)?;
                let account = account.address;
                let (_state, transactions) = newest(&chain.provider, &account, usize::from(*limit)).await?;
                ensure!(!transactions.is_empty(), "{account} has no transactions yet");
                for transaction in &transactions {
                    print!("{}", transaction_text(&chain, &account, transaction));
                }
            }
        }
        Ok(())
    })
}

/// An account, a line for each thing known of it.
fn account_text(chain: &Chain, address: &Address, state: &Account, now: Duration) -> String {
    let mut text = format!("account    {}\n", chain.text(address, true));
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<10} {value}\n"));
    line("raw", address.to_string());
    line("balance", state.balance.to_string());
    line(
        "contract",
        match &state.status {
            AccountStatus::Uninit => "none".to_owned(),
            AccountStatus::Frozen => "frozen: it owes for its storage".to_owned(),
            AccountStatus::Active { code, .. } => words::contract(code.as_ref()),
        },
    );
    if let Some(data) = state.data() {
        for (name, value) in words::data(data, |address| chain.text(address, true)) {
            line(name, value);
        }
    }
    if let Some(last) = state.last {
        line("last", format!("transaction {} at {}", last.hash, last.lt));
    }
    let age = now.saturating_sub(state.block_time).as_secs();
    line("as of", format!("block {}, {age} s ago, from {}", state.block, chain.provider.endpoint()));
    text
}

/// A transaction, a line for it and one for each message.
fn transaction_text(chain: &Chain, account: &Address, transaction: &Transaction) -> String {
    let mut text = format!(
        "{} at {}  {}  {}  fees {}\n",
        transaction.id.hash,
        transaction.id.lt,
        words::utc(transaction.unix_time),
        effect(transaction.effect),
        transaction.fees
    );
    for message in transaction.incoming.iter().chain(&transaction.outgoing) {
        text.push_str(&message_text(chain, account, message));
    }
    text
}

fn message_text(chain: &Chain, account: &Address, message: &Message) -> String {
    let says = words::body(&message.body, |address| chain.text(address, true));
    match message.route {
        Route::In => format!("  <- from outside: {says}\n"),
        Route::Out => format!("  -> to whoever watches: {says}\n"),
        Route::Elsewhere => format!("  -- an address of an unknown form: {says}\n"),
        Route::Internal { from, to, value, bounced, .. } => {
            let (arrow, other) = if to == *account { ("<-", from) } else { ("->", to) };
            let back = if bounced { " came back" } else { "" };
            format!("  {arrow} {} {value}{back}: {says}\n", chain.text(&other, true))
        }
    }
}

/// How a transaction ended, in words.
fn effect(effect: Effect) -> String {
    match effect {
        Effect::Done => "done".to_owned(),
        Effect::Refused { exit_code } => format!("refused, {}", ExitCode::new(exit_code)),
        Effect::ActionFailed { result_code } => {
            format!("failed, what it wanted to send could not be sent ({result_code})")
        }
        Effect::NotRun(NotRun::NoContract) => "no contract there".to_owned(),
        Effect::NotRun(NotRun::OtherState) => "another state than the account's".to_owned(),
        Effect::NotRun(NotRun::NoGas) => "a notice, no contract ran".to_owned(),
        Effect::NotRun(NotRun::Suspended) => "the account is suspended".to_owned(),
    }
}
