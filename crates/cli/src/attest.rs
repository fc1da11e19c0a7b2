//! `cocoon attest`: evidence, for people who look at it.

mod cert;
mod connect;
mod gpu;
mod measure;
mod rows;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::attest::{
    Allowed, Appraised, Certificate, Claims, Collateral, EvidenceKind, GpuForm, GpuNonce, GpuPolicy,
    Measurements, PlatformEvidence, Policy, Refusal, Root, SnpCertificates, SnpPolicy, SnpRoot, SnpTcb,
    SnpVerifier, TcbFloors, TcbStatus, Tee, Verifier, Vmpl, event_log,
};
use ::router::{PeerPolicy, PolicyKind, RouterFile};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use rows::Rows;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;
use transport::clock::unix_now;
use transport::identity::{PeerRole, verify_certificate};

/// What to do with evidence.
#[derive(Subcommand)]
pub(crate) enum AttestCommand {
    /// Show what a quote of Intel TDX or SGX, a report of AMD SEV-SNP, evidence of NVIDIA GPUs, a certificate of the network or an event
    /// log says, and with what the vendor publishes whether it is genuine.
    Inspect(Inspect),
    /// Compute the registers that a guest under TDX will have, and its image hash, from the files of its image. What cannot be computed
    /// is said.
    Measure(measure::Measure),
    /// Connect to a peer of the network as one of its clients does: proof of work, TLS. Show its certificate and evidence, and with
    /// what the vendor publishes whether they are genuine.
    Connect(connect::Connect),
    /// Make a certificate of the network with its key, in files, for programs that take them from there.
    Cert(cert::Cert),
}

/// What to look at.
#[derive(Args)]
pub(crate) struct Inspect {
    /// The evidence, as its driver gives it, or a certificate (PEM or DER). What it is shows in its bytes.
    file: PathBuf,
    /// What the vendor publishes of the platform. Intel: JSON, as a PCCS gives it to `dcap-qvl`. AMD: the certificates VCEK and ASK as
    /// PEM, and the revocation list where there is one. NVIDIA: for a token the service's keys (JSON), for a report the GPU's
    /// certificates (PEM), if they do not come along. Without it nothing is verified.
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,
    /// A policy to appraise it by: a file (TOML), or as routers have them, `tdx` or the name of one in a router's file: FILE.json#NAME.
    /// Without one, any image and any status but a revoked one will do.
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// The guest's event log (`/sys/firmware/acpi/tables/data/CCEL`): is it what the registers were made of?
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// A line that the guest added to RTMR3, in the order in which it did.
    #[arg(long, value_name = "TEXT")]
    line: Vec<String>,
    /// What evidence of GPUs was asked for with, in hexadecimal. Without it any will do.
    #[arg(long, value_name = "NONCE")]
    nonce: Option<GpuNonce>,
    /// The time to appraise it at, such as 2026-10-20T00:00:00Z. Default: now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Duration>,
    /// As one line of JSON.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<Duration> {
    let time = UtcDateTime::parse(text, &Rfc3339).context("write it as in 2026-10-20T00:00:00Z")?;
    let seconds = u64::try_from(time.unix_timestamp()).context("a time since 1970")?;
    Ok(Duration::from_secs(seconds))
}

fn rows_of(evidence: &PlatformEvidence) -> Rows {
    match evidence {
        PlatformEvidence::Quote(quote) => rows::of_quote(quote),
        PlatformEvidence::Report(report) => rows::of_report(report),
    }
}

/// Does what was asked.
///
/// # Errors
/// If a file cannot be read or measured, the evidence is refused or of another key than its certificate's, or the registers are not what the
/// event log says.
pub(crate) fn run(command: &AttestCommand) -> Result<()> {
    let mut found = Rows::new();
    let (outcome, as_json) = match command {
        AttestCommand::Inspect(inspect) => (inspect.look(&mut found), inspect.json),
        AttestCommand::Measure(measure) => (measure.look(&mut found), measure.json),
        AttestCommand::Connect(connect) => {
            (crate::runtime()?.block_on(connect.look(&mut found)), connect.json)
        }
        AttestCommand::Cert(cert) => return cert.make(),
    };
    if as_json {
        println!("{}", Value::Object(found.into_iter().collect()));
    } else {
        for (name, value) in &found {
            println!("{name:<18} {}", value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned));
        }
    }
    outcome
}

