//! Orders that change what a root contract says.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use ton::messages::{ListedProxy, RootMessage};
use ton::{Contract, ContractCode, Params, ProxyTextError, RegisteredProxy, RootConfig, Seconds, model_hash};
use units::{ImageHash, ModelName, NanoTon};

use super::upgrade::Upgrade;
use crate::on_chain::AddressArgument;

/// An order of the network's owner.
#[derive(Subcommand)]
pub(super) enum Order {
    /// Let machines with this image take part.
    AddImage(Image),
    /// No longer let machines with this image take part.
    DeleteImage(Image),
    /// Let workers serve this model.
    AddModel {
        /// Its full name, `name@commit:hash`.
        #[arg(value_parser = model)]
        name: ModelName,
    },
    /// No longer let workers serve this model.
    DeleteModel {
        /// Its full name, `name@commit:hash`.
        #[arg(value_parser = model)]
        name: ModelName,
    },
    /// Say where a proxy is.
    AddProxy {
        /// `IPv4:port`, or two of them with a space between: for workers, for clients.
        place: Place,
    },
    /// Say that a proxy is somewhere else.
    ReplaceProxy {
        /// Its number in `cocoon root show`.
        number: u32,
        /// As for `add-proxy`.
        place: Place,
    },
    /// Take a proxy off the list.
    DeleteProxy {
        /// Its number in `cocoon root show`.
        number: u32,
    },
    /// Change the prices. Contracts that there are keep theirs; proxies go over to new ones.
    SetPrices(Prices),
    /// Change prices, delays and stakes. Contracts that there are keep theirs; proxies go over to new ones.
    SetParams(Terms),
    /// Let new contracts have the codes that this program carries.
    SetCodes,
    /// Let the root contract itself run another code.
    Upgrade(Upgrade),
    /// Take all images, models and proxies off the lists.
    Reset,
    /// Give the network to another owner. Nothing brings it back but the new one.
    ChangeOwner {
        /// Address of the new owner.
        new_owner: AddressArgument,
    },
}

/// Prices as people say them.
#[derive(Args)]
pub(super) struct Prices {
    /// What clients pay per million adjusted tokens, such as "0.02 TON".
    #[arg(long, value_name = "AMOUNT")]
    pub(super) price_per_million: PerMillion,
    /// What workers get of it.
    #[arg(long, value_name = "AMOUNT")]
    pub(super) worker_fee_per_million: PerMillion,
}

/// Prices, delays and stakes.
#[derive(Args)]
pub(super) struct Terms {
    #[command(flatten)]
    pub(super) prices: Prices,
    /// Seconds between the end of a proxy contract being announced and its end. Clients need time to get out.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub(super) proxy_delay: u32,
    /// Seconds after which a client gets out without its proxy's help.
    #[arg(long, value_name = "SECONDS", default_value_t = 43_200)]
    pub(super) client_delay: u32,
    /// What a proxy puts at stake: clients that get out without its help are paid from it.
    #[arg(long, value_name = "AMOUNT", default_value = "20 TON")]
    pub(super) proxy_stake: NanoTon,
    /// What every client keeps on its contract at least, for work that was done and not charged yet.
    #[arg(long, value_name = "AMOUNT", default_value = "1 TON")]
    pub(super) client_stake: NanoTon,
}

/// A kind of image, and an image.
#[derive(Args)]
pub(super) struct Image {
    /// Whose image.
    #[arg(value_enum)]
    of: Machines,
    /// Its hash: 64 hexadecimal digits.
    hash: ImageHash,
}

/// Machines that prove their image.
#[derive(Clone, Copy, ValueEnum)]
enum Machines {
    Proxies,
    Workers,
}

/// Where a proxy is.
#[derive(Clone)]
pub(super) struct Place(RegisteredProxy);

/// A price per million tokens that is whole nanotons per token, as contracts count it.
#[derive(Clone, Copy)]
pub(super) struct PerMillion {
    pub(super) per_token: NanoTon,
}

fn model(text: &str) -> Result<ModelName, units::InvalidModelName> {
    ModelName::new(text)
}

