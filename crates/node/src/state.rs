//! The folder of one role and instance: its lock, its format version, its secrets.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use rand::RngExt as _;

use crate::failpoint;

/// Shortest accepted secret in characters.
pub const SECRET_LEN_MIN: usize = 32;

/// Layout of the folder. Grows with every change that an older program would misread.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "lock";

/// A state folder that cannot be used. Always the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder or a file cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// Folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process works on it.
    #[error(
        "{} is in use by another cocoon process: stop it, or choose another instance or state folder",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{} has format {found}, this program knows up to {FORMAT}: run a newer program", path.display())]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// The number found.
        found: u32,
    },
    /// Others than the owner may read or change the file.
    #[error("{} has mode {mode:o}, others may use it: run chmod 600 on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not what the file should hold.
    #[error("{} does not hold {expected}: restore it, or move it away to get a new one", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
}

/// An open state folder. It is locked for other processes, and for a second opening in this one, until it is dropped.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Creates the folder for this user alone if it is not there, and takes its lock.
    ///
    /// # Errors
    /// [`StateError`] if the folder cannot be made or used, another process has it, or a newer program wrote it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let lock = lock.map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(at(&lock_path)(source)),
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        folder.check_format()?;
        Ok(folder)
    }

    fn check_format(&self) -> Result<(), StateError> {
        let text = self.load_or_write(FORMAT_FILE, || FORMAT.to_string())?;
        let expected = "the number of a format";
        let found: u32 = text
            .parse()
            .map_err(|_not_a_number| StateError::Content { path: self.path.join(FORMAT_FILE), expected })?;
        if found > FORMAT {
            return Err(StateError::NewerFormat { path: self.path.clone(), found });
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The Ed25519 key in the file `name`: 64 hexadecimal digits of its seed, drawn if there is no such file.
    ///
    /// # Errors
    /// [`StateError`] if the file cannot be used. A file that is there is never overwritten.
    pub fn key(&self, name: &str) -> Result<SigningKey, StateError> {
        let mut seed = [0; 32];
        let decoded = hex::decode_to_slice(self.load_or_write(name, random_digits)?, &mut seed);
        decoded.map_err(|_not_hex| StateError::Content {
            path: self.path.join(name),
            expected: "64 hexadecimal digits",
        })?;
        Ok(SigningKey::from_bytes(&seed))
    }

    /// The secret text in the file `name`, at least [`SECRET_LEN_MIN`] characters: 32 random bytes in hexadecimal if
    /// there is no such file.
    ///
    /// # Errors
    /// [`StateError`] if the file cannot be used. A file that is there is never overwritten.
    pub fn secret(&self, name: &str) -> Result<String, StateError> {
        let text = self.load_or_write(name, random_digits)?;
        if text.len() < SECRET_LEN_MIN {
            let expected = "a secret of at least 32 characters";
            return Err(StateError::Content { path: self.path.join(name), expected });
        }
        Ok(text)
    }

    /// The trimmed text of a file of the owner's alone; `make` gives it when there is none.
    fn load_or_write(&self, name: &str, make: impl FnOnce() -> String) -> Result<String, StateError> {
        if let Some(text) = self.text(name)? {
            return Ok(text.trim().to_owned());
        }
        let text = make();
        self.replace(name, format!("{text}\n").as_bytes())?;
        Ok(text)
    }

    /// The text of a file of the owner's alone, if there is one.
    ///
    /// # Errors
    /// [`StateError`] if others may read it, or it cannot be read.
    pub fn text(&self, name: &str) -> Result<Option<String>, StateError> {
        let path = self.path.join(name);
        let failed = |source| StateError::Io { path: path.clone(), source };
        match fs::metadata(&path) {
            Ok(metadata) => {
                let mode = metadata.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(StateError::Exposed { path, mode });
                }
                fs::read_to_string(&path).map(Some).map_err(failed)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes the file `name` whole and durably: after a crash it holds either the old bytes or the new ones. It is
    /// readable by its owner alone.
    ///
    /// # Errors
    /// [`StateError::Io`] if the disk refuses.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let (path, unfinished) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let written = (|| {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            failpoint::hit("state-write")?;
            file.write_all(bytes)?;
            file.sync_all()?;
            failpoint::hit("state-written")?;
            fs::rename(&unfinished, &path)?;
            failpoint::hit("state-replaced")?;
            File::open(&self.path)?.sync_all()
        })();
        written.map_err(|source| StateError::Io { path, source })
    }
}

fn random_digits() -> String {
    hex::encode(rand::rng().random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_drawn_once_and_readable_by_their_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let folder = StateFolder::open(&path).unwrap();
        let (key, secret) = (folder.key("wallet.key").unwrap(), folder.secret("secret").unwrap());
        assert_eq!(secret.len(), 64);
        drop(folder);
        let folder = StateFolder::open(&path).unwrap();
        assert_eq!(folder.key("wallet.key").unwrap(), key);
        assert_eq!(folder.secret("secret").unwrap(), secret);
        assert_ne!(folder.key("machine.key").unwrap(), key);
        for file in ["wallet.key", "secret", "machine.key", LOCK_FILE, FORMAT_FILE] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
        assert_eq!((mode(&path), mode(&root.path().join("a"))), (0o700, 0o700));
    }

    #[test]
    fn unusable_files_are_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(root.path()).unwrap();
        let path = root.path().join("file");
        for text in ["", "\n", "short", &"0".repeat(63)] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(folder.key("file"), Err(StateError::Content { .. })), "{text:?}");
            assert_eq!(folder.secret("file").is_ok(), text.len() >= SECRET_LEN_MIN, "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(folder.secret("file"), Err(StateError::Exposed { mode: 0o640, .. })));
        assert!(matches!(folder.secret("no/such/folder"), Err(StateError::Io { .. })));
    }

    #[test]
    fn a_folder_has_one_user_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = StateFolder::open(root.path()).unwrap();
        assert!(matches!(StateFolder::open(root.path()), Err(StateError::InUse { .. })));
        drop(first);
        assert!(StateFolder::open(root.path()).is_ok());
    }

    #[test]
    fn a_newer_format_is_refused() {
        let root = tempfile::tempdir().unwrap();
        drop(StateFolder::open(root.path()).unwrap());
        let write = |text: &str| fs::write(root.path().join(FORMAT_FILE), text).unwrap();
        write("2\n");
        assert!(matches!(StateFolder::open(root.path()), Err(StateError::NewerFormat { found: 2, .. })));
        write("two\n");
        assert!(matches!(StateFolder::open(root.path()), Err(StateError::Content { .. })));
        write("1\n");
        assert!(StateFolder::open(root.path()).is_ok());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let root = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(root.path()).unwrap();
        folder.replace("file", b"long content").unwrap();
        folder.replace("file", b"short").unwrap();
        assert_eq!(fs::read(root.path().join("file")).unwrap(), b"short");
        assert_eq!(mode(&root.path().join("file")), 0o600);
        assert!(!root.path().join("file.new").exists());
    }
}
