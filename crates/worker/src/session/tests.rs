//! Each check of the handshake with an answer that passes and the twin that does not.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use node::{ConnectingParty, OwnContract, ProxyError};
use ton::payment::{self, PaymentKind};
use ton::{AddressFlags, RootConfig, contracts};
use units::{ModelName, PublicKey};

use super::*;

/// A proxy that answers correctly unless a test changes a field.
struct Proxy {
    key: SigningKey,
    owner: Address,
    root: Address,
    config: Arc<RootConfig>,
    is_test: Option<bool>,
    protocol: Option<i32>,
    worker_owner: Address,
    proxy_text: Option<String>,
    worker_text: Option<String>,
}

const ROOT: Address = Address::new(0, [9; 32]);
const WORKER_OWNER: Address = Address::new(0, [7; 32]);

impl Proxy {
    fn new() -> Self {
        Self {
            key: SigningKey::from_bytes(&[3; 32]),
            owner: Address::new(0, [4; 32]),
            root: ROOT,
            config: config(),
            is_test: Some(true),
            protocol: Some(2),
            worker_owner: WORKER_OWNER,
            proxy_text: None,
            worker_text: None,
        }
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::new(self.key.verifying_key().to_bytes())
    }

    fn contract(&self) -> Address {
        contracts::proxy_address(&self.config, &self.owner, &self.public_key(), &self.root)
    }

    fn worker_contract(&self) -> Address {
        contracts::worker_address(&self.config, &self.worker_owner, &self.contract(), &self.public_key())
    }

    fn connected(&self) -> Vec<u8> {
        let wire_text = |address: Address| address.to_wire_text(false);
        let owner = self.owner.to_string();
        let proxy = self.proxy_text.clone().unwrap_or_else(|| wire_text(self.contract()));
        let worker_text = self.worker_text.clone().unwrap_or_else(|| wire_text(self.worker_contract()));
        wire::encode(&worker::ConnectedToProxy {
            params: proxy::Params {
                proxy_public_key: *self.public_key().as_bytes(),
                proxy_owner_address: owner.as_str().into(),
                proxy_sc_address: proxy.as_str().into(),
                is_test: self.is_test,
                proto_version: self.protocol,
            },
            worker_sc_address: worker_text.as_str().into(),
        })
        .to_vec()
    }

    fn sign(&self, tokens: u64) -> Vec<u8> {
        let (kind, tokens) = (PaymentKind::WorkerPayout, AdjustedTokens::new(tokens));
        payment::sign(&self.key, kind, tokens.get() + 1, tokens, &self.worker_contract(), &self.owner)
    }

    fn compared(&self, signed: u64, stored: i64, earned: i64, error_code: i32) -> Vec<u8> {
        let boc = self.sign(signed);
        wire::encode(&worker::CompareBalanceWithProxyResult {
            signed_payment: proxy::SignedPayment::Payment { data: &boc },
            tokens_committed_to_db: stored,
            max_tokens: earned,
            error_code,
        })
        .to_vec()
    }
}

const PARTY: ConnectingParty =
    ConnectingParty { owner: WORKER_OWNER, root: ROOT, is_testnet: false, contract: OwnContract::Worker };

fn config() -> Arc<RootConfig> {
    Arc::new(RootConfig::pseudo(Address::new(0, [1; 32])))
}

fn begin() -> ExpectConnected {
    let offer = Offer {
        model: ModelName::new("m@c:h").unwrap(),
        coefficient: Coefficient::new(1500).unwrap(),
        max_active_requests: 60,
        proxy_cnt: 2,
    };
    ExpectConnected::begin(PARTY, config(), &offer).0
}

fn connect(proxy: &Proxy, accounts: &Accounts) -> Result<ExpectComparison, SessionError> {
    begin().handle(&proxy.connected(), accounts).map(|(state, _query)| state)
}

fn agreed(compared: Compared) -> ExpectCompleted {
    match compared {
        Compared::Agreed(state) => state,
        Compared::Behind(..) => panic!("the proxy said that it knows fewer tokens"),
    }
}

fn completed(state: ExpectCompleted) -> Session {
    state.handle(&wire::encode(&worker::ProxyHandshakeCompleted {})).unwrap()
}

