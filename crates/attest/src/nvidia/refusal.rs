//! Why evidence of GPUs is not accepted, in words for the operator of the GPU or of the verifier.

use std::time::Duration;

use super::{GpuForm, GpuNonce, GpuVerifier, GpuVersion};
use crate::measurements::Register;

/// Why evidence of GPUs is not accepted. A `name` is that of a GPU, such as `GPU-0`, or `overall` for the token about all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuRefusal {
    /// The policy says nothing of GPUs.
    #[error("the policy accepts no GPU: it has no table [nvidia], which says what GPUs must be like")]
    NoPolicy,
    /// Another form of evidence.
    #[error(
        "the evidence is a {found}, and the policy accepts {expected} (nvidia.forms): ask for it in such a form"
    )]
    Form {
        /// What is accepted.
        expected: String,
        /// Which one.
        found: GpuForm,
    },
    /// Signed in another way, or not at all.
    #[error(
        "the token {name} names the algorithm {found:?}, and must be signed by ES384: ask NVIDIA's service anew"
    )]
    Algorithm {
        /// Which one.
        name: String,
        /// What its header says.
        found: String,
    },
    /// Signed with a key that nobody gave.
    #[error(
        "the token {name} is signed with key {found:?}, which is not in the set of keys: fetch the set anew from {}",
        GpuVerifier::KEYS_URL
    )]
    UnknownKey {
        /// Which one.
        name: String,
        /// The key's id.
        found: String,
    },
    /// Not signed with the key that it names.
    #[error("the token {name} is not signed with key {key:?}: it was changed, or made by somebody else")]
    TokenSignature {
        /// Which one.
        name: String,
        /// The key's id.
        key: String,
    },
    /// A claim that is absent, or of another kind.
    #[error("the token {name} has no readable claim {claim:?}: version 3.0 of the claims has it")]
    UnreadableClaim {
        /// Whose.
        name: String,
        /// Which one.
        claim: String,
    },
    /// A claim with another value than it must have.
    #[error(
        "the token {name} says {found} as {claim:?}, and must say {expected}: see what NVIDIA's tool `nvattest` finds on that machine"
    )]
    Claim {
        /// Whose.
        name: String,
        /// Which one.
        claim: String,
        /// What it must be, as JSON.
        expected: String,
        /// What it is, as JSON.
        found: String,
    },
    /// Whoever has the machine can read the GPU.
    #[error(
        "debugging of GPU {name} is {found}, and must be \"disabled\": take the GPU out of developer mode"
    )]
    Debug {
        /// Which GPU.
        name: String,
        /// What its token says, as JSON.
        found: String,
    },
    /// Made for another question.
    #[error(
        "the evidence of {name} answers nonce {found}, and {expected} was asked: it was kept, or made for somebody else"
    )]
    Nonce {
        /// Whose.
        name: String,
        /// What was asked.
        expected: GpuNonce,
        /// What it answers.
        found: GpuNonce,
    },
    /// Its time has not come.
    #[error("the token {name} is valid from {} on, it is {} (seconds since 1970): compare the clocks", .from.as_secs(), .now.as_secs())]
    NotYetValid {
        /// Which one.
        name: String,
        /// When it begins, since 1970.
        from: Duration,
        /// The time.
        now: Duration,
    },
    /// Its time is over.
    #[error("the token {name} was valid until {}, it is {} (seconds since 1970): ask NVIDIA's service anew", .until.as_secs(), .now.as_secs())]
    Expired {
        /// Which one.
        name: String,
        /// When it ended, since 1970.
        until: Duration,
        /// The time.
        now: Duration,
    },
    /// What was verified holds no longer.
    #[error("the evidence was verified with a token or certificates that lapsed at {}, it is {} (seconds since 1970): ask for it anew",
        .until.as_secs(), .now.as_secs())]
    Lapsed {
        /// Until when it held, since 1970.
        until: Duration,
        /// The time.
        now: Duration,
    },
    /// Older than the policy wants it.
    #[error("the evidence was verified at {}, it is {} (seconds since 1970), and the policy accepts {age_max_s} s (nvidia.age_max_s): ask for it anew",
        .verified.as_secs(), .now.as_secs())]
    TooOld {
        /// When, since 1970.
        verified: Duration,
        /// The time.
        now: Duration,
        /// What the policy says.
        age_max_s: u32,
    },
    /// The claims about a GPU do not come along.
    #[error("the overall token names {name}, whose token is missing: give the service's whole answer")]
    MissingSubmodule {
        /// Which GPU.
        name: String,
    },
    /// Claims about a GPU that the overall token says nothing of.
    #[error(
        "there is a token of {name}, which the overall token does not name: give the service's answer as it came"
    )]
    UnnamedSubmodule {
        /// Which GPU.
        name: String,
    },
    /// Other claims about a GPU than the overall token is about.
    #[error(
        "the token of {name} has digest {found}, the overall token names {expected}: they are of two answers"
    )]
    SubmoduleDigest {
        /// Which GPU.
        name: String,
        /// The digest that is named.
        expected: String,
        /// That of what came.
        found: String,
    },
    /// About no GPU at all.
    #[error("the evidence is of no GPU: ask for it on the machine that has them")]
    NoGpu,
    /// One GPU, shown as more.
    #[error("GPU {device} is in the evidence twice: each has to be there once")]
    Twice {
        /// Its number.
        device: String,
    },
    /// Fewer GPUs than the policy wants.
    #[error("the evidence is of {found} GPUs, and the policy asks for {expected}: nvidia.gpus_min")]
    TooFew {
        /// The least.
        expected: usize,
        /// Their number.
        found: usize,
    },
    /// A model that nobody allowed.
    #[error(
        "{name} is a {found:?}, and the policy accepts {expected} (nvidia.models): use one of those, or name it there"
    )]
    Model {
        /// Which GPU.
        name: String,
        /// What is accepted.
        expected: String,
        /// Its model.
        found: String,
    },
    /// A driver that nobody allowed.
    #[error(
        "{name} has driver {found}, and the policy accepts {expected} (nvidia.drivers): install one of those"
    )]
    Driver {
        /// Which GPU.
        name: String,
        /// What is accepted.
        expected: String,
        /// Its version.
        found: GpuVersion,
    },
    /// A VBIOS that nobody allowed.
    #[error(
        "{name} has VBIOS {found}, and the policy accepts {expected} (nvidia.vbioses): install one of those"
    )]
    Vbios {
        /// Which GPU.
        name: String,
        /// What is accepted.
        expected: String,
        /// Its version.
        found: GpuVersion,
    },
    /// What goes from GPU to GPU can be read on the way.
    #[error(
        "{name} is in protected PCIe mode, in which links between GPUs are not encrypted: turn that mode off, or set nvidia.protected_pcie"
    )]
    ProtectedPcie {
        /// Which GPU.
        name: String,
    },
    /// Not X.509.
    #[error(
        "certificate {at} of the GPU (0: of the report's key) cannot be read as X.509 in DER, or says no name: give the certificates as \
         the GPU's driver does"
    )]
    Malformed {
        /// Which one.
        at: usize,
    },
    /// Too few certificates below the root.
    #[error(
        "the GPU has {found} certificates below its root, and must have that of the report's key and its own: give all that its driver does"
    )]
    NoDevice {
        /// Their number.
        found: usize,
    },
    /// A critical extension that nobody here knows.
    #[error(
        "certificate {at} of the GPU (0: of the report's key) has the unknown critical extension {oid}: a newer program may know it"
    )]
    CriticalExtension {
        /// Which one.
        at: usize,
        /// Dotted form.
        oid: String,
    },
    /// A certificate in the place of another.
    #[error(
        "certificate {at} of the GPU (0: of the report's key) is not for what it is used for: reports are signed with the first alone, certificates with the others; \
         give the GPU's own in their order"
    )]
    CertificateUse {
        /// Which one.
        at: usize,
    },
    /// Another key than GPUs have.
    #[error(
        "certificate {at} of the GPU (0: of the report's key) is for a key of kind {found}, and must be for ECDSA on P-384 (1.2.840.10045.2.1 on 1.3.132.0.34): give the \
         GPU's own certificates"
    )]
    CertificateKey {
        /// Which one.
        at: usize,
        /// Dotted forms of algorithm and curve.
        found: String,
    },
    /// Outside its validity.
    #[error(
        "certificate {at} of the GPU (0: of the report's key) is valid from {from} until {until}, it is {now} (seconds since 1970): compare the clocks, then ask NVIDIA"
    )]
    CertificateTime {
        /// Which one.
        at: usize,
        /// First valid second.
        from: i64,
        /// First second that is refused, as it is of tokens and verdicts; X.509 would take that one still.
        until: i64,
        /// When it was checked.
        now: i64,
    },
    /// Somebody else signed it.
    #[error("certificate {at} of the GPU (0: of the report's key) is not signed by {}: give the GPU's own certificates in their order",
        if *.is_by_root { "the root that is trusted here" } else { "the next one" })]
    CertificateSignature {
        /// Which one.
        at: usize,
        /// Whether the root should have.
        is_by_root: bool,
    },
    /// Not signed by the GPU whose certificates came.
    #[error(
        "the report of {name} is not signed with the key of its first certificate: it was changed, or is another GPU's"
    )]
    ReportSignature {
        /// Which GPU.
        name: String,
    },
    /// The report does not say for which firmware its key is.
    #[error("the report of {name} names no firmware: install driver 550 or a later one")]
    NoFirmware {
        /// Which GPU.
        name: String,
    },
    /// Neither does the certificate.
    #[error(
        "the certificate of the report's key does not say for which firmware it is, or says it twice: a newer program may read it"
    )]
    NoCertificateFirmware,
    /// The report is of other firmware than its key.
    #[error("the report of {name} is of firmware {found}, and its key of {expected}: start the GPU anew")]
    Firmware {
        /// Which GPU.
        name: String,
        /// What the certificate says.
        expected: Box<Register>,
        /// What the report says.
        found: Box<Register>,
    },
    /// Nothing to compare a report with.
    #[error(
        "the policy has no measurements for driver {driver} with VBIOS {vbios}, which {name} has (nvidia.golden): take them from NVIDIA's reference manifests, or ask for a token"
    )]
    NoGolden {
        /// Which GPU.
        name: String,
        /// Its driver.
        driver: GpuVersion,
        /// Its VBIOS.
        vbios: GpuVersion,
    },
    /// Something else runs than should.
    #[error(
        "measurement {index} of {name} is {found}, and the policy accepts {expected} (nvidia.golden): the firmware, the driver or a mode (such as developer mode) differs"
    )]
    Measurement {
        /// Which GPU.
        name: String,
        /// Its number, from 1.
        index: u8,
        /// What is accepted.
        expected: String,
        /// What was measured.
        found: String,
    },
}
