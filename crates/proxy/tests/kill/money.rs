//! What the chain says about a network's money, held against the books of the roles and against what everybody was promised.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use ton::Address;
use ton::contracts;
use ton::messages::{ClientPayload, ClientRequest};
use ton::states::{ClientData, ContractState, ProxyData, WorkerData};
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;
use units::{AdjustedTokens, NanoTon, PublicKey};

use crate::chain::{BALANCE_MAX, Chain, FEE, PRICE, TON};
use crate::network::{Network, owner_of, until};
use crate::roles::{Kind, Role};

/// A closing proxy deploys no worker contract for less, in nanotons.
const WORTH_GAS: u64 = 50_000_000;

/// The contracts of a network, and who is paid by them.
struct Contracts {
    wallet: Address,
    proxy: Address,
    client: Address,
    worker: Address,
}

impl Network {
    fn contracts(&self) -> Contracts {
        let Chain { root, root_address, .. } = self.chain();
        let public = |kind, file| {
            let text = std::fs::read_to_string(self.folder(kind).join(file)).unwrap();
            let seed: [u8; 32] = hex::decode(text.trim()).unwrap().try_into().unwrap();
            PublicKey::new(SigningKey::from_bytes(&seed).verifying_key().to_bytes())
        };
        let key = public(Kind::Proxy, "machine.key");
        let own_key = public(Kind::Client, "wallet.key");
        let wallet = node::wallet_state(&own_key, &owner_of(Kind::Client)).address();
        let proxy = contracts::proxy_address(root, &owner_of(Kind::Proxy), &key, root_address);
        Contracts {
            wallet,
            proxy,
            client: contracts::client_address(root, &wallet, &proxy, &key),
            worker: contracts::worker_address(root, &owner_of(Kind::Worker), &proxy, &key),
        }
    }

    fn client_data(&self) -> Option<ClientData> {
        self.chain().data(&self.contracts().client).map(|data| ClientData::from_cell(&data).unwrap())
    }

    fn worker_data(&self) -> Option<WorkerData> {
        self.chain().data(&self.contracts().worker).map(|data| WorkerData::from_cell(&data).unwrap())
    }

    fn proxy_state(&self) -> Option<ContractState> {
        let data = self.chain().data(&self.contracts().proxy)?;
        Some(ProxyData::from_cell(&data).unwrap().state)
    }

    /// Everybody's money at any moment: the books have used `tokens`.
    pub(crate) fn check_chain(&self, what: &str, tokens: u64) {
        let charged = self.client_data().map_or(0, |data| data.tokens_used.get());
        assert!(charged <= tokens, "{what}: {charged} charged, {tokens} used");
        let balance = self.client_data().map_or(0, |data| data.balance.get());
        assert!(balance <= BALANCE_MAX + TON, "{what}: {balance} paid in, and nobody needs so much");
        let contracts = self.contracts();
        let paid = self.chain().paid_out(&owner_of(Kind::Worker), &contracts.proxy);
        assert!(paid <= tokens * FEE, "{what}: {paid} paid for {tokens} tokens");
        // The chain's own books: what was used is covered by what was paid in.
        let paid_in = self.paid_in(&contracts);
        let back = self.chain().paid_out(&contracts.wallet, &contracts.proxy);
        assert!(tokens * PRICE + back <= paid_in, "{what}: {tokens} used, {paid_in} paid in, {back} back");
    }

    /// All deposits that arrived.
    fn paid_in(&self, contracts: &Contracts) -> u64 {
        let (_, transactions) = self.chain().history(&contracts.proxy);
        let done = transactions.iter().filter(|transaction| transaction.effect.is_done());
        let requests = done.filter_map(|transaction| transaction.incoming.as_ref()).filter_map(|message| {
            let is_client = matches!(message.route, chain::Route::Internal { from, bounced: false, .. } if from == contracts.client);
            is_client.then(|| ClientRequest::from_cell(&message.body).ok()).flatten()
        });
        let amounts = requests.filter_map(|request| match request.payload {
            Some(ClientPayload::TopUp { amount, .. }) => Some(amount.get()),
            _ => None,
        });
        amounts.sum()
    }

    /// Asks until the worker's contract is there.
    pub(crate) fn load_until_paid(&self) {
        self.load(|| until(|| format!("a payout: {}", self.described()), || self.worker_data().is_some()));
    }

    /// The addresses of the client's and the worker's contract, and data for them that are too good to be true.
    pub(crate) fn invented(&self) -> [(String, String); 2] {
        let contracts = self.contracts();
        let mut client = self.client_data().unwrap();
        (client.balance, client.stake) = (NanoTon::new(1000 * TON), NanoTon::new(1000 * TON));
        (client.tokens_used, client.unconfirmed) = (AdjustedTokens::ZERO, NanoTon::ZERO);
        let worker = self.worker_data().map(|mut worker| {
            worker.tokens = AdjustedTokens::ZERO;
            worker.to_cell()
        });
        let text = |cell: &Cell| STANDARD.encode(Boc::encode(cell));
        [
            (contracts.client.to_string(), text(&client.to_cell())),
            (contracts.worker.to_string(), text(&worker.expect("the worker was paid before"))),
        ]
    }