fn session(proxy: &Proxy, accounts: &Accounts, signed: u64, stored: i64, earned: i64) -> Session {
    let state = connect(proxy, accounts).unwrap();
    completed(agreed(state.handle(&proxy.compared(signed, stored, earned, 0), accounts).unwrap()))
}

fn totals(accounts: &Accounts) -> (u64, u64, u64) {
    let Totals { signed, stored, earned } = accounts.snapshot()[0].totals();
    (signed.get(), stored.get(), earned.get())
}

fn settlement<'a>(boc: &'a [u8], stored: i64, earned: i64) -> proxy::WorkerRequestPayment<'a> {
    proxy::WorkerRequestPayment {
        request_id: [0; 32],
        signed_payment: proxy::SignedPayment::Payment { data: boc },
        db_tokens: stored,
        max_tokens: earned,
        request_tokens: 0,
        request_client_owner: "".into(),
    }
}

#[test]
fn a_worker_introduces_itself_as_deployed_workers_do() {
    let offer = Offer {
        model: ModelName::new("Qwen/Qwen3-8B@abc:def").unwrap(),
        coefficient: Coefficient::new(1500).unwrap(),
        max_active_requests: 60,
        proxy_cnt: 1,
    };
    let (_state, query) = ExpectConnected::begin(PARTY, config(), &offer);
    let worker::ConnectToProxy { params } = wire::decode(&query).unwrap();
    assert_eq!(params.worker_owner_address.to_str().unwrap(), WORKER_OWNER.to_wire_text(false));
    assert_eq!(params.model.to_str().unwrap(), "Qwen/Qwen3-8B@abc:def");
    assert_eq!(params.coefficient, 1500);
    let deployment = worker::Deployment { is_test: true, proxy_cnt: 1, max_active_requests: 60 };
    assert_eq!(params.deployment, Some(deployment));
    let range = params.proto_range.unwrap();
    assert_eq!((range.min_proto_version, range.max_proto_version), (1, 3));
}

#[test]
fn a_handshake_leads_to_a_session_of_the_chosen_version() {
    let accounts = Accounts::default();
    for (chosen, protocol) in
        [(None, ProtocolVersion::V0), (Some(1), ProtocolVersion::V1), (Some(2), ProtocolVersion::V2)]
    {
        let proxy = Proxy { protocol: chosen, ..Proxy::new() };
        let session = session(&proxy, &accounts, 0, 0, 0);
        assert_eq!(session.protocol, protocol);
        assert_eq!(session.coefficient().get(), 1500);
    }
    assert_eq!(accounts.snapshot().len(), 1);
}

#[test]
fn a_proxy_of_another_network_or_another_time_is_refused() {
    let refused = |proxy: Proxy| connect(&proxy, &Accounts::default()).err().unwrap();
    let test_mode = refused(Proxy { is_test: Some(false), ..Proxy::new() });
    assert!(matches!(test_mode, SessionError::Proxy(ProxyError::TestMode { ours: true, theirs: false })));
    let unsaid = refused(Proxy { is_test: None, ..Proxy::new() });
    assert!(matches!(unsaid, SessionError::Proxy(ProxyError::TestMode { theirs: false, .. })));
    let too_old = refused(Proxy { is_test: None, protocol: None, ..Proxy::new() });
    assert!(matches!(too_old, SessionError::Proxy(ProxyError::TooOld)));
    for chosen in [-1, 4] {
        let refused = refused(Proxy { protocol: Some(chosen), ..Proxy::new() });
        assert!(matches!(refused, SessionError::Proxy(ProxyError::Protocol { chosen: c }) if c == chosen));
    }
}

