//! Get methods of the contracts themselves, run on this TVM and read as `ton` reads them.
//!
//! The accounts are those of the record that the contracts' own tests write (`contracts.boc`).
#![expect(clippy::unwrap_used, reason = "the record is our own: whatever it lacks fails the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use cocoon_devnet::{
    Devnet, ExternalMessage, Genesis, Moment, NetworkConfig, Pace, method_id, run_get_method,
};
use ed25519_dalek::SigningKey;
use ton::getters::{
    GetClient, GetLastProxySeqno, GetOwner, GetParams, GetPool, GetProxy, GetPublicKey, GetRoot, GetSeqno,
    GetWorker, Getter, GetterError, IsListed, ValueError,
};
use ton::human::{HumanWallet, HumanWalletVersion, Network};
use ton::message::external;
use ton::stack::StackValue;
use ton::states::{ClientData, ProxyData, WalletData, WorkerData};
use ton::{Address, CodeMask, Contract, Params, RootConfig, decode_boc};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::dict::Dict;
use tycho_types::models::{AccountState, ShardAccount};
use units::{ImageHash, ModelHash, NanoTon, PublicKey};

const START: Duration = Duration::from_secs(1_800_000_000);

/// Accounts of our contracts after each transaction of the record.
fn accounts() -> Vec<(Contract, Cell, ShardAccount)> {
    let root = decode_boc(include_bytes!("contracts.boc"), 1 << 20).unwrap();
    let records = Dict::<u16, Cell>::from_raw(Some(root));
    let of = |record: Cell| {
        // Beside the account before and the message: the transaction and the account afterwards, if there are any.
        let result = record.reference_cloned(1)?;
        let after: ShardAccount = result.reference_cloned(1).unwrap().parse().unwrap();
        let AccountState::Active(state) = after.load_account().unwrap()?.state else { return None };
        let (code, data) = (state.code?, state.data?);
        Some((Contract::of_code(&code)?, data, after))
    };
    records.values().filter_map(|record| of(record.unwrap())).collect()
}

/// Answers of all get methods, and that each is refused when anything about it is changed.
struct Asked {
    config: NetworkConfig,
    moment: Moment,
    counts: BTreeMap<&'static str, usize>,
}

impl Asked {
    fn new() -> Self {
        let moment = Moment {
            unix_time: 1_800_000_000,
            block_lt: 1_000_000,
            min_lt: 1_000_000,
            seed: [0; 32],
            ignore_signatures: false,
        };
        Self { config: NetworkConfig::mainnet(), moment, counts: BTreeMap::new() }
    }

    fn run<G: Getter>(&self, account: &ShardAccount, getter: &G) -> (i32, Vec<StackValue>) {
        let id = method_id(getter.method());
        let answer = run_get_method(&self.config, &self.moment, account, id, &getter.arguments()).unwrap();
        (answer.exit_code, answer.stack)
    }

    fn ask<G: Getter>(&mut self, account: &ShardAccount, getter: &G) -> G::Answer {
        let (exit_code, stack) = self.run(account, getter);
        assert_eq!(exit_code, 0, "{}", getter.method());
        *self.counts.entry(getter.method()).or_default() += 1;
        refuses_what_is_changed(getter, &stack);
        getter.answer(exit_code, &stack).unwrap()
    }

    fn has_none<G: Getter>(&self, account: &ShardAccount, getter: &G) {
        let (exit_code, stack) = self.run(account, getter);
        let error = getter.answer(exit_code, &stack).err().unwrap();
        assert_eq!(error, GetterError::Failed { method: getter.method(), exit_code: 11 });
    }
}

