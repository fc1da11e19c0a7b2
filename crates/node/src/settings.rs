//! Settings that all roles have.

use std::net::SocketAddr;

use ton::contracts::wallet_address;
use ton::{Address, AddressParseError, ContractCode};
use transport::{ConnectConfig, Via};
use units::PublicKey;

use crate::{Evidence, EvidenceConfig, EvidenceConfigError};

/// A setting that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// A value that can never work.
    #[error("{key} must be {expected}")]
    Value {
        /// Key of the configuration.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// An address that is none.
    #[error("{key} is no address")]
    Address {
        /// Key of the configuration.
        key: &'static str,
        /// Why.
        source: AddressParseError,
    },
}

/// The setting `root_address`: the root contract, in any text form. It has no default.
///
/// # Errors
/// [`SettingError`] if it is missing or no address.
pub fn root_address(text: &str) -> Result<Address, SettingError> {
    if text.is_empty() {
        let expected = "set: the address of the network's root contract";
        return Err(SettingError::Value { key: "root_address", expected });
    }
    address("root_address", text)
}

/// The setting `owner_address`: the wallet of the role's owner, in any text form. In a test network, where nothing is
/// at stake, it may be empty, which stands for an owner derived from the role's `own_key`.
///
/// # Errors
/// [`SettingError`] if it is missing where it must not, or no address.
pub fn owner_address(text: &str, own_key: &PublicKey, is_test: bool) -> Result<Address, SettingError> {
    match text {
        "" if is_test => Ok(Address::new(0, *own_key.as_bytes())),
        "" => Err(SettingError::Value { key: "owner_address", expected: "set: the wallet of the owner" }),
        text => address("owner_address", text),
    }
}

fn address(key: &'static str, text: &str) -> Result<Address, SettingError> {
    match Address::parse(text) {
        Ok((address, _any_form)) => Ok(address),
        Err(source) => Err(SettingError::Address { key, source }),
    }
}

/// The node wallet of a role: the hot wallet that acts for `owner` with `own_key`.
#[must_use]
pub fn node_wallet(own_key: &PublicKey, owner: &Address) -> Address {
    // The wallet's code comes with the chain; until then an empty one gives each key its own address.
    wallet_address(&ContractCode::empty(), own_key, owner)
}

/// The settings `router` and `evidence`: how links to proxies are made, by a SOCKS5 router that makes the TLS connections or,
/// without one, here.
///
/// # Errors
/// [`EvidenceConfigError`], also if both are set.
pub fn connect_config(
    router: Option<SocketAddr>,
    evidence: Option<&EvidenceConfig>,
    is_test: bool,
) -> Result<ConnectConfig, EvidenceConfigError> {
    let via = match (router, evidence) {
        (Some(_), Some(_)) => return Err(EvidenceConfigError::Router { key: "router" }),
        (Some(router), None) => Via::Socks5Router(router),
        (None, evidence) => {
            let Evidence { identity, appraiser } = Evidence::open(evidence, is_test)?;
            Via::Direct { identity, appraiser }
        }
    };
    Ok(ConnectConfig { via, ..ConnectConfig::default() })
}

/// For `#[serde(with = …)]`: a duration as a number of seconds.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes seconds, with a fraction.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    /// Reads seconds.
    ///
    /// # Errors
    /// If it is no number, negative, or beyond what a duration holds.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::{Deserialize, Serialize};

    use super::*;

    #[test]
    fn a_root_must_be_named() {
        let text = format!("0:{}", "09".repeat(32));
        assert_eq!(root_address(&text).unwrap(), Address::new(0, [9; 32]));
        assert!(root_address("").unwrap_err().to_string().contains("root_address must be set"));
        assert!(matches!(root_address("x"), Err(SettingError::Address { key: "root_address", .. })));
    }

    #[test]
    fn an_owner_may_only_be_missing_where_nothing_is_at_stake() {
        let key = PublicKey::new([5; 32]);
        assert_eq!(owner_address("", &key, true).unwrap(), Address::new(0, [5; 32]));
        assert!(matches!(
            owner_address("", &key, false),
            Err(SettingError::Value { key: "owner_address", .. })
        ));
        let text = format!("0:{}", "07".repeat(32));
        assert_eq!(owner_address(&text, &key, false).unwrap(), Address::new(0, [7; 32]));
        assert!(matches!(
            owner_address("x", &key, true),
            Err(SettingError::Address { key: "owner_address", .. })
        ));
    }

    #[test]
    fn durations_are_seconds_with_a_fraction() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Settings {
            #[serde(with = "seconds")]
            pause: Duration,
        }
        let settings = Settings { pause: Duration::from_millis(1500) };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(text, r#"{"pause":1.5}"#);
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        for refused in [r#"{"pause":-1}"#, r#"{"pause":1e30}"#, r#"{"pause":"1"}"#] {
            assert!(serde_json::from_str::<Settings>(refused).is_err(), "{refused}");
        }
    }
}
