//! Methods about transactions.

use serde_json::{Value, json};
use ton::Address;
use tycho_types::cell::{Cell, CellBuilder, CellSlice, HashBytes};
use tycho_types::error::Error as CellError;
use tycho_types::models::{IntAddr, MsgInfo, OwnedMessage, Transaction, TxInfo};
use units::LogicalTime;

use super::accounts::transaction_id;
use super::params::{address_text, base64, boc};
use super::{Answer, ApiError, Params};
use crate::accounts::StoredTransaction;
use crate::messages::known_address;
use crate::node::Node;

/// Transactions in one answer.
const LIMIT_MAX: usize = 1_000;
/// What servers of this API give if no limit is said.
const LIMIT: usize = 10;
/// Transactions that are looked through for one message.
const SEARCHED_MAX: usize = 10_000;
/// Bytes of a comment that are put together.
const COMMENT_LEN_MAX: usize = 16 * 1024;

pub(super) fn list(node: &Node, params: &Params) -> Answer {
    let address = params.address("address")?;
    let limit = params.number("limit")?.unwrap_or(LIMIT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(ApiError::unprocessable(format!("limit must be within 1 and {LIMIT_MAX}")));
    }
    let (lt, hash) = (params.number("lt")?.map(LogicalTime::new), params.hash("hash")?);
    if lt.is_some() != hash.is_some() {
        return Err(ApiError::unprocessable("lt and hash name a transaction together: give both or none"));
    }
    let to_lt = LogicalTime::new(params.number("to_lt")?.unwrap_or(0));
    // All of history is here.
    let _archival = params.flag("archival", false)?;
    let found = node.look(|chain, _now| {
        if let (Some(lt), Some(hash)) = (lt, hash) {
            chain.transaction(&address, lt).filter(|found| *found.hash.as_bytes() == hash)?;
        }
        Some(chain.transactions(&address, lt, to_lt, limit).to_vec())
    });
    let found = found.ok_or_else(|| {
        ApiError::unprocessable(
            "LITE_SERVER_UNKNOWN: cannot locate transaction in block with specified logical time",
        )
    })?;
    let newest_first = found.iter().rev().map(transaction);
    Ok(Value::Array(newest_first.collect::<Result<_, _>>()?))
}

pub(super) fn locate_result(node: &Node, params: &Params) -> Answer {
    let (source, destination) = (params.address("source")?, params.address("destination")?);
    let created_lt = params.required("created_lt")?;
    let found = node.look(|chain, _now| {
        let later = chain.transactions(&destination, None, LogicalTime::new(created_lt), usize::MAX);
        let arrived = later.iter().take(SEARCHED_MAX).find(|transaction| {
            let parsed =
                transaction.cell.parse::<Transaction>().ok().and_then(|transaction| transaction.in_msg);
            parsed.is_some_and(|message| is_message(&message, &source, &destination, created_lt))
        });
        arrived.cloned()
    });
    transaction(&found.ok_or_else(not_located)?)
}

pub(super) fn locate_source(node: &Node, params: &Params) -> Answer {
    let (source, destination) = (params.address("source")?, params.address("destination")?);
    let created_lt = params.required("created_lt")?;
    let found = node.look(|chain, _now| {
        // A message has a logical time after its transaction's and before the next one's.
        let sent = chain.transactions(&source, Some(LogicalTime::new(created_lt)), LogicalTime::new(0), 1);
        let parsed: Transaction = sent.first()?.cell.parse().ok()?;
        let mut messages = parsed.out_msgs.values().filter_map(Result::ok);
        let is_it = messages.any(|message| is_message(&message, &source, &destination, created_lt));
        sent.first().filter(|_| is_it).cloned()
    });
    transaction(&found.ok_or_else(not_located)?)
}

fn not_located() -> ApiError {
    ApiError::unprocessable("no transaction with this message is found: it may still be under way")
}

fn is_message(message: &Cell, source: &Address, destination: &Address, created_lt: u64) -> bool {
    let Ok(OwnedMessage { info: MsgInfo::Int(info), .. }) = message.parse() else { return false };
    info.created_lt == created_lt
        && known_address(&info.src).as_ref() == Some(source)
        && known_address(&info.dst).as_ref() == Some(destination)
}

