//! Our contracts and messages in words.

use time::format_description::well_known::Rfc3339;
use ton::human::HumanWalletVersion::{V4R2, V5R1};
use ton::messages::{ClientPayload, Message, Notice};
use ton::states::{ClientData, ContractState, ProxyData, WalletData, WorkerData};
use ton::wallet::WalletOrder;
use ton::{Address, Contract, Params, RootConfig};
use tycho_types::cell::Cell;
use units::{NanoTon, PublicKey};

/// Which contract a code is, by its hash.
pub(super) fn contract(code: Option<&Cell>) -> String {
    let Some(code) = code else { return "without code".to_owned() };
    let human = || {
        let version = [V4R2, V5R1].into_iter().find(|version| version.code().cell() == *code);
        version.map(|version| match version {
            V4R2 => "wallet v4r2",
            V5R1 => "wallet v5r1",
        })
    };
    let name = Contract::of_code(code).map(Contract::name).or_else(human).unwrap_or("unknown");
    format!("{name}, code {}", code.repr_hash())
}

/// What one of our contracts keeps, line by line; nothing of others.
pub(super) fn data(data: &Cell, text: impl Fn(&Address) -> String) -> Vec<(&'static str, String)> {
    if let Ok(client) = ClientData::from_cell(data) {
        return vec![
            ("state", state(client.state, client.unlock_at)),
            ("paid in", client.balance.to_string()),
            ("stake", client.stake.to_string()),
            ("charged", format!("{} tokens", client.tokens_used)),
            ("owner", text(&client.parties.owner)),
            ("proxy", text(&client.parties.proxy)),
        ];
    }
    if let Ok(worker) = WorkerData::from_cell(data) {
        let fee =
            Params::from_cell(&worker.params, ton::CodeMask::None).map(|params| params.worker_fee_per_token);
        let paid = fee.ok().and_then(|fee| fee.charge(worker.tokens).ok());
        return vec![
            ("state", worker.state.to_string()),
            (
                "paid out",
                format!(
                    "{} tokens{}",
                    worker.tokens,
                    paid.map_or_else(String::new, |paid| format!(", {paid}"))
                ),
            ),
            ("owner", text(&worker.parties.owner)),
            ("proxy", text(&worker.parties.proxy)),
        ];
    }
    if let Ok(proxy) = ProxyData::from_cell(data) {
        return vec![
            ("state", state(proxy.state, proxy.unlock_at)),
            ("earned", proxy.balance.to_string()),
            ("stake", proxy.stake.to_string()),
            ("owed", format!("{} to clients and workers", proxy.pool)),
            ("owner", text(&proxy.owner)),
        ];
    }
    if let Ok(wallet) = WalletData::from_cell(data) {
        return vec![
            ("seqno", wallet.seqno.to_string()),
            (
                "state",
                if wallet.is_blocked() { "blocked by its owner".to_owned() } else { "open".to_owned() },
            ),
            ("owner", text(&wallet.owner)),
        ];
    }
    if let Ok(root) = RootConfig::from_data(data) {
        let params = &root.params;
        return vec![
            ("version", format!("{}, params {}", root.version, params.params_version)),
            (
                "prices",
                format!(
                    "{} a token, {} of it to the worker",
                    params.price_per_token, params.worker_fee_per_token
                ),
            ),
            ("proxies", root.registered_proxies.len().to_string()),
            ("models", root.model_hashes.len().to_string()),
            ("owner", text(&root.owner)),
        ];
    }
    Vec::new()
}

fn state(state: ContractState, unlock_at: u32) -> String {
    match state {
        ContractState::Closing => format!("closing, until {}", utc(unlock_at)),
        ContractState::Normal | ContractState::Closed => state.to_string(),
    }
}

