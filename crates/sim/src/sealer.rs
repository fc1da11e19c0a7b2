//! A simulated sealer: the enclave that gives guests on its machine the keys of their images ([`attest::sealed_key`]).
//!
//! It does what the deployed one does, with a secret of the simulated platform in the place of the processor's. Whoever has the
//! platform's file can do the same, so that its keys protect nothing.

use attest::sealed_key::{
    KeyAnswer, KeyMessageError, KeyRequest, SealedKeyError, report_data_of_answer, report_data_of_public_key,
    wrap,
};
use aws_lc_rs::digest::{Context, SHA256, digest};
use zeroize::Zeroizing;

use crate::SimError;
use crate::enclave::Enclave;
use crate::platform::Platform;

/// A sealer on one platform.
#[derive(Debug)]
pub struct Sealer {
    platform: Platform,
    enclave: Enclave,
}

/// A request that is not answered.
#[derive(Debug, thiserror::Error)]
pub enum SealerRefusal {
    /// No request.
    #[error("the request cannot be read")]
    Message(#[from] KeyMessageError),
    /// A report of another machine.
    #[error("the guest's report was not made by this machine, or was changed")]
    Report,
    /// A report for another key.
    #[error("the guest's report vouches for another key than the request's")]
    ReportData,
    /// The guest's key is none.
    #[error("the secret cannot be enciphered for the guest's key")]
    Wrap(#[from] SealedKeyError),
    /// No quote could be made.
    #[error("the answer's quote cannot be made")]
    Quote(#[from] SimError),
}

impl Sealer {
    /// That enclave there.
    #[must_use]
    pub const fn new(platform: Platform, enclave: Enclave) -> Self {
        Self { platform, enclave }
    }

    /// Answers one message.
    ///
    /// # Errors
    /// [`SealerRefusal`]. Nothing is sent then.
    pub fn answer(&self, request: &[u8]) -> Result<Vec<u8>, SealerRefusal> {
        let request = KeyRequest::parse(request)?;
        if !self.platform.has_made(&request.report) {
            return Err(SealerRefusal::Report);
        }
        if *request.report.report_data() != report_data_of_public_key(&request.public) {
            return Err(SealerRefusal::ReportData);
        }
        let wrapped = wrap(&request.public, &self.key_for(&request))?;
        let report_data = report_data_of_answer(&request.public, &wrapped);
        let quote = self.platform.enclave_quote(&self.enclave, &report_data)?;
        Ok(KeyAnswer { quote, wrapped }.to_bytes())
    }

    /// The key of a guest's image for a name.
    fn key_for(&self, request: &KeyRequest) -> Zeroizing<[u8; 32]> {
        let mut hash = Context::new(&SHA256);
        hash.update(&*self.platform.seal_key(&self.enclave));
        hash.update(request.report.tee_info_hash());
        hash.update(request.report.tee_tcb_info_hash());
        hash.update(digest(&SHA256, request.name.as_str().as_bytes()).as_ref());
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(hash.finish().as_ref());
        key
    }
}
