//! What a root contract says, for people and programs.

use anyhow::Result;
use chain::RootWatch;
use serde_json::json;
use ton::{Address, RootConfig};

use crate::on_chain::Chain;

/// Prints a root contract's state.
///
/// # Errors
/// If the chain does not answer, or there is no root contract.
pub(super) async fn run(chain: &Chain, root: Address, is_json: bool) -> Result<()> {
    let mut watch = RootWatch::new(root);
    watch.look(&chain.provider).await?;
    if let Some(config) = watch.known() {
        match is_json {
            true => println!("{}", as_json(chain, &root, config)),
            false => print(chain, &root, config),
        }
    }
    Ok(())
}

fn print(chain: &Chain, root: &Address, config: &RootConfig) {
    let params = &config.params;
    println!("root             {} on {}", chain.text(root, true), chain.network);
    println!("owner            {}", chain.text(&config.owner, false));
    println!("version          {}, terms {}", config.version, params.params_version);
    println!(
        "prices           clients pay {} per token, workers get {}",
        params.price_per_token, params.worker_fee_per_token
    );
    let multipliers = params.multipliers;
    let times = |multiplier: units::Multiplier| f64::from(multiplier.get()) / 10_000.0;
    println!(
        "multipliers      prompt {}, cached {}, completion {}, reasoning {}",
        times(multipliers.prompt),
        times(multipliers.cached),
        times(multipliers.completion),
        times(multipliers.reasoning)
    );
    println!(
        "delays           proxies close after {} s, clients after {} s",
        params.proxy_delay_before_close.get(),
        params.client_delay_before_close.get()
    );
    println!("stakes           proxies {}, clients {}", params.min_proxy_stake, params.min_client_stake);
    let listed = |title: &str, lines: Vec<String>| match lines.is_empty() {
        true => println!("{title:16} none"),
        false => lines.iter().enumerate().for_each(|(at, line)| {
            println!("{:16} {line}", if at == 0 { title } else { "" });
        }),
    };
    let proxies = config.registered_proxies.iter();
    listed("proxies", proxies.map(|proxy| format!("{}: {}", proxy.seqno, proxy.to_text())).collect());
    listed("proxy images", config.proxy_hashes.iter().map(ToString::to_string).collect());
    listed("worker images", config.worker_hashes.iter().map(ToString::to_string).collect());
    listed("models", config.model_hashes.iter().map(ToString::to_string).collect());
}

fn as_json(chain: &Chain, root: &Address, config: &RootConfig) -> serde_json::Value {
    let params = &config.params;
    let proxies = config.registered_proxies.iter();
    let proxies = proxies.map(|proxy| {
        json!({ "number": proxy.seqno, "workers": proxy.workers.to_string(), "clients": proxy.clients.to_string() })
    });
    json!({
        "root": chain.text(root, true),
        "owner": chain.text(&config.owner, false),
        "version": config.version.get(),
        "params_version": params.params_version,
        "unique_id": params.unique_id,
        "is_test": params.is_test,
        "price_per_token": params.price_per_token.get(),
        "worker_fee_per_token": params.worker_fee_per_token.get(),
        "multipliers": {
            "prompt": params.multipliers.prompt.get(),
            "cached": params.multipliers.cached.get(),
            "completion": params.multipliers.completion.get(),
            "reasoning": params.multipliers.reasoning.get(),
        },
        "proxy_delay_before_close": params.proxy_delay_before_close.get(),
        "client_delay_before_close": params.client_delay_before_close.get(),
        "min_proxy_stake": params.min_proxy_stake.get(),
        "min_client_stake": params.min_client_stake.get(),
        "proxies": proxies.collect::<Vec<_>>(),
        "proxy_hashes": config.proxy_hashes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "worker_hashes": config.worker_hashes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "model_hashes": config.model_hashes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
