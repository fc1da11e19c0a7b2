//! `cocoon status`: what the network on this machine does right now.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use units::NanoTon;

use crate::http;
use crate::instance::{Ports, loopback};
use crate::role::Role;

/// A role on this machine that takes longer is reported as not answering.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Flags of `cocoon status`.
#[derive(Args)]
pub(crate) struct StatusArguments {
    /// Which instance to ask.
    #[arg(long, default_value_t = 0, value_name = "N")]
    instance: u16,

    /// Print JSON for programs instead of a table for people.
    #[arg(long)]
    json: bool,
}

/// Everything `--json` prints.
#[derive(Debug, Serialize)]
struct Status {
    roles: Vec<RoleStatus>,
    models: Vec<ModelStatus>,
}

#[derive(Debug, Serialize)]
struct RoleStatus {
    role: &'static str,
    address: String,
    /// `ready`, `starting`, or `down`.
    state: &'static str,
    /// What is missing until it is ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    /// What the role spent or earned since it started.
    balance: Option<Balance>,
    requests_in_flight: Option<u64>,
}

/// A metered sum. Without a chain nothing is paid yet: it is what would be settled.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Balance {
    /// `spent` at a client, `fees` at a proxy, `earned` at a worker.
    kind: &'static str,
    nanotons: u64,
}

#[derive(Debug, Serialize)]
struct ModelStatus {
    id: String,
    workers: usize,
    requests_in_flight: u64,
    /// Nanotons for a million prompt tokens at the cheapest worker.
    price_per_million_tokens: Option<u64>,
}

/// Asks the three roles of the instance and prints what they say.
///
/// # Errors
/// If the instance number is out of range. A role that does not answer is a line, not an error.
pub(crate) fn run(arguments: &StatusArguments) -> Result<()> {
    let ports = Ports::of_instance(arguments.instance)?;
    let status = crate::runtime()?.block_on(collect(&ports));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", table(&status));
    }
    Ok(())
}

async fn collect(ports: &Ports) -> Status {
    let (client, proxy, worker) = tokio::join!(
        role_status(Role::Client, ports.client_http),
        role_status(Role::Proxy, ports.proxy_http),
        role_status(Role::Worker, ports.worker_http),
    );
    let client_address = loopback(ports.client_http).to_string();
    let list = http::get_json(&client_address, "/v1/models", ANSWER_DEADLINE).await.unwrap_or(Value::Null);
    let models = model_statuses(&list, client.1.as_ref());
    Status { roles: vec![client.0, proxy.0, worker.0], models }
}

/// A role's line, and its statistics when it answered.
async fn role_status(role: Role, port: u16) -> (RoleStatus, Option<Value>) {
    let address = loopback(port).to_string();
    let readiness = http::get(&address, "/readyz", ANSWER_DEADLINE).await;
    let stats = http::get_json(&address, "/jsonstats", ANSWER_DEADLINE).await.ok();
    let (state, missing) = match &readiness {
        Ok((status, _body)) if status.is_success() => ("ready", Vec::new()),
        Ok((_status, body)) => ("starting", missing(body)),
        Err(_no_answer) => ("down", Vec::new()),
    };
    let balance = stats.as_ref().and_then(|stats| balance(role, stats));
    let requests_in_flight =
        stats.as_ref().and_then(|stats| stats.pointer("/status/requests_in_flight")?.as_u64());
    (RoleStatus { role: role.name(), address, state, missing, balance, requests_in_flight }, stats)
}

/// Adjusted tokens of all counterparts, at the price that is theirs.
fn balance(role: Role, stats: &Value) -> Option<Balance> {
    let price = |name: &str| stats.pointer(&format!("/root_contract_config/{name}"))?.as_u64();
    let (kind, list, member, price) = match role {
        Role::Client => ("spent", "proxies", "tokens_used_proxy_max", price("price_per_token")?),
        Role::Worker => ("earned", "proxies", "earned_tokens_max_known", price("worker_fee_per_token")?),
        Role::Proxy => {
            let fee = price("price_per_token")?.checked_sub(price("worker_fee_per_token")?)?;
            ("fees", "clients", "used_tokens", fee)
        }
    };
    let entries = stats.get(list)?.as_array()?;
    let tokens: u64 = entries.iter().filter_map(|entry| entry.get(member)?.as_u64()).sum();
    Some(Balance { kind, nanotons: tokens.checked_mul(price)? })
}

