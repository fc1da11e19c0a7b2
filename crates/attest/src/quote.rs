//! Quotes: what a TDX guest or SGX enclave says of itself, signed by its platform's quoting enclave.

use std::fmt;

use dcap_qvl::quote::{Report, TDReport10};

use crate::measurements::{Measurements, TdxMeasurements};

/// A kind of enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tee {
    /// A guest under Intel TDX.
    Tdx,
    /// An enclave under Intel SGX.
    Sgx,
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tdx => "TDX",
            Self::Sgx => "SGX",
        })
    }
}

/// A quote, read and not verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Quote {
    bytes: Vec<u8>,
    version: u16,
    tee: Tee,
    measurements: Measurements,
    attributes: u64,
    is_debug: bool,
}

/// Bytes that are no quote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// Longer than anybody accepts.
    #[error("the quote has {found} bytes, at most {} are read", Quote::LEN_MAX)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Not of a known form.
    #[error("these {found} bytes are no quote of Intel TDX or SGX (versions 3, 4, 5): {reason}")]
    Malformed {
        /// Their number.
        found: usize,
        /// What the parser said.
        reason: String,
    },
    /// Something follows the quote.
    #[error("the quote ends after {len} bytes, and other bytes follow it")]
    Trailing {
        /// Its length.
        len: usize,
    },
}

/// What it says, without its bytes.
impl fmt::Debug for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quote({}, version {}, image {})", self.tee, self.version, self.measurements.image_hash())
    }
}

impl Quote {
    /// Longest accepted quote in bytes, as in the deployed network.
    pub const LEN_MAX: usize = 32_768;

    /// Reads a quote. Drivers pad their buffers with zeros, which are no part of it; nothing else may follow.
    ///
    /// # Errors
    /// [`QuoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        if bytes.len() > Self::LEN_MAX {
            return Err(QuoteError::TooLong { found: bytes.len() });
        }
        let malformed = |reason: String| QuoteError::Malformed { found: bytes.len(), reason };
        let quote = dcap_qvl::quote::Quote::parse(bytes).map_err(|error| malformed(error.to_string()))?;
        let len = whole_len(bytes, quote.signed_length())
            .ok_or_else(|| malformed("its signature is cut off".to_owned()))?;
        if bytes[len..].iter().any(|byte| *byte != 0) {
            return Err(QuoteError::Trailing { len });
        }
        let (tee, measurements, attributes) = match &quote.report {
            Report::SgxEnclave(report) => (
                Tee::Sgx,
                Measurements::Sgx { mrenclave: report.mr_enclave, report_data: report.report_data },
                attributes(&report.attributes[..8]),
            ),
            Report::TD10(report) => of_guest(report),
            Report::TD15(report) => of_guest(&report.base),
            Report::TD15Ex(report) => of_guest(&report.base.base),
        };
        let debug_bit = match tee {
            Tee::Tdx => 0,
            Tee::Sgx => 1,
        };
        Ok(Self {
            bytes: bytes[..len].to_vec(),
            version: quote.header.version,
            tee,
            measurements,
            attributes,
            is_debug: attributes >> debug_bit & 1 == 1,
        })
    }

    /// The quote without what followed it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Version of the format: 3, 4 or 5.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// The kind of enclave.
    #[must_use]
    pub const fn tee(&self) -> Tee {
        self.tee
    }

    /// What it claims to be.
    #[must_use]
    pub const fn measurements(&self) -> &Measurements {
        &self.measurements
    }

    /// TD attributes, or the flags of an enclave's attributes, as the vendor numbers their bits.
    #[must_use]
    pub const fn attributes(&self) -> u64 {
        self.attributes
    }

    /// Whether its host can read and change its memory.
    #[must_use]
    pub const fn is_debug(&self) -> bool {
        self.is_debug
    }
}

