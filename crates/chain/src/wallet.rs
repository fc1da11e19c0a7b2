//! A node wallet that carries out orders: the [`Outbox`] with a server, a clock and a file around it.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use rand::RngExt as _;
use tokio::sync::{Notify, watch};
use ton::Address;
use ton::contracts::StateInit;
use units::NanoTon;

use crate::endpoint::Trust;
use crate::failpoint;
use crate::follow::{FollowError, Follower};
use crate::outbox::{Action, BALANCE_LOW, Hold, KeptError, Order, OrderError, OrderId, Outbox, Outcome};
use crate::provider::{Provider, ProviderError};

/// How often the wallet is looked at: while orders are open, and otherwise. Blocks of a devnet on this machine come
/// faster than those of the network, and asking for them costs nobody anything.
const LOCAL_PACE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
const REMOTE_PACE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(8)];
/// The longest pause after errors.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long servers may be behind the one that said most.
const LOST_MAX: Duration = Duration::from_secs(600);
/// Longest kept text.
const KEPT_LEN_MAX: u64 = 64 << 20;

/// Orders things of a node wallet. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Wallet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: Address,
    outbox: Mutex<Outbox>,
    file: Option<PathBuf>,
    wake: Notify,
    changed: watch::Sender<u64>,
}

/// A wallet at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletView {
    /// Its address.
    pub address: Address,
    /// What it has; none before the first look.
    pub balance: Option<NanoTon>,
    /// What of it is promised to no order that has yet to leave.
    pub unpromised: Option<NanoTon>,
    /// Whether its owner should send it something.
    pub is_low: bool,
    /// Why nothing is signed although orders wait.
    pub hold: Option<Hold>,
    /// Orders that are not over.
    pub open: usize,
    /// The number of its next message; none before the first look.
    pub seqno: Option<u32>,
}

