//! Methods about accounts and addresses.

use serde_json::{Value, json};
use ton::{Address, AddressFlags};
use tycho_types::cell::Cell;
use tycho_types::models::{Account, AccountState, ShardAccount};

use super::blocks::{block_id, head};
use super::params::{address_text, base64, boc};
use super::{Answer, ApiError, Params};
use crate::block::Block;
use crate::node::Node;

/// An account, and the block as of which it was like that.
struct Seen {
    address: Address,
    shard_account: Option<ShardAccount>,
    account: Option<Account>,
    block: Block,
}

impl Seen {
    fn new(node: &Node, params: &Params) -> Result<Self, ApiError> {
        let address = params.address("address")?;
        let look = |chain: &crate::Devnet, _now| (chain.account(&address).cloned(), head(chain));
        let (shard_account, block) = node.look(look);
        let account = shard_account.as_ref().map(ShardAccount::load_account).transpose()?.flatten();
        Ok(Self { address, shard_account, account, block })
    }

    fn balance(&self) -> String {
        self.account.as_ref().map_or(0, |account| account.balance.tokens.into_inner()).to_string()
    }

    fn state(&self) -> &'static str {
        match self.account.as_ref().map(|account| &account.state) {
            None | Some(AccountState::Uninit) => "uninitialized",
            Some(AccountState::Active(_)) => "active",
            Some(AccountState::Frozen(_)) => "frozen",
        }
    }

    fn code(&self) -> Option<&Cell> {
        match &self.account.as_ref()?.state {
            AccountState::Active(state) => state.code.as_ref(),
            _ => None,
        }
    }

    fn data(&self) -> Option<&Cell> {
        match &self.account.as_ref()?.state {
            AccountState::Active(state) => state.data.as_ref(),
            _ => None,
        }
    }

    fn frozen_hash(&self) -> String {
        match self.account.as_ref().map(|account| &account.state) {
            Some(AccountState::Frozen(hash)) => base64(&hash.0),
            _ => String::new(),
        }
    }

    fn last_transaction(&self) -> Value {
        let (lt, hash) = self
            .shard_account
            .as_ref()
            .map_or((0, [0; 32]), |state| (state.last_trans_lt, state.last_trans_hash.0));
        transaction_id(lt, &hash)
    }
}

/// `internal.transactionId`.
pub(super) fn transaction_id(lt: u64, hash: &[u8; 32]) -> Value {
    json!({ "@type": "internal.transactionId", "lt": lt.to_string(), "hash": base64(hash) })
}

pub(super) fn information(node: &Node, params: &Params) -> Answer {
    let seen = Seen::new(node, params)?;
    Ok(json!({
        "@type": "raw.fullAccountState",
        "balance": seen.balance(),
        "extra_currencies": [],
        "code": seen.code().map(boc).unwrap_or_default(),
        "data": seen.data().map(boc).unwrap_or_default(),
        "last_transaction_id": seen.last_transaction(),
        "block_id": block_id(&seen.block, -1),
        "frozen_hash": seen.frozen_hash(),
        "sync_utime": seen.block.unix_time(),
        "state": seen.state(),
    }))
}

pub(super) fn extended_information(node: &Node, params: &Params) -> Answer {
    let seen = Seen::new(node, params)?;
    let account_state = match seen.code() {
        Some(code) => json!({
            "@type": "raw.accountState",
            "code": boc(code),
            "data": seen.data().map(boc).unwrap_or_default(),
            "frozen_hash": "",
        }),
        None => json!({ "@type": "uninited.accountState", "frozen_hash": seen.frozen_hash() }),
    };
    Ok(json!({
        "@type": "fullAccountState",
        "address": { "@type": "accountAddress", "account_address": address_text(&seen.address) },
        "balance": seen.balance(),
        "extra_currencies": [],
        "last_transaction_id": seen.last_transaction(),
        "block_id": block_id(&seen.block, -1),
        "sync_utime": seen.block.unix_time(),
        "account_state": account_state,
        "revision": 0,
    }))
}