impl FromStr for Place {
    type Err = ProxyTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The contract gives the number.
        RegisteredProxy::from_text(0, text).map(Self)
    }
}

impl FromStr for PerMillion {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        const MILLION: u64 = 1_000_000;
        let nanotons = text.parse::<NanoTon>()?.get();
        let per_token = NanoTon::new(nanotons / MILLION);
        let below = NanoTon::new(nanotons - nanotons % MILLION);
        let above = NanoTon::new((nanotons / MILLION + 1).saturating_mul(MILLION));
        ensure!(
            nanotons % MILLION == 0,
            "a token costs whole nanotons: {below} or {above} per million, not {}",
            NanoTon::new(nanotons)
        );
        Ok(Self { per_token })
    }
}

fn lists_are_empty(known: &RootConfig) -> bool {
    known.proxy_hashes.is_empty()
        && known.worker_hashes.is_empty()
        && known.model_hashes.is_empty()
        && known.registered_proxies.is_empty()
}

impl Prices {
    fn are_of(&self, known: &RootConfig) -> bool {
        self.price_per_million.per_token == known.params.price_per_token
            && self.worker_fee_per_million.per_token == known.params.worker_fee_per_token
    }

    pub(super) fn check(&self) -> Result<()> {
        let (price, fee) = (self.price_per_million.per_token, self.worker_fee_per_million.per_token);
        ensure!(
            fee <= price,
            "workers cannot get more ({fee} per token) than clients pay ({price} per token)"
        );
        Ok(())
    }
}

impl Terms {
    fn are_of(&self, known: &RootConfig) -> bool {
        let params = &known.params;
        self.prices.are_of(known)
            && Seconds::new(self.proxy_delay) == params.proxy_delay_before_close
            && Seconds::new(self.client_delay) == params.client_delay_before_close
            && self.proxy_stake == params.min_proxy_stake
            && self.client_stake == params.min_client_stake
    }

    pub(super) fn check(&self) -> Result<()> {
        self.prices.check()?;
        ensure!(
            self.client_delay < self.proxy_delay,
            "clients need {} s to get out, and the proxy would be gone after {} s: give proxies the longer delay",
            self.client_delay,
            self.proxy_delay
        );
        Ok(())
    }
}

impl Order {
    /// Refuses what the contract as it is would take for nothing, or refuse. An upgrade looks for itself.
    ///
    /// # Errors
    /// What is wrong with the order, given what the contract says now.
    pub(super) fn check(&self, known: &RootConfig) -> Result<()> {
        let listed = |number: u32| {
            let proxy = known.registered_proxies.iter().find(|proxy| proxy.seqno == number);
            proxy.with_context(|| format!("there is no proxy {number} on the list: see cocoon root show"))
        };
        match self {
            Self::AddImage(image) => ensure!(!image.is_listed(known), "the image is on the list already"),
            Self::DeleteImage(image) => ensure!(image.is_listed(known), "the image is not on the list"),
            Self::AddModel { name } => ensure!(!known.allows_model(name), "the model is on the list already"),
            Self::DeleteModel { name } => ensure!(known.allows_model(name), "the model is not on the list"),
            Self::ReplaceProxy { number, place } => {
                let listed = listed(*number)?;
                ensure!(listed.to_text() != place.0.to_text(), "proxy {number} is listed there already");
            }
            Self::DeleteProxy { number } => drop(listed(*number)?),
            Self::SetPrices(prices) => {
                prices.check()?;
                ensure!(!prices.are_of(known), "these are the prices already");
            }
            Self::SetParams(terms) => {
                terms.check()?;
                ensure!(!terms.are_of(known), "these are the terms already");
            }
            Self::SetCodes => {
                let Params { proxy_code, worker_code, client_code, .. } = &known.params;
                let is = |code: &ContractCode, contract| *code == ContractCode::built(contract);
                let are_all = is(proxy_code, Contract::Proxy)
                    && is(worker_code, Contract::Worker)
                    && is(client_code, Contract::Client);
                ensure!(!are_all, "new contracts have these codes already");
            }
            Self::Reset => ensure!(!lists_are_empty(known), "the lists are empty already"),
            Self::ChangeOwner { new_owner } if new_owner.address == known.owner => {
                bail!("{} owns the network already", new_owner.address)
            }
            Self::AddProxy { .. } | Self::Upgrade(_) | Self::ChangeOwner { .. } => {}
        }
        Ok(())
    }

