//! Answers of HTTP API v2: bounded bytes in, typed values out.
//!
//! Amounts and logical times come as texts or as numbers, depending on the server.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::value::RawValue;
use ton::decode_boc;
use ton::stack::{self, StackValue};
use tycho_types::cell::Cell;
use units::{BlockSeqno, LogicalTime, NanoTon, TransactionHash};

use crate::account::{Account, AccountStatus};
use crate::network::Network;
use crate::transaction::TransactionId;

/// Longest bag of cells with the code or the data of a contract.
const CELL_LEN_MAX: usize = 2 << 20;
/// Longest text of the results of a get method: Cocoon's have a dozen numbers and addresses.
const STACK_LEN_MAX: usize = 64 << 10;
/// Characters that are kept of a server's own words.
const WORDS_LEN_MAX: usize = 300;

/// An answer that is none: which part of it, and what is wrong there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Malformed {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

pub(crate) fn malformed(field: &'static str, problem: impl fmt::Display) -> Malformed {
    Malformed { field, problem: words(&problem.to_string()) }
}

/// What a server says in words, short and without control characters.
pub(crate) fn words(text: &str) -> String {
    text.chars().take(WORDS_LEN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `{"ok":true,"result":…}`, or why not.
#[derive(Deserialize)]
pub(crate) struct Envelope<'a> {
    #[serde(default)]
    pub(crate) ok: bool,
    #[serde(borrow, default)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) code: Option<i64>,
}

impl Envelope<'_> {
    /// Why not, in the server's words.
    pub(crate) fn reason(&self) -> Option<String> {
        let json = self.error?.get();
        // What is no text is told as it is written: its tree could take far more memory.
        Some(words(&serde_json::from_str::<String>(json).unwrap_or_else(|_no_text| json.to_owned())))
    }
}

/// A value that is written as a number or as a text with one.
struct Number(i128);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a text with one")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number.into()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number.into()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(|_no_number| E::custom("a text without a number"))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Number {
    fn unsigned<T: TryFrom<i128>>(&self, field: &'static str) -> Result<T, Malformed> {
        T::try_from(self.0).map_err(|_beyond| malformed(field, format_args!("{} is out of range", self.0)))
    }
}

#[derive(Deserialize)]
struct Id {
    lt: Number,
    hash: String,
}

impl Id {
    fn read(&self) -> Result<Option<TransactionId>, Malformed> {
        let lt: u64 = self.lt.unsigned("lt")?;
        let hash = bytes("hash", &self.hash)?;
        let hash = hash.try_into().map_err(|_other| malformed("hash", "not 32 bytes"))?;
        let id = TransactionId { lt: LogicalTime::new(lt), hash: TransactionHash::new(hash) };
        Ok((lt != 0).then_some(id))
    }
}

#[derive(Deserialize)]
struct BlockId {
    seqno: Number,
    workchain: Number,
    shard: Number,
}

#[derive(Deserialize)]
struct AccountAnswer {
    balance: Number,
    code: String,
    data: String,
    last_transaction_id: Id,
    block_id: BlockId,
    sync_utime: Number,
    state: String,
}

/// `getAddressInformation`.
pub(crate) fn account(json: &str) -> Result<Account, Malformed> {
    let answer: AccountAnswer = parse(json)?;
    let status = match answer.state.as_str() {
        "active" => {
            AccountStatus::Active { code: cell("code", &answer.code)?, data: cell("data", &answer.data)? }
        }
        "uninitialized" => AccountStatus::Uninit,
        "frozen" => AccountStatus::Frozen,
        other => return Err(malformed("state", format_args!("{other:?} is unknown"))),
    };
    // Of an account that is not there, some servers say -1.
    let balance = Number(answer.balance.0.max(0)).unsigned("balance")?;
    Ok(Account {
        balance: NanoTon::new(balance),
        status,
        last: answer.last_transaction_id.read()?,
        block: BlockSeqno::new(answer.block_id.seqno.unsigned("seqno")?),
        block_time: Duration::from_secs(answer.sync_utime.unsigned("sync_utime")?),
    })
}

#[derive(Deserialize)]
struct TransactionAnswer {
    data: String,
}

/// `getTransactions`: bags of cells, the newest first.
pub(crate) fn transactions(json: &str) -> Result<Vec<Vec<u8>>, Malformed> {
    let answer: Vec<TransactionAnswer> = parse(json)?;
    answer.iter().map(|transaction| bytes("data", &transaction.data)).collect()
}

/// `tryLocateResultTx`: a bag of cells.
pub(crate) fn transaction(json: &str) -> Result<Vec<u8>, Malformed> {
    let answer: TransactionAnswer = parse(json)?;
    bytes("data", &answer.data)
}

/// A block of the masterchain, as `getMasterchainInfo` names it and `getBlockHeader` wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockName {
    pub(crate) workchain: i32,
    pub(crate) shard: i64,
    pub(crate) seqno: u32,
}

