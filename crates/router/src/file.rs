//! The JSON file of the deployed router.

use std::collections::BTreeSet;
use std::path::PathBuf;

use attest::Register;
use serde::{Deserialize, Serialize};
use units::ImageHash;

use crate::policy::{GuestLists, PolicyKind};

/// What a file says. Keys that it does not know are errors: a list of images whose key is misspelt would accept all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterFile {
    /// Base of the names of certificate and key. Default: generated in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_base_name: Option<PathBuf>,
    /// Threads. Default: 0, one for every two cores.
    pub threads: usize,
    /// Policies by name, beside `any` and `tdx`.
    pub policies: Vec<FilePolicy>,
    /// Where to listen.
    pub ports: Vec<FilePort>,
}

/// A named policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePolicy {
    /// What ports call it.
    pub name: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: PolicyKind,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What of a guest is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tdx_config: Option<TdxConfig>,
}

/// Lists of a policy. One that is not there accepts anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TdxConfig {
    /// MRTDs, 96 digits each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_mrtd: Option<BTreeSet<Register>>,
    /// RTMR0 to RTMR3, 96 digits each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_rtmr: Option<BTreeSet<[Register; 4]>>,
    /// Image hashes, 64 digits each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_image_hashes: Option<OneOrMany<ImageHash>>,
    /// One more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_image_hash: Option<ImageHash>,
    /// Roots of the vendor's certificates, 96 digits each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_collateral_root_hashes: Option<OneOrMany<Register>>,
}

/// One value, or a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T: Ord> {
    /// One.
    One(T),
    /// A list.
    Many(BTreeSet<T>),
}

impl<T: Ord> From<OneOrMany<T>> for BTreeSet<T> {
    fn from(values: OneOrMany<T>) -> Self {
        match values {
            OneOrMany::One(value) => Self::from([value]),
            OneOrMany::Many(values) => values,
        }
    }
}

impl From<TdxConfig> for GuestLists {
    fn from(config: TdxConfig) -> Self {
        let TdxConfig {
            allowed_mrtd: mrtds,
            allowed_rtmr: rtmrs,
            allowed_image_hashes,
            allowed_image_hash,
            allowed_collateral_root_hashes,
        } = config;
        let mut images: Option<BTreeSet<ImageHash>> = allowed_image_hashes.map(Into::into);
        if let Some(image) = allowed_image_hash {
            images.get_or_insert_default().insert(image);
        }
        Self { mrtds, rtmrs, images, root_keys: allowed_collateral_root_hashes.map(Into::into) }
    }
}

/// What a port does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// Connects local programs to where they ask by SOCKS5.
    Socks5,
    /// Connects local programs to one place.
    Forward,
    /// Takes peers' connections to a local program.
    Reverse,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePort {
    /// Its number.
    pub port: u16,
    /// What it does.
    #[serde(rename = "type")]
    pub kind: PortKind,
    /// Which policy its peers are asked by.
    pub policy_name: String,
    /// Where it connects to; not of `socks5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_host: Option<String>,
    /// Where it connects to; not of `socks5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Whether local programs may name another policy as their user name. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_policy_from_username: bool,
    /// Whether the local side is told about the peer. Default: false, whatever the command line says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serialize_info: Option<bool>,
    /// Bits of proof of work that peers have to do. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pow_difficulty: Option<u8>,
    /// Bits of proof of work that are done for peers. Default: 28.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pow_difficulty: Option<u8>,
}

impl RouterFile {
    /// Longest accepted file in bytes.
    pub const LEN_MAX: usize = 1 << 20;

    /// Reads a file.
    ///
    /// # Errors
    /// As the JSON parser says, with line and column.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// A file to begin with: a port of each kind.
    #[must_use]
    pub fn example() -> Self {
        let port = |port, kind| FilePort {
            port,
            kind,
            policy_name: PolicyKind::Tdx.name().to_owned(),
            destination_host: None,
            destination_port: None,
            allow_policy_from_username: false,
            serialize_info: Some(true),
            pow_difficulty: None,
            max_pow_difficulty: None,
        };
        let to = |host: &str, port_number, port| FilePort {
            destination_host: Some(host.to_owned()),
            destination_port: Some(port_number),
            ..port
        };
        let image = TdxConfig {
            allowed_image_hashes: Some(OneOrMany::Many([ImageHash::new([0x11; 32])].into())),
            ..TdxConfig::default()
        };
        let policy = FilePolicy {
            name: "our-image".to_owned(),
            kind: PolicyKind::Tdx,
            description: Some("guests with this image only".to_owned()),
            tdx_config: Some(image),
        };
        Self {
            cert_base_name: None,
            threads: 0,
            policies: vec![policy],
            ports: vec![
                FilePort { max_pow_difficulty: Some(28), ..port(8116, PortKind::Socks5) },
                FilePort {
                    policy_name: "our-image".to_owned(),
                    ..to("proxy.example.org", 11_002, port(8117, PortKind::Forward))
                },
                FilePort {
                    pow_difficulty: Some(20),
                    ..to("127.0.0.1", 11_101, port(11_001, PortKind::Reverse))
                },
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read_as_it_is_written() {
        let text = serde_json::to_string_pretty(&RouterFile::example()).unwrap();
        assert_eq!(RouterFile::from_json(&text).unwrap(), RouterFile::example());
    }

    #[test]
    fn every_key_of_the_deployed_router_is_known() {
        let (register, hash) = ("ab".repeat(48), "cd".repeat(32));
        let file = format!(
            r#"{{"cert_base_name": "/etc/tdx/tdx", "threads": 2,
            "policies": [{{"name": "p", "type": "tdx", "description": "d", "tdx_config": {{"allowed_mrtd": ["{register}"],
                "allowed_rtmr": [["{register}", "{register}", "{register}", "{register}"]], "allowed_image_hashes": "{hash}",
                "allowed_image_hash": "{hash}", "allowed_collateral_root_hashes": ["{register}"]}}}}],
            "ports": [{{"port": 8116, "type": "socks5", "policy_name": "p", "allow_policy_from_username": true}},
                {{"port": 11001, "type": "reverse", "policy_name": "any", "destination_host": "localhost",
                "destination_port": 11101, "serialize_info": true, "pow_difficulty": 20, "max_pow_difficulty": 28}}]}}"#
        );
        let file = RouterFile::from_json(&file).unwrap();
        let lists = GuestLists::from(file.policies[0].tdx_config.clone().unwrap());
        assert_eq!(lists.images.unwrap().len(), 1);
        assert_eq!((lists.mrtds.unwrap().len(), lists.root_keys.unwrap().len()), (1, 1));
        assert_eq!(file.ports[0].serialize_info, None);
    }

    #[test]
    fn what_is_misspelt_or_cut_is_refused() {
        for refused in [
            r#"{"port": []}"#,
            r#"{"policies": [{"name": "p", "type": "TDX"}]}"#,
            r#"{"policies": [{"name": "p", "type": "tdx", "tdx_config": {"allowed_images": []}}]}"#,
            r#"{"policies": [{"name": "p", "type": "tdx", "tdx_config": {"allowed_image_hash": "abcd"}}]}"#,
            r#"{"ports": [{"port": 70000, "type": "socks5", "policy_name": "any"}]}"#,
            r#"{"ports": [{"port": 8116, "type": "socks5"}]}"#,
        ] {
            assert!(RouterFile::from_json(refused).is_err(), "{refused}");
        }
    }
}
