//! Files with the words of a wallet.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use ton::Mnemonic;
use ton::human::{HumanWallet, Network};
use units::PublicKey;
use zeroize::Zeroizing;

use super::Version;

/// The words of a wallet, and which contract it is.
pub(crate) struct WalletFile {
    mnemonic: Mnemonic,
    version: Version,
    /// Made of the words once: that is slow on purpose.
    key: SigningKey,
}

/// What stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: Version,
    words: Zeroizing<String>,
}

const HEAD: &str = "# A TON wallet. Whoever has these words has its money.\n";

impl WalletFile {
    /// A new wallet.
    pub(crate) fn draw(version: Version) -> Self {
        Self::new(Mnemonic::generate("", |bytes| rand::rng().fill_bytes(bytes)), version)
    }

    /// The wallet of these words.
    ///
    /// # Errors
    /// If the words belong to no wallet, or need a password.
    pub(crate) fn of_words(words: &str, version: Version) -> Result<Self> {
        Ok(Self::new(Mnemonic::parse(words, "")?, version))
    }

    fn new(mnemonic: Mnemonic, version: Version) -> Self {
        Self { key: mnemonic.key(), mnemonic, version }
    }

    /// Reads a file that nobody else can read.
    ///
    /// # Errors
    /// If others can, or it holds no wallet.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot read the wallet {}", path.display());
        let mode =
            File::open(path).and_then(|file| file.metadata()).with_context(cannot)?.permissions().mode();
        ensure!(
            mode & 0o077 == 0,
            "the wallet {} can be read by others: chmod 600, and move its money if somebody else may have done so",
            path.display()
        );
        let text = Zeroizing::new(std::fs::read_to_string(path).with_context(cannot)?);
        // The parser's own words are dropped: they quote the line.
        let content: Content = match toml::from_str(&text) {
            Ok(content) => content,
            Err(_quotes) => bail!("{} holds no wallet: it has the lines version and words", path.display()),
        };
        Self::of_words(&content.words, content.version).with_context(cannot)
    }

    /// Writes a new file, readable by its owner alone, and lets it reach the disk.
    ///
    /// # Errors
    /// If there is such a file, or it cannot be written.
    pub(crate) fn keep(&self, path: &Path) -> Result<()> {
        let words = Zeroizing::new(self.mnemonic.words().to_owned());
        let text = Zeroizing::new(toml::to_string(&Content { version: self.version, words })?);
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!(
                    "{} is there already, and words are never written over: choose another name",
                    path.display()
                )
            }
            opened => opened.with_context(|| format!("cannot make {}", path.display()))?,
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let written = file
            .write_all(HEAD.as_bytes())
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(folder)?.sync_all());
        if written.is_err() {
            // Nobody was told these words yet, and half a file would be in the way of the next try.
            std::fs::remove_file(path).with_context(|| format!("{} is half written", path.display()))?;
        }
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// The key that signs.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The wallet on a network.
    pub(crate) fn wallet(&self, network: Network) -> HumanWallet {
        HumanWallet::new(self.version.into(), network, PublicKey::new(self.key.verifying_key().to_bytes()))
    }
}
