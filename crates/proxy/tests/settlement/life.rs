//! Money from a client's wallet to the owner of a worker, as it should go.

use std::time::Duration;

use cocoon_proxy::settlement::{Action, Duty, OrderEnd, Policy, Seen, Unready};
use ledger::{Followed, Party};
use ton::messages::{ClientMessage, ClientPayload, ClientRequest, ClientSnapshot};
use ton::states::{ClientData, ContractState};
use units::{LogicalTime, NanoTon};

use crate::world::{
    CLIENT_DELAY, PRICE, PROXY_DELAY, TON, Wallet, World, client_data, owner, paid_out, tokens, tons,
};

const WORKER: u8 = 60;

#[test]
fn a_new_proxy_deploys_its_contract_with_its_stake_once() {
    let mut world = World::new();
    assert_eq!(world.settlement.unready(&world.books, world.now), Some(Unready::Unread));
    world.listen();
    let deploying = world.settlement.unready(&world.books, world.now);
    assert!(matches!(deploying, Some(Unready::Deploying(_))), "{deploying:?}");
    world.settle();
    assert_eq!(world.settlement.unready(&world.books, world.now), None);
    assert_eq!((world.own().state, world.own().stake), (ContractState::Normal, tons(1)));
    world.settle();
    assert_eq!(world.log.len(), 1, "{:?}", world.log);
}

#[test]
fn a_wallet_that_cannot_pay_is_named() {
    let mut world = World::new();
    world.listen();
    world.settlement.wallet_seen(tons(3));
    let short = world.settlement.unready(&world.books, world.now).unwrap();
    assert!(matches!(short, Unready::WalletShort { balance, .. } if balance == tons(3)), "{short:?}");
    assert!(short.to_string().contains("send it"), "{short}");
    world.settlement.wallet_seen(tons(4));
    assert!(matches!(world.settlement.unready(&world.books, world.now), Some(Unready::Deploying(_))));
}

#[test]
fn an_idle_proxy_sends_nothing() {
    let (mut world, _client) = World::in_business(Policy::default(), tons(5));
    let before = world.log.len();
    for _ in 0..144 {
        world.pass(Duration::from_secs(600));
    }
    assert_eq!(world.log.len(), before, "{:?}", world.log);
}

#[test]
fn a_client_is_charged_in_time_and_a_worker_paid_out() {
    let policy = Policy { payout_at: NanoTon::new(300_000_000), ..Policy::default() };
    let (mut world, client) = World::in_business(policy, tons(5));
    let contract = world.client_contract(&client);
    // Half of the stake is 25 million tokens.
    assert_eq!(world.work(client.address, owner(WORKER), 24_999_999), 24_999_999);
    world.settle();
    assert_eq!(world.done(|duty| matches!(duty, Duty::Anchor(_))), 1);
    assert_eq!(world.done(|duty| matches!(duty, Duty::Charge { .. })), 0);
    assert_eq!(world.work(client.address, owner(WORKER), 1), 1);
    world.settle();
    assert_eq!(world.done(|duty| matches!(duty, Duty::Charge { .. })), 1);
    let charged = client_data(&world.chain, &contract).unwrap();
    assert_eq!(
        (charged.tokens_used, charged.balance.get()),
        (tokens(25_000_000), 5 * TON - 25_000_000 * PRICE)
    );

    // At 10 nanotons, 30 million tokens are due.
    assert_eq!(world.work(client.address, owner(WORKER), 5_000_000), 5_000_000);
    world.settle();
    assert_eq!(world.done(|duty| matches!(duty, Duty::Payout { .. })), 1);
    let own = world.settlement.desk().contract();
    assert_eq!(paid_out(&world.chain, &owner(WORKER), &own), 30_000_000 * PRICE / 2);
    assert_eq!(world.own().balance.get(), 30_000_000 * PRICE / 2, "the proxy's part");
    assert_eq!(world.refused(), Vec::<&_>::new());
}

