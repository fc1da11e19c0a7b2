//! What makes quotes of this process.

use std::fmt;

/// An enclave that this process runs in. Making a quote may take long, so that callers do it on a thread that may wait.
pub trait Enclave: fmt::Debug + Send + Sync {
    /// A quote that vouches for `report_data`.
    ///
    /// # Errors
    /// [`ProduceError`], which says what is missing.
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, ProduceError>;
}

/// No quote, or no report of this guest, could be made.
#[derive(Debug, thiserror::Error)]
#[error("this machine vouches for nothing")]
pub struct ProduceError(#[source] pub Box<dyn std::error::Error + Send + Sync>);
