//! Addresses of the contracts that follow from the root configuration.
//!
//! An address is workchain 0 and the hash of a `StateInit` of code and initial data, so peers compute each
//! other's contracts instead of asking for them. The layouts are in `spec/messages.tlb`. There is exactly one
//! proxy contract per owner, key, root and version of the params, and one client or worker contract per owner
//! under it.

use tycho_types::cell::Cell;
use units::{AdjustedTokens, NanoTon, PublicKey};

use crate::cells::build;
use crate::states::{ClientData, ContractState, Parties, ProxyData, WalletData, WorkerData};
use crate::{Address, CodeMask, ContractCode, RootConfig};

/// What a contract is deployed with. Its hash is the contract's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateInit {
    /// The code.
    pub code: ContractCode,
    /// The data before the first message.
    pub data: Cell,
}

impl StateInit {
    /// The cell to send along with the first message.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        build(|builder| {
            // No split depth, not special, code present, data present, no library.
            builder.store_small_uint(0b00110, 5)?;
            builder.store_reference(self.code.cell())?;
            builder.store_reference(self.data.clone())
        })
    }

    /// The address in workchain 0.
    #[must_use]
    pub fn address(&self) -> Address {
        // Level 0: a code of which only hash and depth are known gives the same address.
        Address::new(0, self.to_cell().hash(0).0)
    }
}

/// The proxy contract of `owner` under the root contract `root`. `key` signs its payments.
#[must_use]
pub fn proxy_init(config: &RootConfig, owner: &Address, key: &PublicKey, root: &Address) -> StateInit {
    let data = ProxyData {
        owner: *owner,
        key: *key,
        root: *root,
        state: ContractState::Normal,
        balance: NanoTon::ZERO,
        stake: NanoTon::ZERO,
        unlock_at: 0,
        params: config.params_cell(CodeMask::WorkerAndClient),
        pool: NanoTon::ZERO,
    };
    StateInit { code: config.params.proxy_code.clone(), data: data.to_cell() }
}

/// The client contract of `owner`, the client's node wallet, with the proxy contract `proxy`.
#[must_use]
pub fn client_init(config: &RootConfig, owner: &Address, proxy: &Address, key: &PublicKey) -> StateInit {
    let data = ClientData {
        state: ContractState::Normal,
        balance: NanoTon::ZERO,
        stake: config.params.min_client_stake,
        tokens_used: AdjustedTokens::ZERO,
        unlock_at: 0,
        secret_hash: [0; 32],
        parties: Parties { owner: *owner, proxy: *proxy, key: *key },
        params: config.params_cell(CodeMask::None),
        unconfirmed: NanoTon::ZERO,
    };
    StateInit { code: config.params.client_code.clone(), data: data.to_cell() }
}

/// The worker contract of `owner`, who receives the earnings, with the proxy contract `proxy`.
#[must_use]
pub fn worker_init(config: &RootConfig, owner: &Address, proxy: &Address, key: &PublicKey) -> StateInit {
    let data = WorkerData {
        parties: Parties { owner: *owner, proxy: *proxy, key: *key },
        state: ContractState::Normal,
        tokens: AdjustedTokens::ZERO,
        params: config.params_cell(CodeMask::None),
    };
    StateInit { code: config.params.worker_code.clone(), data: data.to_cell() }
}

/// The node wallet that `key` controls and `owner` can empty. `code` is the wallet contract's.
#[must_use]
pub fn wallet_init(code: &ContractCode, key: &PublicKey, owner: &Address) -> StateInit {
    let data = WalletData { seqno: 0, subwallet: 0, key: *key, status: 0, owner: *owner };
    StateInit { code: code.clone(), data: data.to_cell() }
}

/// The address of [`proxy_init`].
#[must_use]
pub fn proxy_address(config: &RootConfig, owner: &Address, key: &PublicKey, root: &Address) -> Address {
    proxy_init(config, owner, key, root).address()
}

/// The address of [`client_init`].
#[must_use]
pub fn client_address(config: &RootConfig, owner: &Address, proxy: &Address, key: &PublicKey) -> Address {
    client_init(config, owner, proxy, key).address()
}

/// The address of [`worker_init`].
#[must_use]
pub fn worker_address(config: &RootConfig, owner: &Address, proxy: &Address, key: &PublicKey) -> Address {
    worker_init(config, owner, proxy, key).address()
}

