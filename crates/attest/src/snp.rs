//! Evidence of AMD SEV-SNP guests: reports signed by the processor's own key (VCEK), which AMD certifies.
//!
//! The layout of reports is that of AMD's *SEV Secure Nested Paging Firmware ABI Specification* (56860), the extensions of
//! certificates and the forms of TCB versions that of *Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface
//! Specification* (57230).

mod certificates;
mod chain;
mod platform_info;
mod policy;
mod refusal;
mod report;
mod vcek;
mod verifier;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use certificates::{SnpCertificates, SnpCertificatesError};
pub use chain::SnpAuthority;
pub use platform_info::PlatformInfoBit;
pub use policy::{SnpPolicy, TcbFloors, Vmpl, VmplError};
pub use refusal::{SnpCertificate, SnpRefusal};
pub use report::{ChipId, GuestPolicy, SnpReport, SnpReportError};
pub use vcek::VcekId;
pub use verifier::{SnpRoot, SnpVerifier};

/// A line of processors, each with a root of its own at AMD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnpProduct {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004 and 8004.
    Genoa,
    /// EPYC 9005.
    Turin,
}

/// As AMD writes it.
impl fmt::Display for SnpProduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        })
    }
}

/// Security versions of a platform's firmware and microcode. Each counts on its own; none makes up for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpTcb {
    /// The firmware management controller, which only Turin has; 0 for the others.
    pub fmc: u8,
    /// The boot loader of the security processor.
    pub bootloader: u8,
    /// The operating system of the security processor.
    pub tee: u8,
    /// The SNP firmware.
    pub snp: u8,
    /// The processor's microcode.
    pub microcode: u8,
}

impl SnpTcb {
    /// Reads a `TCB_VERSION`, whose bytes each product orders in its own way.
    #[must_use]
    pub const fn from_bytes(product: SnpProduct, bytes: [u8; 8]) -> Self {
        match (product, bytes) {
            (SnpProduct::Milan | SnpProduct::Genoa, [bootloader, tee, .., snp, microcode]) => {
                Self { fmc: 0, bootloader, tee, snp, microcode }
            }
            (SnpProduct::Turin, [fmc, bootloader, tee, snp, .., microcode]) => {
                Self { fmc, bootloader, tee, snp, microcode }
            }
        }
    }

    /// Whether no part is older than that of `floor`.
    #[must_use]
    pub const fn is_at_least(&self, floor: &Self) -> bool {
        self.fmc >= floor.fmc
            && self.bootloader >= floor.bootloader
            && self.tee >= floor.tee
            && self.snp >= floor.snp
            && self.microcode >= floor.microcode
    }
}

impl fmt::Display for SnpTcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fmc, bootloader, tee, snp, microcode } = self;
        write!(f, "fmc {fmc}, bootloader {bootloader}, tee {tee}, snp {snp}, microcode {microcode}")
    }
}

/// What a report says of firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnpTcbs {
    /// The one whose key signed the report.
    pub reported: SnpTcb,
    /// The one that runs.
    pub current: SnpTcb,
    /// The one that the host can go back to.
    pub committed: SnpTcb,
    /// The one under which the guest began.
    pub launch: SnpTcb,
}

/// The platform of a guest, as its processor and AMD vouch for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnpPlatform {
    /// The line of processors.
    pub product: SnpProduct,
    /// Its firmware.
    pub tcbs: SnpTcbs,
    /// The privilege level in the guest at which the report was asked for.
    pub vmpl: u32,
    /// What it says of its protections (`PLATFORM_INFO`): [`PlatformInfoBit`] names them.
    pub platform_info: u64,
    /// Whether AMD's revocation list was at hand.
    pub has_revocations: bool,
}

#[cfg(test)]
mod tests;
