//! Reports of TDX guests: what the processor says of a guest to the enclaves on the same machine. A quote is made of one, and a
//! sealer derives keys from one.
//!
//! The layout is that of Intel's TDX module: ABI specification, `TDREPORT_STRUCT`. All numbers are little-endian.

/// The kind of guest reports, in the first byte.
const TYPE_TDX: u8 = 0x81;

/// A report, read and not verified: only the processor that made it can tell whether it did.
#[derive(Clone, PartialEq, Eq)]
pub struct TdReport(Box<[u8; TdReport::LEN]>);

/// Bytes that are no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TdReportError {
    /// Of another length.
    #[error("a report of a TDX guest has {} bytes, found {found}", TdReport::LEN)]
    Length {
        /// Its length.
        found: usize,
    },
    /// Of another kind.
    #[error(
        "the report is of type {found:02x?}, and not [81, 00, 00, 00] or [81, 00, 01, 00]: of a TDX guest, not bound to service guests"
    )]
    Type {
        /// Its first four bytes: type, subtype, version, reserved.
        found: [u8; 4],
    },
}

/// Nothing of what it vouches for.
impl std::fmt::Debug for TdReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TdReport(version {})", self.version())
    }
}

impl TdReport {
    /// Its length in bytes.
    pub const LEN: usize = 1024;
    /// How much of its head the processor's code covers.
    pub const AUTHENTICATED_LEN: usize = 224;

    /// Reads a report of version 0 (TDX 1.0) or 1 (TDX 1.5).
    ///
    /// # Errors
    /// [`TdReportError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TdReportError> {
        let whole: [u8; Self::LEN] =
            bytes.try_into().map_err(|_length| TdReportError::Length { found: bytes.len() })?;
        match [whole[0], whole[1], whole[2], whole[3]] {
            [TYPE_TDX, 0, 0 | 1, 0] => Ok(Self(Box::new(whole))),
            found => Err(TdReportError::Type { found }),
        }
    }

    /// All of it.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// 0 for TDX 1.0, 1 for TDX 1.5.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.0[2]
    }

    /// Hash (SHA-384) of what the module that runs the guest is.
    #[must_use]
    pub fn tee_tcb_info_hash(&self) -> &[u8; 48] {
        self.field(32)
    }

    /// Hash (SHA-384) of what the guest is: attributes and registers at the time of the report.
    #[must_use]
    pub fn tee_info_hash(&self) -> &[u8; 48] {
        self.field(80)
    }

    /// What the guest vouches for.
    #[must_use]
    pub fn report_data(&self) -> &[u8; 64] {
        self.field(128)
    }

    /// What the processor's code covers.
    #[must_use]
    pub fn authenticated(&self) -> &[u8] {
        &self.0[..Self::AUTHENTICATED_LEN]
    }

    /// The processor's code for that.
    #[must_use]
    pub fn authentication_code(&self) -> &[u8; 32] {
        self.field(Self::AUTHENTICATED_LEN)
    }

    fn field<const N: usize>(&self, at: usize) -> &[u8; N] {
        self.0[at..].first_chunk().expect("fields lie within the report")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(head: [u8; 4]) -> Vec<u8> {
        let mut report = vec![0; TdReport::LEN];
        report[..4].copy_from_slice(&head);
        for (at, len, byte) in [(32, 48, 1), (80, 48, 2), (128, 64, 3), (224, 32, 4)] {
            report[at..at + len].fill(byte);
        }
        report
    }

    #[test]
    fn both_versions_are_read() {
        for version in [0, 1] {
            let bytes = report([0x81, 0, version, 0]);
            let read = TdReport::parse(&bytes).unwrap();
            assert_eq!((read.version(), read.as_bytes().as_slice()), (version, bytes.as_slice()));
            assert_eq!((read.tee_tcb_info_hash(), read.tee_info_hash()), (&[1; 48], &[2; 48]));
            assert_eq!((read.report_data(), read.authentication_code()), (&[3; 64], &[4; 32]));
            assert_eq!(read.authenticated(), &bytes[..224]);
        }
    }

    #[test]
    fn other_bytes_are_no_reports() {
        for found in [[0, 0, 0, 0], [0x81, 1, 0, 0], [0x81, 0, 2, 0], [0x81, 0, 0, 1]] {
            assert_eq!(TdReport::parse(&report(found)), Err(TdReportError::Type { found }));
        }
        let whole = report([0x81, 0, 0, 0]);
        for (bytes, found) in [(&whole[1..], 1023), (&[whole.as_slice(), &[0]].concat()[..], 1025), (&[], 0)]
        {
            assert_eq!(TdReport::parse(bytes), Err(TdReportError::Length { found }));
        }
    }
}
