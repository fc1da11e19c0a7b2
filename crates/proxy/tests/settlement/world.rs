//! A chain, a proxy's books and settlement, and people with wallets.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use cocoon_proxy::core::Now;
use cocoon_proxy::settlement::{Action, Desk, Duty, Order, OrderEnd, OrderId, Policy, Seen, Settlement};
use devnet::{Devnet, ExternalMessage, Genesis, NetworkConfig, Pace};
use ed25519_dalek::SigningKey;
use ledger::journal::{Bill, Books, Chain, Identity};
use ledger::{Followed, Ledger, Multipliers, Party, PriceTable};
use ton::contracts::{self, StateInit};
use ton::message::{self, InternalMessage, SendMode};
use ton::messages::{Anchor, ClientMessage, ClientPayload, ClientRequest, ClientSnapshot, Notice};
use ton::states::{ClientData, ContractState, ProxyData, WalletData, WorkerData};
use ton::wallet::{MESSAGES_MAX, WalletOrder};
use ton::{Address, Contract, ContractCode, RootConfig, Seconds};
use tycho_types::cell::{Cell, CellBuilder, CellFamily as _};
use tycho_types::models::{AccountState, ComputePhase, IntAddr, MsgInfo, OwnedMessage, Transaction, TxInfo};
use units::{AdjustedTokens, LogicalTime, MessageHash, NanoTon, PublicKey, RequestId};

pub(crate) const TON: u64 = 1_000_000_000;
/// Of a token; a worker gets half.
pub(crate) const PRICE: u64 = 20;
pub(crate) const CLIENT_DELAY: u64 = 3600;
pub(crate) const PROXY_DELAY: u64 = 7200;
const START: Duration = Duration::from_secs(1_800_000_000);
/// Nobody needs more to try.
const STEPS_MAX: usize = 3000;

pub(crate) fn tokens(count: u64) -> AdjustedTokens {
    AdjustedTokens::new(count)
}

pub(crate) fn tons(tons: u64) -> NanoTon {
    NanoTon::new(tons * TON)
}

pub(crate) fn owner(number: u8) -> Address {
    Address::new(0, [number; 32])
}

pub(crate) fn root(params_version: u32) -> RootConfig {
    let mut root = RootConfig::pseudo(owner(1));
    let params = &mut root.params;
    params.params_version = params_version;
    params.price_per_token = NanoTon::new(PRICE);
    params.worker_fee_per_token = NanoTon::new(PRICE / 2);
    params.client_delay_before_close = Seconds::new(u32::try_from(CLIENT_DELAY).unwrap());
    params.proxy_delay_before_close = Seconds::new(u32::try_from(PROXY_DELAY).unwrap());
    params.use_built_codes();
    root
}

pub(crate) fn machine_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A node wallet on the chain.
pub(crate) struct Wallet {
    key: SigningKey,
    init: StateInit,
    pub(crate) address: Address,
}

impl Wallet {
    pub(crate) fn new(number: u8) -> Self {
        let key = SigningKey::from_bytes(&[number; 32]);
        let public = PublicKey::new(key.verifying_key().to_bytes());
        let init = contracts::wallet_init(&ContractCode::built(Contract::Wallet), &public, &owner(number));
        Self { key, address: init.address(), init }
    }

    fn seqno(&self, chain: &Devnet) -> Option<u32> {
        data(chain, &self.address).map(|data| WalletData::from_cell(&data).unwrap().seqno)
    }

    /// The external message that sends `messages`, and the wallet's number of it.
    fn order(
        &self,
        chain: &Devnet,
        now: Duration,
        messages: Vec<(SendMode, Cell)>,
    ) -> (ExternalMessage, u32) {
        let seqno = self.seqno(chain);
        let valid_until = u32::try_from(now.as_secs()).unwrap() + 60;
        let order = WalletOrder::new(valid_until, seqno.unwrap_or(0), messages).unwrap();
        let init = seqno.is_none().then_some(&self.init);
        let external = message::external(&self.address, init, &order.sign(&self.key));
        (ExternalMessage::from_cell(external).unwrap(), seqno.unwrap_or(0))
    }
}

