//! The appraisal of quotes.

use std::time::Duration;

use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3};
use units::ImageHash;

use crate::crypto::AwsLc;
use crate::measurements::{Hex, Measurements, PlatformId, Register};
use crate::policy::{Policy, TcbStatus};
use crate::quote::{Quote, Tee};

/// Whose certificates platforms have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// Intel's.
    Intel,
    /// Somebody else's, as DER: platforms that are simulated.
    Other(Vec<u8>),
}

/// What the vendor publishes about platforms: certificates, revocations, and which firmware is up to date.
///
/// It is signed, so it may come from anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collateral(QuoteCollateralV3);

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
}

/// The machine that signed a quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Its number at the vendor.
    pub id: PlatformId,
    /// What the vendor says of its firmware.
    pub status: TcbStatus,
    /// What is known against it.
    pub advisories: Vec<String>,
    /// How new what the vendor said is.
    pub evaluation_number: u32,
    /// The root of its certificates, by the SHA-384 of its key.
    pub root_key: Register,
}

/// Evidence that was verified and that a policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraised {
    tee: Tee,
    measurements: Measurements,
    platform: Platform,
    valid_until: Duration,
}

impl Appraised {
    /// The kind of enclave.
    #[must_use]
    pub const fn tee(&self) -> Tee {
        self.tee
    }

    /// What runs.
    #[must_use]
    pub const fn measurements(&self) -> &Measurements {
        &self.measurements
    }

    /// What runs, by its hash.
    #[must_use]
    pub fn image(&self) -> ImageHash {
        self.measurements.image_hash()
    }

    /// Where it runs.
    #[must_use]
    pub const fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Until when this holds, since 1970: what the vendor said is not valid any longer then.
    #[must_use]
    pub const fn valid_until(&self) -> Duration {
        self.valid_until
    }
}

/// Why evidence is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another kind of enclave.
    #[error("the evidence is of {found}, which the policy does not name: tees")]
    Tee {
        /// The kind.
        found: Tee,
    },
    /// Its host can read it.
    #[error(
        "the enclave runs under debug (attributes {attributes:#x}): its host can read all of it; start it without"
    )]
    Debug {
        /// Its attributes.
        attributes: u64,
    },
    /// Evidence of somebody else.
    #[error("the evidence vouches for {}, and not for {}, which is the peer's key: it was made for another key, or copied",
        Hex::new(**.found), Hex::new(**.expected))]
    ReportData {
        /// What it has to vouch for.
        expected: Box<[u8; 64]>,
        /// What it vouches for.
        found: Box<[u8; 64]>,
    },
    /// An image that nobody allowed.
    #[error(
        "image {found} is not on the list: build the image that is, or have this one added to the network's root contract"
    )]
    Image {
        /// Its hash.
        found: ImageHash,
    },
    /// Firmware that nobody allowed.
    #[error("firmware with MRTD {found} is not among those of the policy: mrtds")]
    Mrtd {
        /// What was measured.
        found: Register,
    },
    /// A boot that nobody allowed.
    #[error("RTMR0 to RTMR3 are {found:?}, which are not among those of the policy: rtmrs")]
    Rtmrs {
        /// What was measured.
        found: Box<[Register; 4]>,
    },
    /// Nobody vouches for it.
    #[error("the evidence is not genuine, or the collateral does not fit it: {reason}")]
    Unverified {
        /// What the verifier said.
        reason: String,
    },
    /// Under another root.
    #[error(
        "the platform's certificates end at root key {found}, which is not among those of the policy: root_keys"
    )]
    RootKey {
        /// The root.
        found: Register,
    },
    /// Firmware of the platform with known holes.
    #[error("the platform's status is {found} ({}): update its firmware, or name the status in the policy", .advisories.join(", "))]
    Status {
        /// What the vendor says.
        found: TcbStatus,
        /// What is known against it.
        advisories: Vec<String>,
    },
    /// A hole that the policy names.
    #[error(
        "advisory {found} applies to the platform, and the policy refuses it: update the platform's firmware"
    )]
    Advisory {
        /// Which one.
        found: String,
    },
    /// The collateral is too old for the policy.
    #[error("the collateral is evaluation {found}, the policy asks for {expected}: fetch newer collateral")]
    EvaluationNumber {
        /// The least.
        expected: u32,
        /// Its number.
        found: u32,
    },
    /// A machine that nobody allowed.
    #[error("platform {found} is not among those of the policy: platforms")]
    Platform {
        /// Its number.
        found: PlatformId,
    },
}

/// Verifies quotes under one root.
#[derive(Clone, Debug)]
pub struct Verifier {
    root: Root,
}

/// The policy is ours, so the library accepts all that it verified.
struct AcceptsAll;

