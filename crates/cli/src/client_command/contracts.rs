//! What a running client says of its wallet and of its contracts with proxies, in words.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use units::NanoTon;

use crate::running::Running;

/// A client's money.
#[derive(Debug)]
pub(super) struct Purse {
    wallet: Wallet,
    pub(super) contracts: Vec<Contract>,
}

#[derive(Debug, Deserialize)]
struct Wallet {
    address: String,
    /// None before it was seen.
    balance: Option<NanoTon>,
    /// What of it no order that has yet to leave counts on.
    unpromised: Option<NanoTon>,
    trouble: Option<String>,
}

/// A contract with one proxy.
#[derive(Debug, Deserialize)]
pub(super) struct Contract {
    pub(super) sc_address: String,
    proxy_sc_address: String,
    stage: String,
    /// From when a closing contract can be taken without the proxy, in seconds since 1970.
    unlock_at: Option<u32>,
    balance: NanoTon,
    stake: NanoTon,
    used_tokens: u64,
    charged_tokens: u64,
    owed: NanoTon,
    left: NanoTon,
    /// None where tokens cost nothing.
    unspent_tokens: Option<u64>,
    missing_in_wallet: Option<NanoTon>,
    pub(super) failures: u32,
    /// What is under way.
    pub(super) order: Option<Duty>,
    last_order: Option<Ended>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Duty {
    duty: String,
    amount: NanoTon,
}

#[derive(Debug, Deserialize)]
struct Ended {
    #[serde(flatten)]
    duty: Duty,
    outcome: String,
    transaction: Option<String>,
}

impl Purse {
    /// # Errors
    /// If the client does not answer, or has no chain.
    pub(super) async fn of(client: &Running) -> Result<Self> {
        Self::read(client.stats().await?).context("the client is of another version")
    }

    fn read(mut stats: Value) -> Result<Self> {
        let wallet = serde_json::from_value(stats["wallet"].take())?;
        let contracts = serde_json::from_value(stats["contracts"].take())?;
        Ok(Self { wallet, contracts })
    }
}

impl Contract {
    pub(super) fn is_closed(&self) -> bool {
        self.stage == "closed"
    }

    /// Whether it closes on the chain, not only in intention.
    pub(super) fn closes(&self) -> bool {
        self.unlock_at.is_some()
    }

    /// Whether the order of this name failed, and what became of it.
    pub(super) fn outcome(&self, name: &str) -> (bool, String) {
        let last = self.last_order.as_ref().map_or_else(String::new, |last| format!(": {last}"));
        let (has_failed, said) = match (&self.order, name) {
            _ if self.failures > 0 => {
                (true, format!("failed   {name}{last}; the client tries again what it wants itself"))
            }
            (Some(order), _) => {
                (true, format!("waiting  {order} does not show yet: cocoon client balance tells"))
            }
            (None, "close") if self.is_closed() => {
                (false, "done     the contract is closed: everything is paid back".to_owned())
            }
            (None, "close") => (false, format!("begun    {}", self.closing())),
            (None, _) => (false, format!("done{}", last.replacen(':', "    ", 1))),
        };
        (has_failed, said)
    }

