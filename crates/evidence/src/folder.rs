//! Files of what vendors say. All of it is signed: nothing is believed for being there.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::renewed::{RENEWED_AFTER, age};

/// A folder, which is made when something is written. Files are read and written on threads that may wait.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

/// What a file holds.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    /// Since 1970.
    written_at: Option<Duration>,
}

impl File {
    /// Whether it was written less than [`RENEWED_AFTER`] before `now` since 1970.
    pub(crate) fn is_new(&self, now: Duration) -> bool {
        self.written_at.and_then(|at| age(at, now)).is_some_and(|age| age < RENEWED_AFTER)
    }
}

impl Folder {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a file of at most `len_max` bytes.
    pub(crate) async fn read(&self, name: &str, len_max: usize) -> io::Result<File> {
        let path = self.path(name);
        let read = move || {
            let file = std::fs::File::open(path)?;
            let written_at = file.metadata()?.modified()?.duration_since(SystemTime::UNIX_EPOCH).ok();
            let mut bytes = Vec::new();
            file.take(len_max as u64 + 1).read_to_end(&mut bytes)?;
            if bytes.len() > len_max {
                return Err(io::Error::other(format!("the file has more than {len_max} bytes")));
            }
            Ok(File { bytes, written_at })
        };
        blocking(read).await?
    }

    /// Writes a file as of `now` since 1970, whole or not at all. A failure is told to the operator, and costs no more than asking again.
    pub(crate) async fn write(&self, name: &str, bytes: Vec<u8>, now: Duration) {
        let (folder, path) = (self.0.clone(), self.path(name));
        let write = move || {
            std::fs::create_dir_all(&folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            file.write_all(&bytes)?;
            let written_at = SystemTime::UNIX_EPOCH.checked_add(now);
            file.as_file().set_modified(written_at.ok_or_else(|| io::Error::other("no such time"))?)?;
            file.persist(path)?;
            io::Result::Ok(())
        };
        if let Err(error) = blocking(write).await.flatten() {
            tracing::warn!(%error, path = %self.path(name).display(), "what a vendor says is not kept");
        }
    }
}

/// Does work that waits for a disk, or takes long, on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
