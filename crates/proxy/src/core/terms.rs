//! On which terms this proxy works: the root configuration, its own keys and addresses.

use ed25519_dalek::SigningKey;
use ledger::{FeeAbovePrice, Multipliers, PriceTable};
use sha2::{Digest, Sha256};
use ton::{Address, RootConfig, contracts};
use units::PublicKey;
use wire::proxy;

use super::accounts::Side;

/// Everything that a proxy knows about itself before the first link. Fixed while the proxy runs.
///
/// Where no chain is followed, clients are registered when they connect, hold play money, and authorise with the empty
/// secret, as in deployed networks whose chain is switched off.
pub struct Terms {
    root: RootConfig,
    prices: PriceTable,
    key: SigningKey,
    public_key: PublicKey,
    owner_text: String,
    contract: Address,
    contract_text: String,
    wallet: Address,
    is_testnet: bool,
    check_worker_hashes: bool,
}

/// Terms that no proxy can work on.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// The root configuration pays workers more than clients pay.
    #[error("the root configuration cannot be used")]
    Prices(#[from] FeeAbovePrice),
    /// The network plays with real money.
    #[error(
        "this proxy follows no chain, so it works in test networks only: the root configuration has is_test false"
    )]
    RealMoney,
}

impl Terms {
    /// Derives the proxy's contract from its owner, its `key` and the root.
    ///
    /// `wallet` receives what is left of coins sent with payments. With `check_worker_hashes`, and always outside
    /// test networks, workers need an attested image and a model that the root configuration lists.
    ///
    /// # Errors
    /// [`TermsError`] if the prices of the root configuration contradict each other, or it is not of a test network.
    pub fn new(
        root: RootConfig,
        root_address: &Address,
        owner: &Address,
        wallet: Address,
        key: SigningKey,
        is_testnet: bool,
        check_worker_hashes: bool,
    ) -> Result<Self, TermsError> {
        if !root.params.is_test {
            return Err(TermsError::RealMoney);
        }
        Self::on_chain(root, root_address, owner, wallet, key, is_testnet, check_worker_hashes)
    }

    /// The same where a chain is followed, and the money may be real.
    ///
    /// # Errors
    /// [`TermsError`] if the prices of the root configuration contradict each other.
    pub fn on_chain(
        root: RootConfig,
        root_address: &Address,
        owner: &Address,
        wallet: Address,
        key: SigningKey,
        is_testnet: bool,
        check_worker_hashes: bool,
    ) -> Result<Self, TermsError> {
        let params = &root.params;
        let multipliers = Multipliers {
            prompt: params.multipliers.prompt,
            cached: params.multipliers.cached,
            completion: params.multipliers.completion,
            reasoning: params.multipliers.reasoning,
        };
        let prices = PriceTable::new(params.price_per_token, params.worker_fee_per_token, multipliers)?;
        let public_key = PublicKey::new(key.verifying_key().to_bytes());
        let contract = contracts::proxy_address(&root, owner, &public_key, root_address);
        Ok(Self {
            prices,
            public_key,
            owner_text: owner.to_wire_text(is_testnet),
            contract_text: contract.to_wire_text(is_testnet),
            contract,
            root,
            key,
            wallet,
            is_testnet,
            check_worker_hashes,
        })
    }

    /// The root configuration.
    #[must_use]
    pub const fn root(&self) -> &RootConfig {
        &self.root
    }

    /// The proxy's contract, as deployed peers write it.
    #[must_use]
    pub fn contract_text(&self) -> &str {
        &self.contract_text
    }

    /// The public half of the key that signs payments.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// An address as deployed peers write it in this network.
    #[must_use]
    pub fn address_text(&self, address: &Address) -> String {
        address.to_wire_text(self.is_testnet)
    }

    /// Whether `other` works with the same contracts at the same prices: then only lists and versions differ.
    #[must_use]
    pub fn shares_contracts(&self, other: &Self) -> bool {
        (self.contract, self.prices) == (other.contract, other.prices)
    }

    pub(super) const fn prices(&self) -> &PriceTable {
        &self.prices
    }

    pub(super) const fn key(&self) -> &SigningKey {
        &self.key
    }

    pub(super) const fn wallet(&self) -> &Address {
        &self.wallet
    }

    pub(super) const fn checks_worker_hashes(&self) -> bool {
        self.check_worker_hashes || !self.root.params.is_test
    }

    /// The contract between an owner and this proxy.
    pub(super) fn contract_of(&self, side: Side, owner: &Address) -> Address {
        match side {
            Side::Client => contracts::client_address(&self.root, owner, &self.contract, &self.public_key),
            Side::Worker => contracts::worker_address(&self.root, owner, &self.contract, &self.public_key),
        }
    }

    /// Whose books are kept on these terms.
    #[must_use]
    pub const fn books_identity(&self) -> ledger::journal::Identity {
        ledger::journal::Identity { contract: self.contract, prices: self.prices }
    }

    /// How the proxy introduces itself. Version 0 is said by leaving it out, as before there were versions.
    pub(super) fn introduction(&self, protocol: units::ProtocolVersion) -> proxy::Params<'_> {
        proxy::Params {
            proxy_public_key: *self.public_key.as_bytes(),
            proxy_owner_address: self.owner_text.as_str().into(),
            proxy_sc_address: self.contract_text.as_str().into(),
            is_test: Some(self.root.params.is_test),
            proto_version: Some(protocol.number()).filter(|version| *version > 0),
        }
    }

    /// The secret of every client in a network without a chain is empty; this is its hash.
    pub(super) fn secret_hash() -> [u8; 32] {
        Sha256::digest(b"").into()
    }
}

/// The signing key stays out of everything printed.
impl std::fmt::Debug for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terms").field("contract", &self.contract_text).finish_non_exhaustive()
    }
}
