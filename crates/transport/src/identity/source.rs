//! Where listeners and connectors take their identity from, and the TLS configuration that goes with it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use evidence::Enclave;
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::{CertificateRefused, IdentityError, PeerRole, TlsIdentity, VALIDITY, verify_certificate};
use crate::tls;

/// A generated identity is replaced after this long. Links that are open keep the one they began with.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(3600);
/// After a failure the old identity serves on for this long before the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// An identity that could not be replaced serves until so long before peers refuse it.
const SPARE: Duration = Duration::from_secs(3600);
/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Longest file that is read: the longest quote in base64, and room for the rest.
const PEM_LEN_MAX: usize = 1 << 16;

/// A supply of identities; clones share it.
#[derive(Clone, Debug)]
pub struct IdentitySource {
    supply: Arc<Supply>,
}

#[derive(Debug)]
enum Supply {
    Generated {
        /// Vouches for each key.
        enclave: Option<Arc<dyn Enclave>>,
        current: Mutex<Option<Generated>>,
        /// Held by whoever makes the next one.
        renewal: AsyncMutex<()>,
    },
    Fixed(TlsConfigs),
    Files {
        certificate: PathBuf,
        key: PathBuf,
        current: AsyncMutex<FromFiles>,
    },
}

/// What two files held when they were read last.
#[derive(Debug)]
struct FromFiles {
    looked_at: Duration,
    written: Written,
    der: CertificateDer<'static>,
    configs: TlsConfigs,
    /// Whether somebody was told that peers take the certificate no longer.
    is_told: bool,
}

/// When certificate and key were written.
type Written = [SystemTime; 2];

#[derive(Clone, Debug)]
struct Generated {
    at: Duration,
    /// When to make the next one.
    renew_at: Duration,
    configs: TlsConfigs,
}

/// What both sides of a handshake need for one identity.
#[derive(Clone, Debug)]
pub(crate) struct TlsConfigs {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl IdentitySource {
    /// Identities made when needed, kept in memory only, and replaced every hour.
    #[must_use]
    pub fn generated() -> Self {
        Self::of(None)
    }

    /// The same, each with a quote of the enclave that this process runs in.
    #[must_use]
    pub fn attested(enclave: Arc<dyn Enclave>) -> Self {
        Self::of(Some(enclave))
    }

    fn of(enclave: Option<Arc<dyn Enclave>>) -> Self {
        let supply = Supply::Generated { enclave, current: Mutex::default(), renewal: AsyncMutex::default() };
        Self { supply: Arc::new(supply) }
    }

    /// The identity in two files, PEM, as [`TlsIdentity::from_pem`] reads them. They are looked at again when an identity is needed and
    /// a minute has passed, and read when they have changed; while what they hold cannot be used, the one before is shown.
    ///
    /// # Errors
    /// [`IdentityError`] if they cannot be read, do not belong together, or hold a certificate that no peer takes at `now` (time
    /// since 1970).
    pub fn files(certificate: PathBuf, key: PathBuf, now: Duration) -> Result<Self, IdentityError> {
        let current = AsyncMutex::new(FromFiles::read(&certificate, &key, now)?);
        Ok(Self { supply: Arc::new(Supply::Files { certificate, key, current }) })
    }

    /// The identity in use at `now` (time since 1970). One that cannot be replaced in time is used on while peers accept it.
    pub(crate) async fn configs(&self, now: Duration) -> Result<TlsConfigs, IdentityError> {
        let (enclave, current, renewal) = match &*self.supply {
            Supply::Fixed(configs) => return Ok(configs.clone()),
            Supply::Files { certificate, key, current } => {
                return Ok(current.lock().await.renewed(certificate, key, now));
            }
            Supply::Generated { enclave, current, renewal } => (enclave, current, renewal),
        };
        // The value behind a poisoned lock is whole: it is replaced in one assignment.
        let held = || current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let keep = |generated| *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(generated);
        // A clock that was set back also leads to a new identity: the old one may not be valid yet.
        let fresh = |generated: &Generated| (generated.at..generated.renew_at).contains(&now);
        if let Some(generated) = held().filter(fresh) {
            return Ok(generated.configs);
        }
        let _renewal = renewal.lock().await;
        if let Some(generated) = held().filter(fresh) {
            return Ok(generated.configs);
        }
        let made = match enclave.clone() {
            None => TlsIdentity::generate(now),
            // Its driver may take its time.
            Some(enclave) => spawn_blocking(move || TlsIdentity::attested(now, &*enclave))
                .await
                .unwrap_or(Err(IdentityError::Interrupted)),
        };
        match (made, held()) {
            (Ok(identity), _) => {
                let configs = TlsConfigs::new(identity);
                keep(Generated { at: now, renew_at: now + RENEWAL_INTERVAL, configs: configs.clone() });
                Ok(configs)
            }
            (Err(error), Some(old)) if (old.at..old.at + VALIDITY - SPARE).contains(&now) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "no new certificate: the one of the hour before is shown on");
                keep(Generated { renew_at: now + RETRY_AFTER, ..old.clone() });
                Ok(old.configs)
            }
            (Err(error), _) => Err(error),
        }
    }
}

