//! `cocoon attest cert`: a certificate and its key in files, as the deployed network's own tool makes them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::attest::{Certificate, Measurements, Quote, TdxMeasurements};
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use evidence::{Enclave, GuestKernel, ProduceError};
use transport::clock::unix_now;
use transport::identity::TlsIdentity;
use units::ImageHash;

use crate::router::beside;

/// A time that is this much ahead of the clock is taken; deployed tools take the same.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// What to make.
#[derive(Args)]
pub(crate) struct Cert {
    /// What vouches for the key.
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: Kind,
    /// Base of the names: BASE_cert.pem, BASE_key.pem, BASE_image_hash.b64.
    #[arg(short = 'n', long = "name", value_name = "BASE")]
    base: PathBuf,
    /// Make them anew if they are there.
    #[arg(short = 'f', long)]
    force: bool,
    /// The time by which it is valid from now on for a day, in seconds since 1970. Default: the clock's.
    #[arg(short = 'c', long, value_name = "SECONDS")]
    current_time: Option<u64>,
    /// Make one of the type fake_tdx, which proves nothing. For tests only.
    #[arg(long)]
    insecure_fake_tdx: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Nothing.
    None,
    /// The report data of a quote, which nobody signed.
    #[value(name = "fake_tdx")]
    FakeTdx,
    /// A quote of the guest that this program runs in.
    Tdx,
}

impl Cert {
    /// Makes the files.
    ///
    /// # Errors
    /// If they cannot be made or written, or this machine makes no quote.
    pub(super) fn make(&self) -> Result<()> {
        let [certificate, key] = ["_cert.pem", "_key.pem"].map(|end| beside(&self.base, end));
        if !self.force && certificate.exists() && key.exists() {
            println!("{} and {} are there; -f makes them anew", certificate.display(), key.display());
            return Ok(());
        }
        let now = self.now()?;
        let identity = match self.kind {
            Kind::None => TlsIdentity::generate(now)?,
            Kind::Tdx => TlsIdentity::attested(now, &GuestKernel::default())?,
            Kind::FakeTdx => {
                ensure!(
                    self.insecure_fake_tdx,
                    "a certificate of the type fake_tdx proves nothing: only tests want it, with --insecure-fake-tdx"
                );
                TlsIdentity::attested(now, &Fake)?
            }
        };
        let pem = identity.to_pem();
        // The certificate last: whoever sees a new one finds its key.
        write(&key, pem.private_key.as_bytes(), 0o600)?;
        let image_hash = beside(&self.base, "_image_hash.b64");
        match image_of(identity.certificate())? {
            Some(image) => {
                write(&image_hash, STANDARD.encode(image.as_bytes()).as_bytes(), 0o644)?;
                println!("image {image}");
            }
            // Of an older certificate, it would pass for this one's.
            None => {
                remove(&image_hash).with_context(|| format!("cannot remove {}", image_hash.display()))?;
            }
        }
        write(&certificate, pem.certificate.as_bytes(), 0o644)?;
        println!("{} of the key {}", certificate.display(), identity.public_key());
        Ok(())
    }

    fn now(&self) -> Result<Duration> {
        let clock = unix_now();
        let Some(given) = self.current_time.map(Duration::from_secs) else { return Ok(clock) };
        ensure!(
            given <= clock + AHEAD_MAX,
            "the time {} is {} s ahead of the clock, at most {} s are: set the clock",
            given.as_secs(),
            (given - clock).as_secs(),
            AHEAD_MAX.as_secs()
        );
        Ok(given)
    }
}

/// Vouches for anything, and nobody believes it but tests.
#[derive(Debug)]
struct Fake;

impl Enclave for Fake {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, ProduceError> {
        Ok(report_data.to_vec())
    }
}

/// The image that a certificate's evidence speaks of.
fn image_of(certificate: &[u8]) -> Result<Option<ImageHash>> {
    let Some(evidence) = Certificate::parse(certificate)?.evidence else { return Ok(None) };
    if let Ok(report_data) = evidence.as_slice().try_into() {
        let fake = TdxMeasurements { registers: [[0; 48]; 8], report_data };
        return Ok(Some(Measurements::Tdx(Box::new(fake)).image_hash()));
    }
    Ok(Some(Quote::parse(&evidence)?.claims().measurements.image_hash()))
}

/// Whole or not at all, and with `mode` from its first byte.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let beginning = beside(path, ".new");
    let written = || {
        remove(&beginning)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beginning)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beginning, path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// Removes what may not be there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
