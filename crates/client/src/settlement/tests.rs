use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use ton::messages::ClientMessage;
use ton::payment::{PaymentKind, SignedPayment};
use ton::states::Parties;
use ton::{Address, CodeMask, RootConfig, Seconds};
use units::PublicKey;

use super::*;
use crate::LoginSecret;

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

#[test]
fn nothing_is_sent_for_a_proxy_that_nobody_uses() {
    let mut world = World::new();
    world.pass(3600);
    assert!(world.sent.is_empty());
    assert_eq!(world.settlement.view().stage, Stage::NotDeployed);
}

#[test]
fn one_message_makes_the_contract_with_secret_and_stake() {
    let mut world = World::new();
    world.settlement.want(world.now);
    world.settle();
    assert_eq!(world.sent, [Duty::Open { amount: NanoTon::new(TON) }]);
    let expected = ClientData {
        state: ContractState::Normal,
        balance: NanoTon::new(TON),
        stake: NanoTon::new(TON),
        tokens_used: AdjustedTokens::ZERO,
        unlock_at: 0,
        secret_hash: *terms().secret_hash(),
        parties: Parties { owner: WALLET, proxy: PROXY, key: public() },
        params: config().params_cell(CodeMask::None),
        unconfirmed: NanoTon::ZERO,
    };
    assert_eq!(*world.data(), expected);
    world.pass(24 * 3600);
    assert_eq!(world.sent.len(), 1, "an idle client sends nothing");
}

#[test]
fn a_new_contract_is_registered_in_the_same_breath() {
    let mut world = World::new();
    world.settle();
    world.settlement.want(world.now);
    world.settlement.register(77, world.now);
    world.settlement.register(77, world.now);
    let actions: Vec<_> = std::iter::from_fn(|| world.settlement.poll_action()).collect();
    let duties: Vec<_> = actions
        .into_iter()
        .map(|action| match action {
            Action::Send(order) => order.duty,
            Action::Look => panic!("nobody needs to look"),
        })
        .collect();
    assert_eq!(duties, [Duty::Open { amount: NanoTon::new(TON) }, Duty::Register { nonce: 77 }]);
}

#[test]
fn a_known_contract_is_registered_and_nothing_else() {
    let mut world = World::open();
    world.settlement.register(5, world.now);
    world.settle();
    assert_eq!(world.sent, [Duty::Register { nonce: 5 }]);
    world.settlement.register(5, world.now);
    world.pass(3600);
    assert_eq!(world.sent.len(), 1, "once is enough");
    world.settlement.forget(5);
    world.settlement.register(5, world.now);
    world.settle();
    assert_eq!(world.sent.len(), 2, "another proxy may draw the same number");
}

#[test]
fn a_registration_that_fails_is_tried_again_while_it_is_wanted() {
    let mut world = World::open();
    world.settlement.register(5, world.now);
    let fail = |world: &mut World| {
        let Some(Action::Send(order)) = world.settlement.poll_action() else { panic!("it was not sent") };
        assert_eq!(order.duty, Duty::Register { nonce: 5 });
        world.settlement.order_ended(order.id, OrderEnd::NotSent, world.now);
        assert_eq!(world.settlement.poll_action(), None);
    };
    fail(&mut world);
    assert_eq!(world.settlement.poll_timeout(world.now), Some(world.now + RETRY_MIN));
    world.now += RETRY_MIN;
    world.settlement.advance(world.now);
    fail(&mut world);
    assert_eq!(world.settlement.poll_timeout(world.now), Some(world.now + 2 * RETRY_MIN));
    world.settlement.forget(5);
    assert_eq!(world.settlement.poll_timeout(world.now), None);
}

#[test]
fn connections_that_wait_have_a_bound() {
    let mut world = World::open();
    for nonce in 0..1_000 {
        world.settlement.register(nonce, world.now);
    }
    assert_eq!(world.settlement.registrations.len(), NONCES_MAX);
}

#[test]
fn the_balance_is_topped_up_before_it_ends() {
    let mut world = World::open();
    // Use that is spread over a day.
    world.pass(24 * 3600);
    let half = TON / 2 / PRICE;
    world.uses(half, 0);
    assert!(world.sent.is_empty(), "half of the stake is enough");
    world.uses(half + 1, 0);
    assert_eq!(world.sent, [Duty::TopUp { amount: NanoTon::new((half + 1) * PRICE) }]);
}