#[test]
fn contracts_that_do_not_follow_from_our_configuration_are_refused() {
    let refused = |proxy: Proxy| connect(&proxy, &Accounts::default()).err().unwrap();
    let other_root = refused(Proxy { root: Address::new(0, [8; 32]), ..Proxy::new() });
    assert!(matches!(other_root, SessionError::Proxy(ProxyError::Contract { which: "proxy", .. })));
    let other_worker = refused(Proxy { worker_owner: Address::new(0, [8; 32]), ..Proxy::new() });
    assert!(matches!(other_worker, SessionError::Proxy(ProxyError::Contract { which: "worker", .. })));

    let contract = Proxy::new().contract();
    let text = |bounceable, testnet| contract.to_text(AddressFlags { bounceable, testnet });
    for wrong_form in [text(true, false), text(false, true), contract.to_string()] {
        let refused = refused(Proxy { proxy_text: Some(wrong_form), ..Proxy::new() });
        assert!(
            matches!(refused, SessionError::Proxy(ProxyError::AddressForm { which: "proxy" })),
            "{refused:?}"
        );
    }
    let no_address = refused(Proxy { worker_text: Some("nowhere".into()), ..Proxy::new() });
    assert!(matches!(no_address, SessionError::Proxy(ProxyError::Address { which: "worker", .. })));
}

#[test]
fn a_comparison_without_a_valid_payment_is_refused() {
    let (proxy, accounts) = (Proxy::new(), Accounts::default());
    let refused =
        |result: &[u8]| connect(&proxy, &accounts).unwrap().handle(result, &accounts).err().unwrap();

    let empty = wire::encode(&worker::CompareBalanceWithProxyResult {
        signed_payment: proxy::SignedPayment::Empty,
        tokens_committed_to_db: 0,
        max_tokens: 0,
        error_code: 0,
    });
    assert!(matches!(refused(&empty), SessionError::NoPayment));
    let other_key = Proxy { key: SigningKey::from_bytes(&[5; 32]), ..Proxy::new() };
    assert!(matches!(refused(&other_key.compared(0, 0, 0, 0)), SessionError::Payment(_)));
    let negative = refused(&proxy.compared(0, -1, 0, 0));
    assert!(matches!(negative, SessionError::Negative { total: "stored", tokens: -1 }));
    assert!(matches!(refused(b"shrt"), SessionError::Malformed(_)));
}

#[test]
fn what_a_proxy_once_knew_it_must_know_again() {
    let (proxy, accounts) = (Proxy::new(), Accounts::default());
    session(&proxy, &accounts, 100, 150, 200);
    assert_eq!(totals(&accounts), (100, 150, 200));
    // In another life of the worker too.
    let accounts = Accounts::restored(accounts.to_keep());
    assert_eq!(totals(&accounts), (100, 150, 200));
    let compare = |signed, stored, earned| {
        let state = connect(&proxy, &accounts).unwrap();
        state.handle(&proxy.compared(signed, stored, earned, 0), &accounts)
    };
    for (total, result) in
        [("signed", (99, 150, 200)), ("stored", (100, 149, 200)), ("earned", (100, 150, 199))]
    {
        let refused = compare(result.0, result.1, result.2).err().unwrap();
        assert!(matches!(refused, SessionError::Lower { total: t, .. } if t == total), "{refused:?}");
    }
    assert_eq!(totals(&accounts), (100, 150, 200));
    agreed(compare(101, 151, 201).unwrap());
    assert_eq!(totals(&accounts), (101, 151, 201));
}

#[test]
fn earnings_that_were_never_stored_can_be_written_off() {
    let (proxy, accounts) = (Proxy::new(), Accounts::default());
    session(&proxy, &accounts, 100, 150, 200);
    let behind = |code: i32| {
        let state = connect(&proxy, &accounts).unwrap();
        let Compared::Behind(state, query) =
            state.handle(&proxy.compared(100, 150, 160, 1), &accounts).unwrap()
        else {
            panic!("the proxy said that it is behind");
        };
        let asked: worker::ExtendedCompareBalanceWithProxy<'_> = wire::decode(&query).unwrap();
        assert_eq!((asked.tokens_committed_to_db, asked.other), (150, &[][..]));
        let answer = worker::ExtendedCompareBalanceWithProxyResult { error_code: code };
        state.handle(&wire::encode(&answer), &accounts)
    };
    assert!(matches!(behind(1).err().unwrap(), SessionError::ComparisonRefused { code: 1 }));
    assert_eq!(totals(&accounts), (100, 150, 200));

    completed(behind(0).unwrap());
    assert_eq!(totals(&accounts), (100, 150, 160));
    // The next connection begins from what is left.
    session(&proxy, &accounts, 100, 150, 160);
    // What was stored is never written off.
    let state = connect(&proxy, &accounts).unwrap();
    let refused = state.handle(&proxy.compared(100, 149, 149, 1), &accounts).err().unwrap();
    assert!(matches!(refused, SessionError::Lower { total: "stored", .. }));
}

