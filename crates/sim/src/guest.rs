//! What runs on a simulated platform.

use attest::{Measurements, TdxMeasurements};
use aws_lc_rs::digest;
use units::ImageHash;

/// The form of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteForm {
    /// Version 4 with the report of TDX 1.0, as the deployed network has them.
    V4,
    /// Version 5 with the report of TDX 1.5.
    V5,
}

/// A guest by its measurements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// MRTD, MRCONFIGID, MROWNER, MROWNERCONFIG, RTMR0, RTMR1, RTMR2, RTMR3.
    pub registers: [[u8; 48]; 8],
    /// The form of its quotes.
    pub form: QuoteForm,
    /// Whether its host may read it. Every verifier refuses that.
    pub is_debug: bool,
}

impl Guest {
    /// A guest of a made-up image: the registers follow from its name.
    #[must_use]
    pub fn of_image(name: &str) -> Self {
        let measured = |what: &str| {
            let text = format!("simulated {what} of {name}");
            let mut register = [0; 48];
            register.copy_from_slice(digest::digest(&digest::SHA384, text.as_bytes()).as_ref());
            register
        };
        let unset = [0; 48];
        let [mrtd, rtmr0, rtmr1, rtmr2, rtmr3] = ["MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3"].map(measured);
        let registers = [mrtd, unset, unset, unset, rtmr0, rtmr1, rtmr2, rtmr3];
        Self { registers, form: QuoteForm::V4, is_debug: false }
    }

    /// What verifiers know the image by.
    #[must_use]
    pub fn image_hash(&self) -> ImageHash {
        let measurements = TdxMeasurements { registers: self.registers, report_data: [0; 64] };
        Measurements::Tdx(Box::new(measurements)).image_hash()
    }
}
