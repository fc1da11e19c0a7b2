//! The key that signs payments and books: a file of the state folder, or one that a sealer gives to this image and that no file holds.
//!
//! Whichever it is, key and books are lost together or not at all. In the place of a sealed key a file says its public half, so that another
//! image, which gets another key, is noticed before anything is signed.

use std::path::Path;

use ed25519_dalek::SigningKey;
use node::{SealedKeyConfig, SealedKeyError, StateError, StateFolder};
use units::PublicKey;

use crate::config::Config;
use crate::journal::{BooksError, machine_key_guard};

/// The key itself.
const KEY: &str = "machine.key";
/// The public half of a sealed one.
const PUBLIC: &str = "machine.pub";

/// There is no key to sign with. Always the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum MachineKeyError {
    /// The state folder.
    #[error("the proxy's state cannot be used")]
    State(#[from] StateError),
    /// Key and books do not belong together.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// The sealer gives none.
    #[error(transparent)]
    Sealed(#[from] SealedKeyError),
    /// The sealer gives another one than before.
    #[error(
        "the sealer gives key {found}, and the books here are signed by {expected}: the image changed, or the module that runs its guest, or \
         the sealer. Start the image that the books are of, or begin under another contract with another state folder"
    )]
    Other {
        /// The public half of the one before.
        expected: String,
        /// That of this one.
        found: PublicKey,
    },
    /// Two keys.
    #[error(
        "sealed_key is set, and the state folder holds {KEY} too: the proxy of that key has a contract of its own, so use another state folder"
    )]
    Two,
    /// A sealed key was in use here.
    #[error("the books here are signed by a sealed key (see {PUBLIC}), and sealed_key is not set")]
    NotAsked,
}

/// The machine key, drawn or asked for as the configuration says.
///
/// # Errors
/// [`MachineKeyError`].
pub(crate) async fn open(
    config: &Config,
    state: &StateFolder,
    books: &Path,
    is_test: bool,
) -> Result<SigningKey, MachineKeyError> {
    let Some(sealed) = &config.sealed_key else {
        if state.text(PUBLIC)?.is_some() {
            return Err(MachineKeyError::NotAsked);
        }
        machine_key_guard(&state.path().join(KEY), books)?;
        return Ok(state.key(KEY)?);
    };
    if state.text(KEY)?.is_some() {
        return Err(MachineKeyError::Two);
    }
    machine_key_guard(&state.path().join(PUBLIC), books)?;
    let key = ask(sealed, config, is_test).await?;
    let found = PublicKey::new(key.verifying_key().to_bytes());
    match state.text(PUBLIC)? {
        Some(expected) if expected.trim() != found.to_string() => {
            Err(MachineKeyError::Other { expected: expected.trim().to_owned(), found })
        }
        Some(_) => Ok(key),
        None => {
            state.replace(PUBLIC, format!("{found}\n").as_bytes())?;
            Ok(key)
        }
    }
}

