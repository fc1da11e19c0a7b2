//! The client's own secrets: files in its state folder, drawn on first start.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use rand::RngExt as _;
use units::PublicKey;

use crate::session::Secret;

/// Shortest accepted secret in characters.
const SECRET_LEN_MIN: usize = 32;

/// A key or secret that cannot be used.
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
    /// Others than the owner may read or change the file.
    #[error("{} has mode {mode:o}, others may use it: run chmod 600 on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not what the file should hold.
    #[error("{} does not hold {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
}

/// The client's keys.
pub(crate) struct Keys {
    /// Public half of the node wallet's key.
    pub(crate) wallet: PublicKey,
    /// Authorises at proxies.
    pub(crate) secret: Secret,
}

impl Keys {
    /// Reads the keys from `folder`, or draws what is missing.
    ///
    /// # Errors
    /// [`StateError`] if a file cannot be used.
    pub(crate) fn load_or_create(folder: &Path) -> Result<Self, StateError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(|source| StateError::Io { path: folder.to_owned(), source })?;

        let path = folder.join("wallet.key");
        let mut seed = [0; 32];
        if hex::decode_to_slice(load_or_draw(&path)?, &mut seed).is_err() {
            return Err(StateError::Content { path, expected: "64 hexadecimal digits" });
        }
        let wallet = PublicKey::new(SigningKey::from_bytes(&seed).verifying_key().to_bytes());

        let path = folder.join("secret");
        let text = load_or_draw(&path)?;
        if text.len() < SECRET_LEN_MIN {
            return Err(StateError::Content { path, expected: "a secret of at least 32 characters" });
        }
        Ok(Self { wallet, secret: Secret::new(&text) })
    }
}

/// The text of a secret file; a new one holds 32 random bytes in hexadecimal and is readable by its owner alone.
fn load_or_draw(path: &Path) -> Result<String, StateError> {
    let failed = |source| StateError::Io { path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let bytes: [u8; 32] = rand::rng().random();
            let text = hex::encode(bytes);
            file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(text)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(StateError::Exposed { path: path.to_owned(), mode });
            }
            let text = fs::read_to_string(path).map_err(failed)?;
            Ok(text.trim().to_owned())
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_drawn_once() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let first = Keys::load_or_create(&state).unwrap();
        let second = Keys::load_or_create(&state).unwrap();
        assert_eq!(first.wallet, second.wallet);
        for file in ["wallet.key", "secret"] {
            let path = state.join(file);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read_to_string(&path).unwrap().trim().len(), 64);
        }
        let others = tempfile::tempdir().unwrap();
        assert_ne!(Keys::load_or_create(others.path()).unwrap().wallet, first.wallet);
    }

    #[test]
    fn unusable_files_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        Keys::load_or_create(folder.path()).unwrap();
        let (key, secret) = (folder.path().join("wallet.key"), folder.path().join("secret"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::load_or_create(folder.path()), Err(StateError::Exposed { mode: 0o644, .. })));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        for empty in ["", "\n", "short"] {
            fs::write(&secret, empty).unwrap();
            assert!(matches!(Keys::load_or_create(folder.path()), Err(StateError::Content { .. })));
            assert_eq!(fs::read_to_string(&secret).unwrap(), empty);
        }
        fs::write(&key, "no digits").unwrap();
        assert!(matches!(Keys::load_or_create(folder.path()), Err(StateError::Content { .. })));
    }
}