fn of_guest(report: &TDReport10) -> (Tee, Measurements, u64) {
    let TDReport10 { mr_td, mr_config_id, mr_owner, mr_owner_config, rt_mr0, rt_mr1, rt_mr2, rt_mr3, .. } =
        *report;
    let registers = [mr_td, mr_config_id, mr_owner, mr_owner_config, rt_mr0, rt_mr1, rt_mr2, rt_mr3];
    let measurements = TdxMeasurements { registers, report_data: report.report_data };
    (Tee::Tdx, Measurements::Tdx(Box::new(measurements)), attributes(&report.td_attributes))
}

fn attributes(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Where the quote ends: its signed part is followed by the length of its signature in four bytes, and the signature.
fn whole_len(bytes: &[u8], signed: usize) -> Option<usize> {
    let len = bytes.get(signed..)?.first_chunk::<4>()?;
    let end = signed.checked_add(4)?.checked_add(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    (end <= bytes.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TDX: &[u8] = include_bytes!("../../../spec/vectors/quotes/tdx_quote.dat");
    const TDX_15: &[u8] = include_bytes!("../../../spec/vectors/quotes/tdx_quote_td15ex.dat");
    const SGX: &[u8] = include_bytes!("../../../spec/vectors/quotes/sgx_quote.dat");
    const REFERENCE: &[u8] = include_bytes!("../../../spec/vectors/quotes/reference_tdx.dat");

    #[test]
    fn recorded_quotes_are_read() {
        for (bytes, tee, version) in [(TDX, Tee::Tdx, 4), (TDX_15, Tee::Tdx, 5), (SGX, Tee::Sgx, 3)] {
            let quote = Quote::parse(bytes).unwrap();
            assert_eq!((quote.tee(), quote.version(), quote.is_debug()), (tee, version, false));
            let padding = bytes.strip_prefix(quote.as_bytes()).unwrap();
            assert!(padding.iter().all(|byte| *byte == 0));
        }
        let quote = Quote::parse(REFERENCE).unwrap();
        assert_eq!(
            quote.measurements().image_hash().to_string(),
            "04b3afd931d28680af91a15b09d672c40ad6b141f7f9089a8d67d595220f7436"
        );
    }

    #[test]
    fn padding_is_no_part_of_a_quote_and_nothing_else_follows_one() {
        let padded = [TDX, &[0; 4]].concat();
        let quote = Quote::parse(TDX).unwrap();
        assert_eq!(Quote::parse(&padded).as_ref(), Ok(&quote));
        let followed = [TDX, &[0, 1]].concat();
        assert_eq!(Quote::parse(&followed), Err(QuoteError::Trailing { len: quote.as_bytes().len() }));
    }

    #[test]
    fn quotes_that_are_cut_or_too_long_are_refused() {
        for bytes in [TDX, TDX_15, SGX] {
            let whole = Quote::parse(bytes).unwrap();
            let bytes = whole.as_bytes();
            for len in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
                assert!(matches!(Quote::parse(&bytes[..len]), Err(QuoteError::Malformed { .. })), "{len}");
            }
        }
        let long = [TDX, &vec![0; Quote::LEN_MAX]].concat();
        assert_eq!(Quote::parse(&long), Err(QuoteError::TooLong { found: long.len() }));
    }

    #[test]
    fn a_guest_under_debug_shows_it() {
        let mut debug = TDX.to_vec();
        // Header 48, then tee_tcb_svn 16, mrseam 48, mrsignerseam 48, seam_attributes 8.
        debug[48 + 120] |= 1;
        assert!(Quote::parse(&debug).unwrap().is_debug());
        let mut enclave = SGX.to_vec();
        // Header 48, then cpusvn 16, misc 4, reserved 28; the flag is bit 1.
        enclave[48 + 48] |= 2;
        assert!(Quote::parse(&enclave).unwrap().is_debug());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            change in proptest::collection::vec((0..5200_usize, proptest::num::u8::ANY), 1..8),
        ) {
            let mut bytes = TDX_15.to_vec();
            for (at, byte) in change {
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            if let Ok(quote) = Quote::parse(&bytes) {
                proptest::prop_assert!(bytes.starts_with(quote.as_bytes()));
            }
        }
    }
}
