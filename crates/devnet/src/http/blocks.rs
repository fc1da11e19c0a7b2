//! Methods about blocks and the configuration.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use units::{BlockSeqno, LogicalTime};

use super::params::{base64, boc, missing};
use super::{Answer, ApiError, Params};
use crate::block::Block;
use crate::devnet::Devnet;
use crate::node::Node;

/// The one shard of each workchain, as a signed number.
const WHOLE_WORKCHAIN: i64 = i64::MIN;
/// Transactions in one answer.
const COUNT_MAX: usize = 1_000;
/// What servers of this API give if no count is said.
const COUNT: usize = 40;

/// `ton.blockIdExt` of a block in one workchain.
pub(super) fn block_id(block: &Block, workchain: i8) -> Value {
    let root_hash = block.hash_in(workchain);
    let file_hash: [u8; 32] = Sha256::digest(root_hash.as_bytes()).into();
    json!({
        "@type": "ton.blockIdExt",
        "workchain": workchain,
        "shard": WHOLE_WORKCHAIN.to_string(),
        "seqno": block.seqno.get(),
        "root_hash": base64(root_hash.as_bytes()),
        "file_hash": base64(&file_hash),
    })
}

/// The newest block of the masterchain.
pub(super) fn head(chain: &Devnet) -> Block {
    chain.block(chain.head()).unwrap_or_else(|| chain.last_filled().clone())
}

pub(super) fn masterchain_info(node: &Node) -> Value {
    let (last, init) = node.look(|chain, _now| (head(chain), chain.block(BlockSeqno::new(1))));
    json!({
        "@type": "blocks.masterchainInfo",
        "last": block_id(&last, -1),
        "state_root_hash": base64(last.hash.as_bytes()),
        "init": block_id(&init.unwrap_or_else(|| last.clone()), -1),
    })
}

pub(super) fn consensus_block(node: &Node) -> Value {
    let last = node.look(|chain, _now| head(chain));
    json!({ "consensus_block": last.seqno.get(), "timestamp": last.time.as_secs_f64() })
}

/// The workchain and block that the parameters name.
fn named_block(node: &Node, params: &Params) -> Result<(i8, Block), ApiError> {
    let workchain = workchain(params)?;
    let seqno = BlockSeqno::new(params.required("seqno")?);
    Ok((workchain, node.look(|chain, _now| chain.block(seqno)).ok_or_else(|| no_block("of this number"))?))
}

fn workchain(params: &Params) -> Result<i8, ApiError> {
    let shard: i64 = params.required("shard")?;
    match params.required("workchain")? {
        workchain @ (0 | -1) if shard == WHOLE_WORKCHAIN => Ok(workchain),
        _ => Err(no_block(&format!("outside shard {WHOLE_WORKCHAIN} of workchains 0 and -1"))),
    }
}

fn no_block(which: &str) -> ApiError {
    ApiError {
        status: http::StatusCode::INTERNAL_SERVER_ERROR,
        message: format!("LITE_SERVER_NOTREADY: there is no block {which}"),
    }
}

pub(super) fn lookup(node: &Node, params: &Params) -> Answer {
    let workchain = workchain(params)?;
    let seqno: Option<u32> = params.number("seqno")?;
    let lt: Option<u64> = params.number("lt")?;
    let unix_time: Option<u64> = params.number("unixtime")?;
    let found = node.look(|chain, _now| match (seqno, lt, unix_time) {
        (Some(seqno), _, _) => Some(chain.block(BlockSeqno::new(seqno))),
        (None, Some(lt), _) => Some(chain.block_of(LogicalTime::new(lt))),
        (None, None, Some(time)) => Some(chain.block_at(Duration::from_secs(time))),
        (None, None, None) => None,
    });
    let block = found.ok_or_else(|| missing("one of seqno, lt and unixtime"))?;
    Ok(block_id(&block.ok_or_else(|| no_block("there or then"))?, workchain))
}

pub(super) fn shards(node: &Node, params: &Params) -> Answer {
    let seqno = BlockSeqno::new(params.required("seqno")?);
    let block = node.look(|chain, _now| chain.block(seqno)).ok_or_else(|| no_block("of this number"))?;
    Ok(json!({ "@type": "blocks.shards", "shards": [block_id(&block, 0)] }))
}

pub(super) fn header(node: &Node, params: &Params) -> Answer {
    let (workchain, block) = named_block(node, params)?;
    let before = block.seqno.get().checked_sub(1);
    let previous = before.and_then(|seqno| node.look(|chain, _now| chain.block(BlockSeqno::new(seqno))));
    Ok(json!({
        "@type": "blocks.header",
        "id": block_id(&block, workchain),
        "global_id": node.look(|chain, _now| chain.config().global_id()),
        "version": 0,
        "flags": 1,
        "after_merge": false,
        "after_split": false,
        "before_split": false,
        "want_merge": false,
        "want_split": false,
        "validator_list_hash_short": 0,
        "catchain_seqno": 0,
        "min_ref_mc_seqno": block.seqno.get(),
        "is_key_block": false,
        "prev_key_block_seqno": 0,
        "start_lt": block.start_lt().to_string(),
        "end_lt": block.end_lt().to_string(),
        "gen_utime": block.unix_time(),
        "vert_seqno": 0,
        "prev_blocks": previous.iter().map(|block| block_id(block, workchain)).collect::<Vec<_>>(),
    }))
}

pub(super) fn transactions(node: &Node, params: &Params) -> Answer {
    let (workchain, block) = named_block(node, params)?;
    let count = params.number("count")?.unwrap_or(COUNT);
    if count == 0 || count > COUNT_MAX {
        return Err(ApiError::unprocessable(format!("count must be within 1 and {COUNT_MAX}")));
    }
    let after_lt: Option<u64> = params.number("after_lt")?;
    let after_hash = params.hash("after_hash")?;
    let here = block.transactions.iter().filter(|transaction| transaction.account.workchain() == workchain);
    let mut rest = here.peekable();
    if let (Some(lt), Some(hash)) = (after_lt, after_hash) {
        // The caller names the last one it has, by its logical time and its account.
        let is_last = |id: &&crate::TransactionId| id.lt.get() == lt && *id.account.hash() == hash;
        if rest.by_ref().find(is_last).is_none() {
            return Err(ApiError::unprocessable("no transaction of the block has after_lt and after_hash"));
        }
    }
    let page: Vec<Value> = rest
        .by_ref()
        .take(count)
        .map(|transaction| {
            json!({
                "@type": "blocks.shortTxId",
                "mode": 135,
                "account": transaction.account.to_string(),
                "lt": transaction.lt.to_string(),
                "hash": base64(transaction.hash.as_bytes()),
            })
        })
        .collect();
    Ok(json!({
        "@type": "blocks.transactions",
        "id": block_id(&block, workchain),
        "req_count": count,
        "incomplete": rest.peek().is_some(),
        "transactions": page,
    }))
}

pub(super) fn config_param(node: &Node, params: &Params) -> Answer {
    let id = match params.number::<i32>("config_id")? {
        Some(id) => id,
        None => params.required("param")?,
    };
    let cell = node.look(|chain, _now| chain.config().parameter(id.cast_unsigned()));
    let cell = cell.ok_or_else(|| ApiError::unprocessable(format!("the network has no parameter {id}")))?;
    Ok(config_info(boc(&cell)))
}

pub(super) fn config_all(node: &Node) -> Value {
    config_info(node.look(|chain, _now| boc(chain.config().root())))
}

fn config_info(bytes: String) -> Value {
    json!({ "@type": "configInfo", "config": { "@type": "tvm.cell", "bytes": bytes } })
}
