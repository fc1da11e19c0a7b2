//! Why evidence of an SEV-SNP guest is not accepted, beyond what all kinds of evidence have in common.

use std::fmt;

use super::{ChipId, PlatformInfoBit, SnpProduct, SnpTcb};
use crate::measurements::Register;

/// One link of the chain from AMD's root to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnpCertificate {
    /// AMD's root key, one for each product.
    Ark,
    /// The key under it that signs those of processors.
    Ask,
    /// The key of one processor under one version of its firmware.
    Vcek,
    /// The list of certificates that the root took back.
    RevocationList,
}

impl fmt::Display for SnpCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ark => "root certificate (ARK)",
            Self::Ask => "intermediate certificate (ASK)",
            Self::Vcek => "processor's certificate (VCEK)",
            Self::RevocationList => "revocation list (CRL)",
        })
    }
}

/// Why a report or its certificates are not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnpRefusal {
    /// Not X.509.
    #[error("the {which} cannot be read as X.509 in DER: fetch it anew from AMD's key service (KDS)")]
    Malformed {
        /// Which one.
        which: SnpCertificate,
    },
    /// A critical extension that nobody here knows.
    #[error("the {which} has the unknown critical extension {oid}: a newer program may know it")]
    CriticalExtension {
        /// Which one.
        which: SnpCertificate,
        /// Dotted form.
        oid: String,
    },
    /// An extension that says what the key is for is absent or cannot be read.
    #[error(
        "the processor's certificate (VCEK) has no readable extension {oid}: fetch it from AMD's key service (KDS)"
    )]
    Extension {
        /// Dotted form.
        oid: &'static str,
    },
    /// A processor of a kind that has no root here.
    #[error(
        "the processor's certificate (VCEK) is for {found:?}, and Milan, Genoa and Turin are known: a newer program may know it"
    )]
    Product {
        /// What it says.
        found: String,
    },
    /// Another key than processors have.
    #[error(
        "the processor's certificate (VCEK) is for a key of kind {found}, and must be for ECDSA on P-384 (1.2.840.10045.2.1 on 1.3.132.0.34): \
         fetch it anew from AMD's key service (KDS)"
    )]
    Key {
        /// Dotted forms of algorithm and curve.
        found: String,
    },
    /// Somebody else signed it.
    #[error(
        "the {which} is not signed by the {issuer} of {product} that is trusted here: fetch both anew from AMD's key service (KDS)"
    )]
    Signature {
        /// What is signed.
        which: SnpCertificate,
        /// Who should have.
        issuer: SnpCertificate,
        /// Whose chain it is.
        product: SnpProduct,
    },
    /// The validity begins later.
    #[error(
        "the {which} is valid from {not_before} on, it is {now} (seconds since 1970): compare the clocks"
    )]
    NotYetValid {
        /// Which one.
        which: SnpCertificate,
        /// First valid second.
        not_before: i64,
        /// When it was checked.
        now: i64,
    },
    /// The validity has ended.
    #[error(
        "the {which} was valid until {not_after}, it is {now} (seconds since 1970): fetch it anew from AMD's key service (KDS)"
    )]
    Expired {
        /// Which one.
        which: SnpCertificate,
        /// Last valid second.
        not_after: i64,
        /// When it was checked.
        now: i64,
    },
    /// The root took the intermediate certificate back.
    #[error(
        "AMD has revoked the intermediate certificate (ASK) with serial number {serial}: fetch the one that took its place, and the \
         processor's certificate (VCEK) under it"
    )]
    Revoked {
        /// Hexadecimal, with colons.
        serial: String,
    },
    /// Nobody looked whether certificates were taken back.
    #[error(
        "no revocation list came with the certificates, and the policy asks for one: snp.revocations_required"
    )]
    NoRevocations,
    /// Signed with a key that is not the processor's.
    #[error(
        "the report is signed with key {found} (1: the cloud provider's VLEK, 7: none), and must be with the processor's (0: VCEK)"
    )]
    SigningKey {
        /// Which key.
        found: u32,
    },
    /// The host hides which processor it is.
    #[error(
        "the report names no processor: have its host set MASK_CHIP_ID to 0 (SNP_CONFIG), since the key that signed it is found by that name"
    )]
    ChipMasked,
    /// Report and certificate are of different processors.
    #[error(
        "the report is of processor {report}, its certificate (VCEK) of {certificate}: fetch that of the report's processor from AMD's \
         key service (KDS)"
    )]
    Chip {
        /// What the report says.
        report: Box<ChipId>,
        /// What the certificate says.
        certificate: Box<ChipId>,
    },
    /// A processor of a kind that has no root here.
    #[error(
        "the report is of a processor of family {family:#x}, model {model:#x}, and Milan, Genoa and Turin are known: a newer program may know it"
    )]
    UnknownProduct {
        /// The processor's family, as the report has it.
        family: u8,
        /// The processor's model.
        model: u8,
    },
    /// What all processors of the product leave at zero is not.
    #[error(
        "the report has {found} in the reserved bytes of {field}, which are zero in all that processors make: it was made up"
    )]
    Reserved {
        /// AMD's name of the field.
        field: &'static str,
        /// Those bytes.
        found: String,
    },
    /// Report and certificate are of different products.
    #[error(
        "the report is of a {report}, its certificate (VCEK) of a {certificate}: fetch that of the report's processor from AMD's key service (KDS)"
    )]
    OtherProduct {
        /// What the report says.
        report: String,
        /// What the certificate says.
        certificate: SnpProduct,
    },
    /// Report and certificate are of different firmware.
    #[error(
        "the report says firmware {report}, its certificate (VCEK) was made for {certificate}: fetch that of the report's firmware from \
         AMD's key service (KDS)"
    )]
    OtherTcb {
        /// What the report says.
        report: SnpTcb,
        /// What the certificate says.
        certificate: SnpTcb,
    },
    /// The processor did not sign it.
    #[error(
        "the report's signature is not by the key of its certificate (VCEK): it was changed, or made by somebody else; ask for a new one"
    )]
    ReportSignature,
    /// A policy that names SNP guests and does not say what they must be like.
    #[error(
        "the policy has no table [snp], without which no such guest is accepted: AMD publishes no list of firmware that is up to date"
    )]
    NoPolicy,
    /// The policy says nothing of this product.
    #[error("the policy has no least firmware for {product}: snp.tcb_min")]
    NoFloor {
        /// The processor's product.
        product: SnpProduct,
    },
    /// Old firmware.
    #[error(
        "the {which} firmware is {found}, the policy asks for {expected}: update the platform's firmware"
    )]
    Tcb {
        /// Which of the report's: reported, current, committed, launch.
        which: &'static str,
        /// The least.
        expected: SnpTcb,
        /// What it is.
        found: SnpTcb,
    },
    /// A protection that the machine does not have, or does not tell of.
    #[error(
        "the platform does not say {expected} (bit {} of PLATFORM_INFO, which is {found:#x}), and the policy asks for it \
         (snp.platform_info_required): update the platform's firmware and turn it on", .expected.number()
    )]
    PlatformInfo {
        /// Which one.
        expected: PlatformInfoBit,
        /// All that it says.
        found: u64,
    },
    /// Bits of the guest policy without a known meaning.
    #[error(
        "the guest's policy has bits {bits:#x} set, whose meaning is not known here: a newer program may know it"
    )]
    UnknownPolicy {
        /// Those bits.
        bits: u64,
    },
    /// Its memory can leave the machine.
    #[error(
        "the guest's policy ({bits:#x}) lets a migration agent have its memory: start it without (bit 18)"
    )]
    MigrationAgent {
        /// All bits.
        bits: u64,
    },
    /// Another program may run on the same core.
    #[error(
        "the guest's policy ({bits:#x}) allows two threads on a core: start it without (bit 16), or set snp.smt"
    )]
    Smt {
        /// All bits.
        bits: u64,
    },
    /// Asked for by software with other rights in the guest.
    #[error(
        "the report was asked for at privilege level (VMPL) {found}, and the policy accepts {expected} (snp.vmpls): ask for it at such a level"
    )]
    Vmpl {
        /// What is accepted.
        expected: String,
        /// The level.
        found: u32,
    },
    /// A launch that nobody allowed.
    #[error(
        "the launch measured {found}, and the policy accepts {expected} (snp.measurements): start the image that is accepted"
    )]
    Measurement {
        /// What is accepted.
        expected: String,
        /// What was measured.
        found: Register,
    },
}
