//! The root configuration as every role's `/jsonstats` shows it.

use serde_json::{Value, json};
use ton::RootConfig;

/// The member `root_contract_config`, with the names of the deployed network: addresses as text for
/// `is_testnet`, hashes in upper-case hexadecimal, amounts in nanotons, multipliers in ten-thousandths.
#[must_use]
pub fn root_contract_config(root: &RootConfig, is_testnet: bool) -> Value {
    let upper = |hash: [u8; 32]| hex::encode_upper(hash);
    let proxies: Vec<Value> = root
        .registered_proxies
        .iter()
        .map(|proxy| {
            json!({
                "seqno": proxy.seqno,
                "address_for_clients": format!("[{}]", proxy.clients),
                "address_for_workers": format!("[{}]", proxy.workers),
            })
        })
        .collect();
    let params = &root.params;
    json!({
        "owner_address": root.owner.to_wire_text(is_testnet),
        "proxy_hashes": root.proxy_hashes.iter().map(|hash| upper(*hash.as_bytes())).collect::<Vec<_>>(),
        "registered_proxies": proxies,
        "last_proxy_seqno": root.last_proxy_seqno,
        "worker_hashes": root.worker_hashes.iter().map(|hash| upper(*hash.as_bytes())).collect::<Vec<_>>(),
        "model_hashes": root.model_hashes.iter().map(|hash| upper(*hash.as_bytes())).collect::<Vec<_>>(),
        "version": root.version,
        "struct_version": params.struct_version.number(),
        "params_version": params.params_version,
        "unique_id": params.unique_id,
        "is_test": params.is_test,
        "price_per_token": params.price_per_token,
        "worker_fee_per_token": params.worker_fee_per_token,
        "prompt_tokens_price_multiplier": params.multipliers.prompt,
        "cached_tokens_price_multiplier": params.multipliers.cached,
        "completion_tokens_price_multiplier": params.multipliers.completion,
        "reasoning_tokens_price_multiplier": params.multipliers.reasoning,
        "proxy_delay_before_close": params.proxy_delay_before_close.get(),
        "client_delay_before_close": params.client_delay_before_close.get(),
        "proxy_min_stake": params.min_proxy_stake,
        "client_min_stake": params.min_client_stake,
        "proxy_code_hash": upper(params.proxy_code.hash()),
        "worker_code_hash": upper(params.worker_code.hash()),
        "client_code_hash": upper(params.client_code.hash()),
    })
}

#[cfg(test)]
mod tests {
    use ton::{Address, RegisteredProxy};
    use units::ImageHash;

    use super::*;

    #[test]
    fn members_have_the_names_and_forms_of_the_deployed_network() {
        let mut root = RootConfig::pseudo(Address::new(0, [1; 32]));
        root.proxy_hashes.insert(ImageHash::new([0xab; 32]));
        let text = "127.0.0.1:11001 127.0.0.1:11002";
        root.registered_proxies.push(RegisteredProxy::from_text(1, text).unwrap());
        let json = root_contract_config(&root, false);
        assert_eq!(json["proxy_hashes"], json!(["AB".repeat(32)]));
        assert_eq!(
            json["registered_proxies"],
            json!([{
                "seqno": 1,
                "address_for_clients": "[127.0.0.1:11002]",
                "address_for_workers": "[127.0.0.1:11001]",
            }])
        );
        assert!(json["owner_address"].as_str().unwrap().starts_with("UQ"));
        assert_eq!(json["unique_id"], 13);
        assert_eq!(json["prompt_tokens_price_multiplier"], 10_000);
        assert_eq!(json["client_min_stake"], 1_000_000_000_u64);
        assert_eq!(json["proxy_delay_before_close"], 600);
    }
}
