//! What a client's node wallet sends, and the messages that say it.

use chain::outbox::{BATCH_SUM_MAX, FEES_RESERVE, OrderId};
use ton::contracts::{self, StateInit};
use ton::message::InternalMessage;
use ton::messages::ClientMessage;
use ton::payment::SignedPayment;
use ton::{Address, Multipliers, RootConfig};
use units::{AdjustedTokens, NanoTon, PublicKey};

use crate::secret::LoginSecret;

/// What the wallet has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which one; the query id of its message.
    pub id: OrderId,
    /// What it is for.
    pub duty: Duty,
}

/// What an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Make the client contract, give it the login secret and pay in.
    Open {
        /// The first balance.
        amount: NanoTon,
    },
    /// Pay in.
    TopUp {
        /// What the balance grows by.
        amount: NanoTon,
    },
    /// Pay in, and set the login secret.
    TopUpWithSecret {
        /// What the balance grows by.
        amount: NanoTon,
    },
    /// Set the login secret.
    ChangeSecret,
    /// Show the proxy that a connection of its is ours.
    Register {
        /// Its number of the connection.
        nonce: u64,
    },
    /// Let the contract count what was used, so that the stake covers new work.
    Charge(SignedPayment),
    /// Take what is above the stake.
    Withdraw,
    /// Begin to close.
    RequestRefund,
    /// Close without the proxy, after the client's delay.
    ForceRefund,
}

impl Duty {
    /// The duty in one word of a log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::TopUp { .. } | Self::TopUpWithSecret { .. } => "top up",
            Self::ChangeSecret => "change secret",
            Self::Register { .. } => "register",
            Self::Charge(_) => "charge",
            Self::Withdraw => "withdraw",
            Self::RequestRefund => "request refund",
            Self::ForceRefund => "force refund",
        }
    }

    /// What of the order's value goes into the balance.
    #[must_use]
    pub const fn amount(&self) -> NanoTon {
        match *self {
            Self::Open { amount } | Self::TopUp { amount } | Self::TopUpWithSecret { amount } => amount,
            Self::ChangeSecret
            | Self::Register { .. }
            | Self::Charge(_)
            | Self::Withdraw
            | Self::RequestRefund
            | Self::ForceRefund => NanoTon::ZERO,
        }
    }

    /// The order's value. What is not needed comes back.
    #[must_use]
    pub fn value(&self) -> NanoTon {
        self.amount().checked_add(ATTACHED).unwrap_or(NanoTon::new(u64::MAX))
    }
}

/// Coins beside the amount. A contract wants 0.1 TON for fees, and to have 0.11 TON of its own, which a new one takes from
/// here; the rest is a margin for storage fees and comes back.
pub const ATTACHED: NanoTon = NanoTon::new(300_000_000);

/// About what the chain takes of the coins beside the amount, the node wallet's own message counted.
pub const FEES: NanoTon = NanoTon::new(20_000_000);
/// The largest amount of one order: a node wallet sends no more at once.
pub const AMOUNT_MAX: NanoTon = BATCH_SUM_MAX.saturating_sub(FEES_RESERVE).saturating_sub(ATTACHED);

/// A client contract: whose it is, and what its network asks.
#[derive(Clone, Debug)]
pub struct Terms {
    init: StateInit,
    contract: Address,
    wallet: Address,
    secret_hash: [u8; 32],
    price: NanoTon,
    stake: NanoTon,
    /// The price of the dearest kind of tokens, in ten-thousandths.
    multiplier_max: u32,
    /// How long this side waits before it takes what a closing contract holds.
    delay_s: u32,
    /// Time between this side's right to close an outdated contract and the end of the proxy's.
    outdated_for_s: u64,
}

/// How much dearer than expected a request may be.
const COST_MARGIN: u128 = 16;

