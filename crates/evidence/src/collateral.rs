//! Collateral in memory, in a folder, and from a PCCS.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attest::{Collateral, CollateralKind};

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

    /// What is needed at `now` since 1970 to verify quotes of one kind of platform. Those who ask for the same kind share one
    /// fetch; what is due for renewal and still valid is returned at once and renewed meanwhile.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, kind: CollateralKind, now: Duration) -> Result<Arc<Collateral>, StoreError> {
        let kept = self.kept(kind)?;
        let outcome = kept.get(now, || self.clone().look(kind, now)).await;
        outcome.map_err(|unfound| match unfound {
            Unfound::Paused => StoreError::Paused { kind },
            Unfound::Now(error) => error,
        })
    }

    /// What [`CollateralStore::get`] gives without waiting, if it does.
    pub(crate) fn held(&self, kind: CollateralKind, now: Duration) -> Option<Arc<Collateral>> {
        let kept = self.known().get(&kind).cloned();
        kept?.held(now, || self.clone().look(kind, now))
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

    /// From the service if there is one, else from the folder; and from the folder if the service has nothing.
    async fn look(self, kind: CollateralKind, now: Duration) -> Result<Held<Arc<Collateral>>, StoreError> {
        let Shared { folder, pccs, .. } = &*self.shared;
        let name = format!("{kind}.json");
        let missing = || StoreError::Missing { kind, path: folder.path(&name) };
        let file = folder.read(&name, Collateral::LEN_MAX).await.ok();
        let is_new = file.as_ref().is_some_and(|file| file.is_new(now));
        let kept = match file {
            Some(file) => parse(file.bytes).await.filter(|held| now < held.until),
            None => None,
        };
        // A process that starts anew asks nobody for what is in its folder and new enough.
        let (Some(pccs), false) = (pccs, is_new && kept.is_some()) else { return kept.ok_or_else(missing) };
        match pccs.fetch(kind).await {
            Ok(text) => {
                let found = parse(text.clone().into_bytes()).await.ok_or_else(missing)?;
                folder.write(&name, text.into_bytes(), now).await;
                Ok(found)
            }
            Err(source) => match kept {
                Some(held) => Ok(Held { renewed_after: Some(PAUSE), ..held }),
                None => Err(StoreError::Fetch { kind, source }),
            },
        }
    }
}

async fn parse(text: Vec<u8>) -> Option<Held<Arc<Collateral>>> {
    let parse = move || {
        let collateral = Collateral::from_json(str::from_utf8(&text).ok()?).ok()?;
        let until = collateral.next_update()?;
        Some(Held { value: Arc::new(collateral), until, renewed_after: Some(RENEWED_AFTER) })
    };
    blocking(parse).await.ok()?
}
