//! What runs beside the guests of a simulated platform.

use attest::sealed_key::MrEnclave;
use aws_lc_rs::digest;

/// An enclave of SGX by its measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enclave {
    /// MRENCLAVE.
    pub mrenclave: [u8; 32],
    /// Whether its host may read it. Every verifier refuses that.
    pub is_debug: bool,
}

impl Enclave {
    /// A made-up enclave: the measurement follows from its name.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let mut mrenclave = [0; 32];
        let text = format!("simulated MRENCLAVE of {name}");
        mrenclave.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Self { mrenclave, is_debug: false }
    }

    /// What verifiers know it by.
    #[must_use]
    pub const fn mrenclave(&self) -> MrEnclave {
        MrEnclave::new(self.mrenclave)
    }
}