/// Wallets by the hash of their code: name, and the bits of data before the seqno.
const WALLETS: &[(&str, &str, u16)] = &[
    ("a0cfc2c48aee16a271f2cfc0b7382d81756cecb1017d077faaab3bb602f6868c", "wallet v1 r1", 0),
    ("d4902fcc9fad74698fa8e353220a68da0dcf72e32bcb2eb9ee04217c17d3062c", "wallet v1 r2", 0),
    ("587cc789eff1c84f46ec3797e45fc809a14ff5ae24f1e0c7a6a99cc9dc9061ff", "wallet v1 r3", 0),
    ("5c9a5e68c108e18721a07c42f9956bfb39ad77ec6d624b60c576ec88eee65329", "wallet v2 r1", 0),
    ("fe9530d3243853083ef2ef0b4c2908c0abf6fa1c31ea243aacaa5bf8c7d753f1", "wallet v2 r2", 0),
    ("b61041a58a7980b946e8fb9e198e3c904d24799ffa36574ea4251c41a566f581", "wallet v3 r1", 0),
    ("84dafa449f98a6987789ba232358072bc0f76dc4524002a5d0918b9a75d2d599", "wallet v3 r2", 0),
    ("feb5ff6820e2ff0d9483e7e0d62c817d846789fb4ae580c878866d959dabd5c0", "wallet v4 r2", 0),
    ("20834b7b72b112147e1b2fb457b84e74d1a30f04f737d4f62a668e9552d2b72f", "wallet v5 r1", 1),
];

pub(super) fn wallet_information(node: &Node, params: &Params) -> Answer {
    let seen = Seen::new(node, params)?;
    let mut answer = json!({
        "wallet": false,
        "balance": seen.balance(),
        "account_state": seen.state(),
        "wallet_type": null,
        "seqno": null,
        "last_transaction_id": seen.last_transaction(),
    });
    let hash = seen.code().map(|code| code.repr_hash().to_string()).unwrap_or_default();
    if let Some((_hash, name, offset)) = WALLETS.iter().find(|(known, _, _)| *known == hash) {
        answer["wallet"] = true.into();
        answer["wallet_type"] = (*name).into();
        let numbers = seen.data().and_then(|data| {
            let mut slice = data.as_slice().ok()?;
            slice.skip_first(*offset, 0).ok()?;
            Some((slice.load_u32().ok()?, slice.load_u32().ok()?))
        });
        if let Some((seqno, id)) = numbers {
            answer["seqno"] = seqno.into();
            // Before version 3 the key follows the seqno.
            if !name.contains("v1") && !name.contains("v2") {
                answer["wallet_id"] = id.into();
            }
        }
    }
    Ok(answer)
}

pub(super) fn balance(node: &Node, params: &Params) -> Answer {
    Ok(Seen::new(node, params)?.balance().into())
}

pub(super) fn state(node: &Node, params: &Params) -> Answer {
    Ok(Seen::new(node, params)?.state().into())
}

pub(super) fn detect(params: &Params) -> Answer {
    let (address, flags) = params.address_and_flags("address")?;
    let testnet = flags.is_some_and(|flags| flags.testnet);
    let forms = |bounceable| {
        let text = address.to_text(AddressFlags { bounceable, testnet });
        json!({ "b64": text.replace('-', "+").replace('_', "/"), "b64url": text })
    };
    let given_type = match flags {
        None => "raw_form",
        Some(AddressFlags { bounceable: true, .. }) => "friendly_bounceable",
        Some(AddressFlags { bounceable: false, .. }) => "friendly_non_bounceable",
    };
    Ok(json!({
        "raw_form": address.to_string(),
        "bounceable": forms(true),
        "non_bounceable": forms(false),
        "given_type": given_type,
        "test_only": testnet,
    }))
}

pub(super) fn pack(params: &Params) -> Answer {
    Ok(address_text(&params.address("address")?).into())
}

pub(super) fn unpack(params: &Params) -> Answer {
    Ok(params.address("address")?.to_string().into())
}