    /// Everybody leaves: the client first, then the proxy lets the others go. Meanwhile a role dies at each of these
    /// places, one after the other.
    pub(crate) fn leave(&mut self, kind: Kind, places: &[&str]) {
        self.remember_promises();
        for place in places {
            self.restart(kind, &format!("{place}=return(abort)"));
            let mut role = self.role(kind).take().unwrap();
            until(
                || format!("the {kind:?} dies at {place}: {}", self.described()),
                || {
                    self.ask_to_leave();
                    assert!(!self.is_over(), "all is over, and the {kind:?} never came to {place}");
                    role.is_dead()
                },
            );
        }
        self.revive();
        until(
            || format!("everybody is out: {}", self.described()),
            || {
                self.ask_to_leave();
                self.is_over()
            },
        );
        self.check_that_all_is_paid();
    }

    /// The prices change, so the proxy leaves its contract and everybody in it, and goes on with another. Meanwhile it dies
    /// at each of these places, one after the other.
    pub(crate) fn outlive_contract(&mut self, places: &[&str]) {
        self.remember_promises();
        self.chain().double_prices();
        for place in places {
            self.restart(Kind::Proxy, &format!("{place}=return(abort)"));
            let mut role = self.role(Kind::Proxy).take().unwrap();
            until(
                || format!("the proxy dies at {place}: {}", self.described()),
                || {
                    assert!(!self.is_over(), "all is over, and the proxy never came to {place}");
                    role.is_dead()
                },
            );
        }
        self.revive();
        until(|| format!("the old contract is closed: {}", self.described()), || self.is_over());
        // Nothing moves any more while everything is counted.
        for kind in [Kind::Client, Kind::Worker, Kind::Proxy] {
            self.role(kind).take().unwrap().stop();
        }
        until(|| "all messages have arrived".to_owned(), || self.chain().is_quiet());
        self.check_that_all_is_paid();
    }

    /// Starts again whoever died.
    fn revive(&mut self) {
        for kind in [Kind::Client, Kind::Worker, Kind::Proxy] {
            if self.role(kind).as_mut().is_none_or(Role::is_dead) {
                self.restart(kind, "");
            }
        }
    }

    /// What the owners ask for. A process that died before its order was written down has to be asked again.
    fn ask_to_leave(&self) {
        match self.client_data().map(|data| data.state) {
            Some(ContractState::Closed) | None => {
                self.order(Kind::Worker, "payout");
                self.order(Kind::Proxy, "close");
            }
            Some(_) => self.order(Kind::Client, "close"),
        }
    }

    fn is_over(&self) -> bool {
        self.proxy_state() == Some(ContractState::Closed)
    }

    /// Nothing is owed any more: all sums, to the nanoton.
    fn check_that_all_is_paid(&self) {
        let contracts = self.contracts();
        let client = self.client_data().unwrap();
        assert_eq!(client.state, ContractState::Closed);
        let tokens = client.tokens_used.get();
        let paid = if let Some(worker) = self.worker_data() {
            assert_eq!(worker.state, ContractState::Closed);
            assert_eq!(worker.tokens.get(), tokens, "what was charged is what was earned");
            tokens
        } else {
            assert!(tokens * FEE < WORTH_GAS, "{tokens} tokens are worth a contract");
            0
        };
        let proxy = ProxyData::from_cell(&self.chain().data(&contracts.proxy).unwrap()).unwrap();
        let kept = (tokens - paid) * PRICE;
        assert_eq!(proxy.pool.get(), kept, "what was not paid out is kept, for the worker and his proxy");
        let [client_promised, worker_promised] = self.promised;
        assert!(client_promised.max(worker_promised) <= tokens, "what was signed counts");
        assert!(tokens <= self.engine.cost_max(), "{tokens} for {}", self.engine.cost_max());

        let chain = self.chain();
        let paid_in = self.paid_in(&contracts);
        let back = chain.paid_out(&contracts.wallet, &contracts.proxy);
        assert_eq!(paid_in, back + tokens * PRICE, "the client's deposits, in {tokens} tokens");
        assert_eq!(chain.paid_out(&owner_of(Kind::Worker), &contracts.proxy), paid * FEE);
        let of_proxy = chain.paid_out(&owner_of(Kind::Proxy), &contracts.proxy);
        assert!(of_proxy >= TON + paid * (PRICE - FEE), "stake and fees: {of_proxy}");
        self.audit(&contracts);
    }

    /// Every nanoton that the faucet gave is on an account or was a fee. Whoever got money is looked at too.
    fn audit(&self, contracts: &Contracts) {
        let mut seen = BTreeSet::from([contracts.proxy]);
        let mut waiting = VecDeque::from([contracts.proxy]);
        let mut sums = BTreeMap::<&str, u128>::new();
        while let Some(address) = waiting.pop_front() {
            let (balance, transactions) = self.chain().history(&address);
            *sums.entry("held").or_default() += balance;
            for transaction in &transactions {
                *sums.entry("fees").or_default() += u128::from(transaction.fees.get());
                let messages = transaction.incoming.iter().chain(&transaction.outgoing);
                for message in messages {
                    let chain::Route::Internal { from, to, value, .. } = message.route else { continue };
                    if from == devnet::FAUCET {
                        *sums.entry("given").or_default() += u128::from(value.get());
                    }
                    let others = [from, to].into_iter().filter(|other| *other != devnet::FAUCET);
                    waiting.extend(others.filter(|other| seen.insert(*other)));
                }
                let ways = transaction.outgoing.iter().map(|message| u128::from(message.forward_fee.get()));
                *sums.entry("fees").or_default() += ways.sum::<u128>();
            }
        }
        assert_eq!(sums["given"], sums["held"] + sums["fees"], "{sums:?}");
    }
}
