//! Who a proxy is: what a client or a worker checks before it works with one.

use attest::Attestation;
use ton::{Address, AddressFlags, AddressParseError, RootConfig, contracts};
use units::{ImageHash, ProtocolVersion, PublicKey};
use wire::{TlStr, proxy};

/// A proxy that must not be worked with. Blames the proxy, or a root configuration that differs from its own.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It says neither whether it is in test mode nor which version it speaks.
    #[error("the proxy speaks a protocol older than any that we know")]
    TooOld,
    /// It belongs to another kind of network.
    #[error("the proxy's test mode is {theirs}, ours is {ours}: use the root configuration of its network")]
    TestMode {
        /// What our root configuration says.
        ours: bool,
        /// What the proxy says.
        theirs: bool,
    },
    /// It chose a version that was not offered.
    #[error("the proxy chose protocol version {chosen}, we offered at most {}", ProtocolVersion::LATEST.number())]
    Protocol {
        /// The number it sent.
        chosen: i32,
    },
    /// It attests no image.
    #[error("the proxy attests no image, so it cannot be looked up in the root contract")]
    NotAttested,
    /// Nothing protects what it is told.
    #[error("the proxy runs on a simulated platform, which only test networks accept")]
    Simulated,
    /// Its image is not allowed.
    #[error(
        "the proxy's image {image} is not in the root contract: it is outdated, or not what it should be"
    )]
    ImageNotAllowed {
        /// What it attests.
        image: ImageHash,
    },
    /// A text that should be an address is not even UTF-8.
    #[error("the address of the {which} is not text")]
    AddressText {
        /// Whose address.
        which: &'static str,
    },
    /// A text that should be an address is none.
    #[error("the address of the {which} cannot be read")]
    Address {
        /// Whose address.
        which: &'static str,
        /// What is wrong with it.
        source: AddressParseError,
    },
    /// A contract that does not follow from the root configuration.
    #[error(
        "the {which} contract is {claimed} according to the proxy and {computed} according to our root \
         configuration: both sides need the same root configuration and root address"
    )]
    Contract {
        /// Whose contract.
        which: &'static str,
        /// What the proxy said.
        claimed: Address,
        /// What follows from the proxy's key and owner.
        computed: Address,
    },
    /// The right contract in a form that deployed peers refuse.
    #[error("the address of the {which} contract is not in the non-bounceable form of this network")]
    AddressForm {
        /// Whose contract.
        which: &'static str,
    },
}

/// Refuses a proxy that attests no image of the root contract's list. Outside test networks images are always
/// checked, and simulated enclaves never accepted; in them images are checked only if `is_asked`.
///
/// # Errors
/// [`ProxyError::NotAttested`], [`ProxyError::Simulated`] or [`ProxyError::ImageNotAllowed`].
pub fn check_image(
    config: &RootConfig,
    attestation: Option<Attestation>,
    is_asked: bool,
) -> Result<(), ProxyError> {
    if !is_asked && config.params.is_test {
        return Ok(());
    }
    let Attestation { image, is_simulated } = attestation.ok_or(ProxyError::NotAttested)?;
    if is_simulated && !config.params.is_test {
        return Err(ProxyError::Simulated);
    }
    if config.allows_proxy_image(&image) { Ok(()) } else { Err(ProxyError::ImageNotAllowed { image }) }
}

/// Which contract a party has with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnContract {
    /// The one that a client pays from.
    Client,
    /// The one that a worker is paid through.
    Worker,
}

/// Who connects to a proxy.
#[derive(Clone, Copy, Debug)]
pub struct ConnectingParty {
    /// Owns the party's contract.
    pub owner: Address,
    /// The root contract.
    pub root: Address,
    /// Which network the texts of addresses are for.
    pub is_testnet: bool,
    /// The kind of its contract.
    pub contract: OwnContract,
}

/// A proxy that follows from our root configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedProxy {
    protocol: ProtocolVersion,
    key: PublicKey,
    contract: Address,
    own_contract: Address,
}

impl VerifiedProxy {
    /// The version that it chose.
    #[must_use]
    pub const fn protocol(&self) -> ProtocolVersion {
        self.protocol
    }

    /// Signs its payments.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }

    /// Its contract.
    #[must_use]
    pub const fn contract(&self) -> Address {
        self.contract
    }

    /// The contract of the party that connected.
    #[must_use]
    pub const fn own_contract(&self) -> Address {
        self.own_contract
    }
}

impl ConnectingParty {
    /// Checks what a proxy says about itself and about our contract with it. Both contracts are computed here and
    /// never taken from the proxy.
    ///
    /// # Errors
    /// [`ProxyError`] if anything does not follow from our root configuration.
    pub fn verify(
        &self,
        config: &RootConfig,
        params: &proxy::Params<'_>,
        own_contract: TlStr<'_>,
    ) -> Result<VerifiedProxy, ProxyError> {
        if params.is_test.is_none() && params.proto_version.is_none() {
            return Err(ProxyError::TooOld);
        }
        let (ours, theirs) = (config.params.is_test, params.is_test.unwrap_or(false));
        if ours != theirs {
            return Err(ProxyError::TestMode { ours, theirs });
        }
        let chosen = params.proto_version.unwrap_or(ProtocolVersion::V0.number());
        let protocol = ProtocolVersion::from_number(chosen).ok_or(ProxyError::Protocol { chosen })?;

        let key = PublicKey::new(params.proxy_public_key);
        let (proxy_owner, _any_form) = address("owner", params.proxy_owner_address)?;
        let contract = contracts::proxy_address(config, &proxy_owner, &key, &self.root);
        self.expect("proxy", params.proxy_sc_address, contract)?;
        let (which, computed) = match self.contract {
            OwnContract::Client => {
                ("client", contracts::client_address(config, &self.owner, &contract, &key))
            }
            OwnContract::Worker => {
                ("worker", contracts::worker_address(config, &self.owner, &contract, &key))
            }
        };
        self.expect(which, own_contract, computed)?;
        Ok(VerifiedProxy { protocol, key, contract, own_contract: computed })
    }

    /// The contract must be the computed one, and its text have the one form of the deployed network.
    fn expect(&self, which: &'static str, text: TlStr<'_>, computed: Address) -> Result<(), ProxyError> {
        let (claimed, flags) = address(which, text)?;
        if claimed != computed {
            return Err(ProxyError::Contract { which, claimed, computed });
        }
        if flags != Some(AddressFlags { bounceable: false, testnet: self.is_testnet }) {
            return Err(ProxyError::AddressForm { which });
        }
        Ok(())
    }
}

fn address(which: &'static str, text: TlStr<'_>) -> Result<(Address, Option<AddressFlags>), ProxyError> {
    let text = text.to_str().map_err(|_not_utf8| ProxyError::AddressText { which })?;
    Address::parse(text).map_err(|source| ProxyError::Address { which, source })
}