#[test]
fn more_is_paid_in_where_more_is_used() {
    let mut world = World::open();
    // Half of the stake in a minute: ten times as much is wanted, of which half is left.
    world.uses(TON / 2 / PRICE, 0);
    assert_eq!(world.sent, [Duty::TopUp { amount: NanoTon::new(5 * TON - TON / 2) }]);
}

#[test]
fn another_secret_is_replaced_and_along_with_a_top_up_if_one_is_due() {
    let mut world = World::open();
    world.contract.as_mut().unwrap().secret_hash = [9; 32];
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.settle();
    assert_eq!(world.sent, [Duty::ChangeSecret]);
    assert_eq!(world.data().secret_hash, *terms().secret_hash());

    let data = world.contract.as_mut().unwrap();
    (data.secret_hash, data.balance) = ([9; 32], NanoTon::ZERO);
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.settle();
    assert_eq!(world.sent[1..], [Duty::TopUpWithSecret { amount: NanoTon::new(TON) }]);
    assert_eq!(world.data().secret_hash, *terms().secret_hash());
}

#[test]
fn a_charge_is_landed_when_half_of_the_stake_waits_for_it() {
    let mut world = World::open();
    let stake = TON / PRICE;
    // Use that is spread over a day.
    world.pass(24 * 3600);
    world.uses(stake / 2, stake / 2);
    assert!(world.sent.is_empty());
    // Signed too little to be worth the fee.
    let mut poor = World::open();
    poor.pass(24 * 3600);
    poor.uses(stake / 2 + 1, stake / 4 - 1);
    assert!(!poor.sent.iter().any(|duty| matches!(duty, Duty::Charge(_))), "{:?}", poor.sent);
    world.uses(stake / 2 + 1, stake / 2 + 1);
    assert!(matches!(world.sent[0], Duty::Charge(payment) if payment.tokens.get() == stake / 2 + 1));
    assert_eq!(world.data().tokens_used.get(), stake / 2 + 1);
    let landed = world.sent.len();
    world.uses(stake / 2 + 1, stake / 2 + 1);
    assert_eq!(world.sent.len(), landed, "what the chain counts is not landed again");
}

#[test]
fn totals_and_charges_never_shrink() {
    let mut world = World::open();
    world.uses(1_000, 900);
    world.uses(10, 10);
    assert_eq!(world.settlement.used.get(), 1_000);
    assert_eq!(world.settlement.charge.unwrap().tokens().get(), 900);
}

#[test]
fn a_proxy_that_sends_deposits_back_is_asked_less_and_less() {
    let mut world = World::new();
    world.takes_deposits = false;
    world.settlement.want(world.now);
    world.pass(24 * 3600);
    // 30 s, doubled up to an hour, and two minutes of waiting each.
    assert!((20..40).contains(&world.sent.len()), "{} deposits in a day", world.sent.len());
    assert!(world.settlement.view().failures > 10);
    assert_eq!(world.wallet, 50 * TON, "nothing was lost but fees");
    world.takes_deposits = true;
    world.pass(3 * 3600);
    assert_eq!((world.settlement.view().failures, world.data().balance.get()), (0, TON));
}

#[test]
fn nothing_more_goes_while_an_order_does_not_show() {
    let mut world = World::open();
    world.contract.as_mut().unwrap().balance = NanoTon::ZERO;
    let old = world.contract.clone();
    world.settlement.looked(old.clone(), WORKS, world.now);
    let Some(Action::Send(order)) = world.settlement.poll_action() else { panic!("nothing was sent") };
    world.settlement.order_ended(order.id, OrderEnd::Done, world.now);
    for _look in 0..10 {
        assert_eq!(world.settlement.poll_action(), Some(Action::Look));
        world.settlement.looked(old.clone(), WORKS, world.now);
        assert_eq!(world.settlement.poll_action(), None);
        world.now = world.settlement.poll_timeout(world.now).unwrap();
        world.settlement.advance(world.now);
    }
    // Unconfirmed is not there yet either.
    let mut shown = old.unwrap();
    (shown.balance, shown.unconfirmed) = (NanoTon::new(TON), NanoTon::new(TON));
    world.settlement.looked(Some(shown.clone()), WORKS, world.now);
    assert!(world.settlement.awaited.is_some());
    shown.unconfirmed = NanoTon::ZERO;
    world.settlement.looked(Some(shown), WORKS, world.now);
    assert!(world.settlement.awaited.is_none());
    assert_eq!(world.settlement.view().failures, 0);
}