#[test]
fn what_the_operator_demands_is_settled_however_little_it_is() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    // What is demanded may not be signed yet: its anchor is on the way.
    world.work(client.address, owner(WORKER), 1000);
    world.settlement.demand(Party::Client(client.address));
    world.settlement.demand(Party::Worker(owner(WORKER)));
    world.settle();
    let own = world.settlement.desk().contract();
    assert_eq!(paid_out(&world.chain, &owner(WORKER), &own), 1000 * PRICE / 2);
    assert_eq!(client_data(&world.chain, &world.client_contract(&client)).unwrap().tokens_used, tokens(1000));
    world.settlement.demand_withdrawal(world.now);
    world.settle();
    assert_eq!(paid_out(&world.chain, &owner(2), &own), 1000 * PRICE / 2);
    let before = world.log.len();
    world.settlement.demand(Party::Client(client.address));
    world.settlement.demand(Party::Worker(owner(WORKER)));
    world.settlement.demand_withdrawal(world.now);
    world.settle();
    assert_eq!(world.log.len(), before, "there is nothing to settle");
}

#[test]
fn a_client_cannot_spend_more_than_its_stake_beyond_the_last_charge() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    // A whole stake, and nothing of the chain gets here.
    world.is_deaf = true;
    assert_eq!(world.work(client.address, owner(WORKER), 50_000_001), 0);
    assert_eq!(world.work(client.address, owner(WORKER), 50_000_000), 50_000_000);
    for _ in 0..60 {
        world.step();
        assert_eq!(world.work(client.address, owner(WORKER), 1), 0);
    }
    world.is_deaf = false;
    world.settle();
    assert_eq!(world.work(client.address, owner(WORKER), 50_000_000), 50_000_000);
}

/// Until its client contract hears that a deposit was refused, it counts it: whatever it says meanwhile is too much.
#[test]
fn only_a_deposit_that_arrived_can_be_spent() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    let from = world.client_contract(&client);
    let state = client_data(&world.chain, &from).unwrap();
    let mut says = |balance: NanoTon, payload: Option<ClientPayload>, is_done: bool| {
        let snapshot = ClientSnapshot {
            state: state.state,
            balance,
            stake: state.stake,
            tokens_used: state.tokens_used,
            secret_hash: state.secret_hash,
        };
        let request = ClientRequest { query_id: 9, owner: client.address, state: snapshot, payload };
        let followed = world.books.followed().unwrap();
        let at = Followed { lt: LogicalTime::new(followed.lt.get() + 1), hash: followed.hash };
        let seen = Seen { at, from, body: &request.to_cell(), is_done };
        world.settlement.seen(&mut world.books, &seen, world.now);
        world.books.client_contract(client.address).unwrap().funds.balance
    };
    let top_up = |tons_up| Some(ClientPayload::TopUp { amount: tons(tons_up), excess: client.address });
    let register = Some(ClientPayload::Register { nonce: 1 });
    assert_eq!(says(tons(8), top_up(3), false), tons(5), "it comes back");
    assert_eq!(says(tons(8), register, false), tons(5), "and the client's contract does not know yet");
    assert_eq!(says(tons(8), None, false), tons(5));
    // The next one arrives, and is told with the one that did not.
    assert_eq!(says(tons(9), top_up(1), true), tons(6));
    assert_eq!(says(tons(6), register, false), tons(6));
    assert_eq!(says(tons(4), None, false), tons(4), "it may fall at any time");
    assert_eq!(says(tons(7), top_up(3), true), tons(7));
    assert_eq!(says(tons(9), register, false), tons(7));
}

#[test]
fn a_client_that_leaves_gets_the_rest_and_runs_nothing_more() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    world.work(client.address, owner(WORKER), 1_000_000);
    // One request still runs when it asks.
    world.books.open_worker(owner(WORKER));
    let hold = world.books.reserve(client.address, owner(WORKER), tokens(500)).unwrap();
    world.settle();
    world.refund(&client);
    world.settle();
    assert_eq!(world.work(client.address, owner(WORKER), 1), 0, "it is closing");
    assert_eq!(world.done(|duty| matches!(duty, Duty::Refund { .. })), 0, "a request runs");
    world.books.void(hold).unwrap();
    world.settle();
    assert_eq!(world.done(|duty| matches!(duty, Duty::Refund { .. })), 1);
    let own = world.settlement.desk().contract();
    assert_eq!(paid_out(&world.chain, &client.address, &own), 5 * TON - 1_000_000 * PRICE);
    let closed = client_data(&world.chain, &world.client_contract(&client)).unwrap();
    assert_eq!((closed.state, closed.balance), (ContractState::Closed, NanoTon::ZERO));
    assert_eq!(world.refused(), Vec::<&_>::new());
}

