//! What SEV-SNP guests have to be like: the table `[snp]` of a policy.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::report::GuestPolicy;
use super::{PlatformInfoBit, SnpPlatform, SnpProduct, SnpRefusal, SnpReport, SnpTcb, SnpTcbs};
use crate::measurements::{Hex, Measurements, Register};
use crate::policy::{Allowed, one_of};
use crate::quote::Claims;

/// What is accepted of SEV-SNP guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpPolicy {
    /// The oldest accepted firmware. No default: AMD publishes no signed list of what is up to date, so the policy has to say.
    pub tcb_min: TcbFloors,
    /// Privilege levels at which a report may have been asked for. Default: 0, the highest, where nothing else in the guest can
    /// ask in its name.
    #[serde(default = "highest")]
    pub vmpls: BTreeSet<Vmpl>,
    /// Whether guests are accepted that allow two threads on a core, so that another program can watch by its side. Default: no.
    #[serde(default)]
    pub smt: bool,
    /// Measurements of launches. Default: any, since the image hash holds it.
    #[serde(default)]
    pub measurements: Allowed<Register>,
    /// What the machine has to have on. Default: that its firmware looked for memory at two addresses.
    #[serde(default = "no_aliases")]
    pub platform_info_required: BTreeSet<PlatformInfoBit>,
    /// Whether AMD's revocation list has to come with the certificates. Default: yes.
    #[serde(default = "yes")]
    pub revocations_required: bool,
}

/// A privilege level in a guest, from 0, the highest, to 3. What hosts ask for has none and says so with all ones: no policy can name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vmpl(u8);

/// A number that is no privilege level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a privilege level (VMPL) is a number from 0 to 3, found {found}")]
pub struct VmplError {
    found: u32,
}

impl Vmpl {
    /// All there are.
    pub const ALL: [Self; 4] = [Self(0), Self(1), Self(2), Self(3)];
}

impl TryFrom<u32> for Vmpl {
    type Error = VmplError;

    fn try_from(found: u32) -> Result<Self, Self::Error> {
        Self::ALL.into_iter().find(|level| u32::from(*level) == found).ok_or(VmplError { found })
    }
}

impl From<Vmpl> for u32 {
    fn from(level: Vmpl) -> Self {
        level.0.into()
    }
}

/// The oldest accepted firmware of each product. A product that is not named is not accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbFloors {
    /// For Milan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milan: Option<SnpTcb>,
    /// For Genoa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genoa: Option<SnpTcb>,
    /// For Turin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turin: Option<SnpTcb>,
}

fn highest() -> BTreeSet<Vmpl> {
    BTreeSet::from([Vmpl(0)])
}

fn no_aliases() -> BTreeSet<PlatformInfoBit> {
    BTreeSet::from([PlatformInfoBit::AliasCheckComplete])
}

const fn yes() -> bool {
    true
}

impl TcbFloors {
    const fn of(&self, product: SnpProduct) -> Option<&SnpTcb> {
        match product {
            SnpProduct::Milan => self.milan.as_ref(),
            SnpProduct::Genoa => self.genoa.as_ref(),
            SnpProduct::Turin => self.turin.as_ref(),
        }
    }
}

impl SnpPolicy {
    /// The defaults, for this firmware.
    #[must_use]
    pub fn for_firmware(tcb_min: TcbFloors) -> Self {
        Self {
            tcb_min,
            vmpls: highest(),
            smt: false,
            measurements: Allowed::default(),
            platform_info_required: no_aliases(),
            revocations_required: yes(),
        }
    }

    /// Refuses what a report's own words are enough to refuse, whoever signed it.
    pub(crate) fn screen(&self, report: &SnpReport) -> Result<(), SnpRefusal> {
        let id = report.vcek_id()?;
        self.accepts_guest(report.claims(), report.vmpl(), report.platform_info())?;
        // One that does not say its product is refused only if it would be as any that it can be of.
        let outcomes = id.products().map(|product| self.accepts_firmware(product, &report.tcbs(product)));
        outcomes.reduce(|first, other| if first.is_ok() { first } else { other.or(first) }).unwrap_or(Ok(()))
    }

    /// What a guest and its platform must be like beside what all evidence must.
    pub(crate) fn accepts(&self, claims: &Claims, platform: &SnpPlatform) -> Result<(), SnpRefusal> {
        self.accepts_guest(claims, platform.vmpl, platform.platform_info)?;
        self.accepts_firmware(platform.product, &platform.tcbs)?;
        if self.revocations_required && !platform.has_revocations {
            return Err(SnpRefusal::NoRevocations);
        }
        Ok(())
    }

    fn accepts_guest(&self, claims: &Claims, vmpl: u32, platform_info: u64) -> Result<(), SnpRefusal> {
        let policy = GuestPolicy::new(claims.attributes);
        let bits = claims.attributes;
        if policy.unknown() != 0 {
            return Err(SnpRefusal::UnknownPolicy { bits: policy.unknown() });
        }
        if policy.has(GuestPolicy::MIGRATION_AGENT) {
            return Err(SnpRefusal::MigrationAgent { bits });
        }
        if policy.has(GuestPolicy::SMT) && !self.smt {
            return Err(SnpRefusal::Smt { bits });
        }
        if !self.vmpls.iter().any(|level| u32::from(*level) == vmpl) {
            let expected = one_of(self.vmpls.iter().copied().map(u32::from));
            return Err(SnpRefusal::Vmpl { expected, found: vmpl });
        }
        if let Measurements::Snp(guest) = &claims.measurements {
            let found = Hex::new(guest.measurement);
            if !self.measurements.allows(&found) {
                return Err(SnpRefusal::Measurement { expected: self.measurements.to_string(), found });
            }
        }
        if let Some(expected) = self.platform_info_required.iter().find(|bit| !bit.is_in(platform_info)) {
            return Err(SnpRefusal::PlatformInfo { expected: *expected, found: platform_info });
        }
        Ok(())
    }

    /// Every version of firmware that the report names has to be new enough: what signed it, what runs, what the host can go
    /// back to without the guest's knowing, and what the guest began under.
    fn accepts_firmware(&self, product: SnpProduct, tcbs: &SnpTcbs) -> Result<(), SnpRefusal> {
        let SnpTcbs { reported, current, committed, launch } = *tcbs;
        let floor = self.tcb_min.of(product).ok_or(SnpRefusal::NoFloor { product })?;
        let named =
            [("reported", reported), ("current", current), ("committed", committed), ("launch", launch)];
        if let Some((which, found)) = named.into_iter().find(|(_which, tcb)| !tcb.is_at_least(floor)) {
            return Err(SnpRefusal::Tcb { which, expected: *floor, found });
        }
        Ok(())
    }
}
