//! The worker's local HTTP port: health, statistics, metrics, and the operator's switches.

use std::fmt;
use std::sync::Arc;

use admin::{AdminConfig, Token};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use node::WalletNumbers;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use ton::Address;
use units::{AdjustedTokens, Coefficient, ModelName};

use crate::link::Common;
use crate::model::Model;
use crate::settlement::{Cashier, Earnings, Stand};

/// What the port shows and changes.
pub(crate) struct Face {
    pub(crate) common: Arc<Common>,
    pub(crate) models: Vec<Arc<Model>>,
    /// The node wallet.
    pub(crate) wallet: Address,
    /// Cashes in what was earned, where there is a chain.
    pub(crate) cashier: Option<Arc<Cashier>>,
}

/// All routes of the port.
pub(crate) fn router(face: &Arc<Face>, token: Token) -> Router {
    let mut registry = Registry::with_prefix("cocoon_worker");
    face.common.stats.register(&mut registry);
    registry.register_collector(Box::new(ModelGauges { models: face.models.clone() }));
    let (for_missing, for_stats) = (Arc::clone(face), Arc::clone(face));
    let pages = admin::router(AdminConfig {
        missing: Box::new(move || for_missing.missing()),
        stats: Box::new(move || for_stats.stats()),
        registry,
    });
    let actions = Router::new()
        .route("/request/enable", post(enable))
        .route("/request/disable", post(disable))
        .route("/request/change_coefficient", post(change_coefficient))
        .route("/request/payout", post(payout))
        .with_state(Arc::clone(face));
    pages.merge(admin::guard(token, actions))
}

