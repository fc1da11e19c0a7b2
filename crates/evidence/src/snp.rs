//! Certificates of AMD's processors in memory, in a folder, and from AMD's key service.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attest::{
    SnpAuthority, SnpCertificates, SnpCertificatesError, SnpProduct, SnpRefusal, SnpVerifier, VcekId,
};
use lru::LruCache;

use crate::folder::{Folder, blocking};
use crate::kds::{CHAIN_LEN_MAX, Kds, LIST_LEN_MAX, Published, VCEK_LEN_MAX};
use crate::renewed::{Held, PAUSE, RENEWED_AFTER, Renewed, Unfound};
use crate::service::ServiceError;

/// Keys that are known or asked for, about 2 KiB each. A report names its own key before anything of it is verified, so that made-up
/// ones push others out; those are in the folder.
const KEYS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// What AMD certifies of processors, for all links of a process. Clones share it. Nothing is held that was not verified.
///
/// The folder holds for each product `snp-milan.pem` and `snp-milan.crl`, and for each processor `snp-<number in policies>.der`, as AMD's
/// key service has them (`cert_chain`, `crl`, and the certificate for the firmware that runs). With a service it is a cache that outlives
/// the process; without one it is the source, and whoever runs the machine keeps it new.
#[derive(Clone, Debug)]
pub struct SnpStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    verifier: SnpVerifier,
    folder: Folder,
    kds: Option<Kds>,
    products: Mutex<HashMap<SnpProduct, Renewed<Arc<SnpAuthority>>>>,
    keys: Mutex<LruCache<VcekId, Renewed<Vcek>>>,
}

/// The certificate of a key, which never changes.
#[derive(Clone, Debug)]
struct Vcek {
    product: SnpProduct,
    der: Arc<[u8]>,
    /// Whether it is in the folder.
    is_kept: Arc<AtomicBool>,
}

/// What reports that one key signed are verified with.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    pub(crate) authority: Arc<SnpAuthority>,
    pub(crate) vcek: Arc<[u8]>,
}

/// What certificates are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnpSubject {
    /// All processors of a product.
    Product(SnpProduct),
    /// A processor, with its firmware.
    Processor(VcekId),
}

impl fmt::Display for SnpSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Product(product) => write!(f, "product {product}"),
            Self::Processor(id) => write!(f, "processor {id}"),
        }
    }
}

/// Why what is there is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SnpFault {
    /// A file cannot be read.
    #[error("the file cannot be read")]
    Read(#[from] io::Error),
    /// Not the certificates of a product.
    #[error("it is not what AMD's key service has as cert_chain")]
    Pem(#[from] SnpCertificatesError),
    /// Not as AMD signs it, or of something else.
    #[error(transparent)]
    Refused(#[from] SnpRefusal),
}

/// There are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum SnpStoreError {
    /// Nothing that holds in the folder, and nobody to ask.
    #[error(
        "there are no valid certificates of {what}: put them at {}, or set the address of AMD's key service (evidence.kds)", .path.display()
    )]
    Missing {
        /// Of what.
        what: Box<SnpSubject>,
        /// Where they would be.
        path: PathBuf,
        /// What is wrong with what is there.
        source: SnpFault,
    },
    /// The service did not give them.
    #[error("there are no valid certificates of {what}, and none can be fetched")]
    Fetch {
        /// Of what.
        what: Box<SnpSubject>,
        /// Why.
        source: ServiceError,
    },
    /// The service gave something else.
    #[error("what AMD's key service gave for {what} is not taken: is the address (evidence.kds) right?")]
    Refused {
        /// Of what.
        what: Box<SnpSubject>,
        /// Why.
        source: SnpFault,
    },
    /// They were asked for in vain a moment ago.
    #[error("there are no valid certificates of {what}; they are asked for again {} s after the last attempt", PAUSE.as_secs())]
    Paused {
        /// Of what.
        what: Box<SnpSubject>,
    },
}

impl SnpStore {
    /// A store of what `verifier` finds genuine, over a folder, which is made when something is written, and a service if there is one.
    #[must_use]
    pub fn new(verifier: SnpVerifier, folder: PathBuf, kds: Option<Kds>) -> Self {
        let keys = Mutex::new(LruCache::new(KEYS_MAX));
        let products = Mutex::default();
        Self { shared: Arc::new(Shared { verifier, folder: Folder::new(folder), kds, products, keys }) }
    }