/// `raw.transaction`.
fn transaction(stored: &StoredTransaction) -> Answer {
    let parsed: Transaction = stored.cell.parse()?;
    let storage_fee = match parsed.load_info()? {
        TxInfo::Ordinary(info) => info.storage_phase,
        TxInfo::TickTock(info) => Some(info.storage_phase),
    };
    let storage_fee = storage_fee.map_or(0, |phase| phase.storage_fees_collected.into_inner());
    let mut fee = parsed.total_fees.tokens.into_inner();
    let mut out_messages = Vec::new();
    for cell in parsed.out_msgs.values() {
        let cell = cell?;
        // What messages cost on their way is paid by who sends them.
        if let MsgInfo::Int(info) = cell.parse::<OwnedMessage>()?.info {
            fee = fee.saturating_add(info.fwd_fee.into_inner());
        }
        out_messages.push(message(&cell)?);
    }
    let mut answer = json!({
        "@type": "raw.transaction",
        "address": { "@type": "accountAddress", "account_address": address_text(&stored.account) },
        "account": stored.account.to_string(),
        "utime": parsed.now,
        "data": boc(&stored.cell),
        "transaction_id": transaction_id(stored.lt.get(), stored.hash.as_bytes()),
        "fee": fee.to_string(),
        "storage_fee": storage_fee.to_string(),
        "other_fee": fee.saturating_sub(storage_fee).to_string(),
        "out_msgs": out_messages,
    });
    if let Some(in_message) = &parsed.in_msg {
        answer["in_msg"] = message(in_message)?;
    }
    Ok(answer)
}

/// `raw.message`.
fn message(cell: &Cell) -> Result<Value, ApiError> {
    let parsed: OwnedMessage = cell.parse()?;
    let text =
        |address: &IntAddr| known_address(address).map(|address| address_text(&address)).unwrap_or_default();
    let (source, destination, value, fwd_fee, created_lt) = match &parsed.info {
        MsgInfo::Int(info) => {
            let value = info.value.tokens.into_inner();
            (text(&info.src), text(&info.dst), value, info.fwd_fee.into_inner(), info.created_lt)
        }
        MsgInfo::ExtIn(info) => (String::new(), text(&info.dst), 0, 0, 0),
        MsgInfo::ExtOut(info) => (text(&info.src), String::new(), 0, 0, info.created_lt),
    };
    let (range, holder) = &parsed.body;
    let body = CellBuilder::build_from(range.apply_allow_exotic(holder))?;
    let init_state = parsed.init.as_ref().map(CellBuilder::build_from).transpose()?;
    let comment = comment(&body);
    let msg_data = match &comment {
        Some(text) => json!({ "@type": "msg.dataText", "text": base64(text.as_bytes()) }),
        None => json!({
            "@type": "msg.dataRaw",
            "body": boc(&body),
            "init_state": init_state.as_ref().map(boc).unwrap_or_default(),
        }),
    };
    let HashBytes(hash) = *cell.repr_hash();
    Ok(json!({
        "@type": "raw.message",
        "hash": base64(&hash),
        "source": source,
        "destination": destination,
        "value": value.to_string(),
        "extra_currencies": [],
        "fwd_fee": fwd_fee.to_string(),
        "ihr_fee": "0",
        "created_lt": created_lt.to_string(),
        "body_hash": base64(&body.repr_hash().0),
        "msg_data": msg_data,
        "message": comment.unwrap_or_default(),
    }))
}

/// The text of a body that begins with 32 zero bits (TEP-0, "simple transfer with comment").
fn comment(body: &Cell) -> Option<String> {
    let mut slice = body.as_slice().ok()?;
    if slice.load_u32().ok()? != 0 {
        return None;
    }
    let mut bytes = Vec::new();
    let mut holder = slice.load_reference_cloned();
    read_bytes(slice, &mut bytes).ok()?;
    while let Ok(cell) = holder {
        let slice = cell.as_slice().ok()?;
        read_bytes(slice, &mut bytes).ok()?;
        holder = cell.as_slice().ok()?.load_reference_cloned();
        if bytes.len() > COMMENT_LEN_MAX {
            return None;
        }
    }
    String::from_utf8(bytes).ok()
}

/// All whole bytes of a slice.
fn read_bytes(mut slice: CellSlice<'_>, into: &mut Vec<u8>) -> Result<(), CellError> {
    if !slice.size_bits().is_multiple_of(8) {
        return Err(CellError::InvalidData);
    }
    while slice.size_bits() > 0 {
        into.push(slice.load_u8()?);
    }
    Ok(())
}