#[test]
fn an_order_that_shows_before_it_is_told_counts() {
    let mut world = World::open();
    world.contract.as_mut().unwrap().balance = NanoTon::ZERO;
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    let Some(Action::Send(order)) = world.settlement.poll_action() else { panic!("nothing was sent") };
    world.carry_out(&order);
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    assert_eq!(world.settlement.poll_action(), None, "one order at a time");
    world.settlement.order_ended(order.id, OrderEnd::Done, world.now);
    world.settle();
    assert_eq!((world.settlement.view().failures, world.data().balance.get()), (0, TON));
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_poor_wallet_is_told_of() {
    let mut world = World::new();
    world.wallet = 2 * TON;
    world.settlement.wallet(NanoTon::new(world.wallet), world.now);
    world.settlement.want(world.now);
    world.settle();
    assert!(world.sent.is_empty());
    let kept = Policy::default().wallet_reserve.get() + ATTACHED.get();
    assert_eq!(world.settlement.view().missing, Some(NanoTon::new(kept + TON - 2 * TON)));
    world.wallet = 10 * TON;
    world.settlement.wallet(NanoTon::new(world.wallet), world.now);
    world.settle();
    assert_eq!((world.sent.len(), world.settlement.view().missing), (1, None));
}

#[test]
fn what_is_above_the_stake_can_be_withdrawn() {
    let mut world = World::open();
    let refused = world.settlement.ask(Wish::Withdraw, world.now).unwrap_err();
    assert_eq!(refused, Refused::Stake { balance: NanoTon::new(TON), stake: NanoTon::new(TON) });
    world.contract.as_mut().unwrap().balance = NanoTon::new(TON + 1);
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.settlement.ask(Wish::Withdraw, world.now).unwrap();
    world.settle();
    assert_eq!((world.sent.as_slice(), world.paid_back), (&[Duty::Withdraw][..], 1));
}

#[test]
fn the_owner_can_pay_in_more_than_the_policy_does() {
    let mut world = World::open();
    let wallet = NanoTon::new(world.wallet);
    let plan = world.settlement.ask(Wish::Deposit(NanoTon::new(3 * TON + 7)), world.now).unwrap();
    let expected = Plan {
        pays_in: NanoTon::new(3 * TON),
        comes_back: NanoTon::ZERO,
        attached: ATTACHED,
        fees: FEES,
        wallet,
        delay_s: 200,
    };
    assert_eq!(plan, expected, "7 nanotons buy no token");
    let under_way = Duty::TopUp { amount: NanoTon::new(3 * TON) };
    assert_eq!(world.settlement.view().under_way, Some(under_way));
    world.settle();
    assert_eq!((world.sent.as_slice(), world.data().balance.get()), (&[under_way][..], 4 * TON));
    assert_eq!(world.settlement.view().under_way, None);
}

#[test]
fn a_deposit_that_cannot_be_is_refused_with_its_reason_and_nothing_is_sent() {
    let mut world = World::open();
    let deposit = |nanotons: u64| Wish::Deposit(NanoTon::new(nanotons));
    let refused =
        |world: &mut World, nanotons| world.settlement.ask(deposit(nanotons), world.now).unwrap_err();
    let price = NanoTon::new(PRICE);
    assert_eq!(refused(&mut world, PRICE - 1), Refused::TooLittle { amount: NanoTon::new(PRICE - 1), price });
    let (balance, balance_max) = (NanoTon::new(TON), Policy::default().balance_max);
    assert_eq!(refused(&mut world, 99 * TON + PRICE), Refused::Limit { balance, balance_max });
    assert_eq!(refused(&mut world, u64::MAX), Refused::Limit { balance, balance_max });

    // The wallet keeps what it needs to go on.
    let kept = Policy::default().wallet_reserve.get() + ATTACHED.get();
    world.wallet = kept + 5 * TON;
    world.settlement.wallet(NanoTon::new(world.wallet), world.now);
    let (wallet, needed) = (NanoTon::new(world.wallet), NanoTon::new(world.wallet + PRICE));
    assert_eq!(refused(&mut world, 5 * TON + PRICE), Refused::Funds { wallet, needed });
    assert!(world.settlement.plan(deposit(5 * TON)).is_ok());

    // A look changes nothing; another order has to be over first.
    assert_eq!(world.settlement.poll_action(), None);
    world.settlement.ask(deposit(TON), world.now).unwrap();
    assert_eq!(refused(&mut world, TON), Refused::Busy { under_way: "top up" });
    let withdrawn = world.settlement.ask(Wish::Withdraw, world.now);
    assert_eq!(withdrawn, Err(Refused::Busy { under_way: "top up" }));
    // Getting out never has to wait to be asked for.
    assert!(world.settlement.plan(Wish::Close).is_ok());
    world.settle();
    assert_eq!(world.sent, [Duty::TopUp { amount: NanoTon::new(TON) }]);

    world.settlement.outdated(world.now);
    assert_eq!(refused(&mut world, TON), Refused::Outdated);
    world.settlement.ask(Wish::Close, world.now).unwrap();
    assert_eq!(refused(&mut world, TON), Refused::Closing);
    world.pass(300);
    assert_eq!(refused(&mut world, TON), Refused::Closed);
    let sum = world.sent.iter().map(|duty| duty.amount().get()).sum::<u64>();
    assert_eq!(sum, TON, "and nothing was paid in by all of that");
}

#[test]
fn a_wallet_that_refuses_orders_is_named_before_one_is_given() {
    let mut world = World::open();
    let needed = chain::outbox::BALANCE_MIN;
    for (nanotons, is_enough) in [(needed.get(), true), (needed.get() - 1, false)] {
        let wallet = NanoTon::new(nanotons);
        world.settlement.wallet(wallet, world.now);
        let expected = if is_enough { None } else { Some(Refused::Funds { wallet, needed }) };
        assert_eq!(world.settlement.plan(Wish::Close).err(), expected);
    }
}

#[test]
fn the_view_says_what_closing_gives_back() {
    let mut world = World::open();
    world.uses(1000, 1000);
    let view = world.settlement.view();
    let left = NanoTon::new(TON - 1000 * PRICE);
    assert_eq!((view.used.get(), view.owed.get(), view.left), (1000, 1000 * PRICE, left));
    assert_eq!(view.unspent.map(AdjustedTokens::get), Some(left.get() / PRICE));
    assert_eq!(world.settlement.plan(Wish::Close).unwrap().comes_back, left);
}

#[test]
fn what_is_unconfirmed_cannot_be_withdrawn() {
    let mut world = World::open();
    let data = world.contract.as_mut().unwrap();
    (data.balance, data.unconfirmed) = (NanoTon::new(2 * TON), NanoTon::new(TON));
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    assert!(matches!(world.settlement.ask(Wish::Withdraw, world.now), Err(Refused::Stake { .. })));
}

#[test]
fn closing_with_the_proxys_help_takes_one_order() {
    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    world.settle();
    assert_eq!(world.sent, [Duty::RequestRefund]);
    assert!(matches!(world.settlement.view().stage, Stage::Closing { unlock_at: Some(_) }));
    assert_eq!(world.settlement.ask(Wish::Close, world.now), Err(Refused::Closing));
    world.grant();
    world.pass(120);
    assert_eq!((world.sent.len(), world.paid_back), (1, TON));
    assert_eq!(world.settlement.view().stage, Stage::Closed);
    assert_eq!(world.settlement.ask(Wish::Close, world.now), Err(Refused::Closed));
    assert!(world.settlement.is_finished(world.now + REMEMBERED_FOR));
    assert_eq!(world.settlement.poll_timeout(world.now), None);
}

#[test]
fn closing_without_the_proxy_takes_the_clients_delay() {
    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    world.pass(204);
    assert_eq!((world.sent.as_slice(), world.paid_back), (&[Duty::RequestRefund][..], 0));
    world.pass(1);
    assert_eq!(world.sent, [Duty::RequestRefund, Duty::ForceRefund]);
    assert_eq!(world.paid_back, TON);
    world.pass(120);
    assert!(world.settlement.is_finished(world.now + REMEMBERED_FOR));
}

#[test]
fn what_comes_back_to_a_closed_contract_is_taken_again() {
    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    world.pass(206);
    assert_eq!(world.settlement.view().stage, Stage::Closed);
    // The proxy's stake covered half.
    let unlock_at = u32::try_from(world.now.as_secs()).unwrap() + 200;
    let data = world.contract.as_mut().unwrap();
    (data.state, data.balance, data.unlock_at) = (ContractState::Closing, NanoTon::new(TON / 2), unlock_at);
    world.pass(300);
    assert_eq!(world.sent.last(), Some(&Duty::ForceRefund));
    assert_eq!(world.paid_back, TON + TON / 2);
    world.pass(120);
    assert!(world.settlement.is_finished(world.now + REMEMBERED_FOR));
}

#[test]
fn a_contract_that_closes_is_paid_into_no_more() {
    let mut world = World::open();
    world.contract.as_mut().unwrap().state = ContractState::Closing;
    world.contract.as_mut().unwrap().unlock_at = u32::MAX;
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.settlement.register(4, world.now);
    world.uses(TON / PRICE, TON / PRICE);
    world.pass(3600);
    assert!(world.sent.is_empty(), "{:?}", world.sent);
}

#[test]
fn nothing_can_be_had_from_a_contract_that_is_not_there() {
    let mut world = World::new();
    assert_eq!(world.settlement.ask(Wish::Close, world.now), Err(Refused::Unknown));
    world.settle();
    assert_eq!(world.settlement.ask(Wish::Close, world.now), Err(Refused::NotDeployed));
    assert_eq!(world.settlement.ask(Wish::Withdraw, world.now), Err(Refused::NotDeployed));
}

#[test]
fn an_outdated_contract_waits_for_the_proxy_and_then_closes() {
    let mut world = World::open();
    world.settlement.outdated(world.now);
    world.uses(TON / PRICE, 0);
    world.pass(199);
    world.settlement.outdated(world.now);
    assert!(world.sent.is_empty(), "{:?}", world.sent);
    // Half of what 600 s exceed 200 s by.
    world.pass(1);
    assert_eq!(world.sent, [Duty::RequestRefund]);
    world.pass(206);
    assert_eq!(world.sent, [Duty::RequestRefund, Duty::ForceRefund]);

    let mut world = World::open();
    world.settlement.outdated(world.now);
    world.grant();
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.pass(3600);
    assert!(world.sent.is_empty(), "the proxy paid");
    let mut world = World::new();
    world.settlement.outdated(world.now);
    world.settlement.want(world.now);
    world.pass(3600);
    assert!(world.sent.is_empty(), "no new contract under old params");
}

#[test]
fn refused_orders_are_tried_later_each_time() {
    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    let mut waits = Vec::new();
    for _attempt in 0..9 {
        let Some(Action::Send(order)) = world.settlement.poll_action() else { panic!("nothing was sent") };
        world.settlement.order_ended(order.id, OrderEnd::Refused, world.now);
        assert_eq!(world.settlement.poll_action(), Some(Action::Look));
        world.settlement.looked(world.contract.clone(), WORKS, world.now);
        assert_eq!(world.settlement.poll_action(), None);
        let at = world.settlement.poll_timeout(world.now).unwrap();
        waits.push((at - world.now).as_secs());
        world.now = at;
        world.settlement.advance(world.now);
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
}

#[test]
fn orders_that_nobody_gave_change_nothing() {
    let mut world = World::open();
    let before = world.settlement.view();
    world.settlement.order_ended(OrderId(1), OrderEnd::Refused, world.now);
    assert_eq!((world.settlement.view(), world.settlement.poll_action()), (before, None));
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Use { tokens: u64, signed: bool },
    Register(u64),
    Forget(u64),
    Ask(Wish),
    Outdated,
    Grant,
    TakesDeposits(bool),
    Secret,
    Give(u64),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..TON / PRICE, any::<bool>()).prop_map(|(tokens, signed)| Event::Use { tokens, signed }),
        2 => (0..4_u64).prop_map(Event::Register),
        1 => (0..4_u64).prop_map(Event::Forget),
        2 => Just(Event::Ask(Wish::Withdraw)),
        2 => (0..20 * TON).prop_map(|nanotons| Event::Ask(Wish::Deposit(NanoTon::new(nanotons)))),
        1 => Just(Event::Ask(Wish::Close)),
        1 => Just(Event::Outdated),
        1 => Just(Event::Grant),
        2 => any::<bool>().prop_map(Event::TakesDeposits),
        1 => Just(Event::Secret),
        2 => (0..20 * TON).prop_map(Event::Give),
        6 => (0..600_u64).prop_map(Event::Pass),
    ]
}