    /// The order in words.
    pub(super) fn what(&self) -> String {
        match self {
            Self::AddImage(image) => format!("let {} with image {} take part", image.machines(), image.hash),
            Self::DeleteImage(image) => format!("shut out {} with image {}", image.machines(), image.hash),
            Self::AddModel { name } => format!("let workers serve {}", name.full()),
            Self::DeleteModel { name } => format!("let workers no longer serve {}", name.full()),
            Self::AddProxy { place } => format!("list a proxy at {}", place.0.to_text()),
            Self::ReplaceProxy { number, place } => format!("list proxy {number} at {}", place.0.to_text()),
            Self::DeleteProxy { number } => format!("take proxy {number} off the list"),
            Self::SetPrices(_) => "set the prices".to_owned(),
            Self::SetParams(_) => "set prices, delays and stakes".to_owned(),
            Self::SetCodes => "set the codes of new contracts".to_owned(),
            Self::Upgrade(upgrade) => upgrade.what(),
            Self::Reset => "empty the lists".to_owned(),
            Self::ChangeOwner { new_owner } => format!("give the network to {}", new_owner.address),
        }
    }

    /// The order as the contract reads it.
    pub(super) fn message(&self, query_id: u64) -> RootMessage {
        match self {
            Self::AddImage(Image { of: Machines::Proxies, hash }) => {
                RootMessage::AddProxyImage { query_id, hash: *hash }
            }
            Self::AddImage(Image { of: Machines::Workers, hash }) => {
                RootMessage::AddWorkerImage { query_id, hash: *hash }
            }
            Self::DeleteImage(Image { of: Machines::Proxies, hash }) => {
                RootMessage::DeleteProxyImage { query_id, hash: *hash }
            }
            Self::DeleteImage(Image { of: Machines::Workers, hash }) => {
                RootMessage::DeleteWorkerImage { query_id, hash: *hash }
            }
            Self::AddModel { name } => RootMessage::AddModel { query_id, hash: model_hash(name) },
            Self::DeleteModel { name } => RootMessage::DeleteModel { query_id, hash: model_hash(name) },
            Self::AddProxy { place } => RootMessage::RegisterProxy { query_id, place: place.listed() },
            Self::ReplaceProxy { number, place } => {
                RootMessage::ReplaceProxy { query_id, seqno: *number, place: place.listed() }
            }
            Self::DeleteProxy { number } => RootMessage::UnregisterProxy { query_id, seqno: *number },
            Self::SetPrices(prices) => RootMessage::SetPrices {
                query_id,
                price_per_token: prices.price_per_million.per_token,
                worker_fee_per_token: prices.worker_fee_per_million.per_token,
            },
            Self::SetParams(terms) => RootMessage::SetParams {
                query_id,
                price_per_token: terms.prices.price_per_million.per_token,
                worker_fee_per_token: terms.prices.worker_fee_per_million.per_token,
                proxy_delay_before_close: Seconds::new(terms.proxy_delay),
                client_delay_before_close: Seconds::new(terms.client_delay),
                min_proxy_stake: terms.proxy_stake,
                min_client_stake: terms.client_stake,
            },
            Self::SetCodes => {
                let code = |contract| ContractCode::built(contract).cell();
                RootMessage::SetCodes {
                    query_id,
                    proxy_code: code(Contract::Proxy),
                    worker_code: code(Contract::Worker),
                    client_code: code(Contract::Client),
                }
            }
            Self::Upgrade(upgrade) => upgrade.message(query_id),
            Self::Reset => RootMessage::Reset { query_id },
            Self::ChangeOwner { new_owner } => {
                RootMessage::ChangeOwner { query_id, new_owner: new_owner.address }
            }
        }
    }
}

