use ed25519_dalek::SigningKey;
use ton::messages::ClientMessage;
use ton::payment::{PaymentKind, SignedPayment};
use ton::states::Parties;
use ton::{Address, CodeMask, RootConfig, Seconds};
use units::PublicKey;

use super::*;
use crate::LoginSecret;

mod closing;
mod limits;
mod lives;
mod paying;
mod wishes;

const TON: u64 = 1_000_000_000;
const PRICE: u64 = 20;
const WORKS: ProxyStand = ProxyStand::Works;
const WALLET: Address = Address::new(0, [1; 32]);
const PROXY: Address = Address::new(0, [2; 32]);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn config() -> RootConfig {
    let mut config = RootConfig::pseudo(WALLET);
    config.params.price_per_token = NanoTon::new(PRICE);
    config.params.min_client_stake = NanoTon::new(TON);
    config.params.proxy_delay_before_close = Seconds::new(600);
    config.params.client_delay_before_close = Seconds::new(200);
    config
}

fn public() -> PublicKey {
    PublicKey::new(key().verifying_key().to_bytes())
}

fn terms() -> Terms {
    Terms::new(&config(), &WALLET, &PROXY, &public(), &LoginSecret::new(&[3; 32], "of the test"))
}

impl Settlement {
    /// When there is something to do again, if nothing else happens before.
    fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        let waiting = self.registrations.values().filter(|known| known.order.is_none() && !known.is_done);
        waiting
            .map(|known| known.not_before.max(self.register_at))
            .chain(self.look_at)
            .chain([self.not_before])
            .chain(self.outdated_at())
            .chain(self.unused_until())
            .chain(self.unlocks_at())
            .filter(|at| *at > now)
            .min()
    }
}

/// A settlement, and the chain as far as it matters to it: one contract that does what it is told.
struct World {
    settlement: Settlement,
    now: Duration,
    /// `None` until it is opened.
    contract: Option<ClientData>,
    wallet: u64,
    /// Paid back to the wallet by the proxy contract.
    paid_back: u64,
    /// Whether the proxy contract takes deposits.
    takes_deposits: bool,
    sent: Vec<Duty>,
    policy: Policy,
}

impl World {
    fn new() -> Self {
        Self::with(Policy::default())
    }

    fn with(policy: Policy) -> Self {
        let mut world = Self {
            settlement: Settlement::new(terms(), policy, Memory::default(), OrderId(100)),
            now: Duration::from_secs(1_800_000_000),
            contract: None,
            wallet: 50 * TON,
            paid_back: 0,
            takes_deposits: true,
            sent: Vec::new(),
            policy,
        };
        world.settlement.wallet(NanoTon::new(world.wallet), world.now);
        world
    }

    /// A world with an open contract.
    fn open() -> Self {
        let mut world = Self::new();
        world.settlement.want(world.now);
        world.settle();
        assert_eq!(world.settlement.view().stage, Stage::Open);
        world.sent.clear();
        world
    }