proptest! {
    /// Whatever happens: money is where it should be, the wallet is never stuck, and the owner gets out.
    #[test]
    fn any_life_ends_with_the_money_back(events in prop::collection::vec(event(), 0..60)) {
        let mut world = World::new();
        let mut given = world.wallet;
        let mut used = 0;
        world.settlement.want(world.now);
        world.settle();
        for event in events {
            match event {
                Event::Use { tokens, signed } => {
                    // A proxy serves what is paid in, and no more than the stake beyond the last charge.
                    let (balance, landed) = world.contract.as_ref().map_or((0, 0), |data| (data.balance.get(), data.tokens_used.get()));
                    let room = (balance.min(TON) / PRICE).saturating_sub(used - landed);
                    used += tokens.min(room);
                    world.uses(used, if signed { used } else { 0 });
                }
                Event::Register(nonce) => world.settlement.register(nonce, world.now),
                Event::Forget(nonce) => world.settlement.forget(nonce),
                Event::Ask(wish) => {
                    // What is said before is what is done.
                    let planned = world.settlement.plan(wish);
                    prop_assert_eq!(world.settlement.ask(wish, world.now), planned);
                }
                Event::Outdated => world.settlement.outdated(world.now),
                Event::Grant => {
                    if world.contract.as_ref().is_some_and(|data| data.state == ContractState::Closing) {
                        world.grant();
                    }
                }
                Event::TakesDeposits(takes) => world.takes_deposits = takes,
                Event::Secret => {
                    if let Some(data) = &mut world.contract {
                        data.secret_hash = [0x55; 32];
                    }
                }
                Event::Give(more) => {
                    given += more;
                    world.wallet += more;
                    world.settlement.wallet(NanoTon::new(world.wallet), world.now);
                }
                Event::Pass(seconds) => world.pass(seconds),
            }
            world.settle();
            let in_contract = world.contract.as_ref().map_or(0, |data| data.balance.get());
            let charged = world.contract.as_ref().map_or(0, |data| data.tokens_used.get()) * PRICE;
            prop_assert_eq!(world.wallet + in_contract + charged, given);
        }
        if world.contract.is_some() {
            let _closing_already = world.settlement.ask(Wish::Close, world.now);
            world.pass(3 * 3600);
            prop_assert_eq!(world.data().state, ContractState::Closed);
            prop_assert!(world.settlement.is_finished(world.now + REMEMBERED_FOR));
            prop_assert_eq!(world.wallet + world.data().tokens_used.get() * PRICE, given);
            prop_assert_eq!(world.settlement.poll_timeout(world.now), None);
        }
    }
}

