//! Quotes of a platform that is none.

use attest::TdReport;
use sim::{Guest, Platform};

use crate::enclave::{Enclave, ProduceError};
use crate::sealer::LocalReports;

/// A guest on a simulated platform. Only verifiers with that platform's root take its quotes: those of a development network.
#[derive(Debug)]
pub struct Simulated {
    platform: Platform,
    guest: Guest,
}

impl Simulated {
    /// That guest there.
    #[must_use]
    pub const fn new(platform: Platform, guest: Guest) -> Self {
        Self { platform, guest }
    }
}

impl Enclave for Simulated {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, ProduceError> {
        self.platform.quote(&self.guest, report_data).map_err(|error| ProduceError(error.into()))
    }
}

impl LocalReports for Simulated {
    fn report(&self, report_data: &[u8; 64]) -> Result<TdReport, ProduceError> {
        Ok(self.platform.report(&self.guest, report_data))
    }
}

#[cfg(test)]
mod tests {
    use attest::{PlatformId, Quote};
    use sim::{Firmware, Vendor};

    use super::*;

    #[test]
    fn a_simulated_enclave_vouches_for_what_it_is_asked() {
        let vendor = Vendor::from_seed(&[1; 32]).unwrap();
        let platform = vendor.platform(PlatformId::new([1; 16]), Firmware::Current).unwrap();
        let enclave = Simulated::new(platform, Guest::of_image("worker"));
        let quote = enclave.quote(&[7; 64]).unwrap();
        assert_eq!(Quote::parse(&quote).unwrap().claims().measurements.report_data(), &[7; 64]);
    }
}
