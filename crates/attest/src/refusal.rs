//! Why evidence is not accepted, in words for the operator of the enclave or of the verifier.

use std::time::Duration;

use units::ImageHash;

use crate::measurements::{Hex, PlatformId, Register};
use crate::policy::TcbStatus;
use crate::quote::Tee;
use crate::snp::SnpRefusal;

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
    /// What was verified holds no longer.
    #[error("the evidence was verified with collateral that lapsed at {} (now {}): verify it anew", .valid_until.as_secs(), .now.as_secs())]
    Lapsed {
        /// Until when it held, since 1970.
        valid_until: Duration,
        /// The time.
        now: Duration,
    },
    /// Something that only evidence of AMD's can have.
    #[error(transparent)]
    Snp(#[from] SnpRefusal),
}