fn refuses_what_is_changed<G: Getter>(getter: &G, stack: &[StackValue]) {
    let refusal = |stack: &[StackValue]| getter.answer(0, stack).err().unwrap();
    let (method, expected) = (getter.method(), stack.len());
    assert!(getter.answer(1, stack).is_ok(), "TON's other way of ending well");
    let failed = getter.answer(2, stack).err().unwrap();
    assert_eq!(failed, GetterError::Failed { method, exit_code: 2 });
    let fewer = GetterError::Count { method, found: expected - 1, expected };
    assert_eq!(refusal(&stack[1..]), fewer);
    let more = [stack, &[StackValue::Null]].concat();
    assert_eq!(refusal(&more), GetterError::Count { method, found: expected + 1, expected });
    for place in 0..expected {
        let with = |value: StackValue| {
            let mut stack = stack.to_vec();
            stack[place] = value;
            match refusal(&stack) {
                GetterError::Value { problem, .. } => problem,
                other => panic!("{method}, result {place}: {other}"),
            }
        };
        let others = [
            StackValue::Null,
            StackValue::NotANumber,
            StackValue::Cell(Cell::default()),
            StackValue::Tuple(vec![stack[place].clone()]),
        ];
        for other in others {
            assert!(matches!(with(other), ValueError::Kind { .. }), "{method}, result {place}");
        }
        match &stack[place] {
            StackValue::Number(_) => {
                assert!(matches!(with(StackValue::Slice(Cell::default())), ValueError::Kind { .. }));
                let mut beyond = StackValue::from_hash(&[255; 32]);
                let StackValue::Number(number) = &mut beyond else { unreachable!("a hash is a number") };
                *number += 1;
                for beyond in [StackValue::Number((-2).into()), beyond] {
                    assert!(matches!(with(beyond), ValueError::Range | ValueError::Meaning));
                }
            }
            StackValue::Slice(address) => {
                assert!(matches!(with(StackValue::Number(1.into())), ValueError::Kind { .. }));
                // As contracts write that there is none, and an address with something behind it.
                let none = CellBuilder::build_from(false).unwrap();
                assert_eq!(with(StackValue::Slice(none)), ValueError::Address);
                let mut longer = CellBuilder::new();
                longer.store_slice(address.as_slice().unwrap()).unwrap();
                longer.store_bit_zero().unwrap();
                assert_eq!(with(StackValue::Slice(longer.build().unwrap())), ValueError::Address);
            }
            other => panic!("{method} gives {other:?}"),
        }
    }
}

#[test]
fn every_get_method_tells_what_the_contract_keeps() {
    let mut asked = Asked::new();
    for (contract, data, account) in accounts() {
        match contract {
            Contract::Root => check_root(&mut asked, &data, &account),
            Contract::Proxy => check_proxy(&mut asked, &data, &account),
            Contract::Worker => {
                let worker = WorkerData::from_cell(&data).unwrap();
                let told = asked.ask(&account, &GetWorker);
                let parties = worker.parties;
                assert_eq!((told.owner, told.proxy, told.key), (parties.owner, parties.proxy, parties.key));
                assert_eq!((told.state, told.tokens), (worker.state, worker.tokens));
                asked.has_none(&account, &GetClient);
            }
            Contract::Client => {
                let client = ClientData::from_cell(&data).unwrap();
                let told = asked.ask(&account, &GetClient);
                let parties = client.parties;
                assert_eq!((told.owner, told.proxy, told.key), (parties.owner, parties.proxy, parties.key));
                assert_eq!(
                    (told.state, told.balance, told.stake),
                    (client.state, client.balance, client.stake)
                );
                assert_eq!((told.tokens_used, told.unlock_at), (client.tokens_used, client.unlock_at));
                assert_eq!(told.secret_hash, client.secret_hash);
                asked.has_none(&account, &GetWorker);
            }
            Contract::Wallet => {
                let wallet = WalletData::from_cell(&data).unwrap();
                assert_eq!(asked.ask(&account, &GetSeqno), wallet.seqno);
                assert_eq!(asked.ask(&account, &GetPublicKey), wallet.key);
                assert_eq!(asked.ask(&account, &GetOwner), wallet.owner);
                asked.has_none(&account, &GetRoot);
            }
        }
    }
    println!("{:?}", asked.counts);
    assert_eq!(asked.counts.len(), 13, "{:?}", asked.counts);
    assert!(asked.counts.values().all(|count| *count > 3), "{:?}", asked.counts);
}

