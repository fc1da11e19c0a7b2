//! Asking AMD's key service (KDS), or whatever answers in its place, for certificates: version 1 of its HTTP interface
//! (*Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification*, 57230).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attest::{SnpProduct, VcekId};
use bytes::Bytes;

use crate::renewed::{PAUSE, age};
use crate::service::{Service, ServiceError};

/// Longest accepted certificate of a processor in DER; they have 1,400 bytes.
pub(crate) const VCEK_LEN_MAX: usize = 4096;
/// Longest accepted certificates of a product in PEM; they have 5,000 bytes.
pub(crate) const CHAIN_LEN_MAX: usize = 16_384;
/// Longest accepted list of revocations in DER; they have 800 bytes and some for each entry.
pub(crate) const LIST_LEN_MAX: usize = 65_536;

/// A service that gives out certificates of AMD's processors. Clones share what is known of it.
#[derive(Clone, Debug)]
pub struct Kds {
    service: Service,
    /// Since 1970: when it could not answer. It counts how often it is asked, so that more questions would make it worse.
    failed_at: Arc<Mutex<Option<Duration>>>,
}

/// What is the same for all processors of a product, as the service has it.
#[derive(Debug)]
pub(crate) struct Published {
    /// Intermediate certificate and root, as PEM.
    pub(crate) chain: Vec<u8>,
    /// What the root took back, as DER.
    pub(crate) revocations: Option<Vec<u8>>,
}

impl Kds {
    /// A service at an address such as `https://kdsintf.amd.com`. Asks nothing yet.
    ///
    /// # Errors
    /// [`ServiceError::Address`].
    pub fn new(address: &str) -> Result<Self, ServiceError> {
        Ok(Self { service: Service::new(address)?, failed_at: Arc::default() })
    }

    /// The certificate of a key, as DER, if it is of a `product`.
    pub(crate) async fn vcek(
        &self,
        id: &VcekId,
        product: SnpProduct,
        now: Duration,
    ) -> Result<Vec<u8>, ServiceError> {
        let tcb = id.tcb(product);
        let fmc =
            if product == SnpProduct::Turin { format!("fmcSPL={:02}&", tcb.fmc) } else { String::new() };
        let path = format!(
            "vcek/v1/{product}/{}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
            id.chip_id(product),
            tcb.bootloader,
            tcb.tee,
            tcb.snp,
            tcb.microcode
        );
        Ok(self.get(&path, VCEK_LEN_MAX, now).await?.into())
    }

    /// What is published of a product.
    pub(crate) async fn product(
        &self,
        product: SnpProduct,
        now: Duration,
    ) -> Result<Published, ServiceError> {
        let chain = self.get(&format!("vcek/v1/{product}/cert_chain"), CHAIN_LEN_MAX, now).await?.into();
        let revocations = match self.get(&format!("vcek/v1/{product}/crl"), LIST_LEN_MAX, now).await {
            Ok(der) => Some(der.into()),
            // Whoever is in the middle can say so: policies say whether a list is needed.
            Err(error) if error.is_unknown() => None,
            Err(error) => return Err(error),
        };
        Ok(Published { chain, revocations })
    }

    async fn get(&self, path: &str, len_max: usize, now: Duration) -> Result<Bytes, ServiceError> {
        let failed_at = *self.failed_at();
        if failed_at.and_then(|at| age(at, now)).is_some_and(|age| age < PAUSE) {
            return Err(ServiceError::Resting { base: self.service.base().to_owned() });
        }
        let outcome = self.service.get(path, len_max).await;
        if outcome.as_ref().is_err_and(ServiceError::is_of_service) {
            *self.failed_at() = Some(now);
        }
        outcome.map(|(_url, (_headers, body))| body)
    }

    fn failed_at(&self) -> MutexGuard<'_, Option<Duration>> {
        // A time is whole behind a poisoned lock, too.
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