#[test]
fn a_registration_is_seen_and_a_secret_known() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    let value = NanoTon::new(700_000_000);
    let register = ClientMessage::Register { query_id: 3, nonce: 77, excess: client.address };
    world.client_sends(&client, value, &register);
    world.settle();
    assert_eq!(world.registered, [(client.address, 77)]);
    world.tell_again();
    assert_eq!(world.settlement.poll_action(), None, "once");
    let secret_hash = [9; 32];
    let change = ClientMessage::ChangeSecret { query_id: 4, secret_hash, excess: client.address };
    world.client_sends(&client, value, &change);
    world.settle();
    assert_eq!(world.books.client_contract(client.address).unwrap().secret_hash, secret_hash);
}

#[test]
fn an_order_that_is_lost_is_sent_again_and_counts_once() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    world.losses = 2;
    world.work(client.address, owner(WORKER), 30_000_000);
    world.until("charged", |world| world.done(|duty| matches!(duty, Duty::Charge { .. })) == 1);
    world.settle();
    assert_eq!(world.log.iter().filter(|(_, end)| *end == Some(OrderEnd::NotSent)).count(), 2);
    let charged = client_data(&world.chain, &world.client_contract(&client)).unwrap();
    assert_eq!(charged.balance.get(), 5 * TON - 30_000_000 * PRICE);
    assert_eq!(world.refused(), Vec::<&_>::new());
}

#[test]
fn a_client_that_was_faster_costs_one_message() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    world.work(client.address, owner(WORKER), 24_000_000);
    world.settle();
    world.is_deaf = true;
    world.client_lands_its_charge(&client);
    (0..5).for_each(|_| world.step());
    world.settlement.demand(Party::Client(client.address));
    world.until("refused", |world| !world.refused().is_empty());
    world.is_deaf = false;
    world.settle();
    // The contract was read, and there is nothing left to do.
    let before = world.log.len();
    world.pass(Duration::from_secs(4000));
    world.settle();
    assert_eq!(world.log.len(), before);
    let old_order = OrderEnd::Refused { code: 1000 };
    assert!(matches!(world.refused()[..], [(Duty::Charge { .. }, Some(end))] if *end == old_order));
    let charged = client_data(&world.chain, &world.client_contract(&client)).unwrap();
    assert_eq!(charged.balance.get(), 5 * TON - 24_000_000 * PRICE);
    // That the client was faster was no failure.
    world.work(client.address, owner(WORKER), 1_000_000);
    world.settlement.demand(Party::Client(client.address));
    (0..20).for_each(|_| world.step());
    let charged = client_data(&world.chain, &world.client_contract(&client)).unwrap();
    assert_eq!(charged.tokens_used, tokens(25_000_000));
}

/// A client that owes 20,001,000 tokens, which may be signed without another anchor; its charges do not get through.
fn charged_in_vain(hinder: impl Fn(&mut World)) -> (World, Wallet) {
    let policy = Policy { charge_at: NanoTon::new(300_000_000), ..Policy::default() };
    let (mut world, client) = World::in_business(policy, tons(5));
    world.work(client.address, owner(WORKER), 1000);
    world.settle();
    hinder(&mut world);
    world.work(client.address, owner(WORKER), 20_000_000);
    (world, client)
}

fn fails_often(world: &mut World) {
    let lost = |world: &World| world.log.iter().filter(|(_, end)| *end == Some(OrderEnd::NotSent)).count();
    world.until("failed often", |world| lost(world) >= 7);
    world.losses = 0;
}

