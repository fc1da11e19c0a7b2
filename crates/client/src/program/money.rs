//! The owner's money over HTTP: what he asks for, and what his contracts hold.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use ton::Address;
use transport::clock::unix_now;
use units::NanoTon;

use crate::settlement::{Asked, Duty, Ended, Glance, Plan, Purse, Stage, Wish};

/// What actions need.
#[derive(Clone)]
pub(super) struct Till {
    pub(super) purse: Arc<Purse>,
    /// The server of the chain, for whoever wants to look there.
    pub(super) chain: String,
    pub(super) is_testnet: bool,
}

/// What an action is to do, beside its name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asking {
    /// One proxy contract, in any text form; without it, all.
    proxy: Option<String>,
    /// What is to be paid in, in nanotons.
    nanotons: Option<u64>,
    /// Only say what it would do.
    #[serde(default)]
    dry_run: bool,
}

type Answer = (StatusCode, Json<Value>);
type Question = Result<Query<Asking>, QueryRejection>;

/// The actions, which have to be guarded.
pub(super) fn actions(till: Till) -> Router {
    Router::new()
        .route("/request/deposit", post(deposit))
        .route("/request/withdraw", post(withdraw))
        .route("/request/close", post(close))
        .with_state(till)
}

/// The owner wants more to be at a proxy than the policy puts there.
async fn deposit(State(till): State<Till>, question: Question) -> Answer {
    till.ask(question, |asking| match asking.nanotons {
        Some(nanotons) => Ok(Wish::Deposit(NanoTon::new(nanotons))),
        None => Err("say how much with nanotons=NUMBER"),
    })
    .await
}

/// The owner wants what is above the stakes of his contracts.
async fn withdraw(State(till): State<Till>, question: Question) -> Answer {
    till.ask(question, |asking| without_amount(asking, Wish::Withdraw)).await
}

/// The owner wants everything from his contracts.
async fn close(State(till): State<Till>, question: Question) -> Answer {
    till.ask(question, |asking| without_amount(asking, Wish::Close)).await
}

fn without_amount(asking: &Asking, wish: Wish) -> Result<Wish, &'static str> {
    match asking.nanotons {
        None => Ok(wish),
        Some(_) => Err("nanotons are for deposits only: this takes all there is"),
    }
}

fn refused(status: StatusCode, problem: impl ToString) -> Answer {
    (status, Json(json!({ "error": problem.to_string() })))
}

impl Till {
    async fn ask(&self, question: Question, wish: impl Fn(&Asking) -> Result<Wish, &'static str>) -> Answer {
        let Query(asking) = match question {
            Ok(asking) => asking,
            Err(rejection) => return refused(StatusCode::BAD_REQUEST, rejection),
        };
        let wish = match wish(&asking) {
            Ok(wish) => wish,
            Err(problem) => return refused(StatusCode::BAD_REQUEST, problem),
        };
        let proxy = match asking.proxy.as_deref().map(Address::parse).transpose() {
            Ok(proxy) => proxy.map(|(address, _flags)| address),
            Err(problem) => return refused(StatusCode::BAD_REQUEST, problem),
        };
        let network = match self.purse.network().await {
            Ok(network) => network.to_string(),
            Err(problem) => return refused(StatusCode::SERVICE_UNAVAILABLE, problem),
        };
        match self.purse.ask(wish, proxy.as_ref(), asking.dry_run, unix_now()) {
            Ok(asked) => {
                let contracts: Vec<Value> = asked.iter().map(|asked| self.answer(asked)).collect();
                (
                    StatusCode::OK,
                    Json(json!({ "network": network, "chain": self.chain, "contracts": contracts })),
                )
            }
            Err(unclear) => refused(StatusCode::CONFLICT, unclear),
        }
    }

    /// What is ordered, or why not.
    fn answer(&self, asked: &Asked) -> Value {
        let Asked { contract, proxy, outcome } = asked;
        json!({
            "sc_address": contract.to_wire_text(self.is_testnet),
            "proxy_sc_address": proxy.to_wire_text(self.is_testnet),
            "is_ordered": outcome.is_ok(),
            "problem": outcome.err().map(|refused| refused.to_string()),
            "plan": outcome.ok().map(|plan| plan_json(&plan)),
        })
    }
}

fn plan_json(plan: &Plan) -> Value {
    let Plan { pays_in, comes_back, attached, fees, wallet, delay_s } = plan;
    json!({
        "pays_in": pays_in,
        "comes_back": comes_back,
        "attached": attached,
        "fees": fees,
        "wallet": wallet,
        "delay_s": delay_s,
    })
}

/// What is in a client contract, connected to its proxy or not. Amounts are nanotons.
pub(super) fn contract_stats(glance: &Glance, text: &impl Fn(&Address) -> String) -> Value {
    let Glance { contract, proxy, view, last } = glance;
    let order = |duty: &Duty| json!({ "duty": duty.name(), "amount": duty.amount() });
    let ended = |Ended { duty, outcome }: &Ended| {
        let transaction = outcome.transaction();
        json!({
            "duty": duty.name(),
            "amount": duty.amount(),
            "outcome": outcome.to_string(),
            "transaction": transaction.map(|id| format!("{}:{}", id.lt, id.hash)),
        })
    };
    json!({
        "sc_address": text(contract),
        "proxy_sc_address": text(proxy),
        "stage": match view.stage {
            Stage::Unknown => "unknown",
            Stage::NotDeployed => "not deployed",
            Stage::Open => "open",
            Stage::Closing { .. } => "closing",
            Stage::Closed => "closed",
        },
        "unlock_at": match view.stage {
            Stage::Closing { unlock_at } => unlock_at,
            _ => None,
        },
        "balance": view.balance,
        "stake": view.stake,
        "used_tokens": view.used,
        "charged_tokens": view.tokens_used,
        "owed": view.owed,
        "left": view.left,
        "unspent_tokens": view.unspent,
        "missing_in_wallet": view.missing,
        "held": view.held,
        "failures": view.failures,
        "order": view.under_way.as_ref().map(order),
        "last_order": last.as_ref().map(ended),
    })
}
