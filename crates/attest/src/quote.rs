//! Quotes: what a TDX guest or SGX enclave says of itself, signed by its platform's quoting enclave.

use std::fmt;

use dcap_qvl::config::PckCa;
use dcap_qvl::intel::{extract_cert_chain, quote_ca_with, quote_fmspc_with};
use dcap_qvl::quote::{AuthData, Report, TDReport10};

use crate::collateral::CollateralKind;
use crate::crypto::AwsLc;
use crate::measurements::{Hex, Measurements, TdxMeasurements};

/// Certification data that holds a quoting enclave's report: the one kind that quotes from version 4 on are verified with.
const QE_REPORT: u16 = 6;

/// A kind of enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tee {
    /// A guest under Intel TDX.
    Tdx,
    /// An enclave under Intel SGX.
    Sgx,
    /// A guest under AMD SEV-SNP.
    Snp,
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tdx => "TDX",
            Self::Sgx => "SGX",
            Self::Snp => "SEV-SNP",
        })
    }
}

/// What an enclave says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The kind of enclave.
    pub tee: Tee,
    /// What runs.
    pub measurements: Measurements,
    /// TD attributes, the flags of an enclave's attributes, or the policy of an SEV-SNP guest, as the vendor numbers their bits.
    pub attributes: u64,
    /// Whether its host can read and change its memory.
    pub is_debug: bool,
}

/// A quote, read and not verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Quote {
    bytes: Vec<u8>,
    version: u16,
    claims: Claims,
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
        let Claims { tee, measurements, .. } = &self.claims;
        write!(f, "Quote({tee}, version {}, image {})", self.version, measurements.image_hash())
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
        // The library does not look at it.
        if let AuthData::V4(data) = &quote.auth_data
            && data.certification_data.cert_type != QE_REPORT
        {
            let found = data.certification_data.cert_type;
            return Err(malformed(format!("its certification data is of type {found}, and not {QE_REPORT}")));
        }
        let (tee, measurements, attributes, debug_bit) = match &quote.report {
            Report::SgxEnclave(report) => (
                Tee::Sgx,
                Measurements::Sgx { mrenclave: report.mr_enclave, report_data: report.report_data },
                attributes(&report.attributes[..8]),
                1,
            ),
            Report::TD10(report) => of_guest(report),
            Report::TD15(report) => of_guest(&report.base),
            Report::TD15Ex(report) => of_guest(&report.base.base),
        };
        Ok(Self {
            bytes: bytes[..len].to_vec(),
            version: quote.header.version,
            claims: Claims { tee, measurements, attributes, is_debug: attributes >> debug_bit & 1 == 1 },
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

    /// Which collateral it is verified with, by the platform's certificate. `None` if it brings none, or one that cannot be
    /// read: then nobody can verify it.
    #[must_use]
    pub fn collateral_kind(&self) -> Option<CollateralKind> {
        let quote = dcap_qvl::quote::Quote::parse(&self.bytes).ok()?;
        let fmspc = quote_fmspc_with::<AwsLc>(&quote).ok()?;
        let is_multi_package = quote_ca_with::<AwsLc>(&quote).ok()? == PckCa::Platform;
        Some(CollateralKind { tee: self.claims.tee, fmspc: Hex::new(fmspc), is_multi_package })
    }

    /// The platform's certificate and those above it, as DER. Empty if the quote brings none that can be read.
    pub(crate) fn certificates(&self) -> Vec<Vec<u8>> {
        let quote = dcap_qvl::quote::Quote::parse(&self.bytes);
        quote.and_then(|quote| extract_cert_chain(&quote)).unwrap_or_default()
    }

    /// What it claims to be.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// Kind, measurements, attributes, and the bit of these that means debug.
fn of_guest(report: &TDReport10) -> (Tee, Measurements, u64, u32) {
    let TDReport10 { mr_td, mr_config_id, mr_owner, mr_owner_config, rt_mr0, rt_mr1, rt_mr2, rt_mr3, .. } =
        *report;
    let registers = [mr_td, mr_config_id, mr_owner, mr_owner_config, rt_mr0, rt_mr1, rt_mr2, rt_mr3];
    let measurements = TdxMeasurements { registers, report_data: report.report_data };
    (Tee::Tdx, Measurements::Tdx(Box::new(measurements)), attributes(&report.td_attributes), 0)
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
            assert_eq!((quote.claims().tee, quote.version(), quote.claims().is_debug), (tee, version, false));
            let padding = bytes.strip_prefix(quote.as_bytes()).unwrap();
            assert!(padding.iter().all(|byte| *byte == 0));
        }
        let quote = Quote::parse(REFERENCE).unwrap();
        assert_eq!(
            quote.claims().measurements.image_hash().to_string(),
            "04b3afd931d28680af91a15b09d672c40ad6b141f7f9089a8d67d595220f7436"
        );
    }

    #[test]
    fn a_quote_names_the_collateral_that_it_needs() {
        let kind = |bytes| Quote::parse(bytes).unwrap().collateral_kind().map(|kind| kind.to_string());
        assert_eq!(kind(TDX).as_deref(), Some("tdx-b0c06f000000-platform"));
        assert_eq!(kind(SGX).as_deref(), Some("sgx-00a067110000-processor"));
        let mut broken = Quote::parse(TDX).unwrap().as_bytes().to_vec();
        let pem = broken.windows(10).position(|bytes| bytes == b"-----BEGIN").unwrap();
        broken[pem + 100] = b'!';
        assert_eq!(kind(&broken), None);
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
    fn certification_data_of_another_type_is_refused() {
        for (bytes, report_len) in [(TDX, 584), (TDX_15, 6 + 885)] {
            // Header 48, the report, then the signature's length 4, itself 64, its key 64.
            let at = 48 + report_len + 4 + 64 + 64;
            assert_eq!(bytes[at..at + 2], [6, 0]);
            for (at, byte) in [(at, 5), (at + 1, 1)] {
                let mut other = bytes.to_vec();
                other[at] = byte;
                assert!(matches!(Quote::parse(&other), Err(QuoteError::Malformed { .. })), "byte {at}");
            }
        }
    }

    #[test]
    fn a_guest_under_debug_shows_it() {
        let mut debug = TDX.to_vec();
        // Header 48, then tee_tcb_svn 16, mrseam 48, mrsignerseam 48, seam_attributes 8.
        debug[48 + 120] |= 1;
        assert!(Quote::parse(&debug).unwrap().claims().is_debug);
        let mut enclave = SGX.to_vec();
        // Header 48, then cpusvn 16, misc 4, reserved 28; the flag is bit 1.
        enclave[48 + 48] |= 2;
        assert!(Quote::parse(&enclave).unwrap().claims().is_debug);
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
