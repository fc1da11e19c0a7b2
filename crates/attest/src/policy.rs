//! What evidence has to be like, as data: TOML or JSON.
//!
//! A policy fails closed. Which images are accepted has no default, an empty list accepts none, and an unknown key is an error.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use units::ImageHash;

use crate::measurements::{PlatformId, Register};
use crate::nvidia::GpuPolicy;
use crate::quote::Tee;
use crate::snp::SnpPolicy;

/// What is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Policy {
    /// Kinds of enclaves. Default: TDX.
    #[serde(default = "tdx")]
    pub tees: BTreeSet<Tee>,
    /// Images, by their hash.
    pub images: Allowed<ImageHash>,
    /// Firmware images of TDX guests. Default: any, since the image hash holds it.
    #[serde(default)]
    pub mrtds: Allowed<Register>,
    /// Registers of TDX guests, RTMR0 to RTMR3. Default: any, since the image hash holds them.
    #[serde(default)]
    pub rtmrs: Allowed<[Register; 4]>,
    /// Roots of the vendor's certificates, by the SHA-384 of their keys. Default: any that the verifier trusts.
    #[serde(default)]
    pub root_keys: Allowed<Register>,
    /// What the vendor says of the platform's firmware. Default: up to date only. What is revoked is never accepted.
    #[serde(default = "up_to_date")]
    pub statuses: BTreeSet<TcbStatus>,
    /// Least number of the vendor's evaluation data (`tcbEvaluationDataNumber`). Default: 0.
    #[serde(default)]
    pub evaluation_number_min: u32,
    /// Advisories, such as `INTEL-SA-00837`, with which no platform is accepted whatever its status. Default: none.
    #[serde(default)]
    pub refused_advisories: BTreeSet<String>,
    /// Platforms, such as those whose place is known. Default: any.
    #[serde(default)]
    pub platforms: Allowed<PlatformId>,
    /// What guests under AMD SEV-SNP must be like. Default: none is accepted, even where `tees` names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snp: Option<SnpPolicy>,
    /// What GPUs of NVIDIA must be like. Default: none is accepted. It says nothing of guests: [`crate::GpuVerifier`] asks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvidia: Option<GpuPolicy>,
}

impl Serialize for Policy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// Refuses what cannot have been meant: guests that are named in one place and in another are not.
impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let policy = Self::deserialize(deserializer)?;
        match (policy.tees.contains(&Tee::Snp), &policy.snp) {
            (true, None) => Err(serde::de::Error::custom(
                "tees names \"snp\", and no table [snp] says what such guests must be like: add it, or take the name out",
            )),
            (false, Some(_)) => Err(serde::de::Error::custom(
                "there is a table [snp], and tees does not name \"snp\": name it, or take the table out",
            )),
            _ => Ok(policy),
        }
    }
}

/// Which values are accepted. As data the word `"any"`, or a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Allowed<T: Ord> {
    /// All there are.
    Any(Any),
    /// These, and none if there are none.
    Only(BTreeSet<T>),
}

/// The word `"any"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Any {
    /// The only one.
    Any,
}

impl<T: Ord> Allowed<T> {
    /// Exactly these.
    pub fn only(values: impl IntoIterator<Item = T>) -> Self {
        Self::Only(values.into_iter().collect())
    }

    /// Whether a value is accepted.
    pub fn allows(&self, value: &T) -> bool {
        match self {
            Self::Any(Any::Any) => true,
            Self::Only(values) => values.contains(value),
        }
    }
}

impl<T: Ord> Default for Allowed<T> {
    fn default() -> Self {
        Self::Any(Any::Any)
    }
}

/// In an error, what is accepted.
impl<T: Ord + fmt::Display> fmt::Display for Allowed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(Any::Any) => f.write_str("any"),
            Self::Only(values) => f.write_str(&one_of(values)),
        }
    }
}

/// A list in an error: all of it, if it is short.
pub(crate) fn one_of(values: impl IntoIterator<Item = impl fmt::Display>) -> String {
    const SHOWN_MAX: usize = 8;
    let mut values = values.into_iter();
    let mut shown: Vec<_> = values.by_ref().take(SHOWN_MAX).map(|value| value.to_string()).collect();
    let others = values.count();
    if others > 0 {
        shown.push(format!("{others} more"));
    }
    format!("one of [{}]", shown.join(", "))
}

/// What the vendor says of a platform's firmware and microcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TcbStatus {
    /// All that is known is mended.
    UpToDate,
    /// The software that runs has to do something about what is known.
    #[serde(rename = "SWHardeningNeeded")]
    SwHardeningNeeded,
    /// The platform's configuration leaves something open.
    ConfigurationNeeded,
    /// Both.
    #[serde(rename = "ConfigurationAndSWHardeningNeeded")]
    ConfigurationAndSwHardeningNeeded,
    /// Something known is not mended.
    OutOfDate,
    /// That, and the configuration.
    OutOfDateConfigurationNeeded,
    /// The guest began under firmware that has been mended since: it should begin anew.
    #[serde(rename = "TDRelaunchAdvised")]
    TdRelaunchAdvised,
    /// That, and the configuration.
    #[serde(rename = "TDRelaunchAdvisedConfigurationNeeded")]
    TdRelaunchAdvisedConfigurationNeeded,
    /// The vendor no longer vouches for the platform. No policy can name it.
    #[serde(skip)]
    Revoked,
}