    /// What is needed at `now` since 1970 to verify reports that a key signed, if nobody has to be asked for the key.
    ///
    /// # Errors
    /// [`SnpStoreError`], if there is the key's certificate and none of its product.
    pub(crate) async fn held(&self, id: VcekId, now: Duration) -> Result<Option<Certified>, SnpStoreError> {
        let key = self.keys().get(&id).cloned();
        let vcek = match key.and_then(|key| key.held(now, || self.clone().look(id, now))) {
            Some(vcek) => vcek,
            None => match self.kept(id, now).await {
                Ok(found) => {
                    self.key(id).put(found.clone());
                    found.value
                }
                Err(SnpStoreError::Missing { what, .. }) if *what == SnpSubject::Processor(id) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            },
        };
        let authority = self.authority(vcek.product, now).await?;
        Ok(Some(Certified { authority, vcek: vcek.der }))
    }

    /// What is needed at `now` since 1970 to verify reports that a key signed. Those who ask for the same key share one fetch.
    ///
    /// # Errors
    /// [`SnpStoreError`].
    pub(crate) async fn get(&self, id: VcekId, now: Duration) -> Result<Certified, SnpStoreError> {
        let outcome = self.key(id).get(now, || self.clone().look(id, now)).await;
        let vcek = outcome.map_err(|unfound| or_paused(unfound, SnpSubject::Processor(id)))?;
        let authority = self.authority(vcek.product, now).await?;
        Ok(Certified { authority, vcek: vcek.der })
    }