/// The proxy contract refuses what the client's contract tells it, which that then takes back.
#[test]
fn an_order_that_never_shows_is_sent_less_and_less_often() {
    let (mut world, client) = charged_in_vain(|world| world.bounces = true);
    let before = world.log.len();
    (0..1000).for_each(|_| world.step());
    // After 30 s without a notice each, and pauses of 30, 60, 120 and 240 s.
    assert_eq!(world.log.len() - before, 5, "{:?}", world.log);
    world.bounces = false;
    world.until("charged", |world| {
        let data = client_data(&world.chain, &world.client_contract(&client)).unwrap();
        data.tokens_used == tokens(20_001_000)
    });
}

#[test]
fn a_client_that_leaves_does_not_wait_for_an_order_that_failed_before() {
    let (mut world, client) = charged_in_vain(|world| world.losses = usize::MAX);
    fails_often(&mut world);
    world.refund(&client);
    (0..20).for_each(|_| world.step());
    let own = world.settlement.desk().contract();
    assert_eq!(paid_out(&world.chain, &client.address, &own), 5 * TON - 20_001_000 * PRICE);
}

#[test]
fn a_contract_that_closes_tries_everybody_anew() {
    let (mut world, client) = charged_in_vain(|world| world.losses = usize::MAX);
    fails_often(&mut world);
    world.settlement.begin_close(&world.books);
    (0..20).for_each(|_| world.step());
    let own = world.settlement.desk().contract();
    assert_eq!(paid_out(&world.chain, &client.address, &own), 5 * TON - 20_001_000 * PRICE);
    assert_eq!(world.given_up, Vec::<Party>::new());
}

#[test]
fn what_was_demanded_and_failed_is_still_demanded() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    world.work(client.address, owner(WORKER), 1000);
    world.settle();
    world.losses = 1;
    world.settlement.demand(Party::Client(client.address));
    world.until("charged", |world| {
        client_data(&world.chain, &world.client_contract(&client)).unwrap().tokens_used == tokens(1000)
    });
}

#[test]
fn a_party_whose_last_order_never_shows_is_given_up_and_said() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    world.settlement.begin_close(&world.books);
    world.bounces = true;
    world.until("given up", |world| !world.given_up.is_empty());
    assert_eq!(world.given_up, [Party::Client(client.address)]);
}

#[test]
fn everybody_is_settled_however_many_are_due() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    let workers: Vec<_> = (100..120).map(owner).collect();
    for worker in &workers {
        assert!(world.work(client.address, *worker, 1_000_000) > 0);
    }
    world.settle();
    world.settlement.demand_all(&world.books, |party| matches!(party, Party::Worker(_)));
    world.until("all are paid", |world| {
        let own = world.settlement.desk().contract();
        workers.iter().all(|worker| paid_out(&world.chain, worker, &own) == 1_000_000 * PRICE / 2)
    });
}