impl dcap_qvl::Policy for AcceptsAll {
    fn validate(&self, _claims: &QuoteClaims) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Verifier {
    /// A verifier that trusts one root.
    #[must_use]
    pub const fn new(root: Root) -> Self {
        Self { root }
    }

    /// Appraises a quote that has to vouch for `report_data`, at `now` since 1970. What costs little is checked first; the
    /// outcome does not depend on the order.
    ///
    /// # Errors
    /// [`Refusal`] names the first thing that is not as the policy wants it.
    pub fn appraise(
        &self,
        quote: &Quote,
        report_data: &[u8; 64],
        collateral: &Collateral,
        policy: &Policy,
        now: Duration,
    ) -> Result<Appraised, Refusal> {
        claims(quote, report_data, policy)?;
        let verified = self.verify(quote, collateral, now);
        let verified = verified.map_err(|error| Refusal::Unverified { reason: format!("{error:#}") })?;
        let platform = platform(&verified)?;
        accepts(policy, &platform)?;
        Ok(Appraised {
            tee: quote.tee(),
            measurements: quote.measurements().clone(),
            platform,
            valid_until: Duration::from_secs(verified.earliest_expiration_date),
        })
    }

    fn verify(&self, quote: &Quote, collateral: &Collateral, now: Duration) -> anyhow::Result<QuoteClaims> {
        let root = match &self.root {
            Root::Intel => INTEL_ROOT.to_vec(),
            Root::Other(der) => der.clone(),
        };
        let verifier = QuoteVerifier::<AwsLc>::new_with_config(root);
        verifier.verify_with_policy(quote.as_bytes(), &collateral.0, now.as_secs(), &AcceptsAll)
    }
}

/// `Intel SGX Root CA`, from <https://certificates.trustedservices.intel.com/>.
const INTEL_ROOT: &[u8] = include_bytes!("../roots/intel_sgx.der");

/// What can be refused before anything is verified.
fn claims(quote: &Quote, report_data: &[u8; 64], policy: &Policy) -> Result<(), Refusal> {
    let (tee, measurements) = (quote.tee(), quote.measurements());
    if !policy.tees.contains(&tee) {
        return Err(Refusal::Tee { found: tee });
    }
    if quote.is_debug() {
        return Err(Refusal::Debug { attributes: quote.attributes() });
    }
    if measurements.report_data() != report_data {
        let (expected, found) = (Box::new(*report_data), Box::new(*measurements.report_data()));
        return Err(Refusal::ReportData { expected, found });
    }
    let image = measurements.image_hash();
    if !policy.images.allows(&image) {
        return Err(Refusal::Image { found: image });
    }
    if let Measurements::Tdx(guest) = measurements {
        if !policy.mrtds.allows(&guest.mrtd()) {
            return Err(Refusal::Mrtd { found: guest.mrtd() });
        }
        if !policy.rtmrs.allows(&guest.rtmrs()) {
            return Err(Refusal::Rtmrs { found: Box::new(guest.rtmrs()) });
        }
    }
    Ok(())
}

fn platform(claims: &QuoteClaims) -> Result<Platform, Refusal> {
    let unread =
        |what: &str| Refusal::Unverified { reason: format!("{what} has another length than it must have") };
    let id =
        claims.platform.pck.ppid.as_slice().try_into().map_err(|_length| unread("the platform's number"))?;
    let root_key =
        claims.platform.root_key_id.as_slice().try_into().map_err(|_length| unread("the root key's id"))?;
    Ok(Platform {
        id: Hex::new(id),
        status: claims.tcb.status.into(),
        advisories: claims.tcb.advisory_ids.clone(),
        evaluation_number: claims.tcb.eval_data_number,
        root_key: Hex::new(root_key),
    })
}

fn accepts(policy: &Policy, platform: &Platform) -> Result<(), Refusal> {
    let Platform { id, status, advisories, evaluation_number, root_key } = platform;
    if !policy.root_keys.allows(root_key) {
        return Err(Refusal::RootKey { found: *root_key });
    }
    if *status == TcbStatus::Revoked || !policy.statuses.contains(status) {
        return Err(Refusal::Status { found: *status, advisories: advisories.clone() });
    }
    if let Some(found) = advisories.iter().find(|advisory| policy.refused_advisories.contains(*advisory)) {
        return Err(Refusal::Advisory { found: found.clone() });
    }
    if *evaluation_number < policy.evaluation_number_min {
        let expected = policy.evaluation_number_min;
        return Err(Refusal::EvaluationNumber { expected, found: *evaluation_number });
    }
    if !policy.platforms.allows(id) {
        return Err(Refusal::Platform { found: *id });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
