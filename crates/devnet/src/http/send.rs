//! Methods that send, and that ask contracts.

use serde_json::{Value, json};
use ton::stack;
use tycho_types::cell::{Cell, CellFamily as _};
use tycho_types::models::StateInit;

use super::blocks::{block_id, head};
use super::params::{base64, missing};
use super::{Answer, ApiError, Params};
use crate::execute::unknown_account;
use crate::fees::{FeeEstimate, estimate_fee};
use crate::getter::{self, GetterError};
use crate::messages::{ExternalMessage, normalised_hash};
use crate::node::Node;

fn submit(node: &Node, params: &Params) -> Result<ExternalMessage, ApiError> {
    let message = ExternalMessage::from_boc(&params.required_bytes("boc")?);
    let message = message.map_err(|error| {
        let refused = ApiError::refused(&error);
        ApiError::unprocessable(refused.message)
    })?;
    node.submit(message.clone()).map_err(|error| {
        let mut refused = ApiError::refused(&error);
        refused.message = format!(
            "LITE_SERVER_UNKNOWN: cannot apply external message to current state : {}",
            refused.message
        );
        refused
    })?;
    Ok(message)
}

pub(super) fn boc(node: &Node, params: &Params) -> Answer {
    submit(node, params)?;
    Ok(json!({ "@type": "ok" }))
}

pub(super) fn boc_return_hash(node: &Node, params: &Params) -> Answer {
    let message = submit(node, params)?;
    let normal = normalised_hash(&message.cell).map(|hash| base64(hash.as_bytes()));
    Ok(json!({
        "@type": "raw.extMessageInfo",
        "hash": base64(&message.cell.repr_hash().0),
        "hash_norm": normal,
    }))
}

pub(super) fn estimate(node: &Node, params: &Params) -> Answer {
    let to = params.address("address")?;
    let body = params.cell("body")?.unwrap_or_else(Cell::empty_cell);
    let (code, data) = (params.cell("init_code")?, params.cell("init_data")?);
    let init = (code.is_some() || data.is_some()).then(|| StateInit { code, data, ..StateInit::default() });
    let ignore_signatures = params.flag("ignore_chksig", true)?;
    let message = ExternalMessage::from_parts(&to, init, body).map_err(|error| {
        let refused = ApiError::refused(&error);
        ApiError::unprocessable(refused.message)
    })?;
    let (config, account, mut moment) =
        node.look(|chain, now| (chain.shared_config(), chain.account(&to).cloned(), chain.next_moment(now)));
    moment.ignore_signatures = ignore_signatures;
    let FeeEstimate { import, storage, gas, forward } =
        estimate_fee(&config, &moment, account.as_ref(), &message)
            .map_err(|error| ApiError::refused(&error))?;
    let number = |amount: u128| Value::from(u64::try_from(amount).unwrap_or(u64::MAX));
    Ok(json!({
        "@type": "query.fees",
        "source_fees": {
            "@type": "fees",
            "in_fwd_fee": number(import),
            "storage_fee": number(storage),
            "gas_fee": number(gas),
            "fwd_fee": number(forward),
        },
        "destination_fees": [],
    }))
}

pub(super) fn run_get_method(node: &Node, params: &Params) -> Answer {
    let address = params.address("address")?;
    let method = match params.value("method") {
        Some(Value::Number(number)) => method_number(number.as_i64())?,
        Some(Value::String(name)) if !name.is_empty() => match name.parse::<i64>() {
            Ok(number) => method_number(Some(number))?,
            Err(_name) => getter::method_id(name),
        },
        _ => return Err(missing("method")),
    };
    let arguments = match params.value("stack") {
        Some(value) => stack::from_json(value)
            .map_err(|error| ApiError::unprocessable(ApiError::refused(&error).message))?,
        None => Vec::new(),
    };
    let (config, account, moment, block) = node.look(|chain, now| {
        (chain.shared_config(), chain.account(&address).cloned(), chain.next_moment(now), head(chain))
    });
    let account = account.map_or_else(unknown_account, Ok)?;
    let answer = match getter::run_get_method(&config, &moment, &account, method, &arguments) {
        Ok(answer) => answer,
        // What servers of this API answer for an account without a contract.
        Err(GetterError::NotActive) => {
            getter::GetterAnswer { exit_code: -13, gas_used: 0, stack: Vec::new() }
        }
        Err(error) => return Err(ApiError::refused(&error)),
    };
    Ok(json!({
        "@type": "smc.runResult",
        "gas_used": answer.gas_used,
        "stack": stack::to_json(&answer.stack),
        "exit_code": answer.exit_code,
        "block_id": block_id(&block, -1),
        "last_transaction_id": super::accounts::transaction_id(account.last_trans_lt, &account.last_trans_hash.0),
    }))
}

fn method_number(number: Option<i64>) -> Result<u32, ApiError> {
    let number = number.and_then(|number| i32::try_from(number).ok());
    number
        .map(i32::cast_unsigned)
        .ok_or_else(|| ApiError::unprocessable("method is a name or a number of 32 bits"))
}
