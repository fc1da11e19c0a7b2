//! `cocoon attest`: evidence, for people who look at it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::attest::{
    Allowed, Appraised, Collateral, Hex, Measurements, Policy, Quote, Refusal, Root, Tee, Verifier, event_log,
};
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;
use transport::clock::unix_now;

/// What to do with evidence.
#[derive(Subcommand)]
pub(crate) enum AttestCommand {
    /// Show what a quote of Intel TDX or SGX says, and with its collateral whether it is genuine.
    Inspect(Inspect),
}

/// What to look at.
#[derive(Args)]
pub(crate) struct Inspect {
    /// The quote, as its driver gives it.
    quote: PathBuf,
    /// What the vendor says of the platform: JSON, as a PCCS gives it to `dcap-qvl`. Without it nothing is verified.
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,
    /// A policy (TOML) to appraise it by. Without one, any image and any status but a revoked one will do.
    #[arg(long, value_name = "FILE", requires = "collateral")]
    policy: Option<PathBuf>,
    /// The guest's event log (`/sys/firmware/acpi/tables/data/CCEL`): is it what the registers were made of?
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// A line that the guest added to RTMR3, in the order in which it did.
    #[arg(long, value_name = "TEXT", requires = "event_log")]
    line: Vec<String>,
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

/// Does what was asked.
///
/// # Errors
/// If a file cannot be read, the evidence is refused, or the registers are not what the event log says.
pub(crate) fn run(command: &AttestCommand) -> Result<()> {
    let AttestCommand::Inspect(inspect) = command;
    let quote = Quote::parse(&bytes(&inspect.quote, Quote::LEN_MAX)?)?;
    let mut found = claims(&quote);
    let replayed = inspect.event_log.as_ref().map(|log| inspect.replayed(log, &quote)).transpose()?;
    if let Some(replayed) = &replayed {
        found.extend(replayed.iter().enumerate().map(|(at, differs)| {
            let told = if *differs { "not what the event log says" } else { "as the event log says" };
            (format!("rtmr{at}_replayed"), told.into())
        }));
    }
    let verdict = inspect.collateral.as_ref().map(|file| inspect.appraise(file, &quote)).transpose()?;
    match &verdict {
        None => found.push(("verdict".to_owned(), "not verified: name the --collateral".into())),
        Some(Ok(appraised)) => found.extend(verified(appraised)?),
        Some(Err(refusal)) => found.push(("verdict".to_owned(), format!("refused: {refusal}").into())),
    }
    if inspect.json {
        println!("{}", Value::Object(found.into_iter().collect()));
    } else {
        for (name, value) in &found {
            println!("{name:<18} {}", value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned));
        }
    }
    if let Some(Err(refusal)) = verdict {
        return Err(refusal.into());
    }
    let differs = replayed.is_some_and(|replayed| replayed.contains(&true));
    ensure!(!differs, "the registers of the quote are not what the event log and the lines made of them");
    Ok(())
}

/// A file, if it is not longer than what is read of its kind.
fn bytes(path: &Path, len_max: usize) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let len = std::fs::metadata(path).with_context(cannot)?.len();
    ensure!(len <= len_max as u64, "{} has {len} bytes, at most {len_max} are read", path.display());
    std::fs::read(path).with_context(cannot)
}

/// What a quote says, by name.
fn claims(quote: &Quote) -> Vec<(String, Value)> {
    let mut claims = vec![
        ("tee".to_owned(), quote.tee().to_string().into()),
        ("version".to_owned(), quote.version().into()),
        ("image".to_owned(), quote.measurements().image_hash().to_string().into()),
        ("debug".to_owned(), quote.is_debug().into()),
        ("attributes".to_owned(), format!("{:#018x}", quote.attributes()).into()),
    ];
    let mut push = |name: &str, bytes: String| claims.push((name.to_owned(), bytes.into()));
    match quote.measurements() {
        Measurements::Tdx(guest) => {
            let names =
                ["mrtd", "mrconfigid", "mrowner", "mrownerconfig", "rtmr0", "rtmr1", "rtmr2", "rtmr3"];
            names
                .iter()
                .zip(&guest.registers)
                .for_each(|(name, register)| push(name, Hex::new(*register).to_string()));
        }
        Measurements::Sgx { mrenclave, .. } => push("mrenclave", Hex::new(*mrenclave).to_string()),
    }
    push("report_data", Hex::new(*quote.measurements().report_data()).to_string());
    claims
}

fn verified(appraised: &Appraised) -> Result<Vec<(String, Value)>> {
    let platform = appraised.platform();
    let until = i64::try_from(appraised.valid_until().as_secs())?;
    let until = UtcDateTime::from_unix_timestamp(until)?.format(&Rfc3339)?;
    let found = [
        ("verdict", "genuine, and as the policy wants it".into()),
        ("status", platform.status.to_string().into()),
        ("advisories", json!(platform.advisories)),
        ("evaluation_number", platform.evaluation_number.into()),
        ("platform", platform.id.to_string().into()),
        ("root_key", platform.root_key.to_string().into()),
        ("valid_until", until.into()),
    ];
    Ok(found.map(|(name, value)| (name.to_owned(), value)).into())
}

impl Inspect {
    fn appraise(&self, collateral: &Path, quote: &Quote) -> Result<Result<Appraised, Refusal>> {
        let text = String::from_utf8(bytes(collateral, Collateral::LEN_MAX)?)?;
        let collateral = Collateral::from_json(&text)?;
        let policy = match &self.policy {
            Some(path) => {
                let text = String::from_utf8(bytes(path, Collateral::LEN_MAX)?)?;
                toml::from_str(&text).with_context(|| format!("{} is no policy", path.display()))?
            }
            None => Policy {
                tees: [Tee::Tdx, Tee::Sgx].into(),
                statuses: ::attest::TcbStatus::ALL_BUT_REVOKED.into(),
                ..Policy::for_images(Allowed::default())
            },
        };
        // Whose key it vouches for is not asked: there is no peer.
        let report_data = *quote.measurements().report_data();
        let now = self.at.unwrap_or_else(unix_now);
        Ok(Verifier::new(Root::Intel).appraise(quote, &report_data, &collateral, &policy, now))
    }

    /// For each RTMR whether it is another than the log makes.
    fn replayed(&self, log: &Path, quote: &Quote) -> Result<[bool; 4]> {
        let Measurements::Tdx(guest) = quote.measurements() else {
            anyhow::bail!("enclaves of SGX have no event log")
        };
        let events = event_log::parse(&bytes(log, event_log::LEN_MAX)?)?;
        let replayed = event_log::replay(&events, self.line.iter().map(String::as_str));
        let registers = guest.rtmrs();
        Ok(std::array::from_fn(|at| replayed[at] != registers[at]))
    }
}
