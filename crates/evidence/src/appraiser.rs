//! The appraisal of peers' evidence, for all links of a process.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attest::{
    Appraised, PlatformEvidence, PlatformEvidenceError, Policy, Refusal, SnpRoot, SnpVerifier, Verified,
    Verifier,
};
use lru::LruCache;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::collateral::{CollateralStore, StoreError};
use crate::snp::{SnpStore, SnpStoreError};

/// Verdicts that are remembered, about 2 KiB each.
const VERDICTS_MAX: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");
/// Quotes that may wait in line to be verified, for each thread that verifies and each standing: about a second of work.
const WAITING_MAX: usize = 512;

/// What is known of whoever brings a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its address was here before, or we chose to connect to it.
    Known,
    /// Nothing. Strangers never have all of the pool.
    Stranger,
}

/// Appraises quotes under one policy.
#[derive(Debug)]
pub struct Appraiser {
    policy: Policy,
    snp: Option<SnpStore>,
    shared: Arc<Shared>,
}

/// What no policy has a part in.
#[derive(Debug)]
struct Shared {
    verifier: Verifier,
    collateral: CollateralStore,
    verdicts: Mutex<LruCache<[u8; 32], Arc<Verified>>>,
    /// Threads that verify at the same time.
    pool: Arc<Semaphore>,
    known: Line,
    strangers: Line,
}

/// Those of one standing who wait to be verified.
#[derive(Debug)]
struct Line {
    places: Semaphore,
    /// How many of them may have a thread, or wait for collateral, at the same time.
    share: Semaphore,
}

impl Line {
    fn new(places: usize, share: usize) -> Self {
        Self { places: Semaphore::new(places), share: Semaphore::new(share) }
    }
}

/// A peer's evidence is not accepted, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum AppraiseError {
    /// There is none.
    #[error("the peer shows no evidence of an enclave, and this link asks for it")]
    NoEvidence,
    /// It cannot be read.
    #[error("the peer's evidence cannot be read")]
    Unreadable(#[from] PlatformEvidenceError),
    /// Nobody asks AMD here.
    #[error("the peer's evidence is of AMD SEV-SNP, and this link has no certificates of AMD's")]
    NoSnp,
    /// It does not say which processor signed it.
    #[error(
        "the peer's report names no processor of AMD's that is known: its host must not mask the chip id"
    )]
    NoProcessor,
    /// Nobody certifies its processor.
    #[error("the peer's evidence cannot be verified")]
    Certificates(#[from] SnpStoreError),
    /// It is not as it has to be.
    #[error("the peer's evidence is refused")]
    Refused(#[from] Refusal),
    /// The quote brings no certificate of its platform.
    #[error(
        "the peer's quote lacks its platform's certificate (certification data of type 5): nobody can verify it"
    )]
    NoCertificate,
    /// Nobody says whether its platform is up to date.
    #[error("the peer's evidence cannot be verified")]
    Collateral(#[from] StoreError),
    /// Too many quotes came at once.
    #[error("too many quotes wait to be verified: connect again in a while")]
    Busy,
}

impl Appraiser {
    /// Appraises with `threads` threads at most.
    #[must_use]
    pub fn new(
        verifier: Verifier,
        policy: Policy,
        collateral: CollateralStore,
        threads: NonZeroUsize,
    ) -> Self {
        let threads = threads.get();
        let shared = Shared {
            verifier,
            collateral,
            verdicts: Mutex::new(LruCache::new(VERDICTS_MAX)),
            pool: Arc::new(Semaphore::new(threads)),
            known: Line::new(threads * WAITING_MAX, threads * WAITING_MAX),
            strangers: Line::new(threads * WAITING_MAX, (threads - 1).max(1)),
        };
        Self { policy, snp: None, shared: Arc::new(shared) }
    }

    /// One with another policy that shares all else: threads, lines, collateral, and the verdicts, which no policy is part of.
    #[must_use]
    pub fn with_policy(&self, policy: Policy) -> Self {
        Self { policy, snp: self.snp.clone(), shared: Arc::clone(&self.shared) }
    }

