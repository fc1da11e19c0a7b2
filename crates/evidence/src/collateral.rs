//! Collateral in memory, in a folder, and from a PCCS.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attest::{Collateral, CollateralKind, Refusal, Verifier};

use crate::folder::{Folder, blocking};
use crate::pccs::Pccs;
use crate::renewed::{Held, PAUSE, RENEWED_AFTER, Renewed, Unfound};
use crate::service::ServiceError;

/// Kinds of platforms that are kept. Those of real platforms only, as [`crate::Appraiser`] asks; there are some dozens.
const KINDS_MAX: usize = 256;

/// What vendors publish, for all links of a process. Clones share it.
///
/// The folder holds a file for each kind of platform, named as [`CollateralKind`] is written, with `.json` behind it. With a PCCS it
/// is a cache that outlives the process; without one it is the source, and whoever runs the machine keeps it new.
#[derive(Clone, Debug)]
pub struct CollateralStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: Folder,
    pccs: Option<Pccs>,
    known: Mutex<HashMap<CollateralKind, Renewed<Arc<Collateral>>>>,
}

/// There is no collateral for a kind of platform.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing in the folder, and nobody to ask.
    #[error(
        "there is no valid collateral for platforms {kind}: put it at {}, or set the address of a PCCS", .path.display()
    )]
    Missing {
        /// The kind.
        kind: CollateralKind,
        /// Where it would be.
        path: PathBuf,
    },
    /// The PCCS did not give it.
    #[error("there is no valid collateral for platforms {kind}, and none can be fetched")]
    Fetch {
        /// The kind.
        kind: CollateralKind,
        /// Why.
        source: ServiceError,
    },
    /// The PCCS gave something else.
    #[error(
        "what the PCCS gave for platforms {kind} is not taken: is its address (pccs) right, and is it up to date?"
    )]
    Refused {
        /// The kind.
        kind: CollateralKind,
        /// Why.
        source: Refusal,
    },
    /// It was asked for in vain a moment ago.
    #[error("there is no valid collateral for platforms {kind}; it is asked for again {} s after the last attempt", PAUSE.as_secs())]
    Paused {
        /// The kind.
        kind: CollateralKind,
    },
    /// Too many kinds.
    #[error("collateral of {KINDS_MAX} kinds of platforms is in use, and {kind} would be one more")]
    TooMany {
        /// The kind.
        kind: CollateralKind,
    },
}

impl CollateralStore {
    /// A store over a folder, which is made when something is written, and a service if there is one.
    #[must_use]
    pub fn new(folder: PathBuf, pccs: Option<Pccs>) -> Self {
        Self { shared: Arc::new(Shared { folder: Folder::new(folder), pccs, known: Mutex::default() }) }
    }

    /// What is needed at `now` since 1970 for a verifier to verify quotes of one kind of platform. Those who ask for the same kind share
    /// one fetch; what is due for renewal and still valid is returned at once and renewed meanwhile, by what the verifier finds to be
    /// the vendor's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(
        &self,
        verifier: &Verifier,
        kind: CollateralKind,
        now: Duration,
    ) -> Result<Arc<Collateral>, StoreError> {
        let kept = self.kept(kind)?;
        let outcome = kept.get(now, || self.clone().look(verifier.clone(), kind, now)).await;
        outcome.map_err(|unfound| match unfound {
            Unfound::Paused => StoreError::Paused { kind },
            Unfound::Now(error) => error,
        })
    }

    /// What [`CollateralStore::get`] gives without waiting, if it does.
    pub(crate) fn held(
        &self,
        verifier: &Verifier,
        kind: CollateralKind,
        now: Duration,
    ) -> Option<Arc<Collateral>> {
        let kept = self.known().get(&kind).cloned();
        kept?.held(now, || self.clone().look(verifier.clone(), kind, now))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<CollateralKind, Renewed<Arc<Collateral>>>> {
        // The table behind a poisoned lock is whole: entries come and go in one step each.
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, kind: CollateralKind) -> Result<Renewed<Arc<Collateral>>, StoreError> {
        let mut known = self.known();
        if known.len() >= KINDS_MAX && !known.contains_key(&kind) {
            // What nothing is known of was made up, or is asked for anew.
            known.retain(|_kind, kept| kept.is_found());
            if known.len() >= KINDS_MAX {
                return Err(StoreError::TooMany { kind });
            }
        }
        Ok(known.entry(kind).or_default().clone())
    }

    /// From the service if there is one, else from the folder; and what there was if the service has nothing that is the vendor's.
    async fn look(
        self,
        verifier: Verifier,
        kind: CollateralKind,
        now: Duration,
    ) -> Result<Held<Arc<Collateral>>, StoreError> {
        let Shared { folder, pccs, .. } = &*self.shared;
        let name = format!("{kind}.json");
        let missing = || StoreError::Missing { kind, path: folder.path(&name) };
        let file = folder.read(&name, Collateral::LEN_MAX).await.ok();
        let is_new = file.as_ref().is_some_and(|file| file.is_new(now));
        let parse = |text| parse(verifier.clone(), kind, text, now);
        let kept = match file {
            Some(file) => parse(file.bytes).await.and_then(Result::ok),
            None => None,
        };
        // A process that starts anew asks nobody for what is in its folder and new enough.
        let (Some(pccs), false) = (pccs, is_new && kept.is_some()) else { return kept.ok_or_else(missing) };
        let fetched = match pccs.fetch(kind).await {
            Ok(text) => match parse(text.clone().into_bytes()).await {
                Some(Ok(found)) => Ok((text, found)),
                Some(Err(source)) => Err(StoreError::Refused { kind, source }),
                None => Err(missing()),
            },
            Err(source) => Err(StoreError::Fetch { kind, source }),
        };
        match (fetched, kept) {
            (Ok((text, found)), _) => {
                folder.write(&name, text.into_bytes(), now).await;
                Ok(found)
            }
            (Err(error), Some(held)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "collateral is not renewed");
                Ok(Held { renewed_after: Some(PAUSE), ..held })
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// `None` if it cannot be read.
async fn parse(
    verifier: Verifier,
    kind: CollateralKind,
    text: Vec<u8>,
    now: Duration,
) -> Option<Result<Held<Arc<Collateral>>, Refusal>> {
    let parse = move || {
        let collateral = Collateral::from_json(str::from_utf8(&text).ok()?).ok()?;
        let until = collateral.next_update()?;
        let held = Held { value: Arc::new(collateral), until, renewed_after: Some(RENEWED_AFTER) };
        Some(verifier.check_collateral(kind, &held.value, now).map(|()| held))
    };
    blocking(parse).await.ok()?
}