impl FromFiles {
    fn read(certificate: &Path, key: &Path, now: Duration) -> Result<Self, IdentityError> {
        // Asked before: what is written meanwhile is noticed at the next look.
        let written = written(certificate, key)?;
        let identity = TlsIdentity::from_pem(&text(certificate)?, &text(key)?)?;
        let der = CertificateDer::from(identity.certificate()).into_owned();
        takes(&der, now)?;
        Ok(Self { looked_at: now, written, der, configs: TlsConfigs::new(identity), is_told: false })
    }

    /// What the files hold, if a minute has passed and they have changed.
    fn renewed(&mut self, certificate: &Path, key: &Path, now: Duration) -> TlsConfigs {
        // A clock that was set back leads to a look, too.
        if !(self.looked_at..self.looked_at + LOOK_EVERY).contains(&now) {
            self.looked_at = now;
            // Whoever writes them may be between the two: then they differ again, or fit, at the next look.
            let changed = written(certificate, key).and_then(|written| match written == self.written {
                true => Ok(None),
                false => Self::read(certificate, key, now).map(Some),
            });
            match changed {
                Ok(None) => {}
                Ok(Some(read)) => *self = read,
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        "the files of the certificate cannot be used: the one before is shown on"
                    );
                }
            }
            if let Some(refused) = self.lapsed(now) {
                tracing::warn!(
                    certificate = %certificate.display(),
                    reason = %refused,
                    "peers refuse our certificate: put a new one and its key into the files, as `cocoon attest cert` makes them"
                );
            }
        }
        self.configs.clone()
    }

    /// Why peers take the certificate no longer, once of each.
    fn lapsed(&mut self, now: Duration) -> Option<CertificateRefused> {
        let refused = takes(&self.der, now).err().filter(|_| !self.is_told)?;
        self.is_told = true;
        Some(refused)
    }
}

/// Whether peers take a certificate of ours.
fn takes(der: &CertificateDer<'_>, now: Duration) -> Result<(), CertificateRefused> {
    for role in [PeerRole::Server, PeerRole::Client] {
        verify_certificate(der, &[], role, now)?;
    }
    Ok(())
}

fn written(certificate: &Path, key: &Path) -> Result<Written, IdentityError> {
    let of = |path: &Path| {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.map_err(|source| IdentityError::Read { path: path.to_owned(), source })
    };
    Ok([of(certificate)?, of(key)?])
}

