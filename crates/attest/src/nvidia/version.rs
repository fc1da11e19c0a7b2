//! Versions of a GPU's driver and VBIOS, which have an order.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A version: up to six groups of hexadecimal digits between dots, each compared as a number.
///
/// A VBIOS has hexadecimal groups, such as `96.00.9F.00.01`, a driver decimal ones, such as `580.159.03`: digits that are all decimal have
/// the same order either way.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GpuVersion(String);

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is one to six groups of one to eight hexadecimal digits between dots, found {found:?}")]
pub struct GpuVersionError {
    found: String,
}

impl GpuVersion {
    /// The groups as numbers.
    fn groups(&self) -> impl Iterator<Item = u32> {
        // A group that is too large for a number is not let in.
        self.0.split('.').map(|group| u32::from_str_radix(group, 16).unwrap_or(u32::MAX))
    }
}

impl FromStr for GpuVersion {
    type Err = GpuVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_group = |group: &str| {
            (1..=8).contains(&group.len()) && group.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        if text.split('.').take(7).count() > 6 || !text.split('.').all(is_group) {
            return Err(GpuVersionError { found: text.chars().take(60).collect() });
        }
        Ok(Self(text.to_ascii_uppercase()))
    }
}

impl Ord for GpuVersion {
    /// By groups; those that only differ in zeros before a number come in the order of their texts.
    fn cmp(&self, other: &Self) -> Ordering {
        self.groups().cmp(other.groups()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for GpuVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for GpuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GpuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuVersion({self})")
    }
}

impl TryFrom<String> for GpuVersion {
    type Error = GpuVersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<GpuVersion> for String {
    fn from(version: GpuVersion) -> Self {
        version.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_of_their_numbers() {
        let version = |text: &str| text.parse::<GpuVersion>().unwrap();
        let drivers =
            ["535.86.09", "550.90.07", "570.86.10", "570.124.03", "570.124.03.1", "575.32", "580.159.03"];
        let vbioses =
            ["96.00.5E.00.01", "96.00.5e.00.04", "96.00.74.00.20", "96.00.AF.00.01", "97.00.88.00.0F"];
        for sorted in [&drivers[..], &vbioses] {
            for pair in sorted.windows(2) {
                assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
            }
        }
        assert_eq!(version("96.00.5e.00.01").to_string(), "96.00.5E.00.01");
    }

    #[test]
    fn other_texts_are_no_versions() {
        for refused in ["", ".", "1.", "1..2", "1.2.3.4.5.6.7", "g", "123456789", "1 ", "-1", "+1"] {
            assert!(refused.parse::<GpuVersion>().is_err(), "{refused}");
        }
        let long = "1.".repeat(1000).parse::<GpuVersion>().unwrap_err().to_string();
        assert!(long.len() < 200, "{long}");
    }
}
