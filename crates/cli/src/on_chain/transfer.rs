//! Money on its way: what it would cost is said before anything is signed, and what became of it after.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chain::{
    Account, Effect, Follower, Message, Network, NotRun, Provider, ProviderError, Route, Transaction,
};
use ed25519_dalek::SigningKey;
use rand::Rng as _;
use ton::human::HumanWallet;
use ton::message::{InternalMessage, SendMode, external};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, HashBytes};
use units::NanoTon;

use super::Chain;
use crate::wallet::WalletFile;

/// How long a signed transfer may be taken by the chain.
const VALID: Duration = Duration::from_secs(60);
/// How long after that it is still looked for: blocks carry the time of their beginning.
const LATE: Duration = Duration::from_secs(15);
/// How long the chain may take to bring a message to its receiver.
const DELIVERY: Duration = Duration::from_secs(90);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(400);

/// A message that a person sends, and what it is for.
pub(crate) struct Transfer {
    pub(crate) message: InternalMessage,
    pub(crate) what: String,
}

impl Transfer {
    /// What arrives is what was said: fees come on top.
    fn to_send(&self) -> (SendMode, Cell) {
        (SendMode::FEES_APART, self.message.to_cell())
    }
}

/// Says what the transfers cost; then, unless this is a dry run, signs and sends them, and waits until they have arrived.
///
/// # Errors
/// If the wallet cannot pay for them, or one of them did not do what it was for.
pub(crate) async fn carry_out(
    chain: &Chain,
    file: &WalletFile,
    transfers: &[Transfer],
    is_dry_run: bool,
) -> Result<()> {
    let plan = Plan::new(chain, file, transfers).await?;
    plan.say().await?;
    if is_dry_run {
        println!("dry run: nothing was signed");
        return Ok(());
    }
    let sent = plan.send(file.key()).await?;
    println!("sent     waiting for the chain …");
    let mut failed = 0;
    for (Transfer { what, .. }, outcome) in transfers.iter().zip(plan.outcomes(sent).await?) {
        match outcome {
            Ok(said) => println!("done     {what}: {said}"),
            Err(said) => {
                failed += 1;
                println!("failed   {what}: {said}");
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} did not do what they were for", transfers.len());
    Ok(())
}

/// Signs and sends the transfers without a word, and waits until they have arrived. For money that is not real.
///
/// # Errors
/// If one of them did not do what it was for.
#[cfg(feature = "devnet")]
pub(crate) async fn carry_out_silently(
    chain: &Chain,
    file: &WalletFile,
    transfers: &[Transfer],
) -> Result<()> {
    let plan = Plan::new(chain, file, transfers).await?;
    let sent = plan.send(file.key()).await?;
    for (Transfer { what, .. }, outcome) in transfers.iter().zip(plan.outcomes(sent).await?) {
        if let Err(said) = outcome {
            bail!("{what}: {said}");
        }
    }
    Ok(())
}

/// Prints the transfers for somebody else to sign.
pub(crate) fn print_for_others(chain: &Chain, transfers: &[Transfer]) {
    for Transfer { message, what } in transfers {
        let to = chain.text(&message.to, message.bounce);
        let amount = message.value.get();
        println!("{what}\nto       {to}\namount   {} ({amount} nanotons)", message.value);
        let mut link = format!("ton://transfer/{to}?amount={amount}");
        if let Some(body) = &message.body {
            let boc = Boc::encode(body);
            println!("body     {}", STANDARD.encode(&boc));
            link.push_str(&format!("&bin={}", URL_SAFE_NO_PAD.encode(&boc)));
        }
        if let Some(init) = &message.state_init {
            let boc = Boc::encode(init.to_cell());
            println!("init     {}", STANDARD.encode(&boc));
            link.push_str(&format!("&init={}", URL_SAFE_NO_PAD.encode(&boc)));
        }
        println!("link     {link}");
    }
}

struct Plan<'a> {
    chain: &'a Chain,
    wallet: HumanWallet,
    account: Account,
    transfers: &'a [Transfer],
}

/// An order that was handed in.
struct Sent {
    body: HashBytes,
    valid_until: u32,
}

impl<'a> Plan<'a> {
    async fn new(chain: &'a Chain, file: &WalletFile, transfers: &'a [Transfer]) -> Result<Self> {
        let wallet = file.wallet(chain.of_wallets());
        let account = chain.provider.account(&wallet.address()).await?;
        Ok(Self { chain, wallet, account, transfers })
    }

    fn seqno(&self) -> Result<u32> {
        self.account.data().map_or(Ok(0), |data| Ok(self.wallet.seqno(data)?))
    }

    fn body(&self, key: &SigningKey, valid_until: u32) -> Result<Cell> {
        let messages: Vec<_> = self.transfers.iter().map(Transfer::to_send).collect();
        Ok(self.wallet.transfer(key, valid_until, self.seqno()?, &messages)?)
    }

    /// Prints what is to happen and what it costs, and refuses what the wallet cannot pay.
    async fn say(&self) -> Result<()> {
        let Self { chain, wallet, account, transfers } = self;
        let sum = transfers
            .iter()
            .try_fold(NanoTon::ZERO, |sum, transfer| sum.checked_add(transfer.message.value))?;
        println!("network  {}", chain.network);
        println!("from     {}, which has {}", chain.text(&wallet.address(), false), account.balance);
        for Transfer { message, what } in *transfers {
            println!("to       {}: {} to {what}", chain.text(&message.to, message.bounce), message.value);
        }
        ensure!(
            account.balance > sum,
            "the wallet has {} and is to send {sum}: put more on it, or send less",
            account.balance
        );
        let fees = self.fees().await?;
        println!("fees     about {fees} on top");
        let needed = sum.checked_add(fees)?;
        ensure!(
            account.balance >= needed,
            "the wallet has {} and needs {needed} with fees: put more on it, or send less",
            account.balance
        );
        println!("left     about {}", account.balance.saturating_sub(needed));
        if chain.network == Network::Mainnet {
            println!("MAINNET  this is real money");
        }
        Ok(())
    }

    /// Estimated for the same transfers with a key that nobody has: the wallet's own signs nothing for it.
    async fn fees(&self) -> Result<NanoTon> {
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let body = self.body(&SigningKey::from_bytes(&seed), self.valid_until().await?)?;
        let init = self.account.data().is_none().then(|| self.wallet.init());
        let init = init.as_ref().map(|init| (init.code.cell(), &init.data));
        let init = init.as_ref().map(|(code, data)| (code, *data));
        Ok(self.chain.provider.estimate(&self.wallet.address(), init, &body).await?)
    }

    async fn valid_until(&self) -> Result<u32> {
        let valid = u32::try_from(VALID.as_secs())?;
        Ok(self.chain.now().await?.saturating_add(valid))
    }

    async fn send(&self, key: &SigningKey) -> Result<Sent> {
        let valid_until = self.valid_until().await?;
        let body = self.body(key, valid_until)?;
        let init = self.account.data().is_none().then(|| self.wallet.init());
        let message = external(&self.wallet.address(), init.as_ref(), &body);
        match self.chain.provider.send(&message).await {
            Err(error @ ProviderError::Refused { .. }) if !error.is_passing() => {
                Err(error).context("nothing was sent")
            }
            // Without an answer that can be read it may have been taken all the same: the chain will show.
            Err(_) | Ok(()) => Ok(Sent { body: *body.repr_hash(), valid_until }),
        }
    }

    /// The wallet's transaction with our order in it. What was sent is not forgotten for a question without an answer.
    async fn taken(&self, Sent { body, valid_until }: Sent) -> Result<Transaction> {
        let address = self.wallet.address();
        let mut follower = match self.account.last {
            Some(last) => Follower::after(address, last),
            None => Follower::from_first(address),
        };
        let over = Duration::from_secs(valid_until.into()) + LATE;
        let give_up_at = tokio::time::Instant::now() + VALID + LATE + DELIVERY;
        loop {
            let unseen = match follower.look(&self.chain.provider).await {
                Ok(news) => {
                    let taken = news.transactions.into_iter().find(|transaction| {
                        let is_ours = |message: &Message| {
                            message.route == Route::In && *message.body.repr_hash() == body
                        };
                        transaction.incoming.as_ref().is_some_and(is_ours)
                    });
                    if let Some(taken) = taken {
                        return Ok(taken);
                    }
                    // Only the account as of a block after its end can show that the order is not there.
                    ensure!(
                        news.account.is_none_or(|account| account.block_time <= over),
                        "the chain has not taken the order, and cannot any more: nothing was sent, it is safe to try again"
                    );
                    anyhow!("its newest block is older than the order's end")
                }
                Err(error) => error.into(),
            };
            if tokio::time::Instant::now() > give_up_at {
                return Err(unseen.context(format!(
                    "the order was handed in, and {} cannot say what became of it: look at the wallet before you try again",
                    self.chain.provider.endpoint()
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What became of each transfer where it went, in words: of the good ones and of the others.
    async fn outcomes(&self, sent: Sent) -> Result<Vec<Result<String, String>>> {
        let transaction = self.taken(sent).await?;
        let mut outcomes = Vec::new();
        for Transfer { message, .. } in self.transfers {
            // Wallets leave out what they cannot send.
            let is_it = |sent: &&Message| matches!(sent.route, Route::Internal { to, value, .. } if to == message.to && value == message.value);
            outcomes.push(match transaction.outgoing.iter().find(is_it) {
                None => Err("the wallet did not send it: is there enough on it?".to_owned()),
                Some(sent) => outcome(&delivered(&self.chain.provider, sent).await?, message),
            });
        }
        Ok(outcomes)
    }
}

/// The transaction of a message where it went.
async fn delivered(provider: &Provider, message: &Message) -> Result<Transaction> {
    let Route::Internal { from, to, created_lt, .. } = message.route else {
        bail!("the message went nowhere")
    };
    let give_up_at = tokio::time::Instant::now() + DELIVERY;
    loop {
        let found = provider.transaction_of_message(&from, &to, created_lt).await;
        if let Ok(Some(found)) = found {
            return Ok(found);
        }
        if tokio::time::Instant::now() > give_up_at {
            let unseen = || format!("the wallet sent it, and within {DELIVERY:?} it was not seen at {to}");
            return found.with_context(unseen)?.with_context(unseen);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a message did what it was for, in words.
fn outcome(transaction: &Transaction, message: &InternalMessage) -> Result<String, String> {
    let back = transaction.bounced().map_or_else(
        || "the money stayed there".to_owned(),
        |bounced| format!("{} comes back", bounced.value()),
    );
    match transaction.effect {
        Effect::Done => Ok("arrived".to_owned()),
        // A payment, which needs none.
        Effect::NotRun(NotRun::NoContract | NotRun::NoGas)
            if !message.bounce && message.state_init.is_none() =>
        {
            Ok("arrived; no contract ran".to_owned())
        }
        effect => Err(format!("{effect}; {back}")),
    }
}