/// `getMasterchainInfo`.
pub(crate) fn newest_block(json: &str) -> Result<BlockName, Malformed> {
    #[derive(Deserialize)]
    struct Answer {
        last: BlockId,
    }
    let Answer { last } = parse(json)?;
    Ok(BlockName {
        workchain: last.workchain.unsigned("workchain")?,
        shard: last.shard.unsigned("shard")?,
        seqno: last.seqno.unsigned("seqno")?,
    })
}

/// `getMasterchainInfo`: the network that began with its first block.
pub(crate) fn network(json: &str) -> Result<Network, Malformed> {
    #[derive(Deserialize)]
    struct Answer {
        init: First,
    }
    #[derive(Deserialize)]
    struct First {
        root_hash: String,
    }
    let Answer { init } = parse(json)?;
    Ok(Network::of_first_block(&init.root_hash))
}

/// `getBlockHeader`: when the block was made, since 1970.
pub(crate) fn block_time(json: &str) -> Result<Duration, Malformed> {
    #[derive(Deserialize)]
    struct Answer {
        gen_utime: Number,
    }
    let Answer { gen_utime } = parse(json)?;
    Ok(Duration::from_secs(gen_utime.unsigned("gen_utime")?))
}

/// What a get method answered.
#[derive(Debug)]
pub(crate) struct GetterAnswer {
    /// 0 or 1 if it ended well; -13 of an account without a contract.
    pub(crate) exit_code: i32,
    /// Its results, the first one first.
    pub(crate) stack: Vec<StackValue>,
}

/// `runGetMethod`.
pub(crate) fn getter(json: &str) -> Result<GetterAnswer, Malformed> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        exit_code: Number,
        #[serde(borrow)]
        stack: &'a RawValue,
    }
    let answer: Answer<'_> = parse(json)?;
    let exit_code = answer.exit_code.unsigned("exit_code")?;
    // A tree of values takes a hundred times the bytes of the shortest text for it.
    let text = answer.stack.get();
    if text.len() > STACK_LEN_MAX {
        return Err(malformed(
            "stack",
            format_args!("{} bytes are more than any method answers", text.len()),
        ));
    }
    let stack = stack::from_json(&parse(text)?).map_err(|error| malformed("stack", error))?;
    Ok(GetterAnswer { exit_code, stack })
}

/// `estimateFee`: what the account itself pays: import, storage, gas and the way of its messages.
pub(crate) fn fees(json: &str) -> Result<NanoTon, Malformed> {
    #[derive(Deserialize)]
    struct Fees {
        in_fwd_fee: Number,
        storage_fee: Number,
        gas_fee: Number,
        fwd_fee: Number,
    }
    #[derive(Deserialize)]
    struct Answer {
        source_fees: Fees,
    }
    let Answer { source_fees: fees } = parse(json)?;
    let mut sum = NanoTon::ZERO;
    for fee in [fees.in_fwd_fee, fees.storage_fee, fees.gas_fee, fees.fwd_fee] {
        let fee = NanoTon::new(fee.unsigned("source_fees")?);
        sum = sum.checked_add(fee).map_err(|error| malformed("source_fees", error))?;
    }
    Ok(sum)
}

fn parse<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, Malformed> {
    serde_json::from_str(json).map_err(|error| malformed("result", error))
}

fn bytes(field: &'static str, text: &str) -> Result<Vec<u8>, Malformed> {
    STANDARD.decode(text).map_err(|_no_base64| malformed(field, "no base64"))
}

/// A cell, or none where there is no text.
fn cell(field: &'static str, text: &str) -> Result<Option<Cell>, Malformed> {
    if text.is_empty() {
        return Ok(None);
    }
    let cell = decode_boc(&bytes(field, text)?, CELL_LEN_MAX).map_err(|error| malformed(field, error))?;
    Ok(Some(cell))
}

