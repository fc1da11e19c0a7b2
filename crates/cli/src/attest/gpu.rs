//! Evidence of GPUs, for people who look at it.

use ::attest::{
    Allowed, GpuAppraised, GpuCertificates, GpuEvidence, GpuForm, GpuKeys, GpuReport, GpuRoot, GpuToken,
    GpuVerifier, Policy,
};
use anyhow::{Context, Result};
use serde_json::Value;

use super::rows::{self, Rows};
use super::{Inspect, bytes};

impl Inspect {
    /// A report as NVIDIA's driver gives it, without its certificates.
    pub(super) fn look_at_report_of_gpu(&self, file: &[u8], found: &mut Rows) -> Result<()> {
        found.push(("kind".to_owned(), "report of an NVIDIA GPU".into()));
        let report = GpuReport::parse(file)?;
        found.extend(of_report("", &report));
        let Some(path) = &self.collateral else { return self.not_verified(found) };
        let certificates = GpuCertificates::from_pem(&bytes(path, GpuCertificates::LEN_MAX)?)?;
        self.judge(&GpuEvidence::Reports(vec![(report, certificates)]), GpuKeys::default(), found)
    }

    /// A token, or reports with their certificates.
    pub(super) fn look_at_gpus(&self, file: &[u8], found: &mut Rows) -> Result<()> {
        let evidence = GpuEvidence::parse(file)?;
        let keys = match &evidence {
            GpuEvidence::Token(token) => {
                found.push(("kind".to_owned(), "token of NVIDIA's attestation service".into()));
                found.extend(of_token(token));
                let Some(path) = &self.collateral else { return self.not_verified(found) };
                GpuKeys::from_json(&bytes(path, GpuKeys::LEN_MAX)?)?
            }
            GpuEvidence::Reports(reports) => {
                found.push(("kind".to_owned(), "reports of NVIDIA GPUs".into()));
                for (at, (report, _certificates)) in reports.iter().enumerate() {
                    found.extend(of_report(&format!("GPU-{at}."), report));
                }
                GpuKeys::default()
            }
        };
        self.judge(&evidence, keys, found)
    }

    fn judge(&self, evidence: &GpuEvidence, keys: GpuKeys, found: &mut Rows) -> Result<()> {
        // Whoever only looks has asked nothing.
        let nonce = self.nonce.or_else(|| evidence.nonce());
        let nonce = nonce.context("the evidence has no nonce of 64 hexadecimal digits")?;
        let verifier = GpuVerifier::new(GpuRoot::Nvidia, keys);
        let policy = self.policy()?;
        let outcome = verifier.appraise(evidence, &nonce, &policy, self.now());
        match &outcome {
            Ok(appraised) => {
                found.extend(of_appraised(appraised)?);
                found.extend(self.not_looked_at(&policy, appraised.form()));
            }
            Err(refusal) => found.push(("verdict".to_owned(), format!("refused: {refusal}").into())),
        }
        outcome?;
        Ok(())
    }
}

impl Inspect {
    /// What a verdict does not rest on.
    fn not_looked_at(&self, policy: &Policy, form: GpuForm) -> Rows {
        let is_golden = policy.nvidia.as_ref().is_some_and(|gpus| matches!(gpus.golden, Allowed::Only(_)));
        let measurements = match form {
            GpuForm::Token => "compared by NVIDIA's service",
            GpuForm::Report if is_golden => "compared",
            GpuForm::Report => "not compared (nvidia.golden): a GPU in developer mode is accepted as well",
        };
        let freshness = match self.nonce {
            Some(_) => "answers the --nonce",
            None => "not checked: its nonce is its own word, without --nonce",
        };
        [("measurements", measurements), ("freshness", freshness)]
            .map(|(name, value)| (name.to_owned(), value.into()))
            .into()
    }
}

/// What a report says; measurements that are zeros are none.
fn of_report(prefix: &str, report: &GpuReport) -> Rows {
    let unsaid = || Value::from("not said");
    let mut found = vec![
        ("nonce".to_owned(), report.nonce().to_string().into()),
        ("driver".to_owned(), report.driver().to_string().into()),
        ("vbios".to_owned(), report.vbios().to_string().into()),
        ("firmware_id".to_owned(), report.firmware_id().map_or_else(unsaid, |id| id.to_string().into())),
        ("protected_pcie".to_owned(), report.protected_pcie().map_or_else(unsaid, Into::into)),
    ];
    let measured = report.measurements().iter().filter(|(_index, value)| *value.as_bytes() != [0; 48]);
    found.extend(measured.map(|(index, value)| (format!("measurement{index}"), value.to_string().into())));
    found.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)).collect()
}

/// All claims of a token as its signer wrote them; nothing of them can write over a terminal.
fn of_token(token: &GpuToken) -> Rows {
    let shown = |prefix: String, (claim, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => plain(text).into(),
            Value::Array(_) | Value::Object(_) => plain(&value.to_string()).into(),
            other => other.clone(),
        };
        (format!("{prefix}{}", plain(claim)), value)
    };
    let overall = token.claims().iter().map(|claim| shown(String::new(), claim));
    let gpus = token
        .gpus()
        .flat_map(|(name, claims)| claims.iter().map(move |claim| shown(format!("{}.", plain(name)), claim)));
    overall.chain(gpus).collect()
}

fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' }).collect()
}

/// What was found of GPUs that were verified and accepted.
fn of_appraised(appraised: &GpuAppraised) -> Result<Rows> {
    let mut found = vec![("verdict".to_owned(), "genuine, and as the policy wants it".into())];
    found.extend(appraised.gpus().iter().map(|gpu| {
        let text = format!(
            "{}, driver {}, VBIOS {}, device {}",
            plain(&gpu.model),
            gpu.driver,
            gpu.vbios,
            plain(&gpu.device)
        );
        (plain(&gpu.name), text.into())
    }));
    let until = i64::try_from(appraised.valid_until().as_secs())?;
    found.push(("valid_until".to_owned(), rows::date(until)?));
    Ok(found)
}