async fn ask(sealed: &SealedKeyConfig, config: &Config, is_test: bool) -> Result<SigningKey, SealedKeyError> {
    sealed.signing_key(config.evidence.as_ref(), is_test).await
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use attest::sealed_key::MrEnclave;
    use evidence::{SealerAddress, serve_simulated};
    use node::{EvidenceConfig, SimulatedConfig};
    use sim::{Enclave, Firmware, Platform, Publication, Vendor};
    use tempfile::TempDir;
    use tokio::net::UnixListener;
    use transport::clock::unix_now;

    use super::*;

    /// A state folder beside a sealer.
    struct World {
        folder: TempDir,
    }

    fn vendor() -> Vendor {
        Vendor::from_seed(&[7; 32]).unwrap()
    }

    fn platform() -> Platform {
        vendor().platform(attest::Hex::new([1; 16]), Firmware::Current).unwrap()
    }

    impl World {
        fn new() -> Self {
            let world = Self { folder: tempfile::tempdir().unwrap() };
            std::fs::write(world.at("root.der"), vendor().root_der()).unwrap();
            std::fs::write(world.at("platform.json"), platform().to_json().as_bytes()).unwrap();
            let collateral = vendor().enclave_collateral(&Publication::at(unix_now())).unwrap();
            std::fs::write(world.at(&format!("{}.json", Vendor::ENCLAVE_COLLATERAL_KIND)), collateral)
                .unwrap();
            let listener = UnixListener::bind(world.at("sealer")).unwrap();
            tokio::spawn(serve_simulated(listener, sim::Sealer::new(platform(), Enclave::of_name("sealer"))));
            world
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn sealed(&self, image: &str, mrenclave: MrEnclave) -> Config {
            let simulated = SimulatedConfig {
                root: self.at("root.der"),
                platform: Some(self.at("platform.json")),
                image: image.to_owned(),
            };
            Config {
                evidence: Some(EvidenceConfig {
                    simulated: Some(simulated),
                    collateral: self.folder.path().to_owned(),
                    ..EvidenceConfig::default()
                }),
                sealed_key: Some(SealedKeyConfig {
                    sealer: SealerAddress::Unix(self.at("sealer")),
                    name: "app".to_owned(),
                    mrenclaves: vec![mrenclave],
                }),
                ..Config::default()
            }
        }

        fn of_image(&self, image: &str) -> Config {
            self.sealed(image, Enclave::of_name("sealer").mrenclave())
        }

        async fn open(&self, config: &Config) -> Result<SigningKey, MachineKeyError> {
            let state = StateFolder::open(&self.at("state")).unwrap();
            open(config, &state, &self.at("state/books"), true).await
        }
    }

    #[tokio::test]
    async fn a_sealed_key_is_the_same_after_a_restart_and_in_no_file() {
        let world = World::new();
        let key = world.open(&world.of_image("proxy")).await.unwrap();
        assert_eq!(world.open(&world.of_image("proxy")).await.unwrap(), key);
        let secret = hex::encode(key.to_bytes());
        let mut names = vec![];
        for entry in std::fs::read_dir(world.at("state")).unwrap().map(Result::unwrap) {
            names.push(entry.file_name().into_string().unwrap());
            let bytes = if entry.path().is_file() { std::fs::read(entry.path()).unwrap() } else { vec![] };
            let is_in = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!is_in(secret.as_bytes()) && !is_in(&key.to_bytes()), "{names:?}");
        }
        assert!(names.contains(&PUBLIC.to_owned()) && !names.contains(&KEY.to_owned()), "{names:?}");
    }

    #[tokio::test]
    async fn another_image_gets_another_key_and_does_not_sign_for_the_books() {
        let world = World::new();
        world.open(&world.of_image("proxy")).await.unwrap();
        let refused = world.open(&world.of_image("another proxy")).await;
        assert!(matches!(refused, Err(MachineKeyError::Other { .. })), "{refused:?}");
        assert!(world.open(&world.of_image("proxy")).await.is_ok());
    }

    #[tokio::test]
    async fn without_the_sealer_there_is_no_key_and_none_is_drawn() {
        let world = World::new();
        let other = world.sealed("proxy", Enclave::of_name("another").mrenclave());
        for _attempt in 0..2 {
            let refused = world.open(&other).await;
            assert!(
                matches!(refused, Err(MachineKeyError::Sealed(SealedKeyError::Sealer(_)))),
                "{refused:?}"
            );
        }
        assert!(!world.at("state").join(KEY).exists() && !world.at("state").join(PUBLIC).exists());
    }

    #[tokio::test]
    async fn a_folder_has_one_kind_of_key() {
        let world = World::new();
        world.open(&Config::default()).await.unwrap();
        let refused = world.open(&world.of_image("proxy")).await;
        assert!(matches!(refused, Err(MachineKeyError::Two)), "{refused:?}");

        let world = World::new();
        world.open(&world.of_image("proxy")).await.unwrap();
        let refused = world.open(&Config::default()).await;
        assert!(matches!(refused, Err(MachineKeyError::NotAsked)), "{refused:?}");
    }

    #[tokio::test]
    async fn a_sealed_key_and_its_books_are_lost_together_or_not_at_all() {
        let world = World::new();
        world.open(&world.of_image("proxy")).await.unwrap();
        std::fs::write(world.at("state/books/one"), b"books").unwrap();
        std::fs::remove_file(world.at("state").join(PUBLIC)).unwrap();
        let refused = world.open(&world.of_image("proxy")).await;
        assert!(matches!(refused, Err(MachineKeyError::Books(BooksError::KeyMissing { .. }))), "{refused:?}");

        let world = World::new();
        world.open(&world.of_image("proxy")).await.unwrap();
        std::fs::remove_dir_all(world.at("state/books")).unwrap();
        let refused = world.open(&world.of_image("proxy")).await;
        assert!(
            matches!(refused, Err(MachineKeyError::Books(BooksError::BooksMissing { .. }))),
            "{refused:?}"
        );
    }
}
