//! `cocoon root`: the registry of a network, and its owner's orders to it.

mod init;
mod order;
mod show;
mod upgrade;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use chain::{RootNews, RootWatch};
use clap::{Args, Subcommand};
use rand::RngExt as _;
use ton::message::InternalMessage;
use units::NanoTon;

use self::init::InitArguments;
use self::order::Order;
use crate::on_chain::{AddressArgument, Chain, ChainArguments, Transfer, carry_out, print_for_others};
use crate::wallet::WalletFile;

/// Flags of `cocoon root`.
#[derive(Args)]
pub(crate) struct RootArguments {
    #[command(subcommand)]
    command: RootCommand,

    /// The root contract's address.
    #[arg(long, global = true, value_name = "ADDRESS")]
    root: Option<AddressArgument>,

    #[command(flatten)]
    sending: Sending,

    #[command(flatten)]
    chain: ChainArguments,
}

/// Who signs.
#[derive(Args)]
struct Sending {
    /// File of the owner's wallet.
    #[arg(long, global = true, value_name = "FILE")]
    wallet: Option<PathBuf>,

    /// Print the message for another program that has the owner's key, and send nothing.
    #[arg(long, global = true, conflicts_with_all = ["wallet", "dry_run"])]
    print: bool,

    /// Say what it would cost, and sign nothing.
    #[arg(long, global = true)]
    dry_run: bool,
}

#[derive(Subcommand)]
enum RootCommand {
    /// Begin a network: deploy its root contract.
    Init(Box<InitArguments>),
    /// Print who takes part, and on which terms.
    Show {
        /// As one line of JSON.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Order(Order),
}

/// What an order carries; what it does not need comes back.
const ORDER_VALUE: NanoTon = NanoTon::new(100_000_000);

/// Does what was asked.
///
/// # Errors
/// If the chain, the root contract or the order is not as it should be.
pub(crate) fn run(arguments: &RootArguments) -> Result<()> {
    crate::runtime()?.block_on(async {
        let chain = arguments.chain.open().await?;
        match &arguments.command {
            RootCommand::Init(init) => init::run(&chain, init, &arguments.sending).await,
            RootCommand::Show { json } => show::run(&chain, arguments.root(&chain)?, *json).await,
            RootCommand::Order(order) => arguments.carry_out(&chain, order).await,
        }
    })
}

impl RootArguments {
    fn root(&self, chain: &Chain) -> Result<ton::Address> {
        let root = self.root.context("which network? name its root contract with --root ADDRESS")?;
        root.check(chain.network)?;
        Ok(root.address)
    }

    async fn carry_out(&self, chain: &Chain, order: &Order) -> Result<()> {
        let root = self.root(chain)?;
        let mut watch = RootWatch::new(root);
        watch.look(&chain.provider).await?;
        let known = watch.known().context("nothing is known of the root contract after a look")?.clone();
        order.check(&known)?;
        self.sending.check(chain, &known.owner)?;
        if let Order::Upgrade(upgrade) = order {
            upgrade.check(chain, &root, &known).await?;
        }
        let body = order.message(rand::rng().random()).to_cell();
        let message = InternalMessage {
            to: root,
            value: ORDER_VALUE,
            bounce: true,
            state_init: None,
            body: Some(body),
        };
        self.sending.send(chain, Transfer { message, what: order.what() }).await?;
        if !self.sending.signs() {
            return Ok(());
        }
        if let Order::Upgrade(upgrade) = order {
            return upgrade.confirm(chain, &root, &known).await;
        }
        let RootNews::Newer { .. } = watch.look(&chain.provider).await? else {
            anyhow::bail!("the root contract took the order, and its version is still {}", known.version);
        };
        Ok(())
    }
}

impl Sending {
    /// Whether something will have changed afterwards.
    fn signs(&self) -> bool {
        !self.print && !self.dry_run
    }

    /// Refuses a wallet that the contract would not listen to.
    fn check(&self, chain: &Chain, owner: &ton::Address) -> Result<()> {
        if self.wallet.is_some() {
            let signer = self.file()?.wallet(chain.of_wallets()).address();
            ensure!(
                signer == *owner,
                "the network belongs to {}, and the wallet is {}: name the owner's, or say --print",
                chain.text(owner, true),
                chain.text(&signer, false)
            );
        }
        Ok(())
    }

    async fn send(&self, chain: &Chain, transfer: Transfer) -> Result<()> {
        if self.print {
            print_for_others(chain, &[transfer]);
            return Ok(());
        }
        ensure!(
            self.wallet.is_some(),
            "who signs? name the owner's wallet with --wallet FILE, or say --print"
        );
        carry_out(chain, &self.file()?, &[transfer], self.dry_run).await
    }

    fn file(&self) -> Result<WalletFile> {
        WalletFile::read(self.wallet.as_ref().context("name the owner's wallet with --wallet FILE")?)
    }
}
