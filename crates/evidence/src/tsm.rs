//! Quotes by the kernel: configfs-tsm (Linux 6.7 and later, `Documentation/ABI/testing/configfs-tsm`), for guests under Intel TDX and
//! AMD SEV-SNP.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use attest::{Quote, SnpReport};

/// Where Linux has it.
pub const TSM_FOLDER: &str = "/sys/kernel/config/tsm/report";

/// Longest report or auxiliary data that is read, in bytes: no peer takes a longer quote.
const LEN_MAX: usize = Quote::LEN_MAX;
/// How often one report is asked for when somebody else writes to it at the same time.
const ATTEMPTS: usize = 4;
/// How many names are tried for a report of our own.
const NAMES: usize = 16;

/// The kernel's folder of reports. Each report has a folder of its own there while it is made.
#[derive(Clone, Debug)]
pub struct Tsm {
    folder: PathBuf,
}

/// Who signs reports, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Intel TDX: the report is a quote.
    Tdx,
    /// AMD SEV-SNP: the report is an attestation report, the auxiliary data the certificates that the host gave.
    Snp,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tdx => "Intel TDX",
            Self::Snp => "AMD SEV-SNP",
        })
    }
}

/// What the kernel gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsmReport {
    /// Who signed it.
    pub provider: Provider,
    /// The report.
    pub report: Vec<u8>,
    /// What belongs to it; empty where the provider has none.
    pub auxiliary: Vec<u8>,
}

/// The kernel made no report.
#[derive(Debug, thiserror::Error)]
pub enum TsmError {
    /// It cannot.
    #[error(
        "{} is not there: it takes Linux 6.7 or later in the guest with CONFIG_TSM_REPORTS, configfs mounted at /sys/kernel/config, and \
         the module tdx_guest or sev_guest (modprobe); `cocoon doctor` says which is missing", .folder.display()
    )]
    Missing {
        /// The folder of reports.
        folder: PathBuf,
    },
    /// It could, and no hardware has registered.
    #[error(
        "the kernel has no provider of reports: this is no guest under TDX or SEV-SNP, or the module tdx_guest or sev_guest is not \
         loaded (modprobe)"
    )]
    NoProvider,
    /// Only root may.
    #[error("{} may not be written: run as root, or have the folder given to this user", .folder.display())]
    Denied {
        /// The folder of reports.
        folder: PathBuf,
    },
    /// The provider failed.
    #[error(
        "the platform made no report: under TDX the host has to run the quote generation service (qgsd), and QEMU needs \
         quote-generation-socket to reach it; the host's log says more"
    )]
    NotMade(#[source] io::Error),
    /// An attribute that cannot be used.
    #[error("{attribute} of the report cannot be used")]
    Attribute {
        /// Its name.
        attribute: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An attribute without sense.
    #[error("{attribute} of the report is {found:?}, which this program does not know")]
    Unknown {
        /// Its name.
        attribute: &'static str,
        /// What it says.
        found: String,
    },
    /// Longer than any peer takes.
    #[error("{attribute} of the report has more than {LEN_MAX} bytes")]
    TooLong {
        /// The attribute's name.
        attribute: &'static str,
    },
    /// Somebody else uses our folder.
    #[error("another program changed the report each of {ATTEMPTS} times that it was made: stop it")]
    Disturbed,
    /// Evidence that is none, or of something else.
    #[error("what {provider} made cannot be read, or does not vouch for what it was asked to")]
    OtherEvidence {
        /// Who signed it.
        provider: Provider,
    },
}

impl TsmError {
    /// Whether the kernel cannot use configfs-tsm, so that a report may be had in another way. Where it can, what went wrong is told.
    pub(crate) const fn leaves_other_ways(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NoProvider | Self::NotMade(_))
    }
}

impl Default for Tsm {
    fn default() -> Self {
        Self { folder: PathBuf::from(TSM_FOLDER) }
    }
}

impl Tsm {
    /// A report that vouches for `report_data`. Under TDX it may take seconds, since the host makes it.
    ///
    /// # Errors
    /// [`TsmError`].
    pub fn report(&self, report_data: &[u8; 64]) -> Result<TsmReport, TsmError> {
        report(self, &self.folder, report_data)
    }

    /// Who signs reports here. The kernel says so within a report's folder only.
    ///
    /// # Errors
    /// [`TsmError`].
    pub fn provider(&self) -> Result<Provider, TsmError> {
        within(self, &self.folder, |name| provider(self, name))
    }

