//! Collateral in memory, in a folder, and from a PCCS.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attest::{Collateral, CollateralKind};
use tokio::sync::Mutex as AsyncMutex;

use crate::pccs::{Pccs, PccsError};

/// Collateral is fetched again, or read again, after this long: the vendor may have said something new before it must.
pub(crate) const RENEWED_AFTER: Duration = Duration::from_secs(12 * 3600);
/// After a failure nothing is fetched for that kind of platform for this long.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);
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
    folder: PathBuf,
    pccs: Option<Pccs>,
    known: Mutex<HashMap<CollateralKind, Arc<AsyncMutex<Slot>>>>,
}

#[derive(Debug, Default)]
struct Slot {
    held: Option<Held>,
    /// Since 1970: when it was read or fetched, or tried to be.
    looked_at: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Held {
    collateral: Arc<Collateral>,
    /// Until when the vendor vouches for it, since 1970.
    next_update: Duration,
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
        source: PccsError,
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
        Self { shared: Arc::new(Shared { folder, pccs, known: Mutex::default() }) }
    }

    /// What is needed at `now` since 1970 to verify quotes of one kind of platform. Those who ask for the same kind share one
    /// fetch; what is due for renewal and still valid is returned at once and renewed meanwhile.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, kind: CollateralKind, now: Duration) -> Result<Arc<Collateral>, StoreError> {
        let slot = self.slot(kind)?;
        let mut current = slot.clone().lock_owned().await;
        let age = current.looked_at.map(|looked_at| now.saturating_sub(looked_at));
        let valid = current.held.clone().filter(|held| now < held.next_update);
        match (valid, age) {
            (Some(held), Some(age)) if age < RENEWED_AFTER => Ok(held.collateral),
            (Some(held), _) => {
                // Whoever asks meanwhile finds it fresh enough.
                current.looked_at = Some(now);
                drop(current);
                let store = self.clone();
                tokio::spawn(async move {
                    match store.look(kind, now).await {
                        Ok(held) => slot.lock().await.held = Some(held),
                        Err(error) => {
                            tracing::warn!(%kind, error = &error as &dyn std::error::Error, "collateral is not renewed");
                        }
                    }
                });
                Ok(held.collateral)
            }
            (None, Some(age)) if age < PAUSE => Err(StoreError::Paused { kind }),
            (None, _) => {
                current.looked_at = Some(now);
                let held = self.look(kind, now).await?;
                current.held = Some(held.clone());
                Ok(held.collateral)
            }
        }
    }

    /// Whether there is some already. Not while it is being fetched.
    pub(crate) fn holds(&self, kind: CollateralKind) -> bool {
        let known = self.known();
        known.get(&kind).is_some_and(|slot| slot.try_lock().is_ok_and(|slot| slot.held.is_some()))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<CollateralKind, Arc<AsyncMutex<Slot>>>> {
        // The table behind a poisoned lock is whole: entries come and go in one step each.
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, kind: CollateralKind) -> Result<Arc<AsyncMutex<Slot>>, StoreError> {
        let mut known = self.known();
        if known.len() >= KINDS_MAX && !known.contains_key(&kind) {
            // What nobody waits for and nothing is known of was made up, or is asked for anew.
            known.retain(|_kind, slot| slot.try_lock().is_ok_and(|slot| slot.held.is_some()));
            if known.len() >= KINDS_MAX {
                return Err(StoreError::TooMany { kind });
            }
        }
        Ok(known.entry(kind).or_default().clone())
    }

    /// From the service if there is one, else from the folder; and from the folder if the service has nothing.
    async fn look(&self, kind: CollateralKind, now: Duration) -> Result<Held, StoreError> {
        let path = self.shared.folder.join(format!("{kind}.json"));
        let kept = || read(&path).filter(|held| now < held.next_update);
        let Some(pccs) = &self.shared.pccs else {
            return kept().ok_or(StoreError::Missing { kind, path: path.clone() });
        };
        // A process that starts anew asks nobody for what is in its folder and new enough.
        if let Some(held) = kept().filter(|_held| is_new(&path)) {
            return Ok(held);
        }
        match pccs.fetch(kind).await {
            Ok(text) => {
                if let Err(error) = write(&path, &text) {
                    tracing::warn!(%error, path = %path.display(), "collateral is not kept");
                }
                held(&text).ok_or(StoreError::Missing { kind, path })
            }
            Err(source) => kept().ok_or(StoreError::Fetch { kind, source }),
        }
    }
}

fn held(text: &str) -> Option<Held> {
    let collateral = Collateral::from_json(text).ok()?;
    let next_update = collateral.next_update()?;
    Some(Held { collateral: Arc::new(collateral), next_update })
}

fn read(path: &Path) -> Option<Held> {
    let is_short = std::fs::metadata(path).ok()?.len() <= Collateral::LEN_MAX as u64;
    held(&is_short.then(|| std::fs::read_to_string(path).ok())??)
}

/// Whether a file was written less than [`RENEWED_AFTER`] ago.
pub(crate) fn is_new(path: &Path) -> bool {
    let written = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age < RENEWED_AFTER))
}

/// Whole or not at all.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
