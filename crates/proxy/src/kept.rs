//! What contracts follow from, kept beside their books until they are closed: without it nobody could close a contract once
//! the params of the network have changed.

use std::io;
use std::path::Path;

use ton::RootConfig;
use tycho_types::boc::Boc;

use crate::core::Terms;
use crate::journal::write_whole;
use crate::network::{NetworkError, Party};

/// In the folder of a contract's books.
pub(crate) const ROOT_FILE: &str = "root.boc";
const ROOT_LEN_MAX: usize = 1 << 20;

/// Keeps the root configuration that a contract follows from, whole and durably.
pub(crate) fn keep_root(root: &RootConfig, file: &Path) -> io::Result<()> {
    let bytes = Boc::encode(root.to_data());
    if std::fs::read(file).is_ok_and(|kept| kept == bytes) {
        return Ok(());
    }
    write_whole(file, &bytes, "root-keep")
}

impl Party {
    /// The contracts of this proxy that are not closed, the present one among them. What is wrong with others is logged.
    pub(crate) fn kept(&self) -> Vec<Terms> {
        if self.on_chain.is_none() {
            return Vec::new();
        }
        let folders = std::fs::read_dir(&self.books).into_iter().flatten().flatten();
        let kept = folders.filter_map(|folder| {
            let folder = folder.path();
            let file = folder.join(ROOT_FILE);
            let bytes = match std::fs::read(&file) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(error) => return not_closed(&file, &error.to_string()),
            };
            let root =
                ton::decode_boc(&bytes, ROOT_LEN_MAX).ok().and_then(|root| RootConfig::from_data(&root).ok());
            let Some(root) = root else { return not_closed(&file, "it is no root configuration") };
            match self.terms(root) {
                Ok(terms) if self.folder(&terms) == folder => Some(terms),
                Ok(_of_another) => not_closed(
                    &file,
                    "with the present owner_address and root_address another contract follows from it: set them as they were",
                ),
                Err(error) => not_closed(&file, &error.to_string()),
            }
        });
        kept.collect()
    }
}

/// Says why a contract is left as it is.
fn not_closed(file: &Path, reason: &str) -> Option<Terms> {
    tracing::error!(file = %file.display(), reason, "the contract of this folder is not closed");
    None
}

/// A server that is behind would have a contract closed that is at work.
///
/// # Errors
/// [`NetworkError::Behind`] if a newer version than that of `present` was worked on before.
pub(crate) fn check_not_behind(present: &Terms, kept: &[Terms]) -> Result<(), NetworkError> {
    let told = present.root().version;
    match kept.iter().map(|terms| terms.root().version).max() {
        Some(known) if known > told => Err(NetworkError::Behind { told, known }),
        _ => Ok(()),
    }
}

/// Whether a contract was left for that of `present`: params only ever rise.
pub(crate) fn is_left(kept: &Terms, present: &Terms) -> bool {
    let contract = |terms: &Terms| terms.books_identity().contract;
    let is_older = kept.root().params.params_version < present.root().params.params_version;
    if contract(kept) != contract(present) && !is_older {
        let contract = contract(kept);
        tracing::error!(%contract, "a contract of params that are not older than the present ones is not closed");
    }
    contract(kept) != contract(present) && is_older
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use ed25519_dalek::SigningKey;
    use ton::Address;
    use units::ConfigVersion;

    use super::*;

    fn root(version: u32, params_version: u32) -> RootConfig {
        let mut root = RootConfig::pseudo(Address::new(0, [1; 32]));
        root.version = ConfigVersion::new(version);
        root.params.params_version = params_version;
        root
    }

    fn terms(version: u32, params_version: u32) -> Terms {
        let (root_address, owner) = (Address::new(0, [3; 32]), Address::new(0, [2; 32]));
        let key = SigningKey::from_bytes(&[7; 32]);
        let root = root(version, params_version);
        Terms::on_chain(root, &root_address, &owner, owner, key, true, false).unwrap()
    }

    #[test]
    fn a_server_that_is_behind_what_was_worked_on_is_refused() {
        let kept = [terms(4, 1), terms(7, 2)];
        assert!(check_not_behind(&terms(7, 2), &kept).is_ok());
        assert!(check_not_behind(&terms(8, 3), &kept).is_ok());
        assert!(check_not_behind(&terms(1, 1), &[]).is_ok());
        let error = check_not_behind(&terms(6, 1), &kept).unwrap_err();
        assert!(error.to_string().contains('6') && error.to_string().contains('7'), "{error}");
    }

    #[test]
    fn only_contracts_of_older_params_are_left() {
        let present = terms(7, 3);
        assert!(is_left(&terms(4, 2), &present));
        assert!(!is_left(&terms(6, 3), &present), "it is the present one");
        assert!(!is_left(&terms(6, 4), &present));
        let mut other = root(6, 3);
        other.params.price_per_token = units::NanoTon::new(77);
        let owner = Address::new(0, [2; 32]);
        let key = SigningKey::from_bytes(&[7; 32]);
        let other = Terms::on_chain(other, &Address::new(0, [3; 32]), &owner, owner, key, true, false);
        assert!(!is_left(&other.unwrap(), &present), "nobody knows which of the two is older");
    }

    #[test]
    fn what_is_kept_is_whole_and_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(ROOT_FILE);
        // A crash of an earlier version may have left this.
        std::fs::write(&file, b"").unwrap();
        for version in [4, 4, 5] {
            keep_root(&root(version, 1), &file).unwrap();
            let kept = ton::decode_boc(&std::fs::read(&file).unwrap(), ROOT_LEN_MAX).unwrap();
            assert_eq!(RootConfig::from_data(&kept).unwrap(), root(version, 1));
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
