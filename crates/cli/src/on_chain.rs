//! What commands that look at a chain, or send something to one, have in common.

mod transfer;

use std::str::FromStr;

use anyhow::{Result, bail};
use chain::{Endpoint, Limits, Network, Provider, Trust, clock};
use clap::Args;
use ton::{Address, AddressFlags, human};
use transport::clock::unix_now;

#[cfg(feature = "devnet")]
pub(crate) use transfer::carry_out_silently;
pub(crate) use transfer::{Transfer, carry_out, print_for_others};

/// Where a chain is asked.
#[derive(Args)]
pub(crate) struct ChainArguments {
    /// Server of HTTP API v2: a devnet's, or a public one (https).
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:13000")]
    chain: Endpoint,

    /// Yes, this is TON mainnet: real money.
    #[arg(long, global = true)]
    mainnet: bool,
}

/// A chain whose network is known.
pub(crate) struct Chain {
    pub(crate) provider: Provider,
    pub(crate) network: Network,
}

impl ChainArguments {
    /// Asks which network it is. Mainnet, and what might be, has to be named on the command line.
    ///
    /// # Errors
    /// If the server does not answer, or serves another network than the flags say.
    pub(crate) async fn open(&self) -> Result<Chain> {
        let provider = Provider::new(self.chain.clone(), Limits::default());
        let network = provider.network().await?;
        match (network, self.mainnet) {
            (Network::Mainnet, false) => {
                bail!("{} serves TON mainnet, where money is real: say --mainnet if you mean it", self.chain)
            }
            (Network::Testnet | Network::Other, true) => {
                bail!("{} serves {network}, and --mainnet was said: look at --chain", self.chain)
            }
            (Network::Other, false) if self.chain.trust() == Trust::Unproven => bail!(
                "{} serves a network that is neither TON mainnet nor testnet: such ones are used on this machine only",
                self.chain
            ),
            _ => Ok(Chain { provider, network }),
        }
    }
}

impl Chain {
    /// What orders are to be valid from: the time of the chain, which the public networks share with us.
    ///
    /// # Errors
    /// If the server does not answer, or its newest block is not of our time.
    pub(crate) async fn now(&self) -> Result<u32> {
        let time = self.provider.head().await?.time;
        if self.network != Network::Other {
            clock::check(time, unix_now())?;
        }
        Ok(u32::try_from(time.as_secs())?)
    }

    /// The network as wallets know it.
    pub(crate) fn of_wallets(&self) -> human::Network {
        match self.network {
            Network::Testnet => human::Network::Testnet,
            // Devnets run under mainnet's configuration.
            Network::Mainnet | Network::Other => human::Network::Mainnet,
        }
    }

    /// An address as people are shown it.
    pub(crate) fn text(&self, address: &Address, bounceable: bool) -> String {
        address.to_text(AddressFlags { bounceable, testnet: self.network == Network::Testnet })
    }
}

/// An address on the command line, with what its text says about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressArgument {
    pub(crate) address: Address,
    flags: Option<AddressFlags>,
}

impl AddressArgument {
    /// Whether money is to come back if there is nobody who takes it; `None` if the text does not say.
    pub(crate) fn bounceable(&self) -> Option<bool> {
        self.flags.map(|flags| flags.bounceable)
    }

    /// Refuses an address that was written for the test network on another one.
    ///
    /// # Errors
    /// If it was.
    pub(crate) fn check(&self, network: Network) -> Result<()> {
        let is_for_tests = self.flags.is_some_and(|flags| flags.testnet);
        if is_for_tests && network != Network::Testnet {
            bail!("{} is written as an address of TON testnet, and this is {network}", self.address);
        }
        Ok(())
    }
}

impl FromStr for AddressArgument {
    type Err = ton::AddressParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Address::parse(text).map(|(address, flags)| Self { address, flags })
    }
}