/// A file, if it is not longer than what is read of its kind.
fn bytes(path: &Path, len_max: usize) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let len = std::fs::metadata(path).with_context(cannot)?.len();
    ensure!(len <= len_max as u64, "{} has {len} bytes, at most {len_max} are read", path.display());
    std::fs::read(path).with_context(cannot)
}

impl Inspect {
    /// Adds what is found; an error says what is wrong with it.
    fn look(&self, found: &mut Rows) -> Result<()> {
        let file = bytes(&self.file, event_log::LEN_MAX)?;
        match EvidenceKind::of(&file) {
            EvidenceKind::EventLog => {
                let is_alone = self.collateral.is_none() && self.event_log.is_none();
                ensure!(
                    is_alone,
                    "an event log proves nothing by itself: name the quote, and the log as its --event-log"
                );
                found.push((
                    "kind".to_owned(),
                    "event log, which proves nothing without the quote of its guest".into(),
                ));
                found.extend(rows::of_log(&event_log::parse(&file)?, &self.line));
                Ok(())
            }
            EvidenceKind::Certificate => {
                found.push(("kind".to_owned(), "certificate".into()));
                let certificate = Certificate::parse(&file)?;
                self.look_at_certificate(&certificate, found)
            }
            EvidenceKind::GpuReport => self.look_at_report_of_gpu(&file, found),
            EvidenceKind::GpuEvidence => self.look_at_gpus(&file, found),
            EvidenceKind::Quote | EvidenceKind::SnpReport => {
                let signed = PlatformEvidence::parse(&file)?;
                let kind = match signed {
                    PlatformEvidence::Quote(_) => "quote",
                    PlatformEvidence::Report(_) => "report",
                };
                found.push(("kind".to_owned(), kind.into()));
                // Whose key it vouches for is not asked: there is no peer.
                let report_data = *signed.claims().measurements.report_data();
                self.look_at(&signed, &report_data, found)
            }
        }
    }

    fn look_at_certificate(&self, certificate: &Certificate, found: &mut Rows) -> Result<()> {
        found.extend(certificate_rows(certificate, self.now())?);
        let expected = certificate.report_data();
        let Some(signed) = evidence_of(certificate, found)? else {
            ensure!(self.collateral.is_none(), "the certificate has no evidence to verify");
            return Ok(());
        };
        let is_of_key = *signed.claims().measurements.report_data() == expected;
        self.look_at(&signed, &expected, found)?;
        ensure!(is_of_key, "the certificate's evidence vouches for another key than the certificate's");
        Ok(())
    }

    fn look_at(&self, signed: &PlatformEvidence, report_data: &[u8; 64], found: &mut Rows) -> Result<()> {
        found.extend(rows_of(signed));
        let replayed = self.event_log.as_ref().map(|log| self.replayed(log, signed.claims())).transpose()?;
        if let Some(replayed) = &replayed {
            found.extend(replayed.iter().enumerate().map(|(at, differs)| {
                let told = if *differs { "not what the event log says" } else { "as the event log says" };
                (format!("rtmr{at}_replayed"), told.into())
            }));
        }
        let verdict =
            self.collateral.as_ref().map(|file| self.appraise(file, signed, report_data)).transpose()?;
        match &verdict {
            None => self.not_verified(found)?,
            Some(Ok(appraised)) => found.extend(rows::of_appraised(appraised)?),
            Some(Err(refusal)) => found.push(("verdict".to_owned(), format!("refused: {refusal}").into())),
        }
        if let Some(Err(refusal)) = verdict {
            return Err(refusal.into());
        }
        let differs = replayed.is_some_and(|replayed| replayed.contains(&true));
        ensure!(!differs, "the registers of the quote are not what the event log and the lines made of them");
        Ok(())
    }

    /// Says so.
    fn not_verified(&self, found: &mut Rows) -> Result<()> {
        found.push(("verdict".to_owned(), "not verified: name the --collateral".into()));
        ensure!(self.policy.is_none(), "a policy judges what was verified: name the --collateral");
        Ok(())
    }

    fn now(&self) -> Duration {
        self.at.unwrap_or_else(unix_now)
    }

    fn policy(&self) -> Result<Policy> {
        self.policy.as_deref().map_or_else(|| Ok(any_genuine()), policy)
    }