/// What a message says.
pub(super) fn body(body: &Cell, text: impl Fn(&Address) -> String) -> String {
    let message = match Message::from_cell(body) {
        Ok(message) => message,
        Err(error) => return format!("a message of ours that cannot be read: {error}"),
    };
    match message {
        Message::Empty => "nothing".to_owned(),
        Message::Client(message) => format!("{}{}", spaced(message.name()), amounts(&message.amounts())),
        Message::Worker(message) => format!("{}{}", spaced(message.name()), amounts(&message.amounts())),
        Message::Proxy(message) => format!("{}{}", spaced(message.name()), amounts(&message.amounts())),
        Message::Root(message) => {
            format!("root: {}{}", spaced(message.name()), amounts(&message.amounts()))
        }
        Message::Wallet(message) => format!("{} in the wallet's name", spaced(message.name())),
        Message::ClientRequest(request) => {
            let asks = match request.payload {
                None => "notes".to_owned(),
                Some(ClientPayload::TopUp { amount, .. }) => format!("tops up {amount}"),
                Some(ClientPayload::Register { nonce }) => format!("answers to connection {nonce}"),
                Some(ClientPayload::RefundGranted { amount, .. }) => {
                    format!("asks for a granted refund of {amount}")
                }
                Some(ClientPayload::RefundForced { amount, .. }) => {
                    format!("asks for {amount} out of the stake")
                }
            };
            let owner = text(&request.owner);
            let state = &request.state;
            format!(
                "client of {owner} {asks}; paid in {}, charged {} tokens",
                state.balance, state.tokens_used
            )
        }
        Message::WorkerRequest(request) => {
            let owner = text(&request.owner);
            let asks = request.payload.map_or_else(
                || "notes".to_owned(),
                |payload| {
                    format!(
                        "asks for a payout of {}, {} of it to the proxy",
                        payload.worker_part, payload.proxy_part
                    )
                },
            );
            format!("worker of {owner} {asks}; paid out {} tokens", request.tokens)
        }
        Message::Payment(payment) => {
            format!("{} up to {} tokens, signed by the proxy", payment.kind, payment.tokens)
        }
        Message::ProxyOrder(order) => format!("{:?}, signed by the proxy", order.kind),
        Message::Notice(Notice::Excess { .. }) => "what was left of a message's money".to_owned(),
        Message::Notice(Notice::Payout { .. }) => "payout".to_owned(),
        Message::Notice(Notice::Anchor(anchor)) => format!("anchor {} of the proxy's journal", anchor.seqno),
        Message::Notice(Notice::Other { .. }) => "a note".to_owned(),
        Message::Text(command) => format!("the command {command:?}"),
        Message::Bounced(_bounced) => "a message that came back".to_owned(),
        Message::Unknown { op } => unknown(body, op),
    }
}

/// What comes from outside to a node wallet has no op: it is an order.
fn unknown(body: &Cell, op: Option<u32>) -> String {
    if let Ok((order, _unchecked)) = WalletOrder::from_cell(body, &PublicKey::new([0; 32])) {
        return format!("order {} of a node wallet with {} messages", order.seqno(), order.messages().len());
    }
    match op {
        // A text for people (TEP-0). It is theirs, and may be anything.
        Some(0) => "a comment".to_owned(),
        Some(op) => format!("unknown, op {op:08x}"),
        None => "unknown".to_owned(),
    }
}

/// `TopUp` becomes `top up`.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// Amounts, each after a space.
fn amounts(amounts: &[NanoTon]) -> String {
    amounts.iter().map(|amount| format!(" {amount}")).collect()
}

/// Date and time in UTC, as RFC 3339 writes them.
pub(super) fn utc(unix_time: u32) -> String {
    let time = time::UtcDateTime::from_unix_timestamp(unix_time.into());
    let text = time.map_err(drop).and_then(|time| time.format(&Rfc3339).map_err(drop));
    text.expect("the years up to 2106 have four digits")
}

#[cfg(test)]
mod tests {
    use ton::messages::{ClientMessage, RootMessage};

    use super::*;

    #[test]
    fn times_are_dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(u32::MAX), "2106-02-07T06:28:15Z");
    }

    #[test]
    fn messages_are_told_by_name_and_in_tons() {
        let excess = Address::new(0, [1; 32]);
        let top_up = ClientMessage::TopUp { query_id: 1, amount: NanoTon::new(1_500_000_000), excess };
        assert_eq!(body(&top_up.to_cell(), |address| address.to_string()), "top up 1.5 TON");
        let (price_per_token, worker_fee_per_token) = (NanoTon::new(1_000_000_000), NanoTon::new(1));
        let prices = RootMessage::SetPrices { query_id: 1, price_per_token, worker_fee_per_token };
        let told = body(&prices.to_cell(), |address| address.to_string());
        assert_eq!(told, "root: set prices 1 TON 0.000000001 TON");
        let withdraw = ClientMessage::Withdraw { query_id: 1, excess };
        assert_eq!(body(&withdraw.to_cell(), |address| address.to_string()), "withdraw");
        assert_eq!(body(&Cell::default(), |address| address.to_string()), "nothing");
        let notice = Notice::Payout { query_id: 1 }.to_cell();
        assert_eq!(body(&notice, |address| address.to_string()), "payout");
    }
}