impl TcbStatus {
    /// All that a policy can name.
    pub const ALL_BUT_REVOKED: [Self; 8] = [
        Self::UpToDate,
        Self::SwHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSwHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::TdRelaunchAdvised,
        Self::TdRelaunchAdvisedConfigurationNeeded,
    ];
}

/// As the vendor writes it.
impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::TdRelaunchAdvised => "TDRelaunchAdvised",
            Self::TdRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            Self::Revoked => "Revoked",
        })
    }
}

impl From<dcap_qvl::TcbStatus> for TcbStatus {
    fn from(status: dcap_qvl::TcbStatus) -> Self {
        use dcap_qvl::TcbStatus as Theirs;
        match status {
            Theirs::UpToDate => Self::UpToDate,
            Theirs::SWHardeningNeeded => Self::SwHardeningNeeded,
            Theirs::ConfigurationNeeded => Self::ConfigurationNeeded,
            Theirs::ConfigurationAndSWHardeningNeeded => Self::ConfigurationAndSwHardeningNeeded,
            Theirs::OutOfDate => Self::OutOfDate,
            Theirs::OutOfDateConfigurationNeeded => Self::OutOfDateConfigurationNeeded,
            Theirs::TDRelaunchAdvised => Self::TdRelaunchAdvised,
            Theirs::TDRelaunchAdvisedConfigurationNeeded => Self::TdRelaunchAdvisedConfigurationNeeded,
            Theirs::Revoked => Self::Revoked,
        }
    }
}

fn tdx() -> BTreeSet<Tee> {
    BTreeSet::from([Tee::Tdx])
}

fn up_to_date() -> BTreeSet<TcbStatus> {
    BTreeSet::from([TcbStatus::UpToDate])
}

impl Policy {
    /// The defaults, for these images.
    #[must_use]
    pub fn for_images(images: Allowed<ImageHash>) -> Self {
        Self {
            tees: tdx(),
            images,
            mrtds: Allowed::default(),
            rtmrs: Allowed::default(),
            root_keys: Allowed::default(),
            statuses: up_to_date(),
            evaluation_number_min: 0,
            refused_advisories: BTreeSet::new(),
            platforms: Allowed::default(),
            snp: None,
            nvidia: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_data_with_strict_defaults() {
        let image = "ab".repeat(32);
        let read = |text: &str| toml::from_str::<Policy>(text);
        let least = read(&format!("images = [\"{image}\"]")).unwrap();
        assert_eq!(least, Policy::for_images(Allowed::only([image.parse().unwrap()])));
        assert_eq!(toml::from_str::<Policy>(&toml::to_string(&least).unwrap()).unwrap(), least);
        let most = format!(
            "tees = [\"tdx\", \"sgx\"]\nimages = \"any\"\nmrtds = [\"{register}\"]\nrtmrs = [[\"{register}\", \"{register}\", \
             \"{register}\", \"{register}\"]]\nroot_keys = [\"{register}\"]\nstatuses = [\"UpToDate\", \"SWHardeningNeeded\"]\n\
             evaluation_number_min = 17\nrefused_advisories = [\"INTEL-SA-00837\"]\nplatforms = [\"{platform}\"]",
            register = "cd".repeat(48),
            platform = "ef".repeat(16),
        );
        let most = read(&most).unwrap();
        assert!(most.images.allows(&image.parse().unwrap()));
        assert_eq!((most.tees.len(), most.statuses.len(), most.evaluation_number_min), (2, 2, 17));
    }

    #[test]
    fn an_error_says_what_is_accepted_and_not_a_whole_list() {
        assert_eq!(Allowed::<u8>::default().to_string(), "any");
        assert_eq!(Allowed::<u8>::only([]).to_string(), "one of []");
        assert_eq!(Allowed::only([2, 1]).to_string(), "one of [1, 2]");
        assert_eq!(Allowed::only(1..=8).to_string(), "one of [1, 2, 3, 4, 5, 6, 7, 8]");
        assert_eq!(Allowed::only(1..=100).to_string(), "one of [1, 2, 3, 4, 5, 6, 7, 8, 92 more]");
    }

    #[test]
    fn what_says_nothing_accepts_nothing() {
        let read = |text: &str| toml::from_str::<Policy>(text);
        assert!(read("").is_err(), "images have no default");
        let none = read("images = []").unwrap();
        assert!(!none.images.allows(&ImageHash::new([0; 32])));
        for refused in [
            "images = \"all\"",
            "images = \"any\"\nimage = []",
            "images = \"any\"\nstatuses = [\"Revoked\"]",
            "images = \"any\"\nstatuses = [\"uptodate\"]",
            "images = [\"abc\"]",
            "images = \"any\"\nplatforms = [\"ab\"]",
        ] {
            assert!(read(refused).is_err(), "{refused}");
        }
    }
}