/// The proxy's key has everything charged, whatever was used.
fn drain(world: &mut World) {
    let data = world.contract.as_mut().unwrap();
    let tokens = data.tokens_used.get() + data.balance.get() / PRICE;
    let _nothing_left = world.charge(tokens);
    world.settlement.looked(world.contract.clone(), WORKS, world.now);
    world.settle();
}

fn paid_in(world: &World) -> u64 {
    world.sent.iter().map(|duty| duty.amount().get()).sum()
}

#[test]
fn a_proxy_that_charges_what_nobody_asked_for_is_left() {
    let mut world = World::open();
    // As much as the stake may have been used before this life, for all we know.
    drain(&mut world);
    assert_eq!((paid_in(&world), world.settlement.view().held), (TON, None));
    drain(&mut world);
    assert_eq!(world.sent.last(), Some(&Duty::RequestRefund));
    assert!(world.settlement.is_overcharged() && world.settlement.view().held.is_some());
    world.pass(24 * 3600);
    assert_eq!(paid_in(&world), TON);
}

#[test]
fn a_proxy_that_charges_what_was_asked_for_is_not() {
    let mut world = World::open();
    for used in (1..=20).map(|stakes| stakes * (TON / PRICE)) {
        world.uses(used, used);
        world.pass(60);
    }
    assert!(!world.settlement.is_overcharged());
    assert_eq!(world.settlement.view().stage, Stage::Open);
}