#[test]
fn a_closing_contract_takes_nothing_in_and_gives_everybody_his_own() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    let (other, idle) = (world.rich(51), world.rich(52));
    world.top_up(&other, tons(3));
    world.top_up(&idle, tons(2));
    world.settle();
    let workers = [61, 62, 63].map(owner);
    for (index, worker) in workers.iter().enumerate() {
        assert!(world.work(client.address, *worker, 6_000_000 * (index as u64 + 1)) > 0);
        assert!(world.work(other.address, *worker, 7) > 0);
    }
    // One earned less than his contract would cost, another a little more.
    let [poor, lucky] = [64, 65].map(owner);
    assert!(world.work(other.address, poor, 4_999_999) > 0);
    assert!(world.work(other.address, lucky, 5_000_000) > 0);
    world.settle();
    world.settlement.begin_close(&world.books);
    assert_eq!(world.settlement.unready(&world.books, world.now), Some(Unready::Closing));
    world.settle();
    assert_eq!(world.own().state, ContractState::Closing);
    let own = world.settlement.desk().contract();
    assert_eq!(paid_out(&world.chain, &client.address, &own), 5 * TON - 36_000_000 * PRICE);
    assert_eq!(paid_out(&world.chain, &other.address, &own), 3 * TON - 10_000_020 * PRICE);
    assert_eq!(paid_out(&world.chain, &idle.address, &own), 2 * TON);
    for (index, worker) in workers.iter().enumerate() {
        let earned = 6_000_000 * (index as u64 + 1) + 7;
        assert_eq!(paid_out(&world.chain, worker, &own), earned * PRICE / 2);
    }
    assert_eq!(paid_out(&world.chain, &poor, &own), 0, "he may land it himself");
    assert_eq!(paid_out(&world.chain, &lucky, &own), 5_000_000 * PRICE / 2);
    assert!(!world.has_worker_contract(poor) && world.has_worker_contract(lucky));
    // A client that comes too late gets its deposit back at once, and no account here.
    let late = world.rich(53);
    world.top_up(&late, tons(1));
    world.settle();
    assert_eq!(world.books.client(late.address), None);

    assert!(!world.has_ended);
    let orders = world.log.len();
    world.pass(Duration::from_secs(PROXY_DELAY - 1000));
    world.settle();
    assert_eq!(world.log.len(), orders, "the delay is not over");
    world.pass(Duration::from_secs(1000));
    world.until("ended", |world| world.has_ended);
    // What the poor one may still land stays, with coins for its storage.
    let (owed, storage) = (NanoTon::new(4_999_999 * PRICE), 110_000_000);
    assert_eq!((world.own().state, world.own().pool), (ContractState::Closed, owed));
    // The stake, and what was earned.
    let of_owner = paid_out(&world.chain, &owner(2), &own);
    let fees = 41_000_021 * (PRICE - PRICE / 2);
    assert!(of_owner + storage >= TON + fees, "{of_owner}");
    assert_eq!(world.refused(), Vec::<&_>::new());
    world.settle();
    assert_eq!(world.settlement.poll_action(), None::<Action>);
}

/// Its owner closed it, or this proxy did before it was started again.
#[test]
fn a_contract_that_is_found_closing_is_closed() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    world.work(client.address, owner(WORKER), 1_000_000);
    world.settle();
    world.settlement.begin_close(&world.books);
    world.settle();
    world.restart(Policy::default(), 0);
    world.step();
    assert!(world.settlement.closes());
    world.pass(Duration::from_secs(PROXY_DELAY));
    world.until("ended", |world| world.has_ended);
    let own = world.settlement.desk().contract();
    assert_eq!(paid_out(&world.chain, &client.address, &own), 5 * TON - 1_000_000 * PRICE);
    assert_eq!(world.refused(), Vec::<&_>::new());
}

/// The proxy is away for the client's whole delay; what it answers too late, its stake has paid.
#[test]
fn a_client_gets_out_without_the_proxy() {
    let (mut world, client) = World::in_business(Policy::default(), NanoTon::new(TON / 2));
    world.is_deaf = true;
    world.refund(&client);
    for _ in 0..10 {
        world.chain.advance(world.now.unix);
        world.now.unix += Duration::from_secs(1);
    }
    world.now.unix += Duration::from_secs(CLIENT_DELAY);
    world.chain.advance(world.now.unix);
    world.refund(&client);
    world.is_deaf = false;
    world.settle();
    let own = world.settlement.desk().contract();
    assert_eq!(paid_out(&world.chain, &client.address, &own), TON / 2);
    world.until("raised", |world| world.own().stake == tons(1));
    assert_eq!(world.books.client_contract(client.address).unwrap().state, ContractState::Closed);
    // What it had paid in is in the pool, and the stake was raised again.
    assert_eq!(world.done(|duty| matches!(duty, Duty::RaiseStake { .. })), 1);
}

/// A server that does not know of the newest blocks yet does not show what was done.
#[test]
fn a_stake_is_not_paid_twice_because_a_server_is_behind() {
    let mut world = World::new();
    world.step();
    world.is_deaf = true;
    world.until("deployed", |world| world.done(|duty| matches!(duty, Duty::Deploy { .. })) == 1);
    for _ in 0..100 {
        world.settlement.own_contract(None);
        world.step();
    }
    world.is_deaf = false;
    world.settle();
    assert_eq!(world.log.len(), 1, "{:?}", world.log);
    assert_eq!(world.own().stake, tons(1));
}

