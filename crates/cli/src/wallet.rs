//! `cocoon wallet`: wallets of people, as any wallet program has them.

mod file;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use ton::human::HumanWalletVersion;
use ton::message::{InternalMessage, comment as comment_body};
use ton::{Address, AddressFlags, human};
use units::NanoTon;
use zeroize::Zeroizing;

use crate::on_chain::{AddressArgument, ChainArguments, Transfer, carry_out};

pub(crate) use file::WalletFile;

/// What to do with a wallet.
#[derive(Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a new wallet: draw 24 words and keep them in a file.
    New(NewArguments),
    /// Keep the 24 words of a wallet that there is in a file. They are read from standard input.
    Import(NewArguments),
    /// Print the address of a wallet.
    Address {
        /// File of the wallet.
        file: PathBuf,
        /// For TON testnet.
        #[arg(long)]
        testnet: bool,
    },
    /// Print what a wallet, or any account, has.
    Balance {
        /// File of a wallet, or an address.
        account: String,
        #[command(flatten)]
        chain: ChainArguments,
    },
    /// Send money.
    Send(SendArguments),
}

/// Flags of a new file.
#[derive(Args)]
pub(crate) struct NewArguments {
    /// The file: it must not exist.
    file: PathBuf,
    /// Which contract the wallet is.
    #[arg(long, value_enum, default_value_t = Version::V5r1)]
    contract: Version,
}

/// Flags of a payment.
#[derive(Args)]
pub(crate) struct SendArguments {
    /// File of the wallet that pays.
    file: PathBuf,
    /// Where to: an address.
    #[arg(long, value_name = "ADDRESS")]
    to: AddressArgument,
    /// How much arrives, such as "1.5 TON". Fees come on top.
    #[arg(long, value_name = "AMOUNT")]
    amount: NanoTon,
    /// A text that everybody can read.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Say what it would cost, and sign nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    chain: ChainArguments,
}

/// Contracts of wallets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Version {
    V4r2,
    V5r1,
}

impl From<Version> for HumanWalletVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::V4r2 => Self::V4R2,
            Version::V5r1 => Self::V5R1,
        }
    }
}

/// Does what was asked.
///
/// # Errors
/// If a file, the chain or the payment is not as it should be.
pub(crate) fn run(command: &WalletCommand) -> Result<()> {
    match command {
        WalletCommand::New(NewArguments { file, contract }) => {
            let made = WalletFile::draw(*contract);
            made.keep(file)?;
            introduce(&made, file);
            Ok(())
        }
        WalletCommand::Import(NewArguments { file, contract }) => {
            let mut words = Zeroizing::new(String::new());
            // More than any words need; a file that was piped in by mistake is not swallowed whole.
            let limited = std::io::stdin().take(4096).read_to_string(&mut words);
            limited.context("the words cannot be read from standard input")?;
            let imported = WalletFile::of_words(&words, *contract)?;
            imported.keep(file)?;
            introduce(&imported, file);
            Ok(())
        }
        WalletCommand::Address { file, testnet } => {
            let network = if *testnet { human::Network::Testnet } else { human::Network::Mainnet };
            let address = WalletFile::read(file)?.wallet(network).address();
            println!("{}", address.to_text(AddressFlags { bounceable: false, testnet: *testnet }));
            Ok(())
        }
        WalletCommand::Balance { account, chain } => crate::runtime()?.block_on(balance(account, chain)),
        WalletCommand::Send(arguments) => crate::runtime()?.block_on(send(arguments)),
    }
}

fn introduce(wallet: &WalletFile, file: &Path) {
    let address = wallet.wallet(human::Network::Mainnet).address();
    println!("address  {}", address.to_text(AddressFlags { bounceable: false, testnet: false }));
    println!(
        "words    in {}: whoever has them has the money, and without them it is lost. Keep a copy on paper.",
        file.display()
    );
}

async fn balance(account: &str, chain: &ChainArguments) -> Result<()> {
    let chain = chain.open().await?;
    let path = Path::new(account);
    let address: Address = if path.exists() {
        WalletFile::read(path)?.wallet(chain.of_wallets()).address()
    } else {
        let argument: AddressArgument =
            account.parse().with_context(|| format!("{account:?} is neither a file nor an address"))?;
        argument.check(chain.network)?;
        argument.address
    };
    println!("{}", chain.provider.account(&address).await?.balance);
    Ok(())
}

async fn send(arguments: &SendArguments) -> Result<()> {
    let SendArguments { file, to, amount, comment, dry_run, chain } = arguments;
    let file = WalletFile::read(file)?;
    let chain = chain.open().await?;
    to.check(chain.network)?;
    let bounce = match to.bounceable() {
        Some(bounceable) => bounceable,
        // A raw address does not say: money comes back from a contract that refuses it, and stays where none is yet.
        None => chain.provider.account(&to.address).await?.data().is_some(),
    };
    let body = comment.as_deref().map(comment_body).transpose()?;
    let message = InternalMessage { to: to.address, value: *amount, bounce, state_init: None, body };
    let what = if comment.is_some() { "pay, with a comment" } else { "pay" };
    carry_out(&chain, &file, &[Transfer { message, what: what.to_owned() }], *dry_run).await
}