    /// Evidence that vouches for `report_data`: a quote under TDX, a report under SEV-SNP.
    ///
    /// # Errors
    /// [`TsmError`].
    pub fn evidence(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TsmError> {
        evidence_of(&self.report(report_data)?, report_data)
    }
}

/// The evidence that a report is, without the zeros behind a quote. Certificates that came with it stay here: whoever verifies it
/// has to have them from AMD, with what AMD revoked.
fn evidence_of(report: &TsmReport, report_data: &[u8; 64]) -> Result<Vec<u8>, TsmError> {
    let provider = report.provider;
    let read = match provider {
        Provider::Tdx => {
            Quote::parse(&report.report).map(|quote| (quote.claims().clone(), quote.as_bytes().to_vec())).ok()
        }
        Provider::Snp => SnpReport::parse(&report.report)
            .map(|read| (read.claims().clone(), read.as_bytes().to_vec()))
            .ok(),
    };
    match read {
        Some((claims, evidence)) if claims.measurements.report_data() == report_data => Ok(evidence),
        _ => Err(TsmError::OtherEvidence { provider }),
    }
}

/// What is done to the kernel's files. Those of a folder on disk do not answer, so tests bring their own.
trait Kernel {
    fn make(&self, name: &str) -> io::Result<()>;
    fn write(&self, name: &str, attribute: &str, bytes: &[u8]) -> io::Result<()>;
    /// Reads at most [`LEN_MAX`] bytes and one more.
    fn read(&self, name: &str, attribute: &str) -> io::Result<Vec<u8>>;
    fn remove(&self, name: &str) -> io::Result<()>;
}

impl Kernel for Tsm {
    fn make(&self, name: &str) -> io::Result<()> {
        fs::create_dir(self.folder.join(name))
    }

    fn write(&self, name: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        fs::OpenOptions::new()
            .write(true)
            .open(self.folder.join(name).join(attribute))
            .and_then(|mut file| io::Write::write_all(&mut file, bytes))
    }

    fn read(&self, name: &str, attribute: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.folder.join(name).join(attribute))?;
        file.take(LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_dir(self.folder.join(name))
    }
}

fn report(kernel: &impl Kernel, folder: &Path, report_data: &[u8; 64]) -> Result<TsmReport, TsmError> {
    within(kernel, folder, |name| fill(kernel, name, report_data))
}

/// Does something with a folder that is there meanwhile only.
fn within<T>(
    kernel: &impl Kernel,
    folder: &Path,
    task: impl FnOnce(&str) -> Result<T, TsmError>,
) -> Result<T, TsmError> {
    let name = make(kernel, folder)?;
    let outcome = task(&name);
    // What is left behind costs the kernel some memory, and harms no report after it.
    if let Err(error) = kernel.remove(&name) {
        tracing::warn!(%error, name, "the folder of a report cannot be removed");
    }
    outcome
}

/// Makes a folder that nobody else has: other threads of this process count on, and a process of the same number that died may
/// have left its own.
fn make(kernel: &impl Kernel, folder: &Path) -> Result<String, TsmError> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..NAMES {
        let name = format!("cocoon-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        match kernel.make(&name) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(TsmError::Missing { folder: folder.to_owned() });
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(TsmError::Denied { folder: folder.to_owned() });
            }
            Err(error) if error.raw_os_error() == Some(ENXIO) => return Err(TsmError::NoProvider),
            Err(source) => return Err(TsmError::Attribute { attribute: "the folder", source }),
        }
    }
    Err(TsmError::Attribute { attribute: "the folder", source: taken })
}

/// What the kernel says where no provider has registered.
const ENXIO: i32 = 6;

/// Asks until nobody else wrote to the report between the question and the answer: the kernel counts what is written.
fn fill(kernel: &impl Kernel, name: &str, report_data: &[u8; 64]) -> Result<TsmReport, TsmError> {
    let provider = provider(kernel, name)?;
    for _ in 0..ATTEMPTS {
        let before = generation(kernel, name)?;
        let written = kernel.write(name, "inblob", report_data);
        written.map_err(|source| TsmError::Attribute { attribute: "inblob", source })?;
        let report = match read(kernel, name, "outblob") {
            Err(TsmError::Attribute { source, .. }) => return Err(TsmError::NotMade(source)),
            other => other?,
        };
        // Only some providers have it.
        let auxiliary = match read(kernel, name, "auxblob") {
            Err(TsmError::Attribute { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        if generation(kernel, name)? == before.wrapping_add(1) {
            return Ok(TsmReport { provider, report, auxiliary });
        }
    }
    Err(TsmError::Disturbed)
}

fn provider(kernel: &impl Kernel, name: &str) -> Result<Provider, TsmError> {
    match text(kernel, name, "provider")?.as_str() {
        "tdx_guest" => Ok(Provider::Tdx),
        "sev_guest" => Ok(Provider::Snp),
        other => Err(TsmError::Unknown { attribute: "provider", found: other.to_owned() }),
    }
}

fn generation(kernel: &impl Kernel, name: &str) -> Result<u64, TsmError> {
    let found = text(kernel, name, "generation")?;
    found.parse().map_err(|_not_a_number| TsmError::Unknown { attribute: "generation", found })
}

/// An attribute that is a line.
fn text(kernel: &impl Kernel, name: &str, attribute: &'static str) -> Result<String, TsmError> {
    let bytes = read(kernel, name, attribute)?;
    Ok(String::from_utf8_lossy(&bytes).trim().chars().take(64).collect())
}

fn read(kernel: &impl Kernel, name: &str, attribute: &'static str) -> Result<Vec<u8>, TsmError> {
    let bytes = kernel.read(name, attribute).map_err(|source| TsmError::Attribute { attribute, source })?;
    if bytes.len() > LEN_MAX { Err(TsmError::TooLong { attribute }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests;
