//! What the vendor publishes about platforms.

mod genuine;

use std::fmt;
use std::time::Duration;

use dcap_qvl::QuoteCollateralV3;
use serde::Deserialize;
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

use crate::measurements::Hex;
use crate::quote::Tee;

/// Which platforms a piece of collateral is about. Its text form can be part of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CollateralKind {
    /// The kind of enclave.
    pub tee: Tee,
    /// Family, model, stepping, platform type and SKU, as Intel numbers them.
    pub fmspc: Hex<6>,
    /// Whether the platform's certificate is of the authority for several processor packages (`platform`), or of that for
    /// one (`processor`).
    pub is_multi_package: bool,
}

impl CollateralKind {
    /// The authority's name at Intel.
    #[must_use]
    pub const fn ca(&self) -> &'static str {
        if self.is_multi_package { "platform" } else { "processor" }
    }

    /// The word for the kind of enclave in addresses of Intel's services.
    #[must_use]
    pub const fn tee_name(&self) -> &'static str {
        match self.tee {
            Tee::Tdx => "tdx",
            Tee::Sgx => "sgx",
            Tee::Snp => "snp",
        }
    }
}

impl fmt::Display for CollateralKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.tee_name(), self.fmspc, self.ca())
    }
}

/// What the vendor publishes about platforms: certificates, revocations, and which firmware is up to date.
///
/// It is signed, so it may come from anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collateral(pub(crate) QuoteCollateralV3);

/// A text that is no collateral.
#[derive(Debug, thiserror::Error)]
pub enum CollateralError {
    /// Longer than any.
    #[error("the collateral has {found} bytes, at most {} are read", Collateral::LEN_MAX)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Not of its form.
    #[error("the collateral cannot be read: it is JSON with the members of QuoteCollateralV3")]
    Json(#[from] serde_json::Error),
}

impl Collateral {
    /// Longest accepted text in bytes: a list of revocations can be long.
    pub const LEN_MAX: usize = 1 << 20;

    /// Reads JSON whose members are named as in Intel's `sgx_ql_qve_collateral_t`, with binary ones in hexadecimal.
    ///
    /// # Errors
    /// [`CollateralError`].
    pub fn from_json(text: &str) -> Result<Self, CollateralError> {
        if text.len() > Self::LEN_MAX {
            return Err(CollateralError::TooLong { found: text.len() });
        }
        Ok(Self(serde_json::from_str(text)?))
    }

    /// When the vendor says something new about the platforms, since 1970; until then this holds, unless its certificates or
    /// lists of revocations lapse before. `None` if that cannot be read: nothing is verified with it then.
    #[must_use]
    pub fn next_update(&self) -> Option<Duration> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Dated {
            next_update: String,
        }
        let date = |text: &str| {
            let dated: Dated = serde_json::from_str(text).ok()?;
            let time = UtcDateTime::parse(&dated.next_update, &Rfc3339).ok()?;
            u64::try_from(time.unix_timestamp()).ok().map(Duration::from_secs)
        };
        Some(date(&self.0.tcb_info)?.min(date(&self.0.qe_identity)?))
    }
}
