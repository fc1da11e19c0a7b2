//! What of a piece of evidence identifies the software that runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use units::{ImageHash, PublicKey};

/// Bytes of a fixed number. Their text form is lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex<const N: usize>([u8; N]);

/// A measurement (SHA-384): MRTD, an RTMR, a root key id.
pub type Register = Hex<48>;
/// A platform's number: Intel's PPID, or the first half of the SHA-256 of AMD's chip id.
pub type PlatformId = Hex<16>;

/// A text that is not of that form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {digits} hexadecimal digits, found {found:?}")]
pub struct HexParseError {
    digits: usize,
    found: String,
}

impl<const N: usize> Hex<N> {
    /// Wraps the raw bytes.
    #[must_use]
    pub const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl PlatformId {
    /// The number of one of AMD's processors, whose own number has 64 bytes.
    #[must_use]
    pub fn of_chip(chip_id: &Hex<64>) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(chip_id.0)[..16]);
        Self(id)
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hex({self})")
    }
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = HexParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; N];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(HexParseError { digits: 2 * N, found: text.chars().take(3 * N).collect() }),
        }
    }
}

impl<const N: usize> TryFrom<String> for Hex<N> {
    type Error = HexParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl<const N: usize> From<Hex<N>> for String {
    fn from(bytes: Hex<N>) -> Self {
        bytes.to_string()
    }
}

/// What a quote in a certificate has to vouch for: SHA-512 of the certificate's key, as in the deployed network.
#[must_use]
pub fn report_data_of_key(key: &PublicKey) -> [u8; 64] {
    Sha512::digest(key.as_bytes()).into()
}

/// Measurements of an enclave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measurements {
    /// Intel TDX.
    Tdx(Box<TdxMeasurements>),
    /// Intel SGX.
    Sgx {
        /// Measurement of the enclave.
        mrenclave: [u8; 32],
        /// What the enclave vouches for.
        report_data: [u8; 64],
    },
    /// AMD SEV-SNP.
    Snp(Box<SnpMeasurements>),
}

/// Measurements of an SEV-SNP guest, in the order in which they are hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpMeasurements {
    /// What was in the guest's memory at launch: firmware, and by it kernel, initrd and command line.
    pub measurement: [u8; 48],
    /// What the host gave the guest beside it (`HOST_DATA`), as a configuration.
    pub host_data: [u8; 32],
    /// What the guest vouches for.
    pub report_data: [u8; 64],
}

/// Registers of a TDX guest, in the order in which they are hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxMeasurements {
    /// MRTD, MRCONFIGID, MROWNER, MROWNERCONFIG, RTMR0, RTMR1, RTMR2, RTMR3.
    pub registers: [[u8; 48]; 8],
    /// What the guest vouches for.
    pub report_data: [u8; 64],
}

impl TdxMeasurements {
    /// The firmware image.
    #[must_use]
    pub const fn mrtd(&self) -> Register {
        Hex(self.registers[0])
    }

    /// RTMR0 (firmware configuration), RTMR1 (kernel), RTMR2 (initrd and command line), RTMR3 (what the guest added).
    #[must_use]
    pub const fn rtmrs(&self) -> [Register; 4] {
        let [.., first, second, third, fourth] = self.registers;
        [Hex(first), Hex(second), Hex(third), Hex(fourth)]
    }
}

impl Measurements {
    /// What the measured image is known by: SHA-256 over the measurements, with the report data as zeros.
    ///
    /// For TDX and SGX that is the deployed network's rule. SNP follows it, measurement and then `HOST_DATA`: a host configures a
    /// guest by that as it does by MRCONFIGID under TDX, so what nobody allowed must not have an allowed hash.
    #[must_use]
    pub fn image_hash(&self) -> ImageHash {
        let mut hash = Sha256::new();
        match self {
            Self::Tdx(measurements) => hash.update(measurements.registers.as_flattened()),
            Self::Sgx { mrenclave, .. } => hash.update(mrenclave),
            Self::Snp(measurements) => {
                hash.update(measurements.measurement);
                hash.update(measurements.host_data);
            }
        }
        hash.update([0; 64]);
        ImageHash::new(hash.finalize().into())
    }

    /// What the enclave vouches for.
    #[must_use]
    pub const fn report_data(&self) -> &[u8; 64] {
        match self {
            Self::Tdx(measurements) => &measurements.report_data,
            Self::Sgx { report_data, .. } => report_data,
            Self::Snp(measurements) => &measurements.report_data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_96_digits() {
        let register = Register::new([0xab; 48]);
        assert_eq!(register.to_string().parse(), Ok(register));
        for refused in ["", "ab", &"ab".repeat(49), &"xy".repeat(48)] {
            assert!(refused.parse::<Register>().is_err(), "{refused:?}");
        }
    }

    #[test]
    fn image_hashes_are_those_of_the_deployed_network() {
        let mut registers = [[0; 48]; 8];
        for (register, byte) in registers.iter_mut().zip([0x12, 0x34, 0xaa, 0xbb, b'a', b'b', b'c', b'd']) {
            *register = [byte; 48];
        }
        let hash = |report_data| {
            let measurements = TdxMeasurements { registers, report_data };
            Measurements::Tdx(Box::new(measurements)).image_hash().to_string()
        };
        assert_eq!(hash([0; 64]), "36caf4e8958afa865b8ccc68f1c6f40bc7bddb11150bf437f6fed58b1ca26000");
        assert_eq!(hash([1; 64]), hash([0; 64]), "the key of the moment is no part of an image");
        // Quotes of the deployed software's tests have registers of zeros.
        let fake = TdxMeasurements { registers: [[0; 48]; 8], report_data: [9; 64] };
        assert_eq!(
            Measurements::Tdx(Box::new(fake)).image_hash().to_string(),
            "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61"
        );
        let enclave = |byte| Measurements::Sgx { mrenclave: [byte; 32], report_data: [0; 64] }.image_hash();
        assert_ne!(enclave(1), enclave(2));
    }

    #[test]
    fn what_a_host_configures_is_part_of_the_image() {
        let hash = |measurement, host_data, report_data| {
            let guest = SnpMeasurements {
                measurement: [measurement; 48],
                host_data: [host_data; 32],
                report_data: [report_data; 64],
            };
            Measurements::Snp(Box::new(guest)).image_hash()
        };
        assert_eq!(hash(1, 0, 0), hash(1, 0, 9));
        assert_ne!(hash(1, 0, 0), hash(2, 0, 0));
        assert_ne!(hash(1, 0, 0), hash(1, 1, 0));
        let written = [[1; 48].as_slice(), &[2; 32], &[0; 64]].concat();
        assert_eq!(hash(1, 2, 3), ImageHash::new(Sha256::digest(written).into()));
    }
}