    /// Does everything that is asked for, as it is asked, until nothing is.
    fn settle(&mut self) {
        let paid_in = self.settlement.memory().paid_in_today(self.now);
        self.settlement.today(self.policy.deposits_per_day_max.saturating_sub(paid_in));
        self.settlement.advance(self.now);
        while let Some(action) = self.settlement.poll_action() {
            match action {
                Action::Look => self.settlement.looked(self.contract.clone(), WORKS, self.now),
                Action::Send(order) => {
                    let end = self.carry_out(&order);
                    self.settlement.wallet(NanoTon::new(self.wallet), self.now);
                    self.settlement.order_ended(order.id, end, self.now);
                }
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        self.settle();
        while let Some(at) = self.settlement.poll_timeout(self.now).filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    fn data(&self) -> &ClientData {
        self.contract.as_ref().unwrap()
    }

    /// What the contracts do.
    fn carry_out(&mut self, order: &Order) -> OrderEnd {
        self.sent.push(order.duty);
        let message = self.settlement.terms().message(order);
        assert_eq!(message.to, self.settlement.terms().contract());
        assert_eq!(message.value.get(), order.duty.amount().get() + ATTACHED.get());
        assert!(self.wallet >= message.value.get() + 2 * TON, "the wallet would be stuck");
        if let Some(init) = message.state_init {
            let fresh = ClientData::from_cell(&init.data).unwrap();
            self.contract.get_or_insert(fresh);
        }
        let Some(data) = &mut self.contract else { return OrderEnd::Refused };
        if data.state == ContractState::Closed {
            return OrderEnd::Refused;
        }
        let body = message.body.unwrap();
        if let Duty::Charge(payment) = order.duty {
            assert_eq!(
                SignedPayment::from_cell(&body, PaymentKind::ClientCharge).unwrap().excesses_to,
                WALLET
            );
            return self.charge(payment.tokens.get());
        }
        let now_s = u32::try_from(self.now.as_secs()).unwrap();
        let message = ClientMessage::from_cell(&body).unwrap();
        assert_eq!(message.query_id(), order.id.0);
        let mut paid_out = 0;
        match message {
            ClientMessage::TopUp { amount, .. } | ClientMessage::ChangeSecretAndTopUp { amount, .. }
                if data.state == ContractState::Normal =>
            {
                if let ClientMessage::ChangeSecretAndTopUp { secret_hash, .. } = message {
                    data.secret_hash = secret_hash;
                }
                if self.takes_deposits {
                    self.wallet -= amount.get();
                    data.balance = data.balance.checked_add(amount).unwrap();
                }
            }
            ClientMessage::ChangeSecret { secret_hash, .. } => data.secret_hash = secret_hash,
            ClientMessage::Register { .. } => {}
            ClientMessage::Withdraw { .. } => {
                paid_out = data.balance.get() - data.stake.get();
                data.balance = data.stake;
            }
            ClientMessage::RequestRefund { .. } if data.state == ContractState::Normal => {
                paid_out = data.balance.saturating_sub(data.stake).get();
                data.balance = data.balance.min(data.stake);
                data.state = ContractState::Closing;
                data.unlock_at = now_s + 200;
            }
            ClientMessage::RequestRefund { .. } if data.unlock_at < now_s => {
                paid_out = data.balance.get();
                data.balance = NanoTon::ZERO;
                data.state = ContractState::Closed;
            }
            _ => return OrderEnd::Refused,
        }
        self.wallet += paid_out;
        self.paid_back += paid_out;
        OrderEnd::Done
    }

    fn charge(&mut self, tokens: u64) -> OrderEnd {
        let data = self.contract.as_mut().unwrap();
        let Some(more) = tokens.checked_sub(data.tokens_used.get()).filter(|more| *more > 0) else {
            return OrderEnd::Refused;
        };
        data.balance = data.balance.saturating_sub(NanoTon::new(more * PRICE));
        data.tokens_used = AdjustedTokens::new(tokens);
        OrderEnd::Done
    }

    /// The proxy lands the last order.
    fn grant(&mut self) {
        let data = self.contract.as_mut().unwrap();
        self.paid_back += data.balance.get();
        self.wallet += data.balance.get();
        (data.balance, data.state, data.unlock_at) = (NanoTon::ZERO, ContractState::Closed, 0);
    }

    fn uses(&mut self, used: u64, signed: u64) {
        let charge = (signed > 0).then(|| charge(signed));
        // It was asked for.
        self.settlement.asked(used * 1_000);
        self.settlement.used(AdjustedTokens::new(used), charge, self.now);
        self.settle();
    }
}

fn charge(tokens: u64) -> VerifiedPayment {
    let (contract, tokens) = (terms().contract(), AdjustedTokens::new(tokens));
    let payment =
        SignedPayment::sign(&key(), PaymentKind::ClientCharge, tokens.get(), tokens, &contract, &PROXY);
    payment.verify(&contract, &public()).unwrap()
}
