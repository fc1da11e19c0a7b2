//! Exit codes of the contracts, in words, and what to do about them.
//!
//! Numbers below 1000 belong to TON's virtual machine. The others are those of `contracts/src/errors.tolk`, which the
//! deployed contracts share.

use std::fmt;

/// Why a transaction's compute phase failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitCode(i32);

impl ExitCode {
    /// The code of a transaction.
    #[must_use]
    pub const fn new(code: i32) -> Self {
        Self(code)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }

    /// 0 and 1, the only codes of success.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self.0, 0 | 1)
    }

    /// What the number means and what to do. `None` for numbers that neither our contracts nor the virtual machine
    /// give often.
    #[must_use]
    pub const fn advice(self) -> Option<(&'static str, &'static str)> {
        let advice = match self.0 {
            0 | 1 => ("success", "nothing to do"),
            5 => (
                "a number out of range, or a payment larger than what is there",
                "compare the amounts with the contract's state",
            ),
            9 => (
                "a message or state of another form",
                "look whether sender and contract are of the same version",
            ),
            -14 | 13 => ("out of gas", "attach more: an operation needs 0.1 TON beside the amount it moves"),
            37 => {
                ("too little for what the contract should send", "attach more, or put more on the contract")
            }
            1000 => ("the order's total was landed before", "nothing to do: a newer order has been landed"),
            1001 => (
                "the contract does not hold enough",
                "attach 0.1 TON beside the amount; withdrawing needs a balance above the stake",
            ),
            1002 => (
                "the proxy's stake is below the network's least one",
                "its owner must raise the stake before clients can pay in",
            ),
            1003 => ("the message carries too little", "attach 0.1 TON beside the amount"),
            1004 => {
                ("a malformed text or send mode", "look whether sender and contract are of the same version")
            }
            1005 => ("a signed order and its envelope disagree", "ask the proxy for the order again"),
            1006 => ("the contract is closed, or closing", "begin a new one: reconnect to the proxy"),
            1007 => ("the signature is not the proxy's", "ask the proxy for the order again"),
            1008 => ("the contract's parameters are of another version", "deploy the contract anew"),
            1009 | 1010 => ("only the owner may do this", "send it from the owner's wallet"),
            1011 => ("the delay has not passed yet", "send it again when the contract unlocks"),
            1012 => ("an unknown message", "look whether it went to the contract it was meant for"),
            1013 => ("an unknown text command", "use one of the letters that the contract knows"),
            1014 => {
                ("the sender is not the contract it should be", "look whether the parameters have changed")
            }
            1015 => ("the order is for another contract", "ask the proxy for the order again"),
            1030 => {
                ("the order came too late", "sign it anew; if that happens again, check this machine's clock")
            }
            1031 => ("the owner has blocked the wallet", "the owner unblocks it with the text \"u\""),
            1032 => ("the wallet was at another seqno", "read it again and sign anew"),
            1033 => ("the order is for another subwallet", "sign it for subwallet 0"),
            1034 => ("the signature is not the node's", "look whether the wallet belongs to this node's key"),
            1035 => ("the wallet holds less than 2 TON", "send TON to the wallet"),
            1040 => ("only the wallet's owner may do this", "send it from the owner's wallet"),
            1041 => ("an unknown command", "the wallet knows \"w\", \"b\" and \"u\""),
            2000 => ("no proxy has that number", "look into the list of the root contract"),
            _ => return None,
        };
        Some(advice)
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.advice() {
            Some((meaning, _what_to_do)) => write!(f, "exit code {}: {meaning}", self.0),
            None => write!(f, "exit code {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of `name = number` in the contracts' list.
    fn listed() -> Vec<i32> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/src/errors.tolk");
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("const "))
            .map(|line| {
                let number = line.split_once('=').unwrap().1;
                number.split("//").next().unwrap().trim().parse().unwrap()
            })
            .collect()
    }

    #[test]
    fn every_code_of_the_contracts_has_advice() {
        let listed = listed();
        assert!(listed.len() > 20, "{listed:?}");
        for code in listed {
            assert!(ExitCode::new(code).advice().is_some(), "no advice for exit code {code}");
        }
    }

    #[test]
    fn codes_say_what_they_mean() {
        assert!(ExitCode::new(0).is_success() && ExitCode::new(1).is_success());
        assert!(!ExitCode::new(1000).is_success());
        assert_eq!(ExitCode::new(1003).to_string(), "exit code 1003: the message carries too little");
        assert_eq!(ExitCode::new(4711).to_string(), "exit code 4711");
    }
}
