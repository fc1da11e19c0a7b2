//! The proxy's local HTTP port: health, statistics, metrics, and the operator's switches.

use std::sync::Arc;

use admin::{AdminConfig, Token};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::post;
use ledger::Ledger;
use node::WalletNumbers;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use ton::Address;
use ton::states::{ContractState, ProxyData};
use units::{ImageHash, NanoTon};

use crate::core::{ClientSnapshot, ConnectionSnapshot, Now, WorkerSnapshot};
use crate::network::Party;
use crate::settlement::Settlement;
use crate::shell::Shell;

/// What every contract counts as holding where there is no chain: as in the deployed software, 100 TON.
const PSEUDO_NANOTONS: u64 = 100_000_000_000;

/// Rows of each list on the statistics page; the totals beside them count everybody.
const ROWS_MAX: usize = 1000;

/// What the port shows and changes.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) shell: Arc<Shell>,
    pub(crate) party: Arc<Party>,
}

/// All routes of the port.
pub(crate) fn router(face: &Arc<Face>, token: Token) -> Router {
    let mut registry = Registry::with_prefix("cocoon_proxy");
    face.shell.stats.register(&mut registry);
    registry.register_collector(Box::new(Gauges(Arc::clone(&face.shell))));
    let (for_missing, for_stats) = (Arc::clone(face), Arc::clone(face));
    let pages = admin::router(AdminConfig {
        missing: Box::new(move || for_missing.missing()),
        stats: Box::new(move || for_stats.stats()),
        registry,
    });
    let actions = Router::new()
        .route("/request/enable", post(enable))
        .route("/request/disable", post(disable))
        .route("/request/charge", post(charge))
        .route("/request/payout", post(payout))
        .route("/request/withdraw", post(withdraw))
        .route("/request/close", post(close))
        .with_state(Arc::clone(face));
    pages.merge(admin::guard(token, actions))
}

async fn enable(State(face): State<Arc<Face>>) -> String {
    face.switch(true)
}

async fn disable(State(face): State<Arc<Face>>) -> String {
    face.switch(false)
}

/// Whom an operator wants charged: an owner's address in any text form. A mistyped name must not mean everybody.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Charged {
    client: Option<String>,
}

/// Whom an operator wants paid out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PaidOut {
    worker: Option<String>,
}

/// What takes no parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {}

/// What an action answers.
type Answer = (StatusCode, String);

async fn charge(State(face): State<Arc<Face>>, Query(whose): Query<Charged>) -> Answer {
    face.demand("client", whose.client, ledger::Party::Client)
}

async fn payout(State(face): State<Arc<Face>>, Query(whose): Query<PaidOut>) -> Answer {
    face.demand("worker", whose.worker, ledger::Party::Worker)
}

async fn withdraw(State(face): State<Arc<Face>>, Query(Plain {}): Query<Plain>) -> Answer {
    face.order("withdraw", |settlement, _, now| settlement.demand_withdrawal(now))
}

async fn close(State(face): State<Arc<Face>>, Query(Plain {}): Query<Plain>) -> Answer {
    face.order("close", |settlement, books, _| settlement.begin_close(books))
}

impl Face {
    /// Has the dues of one owner settled, or those of all who have any.
    fn demand(
        &self,
        side: &'static str,
        owner: Option<String>,
        party: fn(Address) -> ledger::Party,
    ) -> Answer {
        let owner = owner.map(|text| Address::parse(&text).map(|(address, _flags)| address)).transpose();
        let owner = match owner {
            Ok(owner) => owner,
            Err(error) => {
                return (StatusCode::BAD_REQUEST, json!({ "error": error.to_string() }).to_string());
            }
        };
        self.order(side, move |settlement, books, _| match owner {
            Some(owner) => settlement.demand(party(owner)),
            None => settlement.demand_all(books, |found| found == party(found.owner())),
        })
    }