fn text(path: &Path) -> Result<Zeroizing<String>, IdentityError> {
    let cannot = |source| IdentityError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(cannot)?;
    // Once, so that growing leaves no copies of a key behind.
    let mut text = Zeroizing::new(String::with_capacity(PEM_LEN_MAX));
    file.take(PEM_LEN_MAX as u64).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

impl Default for IdentitySource {
    /// [`IdentitySource::generated`].
    fn default() -> Self {
        Self::generated()
    }
}

impl From<TlsIdentity> for IdentitySource {
    /// Always this identity, for as long as the source lives: whoever gives it also replaces it in time.
    fn from(identity: TlsIdentity) -> Self {
        Self { supply: Arc::new(Supply::Fixed(TlsConfigs::new(identity))) }
    }
}

impl TlsConfigs {
    pub(crate) fn new(identity: TlsIdentity) -> Self {
        let certificate = Arc::new(SingleCertAndKey::from(identity.key));
        Self {
            server: Arc::new(tls::server_config(certificate.clone())),
            client: Arc::new(tls::client_config(certificate)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use evidence::ProduceError;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_795_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn same(left: &TlsConfigs, right: &TlsConfigs) -> bool {
        Arc::ptr_eq(&left.server, &right.server) && Arc::ptr_eq(&left.client, &right.client)
    }

    #[tokio::test]
    async fn generated_identities_last_an_hour() {
        let source = IdentitySource::generated();
        let first = source.configs(NOW).await.unwrap();
        let before_renewal = NOW + RENEWAL_INTERVAL - SECOND;
        assert!(same(&first, &source.clone().configs(before_renewal).await.unwrap()));
        let second = source.configs(NOW + RENEWAL_INTERVAL).await.unwrap();
        assert!(!same(&first, &second));
        assert!(!same(&second, &source.configs(NOW).await.unwrap()), "the clock was set back");
    }

    #[tokio::test]
    async fn a_given_identity_is_kept() {
        let source = IdentitySource::from(TlsIdentity::generate(NOW).unwrap());
        let later = NOW + 48 * RENEWAL_INTERVAL;
        assert!(same(&source.configs(NOW).await.unwrap(), &source.configs(later).await.unwrap()));
    }

    /// Writes an identity as of `at` into the folder, with a date of its own, and returns it.
    fn put(folder: &Path, at: Duration, written: u64) -> [PathBuf; 2] {
        let pem = TlsIdentity::generate(at).unwrap().to_pem();
        let texts = [("base_cert.pem", pem.certificate.as_str()), ("base_key.pem", pem.private_key.as_str())];
        texts.map(|(name, text)| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(written)).unwrap();
            path
        })
    }

    #[tokio::test]
    async fn files_are_read_again_when_they_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = put(folder.path(), NOW, 1);
        let source = IdentitySource::files(certificate.clone(), key.clone(), NOW).unwrap();
        let first = source.configs(NOW).await.unwrap();
        assert!(same(&first, &source.configs(NOW + LOOK_EVERY).await.unwrap()), "nothing has changed");
        put(folder.path(), NOW, 2);
        let early = source.configs(NOW + 2 * LOOK_EVERY - SECOND).await.unwrap();
        assert!(same(&first, &early), "nobody looks before a minute is over");
        let second = source.configs(NOW + 2 * LOOK_EVERY).await.unwrap();
        assert!(!same(&first, &second));

        // Half of a pair, then nothing, then one that is over: the last good one is shown.
        std::fs::write(&key, TlsIdentity::generate(NOW).unwrap().to_pem().private_key.as_str()).unwrap();
        assert!(same(&second, &source.configs(NOW + 3 * LOOK_EVERY).await.unwrap()));
        std::fs::remove_file(&key).unwrap();
        assert!(same(&second, &source.configs(NOW + 4 * LOOK_EVERY).await.unwrap()));
        put(folder.path(), NOW - 2 * VALIDITY, 3);
        assert!(same(&second, &source.configs(NOW + 5 * LOOK_EVERY).await.unwrap()));
        put(folder.path(), NOW, 4);
        assert!(!same(&second, &source.configs(NOW + 6 * LOOK_EVERY).await.unwrap()));
    }

    #[test]
    fn a_certificate_that_lapses_in_its_files_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = put(folder.path(), NOW, 1);
        let mut files = FromFiles::read(&certificate, &key, NOW).unwrap();
        assert_eq!(files.lapsed(NOW), None);
        let over = NOW + VALIDITY;
        assert!(matches!(files.lapsed(over), Some(CertificateRefused::Expired { .. })));
        assert_eq!(files.lapsed(over), None, "it was said");
        put(folder.path(), over, 2);
        files.renewed(&certificate, &key, over);
        assert_eq!(files.lapsed(over), None);
        files.renewed(&certificate, &key, over + VALIDITY);
        assert!(files.is_told, "of each anew");
    }

    #[tokio::test]
    async fn files_that_no_peer_would_take_are_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = put(folder.path(), NOW, 1);
        let files = |certificate: &Path, now| IdentitySource::files(certificate.to_owned(), key.clone(), now);
        assert!(matches!(files(&certificate, NOW + 2 * VALIDITY), Err(IdentityError::Certificate(_))));
        assert!(matches!(files(&folder.path().join("none"), NOW), Err(IdentityError::Read { .. })));
        assert!(matches!(files(&key, NOW), Err(IdentityError::Pem { .. })));
    }

    #[derive(Debug, Default)]
    struct Failing {
        fails: AtomicBool,
    }

    impl Enclave for Failing {
        fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, ProduceError> {
            match self.fails.load(Ordering::Relaxed) {
                true => Err(ProduceError("the quoting enclave is away".into())),
                false => Ok(report_data.to_vec()),
            }
        }
    }

    #[tokio::test]
    async fn an_enclave_that_makes_no_quotes_costs_no_links_while_the_old_certificate_lasts() {
        let enclave = Arc::new(Failing::default());
        let source = IdentitySource::attested(enclave.clone());
        let first = source.configs(NOW).await.unwrap();
        enclave.fails.store(true, Ordering::Relaxed);
        let last = NOW + VALIDITY - SPARE - SECOND;
        for now in [NOW + RENEWAL_INTERVAL, last] {
            assert!(same(&first, &source.configs(now).await.unwrap()));
        }
        enclave.fails.store(false, Ordering::Relaxed);
        assert!(same(&first, &source.configs(last).await.unwrap()), "it is not asked at once again");
        enclave.fails.store(true, Ordering::Relaxed);
        let late = source.configs(last + RETRY_AFTER).await;
        assert!(matches!(late, Err(IdentityError::Evidence(_))), "{late:?}");
        enclave.fails.store(false, Ordering::Relaxed);
        assert!(!same(&first, &source.configs(last + RETRY_AFTER).await.unwrap()));
    }
}