/// Data of an account's contract.
pub(crate) fn data(chain: &Devnet, address: &Address) -> Option<Cell> {
    let account = chain.account(address)?.load_account().unwrap()?;
    match account.state {
        AccountState::Active(state) => state.data,
        AccountState::Uninit | AccountState::Frozen(_) => None,
    }
}

pub(crate) fn client_data(chain: &Devnet, address: &Address) -> Option<ClientData> {
    data(chain, address).map(|data| ClientData::from_cell(&data).unwrap())
}

/// How a transaction ended, and what it was about.
struct Parsed {
    message: OwnedMessage,
    body: Cell,
    from: Option<Address>,
    /// Code of the compute or action phase; `None` if nothing ran.
    code: Option<i32>,
    sent: Vec<MessageHash>,
}

fn parse(cell: &Cell) -> Parsed {
    let transaction: Transaction = cell.parse().unwrap();
    let TxInfo::Ordinary(info) = transaction.load_info().unwrap() else { panic!("no tick-tock here") };
    let action = info.action_phase.as_ref().filter(|action| !action.success).map(|action| action.result_code);
    let code = match info.compute_phase {
        ComputePhase::Skipped(_) => None,
        ComputePhase::Executed(phase) if !phase.success => Some(phase.exit_code),
        ComputePhase::Executed(_) => Some(action.unwrap_or(0)),
    };
    let message: OwnedMessage = transaction.in_msg.as_ref().unwrap().parse().unwrap();
    let from = match &message.info {
        MsgInfo::Int(info) => std_address(&info.src),
        _ => None,
    };
    let body = CellBuilder::build_from(message.body.0.apply(&message.body.1).unwrap()).unwrap();
    let sent = transaction.out_msgs.values().map(|message| MessageHash::new(message.unwrap().repr_hash().0));
    Parsed { body, from, code, sent: sent.collect(), message }
}

fn std_address(address: &IntAddr) -> Option<Address> {
    match address {
        IntAddr::Std(address) => Some(Address::new(address.workchain, address.address.0)),
        IntAddr::Var(_) => None,
    }
}

/// What the chain's notices say that an address was paid: payouts, without what was left of gas.
pub(crate) fn paid_out(chain: &Devnet, to: &Address, from: &Address) -> u64 {
    let transactions = chain.transactions(to, None, LogicalTime::new(0), usize::MAX);
    let payouts = transactions.iter().map(|transaction| parse(&transaction.cell)).filter_map(|parsed| {
        let MsgInfo::Int(info) = &parsed.message.info else { return None };
        let is_payout = matches!(Notice::from_cell(&parsed.body), Ok(Notice::Payout { .. }));
        (is_payout && parsed.from == Some(*from))
            .then(|| u64::try_from(info.value.tokens.into_inner()).unwrap())
    });
    payouts.sum()
}

/// An external message on its way, and the orders in it.
struct Sending {
    seqno: u32,
    hash: MessageHash,
    orders: Vec<OrderId>,
    valid_until: Duration,
}

/// The proxy: its books, its settlement, its wallet.
pub(crate) struct World {
    pub(crate) chain: Devnet,
    pub(crate) now: Now,
    pub(crate) books: Ledger,
    journal: (Vec<u8>, Chain),
    pub(crate) settlement: Settlement,
    pub(crate) wallet: Wallet,
    identity: Identity,
    queue: VecDeque<Order>,
    sending: Option<Sending>,
    /// Orders whose destination's transaction is awaited.
    arriving: BTreeMap<OrderId, MessageHash>,
    pub(crate) duties: BTreeMap<OrderId, Duty>,
    pub(crate) log: Vec<(Duty, Option<OrderEnd>)>,
    pub(crate) registered: Vec<(Address, u64)>,
    pub(crate) has_ended: bool,
    /// Commits become durable at once; else when the test says.
    pub(crate) is_disk_fast: bool,
    /// The settlement hears of nothing new from the chain.
    pub(crate) is_deaf: bool,
    /// The next external messages are lost.
    pub(crate) losses: usize,
    /// Orders end as done at once, and their contracts show nothing: the proxy contract refused what came of them.
    pub(crate) bounces: bool,
    /// Parties that the settlement gave up.
    pub(crate) given_up: Vec<Party>,
    requests: u8,
}

