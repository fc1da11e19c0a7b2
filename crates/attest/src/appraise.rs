//! The appraisal of what was verified.

use std::ops::Deref;
use std::time::Duration;

use units::ImageHash;

use crate::measurements::{Measurements, PlatformId, Register};
use crate::policy::{Policy, TcbStatus};
use crate::quote::Claims;
use crate::refusal::Refusal;
use crate::snp::{SnpPlatform, SnpRefusal, SnpReport};

/// The machine that signed a piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Its number at the vendor.
    pub id: PlatformId,
    /// What is known of its firmware.
    pub firmware: Firmware,
    /// The root of its certificates, by the SHA-384 of its key.
    pub root_key: Register,
}

/// What is known of a platform's firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// Intel judges it, and signs that.
    Intel {
        /// What the vendor says of it.
        status: TcbStatus,
        /// What is known against it.
        advisories: Vec<String>,
        /// How new what the vendor said is.
        evaluation_number: u32,
    },
    /// AMD signs which versions it has, and leaves it to policies to judge them.
    Amd(Box<SnpPlatform>),
}

impl Platform {
    /// What the vendor says of its firmware. `None` if the vendor judges none.
    #[must_use]
    pub const fn status(&self) -> Option<TcbStatus> {
        match &self.firmware {
            Firmware::Intel { status, .. } => Some(*status),
            Firmware::Amd(_) => None,
        }
    }
}

/// Evidence that was verified. Whether it is what anybody wants is not asked here: [`Policy::appraise`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub(crate) claims: Claims,
    pub(crate) platform: Platform,
    pub(crate) is_simulated: bool,
    pub(crate) valid_until: Duration,
}

impl Verified {
    /// What the enclave says of itself.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What runs, by its hash.
    #[must_use]
    pub fn image(&self) -> ImageHash {
        self.claims.measurements.image_hash()
    }

    /// Where it runs.
    #[must_use]
    pub const fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Whether the platform's certificates end at a root that is not the vendor's.
    #[must_use]
    pub const fn is_simulated(&self) -> bool {
        self.is_simulated
    }

    /// Until when this holds, since 1970: what the vendor said is not valid any longer then.
    #[must_use]
    pub const fn valid_until(&self) -> Duration {
        self.valid_until
    }
}

/// Evidence that was verified and that a policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraised(Verified);

/// What is kept of evidence while a link lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// What runs.
    pub image: ImageHash,
    /// Whether it runs on a simulated platform: in no enclave, that is. Only test networks accept that.
    pub is_simulated: bool,
}

impl Appraised {
    /// What is kept of it.
    #[must_use]
    pub fn attestation(&self) -> Attestation {
        Attestation { image: self.image(), is_simulated: self.is_simulated }
    }
}

impl Deref for Appraised {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        &self.0
    }
}

impl Policy {
    /// Appraises what was verified, which has to vouch for `report_data`, at `now` since 1970. Costs no cryptography.
    ///
    /// # Errors
    /// [`Refusal`] names the first thing that is not as the policy wants it.
    pub fn appraise(
        &self,
        verified: Verified,
        report_data: &[u8; 64],
        now: Duration,
    ) -> Result<Appraised, Refusal> {
        self.screen(&verified.claims, report_data)?;
        if now >= verified.valid_until {
            return Err(Refusal::Lapsed { valid_until: verified.valid_until, now });
        }
        self.check_platform(&verified)?;
        Ok(Appraised(verified))
    }

    /// Refuses what needs no verification to be refused: another image, another peer's evidence, a debugger's.
    ///
    /// # Errors
    /// [`Refusal`] names the first thing that is not as the policy wants it.
    pub fn screen(&self, claims: &Claims, report_data: &[u8; 64]) -> Result<(), Refusal> {
        let Claims { tee, ref measurements, attributes, is_debug } = *claims;
        if !self.tees.contains(&tee) {
            return Err(Refusal::Tee { found: tee });
        }
        if is_debug {
            return Err(Refusal::Debug { attributes });
        }
        if measurements.report_data() != report_data {
            let (expected, found) = (Box::new(*report_data), Box::new(*measurements.report_data()));
            return Err(Refusal::ReportData { expected, found });
        }
        let image = measurements.image_hash();
        if !self.images.allows(&image) {
            return Err(Refusal::Image { found: image });
        }
        if let Measurements::Tdx(guest) = measurements {
            if !self.mrtds.allows(&guest.mrtd()) {
                return Err(Refusal::Mrtd { found: guest.mrtd() });
            }
            if !self.rtmrs.allows(&guest.rtmrs()) {
                return Err(Refusal::Rtmrs { found: Box::new(guest.rtmrs()) });
            }
        }
        Ok(())
    }

    /// [`Policy::screen`] for a report of SEV-SNP, which by itself says more: who could have signed it, and with what firmware.
    ///
    /// # Errors
    /// [`Refusal`] names the first thing that is not as the policy wants it.
    pub fn screen_report(&self, report: &SnpReport, report_data: &[u8; 64]) -> Result<(), Refusal> {
        self.screen(report.claims(), report_data)?;
        Ok(self.snp.as_ref().ok_or(SnpRefusal::NoPolicy)?.screen(report)?)
    }

    fn check_platform(&self, Verified { claims, platform, .. }: &Verified) -> Result<(), Refusal> {
        let Platform { id, firmware, root_key } = platform;
        if !self.root_keys.allows(root_key) {
            return Err(Refusal::RootKey { found: *root_key });
        }
        match firmware {
            Firmware::Intel { status, advisories, evaluation_number } => {
                self.check_intel(*status, advisories, *evaluation_number)?;
            }
            Firmware::Amd(platform) => {
                self.snp.as_ref().ok_or(SnpRefusal::NoPolicy)?.accepts(claims, platform)?;
            }
        }
        if !self.platforms.allows(id) {
            return Err(Refusal::Platform { found: *id });
        }
        Ok(())
    }

    fn check_intel(
        &self,
        status: TcbStatus,
        advisories: &[String],
        evaluation_number: u32,
    ) -> Result<(), Refusal> {
        if status == TcbStatus::Revoked || !self.statuses.contains(&status) {
            return Err(Refusal::Status { found: status, advisories: advisories.to_vec() });
        }
        if let Some(found) = advisories.iter().find(|advisory| self.refused_advisories.contains(*advisory)) {
            return Err(Refusal::Advisory { found: found.clone() });
        }
        if evaluation_number < self.evaluation_number_min {
            let expected = self.evaluation_number_min;
            return Err(Refusal::EvaluationNumber { expected, found: evaluation_number });
        }
        Ok(())
    }
}
