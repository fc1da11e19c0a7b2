//! `cocoon doctor`: what this machine can prove of itself and of others, and how to get what it lacks.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use evidence::machine::{Finding, Heard, Purpose, look};
use evidence::{Pccs, TdxGuest, Tsm};
use serde::Serialize;
use tokio::process::Command;

/// How long a program may take to say what it is.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Flags of `cocoon doctor`.
#[derive(Args)]
pub(crate) struct DoctorArguments {
    /// The service to fetch collateral from, such as https://localhost:8081. None is asked without.
    #[arg(long, value_name = "URL")]
    pccs: Option<String>,

    /// Print JSON for programs instead of lines for people.
    #[arg(long)]
    json: bool,
}

/// Everything `--json` prints.
#[derive(Serialize)]
struct Diagnosis {
    /// Whether all is there that a guest's evidence takes.
    can_prove: bool,
    /// Whether all is there that starting such guests takes.
    can_host: bool,
    findings: Vec<Finding>,
}

/// Looks at this machine and prints what it finds. As root it also sees who signs the kernel's reports.
///
/// # Errors
/// If the output cannot be made. What is missing is a line, not an error.
pub(crate) fn run(arguments: &DoctorArguments) -> Result<()> {
    let diagnosis = crate::runtime()?.block_on(diagnose(arguments.pccs.as_deref()));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&diagnosis)?);
    } else {
        print!("{}", lines(&diagnosis));
    }
    Ok(())
}

async fn diagnose(pccs: Option<&str>) -> Diagnosis {
    let provider = Tsm::default().provider().map_err(|error| error.to_string());
    let tdx_guest = TdxGuest::default().probe().map_err(|error| error.to_string());
    let (qemu, conf_compute) = tokio::join!(
        said("qemu-system-x86_64", &["--version"]),
        said("nvidia-smi", &["conf-compute", "-f"]),
    );
    let heard = Heard { provider, tdx_guest, qemu, conf_compute };
    let mut findings = look(Path::new("/"), &heard);
    if let Some(address) = pccs {
        findings.push(reached(address).await);
    }
    Diagnosis::of(findings)
}

/// What a program prints, if it is there and ends well.
async fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(ANSWER_TIME_MAX, output).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn reached(address: &str) -> Finding {
    let outcome = match Pccs::new(address) {
        Ok(pccs) => pccs.probe().await,
        Err(error) => Err(error),
    };
    let found = outcome.as_ref().map_or_else(ToString::to_string, |()| format!("{address} answers"));
    let remedy = "start the PCCS there, or name one that can be reached; Intel's own is \
                  https://api.trustedservices.intel.com";
    Finding::new(Purpose::Verifier, "PCCS", outcome.is_ok(), found, remedy)
}

impl Diagnosis {
    fn of(findings: Vec<Finding>) -> Self {
        let has =
            |purpose| findings.iter().filter(|finding| finding.purpose == purpose).all(|found| found.is_ok);
        Self { can_prove: has(Purpose::Guest), can_host: has(Purpose::Host), findings }
    }
}

fn lines(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    let mut last = None;
    for finding in &diagnosis.findings {
        if last.replace(finding.purpose) != Some(finding.purpose) {
            let title = match finding.purpose {
                Purpose::Guest => "to prove what runs here",
                Purpose::Host => "to start guests that can",
                Purpose::Gpu => "for models on a GPU",
                Purpose::Verifier => "to verify others",
            };
            _ = writeln!(text, "{title}:");
        }
        let state = if finding.is_ok { "ok" } else { "missing" };
        _ = writeln!(text, "  {state:<8} {:<27} {}", finding.name, finding.found);
        if let Some(remedy) = finding.remedy {
            _ = writeln!(text, "           {remedy}");
        }
    }
    let able = |is_able| if is_able { "can" } else { "cannot" };
    let Diagnosis { can_prove, can_host, .. } = *diagnosis;
    _ = writeln!(
        text,
        "This machine {} prove what it runs, and {} host guests that prove it. Development networks simulate it: cocoon up.",
        able(can_prove),
        able(can_host)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(purpose: Purpose, is_ok: bool) -> Finding {
        Finding::new(purpose, "kernel", is_ok, "Linux 6.8".to_owned(), "boot another")
    }

    #[test]
    fn each_line_says_how_to_get_what_is_missing() {
        let [guest, host] = [finding(Purpose::Guest, true), finding(Purpose::Host, false)];
        let diagnosis = Diagnosis::of(vec![guest, host]);
        assert!(diagnosis.can_prove && !diagnosis.can_host);
        let text = lines(&diagnosis);
        assert!(text.contains("  ok       kernel                      Linux 6.8\nto start"), "{text}");
        assert!(
            text.contains("  missing  kernel                      Linux 6.8\n           boot another\n"),
            "{text}"
        );
        assert!(text.contains("can prove what it runs, and cannot host"), "{text}");
        let refused = Diagnosis::of(vec![finding(Purpose::Guest, false), finding(Purpose::Host, true)]);
        assert!(!refused.can_prove && refused.can_host);
    }

    #[tokio::test]
    async fn an_address_that_nobody_can_ask_is_a_finding() {
        let finding = reached("localhost").await;
        assert!(!finding.is_ok && finding.found.contains("localhost"), "{finding:?}");
    }
}