/// What keeps earnings from the owner keeps nobody from his money.
#[test]
fn closing_does_not_wait_for_a_withdrawal_that_fails() {
    let policy = Policy { payout_at: NanoTon::new(300_000_000), ..Policy::default() };
    let (mut world, client) = World::in_business(policy, tons(5));
    world.work(client.address, owner(WORKER), 30_000_000);
    world.settle();
    world.losses = usize::MAX;
    world.settlement.demand_withdrawal(world.now);
    let lost = |world: &World| world.log.iter().filter(|(_, end)| *end == Some(OrderEnd::NotSent)).count();
    world.until("failed often", |world| lost(world) >= 6);
    world.losses = 0;
    world.settlement.begin_close(&world.books);
    (0..20).for_each(|_| world.step());
    assert_eq!(world.own().state, ContractState::Closing);
}

#[test]
fn what_the_operator_withdraws_is_what_is_there_now() {
    let policy = Policy { payout_at: NanoTon::new(300_000_000), ..Policy::default() };
    let (mut world, client) = World::in_business(policy, tons(5));
    world.settlement.demand_withdrawal(world.now);
    world.settle();
    world.work(client.address, owner(WORKER), 30_000_000);
    world.settle();
    assert!(world.own().balance > NanoTon::ZERO);
    assert_eq!(world.done(|duty| *duty == Duty::Withdraw), 0);
}

/// The order to deploy it waited in the wallet while the params changed.
#[test]
fn a_contract_that_is_deployed_after_it_was_left_is_closed_too() {
    let mut world = World::new();
    world.settlement.begin_close(&world.books);
    world.settlement.deploying(true);
    (0..5).for_each(|_| world.step());
    assert!(!world.has_ended);
    world.wallet_sends(world.settlement.deployment());
    world.until("closing", |world| world.log.iter().any(|(duty, _)| *duty == Duty::Close));
    world.settlement.deploying(false);
    world.pass(Duration::from_secs(PROXY_DELAY));
    world.until("ended", |world| world.has_ended);
    assert_eq!(world.own().state, ContractState::Closed);
    let own = world.settlement.desk().contract();
    assert!(paid_out(&world.chain, &owner(2), &own) >= TON);
    // One that nobody will ever deploy is closed at once.
    let mut world = World::new();
    world.settlement.begin_close(&world.books);
    world.until("ended", |world| world.has_ended);
}

#[test]
fn a_server_that_stands_still_is_as_good_as_none() {
    let (mut world, _client) = World::in_business(Policy::default(), tons(5));
    let stands_at = world.now.unix;
    world.is_deaf = true;
    for _ in 0..CLIENT_DELAY / 4 {
        world.step();
        world.settlement.heard(world.now, stands_at);
    }
    assert_eq!(world.settlement.unready(&world.books, world.now), None);
    world.step();
    world.settlement.heard(world.now, stands_at);
    let silent = world.settlement.unready(&world.books, world.now);
    assert!(matches!(silent, Some(Unready::Silent(_))), "{silent:?}");
    world.settlement.heard(world.now, world.now.unix);
    assert_eq!(world.settlement.unready(&world.books, world.now), None);
}

#[test]
fn an_older_look_does_not_undo_newer_facts() {
    let (mut world, client) = World::in_business(Policy::default(), tons(5));
    world.is_disk_fast = false;
    world.work(client.address, owner(WORKER), 1000);
    world.refund(&client);
    (0..8).for_each(|_| world.step());
    let known = world.books.client_contract(client.address).unwrap();
    assert_eq!((known.state, known.funds.balance), (ContractState::Closing, tons(1)));
    let data = client_data(&world.chain, &world.client_contract(&client)).unwrap();
    let less = NanoTon::new(TON / 2);
    let told = ClientData { balance: less, ..data };
    let (books, now) = (&mut world.books, world.now);
    let earlier = now.unix - Duration::from_secs(1);
    world.settlement.looked_at_client(books, client.address, Some(&told), earlier, now);
    assert_eq!(books.client_contract(client.address), Some(known));
    world.settlement.looked_at_client(books, client.address, Some(&told), now.unix, now);
    assert_eq!(books.client_contract(client.address).unwrap().funds.balance, less);
}