impl Face {
    /// What keeps the worker from answering requests, one sentence each.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for model in &self.models {
            let (name, state) = (&model.name, model.state());
            if state.is_draining {
                missing.push(format!("{name}: the worker is shutting down"));
            } else if !state.is_enabled {
                missing.push(format!("{name}: disabled by the operator"));
            }
            if !state.is_engine_up {
                missing.push(format!("{name}: the engine does not answer"));
            }
            if model.ready_links() == 0 {
                missing.push(format!("{name}: not linked to any proxy"));
            }
        }
        missing
    }

    /// The body of `/jsonstats`: the members of deployed workers, and `models` beside them. Where those have one model,
    /// it is the first.
    fn stats(&self) -> Value {
        let Common { party, root_source, network, checks_proxy_hashes, .. } = &*self.common;
        let network = network.borrow().clone();
        let config = &network.config;
        let text = |address: &Address| address.to_wire_text(party.is_testnet);
        let accounts = self.common.accounts.snapshot();
        let earnings = self.cashier.as_ref().map_or_else(Vec::new, |cashier| cashier.earnings());
        let earned_at = |worker: &Address| earnings.iter().find(|earnings| earnings.worker == *worker);
        let view = self.cashier.as_ref().map(|cashier| cashier.wallet().view());
        let wallet = WalletNumbers::of(view.as_ref());
        let proxies: Vec<Value> = accounts
            .iter()
            .map(|account| {
                let (contracts, totals) = (account.contracts(), account.totals());
                let on_chain = earned_at(&contracts.worker);
                json!({
                    "sc_inited": self.cashier.is_none() || on_chain.is_some_and(|earnings| earnings.stand == Stand::Open),
                    "proxy_sc_address": text(&contracts.proxy),
                    "proxy_public_key": contracts.proxy_key.to_string().to_uppercase(),
                    "sc_address": text(&contracts.worker),
                    "earned_tokens_committed_to_blockchain": totals.signed,
                    "earned_tokens_committed_to_proxy_db": totals.stored,
                    "earned_tokens_max_known": totals.earned,
                    "cached_out_tokens": on_chain.map_or(AdjustedTokens::ZERO, |earnings| earnings.paid),
                    "expected_cached_out_tokens": on_chain.map_or(AdjustedTokens::ZERO, |earnings| earnings.paid),
                    "running_request": on_chain.is_some_and(|earnings| earnings.is_busy),
                    "params_version": contracts.params_version,
                })
            })
            .collect();
        let models: Vec<Value> = self.models.iter().map(|model| model_stats(model)).collect();
        let requests: usize = self.models.iter().map(|model| model.active_requests()).sum();
        let is_enabled = self.models.iter().any(|model| !model.state().is_disabled());
        let are_models_listed =
            config.params.is_test || self.models.iter().all(|model| config.allows_model(&model.name));
        let first = self.models.first();
        json!({
            "status": {
                "wallet_balance": wallet.balance,
                // Nobody attests this process yet, so nothing contradicts its image.
                "actual_image_hash": config.params.is_test,
                "actual_model": are_models_listed,
                "ton_last_synced_at": root_source.read_at(),
                "enabled": is_enabled,
                "git_commit": env!("CARGO_PKG_VERSION"),
                "git_commit_data": "",
                "requests_in_flight": requests,
            },
            "stats": self.common.stats.json(),
            "wallet": {
                "address": text(&self.wallet),
                "balance": wallet.balance,
                "seqno": wallet.seqno,
                "pending_transactions_cnt": wallet.open,
                "active_transactions_cnt": 0,
                "trouble": view.as_ref().and_then(|view| view.hold).map(|hold| hold.to_string()),
            },
            "earnings": earnings.iter().map(|earnings| earnings_stats(earnings, &text)).collect::<Vec<_>>(),
            "localconfig": {
                "root_address": text(&party.root),
                "owner_address": text(&party.owner),
                "model": first.map(|model| model.name.full()),
                "coefficient": first.map(|model| model.state().coefficient),
                "check_proxy_hash": checks_proxy_hashes,
            },
            "root_contract_config": admin::root_contract_config(config, party.is_testnet),
            "proxies": proxies,
            "models": models,
        })
    }

    /// The models that an action is about: the named one, or all.
    fn chosen(&self, name: Option<&str>) -> Result<Vec<&Arc<Model>>, Refusal> {
        let is_chosen =
            |model: &ModelName| name.is_none_or(|name| name == model.base() || name == model.full());
        let chosen: Vec<&Arc<Model>> = self.models.iter().filter(|model| is_chosen(&model.name)).collect();
        if chosen.is_empty() { Err(Refusal("this worker offers no such model")) } else { Ok(chosen) }
    }

    /// Every action answers with the state that it leads to.
    fn model_states(&self) -> Response {
        let models: Vec<Value> = self.models.iter().map(|model| model_stats(model)).collect();
        Json(json!({ "models": models })).into_response()
    }
}

fn earnings_stats(earnings: &Earnings, text: &impl Fn(&Address) -> String) -> Value {
    json!({
        "proxy_sc_address": text(&earnings.proxy),
        "sc_address": text(&earnings.worker),
        "params_version": earnings.params_version,
        "contract": earnings.stand.name(),
        "signed_tokens": earnings.signed,
        "paid_tokens": earnings.paid,
        "unpaid_nanotons": earnings.unpaid,
        "paid_out_nanotons": earnings.paid_out,
        "payout_under_way": earnings.is_busy,
        "failure": earnings.failure.map(|failure| failure.to_string()),
    })
}

fn model_stats(model: &Model) -> Value {
    let state = model.state();
    json!({
        "name": model.name.full(),
        "coefficient": state.coefficient,
        "max_active_requests": model.max_active_requests,
        "active_requests": model.active_requests(),
        "enabled": state.is_enabled,
        "engine_up": state.is_engine_up,
        "proxy_connections": model.ready_links(),
    })
}

/// `?model=NAME`, full or base; without it, all models.
#[derive(Deserialize)]
struct ModelQuery {
    model: Option<String>,
}

/// `?coefficient=1.5`, and as [`ModelQuery`].
#[derive(Deserialize)]
struct CoefficientQuery {
    coefficient: Option<String>,
    model: Option<String>,
}

/// An action that names something impossible.
struct Refusal(&'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({ "error": self.0 }))).into_response()
    }
}