    /// Takes reports of AMD SEV-SNP as well, if the policy does: with these certificates, and under AMD's roots alone.
    #[must_use]
    pub fn with_snp(self, certificates: SnpStore) -> Self {
        Self { snp: Some(certificates), ..self }
    }

    /// Appraises a quote that has to vouch for `report_data`, at `now` since 1970. A quote that was verified before costs no
    /// cryptography.
    ///
    /// # Errors
    /// [`AppraiseError`].
    pub async fn appraise(
        &self,
        evidence: &[u8],
        report_data: &[u8; 64],
        standing: Standing,
        now: Duration,
    ) -> Result<Appraised, AppraiseError> {
        let evidence = PlatformEvidence::parse(evidence)?;
        self.policy.screen(evidence.claims(), report_data)?;
        let digest = Sha256::digest(evidence.as_bytes()).into();
        let remembered = self.shared.verdicts().get(&digest).cloned();
        // One that has lapsed is verified anew: the vendor may have said something since.
        if let Some(verified) = remembered.filter(|verified| now < verified.valid_until()) {
            return Ok(self.policy.appraise(Verified::clone(&verified), report_data, now)?);
        }
        let verified = self.shared.verify(evidence, self.snp.as_ref(), standing, now).await?;
        let appraised = self.policy.appraise(verified, report_data, now)?;
        self.shared.verdicts().put(digest, Arc::new(Verified::clone(&appraised)));
        Ok(appraised)
    }
}

impl Shared {
    async fn verify(
        &self,
        evidence: PlatformEvidence,
        snp: Option<&SnpStore>,
        standing: Standing,
        now: Duration,
    ) -> Result<Verified, AppraiseError> {
        let line = match standing {
            Standing::Known => &self.known,
            Standing::Stranger => &self.strangers,
        };
        let Ok(_place) = line.places.try_acquire() else { return Err(AppraiseError::Busy) };
        match evidence {
            PlatformEvidence::Quote(quote) => {
                let kind = quote.collateral_kind().ok_or(AppraiseError::NoCertificate)?;
                let Ok(_share) = line.share.acquire().await else { return Err(AppraiseError::Busy) };
                let quote = Arc::new(quote);
                if !self.collateral.holds(kind) {
                    // Nothing is fetched, and no place kept, for platforms that somebody made up.
                    let (verifier, quote) = (self.verifier.clone(), Arc::clone(&quote));
                    self.on_thread(move || verifier.check_platform(&quote, now)).await?;
                }
                let collateral = self.collateral.get(kind, now).await?;
                let verifier = self.verifier.clone();
                self.on_thread(move || verifier.verify(&quote, &collateral, now)).await
            }
            PlatformEvidence::Report(report) => {
                let store = snp.ok_or(AppraiseError::NoSnp)?;
                let id = report.vcek_id().ok_or(AppraiseError::NoProcessor)?;
                let Ok(_share) = line.share.acquire().await else { return Err(AppraiseError::Busy) };
                let held = store.get(id, now).await?;
                let certificates = held.certificates.clone();
                let verify = move || SnpVerifier::new(SnpRoot::Amd).verify(&report, &certificates, now);
                let verified = self.on_thread(verify).await?;
                store.keep(id, &held);
                Ok(verified)
            }
        }
    }

    /// Verifies on a thread of the pool.
    async fn on_thread<T: Send + 'static>(
        &self,
        verify: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, AppraiseError> {
        let Ok(permit) = self.pool.clone().acquire_owned().await else { return Err(AppraiseError::Busy) };
        let verification = tokio::task::spawn_blocking(move || {
            // Ends with the work: nobody may wait for its outcome any longer.
            let _permit = permit;
            verify()
        });
        match verification.await {
            Ok(outcome) => Ok(outcome?),
            Err(error) => {
                tracing::error!(%error, "verifying evidence panicked");
                Err(AppraiseError::Busy)
            }
        }
    }

    fn verdicts(&self) -> std::sync::MutexGuard<'_, LruCache<[u8; 32], Arc<Verified>>> {
        // The table behind a poisoned lock is whole: entries come and go in one step each.
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
