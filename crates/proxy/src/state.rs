//! The proxy's own key: a file in its state folder, drawn on first start.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use rand::RngExt as _;
use units::PublicKey;

/// A state folder that cannot be used.
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
    #[error("{} does not hold 64 hexadecimal digits", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
}

/// Creates the folder if needed, and returns the public half of the node wallet's key, `wallet.key` in it.
///
/// # Errors
/// [`StateError`] if folder or file cannot be used. A file that is there is never overwritten.
pub(crate) fn wallet_key(folder: &Path) -> Result<PublicKey, StateError> {
    Ok(PublicKey::new(key(folder, "wallet.key")?.verifying_key().to_bytes()))
}

/// The key in the file `name`.
///
/// # Errors
/// [`StateError`], as above.
pub(crate) fn key(folder: &Path, name: &str) -> Result<SigningKey, StateError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|source| StateError::Io { path: folder.to_owned(), source })?;
    let path = folder.join(name);
    let failed = |source| StateError::Io { path: path.clone(), source };
    let seed: [u8; 32] = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let seed: [u8; 32] = rand::rng().random();
            let text = format!("{}\n", hex::encode(seed));
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            seed
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(StateError::Exposed { path, mode });
            }
            let text = fs::read_to_string(&path).map_err(failed)?;
            let mut seed = [0; 32];
            hex::decode_to_slice(text.trim(), &mut seed).map_err(|_not_hex| StateError::Content { path })?;
            seed
        }
        Err(error) => return Err(failed(error)),
    };
    Ok(SigningKey::from_bytes(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_drawn_once_and_readable_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let first = wallet_key(&state).unwrap();
        assert_eq!(wallet_key(&state).unwrap(), first);
        let mode = fs::metadata(state.join("wallet.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(wallet_key(other.path()).unwrap(), first);
    }

    #[test]
    fn unusable_files_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.key");
        for text in ["", "no digits", &"0".repeat(63)] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(wallet_key(folder.path()), Err(StateError::Content { .. })));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(wallet_key(folder.path()), Err(StateError::Exposed { mode: 0o644, .. })));
    }
}