    fn order(&self, what: &'static str, order: impl FnOnce(&mut Settlement, &Ledger, Now)) -> Answer {
        let mut is_taken = false;
        self.shell.feed(|core, now| {
            core.feed_chain(now, |settlement, books| {
                order(settlement, books, now);
                is_taken = true;
            });
        });
        if !is_taken {
            let error = "this proxy follows no chain: set the section chain of its configuration";
            return (StatusCode::CONFLICT, json!({ "error": error }).to_string());
        }
        tracing::info!(what, "ordered by the operator");
        (StatusCode::OK, json!({ "ordered": what }).to_string())
    }

    fn switch(&self, enabled: bool) -> String {
        self.shell.feed(|core, _now| core.set_enabled(enabled));
        tracing::info!(enabled, "switched by the operator");
        json!({ "enabled": enabled }).to_string()
    }

    /// What keeps the proxy from running requests, one sentence each.
    pub(crate) fn missing(&self) -> Vec<String> {
        let (takes_part, records, has_worker, unready) = self.shell.look(|core| {
            (core.takes_part(), core.records_charges(), core.has_enabled_worker(), core.unready())
        });
        let of_chain = unready.map(|unready| unready.to_string());
        let reasons = [
            (takes_part || of_chain.is_some(), "the proxy is disabled or shuts down"),
            (records, "charges cannot be recorded: the disk of the state folder does not take them"),
            (has_worker, "no enabled worker is connected"),
        ];
        let reasons = reasons.iter().filter(|(holds, _)| !holds).map(|(_, reason)| (*reason).to_owned());
        of_chain.into_iter().chain(self.money_missing()).chain(reasons).collect()
    }

    /// What keeps money from moving, beside what keeps the present contract from serving.
    fn money_missing(&self) -> Vec<String> {
        let Some(on_chain) = &self.party.on_chain else { return Vec::new() };
        let closing = on_chain.closing().into_iter().filter_map(|closing| {
            let address = closing.contract.to_wire_text(self.party.is_testnet);
            Some(format!("the proxy contract {address} cannot be closed yet: {}", closing.trouble()?))
        });
        on_chain.hold().map(|hold| hold.to_string()).into_iter().chain(closing).collect()
    }

    /// The body of `/jsonstats`: the members of deployed proxies, and a few beside them.
    fn stats(&self) -> Value {
        let now = tokio::time::Instant::now().into_std();
        let Party { root_address, owner, wallet, is_testnet, check_worker_hashes, root: source, .. } =
            &*self.party;
        let text = |address: &ton::Address| address.to_wire_text(*is_testnet);
        // Everything is copied out under the lock; the text is made after it.
        let (snapshot, root, contract, takes_part, running) = self.shell.look(|core| {
            let terms = core.terms();
            let contract = terms.contract_text().to_owned();
            (core.snapshot(ROWS_MAX), terms.root().clone(), contract, core.takes_part(), core.running_len())
        });
        let (wallet_stats, own, old_instances) = self.chain_stats();
        let connection = |connection: &ConnectionSnapshot| {
            let rates = self.shell.stats.worker_rates(connection.link, now);
            let image_hash = connection.image_hash.unwrap_or(ImageHash::new([0; 32]));
            json!({
                "owner_address": connection.owner,
                "model": connection.model.full(),
                "worker_hash": image_hash.to_string(),
                "coefficient": connection.coefficient.get(),
                "running_queries": connection.running,
                "queries_10m": rates.queries,
                "queries_time_10m": rates.time,
                "worker_queries_time_10m": rates.time,
                "queries_success_10m": rates.success,
                "enabled": connection.enabled,
            })
        };
        json!({
            "status": {
                "wallet_balance": wallet_stats.balance,
                // Nobody attests this process yet, so nothing contradicts its image.
                "actual_image_hash": true,
                "ton_last_synced_at": source.read_at(),
                "enabled": takes_part,
                "git_commit": env!("CARGO_PKG_VERSION"),
                "git_commit_data": "",
                "requests_in_flight": running,
                "books_durable": snapshot.is_durable,
            },
            "stats": self.shell.stats.json(now),
            "wallet": {
                "address": text(wallet),
                "balance": wallet_stats.balance,
                "seqno": wallet_stats.seqno,
                "pending_transactions_cnt": wallet_stats.open,
                "active_transactions_cnt": wallet_stats.open,
            },
            "localconfig": {
                "root_address": text(root_address),
                "owner_address": text(owner),
                "check_worker_hashes": check_worker_hashes,
            },
            "smartcontract": {
                "address": contract,
                "params_version": root.params.params_version,
                "balance": own.total,
                "ready_for_withdraw": own.earned,
                "stake": own.stake,
            },
            "old_instances": old_instances,
            "root_contract_config": admin::root_contract_config(&root, *is_testnet),
            "workers": snapshot.workers.iter().map(worker_stats).collect::<Vec<_>>(),
            "worker_connections": snapshot.connections.iter().map(connection).collect::<Vec<_>>(),
            "clients": snapshot.clients.iter().map(client_stats).collect::<Vec<_>>(),
            "totals": {
                "tokens": snapshot.totals.tokens,
                "held_tokens": snapshot.totals.held,
                "client_charges": snapshot.totals.charged,
                "worker_earnings": snapshot.totals.earned,
                "proxy_fees": snapshot.totals.fees,
            },
        })
    }
}

