//! Reports of SEV-SNP guests, read and not verified.

use std::fmt;

use super::{SnpProduct, SnpTcb, SnpTcbs};
use crate::measurements::{Hex, Measurements, SnpMeasurements};
use crate::quote::{Claims, Tee};

/// A processor's number at AMD. That of Turin has 8 bytes, and zeros after them.
pub type ChipId = Hex<64>;

/// What a guest under AMD SEV-SNP says of itself, as the processor signed it. All of it are claims until it is verified.
#[derive(Clone, PartialEq, Eq)]
pub struct SnpReport {
    bytes: Box<[u8; SnpReport::LEN]>,
    claims: Claims,
}

/// Bytes that are no report of SEV-SNP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnpReportError {
    /// A report of what came before SNP.
    #[error(
        "these 208 bytes have the form of an attestation of plain SEV or SEV-ES, whose host can change the guest's memory \
         unseen: they are never accepted, start the guest under SEV-SNP"
    )]
    PlainSev,
    /// Shorter or longer than all.
    #[error("a report of AMD SEV-SNP has {} bytes, these are {found}", SnpReport::LEN)]
    Length {
        /// Their number.
        found: usize,
    },
    /// A version whose fields nobody here knows.
    #[error("the report has version {found}, versions 2 to 5 are known")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Signed in another way.
    #[error("the report names signature algorithm {found}, ECDSA P-384 with SHA-384 is 1")]
    SignatureAlgorithm {
        /// Its number.
        found: u32,
    },
    /// The two numbers of the signature are too large for its curve, or something follows them.
    #[error("the report's signature is not two numbers of 48 bytes, and zeros")]
    Signature,
}

impl SnpReport {
    /// Length of a report in bytes, the signature included.
    pub const LEN: usize = 0x4a0;

    /// Length of what the guests of plain SEV and SEV-ES have (`ATTESTATION` of AMD's *SEV API*, 55766).
    pub(crate) const PLAIN_SEV_LEN: usize = 0xd0;

    /// How much of it is signed.
    const SIGNED_LEN: usize = 0x2a0;