/// The address of [`wallet_init`].
#[must_use]
pub fn wallet_address(code: &ContractCode, key: &PublicKey, owner: &Address) -> Address {
    wallet_init(code, key, owner).address()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use tycho_types::boc::Boc;
    use tycho_types::cell::{CellBuilder, HashBytes};
    use units::ConfigVersion;

    use super::*;

    /// Contracts as deployed software derived them, with codes known by hash and depth.
    #[derive(Deserialize)]
    struct Vectors {
        root: Root,
        codes: Codes,
        proxy_public_key: PublicKey,
        proxy: Party,
        worker: Party,
        client: Party,
        wallet: Wallet,
    }

    #[derive(Deserialize)]
    struct Root {
        address: String,
        owner: String,
        params_version: u32,
        price_per_token: NanoTon,
        worker_fee_per_token: NanoTon,
    }

    #[derive(Deserialize)]
    struct Codes {
        proxy: Code,
        worker: Code,
        client: Code,
    }

    #[derive(Deserialize)]
    struct Code {
        hash: String,
        depth: u16,
    }

    #[derive(Deserialize)]
    struct Party {
        owner: String,
        contract: String,
    }

    #[derive(Deserialize)]
    struct Wallet {
        public_key: PublicKey,
        owner: String,
        contract: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../../../spec/vectors/ton/contracts.json")).unwrap()
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap().0
    }

    /// A pruned branch: a cell that stands for another one of this hash and depth.
    fn pruned(code: &Code) -> ContractCode {
        let mut builder = CellBuilder::new();
        builder.set_exotic(true);
        builder.store_u16(0x0101).unwrap(); // pruned branch, level mask 1
        let hash = hex::decode(&code.hash).unwrap().try_into().unwrap();
        builder.store_u256(&HashBytes(hash)).unwrap();
        builder.store_u16(code.depth).unwrap();
        ContractCode::from_boc(&Boc::encode(builder.build().unwrap())).unwrap()
    }

    fn config(vectors: &Vectors) -> RootConfig {
        let mut config = RootConfig::pseudo(address(&vectors.root.owner));
        config.version = ConfigVersion::new(3);
        config.params.params_version = vectors.root.params_version;
        config.params.price_per_token = vectors.root.price_per_token;
        config.params.worker_fee_per_token = vectors.root.worker_fee_per_token;
        config.params.proxy_code = pruned(&vectors.codes.proxy);
        config.params.worker_code = pruned(&vectors.codes.worker);
        config.params.client_code = pruned(&vectors.codes.client);
        config
    }

    #[test]
    fn deployed_contracts_are_derived_bit_for_bit() {
        let vectors = vectors();
        let (config, key) = (config(&vectors), &vectors.proxy_public_key);
        let proxy_owner = address(&vectors.proxy.owner);
        let proxy = proxy_address(&config, &proxy_owner, key, &address(&vectors.root.address));
        assert_eq!(proxy.to_wire_text(false), vectors.proxy.contract);
        let worker = worker_address(&config, &address(&vectors.worker.owner), &proxy, key);
        assert_eq!(worker.to_wire_text(false), vectors.worker.contract);
        let client = client_address(&config, &address(&vectors.client.owner), &proxy, key);
        assert_eq!(client.to_wire_text(false), vectors.client.contract);
    }

    #[test]
    fn a_wallet_is_derived_bit_for_bit() {
        let Wallet { public_key, owner, contract } = vectors().wallet;
        let wallet = wallet_address(&ContractCode::empty(), &public_key, &address(&owner));
        assert_eq!(wallet.to_string(), contract);
    }

    #[test]
    fn every_input_changes_the_contract() {
        let vectors = vectors();
        let (config, key) = (config(&vectors), vectors.proxy_public_key);
        let (owner, root) = (address(&vectors.proxy.owner), address(&vectors.root.address));
        let (other, other_key) = (Address::new(0, [9; 32]), PublicKey::new([9; 32]));
        let mut other_config = config.clone();
        other_config.params.params_version += 1;

        let addresses = [
            proxy_address(&config, &owner, &key, &root),
            proxy_address(&other_config, &owner, &key, &root),
            proxy_address(&config, &other, &key, &root),
            proxy_address(&config, &owner, &other_key, &root),
            proxy_address(&config, &owner, &key, &other),
            client_address(&config, &owner, &root, &key),
            client_address(&other_config, &owner, &root, &key),
            client_address(&config, &other, &root, &key),
            client_address(&config, &owner, &other, &key),
            client_address(&config, &owner, &root, &other_key),
            worker_address(&config, &owner, &root, &key),
            worker_address(&other_config, &owner, &root, &key),
            worker_address(&config, &other, &root, &key),
            worker_address(&config, &owner, &other, &key),
            worker_address(&config, &owner, &root, &other_key),
        ];
        let distinct: std::collections::BTreeSet<_> = addresses.into_iter().collect();
        assert_eq!(distinct.len(), addresses.len());
    }

    #[test]
    fn the_version_of_the_configuration_alone_changes_nothing() {
        let vectors = vectors();
        let config = config(&vectors);
        let mut newer = config.clone();
        newer.version = ConfigVersion::new(4);
        newer.last_proxy_seqno += 1;
        let (owner, key) = (address(&vectors.proxy.owner), vectors.proxy_public_key);
        assert_eq!(proxy_address(&newer, &owner, &key, &owner), proxy_address(&config, &owner, &key, &owner));
    }
}