/// Reads `body` as the answer to every question there is. For the fuzz target `chain_answers`, and a test with its seeds.
///
/// # Panics
/// If an error says more than a line of a log holds.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_in_every_way(body: &[u8]) {
    fn told<T>(read: Result<T, Malformed>) -> Option<T> {
        // A character has at most four bytes.
        read.inspect_err(|error| assert!(error.problem.len() <= 4 * WORDS_LEN_MAX, "{error}")).ok()
    }
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(body) else { return };
    assert!(envelope.reason().is_none_or(|words| words.len() <= 4 * WORDS_LEN_MAX));
    let Some(result) = envelope.result.map(RawValue::get) else { return };
    let account_id = ton::Address::new(0, [1; 32]);
    let read = |boc: Vec<u8>| crate::Transaction::from_boc(&account_id, &boc).ok();
    told(transactions(result)).into_iter().flatten().for_each(|boc| drop(read(boc)));
    told(transaction(result)).map(read);
    told(account(result));
    told(newest_block(result));
    told(network(result));
    told(block_time(result));
    told(fees(result));
    if let Some(GetterAnswer { exit_code, stack }) = told(getter(result)) {
        use ton::getters::{GetClient, GetParams, GetProxy, GetRoot, GetSeqno, GetWorker, Getter as _};
        let _root = GetRoot.answer(exit_code, &stack);
        let _params = GetParams.answer(exit_code, &stack);
        let _proxy = GetProxy.answer(exit_code, &stack);
        let _client = GetClient.answer(exit_code, &stack);
        let _worker = GetWorker.answer(exit_code, &stack);
        let _seqno = GetSeqno.answer(exit_code, &stack);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn account_json() -> Value {
        json!({
            "balance": "1500000000", "code": "", "data": "", "state": "active", "sync_utime": 1_800_000_000,
            "last_transaction_id": { "lt": "7", "hash": STANDARD.encode([1; 32]) },
            "block_id": { "workchain": -1, "shard": "-9223372036854775808", "seqno": 5 },
        })
    }

    #[test]
    fn numbers_are_read_as_numbers_and_as_texts() {
        let read = account(&account_json().to_string()).unwrap();
        assert_eq!((read.balance, read.block.get()), (NanoTon::new(1_500_000_000), 5));
        let mut other = account_json();
        other["balance"] = json!(1_500_000_000);
        other["sync_utime"] = json!("1800000000");
        assert_eq!(account(&other.to_string()).unwrap(), read);
    }

    #[test]
    fn networks_are_told_apart_by_their_first_block() {
        let of = |root_hash: &str| network(&json!({ "init": { "root_hash": root_hash } }).to_string());
        assert_eq!(of("F6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk="), Ok(Network::Mainnet));
        assert_eq!(of("gj+B8wb/AmlPk1z1AhVI484rhrUpgSr2oSFIh56VoSg="), Ok(Network::Testnet));
        assert_eq!(of("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), Ok(Network::Other));
        assert!(network("{}").is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        for (field, value, named) in [
            ("balance", json!("many"), "result"),
            ("balance", json!("99999999999999999999999"), "balance"),
            ("sync_utime", json!(-1), "sync_utime"),
            ("state", json!("asleep"), "state"),
            ("code", json!("te6"), "code"),
            ("data", json!("AAAA"), "data"),
            ("last_transaction_id", json!({ "lt": 7, "hash": "AAAA" }), "hash"),
            ("block_id", json!(null), "result"),
        ] {
            let mut changed = account_json();
            changed[field] = value;
            assert_eq!(account(&changed.to_string()).unwrap_err().field, named, "{field}");
        }
        assert!(account("[]").is_err() && account("{").is_err() && transactions("[{}]").is_err());
    }

    #[test]
    fn an_account_that_is_not_there_has_nothing() {
        let mut json = account_json();
        json["balance"] = json!(-1);
        json["state"] = json!("uninitialized");
        json["last_transaction_id"]["lt"] = json!("0");
        let read = account(&json.to_string()).unwrap();
        assert_eq!((read.balance, read.last, read.status), (NanoTon::ZERO, None, AccountStatus::Uninit));
    }

    #[test]
    fn results_of_get_methods_are_read_within_a_bound() {
        let cell = STANDARD.encode(tycho_types::boc::Boc::encode(Cell::default()));
        let json = json!({ "exit_code": 0, "stack": [["num", "0x1f"], ["slice", { "bytes": cell }]] });
        let read = getter(&json.to_string()).unwrap();
        assert_eq!(read.exit_code, 0);
        assert_eq!(read.stack, [StackValue::Number(31.into()), StackValue::Slice(Cell::default())]);
        for wrong in [json!(["num", "0xz"]), json!(["cell", {}]), json!("odd"), json!(["what", 1])] {
            let error = getter(&json!({ "exit_code": 0, "stack": [wrong] }).to_string()).unwrap_err();
            assert_eq!(error.field, "stack");
        }
        let of_length = |len: usize| {
            let stack = format!("[{}]", " ".repeat(len - 2));
            getter(&format!(r#"{{"exit_code":0,"stack":{stack}}}"#))
        };
        assert!(of_length(STACK_LEN_MAX).is_ok());
        let error = of_length(STACK_LEN_MAX + 1).unwrap_err().to_string();
        assert!(error.contains("65537 bytes are more than any method answers"), "{error}");
        assert!(getter(r#"{"exit_code":4294967296,"stack":[]}"#).is_err());
    }

    #[test]
    fn reasons_are_texts_or_told_as_they_are_written() {
        let reason = |error: &str| {
            let json = format!(r#"{{"ok":false,"error":{error}}}"#);
            serde_json::from_str::<Envelope<'_>>(&json).unwrap().reason()
        };
        assert_eq!(reason(r#""no\nway""#).as_deref(), Some("no way"));
        assert_eq!(reason(r#"{"a":1}"#).as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(
            reason(&format!("[{}0]", "0,".repeat(1_000_000))).map(|words| words.len()),
            Some(WORDS_LEN_MAX)
        );
        assert_eq!(reason("null"), None);
    }

    #[test]
    fn every_kept_answer_is_read_or_refused() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/chain_answers");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(seeds.len() > 10, "{} seeds", seeds.len());
        for seed in seeds {
            read_in_every_way(&std::fs::read(seed).unwrap());
        }
    }

    #[test]
    fn words_of_servers_are_cut_and_cleaned() {
        assert_eq!(words("a\nb\u{7}c"), "a b c");
        assert_eq!(words(&"x".repeat(10_000)).len(), WORDS_LEN_MAX);
    }
}