    /// Keeps the certificate of a key for the next process, if it came from a service. Only for reports that were accepted, and one for
    /// each processor: its owner can have it certified for thousands of versions.
    pub(crate) async fn keep(&self, id: VcekId, now: Duration) {
        let key = self.keys().peek(&id).cloned();
        let Some(vcek) = key.and_then(|key| key.valid(now)) else { return };
        if !vcek.is_kept.swap(true, Ordering::Relaxed) {
            self.shared.folder.write(&file(&id), vcek.der.to_vec(), now).await;
        }
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, LruCache<VcekId, Renewed<Vcek>>> {
        // The table behind a poisoned lock is whole: entries come and go in one step each.
        self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, id: VcekId) -> Renewed<Vcek> {
        self.keys().get_or_insert(id, Renewed::default).clone()
    }

    /// From the folder, or else from the service.
    async fn look(self, id: VcekId, now: Duration) -> Result<Held<Vcek>, SnpStoreError> {
        let what = || Box::new(SnpSubject::Processor(id));
        let not_kept = match self.kept(id, now).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let Some(kds) = &self.shared.kds else { return Err(not_kept) };
        let mut outcome = Err(not_kept);
        for product in id.products() {
            outcome = match kds.vcek(&id, product, now).await {
                Ok(der) => {
                    let refused = |source| SnpStoreError::Refused { what: what(), source };
                    return self.certified(id, der, false, now, refused).await;
                }
                Err(source) => Err(SnpStoreError::Fetch { what: what(), source }),
            };
            // Only who does not know a processor may say that it is of another product.
            if !matches!(&outcome, Err(SnpStoreError::Fetch { source, .. }) if source.is_unknown()) {
                break;
            }
        }
        outcome
    }

    /// From the folder.
    async fn kept(&self, id: VcekId, now: Duration) -> Result<Held<Vcek>, SnpStoreError> {
        let Shared { folder, .. } = &*self.shared;
        let name = file(&id);
        let what = Box::new(SnpSubject::Processor(id));
        let missing = |source| SnpStoreError::Missing { what, path: folder.path(&name), source };
        match folder.read(&name, VCEK_LEN_MAX).await {
            Ok(file) => self.certified(id, file.bytes, true, now, missing).await,
            Err(error) => Err(missing(error.into())),
        }
    }

    async fn certified(
        &self,
        id: VcekId,
        der: Vec<u8>,
        is_kept: bool,
        now: Duration,
        refused: impl FnOnce(SnpFault) -> SnpStoreError,
    ) -> Result<Held<Vcek>, SnpStoreError> {
        let der: Arc<[u8]> = der.into();
        let product = match SnpProduct::of_vcek(&der) {
            Ok(product) => product,
            Err(refusal) => return Err(refused(refusal.into())),
        };
        let authority = self.authority(product, now).await?;
        let vcek = Vcek { product, der: Arc::clone(&der), is_kept: Arc::new(is_kept.into()) };
        let outcome = blocking(move || authority.check_vcek(&der, &id, now)).await;
        match outcome.map_err(SnpFault::from).and_then(|checked| Ok(checked?)) {
            Ok(until) => Ok(Held { value: vcek, until, renewed_after: None }),
            Err(fault) => Err(refused(fault)),
        }
    }

    async fn authority(
        &self,
        product: SnpProduct,
        now: Duration,
    ) -> Result<Arc<SnpAuthority>, SnpStoreError> {
        let outcome = self.product(product).get(now, || self.clone().look_up(product, now)).await;
        outcome.map_err(|unfound| or_paused(unfound, SnpSubject::Product(product)))
    }

    fn product(&self, product: SnpProduct) -> Renewed<Arc<SnpAuthority>> {
        // The table behind a poisoned lock is whole: entries come in one step each.
        let mut products = self.shared.products.lock().unwrap_or_else(PoisonError::into_inner);
        products.entry(product).or_default().clone()
    }

    /// From the service if there is one, else from the folder; and what there was if the service has nothing, or less.
    async fn look_up(
        self,
        product: SnpProduct,
        now: Duration,
    ) -> Result<Held<Arc<SnpAuthority>>, SnpStoreError> {
        let Shared { folder, kds, .. } = &*self.shared;
        let what = || Box::new(SnpSubject::Product(product));
        let (chain, list) = files(product);
        let kept = self.kept_of(product, now).await;
        let Some(kds) = kds else {
            let missing = |source| SnpStoreError::Missing { what: what(), path: folder.path(&chain), source };
            return kept.map(|(found, _is_new)| held(found, RENEWED_AFTER)).map_err(missing);
        };
        // A process that starts anew asks nobody for what is in its folder and new enough.
        let kept = match kept {
            Ok((found, true)) => return Ok(held(found, RENEWED_AFTER)),
            Ok((found, false)) => Some(found),
            Err(_fault) => None,
        };
        let before = self.product(product).valid(now).or(kept);
        let found = match kds.product(product, now).await {
            Ok(published) => match self.verified(product, &published, now).await {
                Ok(found) => Ok((published, found)),
                Err(source) => Err(SnpStoreError::Refused { what: what(), source }),
            },
            Err(source) => Err(SnpStoreError::Fetch { what: what(), source }),
        };
        match (found, before) {
            (Ok((_published, found)), Some(before))
                if before.has_revocations() && !found.has_revocations() =>
            {
                Ok(held(before, PAUSE))
            }
            (Ok((published, found)), _) => {
                folder.write(&chain, published.chain, now).await;
                let Some(revocations) = published.revocations else { return Ok(held(found, PAUSE)) };
                folder.write(&list, revocations, now).await;
                Ok(held(found, RENEWED_AFTER))
            }
            (Err(error), Some(before)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%product, error, "AMD's certificates and revocations are not renewed");
                Ok(held(before, PAUSE))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// From the folder, and whether the list of revocations was fetched lately.
    async fn kept_of(
        &self,
        product: SnpProduct,
        now: Duration,
    ) -> Result<(Arc<SnpAuthority>, bool), SnpFault> {
        let Shared { folder, .. } = &*self.shared;
        let (chain, list) = files(product);
        let chain = folder.read(&chain, CHAIN_LEN_MAX).await?.bytes;
        let list = match folder.read(&list, LIST_LEN_MAX).await {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let is_new = list.as_ref().is_some_and(|list| list.is_new(now));
        let published = Published { chain, revocations: list.map(|list| list.bytes) };
        Ok((self.verified(product, &published, now).await?, is_new))
    }

    async fn verified(
        &self,
        product: SnpProduct,
        published: &Published,
        now: Duration,
    ) -> Result<Arc<SnpAuthority>, SnpFault> {
        let verifier = self.shared.verifier.clone();
        let ask = SnpCertificates::ask_from_pem(&published.chain)?;
        let revocations = published.revocations.clone();
        let verify = move || verifier.authority(product, &ask, revocations.as_deref(), now);
        Ok(Arc::new(blocking(verify).await??))
    }
}

fn or_paused(unfound: Unfound<SnpStoreError>, what: SnpSubject) -> SnpStoreError {
    match unfound {
        Unfound::Paused => SnpStoreError::Paused { what: what.into() },
        Unfound::Now(error) => error,
    }
}

fn held(authority: Arc<SnpAuthority>, renewed_after: Duration) -> Held<Arc<SnpAuthority>> {
    Held { until: authority.valid_until(), value: authority, renewed_after: Some(renewed_after) }
}

/// Where the certificate of a processor is.
fn file(id: &VcekId) -> String {
    format!("snp-{}.der", id.platform())
}

/// Where the certificates of a product, and what its root took back, are.
fn files(product: SnpProduct) -> (String, String) {
    let name = product.to_string().to_lowercase();
    (format!("snp-{name}.pem"), format!("snp-{name}.crl"))
}