    fn closing(&self) -> String {
        match self.unlock_at {
            Some(at) => format!(
                "the contract closes: the proxy may pay back at any time, and from Unix time {at} on this client takes it by itself"
            ),
            None => "the contract is to be closed".to_owned(),
        }
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.amount {
            NanoTon::ZERO => f.write_str(&self.duty),
            amount => write!(f, "{} of {amount}", self.duty),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { duty, outcome, transaction } = self;
        write!(f, "{duty}: {outcome}")?;
        transaction.iter().try_for_each(|id| write!(f, ", transaction {id}"))
    }
}

impl fmt::Display for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wallet { address, balance, unpromised, trouble } = &self.wallet;
        match balance {
            Some(balance) => writeln!(f, "wallet   {address} has {balance}")?,
            None => writeln!(f, "wallet   {address} was not seen yet")?,
        }
        if let (Some(balance), Some(unpromised)) = (balance, unpromised)
            && unpromised < balance
        {
            writeln!(f, "         {} of it are promised to orders", balance.saturating_sub(*unpromised))?;
        }
        if let Some(trouble) = trouble {
            writeln!(f, "         {trouble}")?;
        }
        if self.contracts.is_empty() {
            writeln!(
                f,
                "there is no contract with a proxy yet, or the client has no chain in its configuration"
            )?;
        }
        self.contracts.iter().try_for_each(|contract| write!(f, "{contract}"))
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "proxy    {}", self.proxy_sc_address)?;
        writeln!(f, "contract {} is {}", self.sc_address, self.stage)?;
        writeln!(
            f,
            "balance  {} on the chain, of which {} are the stake",
            self.balance,
            self.stake.min(self.balance)
        )?;
        let unspent =
            self.unspent_tokens.map_or_else(|| "any number of".to_owned(), |tokens| tokens.to_string());
        writeln!(
            f,
            "tokens   {} used, {} of them charged on the chain; {unspent} are left",
            self.used_tokens, self.charged_tokens
        )?;
        writeln!(f, "owed     {} for what is used and not charged yet", self.owed)?;
        match self.stage.as_str() {
            "closed" => {}
            "closing" => writeln!(f, "refund   {}: {}", self.left, self.closing())?,
            _ => writeln!(f, "refund   {} if it were closed now", self.left)?,
        }
        if let Some(missing) = self.missing_in_wallet {
            writeln!(f, "missing  {missing} in the wallet, to pay in what is needed")?;
        }
        if let Some(order) = &self.order {
            writeln!(f, "now      {order} is on its way")?;
        }
        if let Some(last) = &self.last_order {
            writeln!(f, "last     {last}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn purse(stage: &str, failures: u32, order: &Value) -> Purse {
        let last = json!({ "duty": "top up", "amount": 3_000_000_000_u64, "outcome": "done", "transaction": "7:ab" });
        let contract = json!({
            "sc_address": "UQ", "proxy_sc_address": "UP", "stage": stage, "unlock_at": null,
            "balance": 4_000_000_000_u64, "stake": 1_000_000_000, "used_tokens": 10, "charged_tokens": 4,
            "owed": 120, "left": 3_999_999_880_u64, "unspent_tokens": 199_999_994, "missing_in_wallet": null,
            "failures": failures, "order": order, "last_order": last,
        });
        let wallet = json!({
            "address": "UW", "balance": 9_000_000_000_u64, "unpromised": 8_500_000_000_u64, "trouble": "too little",
        });
        Purse::read(json!({ "wallet": wallet, "contracts": [contract] })).unwrap()
    }

    #[test]
    fn all_is_told_in_words() {
        let text = purse("open", 0, &Value::Null).to_string();
        for part in [
            "UW has 9 TON",
            "0.5 TON of it are promised",
            "too little",
            "UQ is open",
            "4 TON on the chain, of which 1 TON",
            "10 used, 4 of them charged on the chain; 199999994 are left",
            "owed     0.00000012 TON",
            "refund   3.99999988 TON if it were closed now",
            "last     top up of 3 TON: done, transaction 7:ab",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let stats = json!({ "wallet": { "address": "UW" }, "contracts": [] });
        let text = Purse::read(stats).unwrap().to_string();
        assert!(text.contains("was not seen yet") && text.contains("no contract"), "{text}");
    }

    #[test]
    fn an_order_has_failed_if_the_client_says_so_or_it_never_shows() {
        let outcome = |failures, order: Value, name| {
            let purse = purse(if name == "close" { "closed" } else { "open" }, failures, &order);
            purse.contracts[0].outcome(name)
        };
        let under_way = json!({ "duty": "withdraw", "amount": 0 });
        assert_eq!(
            outcome(0, Value::Null, "deposit"),
            (false, "done     top up of 3 TON: done, transaction 7:ab".to_owned())
        );
        assert!(!outcome(0, Value::Null, "close").0);
        let (failed, said) = outcome(1, Value::Null, "deposit");
        assert!(failed && said.starts_with("failed   deposit: top up of 3 TON"), "{said}");
        let (failed, said) = outcome(0, under_way, "withdraw");
        assert!(failed && said.contains("withdraw does not show yet"), "{said}");
    }
}