/// The proxy contract, in nanotons.
struct OwnStats {
    total: u64,
    earned: u64,
    stake: u64,
}

impl OwnStats {
    fn of(own: &ProxyData) -> Self {
        let [earned, stake, pool] = [own.balance, own.stake, own.pool].map(NanoTon::get);
        Self { total: earned.saturating_add(stake).saturating_add(pool), earned, stake }
    }
}

impl Face {
    /// What the chain says, or the play money where there is none.
    fn chain_stats(&self) -> (WalletNumbers, OwnStats, Vec<Value>) {
        let Some(on_chain) = &self.party.on_chain else {
            let wallet = WalletNumbers::of(None);
            return (wallet, OwnStats { total: PSEUDO_NANOTONS, earned: 0, stake: 0 }, Vec::new());
        };
        let wallet = WalletNumbers::of(Some(&on_chain.wallet.view()));
        let own = self.shell.look(|core| core.settlement().and_then(Settlement::contract).map(OwnStats::of));
        let old = on_chain.closing().into_iter().map(|closing| {
            let trouble = closing.trouble().map(|trouble| trouble.to_string());
            closing.look(|settlement, _| {
                let own = settlement.contract();
                json!({
                    "sc_address": closing.contract.to_wire_text(self.party.is_testnet),
                    "state": own.map_or(0, |own| own.state.number()),
                    "running_message": settlement.orders_len() > 0,
                    "close_at": own.map_or(0, |own| own.unlock_at),
                    "trouble": trouble,
                })
            })
        });
        (wallet, own.unwrap_or(OwnStats { total: 0, earned: 0, stake: 0 }), old.collect())
    }
}

fn worker_stats(worker: &WorkerSnapshot) -> Value {
    json!({
        "owner_address": worker.owner,
        "sc_address": worker.contract,
        "earned_tokens": worker.earned,
        // Nothing is paid out where there is no chain.
        "unpayed_tokens": worker.earned.saturating_sub(worker.paid),
        "paying_now": worker.is_paying,
        "running_queries": worker.running,
    })
}

fn client_stats(client: &ClientSnapshot) -> Value {
    let limits = &client.limits;
    json!({
        "owner_address": client.owner,
        "sc_address": client.contract,
        "used_tokens": limits.used,
        // Nothing is charged where there is no chain.
        "tokens_to_charge": limits.used.saturating_sub(client.charged),
        "available_tokens": limits.available,
        "reserved_tokens": limits.reserved,
        "running_queries": limits.running,
        "closing": client.state == ContractState::Closing,
        "closed": client.state == ContractState::Closed,
    })
}

/// States that are read when somebody asks.
#[derive(Debug)]
struct Gauges(Arc<Shell>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let ((clients, workers), running) = self.0.look(|core| (core.links_len(), core.running_len()));
        for (name, help, value) in [
            ("client_links", "Links of clients", clients),
            ("worker_links", "Links of workers", workers),
            ("requests_in_flight", "Requests that run", running),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}