async fn enable(State(face): State<Arc<Face>>, Query(query): Query<ModelQuery>) -> Result<Response, Refusal> {
    switch(&face, query.model.as_deref(), true)
}

async fn disable(
    State(face): State<Arc<Face>>,
    Query(query): Query<ModelQuery>,
) -> Result<Response, Refusal> {
    switch(&face, query.model.as_deref(), false)
}

fn switch(face: &Face, model: Option<&str>, is_enabled: bool) -> Result<Response, Refusal> {
    for model in face.chosen(model)? {
        model.change(|state| state.is_enabled = is_enabled);
        tracing::info!(model = %model.name, is_enabled, "switched by the operator");
    }
    Ok(face.model_states())
}

async fn change_coefficient(
    State(face): State<Arc<Face>>,
    Query(query): Query<CoefficientQuery>,
) -> Result<Response, Refusal> {
    let coefficient = query.coefficient.as_deref().and_then(thousandths);
    let coefficient =
        coefficient.ok_or(Refusal("coefficient must be a number from 0 to 999999.999, such as 1.5"))?;
    for model in face.chosen(query.model.as_deref())? {
        model.change(|state| state.coefficient = coefficient);
        tracing::info!(model = %model.name, coefficient = coefficient.get(), "price changed by the operator");
    }
    Ok(face.model_states())
}

/// `?proxy=ADDRESS`, the proxy contract; without it, all.
#[derive(Deserialize)]
struct ProxyQuery {
    proxy: Option<String>,
}

async fn payout(State(face): State<Arc<Face>>, Query(query): Query<ProxyQuery>) -> Result<Response, Refusal> {
    let cashier = face.cashier.as_ref().ok_or(Refusal("this worker has no chain in its configuration"))?;
    let proxy = query.proxy.as_deref().map(|text| Address::parse(text).map(|(address, _form)| address));
    let proxy =
        proxy.transpose().map_err(|_no_address| Refusal("proxy must be the address of its contract"))?;
    let count = cashier.cash_out(proxy.as_ref());
    tracing::info!(count, "payouts asked for by the operator");
    Ok(Json(json!({ "payouts": count })).into_response())
}

/// `1.5` is 1500. At most three decimals, so that nothing is rounded.
fn thousandths(text: &str) -> Option<Coefficient> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let thousandths: i64 = format!("{whole}{fraction:0<3}").parse().ok()?;
    Coefficient::new(thousandths).ok()
}

/// The state of each model for Prometheus, read when it asks.
struct ModelGauges {
    models: Vec<Arc<Model>>,
}

impl fmt::Debug for ModelGauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelGauges").finish_non_exhaustive()
    }
}

impl Collector for ModelGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        type Value = fn(&Model) -> i64;
        let gauges: [(&str, &str, Value); 4] = [
            ("requests_in_flight", "Requests that run now", |model| {
                i64::try_from(model.active_requests()).unwrap_or(i64::MAX)
            }),
            ("requests_in_flight_max", "Requests that may run at once", |model| {
                model.max_active_requests.into()
            }),
            ("proxy_links", "Links to proxies that are ready", |model| {
                i64::try_from(model.ready_links()).unwrap_or(i64::MAX)
            }),
            ("engine_up", "1 while the engine answers", |model| model.state().is_engine_up.into()),
        ];
        for (name, help, value) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for model in &self.models {
                let labels = [("model", model.name.base())];
                ConstGauge::new(value(model)).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_are_read_exactly() {
        let read = |text| thousandths(text).map(Coefficient::get);
        assert_eq!(read("1.5"), Some(1500));
        assert_eq!(read("2"), Some(2000));
        assert_eq!(read("0.001"), Some(1));
        assert_eq!(read("999999.999"), Some(999_999_999));
        for refused in ["", ".5", "1.", "1.0001", "-1", "+1", "1e3", "1000000", "99999999999999999999", "NaN"]
        {
            assert_eq!(read(refused), None, "{refused:?}");
        }
    }
}