/// The `missing` list of a role that is not ready.
pub(crate) fn missing(body: &[u8]) -> Vec<String> {
    let parsed: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let list = parsed.get("missing").and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn model_statuses(list: &Value, client_stats: Option<&Value>) -> Vec<ModelStatus> {
    let base_price = client_stats.and_then(|stats| {
        let config = stats.get("root_contract_config")?;
        let price = config.get("price_per_token")?.as_u64()?;
        let multiplier = config.get("prompt_tokens_price_multiplier")?.as_u64()?;
        // Per million tokens: price × 10^6 × multiplier / 10^4.
        price.checked_mul(100)?.checked_mul(multiplier)
    });
    let entries = list.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
    let status_of = |entry: &Value| {
        let workers = entry.get("workers").and_then(Value::as_array).cloned().unwrap_or_default();
        let cheapest = workers.iter().filter_map(|worker| worker.get("coefficient")?.as_u64()).min();
        let running = workers.iter().filter_map(|worker| worker.get("running_requests")?.as_u64());
        let price = base_price
            .zip(cheapest)
            .and_then(|(price, coefficient)| Some(price.checked_mul(coefficient)? / 1000));
        Some(ModelStatus {
            id: entry.get("id")?.as_str()?.to_owned(),
            workers: workers.len(),
            requests_in_flight: running.sum(),
            price_per_million_tokens: price,
        })
    };
    entries.iter().filter_map(status_of).collect()
}

fn table(status: &Status) -> String {
    let mut text = String::new();
    let tons =
        |amount: Option<u64>| amount.map_or("-".to_owned(), |nanotons| NanoTon::new(nanotons).to_string());
    let count = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let _infallible =
        writeln!(text, "{:<8} {:<22} {:<9} {:<27} in flight", "role", "http", "state", "balance");
    for role in &status.roles {
        let _infallible = writeln!(
            text,
            "{:<8} {:<22} {:<9} {:<27} {}",
            role.role,
            role.address,
            role.state,
            role.balance
                .as_ref()
                .map_or("-".to_owned(), |sum| { format!("{} {}", sum.kind, NanoTon::new(sum.nanotons)) }),
            count(role.requests_in_flight)
        );
        for missing in &role.missing {
            let _infallible = writeln!(text, "         waits for {missing}");
        }
    }
    if status.models.is_empty() {
        text.push_str("\nno model has a live worker\n");
        return text;
    }
    let _infallible =
        writeln!(text, "\n{:<32} {:>7} {:>10}  price per million tokens", "model", "workers", "in flight");
    for model in &status.models {
        let price = tons(model.price_per_million_tokens);
        let _infallible =
            writeln!(text, "{:<32} {:>7} {:>10}  {price}", model.id, model.workers, model.requests_in_flight);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_price_is_that_of_the_cheapest_worker() {
        let list = json!({"data": [{"id": "m", "workers": [
            {"coefficient": 1500, "running_requests": 2, "max_running_requests": 8},
            {"coefficient": 1000, "running_requests": 1, "max_running_requests": 8}]}]});
        let stats =
            json!({"root_contract_config": {"price_per_token": 20, "prompt_tokens_price_multiplier": 10000}});
        let models = model_statuses(&list, Some(&stats));
        assert_eq!(models.len(), 1);
        assert_eq!(models[0].price_per_million_tokens, Some(20_000_000));
        assert_eq!((models[0].workers, models[0].requests_in_flight), (2, 3));
    }

    #[test]
    fn balances_of_the_three_roles_add_up() {
        let prices = json!({"price_per_token": 20, "worker_fee_per_token": 18});
        let client = json!({"root_contract_config": prices, "proxies": [
            {"tokens_used_proxy_max": 100}, {"tokens_used_proxy_max": 29}]});
        let proxy = json!({"root_contract_config": prices, "clients": [{"used_tokens": 129}]});
        let worker = json!({"root_contract_config": prices, "proxies": [{"earned_tokens_max_known": 129}]});
        let nanotons = |role, stats| balance(role, stats).unwrap().nanotons;
        let (spent, earned) = (nanotons(Role::Client, &client), nanotons(Role::Worker, &worker));
        assert_eq!(spent, 2580);
        assert_eq!(spent, earned + nanotons(Role::Proxy, &proxy));
        assert_eq!(balance(Role::Client, &json!({})), None);
    }

    #[test]
    fn what_nobody_said_is_not_invented() {
        let list = json!({"data": [{"id": "m"}]});
        let models = model_statuses(&list, None);
        assert_eq!(models[0].price_per_million_tokens, None);
        assert!(model_statuses(&Value::Null, None).is_empty());
        assert!(missing(b"not json").is_empty());
        assert_eq!(missing(br#"{"missing":["a worker"]}"#), ["a worker"]);
    }
}
