//! Collateral and appraisal against recorded quotes, and a PCCS that gives out what was recorded with them.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod appraisal;
mod collateral;
mod snp;
mod stub;

use std::path::Path;
use std::time::{Duration, SystemTime};

use attest::{CollateralKind, Quote};

/// A recorded quote, its collateral, and a time at which both were valid.
#[derive(Clone, Copy)]
struct Recorded {
    quote: &'static [u8],
    collateral: &'static str,
    at: Duration,
}

/// TDX 1.0, July 2025.
const TDX: Recorded = Recorded {
    quote: include_bytes!("../../../../spec/vectors/quotes/tdx_quote.dat"),
    collateral: include_str!("../../../../spec/vectors/quotes/tdx_quote.collateral.json"),
    at: Duration::from_secs(1_751_328_000),
};

/// SGX, as its TEE is accepted by no default policy.
const SGX: Recorded = Recorded {
    quote: include_bytes!("../../../../spec/vectors/quotes/sgx_quote.dat"),
    collateral: include_str!("../../../../spec/vectors/quotes/sgx_quote.collateral.json"),
    at: TDX.at,
};

impl Recorded {
    fn parsed(&self) -> Quote {
        Quote::parse(self.quote).unwrap()
    }

    fn kind(&self) -> CollateralKind {
        self.parsed().collateral_kind().unwrap()
    }

    fn report_data(&self) -> [u8; 64] {
        *self.parsed().claims().measurements.report_data()
    }

    /// Where a store looks for the collateral.
    fn file(&self, folder: &Path) -> std::path::PathBuf {
        folder.join(format!("{}.json", self.kind()))
    }

    /// Puts the collateral where a store looks, as of when it is needed.
    fn put(&self, folder: &Path) {
        std::fs::write(self.file(folder), self.collateral).unwrap();
        written_at(&self.file(folder), self.at);
    }
}

/// Has a file be written at a time since 1970.
fn written_at(path: &Path, at: Duration) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + at).unwrap();
}
