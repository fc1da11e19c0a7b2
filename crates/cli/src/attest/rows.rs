//! Evidence as rows: a name and a value each, for people or as members of a JSON object.

use ::attest::{
    Appraised, Certificate, ChipId, Claims, Firmware, GuestPolicy, Hex, Measurements, PlatformInfoBit, Quote,
    SnpReport, SnpTcbs, event_log,
};
use anyhow::Result;
use serde_json::{Value, json};
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

/// What is shown, in order.
pub(super) type Rows = Vec<(String, Value)>;

fn rows<const N: usize>(rows: [(&str, Value); N]) -> Rows {
    rows.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A second since 1970 as people write it.
pub(super) fn date(seconds: i64) -> Result<Value> {
    Ok(UtcDateTime::from_unix_timestamp(seconds)?.format(&Rfc3339)?.into())
}

/// What a quote says.
pub(super) fn of_quote(quote: &Quote) -> Rows {
    let mut rows = rows([("version", quote.version().into())]);
    rows.extend(of_claims(quote.claims()));
    rows
}

/// What a report of SEV-SNP says. Which product's firmware it is, only the certificate tells.
pub(super) fn of_report(report: &SnpReport) -> Rows {
    let mut found = rows([("version", report.version().into())]);
    found.extend(of_claims(report.claims()));
    let policy = GuestPolicy::new(report.claims().attributes);
    let chip_id: ChipId = report.chip_id();
    found.extend(rows([
        ("smt", policy.has(GuestPolicy::SMT).into()),
        ("migration_agent", policy.has(GuestPolicy::MIGRATION_AGENT).into()),
        ("vmpl", report.vmpl().into()),
        ("platform_info", platform_info(report.platform_info()).into()),
        ("chip_id", chip_id.to_string().into()),
    ]));
    found
}

/// All bits, and the names of those that policies can ask for.
fn platform_info(bits: u64) -> String {
    let names = PlatformInfoBit::ALL.into_iter().filter(|bit| bit.is_in(bits));
    let names: Vec<_> = names.map(|bit| bit.to_string()).collect();
    format!("{bits:#x} [{}]", names.join(", "))
}

fn of_claims(claims: &Claims) -> Rows {
    let mut found = rows([
        ("tee", claims.tee.to_string().into()),
        ("image", claims.measurements.image_hash().to_string().into()),
        ("debug", claims.is_debug.into()),
        ("attributes", format!("{:#018x}", claims.attributes).into()),
    ]);
    let mut push = |name: &str, bytes: String| found.push((name.to_owned(), bytes.into()));
    match &claims.measurements {
        Measurements::Tdx(guest) => {
            let names =
                ["mrtd", "mrconfigid", "mrowner", "mrownerconfig", "rtmr0", "rtmr1", "rtmr2", "rtmr3"];
            names
                .iter()
                .zip(&guest.registers)
                .for_each(|(name, register)| push(name, Hex::new(*register).to_string()));
        }
        Measurements::Sgx { mrenclave, .. } => push("mrenclave", Hex::new(*mrenclave).to_string()),
        Measurements::Snp(guest) => {
            push("measurement", Hex::new(guest.measurement).to_string());
            push("host_data", Hex::new(guest.host_data).to_string());
        }
    }
    push("report_data", Hex::new(*claims.measurements.report_data()).to_string());
    found
}

/// What a certificate says, and whether a link would take it: `as_server`, `as_client`.
pub(super) fn of_certificate(certificate: &Certificate, as_server: &str, as_client: &str) -> Result<Rows> {
    let claims = match &certificate.user_claims {
        None => "none",
        Some(claims) if claims == certificate.public_key.as_bytes() => "the key",
        Some(_) => "not the key; no verifier looks at them",
    };
    Ok(rows([
        ("public_key", certificate.public_key.to_string().into()),
        ("not_before", date(certificate.not_before)?),
        ("not_after", date(certificate.not_after)?),
        ("user_claims", claims.into()),
        ("as_server", as_server.into()),
        ("as_client", as_client.into()),
    ]))
}

/// The events of a log, and what the registers hold after them and after the guest's `lines`.
pub(super) fn of_log(events: &[event_log::Event], lines: &[String]) -> Rows {
    let mut found = rows([("events", events.len().into())]);
    let words = |data: &[u8]| {
        data.iter()
            .filter(|byte| matches!(byte, b' '..=b'~'))
            .map(|byte| char::from(*byte))
            .collect::<String>()
    };
    found.extend(events.iter().enumerate().map(|(at, event)| {
        let event_log::Event { rtmr, kind, digest, data } = event;
        let mut text = words(data);
        text.truncate(80);
        (
            format!("event{}", at + 1),
            format!("rtmr{rtmr} kind {kind:#010x} {digest} {text}").trim_end().into(),
        )
    }));
    let registers = event_log::replay(events, lines.iter().map(String::as_str));
    found.extend(
        registers.iter().enumerate().map(|(at, register)| (format!("rtmr{at}"), register.to_string().into())),
    );
    found
}

/// What was found of evidence that was verified and accepted.
pub(super) fn of_appraised(appraised: &Appraised) -> Result<Rows> {
    let platform = appraised.platform();
    let mut found = rows([("verdict", "genuine, and as the policy wants it".into())]);
    found.extend(match &platform.firmware {
        Firmware::Intel { status, advisories, evaluation_number } => rows([
            ("status", status.to_string().into()),
            ("advisories", json!(advisories)),
            ("evaluation_number", (*evaluation_number).into()),
        ]),
        Firmware::Amd(amd) => {
            let SnpTcbs { reported, current, committed, launch } = amd.tcbs;
            rows([
                ("product", amd.product.to_string().into()),
                ("reported_tcb", reported.to_string().into()),
                ("current_tcb", current.to_string().into()),
                ("committed_tcb", committed.to_string().into()),
                ("launch_tcb", launch.to_string().into()),
                ("revocations", if amd.has_revocations { "none" } else { "no list was given" }.into()),
            ])
        }
    });
    found.extend(rows([
        ("platform", platform.id.to_string().into()),
        ("root_key", platform.root_key.to_string().into()),
        ("valid_until", date(i64::try_from(appraised.valid_until().as_secs())?)?),
    ]));
    Ok(found)
}
