//! The beginning of a network.

use anyhow::{Result, bail, ensure};
use chain::{Network, RootWatch};
use clap::Args;
use rand::Rng as _;
use ton::message::InternalMessage;
use ton::{Contract, ContractCode, Multipliers, Params, RootConfig, Seconds, StructVersion};
use units::{Multiplier, NanoTon};

use super::Sending;
use super::order::Terms;
use crate::on_chain::{AddressArgument, Chain, Transfer};

/// Flags of a new network.
#[derive(Args)]
pub(super) struct InitArguments {
    #[command(flatten)]
    terms: Terms,

    /// Who owns the network, if it is not the wallet that pays.
    #[arg(long, value_name = "ADDRESS")]
    owner: Option<AddressArgument>,

    /// Price of a prompt token in adjusted tokens.
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = multiplier)]
    prompt: Multiplier,

    /// Price of a prompt token that the engine had cached.
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = multiplier)]
    cached: Multiplier,

    /// Price of a token of an answer.
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = multiplier)]
    completion: Multiplier,

    /// Price of a token of reasoning.
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = multiplier)]
    reasoning: Multiplier,
}

/// What the contract keeps to pay for its storage, for years.
const DEPLOYMENT: NanoTon = NanoTon::new(500_000_000);

/// Reads a number with up to four decimals.
fn multiplier(text: &str) -> Result<Multiplier> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    ensure!(
        !fraction.is_empty()
            && fraction.len() <= 4
            && (whole.bytes().chain(fraction.bytes())).all(|c| c.is_ascii_digit()),
        "{text:?} is not a number with at most four decimals, such as 0.25"
    );
    let ten_thousandths =
        whole.parse::<u32>()?.checked_mul(10_000).zip(format!("{fraction:0<4}").parse().ok());
    match ten_thousandths.and_then(|(whole, fraction): (u32, u32)| whole.checked_add(fraction)) {
        Some(ten_thousandths) => Ok(Multiplier::new(ten_thousandths)),
        None => bail!("{text} is more than any token costs"),
    }
}

/// Deploys a root contract and prints its address.
///
/// # Errors
/// If the terms make no sense, or the contract cannot be deployed.
pub(super) async fn run(chain: &Chain, arguments: &InitArguments, sending: &Sending) -> Result<()> {
    arguments.terms.check()?;
    let owner = match &arguments.owner {
        Some(owner) => {
            owner.check(chain.network)?;
            owner.address
        }
        None => sending.file()?.wallet(chain.of_wallets()).address(),
    };
    let config = arguments.config(owner, chain.network);
    let init = config.init(ContractCode::built(Contract::Root));
    let root = init.address();
    println!("root     {}", chain.text(&root, true));
    let message =
        InternalMessage { to: root, value: DEPLOYMENT, bounce: false, state_init: Some(init), body: None };
    sending.send(chain, Transfer { message, what: "deploy the root contract".to_owned() }).await?;
    if sending.signs() {
        let mut watch = RootWatch::new(root);
        watch.look(&chain.provider).await?;
        ensure!(watch.known() == Some(&config), "the root contract is there, and says something else");
    }
    Ok(())
}

impl InitArguments {
    fn config(&self, owner: ton::Address, network: Network) -> RootConfig {
        let Terms { prices, proxy_delay, client_delay, proxy_stake, client_stake } = &self.terms;
        // Nobody takes part yet.
        RootConfig {
            params: Params {
                struct_version: StructVersion::V3,
                params_version: 0,
                // Two networks of one owner on the same terms are two.
                unique_id: rand::rng().next_u32(),
                is_test: network != Network::Mainnet,
                price_per_token: prices.price_per_million.per_token,
                worker_fee_per_token: prices.worker_fee_per_million.per_token,
                multipliers: Multipliers {
                    prompt: self.prompt,
                    cached: self.cached,
                    completion: self.completion,
                    reasoning: self.reasoning,
                },
                proxy_delay_before_close: Seconds::new(*proxy_delay),
                client_delay_before_close: Seconds::new(*client_delay),
                min_proxy_stake: *proxy_stake,
                min_client_stake: *client_stake,
                proxy_code: ContractCode::built(Contract::Proxy),
                worker_code: ContractCode::built(Contract::Worker),
                client_code: ContractCode::built(Contract::Client),
            },
            ..RootConfig::pseudo(owner)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_are_read_to_the_last_place() {
        for (text, ten_thousandths) in [("1", 10_000), ("0.1", 1_000), ("2.0005", 20_005), ("0", 0)] {
            assert_eq!(multiplier(text).unwrap().get(), ten_thousandths, "{text}");
        }
        for refused in ["", "-1", "1.", ".5", "1.00001", "429497", "1e3", "one"] {
            assert!(multiplier(refused).is_err(), "{refused:?}");
        }
    }
}