/// Why a step ended early. The next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The wallet's account cannot be followed.
    #[error("the node wallet cannot be followed")]
    Follow(#[from] FollowError),
    /// A question about an order was not answered.
    #[error("what became of an order of the node wallet cannot be asked")]
    Provider(#[from] ProviderError),
    /// What was signed cannot be kept, so it is not handed in.
    #[error("the orders of the node wallet cannot be kept, so nothing is sent")]
    Keep(#[from] KeptError),
}

impl Wallet {
    /// A wallet with this first state, controlled by `key`, and what carries out its orders. With a `file`, open
    /// orders survive the process: without one, orders whose message may still run are forgotten with it.
    ///
    /// # Errors
    /// [`KeptError`] if the file is of another wallet, or damaged.
    pub fn open(
        provider: Provider,
        key: SigningKey,
        state_init: StateInit,
        file: Option<&Path>,
    ) -> Result<(Self, Runner), KeptError> {
        let kept = file.map(read).transpose()?.flatten();
        let outbox = match kept {
            Some(text) => Outbox::from_text(key, state_init, &text)?,
            None => Outbox::new(key, state_init),
        };
        let address = outbox.address();
        let follower = outbox.follower();
        let shared = Shared {
            address,
            outbox: Mutex::new(outbox),
            file: file.map(Path::to_owned),
            wake: Notify::new(),
            changed: watch::Sender::new(0),
        };
        let wallet = Self { shared: Arc::new(shared) };
        Ok((wallet.clone(), Runner { wallet, provider, follower, lost_since: None }))
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.shared.address
    }

    /// How it is.
    #[must_use]
    pub fn view(&self) -> WalletView {
        let outbox = self.lock();
        let balance = outbox.balance();
        WalletView {
            address: self.shared.address,
            balance,
            unpromised: outbox.unpromised(),
            is_low: balance.is_some_and(|balance| balance < BALANCE_LOW),
            hold: outbox.hold(),
            open: outbox.open(),
            seqno: outbox.seqno(),
        }
    }

    /// Something about the wallet or its orders is new whenever this changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Takes an order, to be carried out once. The same number is the same order: it can be given again in another life,
    /// and is not carried out again.
    ///
    /// # Errors
    /// [`OrderError`] if it can never be carried out, or too many wait.
    pub fn submit(&self, order: Order) -> Result<(), OrderError> {
        self.lock().submit(order)?;
        self.taken();
        Ok(())
    }

    /// [`Self::submit`], if the wallet can pay for the order beside all that it has promised: of two who order at once,
    /// none counts on the coins of the other.
    ///
    /// # Errors
    /// [`OrderError`] as there, or if it cannot.
    pub fn submit_covered(&self, order: Order) -> Result<(), OrderError> {
        self.lock().submit_covered(order)?;
        self.taken();
        Ok(())
    }

    /// Gives up orders of an earlier life that cannot run any more unless they are signed anew. What may run goes on.
    pub fn forget_unsigned(&self, now: Duration) {
        self.lock().forget_unsigned(now);
    }

    /// What became of an order, once it is over.
    #[must_use]
    pub fn outcome(&self, id: OrderId) -> Option<Outcome> {
        self.lock().outcome(id)
    }

    /// Whether an order of this number is known, over or not.
    #[must_use]
    pub fn knows(&self, id: OrderId) -> bool {
        self.lock().knows(id)
    }

    /// Forgets an order that is over: whoever ordered has written down what became of it.
    pub fn acknowledge(&self, id: OrderId) {
        self.lock().acknowledge(id);
        self.shared.wake.notify_one();
    }

    /// [`Self::submit`], and what became of it. Dropping the future changes nothing about the order.
    ///
    /// # Errors
    /// [`OrderError`], at once.
    pub async fn carry_out(&self, order: Order) -> Result<Outcome, OrderError> {
        let id = order.id;
        let mut changes = self.changes();
        self.submit(order)?;
        loop {
            if let Some(outcome) = self.outcome(id) {
                return Ok(outcome);
            }
            // The sender lives as long as this handle.
            let _changed = changes.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        // Each change is whole before anything that can panic.
        self.shared.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) {
        self.shared.wake.notify_one();
        self.tell();
    }

    fn tell(&self) {
        self.shared.changed.send_modify(|version| *version = version.wrapping_add(1));
    }
}

/// Carries out the orders of a wallet.
#[derive(Debug)]
pub struct Runner {
    wallet: Wallet,
    provider: Provider,
    follower: Follower,
    /// Since when the server tells of another past than ours.
    lost_since: Option<Duration>,
}

impl Runner {
    /// Carries out orders for ever. Dropping the future loses nothing. `clock` says how long ago 1970 began.
    pub async fn run(mut self, clock: impl Fn() -> Duration) {
        let mut trouble: Option<String> = None;
        let mut errors = 0_u32;
        loop {
            match self.step(&clock).await {
                Ok(()) => (trouble, errors) = (None, 0),
                Err(error) => {
                    errors = errors.saturating_add(1);
                    // Said once for each kind, not for each attempt.
                    let kind = error.to_string();
                    if trouble.as_ref() != Some(&kind) {
                        tracing::warn!(error = &error as &dyn std::error::Error, "trouble with the chain");
                        trouble = Some(kind);
                    }
                }
            }
            let [busy, idle] = match self.provider.endpoint().trust() {
                Trust::Local => LOCAL_PACE,
                Trust::Unproven => REMOTE_PACE,
            };
            let pause = if self.wallet.lock().open() > 0 { busy } else { idle };
            let pause = pause.saturating_mul(1 << errors.min(10)).min(PAUSE_MAX.max(pause));
            let part = rand::rng().random_range(0.6..1.0);
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(part)) => {}
                () = self.wallet.shared.wake.notified() => {}
            }
        }
    }

    /// Takes in what is new, and does what is due.
    ///
    /// # Errors
    /// [`StepError`].
    pub async fn step(&mut self, clock: impl Fn() -> Duration) -> Result<(), StepError> {
        let before = self.wallet.view();
        let stepped = self.look_and_act(clock).await;
        if self.wallet.view() != before {
            self.wallet.tell();
        }
        stepped
    }

    async fn look_and_act(&mut self, clock: impl Fn() -> Duration) -> Result<(), StepError> {
        loop {
            let news = match self.follower.look(&self.provider).await {
                Err(error) if error.is_of_another_past() => return Err(self.lost(error, clock())),
                news => news?,
            };
            self.lost_since = None;
            let mut outbox = self.wallet.lock();
            for transaction in &news.transactions {
                outbox.transaction(transaction, clock());
            }
            if let Some(account) = &news.account {
                outbox.account(account, clock());
                break;
            }
        }
        loop {
            let action = self.wallet.lock().next(clock());
            self.keep().await?;
            match action {
                None => return Ok(()),
                Some(Action::HandIn(message)) => {
                    failpoint::pass("order-hand-in");
                    match self.provider.send(&message).await {
                        Ok(()) => failpoint::pass("order-handed-in"),
                        // Whether it was taken shows in the wallet's transactions, and nowhere else.
                        Err(error) => {
                            tracing::debug!(error = &error as &dyn std::error::Error, "not handed in");
                        }
                    }
                }
                Some(Action::Find { order, to, created_lt }) => {
                    let from = self.wallet.address();
                    let found = self.provider.transaction_of_message(&from, &to, created_lt).await;
                    match &found {
                        Ok(transaction) => {
                            if transaction.is_some() {
                                failpoint::pass("order-found");
                            }
                            self.wallet.lock().found(order, transaction.as_ref(), clock());
                        }
                        Err(_unanswered) => self.wallet.lock().not_found(order, clock()),
                    }
                    found?;
                }
            }
        }
    }

    /// No server knows what one of them said of the wallet. For a while that is a server behind others; then the first one
    /// had made it up, and the wallet is followed anew.
    fn lost(&mut self, error: FollowError, now: Duration) -> StepError {
        let since = *self.lost_since.get_or_insert(now);
        if now.saturating_sub(since) > LOST_MAX {
            tracing::warn!(
                "what a server said of the node wallet is on no server any more: it is followed anew"
            );
            self.follower = self.wallet.lock().follower_anew();
            self.lost_since = None;
        }
        error.into()
    }

    /// Writes the outbox to its file, if anything is new.
    async fn keep(&self) -> Result<(), KeptError> {
        let Some(file) = &self.wallet.shared.file else { return Ok(()) };
        let text = {
            let mut outbox = self.wallet.lock();
            if !outbox.take_changed() {
                return Ok(());
            }
            outbox.to_text()
        };
        let path = file.clone();
        let written = tokio::task::spawn_blocking(move || write(&path, &text)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => {
                self.wallet.lock().changed();
                Err(KeptError::File { path: file.clone(), source })
            }
            Err(_cancelled) => {
                self.wallet.lock().changed();
                Err(KeptError::File { path: file.clone(), source: io::ErrorKind::Interrupted.into() })
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, KeptError> {
    let refused = |source| KeptError::File { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > KEPT_LEN_MAX => {
            return Err(refused(io::ErrorKind::FileTooLarge.into()));
        }
        _ => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(refused)
}

/// The old text or the new one is there, whatever happens.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    failpoint::hit("orders-write")?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    failpoint::hit("orders-written")?;
    rename(&beside, path)?;
    failpoint::hit("orders-kept")?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