fn check_root(asked: &mut Asked, data: &Cell, account: &ShardAccount) {
    let root = RootConfig::from_data(data).unwrap();
    let params = &root.params;
    let told = asked.ask(account, &GetRoot);
    assert_eq!((told.version, told.owner), (root.version, root.owner));
    assert_eq!(told.last_proxy_seqno, root.last_proxy_seqno);
    assert_eq!(asked.ask(account, &GetLastProxySeqno), root.last_proxy_seqno);
    assert_eq!((told.params_version, told.unique_id), (params.params_version, params.unique_id));
    assert_eq!((told.is_test, told.min_proxy_stake), (params.is_test, params.min_proxy_stake));
    assert_eq!(told.min_client_stake, params.min_client_stake);
    let prices = (params.price_per_token, params.worker_fee_per_token);
    assert_eq!((told.price_per_token, told.worker_fee_per_token), prices);

    let terms = asked.ask(account, &GetParams);
    assert_eq!((terms.params_version, terms.unique_id), (params.params_version, params.unique_id));
    assert_eq!((terms.price_per_token, terms.worker_fee_per_token), prices);
    assert_eq!(terms.cached_multiplier, params.multipliers.cached);
    assert_eq!(terms.reasoning_multiplier, params.multipliers.reasoning);
    assert_eq!(terms.proxy_delay_before_close, params.proxy_delay_before_close);
    assert_eq!(terms.client_delay_before_close, params.client_delay_before_close);
    assert_eq!((terms.is_test, terms.min_proxy_stake), (params.is_test, params.min_proxy_stake));
    assert_eq!(terms.min_client_stake, params.min_client_stake);
    assert_eq!(terms.proxy_code, params.proxy_code.hash());
    assert_eq!(terms.worker_code, params.worker_code.hash());
    assert_eq!(terms.client_code, params.client_code.hash());

    for first in [0, 1, 2, 7, 0x80] {
        let mut hash = [0; 32];
        hash[if first == 0x80 { 0 } else { 31 }] = first;
        let (image, model) = (ImageHash::new(hash), ModelHash::new(hash));
        assert_eq!(asked.ask(account, &IsListed::ProxyImage(image)), root.allows_proxy_image(&image));
        assert_eq!(asked.ask(account, &IsListed::WorkerImage(image)), root.allows_worker_image(&image));
        assert_eq!(asked.ask(account, &IsListed::Model(model)), root.model_hashes.contains(&model));
    }
    asked.has_none(account, &GetSeqno);
}

fn check_proxy(asked: &mut Asked, data: &Cell, account: &ShardAccount) {
    let proxy = ProxyData::from_cell(data).unwrap();
    let params = Params::from_cell(&proxy.params, CodeMask::WorkerAndClient).unwrap();
    let told = asked.ask(account, &GetProxy);
    assert_eq!((told.owner, told.key, told.root), (proxy.owner, proxy.key, proxy.root));
    assert_eq!((told.state, told.balance, told.stake), (proxy.state, proxy.balance, proxy.stake));
    assert_eq!((told.unlock_at, told.params_version), (proxy.unlock_at, params.params_version));
    let prices = (params.price_per_token, params.worker_fee_per_token);
    assert_eq!((told.price_per_token, told.worker_fee_per_token), prices);
    assert_eq!(told.min_proxy_stake, params.min_proxy_stake);
    assert_eq!(told.min_client_stake, params.min_client_stake);
    assert_eq!(asked.ask(account, &GetPool), proxy.pool);
    asked.has_none(account, &GetOwner);
}

#[test]
fn wallets_of_people_tell_their_number_and_key() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = PublicKey::new(key.verifying_key().to_bytes());
    for version in [HumanWalletVersion::V4R2, HumanWalletVersion::V5R1] {
        let mut devnet = Devnet::new(Genesis {
            config: NetworkConfig::mainnet(),
            seed: [7; 32],
            start: START,
            pace: Pace::Instant,
        });
        let wallet = HumanWallet::new(version, Network::Mainnet, public);
        let address: Address = wallet.address();
        devnet.give(START, &address, NanoTon::new(1_000_000_000)).unwrap();
        let body = wallet.transfer(&key, 1_800_000_060, 0, &[]).unwrap();
        let boc = Boc::encode(external(&address, Some(&wallet.init()), &body));
        devnet.submit(START, ExternalMessage::from_boc(&boc).unwrap()).unwrap();
        let mut asked = Asked::new();
        let account = devnet.account(&address).unwrap();
        assert_eq!(asked.ask(account, &GetSeqno), 1);
        assert_eq!(asked.ask(account, &GetPublicKey), public);
        asked.has_none(account, &GetOwner);
    }
}
