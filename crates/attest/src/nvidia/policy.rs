//! What GPUs have to be like: the table `[nvidia]` of a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use super::{Gpu, GpuRefusal, GpuVersion};
use crate::measurements::Register;
use crate::policy::{Allowed, Any, one_of};

/// What is accepted of GPUs. A token that shows debugging is never accepted. A report shows it in its measurements alone: whether it is
/// accepted is up to `golden`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuPolicy {
    /// Forms of evidence. No default.
    pub forms: BTreeSet<GpuForm>,
    /// Models, as NVIDIA's certificates name them, such as `GH100 A01 GSP BROM`. No default.
    pub models: Allowed<String>,
    /// Versions of the driver. No default.
    pub drivers: GpuVersions,
    /// Versions of the VBIOS. No default. One board's are not another's: a list says more than a floor.
    pub vbioses: GpuVersions,
    /// Least number of GPUs. Default: 1.
    #[serde(default = "one")]
    pub gpus_min: usize,
    /// For how long a verdict holds in seconds: since a token was issued, or a report was verified. Default: 3600.
    #[serde(default = "hour")]
    pub age_max_s: u32,
    /// Whether GPUs are accepted whose reports say that links between GPUs are not encrypted (protected PCIe). Default: no. Tokens do
    /// not say it, nor do drivers without that mode.
    #[serde(default)]
    pub protected_pcie: bool,
    /// What reports may have measured. Default: no report is accepted. Tokens have been compared by the service.
    #[serde(default = "none")]
    pub golden: Allowed<GoldenMeasurements>,
}

/// A form of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuForm {
    /// A token of NVIDIA's attestation service.
    Token,
    /// A report that the GPU signed.
    Report,
}

impl fmt::Display for GpuForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::Report => "report",
        })
    }
}

/// Which versions are accepted. As data `"any"`, a list, or `{ min = … }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GpuVersions {
    /// All there are.
    Any(Any),
    /// These, and none if there are none.
    Only(BTreeSet<GpuVersion>),
    /// One and all that came after it.
    From(Floor),
}

/// The oldest of what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// It.
    pub min: GpuVersion,
}

impl GpuVersions {
    /// A version and all that came after it.
    #[must_use]
    pub const fn from(min: GpuVersion) -> Self {
        Self::From(Floor { min })
    }

    fn allows(&self, version: &GpuVersion) -> bool {
        match self {
            Self::Any(Any::Any) => true,
            Self::Only(versions) => versions.contains(version),
            Self::From(Floor { min }) => version >= min,
        }
    }
}

/// In an error, what is accepted.
impl fmt::Display for GpuVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(Any::Any) => f.write_str("any"),
            Self::From(Floor { min }) => write!(f, "{min} or later"),
            Self::Only(versions) => f.write_str(&one_of(versions)),
        }
    }
}

/// What GPUs with one driver and one VBIOS measure, out of NVIDIA's reference manifests (RIM), whose indices are one less.
///
/// Every index that is named must be among the report's, with one of its values. What is not named is not compared: some indices
/// differ from GPU to GPU.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenMeasurements {
    /// Of which driver.
    pub driver: GpuVersion,
    /// Of which VBIOS.
    pub vbios: GpuVersion,
    /// The values of each index. None of both may be empty.
    pub measurements: BTreeMap<MeasurementIndex, BTreeSet<Register>>,
}

/// The number of a measurement in a report, from 1: one more than in NVIDIA's manifests, which count from 0. As data it is a text, since
/// it stands before a value; each number has one, without zeros and signs before it, lest one line of a policy hide another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MeasurementIndex(NonZeroU8);

impl MeasurementIndex {
    /// The one with this number.
    #[must_use]
    pub const fn new(number: NonZeroU8) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl TryFrom<String> for MeasurementIndex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.parse::<NonZeroU8>() {
            Ok(number) if number.to_string() == text => Ok(Self(number)),
            _ => Err(format!(
                "the index of a measurement is a number from 1 to 255 as it is written, found {text:?}"
            )),
        }
    }
}

impl From<MeasurementIndex> for String {
    fn from(index: MeasurementIndex) -> Self {
        index.get().to_string()
    }
}

const fn one() -> usize {
    1
}

const fn hour() -> u32 {
    3600
}

fn none() -> Allowed<GoldenMeasurements> {
    Allowed::only([])
}

impl GpuPolicy {
    /// Any GPU, if its evidence has one of these forms and is genuine: to look at it, not to rely on it.
    #[must_use]
    pub fn for_any(forms: impl IntoIterator<Item = GpuForm>) -> Self {
        Self {
            forms: forms.into_iter().collect(),
            models: Allowed::default(),
            drivers: GpuVersions::Any(Any::Any),
            vbioses: GpuVersions::Any(Any::Any),
            gpus_min: one(),
            age_max_s: hour(),
            protected_pcie: true,
            golden: Allowed::default(),
        }
    }

    /// Whether evidence may have this form.
    pub(super) fn accepts_form(&self, found: GpuForm) -> Result<(), GpuRefusal> {
        if self.forms.contains(&found) {
            return Ok(());
        }
        Err(GpuRefusal::Form { expected: one_of(&self.forms), found })
    }

    /// What a GPU must be like beside what all must.
    pub(super) fn accepts(&self, gpu: &Gpu) -> Result<(), GpuRefusal> {
        let name = || gpu.name.clone();
        if !self.models.allows(&gpu.model) {
            let (expected, found) = (self.models.to_string(), gpu.model.clone());
            return Err(GpuRefusal::Model { name: name(), expected, found });
        }
        if !self.drivers.allows(&gpu.driver) {
            let (expected, found) = (self.drivers.to_string(), gpu.driver.clone());
            return Err(GpuRefusal::Driver { name: name(), expected, found });
        }
        if !self.vbioses.allows(&gpu.vbios) {
            let (expected, found) = (self.vbioses.to_string(), gpu.vbios.clone());
            return Err(GpuRefusal::Vbios { name: name(), expected, found });
        }
        if gpu.protected_pcie == Some(true) && !self.protected_pcie {
            return Err(GpuRefusal::ProtectedPcie { name: name() });
        }
        match &gpu.measurements {
            Some(measured) => self.compare(gpu, measured),
            None => Ok(()),
        }
    }

    /// Whether a GPU measured what one of the golden ones of its versions has.
    fn compare(&self, gpu: &Gpu, measured: &BTreeMap<u8, Register>) -> Result<(), GpuRefusal> {
        let Allowed::Only(golden) = &self.golden else { return Ok(()) };
        let mut refusal = GpuRefusal::NoGolden {
            name: gpu.name.clone(),
            driver: gpu.driver.clone(),
            vbios: gpu.vbios.clone(),
        };
        for one in golden {
            let is_empty = one.measurements.is_empty();
            if one.driver != gpu.driver || one.vbios != gpu.vbios || is_empty {
                continue;
            }
            let differs = one.measurements.iter().find(|(index, accepted)| {
                measured.get(&index.get()).is_none_or(|found| !accepted.contains(found))
            });
            let Some((index, accepted)) = differs else { return Ok(()) };
            refusal = GpuRefusal::Measurement {
                name: gpu.name.clone(),
                index: index.get(),
                expected: accepted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
                found: measured.get(&index.get()).map_or_else(|| "nothing".to_owned(), ToString::to_string),
            };
        }
        Err(refusal)
    }
}