impl Terms {
    /// The contract of the node wallet `wallet` with the proxy contract `proxy`, whose payments `key` signs.
    /// Of `secret` it shall know the hash of what is shown to this proxy.
    #[must_use]
    pub fn new(
        config: &RootConfig,
        wallet: &Address,
        proxy: &Address,
        key: &PublicKey,
        secret: &LoginSecret,
    ) -> Self {
        let init = contracts::client_init(config, wallet, proxy, key);
        let params = &config.params;
        let (proxy_delay, client_delay) =
            (params.proxy_delay_before_close.get(), params.client_delay_before_close.get());
        let contract = init.address();
        Self {
            contract,
            init,
            wallet: *wallet,
            secret_hash: secret.of(&contract).hash(),
            price: params.price_per_token,
            stake: params.min_client_stake,
            multiplier_max: dearest(&params.multipliers),
            delay_s: client_delay,
            // Half of what the proxy's delay exceeds ours by: the rest is for what may go wrong on the way.
            outdated_for_s: u64::from(proxy_delay.saturating_sub(client_delay)) / 2,
        }
    }

    /// The client contract.
    #[must_use]
    pub const fn contract(&self) -> Address {
        self.contract
    }

    /// What a token costs.
    #[must_use]
    pub const fn price(&self) -> NanoTon {
        self.price
    }

    /// The floor under the balance that a new contract has.
    #[must_use]
    pub const fn stake(&self) -> NanoTon {
        self.stake
    }

    /// What requests can have cost, with a margin, that asked for so many tokens: their queries' bytes and the tokens that they
    /// allowed, times the price ceiling in thousandths. An answer costs more than that with several choices or with
    /// images that a query names.
    #[must_use]
    pub(super) fn cost_max(&self, asked: u64) -> AdjustedTokens {
        let tokens = u128::from(asked) * u128::from(self.multiplier_max) * COST_MARGIN / 10_000_000;
        AdjustedTokens::new(u64::try_from(tokens).unwrap_or(u64::MAX))
    }

    /// How long after it began to close this side may take what a contract holds, in seconds.
    #[must_use]
    pub const fn delay_s(&self) -> u32 {
        self.delay_s
    }

    pub(super) const fn secret_hash(&self) -> &[u8; 32] {
        &self.secret_hash
    }

    pub(super) const fn outdated_for_s(&self) -> u64 {
        self.outdated_for_s
    }

    /// The message that carries out `order`. What fails comes back to the wallet.
    #[must_use]
    pub fn message(&self, order: &Order) -> InternalMessage {
        let (query_id, excess, secret_hash) = (order.id.0, self.wallet, self.secret_hash);
        let body = match order.duty {
            Duty::Open { amount } | Duty::TopUpWithSecret { amount } => {
                ClientMessage::ChangeSecretAndTopUp { query_id, amount, secret_hash, excess }.to_cell()
            }
            Duty::TopUp { amount } => ClientMessage::TopUp { query_id, amount, excess }.to_cell(),
            Duty::ChangeSecret => ClientMessage::ChangeSecret { query_id, secret_hash, excess }.to_cell(),
            Duty::Register { nonce } => ClientMessage::Register { query_id, nonce, excess }.to_cell(),
            Duty::Charge(payment) => payment.with_excesses_to(excess).to_cell(),
            Duty::Withdraw => ClientMessage::Withdraw { query_id, excess }.to_cell(),
            Duty::RequestRefund | Duty::ForceRefund => {
                ClientMessage::RequestRefund { query_id, excess }.to_cell()
            }
        };
        InternalMessage {
            to: self.contract,
            value: order.duty.value(),
            bounce: true,
            state_init: matches!(order.duty, Duty::Open { .. }).then(|| self.init.clone()),
            body: Some(body),
        }
    }
}

fn dearest(multipliers: &Multipliers) -> u32 {
    let Multipliers { prompt, cached, completion, reasoning } = *multipliers;
    [prompt, cached, completion, reasoning].into_iter().map(|multiplier| multiplier.get()).max().unwrap_or(0)
}