    /// Reads a report as `/dev/sev-guest` or the kernel's configfs-tsm gives it.
    ///
    /// # Errors
    /// [`SnpReportError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SnpReportError> {
        if bytes.len() == Self::PLAIN_SEV_LEN {
            return Err(SnpReportError::PlainSev);
        }
        let bytes: &[u8; Self::LEN] =
            bytes.try_into().or(Err(SnpReportError::Length { found: bytes.len() }))?;
        let measurements = SnpMeasurements {
            measurement: field(bytes, 0x90),
            host_data: field(bytes, 0xc0),
            report_data: field(bytes, 0x50),
        };
        let policy = GuestPolicy::new(u64::from_le_bytes(field(bytes, 0x08)));
        let claims = Claims {
            tee: Tee::Snp,
            measurements: Measurements::Snp(Box::new(measurements)),
            attributes: policy.bits(),
            is_debug: policy.has(GuestPolicy::DEBUG),
        };
        let report = Self { bytes: Box::new(*bytes), claims };
        let found = report.version();
        if !(2..=5).contains(&found) {
            return Err(SnpReportError::Version { found });
        }
        let found = report.number(0x34);
        if found != 1 {
            return Err(SnpReportError::SignatureAlgorithm { found });
        }
        let [r, s, rest] = [0x2a0..0x2e8, 0x2e8..0x330, 0x330..Self::LEN].map(|at| &bytes[at]);
        if [&r[48..], &s[48..], rest].concat().iter().any(|byte| *byte != 0) {
            return Err(SnpReportError::Signature);
        }
        Ok(report)
    }

    /// The whole report.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Version of the format: 2 to 5.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.number(0)
    }

    /// What it claims to be. The attributes are the guest's policy (`POLICY`), whose bits [`GuestPolicy`] names.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The privilege level in the guest at which the report was asked for: 0 is the highest. All ones where the host asked.
    #[must_use]
    pub fn vmpl(&self) -> u32 {
        self.number(0x30)
    }

    /// What the firmware says of the machine's protections (`PLATFORM_INFO`): [`super::PlatformInfoBit`] names them.
    #[must_use]
    pub fn platform_info(&self) -> u64 {
        u64::from_le_bytes(self.field(0x40))
    }

    /// Which processor signed it; zeros where the host masks that.
    #[must_use]
    pub fn chip_id(&self) -> ChipId {
        Hex::new(self.field(0x1a0))
    }

    /// All that it says of firmware, read as `product` orders it.
    #[must_use]
    pub fn tcbs(&self, product: SnpProduct) -> SnpTcbs {
        let read = |at| SnpTcb::from_bytes(product, self.field(at));
        SnpTcbs { reported: read(0x180), current: read(0x38), committed: read(0x1e0), launch: read(0x1f0) }
    }

    /// The firmware whose key signed it, in the order of its product.
    pub(super) fn reported_tcb(&self) -> [u8; 8] {
        self.field(0x180)
    }

    /// Which key signed it: 0 the processor's (VCEK), 1 that of a cloud's provider (VLEK), 7 none.
    pub(super) fn signing_key(&self) -> u32 {
        self.number(0x48) >> 2 & 7
    }

    /// The processor's family and model, which reports have from version 3 on.
    pub(super) fn family_and_model(&self) -> [u8; 2] {
        self.field(0x188)
    }

    /// Whether it can be of a `product`, by those.
    pub(super) fn can_be_of(&self, product: SnpProduct) -> bool {
        let [family, model] = self.family_and_model();
        self.version() < 3
            || match product {
                SnpProduct::Milan => family == 0x19 && matches!(model, 0x00..=0x0f),
                SnpProduct::Genoa => family == 0x19 && matches!(model, 0x10..=0x1f | 0xa0..=0xaf),
                SnpProduct::Turin => family == 0x1a && matches!(model, 0x00..=0x11),
            }
    }

    pub(super) fn signed(&self) -> &[u8] {
        &self.bytes[..Self::SIGNED_LEN]
    }

    /// The signature as two big-endian numbers of 48 bytes: reports have them little-endian, 72 bytes each.
    pub(super) fn signature(&self) -> [u8; 96] {
        let mut signature = [0; 96];
        for (half, at) in signature.chunks_exact_mut(48).zip([0x2a0, 0x2e8]) {
            half.copy_from_slice(&self.bytes[at..at + 48]);
            half.reverse();
        }
        signature
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        field(&self.bytes, at)
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.field(at))
    }
}

fn field<const N: usize>(bytes: &[u8; SnpReport::LEN], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// What it says, without its bytes.
impl fmt::Debug for SnpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnpReport(version {}, image {})", self.version(), self.claims.measurements.image_hash())
    }
}

/// What a host may do with a guest. The guest's owner set it at launch, and the firmware holds the host to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPolicy(u64);

impl GuestPolicy {
    /// Two threads of a core may run guest and host at once.
    pub const SMT: u64 = 1 << 16;
    /// A migration agent may take the guest to another machine, with its memory.
    pub const MIGRATION_AGENT: u64 = 1 << 18;
    /// The host may read and change the guest's memory.
    pub const DEBUG: u64 = 1 << 19;

    /// Bits that AMD has given a meaning: the ABI's least version, then 16 to 25.
    const KNOWN: u64 = 0x03ff_ffff;

    /// The policy of a guest, which its claims have as attributes.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    const fn bits(self) -> u64 {
        self.0
    }

    /// Whether a bit is set.
    #[must_use]
    pub const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    /// Bits whose meaning nobody here knows.
    pub(super) const fn unknown(self) -> u64 {
        self.0 & !Self::KNOWN
    }
}
