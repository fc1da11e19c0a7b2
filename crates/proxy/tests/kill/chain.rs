//! A devnet with a root contract in this process, and a server of its own in front of it for each role.

use std::time::Duration;

use chain::outbox::{Order, OrderId};
use chain::{Follower, Limits, Provider, Transaction, Wallet};
use devnet::{Devnet, Genesis, NetworkConfig, Node, Pace};
use ed25519_dalek::SigningKey;
use tokio::runtime::Runtime;
use ton::contracts::StateInit;
use ton::message::InternalMessage;
use ton::messages::{Notice, RootMessage};
use ton::{Address, Contract, ContractCode, RegisteredProxy, RootConfig, Seconds};
use transport::clock::unix_now;
use tycho_types::cell::Cell;
use tycho_types::models::AccountState;
use units::{ConfigVersion, NanoTon, PublicKey};

use crate::forwarder::Forwarder;
use crate::network::until;

pub(crate) const TON: u64 = 1_000_000_000;
/// Of a token: a few answers are worth a message.
pub(crate) const PRICE: u64 = 500_000;
pub(crate) const FEE: u64 = 250_000;
/// What a client keeps at its proxy at most; its stake, which may be used before it is charged, beside.
pub(crate) const BALANCE_MAX: u64 = 3 * TON;
/// Seconds, which pass: nobody can hurry the clock that node wallets compare with the chain's.
const PROXY_DELAY: u32 = 4;
const CLIENT_DELAY: u32 = 20;

/// A chain and the network's root contract on it.
pub(crate) struct Chain {
    runtime: Runtime,
    node: Node,
    honest: Provider,
    _of_honest: Forwarder,
    pub(crate) root: RootConfig,
    pub(crate) root_address: Address,
}

impl Chain {
    /// A chain whose root contract lists one proxy.
    pub(crate) fn new(proxy: RegisteredProxy) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let pace = Pace::Every(Duration::from_millis(50));
        let genesis = Genesis { config: NetworkConfig::mainnet(), seed: [7; 32], start: unix_now(), pace };
        let node = Node::new(Devnet::new(genesis), unix_now);
        let running = node.clone();
        runtime.spawn(async move { running.run(tokio_util::sync::CancellationToken::new()).await });
        let server = runtime.block_on(Forwarder::start(node.clone()));
        let honest = Provider::new(server.endpoint().parse().unwrap(), Limits::default());

        let key = SigningKey::from_bytes(&[1; 32]);
        let admin = node::wallet_state(&PublicKey::new(key.verifying_key().to_bytes()), &owner(1));
        let mut root = RootConfig::pseudo(admin.address());
        root.version = ConfigVersion::new(1);
        root.last_proxy_seqno = 1;
        root.registered_proxies = vec![proxy];
        let params = &mut root.params;
        (params.price_per_token, params.worker_fee_per_token) = (NanoTon::new(PRICE), NanoTon::new(FEE));
        params.client_delay_before_close = Seconds::new(CLIENT_DELAY);
        params.proxy_delay_before_close = Seconds::new(PROXY_DELAY);
        params.use_built_codes();
        let init = root.init(ContractCode::built(Contract::Root));
        let root_address = init.address();
        let world = Self { runtime, node, honest, _of_honest: server, root, root_address };
        world.deploy(key, admin, init);
        world
    }

    fn deploy(&self, key: SigningKey, admin: StateInit, root: StateInit) {
        self.give(&admin.address(), 20);
        let to = root.address();
        self.order(key, admin, 1, to, Some(root), None);
        until(|| "the root contract is there".to_owned(), || self.data(&to).is_some());
    }

    /// The network's prices change, and with them all contracts.
    pub(crate) fn double_prices(&self) {
        let key = SigningKey::from_bytes(&[1; 32]);
        let admin = node::wallet_state(&PublicKey::new(key.verifying_key().to_bytes()), &owner(1));
        let prices = RootMessage::SetPrices {
            query_id: 2,
            price_per_token: NanoTon::new(2 * PRICE),
            worker_fee_per_token: NanoTon::new(2 * FEE),
        };
        self.order(key, admin, 2, self.root_address, None, Some(prices.to_cell()));
    }

    fn order(
        &self,
        key: SigningKey,
        wallet: StateInit,
        id: u64,
        to: Address,
        state_init: Option<StateInit>,
        body: Option<Cell>,
    ) {
        let _context = self.runtime.enter();
        let (wallet, runner) = Wallet::open(self.honest.clone(), key, wallet, None).unwrap();
        let carrying_out = self.runtime.spawn(runner.run(unix_now));
        let bounce = state_init.is_none();
        let message = InternalMessage { to, value: NanoTon::new(TON), bounce, state_init, body };
        self.runtime.block_on(wallet.carry_out(Order { id: OrderId(id), message })).unwrap();
        carrying_out.abort();
    }

    /// One more server in front of the chain.
    pub(crate) fn server(&self) -> Forwarder {
        self.runtime.block_on(Forwarder::start(self.node.clone()))
    }

    pub(crate) fn give(&self, to: &Address, tons: u64) {
        self.node.give(to, NanoTon::new(tons * TON)).unwrap();
    }

    /// Whether no message is on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.node.look(|chain, _| chain.due().is_none())
    }

    /// What an account's contract keeps.
    pub(crate) fn data(&self, address: &Address) -> Option<Cell> {
        self.node.look(|chain, _| {
            let account = chain.account(address)?.load_account().unwrap()?;
            match account.state {
                AccountState::Active(state) => state.data,
                AccountState::Uninit | AccountState::Frozen(_) => None,
            }
        })
    }

    /// What an account has, and all that ever happened on it.
    pub(crate) fn history(&self, address: &Address) -> (u128, Vec<Transaction>) {
        self.runtime.block_on(async {
            let (mut follower, mut all) = (Follower::from_first(*address), Vec::new());
            loop {
                let news = follower.look(&self.honest).await.unwrap();
                all.extend(news.transactions);
                if let Some(account) = news.account {
                    return (account.balance.get().into(), all);
                }
            }
        })
    }

    /// The sum of all that a contract paid to an account because it was owed.
    pub(crate) fn paid_out(&self, to: &Address, from: &Address) -> u64 {
        let (_, transactions) = self.history(to);
        let payouts = transactions.iter().filter_map(|transaction| transaction.incoming.as_ref());
        let is_payout = |message: &&chain::Message| {
            matches!(message.route, chain::Route::Internal { from: sender, .. } if sender == *from)
                && matches!(Notice::from_cell(&message.body), Ok(Notice::Payout { .. }))
        };
        payouts.filter(is_payout).map(|message| message.value().get()).sum()
    }
}

/// Accounts that receive money. Nobody has a key for them, so nothing else touches their balance.
pub(crate) const fn owner(number: u8) -> Address {
    Address::new(0, [number; 32])
}