#[test]
fn what_a_proxy_says_was_used_is_believed_as_far_as_it_can_be() {
    let mut world = World::open();
    world.settlement.used(
        AdjustedTokens::new(i64::MAX.cast_unsigned()),
        Some(charge(i64::MAX.cast_unsigned())),
        world.now,
    );
    world.pass(24 * 3600);
    // The stake, and ten minutes of using it up in one.
    assert!(world.data().balance.get() <= 12 * TON, "{}", world.data().balance);
    assert!(!world.sent.iter().any(|duty| matches!(duty, Duty::Charge(_))), "nobody lands that");
}

#[test]
fn a_day_has_its_limit_in_all_lives_together() {
    let policy = Policy { deposits_per_day_max: NanoTon::new(3 * TON), ..Policy::default() };
    let mut world = World::with(policy);
    for _life in 0..20 {
        world.settlement.want(world.now);
        world.settle();
        drain(&mut world);
        let memory = *world.settlement.memory();
        world.settlement = Settlement::new(terms(), policy, Memory { close: false, ..memory }, OrderId(100));
        world.settlement.wallet(NanoTon::new(world.wallet), world.now);
    }
    assert_eq!(paid_in(&world), 3 * TON);
    world.settlement.want(world.now);
    world.pass(3600);
    assert_eq!(world.settlement.view().held, Some(steps::TOMORROW));
    world.pass(24 * 3600);
    assert_eq!(paid_in(&world), 4 * TON);
}