/// As a node's wallet sends it: a nanoton cannot pay its own way.
fn to_send(message: &InternalMessage) -> (SendMode, Cell) {
    let mode = if message.value.get() <= 1 { SendMode::FEES_APART } else { SendMode::PLAIN };
    (mode.ignoring_errors(), message.to_cell())
}

pub(crate) fn desk(root: RootConfig, wallet: &Wallet) -> Desk {
    Desk::new(root, owner(3), owner(2), wallet.address, machine_key())
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Policy::default())
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    pub(crate) fn with(policy: Policy) -> Self {
        let pace = Pace::Every(Duration::from_secs(1));
        let genesis = Genesis { config: NetworkConfig::mainnet(), seed: [7; 32], start: START, pace };
        let mut chain = Devnet::new(genesis);
        let wallet = Wallet::new(40);
        chain.give(START, &wallet.address, tons(500)).unwrap();
        let desk = desk(root(1), &wallet);
        let prices =
            PriceTable::new(NanoTon::new(PRICE), NanoTon::new(PRICE / 2), Multipliers::default()).unwrap();
        let identity = Identity { contract: desk.contract(), prices };
        let mut books = Ledger::new(prices);
        let settlement = Settlement::new(desk, policy, LogicalTime::new(0), &mut books, [3; 32]);
        let journal = Chain::begin(&identity, Books::new(identity).position(), &machine_key());
        Self {
            chain,
            now: Now { instant: Instant::now(), unix: START },
            books,
            journal,
            settlement,
            wallet,
            identity,
            queue: VecDeque::new(),
            sending: None,
            arriving: BTreeMap::new(),
            duties: BTreeMap::new(),
            log: Vec::new(),
            registered: Vec::new(),
            has_ended: false,
            is_disk_fast: true,
            is_deaf: false,
            losses: 0,
            bounces: false,
            given_up: Vec::new(),
            requests: 0,
        }
    }

    pub(crate) fn recovered(&self) -> Ledger {
        let mut books = Books::new(self.identity);
        books.replay(&self.journal.0, &machine_key().verifying_key()).unwrap();
        Ledger::from_books(&books).unwrap()
    }

    /// The process ends and begins again, with what the journal holds. Orders on their way are forgotten.
    pub(crate) fn restart(&mut self, policy: Policy, accepted: u64) {
        self.books = self.recovered();
        let desk = desk(root(1), &self.wallet);
        let accepted = LogicalTime::new(accepted);
        self.requests = self.requests.wrapping_add(1);
        let seed = [self.requests; 32];
        self.settlement = Settlement::new(desk, policy, accepted, &mut self.books, seed);
        self.queue.clear();
        self.sending = None;
        self.arriving.clear();
        self.duties.clear();
    }

    pub(crate) fn commit(&mut self) {
        let mut records = Vec::new();
        while let Some(commit) = self.books.take_records(&mut records) {
            assert_eq!(self.journal.1.seal(&records, &machine_key(), &mut self.journal.0), commit);
            self.books.committed(commit);
        }
    }

    /// A second passes: a block, what it tells, and what follows.
    pub(crate) fn step(&mut self) {
        self.pass(Duration::from_secs(1));
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = Now { instant: self.now.instant + time, unix: self.now.unix + time };
        self.chain.advance(self.now.unix);
        self.watch_wallet();
        if !self.is_deaf {
            self.listen();
        }
        self.advance();
    }

    /// Steps until `done`.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..STEPS_MAX {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("never: {what}; {:?}", self.log);
    }

    /// Until nothing is on its way.
    pub(crate) fn settle(&mut self) {
        for _ in 0..8 {
            self.step();
        }
        self.until("settled", |world| {
            world.queue.is_empty()
                && world.sending.is_none()
                && world.arriving.is_empty()
                && world.chain.due().is_none()
        });
        self.step();
        self.step();
    }

    /// What the proxy's task reads of its contract.
    pub(crate) fn listen(&mut self) {
        let contract = self.settlement.desk().contract();
        let after = self.books.followed().map_or(LogicalTime::new(0), |followed| followed.lt);
        let transactions: Vec<_> = self.chain.transactions(&contract, None, after, usize::MAX).to_vec();
        for transaction in transactions {
            let at = Followed { lt: transaction.lt, hash: transaction.hash };
            self.tell(&transaction.cell, at);
        }
        let own = data(&self.chain, &contract).map(|data| ProxyData::from_cell(&data).unwrap());
        self.settlement.heard(self.now, self.now.unix);
        self.settlement.own_contract(own);
    }

    fn tell(&mut self, cell: &Cell, at: Followed) {
        let parsed = parse(cell);
        if let Some(from) = parsed.from {
            let seen = Seen { at, from, body: &parsed.body, is_done: parsed.code == Some(0) };
            self.settlement.seen(&mut self.books, &seen, self.now);
        }
    }

    /// All transactions of the own contract again, from the first.
    pub(crate) fn tell_again(&mut self) {
        let contract = self.settlement.desk().contract();
        let all = self.chain.transactions(&contract, None, LogicalTime::new(0), usize::MAX).to_vec();
        for transaction in all {
            self.tell(&transaction.cell, Followed { lt: transaction.lt, hash: transaction.hash });
        }
    }

    pub(crate) fn advance(&mut self) {
        for _ in 0..3 {
            self.settlement.advance(&mut self.books, self.now);
            while let Some(action) = self.settlement.poll_action() {
                self.carry_out(action);
            }
            if self.is_disk_fast {
                self.commit();
            }
        }
        self.send();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send(order) => {
                self.check_order(&order.duty);
                self.duties.insert(order.id, order.duty);
                self.queue.push_back(order);
            }
            Action::Look(party) => self.look(party),
            Action::Registered { client, nonce } => self.registered.push((client, nonce)),
            Action::GaveUp(party) => self.given_up.push(party),
            Action::Ended => self.has_ended = true,
        }
    }

    /// The point of the ledger: nothing is signed that a restart could take back, or that a client cannot pay.
    fn check_order(&self, duty: &Duty) {
        let recovered = self.recovered();
        match *duty {
            Duty::Charge { client, tokens } | Duty::Refund { client, tokens } => {
                let durable = recovered.client(client).map_or(self::tokens(0), |limits| limits.used);
                assert!(durable >= tokens, "durable");
                assert!(self.books.settled_client(client).unwrap() >= tokens, "protected");
            }
            Duty::Payout { worker, tokens } | Duty::LastPayout { worker, tokens } => {
                let durable = recovered.worker(worker).map_or(self::tokens(0), |totals| totals.earned);
                assert!(durable >= tokens, "durable");
                assert!(self.books.settled_worker(worker).unwrap() >= tokens, "protected");
            }
            _ => {}
        }
    }

    fn look(&mut self, party: Party) {
        let contract = self.settlement.desk().contract_of(party);
        let found = data(&self.chain, &contract);
        match party {
            Party::Client(client) => {
                let found = found.map(|data| ClientData::from_cell(&data).unwrap());
                self.settlement.looked_at_client(
                    &mut self.books,
                    client,
                    found.as_ref(),
                    self.now.unix,
                    self.now,
                );
            }
            Party::Worker(worker) => {
                let found = found.map(|data| WorkerData::from_cell(&data).unwrap());
                self.settlement.looked_at_worker(
                    &mut self.books,
                    worker,
                    found.as_ref(),
                    self.now.unix,
                    self.now,
                );
            }
        }
    }

    /// One external message at a time, with up to four orders.
    fn send(&mut self) {
        if self.bounces {
            let orders = self.queue.drain(..).map(|order| order.id).collect();
            return self.end_all(orders, OrderEnd::Done { lt: LogicalTime::new(0) });
        }
        if self.sending.is_some() || self.queue.is_empty() {
            return;
        }
        let batch: Vec<_> = (0..MESSAGES_MAX).map_while(|_| self.queue.pop_front()).collect();
        let messages = batch.iter().map(|order| {
            let with_state = match order.duty.party() {
                Some(Party::Worker(worker)) => self.books.worker_contract(worker).is_none(),
                _ => false,
            };
            to_send(&self.settlement.desk().message(&order.duty, order.id.0, with_state))
        });
        let (external, seqno) = self.wallet.order(&self.chain, self.now.unix, messages.collect());
        let hash = MessageHash::new(external.cell.repr_hash().0);
        let orders = batch.iter().map(|order| order.id).collect();
        let is_lost = self.losses > 0;
        self.losses = self.losses.saturating_sub(1);
        let is_taken = !is_lost && self.chain.submit(self.now.unix, external).is_ok();
        let valid_until = if is_taken { self.now.unix + Duration::from_secs(60) } else { self.now.unix };
        self.sending = Some(Sending { seqno, hash, orders, valid_until });
    }

    fn watch_wallet(&mut self) {
        if let Some(Sending { seqno, hash, .. }) = &self.sending {
            if self.wallet.seqno(&self.chain).is_some_and(|now| now > *seqno) {
                let sent = self.chain.arrival(hash).map(|transaction| parse(&transaction.cell).sent);
                let sending = self.sending.take().unwrap();
                // Another process of the same wallet may have used the number.
                match sent {
                    Some(sent) => self.arriving.extend(sending.orders.into_iter().zip(sent)),
                    None => self.end_all(sending.orders, OrderEnd::NotSent),
                }
            } else if let Some(sending) = self.sending.take_if(|sending| sending.valid_until < self.now.unix)
            {
                self.end_all(sending.orders, OrderEnd::NotSent);
            }
        }
        let arrived = self.arriving.iter().filter_map(|(order, hash)| {
            let transaction = self.chain.arrival(hash)?;
            Some((*order, parse(&transaction.cell).code, transaction.lt))
        });
        let arrived: Vec<_> = arrived.collect();
        for (order, code, lt) in arrived {
            self.arriving.remove(&order);
            let is_notice = matches!(self.duties.get(&order), Some(Duty::Anchor(_) | Duty::Deploy { .. }));
            let end = match code {
                Some(0) => OrderEnd::Done { lt },
                None if is_notice => OrderEnd::Done { lt },
                code => OrderEnd::Refused { code: code.unwrap_or(-1) },
            };
            self.end_all(vec![order], end);
        }
    }

    fn end_all(&mut self, orders: Vec<OrderId>, end: OrderEnd) {
        for order in orders {
            let duty = self.duties.remove(&order).unwrap();
            self.log.push((duty, Some(end)));
            self.settlement.order_ended(&self.books, order, end, self.now);
        }
    }

    pub(crate) fn own(&self) -> ProxyData {
        let contract = self.settlement.desk().contract();
        ProxyData::from_cell(&data(&self.chain, &contract).unwrap()).unwrap()
    }

    pub(crate) fn done(&self, is_it: impl Fn(&Duty) -> bool) -> usize {
        self.log
            .iter()
            .filter(|(duty, end)| is_it(duty) && matches!(end, Some(OrderEnd::Done { .. })))
            .count()
    }

    pub(crate) fn refused(&self) -> Vec<&(Duty, Option<OrderEnd>)> {
        self.log.iter().filter(|(_, end)| matches!(end, Some(OrderEnd::Refused { .. }))).collect()
    }

    /// Runs a request, if the client can pay for it. Returns what it was charged.
    pub(crate) fn work(&mut self, client: Address, worker: Address, count: u64) -> u64 {
        self.books.open_worker(worker);
        let Ok(hold) = self.books.reserve(client, worker, tokens(count)) else { return 0 };
        self.requests = self.requests.wrapping_add(1);
        let bill = Bill { request: RequestId::new([self.requests; 32]), items: &[] };
        self.books.post(hold, tokens(count), &bill).unwrap().charged.get()
    }

    pub(crate) fn client_contract(&self, client: &Wallet) -> Address {
        self.settlement.desk().contract_of(Party::Client(client.address))
    }

    pub(crate) fn has_worker_contract(&self, worker: Address) -> bool {
        data(&self.chain, &self.settlement.desk().contract_of(Party::Worker(worker))).is_some()
    }

    /// A client's message to its contract.
    pub(crate) fn client_sends(&mut self, client: &Wallet, value: NanoTon, body: &ClientMessage) {
        let to = self.client_contract(client);
        let desk = self.settlement.desk().contract();
        let public = PublicKey::new(machine_key().verifying_key().to_bytes());
        let state_init = contracts::client_init(&root(1), &client.address, &desk, &public);
        let message = InternalMessage {
            to,
            value,
            bounce: true,
            state_init: data(&self.chain, &to).is_none().then_some(state_init),
            body: Some(body.to_cell()),
        };
        let (external, _) =
            client.order(&self.chain, self.now.unix, vec![(SendMode::PLAIN, message.to_cell())]);
        self.chain.submit(self.now.unix, external).expect("the client's wallet can pay");
    }

    pub(crate) fn top_up(&mut self, client: &Wallet, amount: NanoTon) {
        let body = ClientMessage::TopUp { query_id: 1, amount, excess: client.address };
        let value = amount.checked_add(NanoTon::new(800_000_000)).unwrap();
        self.client_sends(client, value, &body);
    }

    pub(crate) fn refund(&mut self, client: &Wallet) {
        let body = ClientMessage::RequestRefund { query_id: 2, excess: client.address };
        self.client_sends(client, NanoTon::new(700_000_000), &body);
    }

    /// A client with a wallet full of coins.
    pub(crate) fn rich(&mut self, number: u8) -> Wallet {
        let wallet = Wallet::new(number);
        self.chain.give(self.now.unix, &wallet.address, tons(100)).unwrap();
        self.step();
        wallet
    }

    /// A proxy that is deployed, and a client that has paid in.
    pub(crate) fn in_business(policy: Policy, amount: NanoTon) -> (Self, Wallet) {
        let mut world = Self::with(policy);
        let client = world.rich(50);
        world.until("deployed", |world| world.settlement.unready(&world.books, world.now).is_none());
        world.top_up(&client, amount);
        world.settle();
        (world, client)
    }

    /// The disk of another life.
    pub(crate) fn take_journal(&mut self, other: &Self) {
        self.journal = other.journal.clone();
    }

    /// Something that this process did not decide to send: another one with the same keys did.
    pub(crate) fn wallet_sends(&mut self, duty: Duty) {
        let message = self.settlement.desk().message(&duty, 99, false);
        let (external, _) = self.wallet.order(&self.chain, self.now.unix, vec![to_send(&message)]);
        self.chain.submit(self.now.unix, external).unwrap();
    }

    pub(crate) fn stranger_sends(&mut self, stranger: &Wallet, value: NanoTon, body: Cell) {
        let to = self.settlement.desk().contract();
        let message = InternalMessage { to, value, bounce: true, state_init: None, body: Some(body) };
        let (external, _) =
            stranger.order(&self.chain, self.now.unix, vec![(SendMode::PLAIN, message.to_cell())]);
        self.chain.submit(self.now.unix, external).unwrap();
    }

    /// Messages that would be worth something if they came from whom they name.
    pub(crate) fn forgeries(&self, client: Address) -> Vec<Cell> {
        let state = ClientSnapshot {
            state: ContractState::Normal,
            balance: tons(1000),
            stake: tons(1000),
            tokens_used: tokens(0),
            secret_hash: [1; 32],
        };
        let payload = Some(ClientPayload::Register { nonce: 5 });
        vec![
            ClientRequest { query_id: 1, owner: client, state, payload: None }.to_cell(),
            ClientRequest { query_id: 1, owner: client, state, payload }.to_cell(),
            Anchor { query_id: 1, seqno: 7, hash: [1; 32] }.to_cell(),
            Cell::empty_cell(),
        ]
    }

    /// Whether no message is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.chain.due().is_none()
    }

    /// Sends what the contract may well refuse.
    pub(crate) fn try_send(&mut self, client: &Wallet, body: &ClientMessage) {
        if data(&self.chain, &self.client_contract(client)).is_some() {
            self.client_sends(client, NanoTon::new(700_000_000), body);
        }
    }

    pub(crate) fn try_refund(&mut self, client: &Wallet) {
        self.try_send(client, &ClientMessage::RequestRefund { query_id: 2, excess: client.address });
    }

    /// A client that is here has its newest signed total.
    pub(crate) fn client_lands_its_charge(&mut self, client: &Wallet) {
        let Some(tokens) = self.books.settled_client(client.address) else { return };
        if data(&self.chain, &self.client_contract(client)).is_some() {
            let duty = Duty::Charge { client: client.address, tokens };
            let message = self.settlement.desk().message(&duty, 7, false);
            let (external, _) = client.order(&self.chain, self.now.unix, vec![to_send(&message)]);
            self.chain.submit(self.now.unix, external).expect("the client's wallet can pay");
        }
    }
}