impl Image {
    fn is_listed(&self, known: &RootConfig) -> bool {
        match self.of {
            Machines::Proxies => known.allows_proxy_image(&self.hash),
            Machines::Workers => known.allows_worker_image(&self.hash),
        }
    }

    const fn machines(&self) -> &'static str {
        match self.of {
            Machines::Proxies => "proxies",
            Machines::Workers => "workers",
        }
    }
}

impl Place {
    fn listed(&self) -> ListedProxy {
        ListedProxy::new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use ton::Address;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        order: Order,
    }

    fn order(words: &str) -> Order {
        Line::parse_from(std::iter::once("root").chain(words.split(' '))).order
    }

    /// A network with one proxy, prices of 20 and 18 nanotons, and codes that nobody built.
    fn network() -> RootConfig {
        let mut config = RootConfig::pseudo(Address::new(0, [7; 32]));
        config.registered_proxies = vec![RegisteredProxy::from_text(3, "127.0.0.1:11001").unwrap()];
        config.params.price_per_token = NanoTon::new(20);
        config.params.worker_fee_per_token = NanoTon::new(18);
        config.params.proxy_delay_before_close = Seconds::new(86_400);
        config.params.client_delay_before_close = Seconds::new(43_200);
        config.params.min_proxy_stake = NanoTon::new(20_000_000_000);
        config.params.min_client_stake = NanoTon::new(1_000_000_000);
        config
    }

    #[test]
    fn an_order_that_changes_nothing_is_refused_and_one_that_changes_one_thing_is_not() {
        let known = network();
        let hash = "0".repeat(64);
        let prices = |price, fee| format!("--price-per-million {price} --worker-fee-per-million {fee}");
        for (nothing, something) in [
            (format!("delete-image workers {hash}"), format!("add-image workers {hash}")),
            (
                format!("set-prices {}", prices("0.02", "0.018")),
                format!("set-prices {}", prices("0.02", "0.017")),
            ),
            (
                format!("set-params {}", prices("0.02", "0.018")),
                format!("set-params {} --client-delay 43201", prices("0.02", "0.018")),
            ),
            ("replace-proxy 3 127.0.0.1:11001".to_owned(), "replace-proxy 3 127.0.0.1:11002".to_owned()),
            ("delete-proxy 1".to_owned(), "delete-proxy 3".to_owned()),
        ] {
            assert!(order(&nothing).check(&known).is_err(), "{nothing}");
            assert!(order(&something).check(&known).is_ok(), "{something}");
        }
        let owned_by = |owner: &Address| order(&format!("change-owner {owner}")).check(&known);
        assert!(owned_by(&known.owner).is_err());
        assert!(owned_by(&Address::new(0, [8; 32])).is_ok());
    }

    #[test]
    fn lists_are_emptied_and_codes_set_once() {
        let mut known = network();
        assert!(order("reset").check(&known).is_ok() && order("set-codes").check(&known).is_ok());
        known.registered_proxies.clear();
        known.worker_hashes.clear();
        known.proxy_hashes.clear();
        known.model_hashes.clear();
        known.params.proxy_code = ContractCode::built(Contract::Proxy);
        known.params.worker_code = ContractCode::built(Contract::Worker);
        assert!(order("set-codes").check(&known).is_ok());
        known.params.client_code = ContractCode::built(Contract::Client);
        assert!(order("reset").check(&known).is_err() && order("set-codes").check(&known).is_err());
    }

    #[test]
    fn prices_and_delays_that_make_no_sense_are_refused() {
        let known = network();
        for refused in [
            "set-prices --price-per-million 0.01 --worker-fee-per-million 0.011",
            "set-params --price-per-million 0.02 --worker-fee-per-million 0.01 --client-delay 86400",
        ] {
            assert!(order(refused).check(&known).is_err(), "{refused}");
        }
        assert!("0.0005 TON".parse::<PerMillion>().is_err() && "0.005 TON".parse::<PerMillion>().is_ok());
    }
}