#[test]
fn nothing_goes_before_the_contract_was_read_after_an_order() {
    for (end, is_awaited) in
        [(OrderEnd::Done, true), (OrderEnd::Unresolved, true), (OrderEnd::NotSent, false)]
    {
        let mut world = World::open();
        world.contract.as_mut().unwrap().balance = NanoTon::ZERO;
        let old = world.contract.clone();
        world.settlement.looked(old.clone(), WORKS, world.now);
        let Some(Action::Send(order)) = world.settlement.poll_action() else { panic!("nothing was sent") };
        world.settlement.order_ended(order.id, end, world.now);
        assert_eq!(world.settlement.awaited.is_some(), is_awaited);
        // The server does not answer for an hour.
        for _minute in 0..60 {
            world.now += Duration::from_secs(60);
            world.settlement.advance(world.now);
            while let Some(action) = world.settlement.poll_action() {
                assert_eq!(action, Action::Look, "{end:?}");
            }
        }
        let deposit = world.settlement.ask(Wish::Deposit(NanoTon::new(TON)), world.now);
        assert_eq!(deposit, Err(Refused::Unknown), "nor does its owner");
        world.settlement.looked(old, WORKS, world.now);
        assert!(matches!(world.settlement.poll_action(), Some(Action::Send(_))), "{end:?}");
    }
}

#[test]
fn what_a_server_hides_is_not_paid_in_without_end() {
    let policy = Policy { deposits_per_day_max: NanoTon::new(5 * TON), ..Policy::default() };
    let mut world = World::with(policy);
    world.settlement.want(world.now);
    for _minute in 0..24 * 60 {
        let paid_in = world.settlement.memory().paid_in_today(world.now);
        world.settlement.today(policy.deposits_per_day_max.saturating_sub(paid_in));
        world.settlement.advance(world.now);
        while let Some(action) = world.settlement.poll_action() {
            match action {
                Action::Look => world.settlement.looked(None, WORKS, world.now),
                Action::Send(order) => {
                    world.sent.push(order.duty);
                    world.settlement.order_ended(order.id, OrderEnd::Done, world.now);
                }
            }
        }
        world.now += Duration::from_secs(59);
    }
    assert_eq!(paid_in(&world), 5 * TON);
}

#[test]
fn registrations_that_lead_to_no_session_become_rare() {
    let mut world = World::open();
    let attempt = |world: &mut World, nonce| {
        world.settlement.register(nonce, world.now);
        world.pass(10);
        world.settlement.forget(nonce);
    };
    for nonce in 0..24 * 360 {
        attempt(&mut world, nonce);
    }
    // Two at once, then 30 s later and twice as much each time, up to an hour.
    assert!((20..40).contains(&world.sent.len()), "{} in a day", world.sent.len());
    world.sent.clear();
    world.settlement.authorised();
    attempt(&mut world, 1_000_000);
    assert_eq!(world.sent, [Duty::Register { nonce: 1_000_000 }]);
}