#[test]
fn a_settlement_raises_the_account_and_a_lower_one_ends_the_connection() {
    let (proxy, accounts) = (Proxy::new(), Accounts::default());
    let mut session = session(&proxy, &accounts, 0, 0, 0);
    let (zero, ten) = (proxy.sign(0), proxy.sign(10));
    session.settle(&settlement(&zero, 5, 20), &accounts).unwrap();
    session.settle(&settlement(&ten, 20, 40), &accounts).unwrap();
    assert_eq!(totals(&accounts), (10, 20, 40));

    for (boc, stored, earned) in [(&zero, 20, 40), (&ten, 19, 40), (&ten, 20, 39)] {
        let refused = session.settle(&settlement(boc, stored, earned), &accounts).unwrap_err();
        assert!(matches!(refused, SessionError::Lower { .. }), "{refused:?}");
    }
    let mut empty = settlement(&ten, 20, 40);
    empty.signed_payment = proxy::SignedPayment::Empty;
    assert!(matches!(session.settle(&empty, &accounts), Err(SessionError::NoPayment)));
    let forged = Proxy { key: SigningKey::from_bytes(&[5; 32]), ..Proxy::new() }.sign(99);
    let refused = session.settle(&settlement(&forged, 20, 40), &accounts);
    assert!(matches!(refused, Err(SessionError::Payment(_))));
    assert_eq!(totals(&accounts), (10, 20, 40));
}

#[test]
fn links_to_one_proxy_share_its_account_and_keep_their_own_order() {
    let (proxy, accounts) = (Proxy::new(), Accounts::default());
    let mut first = session(&proxy, &accounts, 0, 0, 0);
    let mut second = session(&proxy, &accounts, 0, 0, 0);
    let zero = proxy.sign(0);
    first.settle(&settlement(&zero, 0, 30), &accounts).unwrap();
    // Sent earlier, on the other link: late, not lower.
    second.settle(&settlement(&zero, 0, 20), &accounts).unwrap();
    assert_eq!(totals(&accounts), (0, 0, 30));
}

#[test]
fn polled_and_attached_payments_only_ever_help() {
    let (proxy, accounts) = (Proxy::new(), Accounts::default());
    let session = session(&proxy, &accounts, 10, 20, 30);
    let status = |boc: &[u8], stored, earned| {
        let signed_payment = proxy::SignedPayment::Payment { data: boc };
        let status = worker::PaymentStatus { signed_payment, db_tokens: stored, max_tokens: earned };
        session.update(&status, &accounts)
    };
    status(&proxy.sign(5), 1, 2).unwrap();
    status(b"no payment", 1, 2).unwrap();
    assert_eq!(totals(&accounts), (10, 20, 30));
    status(&proxy.sign(11), 21, 31).unwrap();
    assert_eq!(totals(&accounts), (11, 21, 31));
    assert!(matches!(status(&proxy.sign(12), 21, -1), Err(SessionError::Negative { .. })));

    session.take_payment(&proxy::SignedPayment::Payment { data: &proxy.sign(12) }, &accounts);
    session.take_payment(&proxy::SignedPayment::Empty, &accounts);
    assert_eq!(totals(&accounts), (12, 21, 31));
}

#[test]
fn only_announced_prices_are_worked_for() {
    let (proxy, accounts) = (Proxy::new(), Accounts::default());
    let mut session = session(&proxy, &accounts, 0, 0, 0);
    let price = |thousandths| Coefficient::new(thousandths).unwrap();
    assert_eq!(session.offered(1500), Some(price(1500)));
    for refused in [1499, 0, -1, i64::MAX] {
        assert_eq!(session.offered(refused), None);
    }
    session.announce(price(2500));
    // Requests at the old price may be under way.
    assert_eq!(session.offered(1500), Some(price(1500)));
    assert_eq!(session.offered(2500), Some(price(2500)));
    for later in 0..8 {
        session.announce(price(later));
    }
    assert_eq!(session.offered(1500), None);
    assert_eq!(session.coefficient(), price(7));
}
