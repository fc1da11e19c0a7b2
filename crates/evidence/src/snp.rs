//! Certificates of AMD's processors in memory, in a folder, and from AMD's key service.

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attest::{SnpCertificates, VcekId};
use lru::LruCache;
use tokio::sync::Mutex as AsyncMutex;

use crate::kds::Kds;
use crate::pccs::PccsError;
use crate::renewed::{PAUSE, RENEWED_AFTER, age};

/// Keys whose certificates are kept, about 6 KiB each. A report names its own key before anything of it is verified, so that made-up
/// ones push others out; those are in the folder.
const KEYS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// What AMD certifies of processors, for all links of a process. Clones share it.
///
/// The folder holds a file for each key, named as [`VcekId`] is written, with `.pem` behind it. With a service it is a cache that
/// outlives the process, of keys that signed a genuine report; without one it is the source, and whoever runs the machine keeps it new.
#[derive(Clone, Debug)]
pub struct SnpStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    kds: Option<Kds>,
    known: Mutex<LruCache<VcekId, Arc<AsyncMutex<Slot>>>>,
}

#[derive(Debug, Default)]
struct Slot {
    held: Option<Held>,
    /// Since 1970: when it was read or fetched, or tried to be.
    looked_at: Option<Duration>,
}

/// Certificates, and the text that they were read from.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) certificates: Arc<SnpCertificates>,
    text: Arc<str>,
    /// Until when they say that they are valid, since 1970.
    next_update: Duration,
}

/// There are no certificates of a processor.
#[derive(Debug, thiserror::Error)]
pub enum SnpStoreError {
    /// Nothing in the folder, and nobody to ask.
    #[error(
        "there are no valid certificates of processor {id}: put them at {}, or set the address of AMD's key service (kds)", .path.display()
    )]
    Missing {
        /// Whose, and for which firmware.
        id: Box<VcekId>,
        /// Where they would be.
        path: PathBuf,
    },
    /// The service did not give them.
    #[error("there are no valid certificates of processor {id}, and none can be fetched")]
    Fetch {
        /// Whose, and for which firmware.
        id: Box<VcekId>,
        /// Why.
        source: PccsError,
    },
    /// They were asked for in vain a moment ago.
    #[error("there are no valid certificates of processor {id}; they are asked for again {} s after the last attempt", PAUSE.as_secs())]
    Paused {
        /// Whose, and for which firmware.
        id: Box<VcekId>,
    },
}

impl SnpStore {
    /// A store over a folder, which is made when something is written, and a service if there is one.
    #[must_use]
    pub fn new(folder: PathBuf, kds: Option<Kds>) -> Self {
        let known = Mutex::new(LruCache::new(KEYS_MAX));
        Self { shared: Arc::new(Shared { folder, kds, known }) }
    }

    /// What is needed at `now` since 1970 to verify reports that a key signed. Those who ask for the same key share one fetch.
    ///
    /// # Errors
    /// [`SnpStoreError`].
    pub(crate) async fn get(&self, id: VcekId, now: Duration) -> Result<Held, SnpStoreError> {
        let slot = self.slot(id);
        let mut slot = slot.lock().await;
        let age = slot.looked_at.and_then(|looked_at| age(looked_at, now));
        let valid = slot.held.clone().filter(|held| now < held.next_update);
        match (valid, age) {
            (Some(held), Some(age)) if age < RENEWED_AFTER => Ok(held),
            (None, Some(age)) if age < PAUSE => Err(SnpStoreError::Paused { id: id.into() }),
            (valid, _) => {
                slot.looked_at = Some(now);
                let held = match (self.look(id, now).await, valid) {
                    (Err(error), Some(valid)) => {
                        tracing::warn!(%id, error = &error as &dyn std::error::Error, "certificates are not renewed");
                        valid
                    }
                    (outcome, _) => outcome?,
                };
                slot.held = Some(held.clone());
                Ok(held)
            }
        }
    }

    /// Keeps certificates for the next process, if they came from a service. Only for a key that signed a genuine report: nobody
    /// fills the disk with keys that he made up.
    pub(crate) fn keep(&self, id: VcekId, held: &Held) {
        let path = self.path(id);
        if self.shared.kds.is_none() || (read(&path).is_some() && is_new(&path)) {
            return;
        }
        if let Err(error) = write(&path, &held.text) {
            tracing::warn!(%error, path = %path.display(), "certificates are not kept");
        }
    }

    fn path(&self, id: VcekId) -> PathBuf {
        self.shared.folder.join(format!("{id}.pem"))
    }

    fn slot(&self, id: VcekId) -> Arc<AsyncMutex<Slot>> {
        // The table behind a poisoned lock is whole: entries come and go in one step each.
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert(id, Arc::default).clone()
    }

    /// From the folder if that is new enough, else from the service; and from the folder if the service has nothing.
    async fn look(&self, id: VcekId, now: Duration) -> Result<Held, SnpStoreError> {
        let path = self.path(id);
        let kept = || read(&path).filter(|held| now < held.next_update);
        let Some(kds) = &self.shared.kds else {
            return kept().ok_or(SnpStoreError::Missing { id: id.into(), path: path.clone() });
        };
        if let Some(held) = kept().filter(|_held| is_new(&path)) {
            return Ok(held);
        }
        match kds.fetch(id, now).await {
            Ok(text) => held(&text).ok_or(SnpStoreError::Missing { id: id.into(), path }),
            Err(source) => kept().ok_or(SnpStoreError::Fetch { id: id.into(), source }),
        }
    }
}

fn held(text: &str) -> Option<Held> {
    let certificates = SnpCertificates::from_pem(text.as_bytes()).ok()?;
    let next_update = certificates.next_update()?;
    Some(Held { certificates: Arc::new(certificates), text: text.into(), next_update })
}

fn read(path: &Path) -> Option<Held> {
    let is_short = std::fs::metadata(path).ok()?.len() <= SnpCertificates::LEN_MAX as u64;
    held(&is_short.then(|| std::fs::read_to_string(path).ok())??)
}

/// Whether a file was written less than [`RENEWED_AFTER`] ago.
fn is_new(path: &Path) -> bool {
    let written = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age < RENEWED_AFTER))
}

/// Whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