#[test]
fn a_contract_that_nobody_uses_gets_nothing() {
    let mut world = World::open();
    world.settlement.leave();
    world.uses(TON / PRICE, TON / PRICE);
    world.contract.as_mut().unwrap().balance = NanoTon::ZERO;
    world.pass(3600);
    assert!(world.sent.is_empty(), "{:?}", world.sent);
    world.settlement.want(world.now);
    world.settle();
    assert!(!world.sent.is_empty());
}

#[test]
fn a_contract_whose_proxy_is_gone_for_a_day_is_closed() {
    let mut world = World::open();
    world.settlement.abandoned(true, world.now);
    world.pass(25 * 3600);
    assert!(world.sent.is_empty(), "somebody uses it");
    world.settlement.leave();
    world.settlement.abandoned(true, world.now);
    world.pass(12 * 3600);
    world.settlement.abandoned(false, world.now);
    world.settlement.abandoned(true, world.now);
    // It was there again, so the day begins anew; and it goes on in another life.
    let memory = *world.settlement.memory();
    world.settlement = Settlement::new(terms(), Policy::default(), memory, OrderId(500));
    world.settlement.wallet(NanoTon::new(world.wallet), world.now);
    world.pass(24 * 3600 - 1);
    assert!(world.sent.is_empty(), "{:?}", world.sent);
    world.pass(1);
    assert_eq!(world.sent, [Duty::RequestRefund]);
}

#[test]
fn a_proxy_contract_that_takes_no_deposits_gets_none() {
    for proxy in [ProxyStand::Unknown, ProxyStand::Unfit, ProxyStand::Leaves] {
        let mut world = World::new();
        world.settlement.want(world.now);
        world.settlement.looked(None, proxy, world.now);
        assert!(!matches!(world.settlement.poll_action(), Some(Action::Send(_))), "{proxy:?}");
        let mut world = World::open();
        world.contract.as_mut().unwrap().balance = NanoTon::ZERO;
        world.settlement.looked(world.contract.clone(), proxy, world.now);
        let action = world.settlement.poll_action();
        let deposits = matches!(action, Some(Action::Send(order)) if order.duty.amount() > NanoTon::ZERO);
        assert!(!deposits, "{action:?}");
    }
}

#[test]
fn a_contract_is_left_before_its_proxy_contract_is_gone() {
    let mut world = World::open();
    world.settlement.looked(world.contract.clone(), ProxyStand::Leaves, world.now);
    world.settle();
    assert_eq!(world.sent, [Duty::RequestRefund]);
    world.pass(205);
    assert_eq!(world.paid_back, TON);
}

#[test]
fn wishes_and_changes_survive_their_process() {
    let mut world = World::open();
    world.settlement.outdated(world.now);
    world.pass(150);
    let next_life = |world: &World| {
        let mut next = Settlement::new(terms(), Policy::default(), *world.settlement.memory(), OrderId(500));
        next.wallet(NanoTon::new(world.wallet), world.now);
        next
    };
    // Half of the time is over, and is not begun anew.
    world.settlement = next_life(&world);
    world.settlement.outdated(world.now);
    world.pass(50);
    assert_eq!(world.sent, [Duty::RequestRefund]);

    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    world.settlement = next_life(&world);
    world.settle();
    assert_eq!(world.sent, [Duty::RequestRefund]);

    // What a server that was behind said is taken back.
    let mut world = World::open();
    world.settlement.outdated(world.now);
    world.settlement.current();
    world.pass(3600);
    assert!(world.sent.is_empty());
}

#[test]
fn a_closed_contract_is_kept_in_mind_for_days() {
    let mut world = World::open();
    world.settlement.ask(Wish::Close, world.now).unwrap();
    world.pass(206);
    assert_eq!(world.settlement.view().stage, Stage::Closed);
    let closed_at = world.now;
    assert!(!world.settlement.is_finished(closed_at + REMEMBERED_FOR - Duration::from_secs(2)));
    // It was not true: a server said so.
    let mut data = world.data().clone();
    data.state = ContractState::Normal;
    world.settlement.looked(Some(data), WORKS, world.now);
    assert!(!world.settlement.is_finished(closed_at + REMEMBERED_FOR * 2));
}