    fn appraise(
        &self,
        collateral: &Path,
        signed: &PlatformEvidence,
        report_data: &[u8; 64],
    ) -> Result<Result<Appraised, Refusal>> {
        let policy = self.policy()?;
        let collateral = bytes(collateral, Collateral::LEN_MAX)?;
        let now = self.now();
        Ok(match signed {
            PlatformEvidence::Quote(quote) => {
                let collateral = Collateral::from_json(&String::from_utf8(collateral)?)?;
                Verifier::new(Root::Intel).appraise(quote, report_data, &collateral, &policy, now)
            }
            PlatformEvidence::Report(report) => {
                let certificates = SnpCertificates::from_pem(&collateral)?;
                SnpVerifier::new(SnpRoot::Amd).appraise(report, report_data, &certificates, &policy, now)
            }
        })
    }

    /// For each RTMR whether it is another than the log makes.
    fn replayed(&self, log: &Path, claims: &Claims) -> Result<[bool; 4]> {
        let Measurements::Tdx(guest) = &claims.measurements else {
            bail!("only guests of TDX have an event log that their quote holds")
        };
        let events = event_log::parse(&bytes(log, event_log::LEN_MAX)?)?;
        let replayed = event_log::replay(&events, self.line.iter().map(String::as_str));
        let registers = guest.rtmrs();
        Ok(std::array::from_fn(|at| replayed[at] != registers[at]))
    }
}

/// What a certificate says, and whether a link would take it at `now`.
fn certificate_rows(certificate: &Certificate, now: Duration) -> Result<Rows> {
    let der = CertificateDer::from(certificate.der.as_slice());
    let verdict = |role| match verify_certificate(&der, &[], role, now) {
        Ok(_key) => "a link would take it".to_owned(),
        Err(refusal) => format!("refused: {refusal}"),
    };
    rows::of_certificate(certificate, &verdict(PeerRole::Server), &verdict(PeerRole::Client))
}

/// The evidence in a certificate, if it has any, and what it is of.
fn evidence_of(certificate: &Certificate, found: &mut Rows) -> Result<Option<PlatformEvidence>> {
    let mut say = |text: &str| found.push(("evidence".to_owned(), text.into()));
    let Some(evidence) = &certificate.evidence else {
        say("none: it vouches for its key alone");
        return Ok(None);
    };
    let expected = certificate.report_data();
    if evidence.len() == expected.len() {
        // What the deployed software's tests have in the place of a quote.
        say("64 bytes that nobody signed: they prove nothing");
        bail!("the certificate has report data in the place of evidence (fake_tdx): it proves nothing");
    }
    let signed = PlatformEvidence::parse(evidence)?;
    let is_of_key = *signed.claims().measurements.report_data() == expected;
    say(if is_of_key { "of the certificate's key" } else { "of another key" });
    Ok(Some(signed))
}

/// The policy in a file, or the one that routers call by a name.
fn policy(asked: &str) -> Result<Policy> {
    let of_router = |file: &RouterFile, name| match file.policy(name)? {
        PeerPolicy::Tdx(policy) => Ok(policy),
        PeerPolicy::Any | PeerPolicy::FakeTdx(_) => {
            bail!("by the policy {name:?} no evidence is appraised: leave --policy out to see what it is")
        }
    };
    if asked.parse::<PolicyKind>().is_ok() {
        return of_router(&RouterFile::default(), asked);
    }
    if let Some((path, name)) = asked.rsplit_once('#') {
        return of_router(&crate::router::read(Path::new(path))?, name);
    }
    let text = String::from_utf8(bytes(Path::new(asked), Collateral::LEN_MAX)?)?;
    toml::from_str(&text).with_context(|| format!("{asked} is no policy"))
}

/// Accepts whatever is genuine: to look at it, not to rely on it.
fn any_genuine() -> Policy {
    let none = Some(SnpTcb { fmc: 0, bootloader: 0, tee: 0, snp: 0, microcode: 0 });
    let snp = SnpPolicy {
        vmpls: Vmpl::ALL.into(),
        smt: true,
        platform_info_required: [].into(),
        revocations_required: false,
        ..SnpPolicy::for_firmware(TcbFloors { milan: none, genoa: none, turin: none })
    };
    Policy {
        tees: [Tee::Tdx, Tee::Sgx, Tee::Snp].into(),
        statuses: TcbStatus::ALL_BUT_REVOKED.into(),
        snp: Some(snp),
        nvidia: Some(GpuPolicy::for_any([GpuForm::Token, GpuForm::Report])),
        ..Policy::for_images(Allowed::default())
    }
}
