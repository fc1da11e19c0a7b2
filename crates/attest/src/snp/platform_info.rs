//! What a report says of its machine beside firmware: `PLATFORM_INFO`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A protection that a machine has on, as its firmware says in `PLATFORM_INFO`. Firmware that knows none of it says nothing: reports of
/// version 2 have the first one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlatformInfoBit {
    /// All memory is encrypted, the host's too (TSME).
    Tsme,
    /// Memory has error correcting codes (ECC).
    Ecc,
    /// Nobody can measure how much power the processor takes, and guess secrets from it (RAPL).
    RaplDisabled,
    /// The host cannot read encrypted memory, and so not watch it change.
    CiphertextHidingDram,
    /// Since the last reset the firmware has looked for memory that answers at two addresses, and found none: whoever can change what a
    /// memory module says of its size could otherwise write to guests (CVE-2024-21944, `BadRAM`).
    AliasCheckComplete,
}

impl PlatformInfoBit {
    /// All that are known here.
    pub const ALL: [Self; 5] =
        [Self::Tsme, Self::Ecc, Self::RaplDisabled, Self::CiphertextHidingDram, Self::AliasCheckComplete];

    /// Its number in `PLATFORM_INFO`.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Tsme => 1,
            Self::Ecc => 2,
            Self::RaplDisabled => 3,
            Self::CiphertextHidingDram => 4,
            Self::AliasCheckComplete => 5,
        }
    }

    /// Whether it is set in a `PLATFORM_INFO`.
    #[must_use]
    pub const fn is_in(self, platform_info: u64) -> bool {
        platform_info >> self.number() & 1 == 1
    }
}

/// As policies write it.
impl fmt::Display for PlatformInfoBit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tsme => "tsme",
            Self::Ecc => "ecc",
            Self::RaplDisabled => "rapl_disabled",
            Self::CiphertextHidingDram => "ciphertext_hiding_dram",
            Self::AliasCheckComplete => "alias_check_complete",
        })
    }
}
