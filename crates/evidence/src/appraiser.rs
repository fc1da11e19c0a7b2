//! The appraisal of peers' evidence, for all links of a process.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attest::{Appraised, PlatformEvidence, PlatformEvidenceError, Policy, Refusal, Verified, Verifier};
use lru::LruCache;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::collateral::{CollateralStore, StoreError};
use crate::renewed::{RENEWED_AFTER, age};
use crate::snp::{SnpStore, SnpStoreError};

/// Verdicts that are remembered, about 2 KiB each.
const VERDICTS_MAX: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");
/// Quotes that may wait in line to be verified, for each thread that verifies and each standing: about a second of work.
const WAITING_MAX: usize = 512;
/// For how many strangers a vendor is asked at the same time.
const STRANGERS_FETCHES_MAX: usize = 2;

/// What is known of whoever brings a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its address was here before, or we chose to connect to it.
    Known,
    /// Nothing. Strangers never have all of the pool.
    Stranger,
}

/// Appraises quotes under one policy. Clones share all.
#[derive(Clone, Debug)]
pub struct Appraiser {
    policy: Arc<Policy>,
    snp: Option<SnpStore>,
    shared: Arc<Shared>,
}

/// What no policy has a part in.
#[derive(Debug)]
struct Shared {
    verifier: Verifier,
    collateral: CollateralStore,
    verdicts: Mutex<LruCache<[u8; 32], Verdict>>,
    /// Threads that verify at the same time.
    pool: Arc<Semaphore>,
    known: Line,
    strangers: Line,
}

/// What was verified, and when, since 1970.
#[derive(Clone, Debug)]
struct Verdict {
    verified: Arc<Verified>,
    at: Duration,
}

impl Verdict {
    /// Whether it rests on nothing that has lapsed, or that the vendor may have said anew.
    fn holds(&self, now: Duration) -> bool {
        now < self.verified.valid_until() && age(self.at, now).is_some_and(|age| age < RENEWED_AFTER)
    }
}

/// Those of one standing who wait to be verified.
#[derive(Debug)]
struct Line {
    places: Semaphore,
    /// For how many of them a vendor is asked at the same time. Who has no thread yet waits for no vendor in the place of others.
    fetches: Arc<Semaphore>,
    /// How many of them may have a thread at the same time.
    share: Arc<Semaphore>,
}

impl Line {
    fn new(places: usize, fetches: usize, share: usize) -> Self {
        Self {
            places: Semaphore::new(places),
            fetches: Arc::new(Semaphore::new(fetches)),
            share: Arc::new(Semaphore::new(share)),
        }
    }

    /// Asks a vendor when it is this one's turn. It is asked to the end even if nobody waits for it any longer: whoever hangs up
    /// leaves no failure behind.
    async fn fetch<T, E>(
        &self,
        fetch: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, AppraiseError>
    where
        T: Send + 'static,
        E: Into<AppraiseError> + Send + 'static,
    {
        let Ok(permit) = self.fetches.clone().acquire_owned().await else { return Err(AppraiseError::Busy) };
        let fetch = tokio::spawn(async move {
            let _permit = permit;
            fetch.await
        });
        match fetch.await {
            Ok(outcome) => outcome.map_err(Into::into),
            Err(error) => {
                tracing::error!(%error, "fetching collateral panicked");
                Err(AppraiseError::Busy)
            }
        }
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
    #[error(
        "the peer's evidence is of AMD SEV-SNP, and nothing here looks for certificates of AMD's: take \"snp\" out of the policy's tees"
    )]
    NoSnp,
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
    /// Appraises with `threads` threads at most, or with two where that is one: strangers never have all of them.
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
            pool: Arc::new(Semaphore::new(threads.max(2))),
            known: Line::new(threads * WAITING_MAX, threads * WAITING_MAX, threads * WAITING_MAX),
            strangers: Line::new(threads * WAITING_MAX, STRANGERS_FETCHES_MAX, (threads - 1).max(1)),
        };
        Self { policy: Arc::new(policy), snp: None, shared: Arc::new(shared) }
    }

    /// One with another policy that shares all else: threads, lines, collateral, and the verdicts, which no policy is part of.
    #[must_use]
    pub fn with_policy(&self, policy: Policy) -> Self {
        Self { policy: Arc::new(policy), snp: self.snp.clone(), shared: Arc::clone(&self.shared) }
    }

    /// Takes reports of AMD SEV-SNP as well, if the policy does: with these certificates.
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
        match &evidence {
            PlatformEvidence::Quote(quote) => self.policy.screen(quote.claims(), report_data)?,
            PlatformEvidence::Report(report) => self.policy.screen_report(report, report_data)?,
        }
        let digest = Sha256::digest(evidence.as_bytes()).into();
        let remembered = self.shared.verdicts().get(&digest).cloned();
        if let Some(verdict) = remembered.filter(|verdict| verdict.holds(now)) {
            return Ok(self.policy.appraise(Verified::clone(&verdict.verified), report_data, now)?);
        }
        let key = match &evidence {
            PlatformEvidence::Report(report) => report.vcek_id().ok(),
            PlatformEvidence::Quote(_) => None,
        };
        let verified = self.shared.verify(evidence, self.snp.as_ref(), standing, now).await?;
        let appraised = self.policy.appraise(verified, report_data, now)?;
        if let (Some(key), Some(store)) = (key, &self.snp) {
            store.keep(key, now).await;
        }
        let verdict = Verdict { verified: Arc::new(Verified::clone(&appraised)), at: now };
        self.shared.verdicts().put(digest, verdict);
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
                let quote = Arc::new(quote);
                let collateral = match self.collateral.held(&self.verifier, kind, now) {
                    Some(collateral) => collateral,
                    None => {
                        // Nothing is fetched, and no place kept, for platforms that somebody made up.
                        let (verifier, quote) = (self.verifier.clone(), Arc::clone(&quote));
                        self.on_thread(line, move || verifier.check_platform(&quote, now)).await?;
                        let (store, verifier) = (self.collateral.clone(), self.verifier.clone());
                        line.fetch(async move { store.get(&verifier, kind, now).await }).await?
                    }
                };
                let verifier = self.verifier.clone();
                self.on_thread(line, move || verifier.verify(&quote, &collateral, now)).await
            }
            PlatformEvidence::Report(report) => {
                let store = snp.ok_or(AppraiseError::NoSnp)?;
                let id = report.vcek_id().map_err(Refusal::from)?;
                let certified = match store.held(id, now).await? {
                    Some(certified) => certified,
                    None => {
                        let store = store.clone();
                        line.fetch(async move { store.get(id, now).await }).await?
                    }
                };
                let verify = move || certified.authority.verify(&report, &certified.vcek, now);
                self.on_thread(line, verify).await
            }
        }
    }

    /// Verifies on a thread of the pool, when it is this one's turn in its line.
    async fn on_thread<T: Send + 'static>(
        &self,
        line: &Line,
        verify: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, AppraiseError> {
        let Ok(share) = line.share.clone().acquire_owned().await else { return Err(AppraiseError::Busy) };
        let Ok(permit) = self.pool.clone().acquire_owned().await else { return Err(AppraiseError::Busy) };
        let verification = tokio::task::spawn_blocking(move || {
            // They end with the work: nobody may wait for its outcome any longer.
            let _taken = (share, permit);
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

    fn verdicts(&self) -> std::sync::MutexGuard<'_, LruCache<[u8; 32], Verdict>> {
        // The table behind a poisoned lock is whole: entries come and go in one step each.
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
