//! `cocoon attest`, with recorded evidence.

mod peers;

use std::path::Path;

use attest::{Quote, report_data_of_key};
use rcgen::{
    CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ED25519,
    SanType, date_time_ymd,
};
use serde_json::Value;
use units::PublicKey;

use crate::support::cocoon;

fn recorded(name: &str) -> String {
    format!("{}/../../spec/vectors/quotes/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Whether the program succeeded, what it printed, and what it complained of.
fn inspect(arguments: &[&str]) -> (bool, String, String) {
    let output = cocoon(&[&["attest", "inspect"], arguments].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_quote_is_shown_and_verified_with_its_collateral() {
    let (quote, collateral) = (recorded("tdx_quote.dat"), recorded("tdx_quote.collateral.json"));
    let (is_done, claims, _) = inspect(&[&quote]);
    assert!(is_done && claims.contains("mrtd") && claims.contains("not verified"), "{claims}");
    let appraise = |at: &str| inspect(&[&quote, "--collateral", &collateral, "--at", at, "--json"]);
    let (is_done, verdict, _) = appraise("2025-07-01T00:00:00Z");
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert!(is_done && verdict["verdict"].as_str().unwrap().starts_with("genuine"), "{verdict}");
    assert_eq!(verdict["status"], "UpToDate");
    // What the vendor said does not hold for ever.
    let (is_done, verdict, complaint) = appraise("2025-09-01T00:00:00Z");
    assert!(!is_done && verdict.contains("refused") && complaint.contains("not genuine"), "{complaint}");
}

#[test]
fn a_policy_decides_and_its_refusal_names_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    let (quote, collateral) = (recorded("sgx_quote.dat"), recorded("sgx_quote.collateral.json"));
    let appraise = |text: &str| {
        std::fs::write(&policy, text).unwrap();
        let policy = policy.to_str().unwrap();
        inspect(&[&quote, "--collateral", &collateral, "--policy", policy, "--at", "2025-07-01T00:00:00Z"])
    };
    let (is_done, _, complaint) = appraise("tees = [\"sgx\"]\nimages = \"any\"");
    assert!(
        !is_done && complaint.contains("ConfigurationAndSWHardeningNeeded (INTEL-SA-00289"),
        "{complaint}"
    );
    let status = "statuses = [\"ConfigurationAndSWHardeningNeeded\"]";
    let (is_done, verdict, _) = appraise(&format!("tees = [\"sgx\"]\nimages = \"any\"\n{status}"));
    assert!(is_done && verdict.contains("genuine"), "{verdict}");
    let (is_done, _, complaint) = appraise("images = []");
    assert!(!is_done && complaint.contains("SGX") && complaint.contains("tees"), "{complaint}");
    let (is_done, _, complaint) = appraise("image = \"any\"");
    assert!(!is_done && complaint.contains("is no policy"), "{complaint}");
}

#[test]
fn evidence_of_gpus_is_shown_and_verified() {
    let (report, certificates) = (recorded("nvidia_hopper.dat"), recorded("nvidia_hopper.certificates.pem"));
    let (is_done, claims, _) = inspect(&[&report]);
    assert!(is_done && claims.contains("580.159.03") && claims.contains("not verified"), "{claims}");
    let at = ["--at", "2026-07-01T00:00:00Z", "--json"];
    let (is_done, verdict, _) =
        inspect(&[&[report.as_str(), "--collateral", &certificates], &at[..]].concat());
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert!(is_done && verdict["verdict"].as_str().unwrap().starts_with("genuine"), "{verdict}");
    assert!(
        verdict["GPU-0"].as_str().unwrap().starts_with("GH100 A01 GSP BROM, driver 580.159.03"),
        "{verdict}"
    );
    for (name, word) in [("measurements", "not compared"), ("freshness", "not checked")] {
        assert!(verdict[name].as_str().unwrap().starts_with(word), "{verdict}");
    }
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    let golden = format!(
        "driver = \"580.159.03\"\nvbios = \"96.00.74.00.20\"\nmeasurements = {{ 2 = [{}] }}",
        verdict["measurement2"]
    );
    let any = "forms = [\"report\"]\nmodels = \"any\"\ndrivers = \"any\"\nvbioses = \"any\"";
    std::fs::write(&policy, format!("images = \"any\"\n[nvidia]\n{any}\n[[nvidia.golden]]\n{golden}"))
        .unwrap();
    let asked = ["--policy", policy.to_str().unwrap(), "--nonce", verdict["nonce"].as_str().unwrap()];
    let (is_done, verdict, complaint) =
        inspect(&[&[report.as_str(), "--collateral", &certificates], &at[..], &asked].concat());
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert!(is_done && verdict["measurements"] == "compared", "{verdict} {complaint}");
    assert_eq!(verdict["freshness"], "answers the --nonce");
    let other = recorded("nvidia_blackwell.certificates.pem");
    let (is_done, _, complaint) = inspect(&[&[report.as_str(), "--collateral", &other], &at[..]].concat());
    assert!(!is_done && complaint.contains("another GPU's"), "{complaint}");

    let (token, keys) = (recorded("nvidia_token.json"), recorded("nvidia_token.keys.json"));
    let (is_done, claims, _) = inspect(&[&token]);
    assert!(is_done && claims.contains("GPU-0.hwmodel") && claims.contains("not verified"), "{claims}");
    let appraise =
        |arguments: &[&str]| inspect(&[&[token.as_str(), "--collateral", &keys, "--at"], arguments].concat());
    let (is_done, verdict, _) = appraise(&["2025-06-11T01:00:00Z"]);
    assert!(is_done && verdict.contains("genuine"), "{verdict}");
    let (is_done, _, complaint) = appraise(&["2025-06-11T02:00:00Z"]);
    assert!(!is_done && complaint.contains("was valid until"), "{complaint}");
    let (is_done, _, complaint) = appraise(&["2025-06-11T01:00:00Z", "--nonce", &"00".repeat(32)]);
    assert!(!is_done && complaint.contains("was asked"), "{complaint}");
}

#[test]
fn a_report_of_sev_snp_is_shown_and_verified_with_its_certificates() {
    let (report, certificates) = (recorded("snp_milan.dat"), recorded("snp_milan.certificates.pem"));
    let (is_done, claims, _) = inspect(&[&report]);
    assert!(is_done && claims.contains("SEV-SNP") && claims.contains("not verified"), "{claims}");
    let appraise = |arguments: &[&str]| {
        inspect(&[&[report.as_str(), "--collateral", &certificates, "--json"], arguments].concat())
    };
    let (is_done, verdict, _) = appraise(&["--at", "2024-07-01T00:00:00Z"]);
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert!(is_done && verdict["verdict"].as_str().unwrap().starts_with("genuine"), "{verdict}");
    assert_eq!((verdict["product"].as_str(), verdict["smt"].as_bool()), (Some("Milan"), Some(true)));
    assert_eq!(verdict["revocations"], "no list was given");
    let (is_done, _, complaint) = appraise(&["--at", "2031-01-01T00:00:00Z"]);
    assert!(!is_done && complaint.contains("VCEK") && complaint.contains("was valid until"), "{complaint}");
    let other = recorded("snp_turin.certificates.pem");
    let (is_done, _, complaint) = inspect(&[&report, "--collateral", &other, "--at", "2025-07-01T00:00:00Z"]);
    assert!(!is_done && complaint.contains("the report is of processor"), "{complaint}");

    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, "tees = [\"snp\"]\nimages = \"any\"\n[snp]\ntcb_min = {}").unwrap();
    let policy = policy.to_str().unwrap();
    let (is_done, _, complaint) = appraise(&["--at", "2024-07-01T00:00:00Z", "--policy", policy]);
    assert!(!is_done && complaint.contains("snp.smt"), "{complaint}");
    let plain = folder.path().join("sev.bin");
    std::fs::write(&plain, [0; 208]).unwrap();
    let (is_done, _, complaint) = inspect(&[plain.to_str().unwrap()]);
    assert!(!is_done && complaint.contains("plain SEV or SEV-ES"), "{complaint}");
}

/// A certificate with `evidence(key)`, of one day in October 2026.
fn certificate(folder: &Path, evidence: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.subject_alt_names = vec![SanType::DnsName("127.0.0.1".try_into().unwrap())];
    (params.not_before, params.not_after) = (date_time_ymd(2026, 10, 20), date_time_ymd(2026, 10, 21));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let content = evidence(key.public_key_raw());
    if !content.is_empty() {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 12345, 1], content);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    }
    let path = folder.join("certificate.pem");
    std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_certificate_is_shown_with_its_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let noon = ["--at", "2026-10-20T12:00:00Z"];
    let inspect = |file: &str, arguments: &[&str]| inspect(&[&[file], &noon[..], arguments].concat());
    let bare = certificate(folder.path(), |_key| vec![]);
    let (is_done, shown, complaint) = inspect(&bare, &["--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(is_done && shown["evidence"].as_str().unwrap().starts_with("none"), "{shown} {complaint}");
    assert_eq!(shown["as_server"], "a link would take it");
    assert!(shown["as_client"].as_str().unwrap().contains("lacks clientAuth"), "{shown}");
    assert_eq!(shown["not_after"], "2026-10-21T00:00:00Z");

    // Genuine evidence, of somebody else's key.
    let quote = std::fs::read(recorded("tdx_quote_td15ex.dat")).unwrap();
    let copied = certificate(folder.path(), |_key| quote.clone());
    let (is_done, shown, complaint) = inspect(&copied, &[]);
    assert!(
        !is_done && shown.contains("of another key") && complaint.contains("another key"),
        "{shown} {complaint}"
    );

    // The right key, in evidence that nobody signed: shown, and refused as soon as it is verified.
    let forged = certificate(folder.path(), |key| {
        let mut quote = quote.clone();
        let at = quote.windows(64).position(|bytes| bytes == report_data(&quote)).unwrap();
        quote[at..at + 64].copy_from_slice(&report_data_of_key(&PublicKey::new(key.try_into().unwrap())));
        quote
    });
    let (is_done, shown, _) = inspect(&forged, &[]);
    assert!(
        is_done && shown.contains("of the certificate's key") && shown.contains("not verified"),
        "{shown}"
    );
    let collateral = recorded("tdx_quote_td15ex.collateral.json");
    let (is_done, shown, complaint) = inspect(&forged, &["--collateral", &collateral]);
    assert!(!is_done && !shown.contains("genuine, and as") && complaint.contains("not genuine"), "{shown}");

    let fake = certificate(folder.path(), |key| {
        report_data_of_key(&PublicKey::new(key.try_into().unwrap())).to_vec()
    });
    let (is_done, _, complaint) = inspect(&fake, &[]);
    assert!(!is_done && complaint.contains("proves nothing"), "{complaint}");
}

fn report_data(quote: &[u8]) -> [u8; 64] {
    *Quote::parse(quote).unwrap().claims().measurements.report_data()
}

#[test]
fn an_event_log_is_shown_and_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("CCEL");
    // A description with SHA-384 as the one kind of digest, and one event of the first register.
    let mut log = [1_u32, 3].map(u32::to_le_bytes).concat();
    log.extend([0; 20]);
    log.extend([33, 0, 0, 0]);
    log.extend(b"Spec ID Event03\0\0\0\0\0\0\x02\x69\x02\x01\0\0\0\x0c\0\x30\0\0");
    log.extend([1_u32, 1, 1].map(u32::to_le_bytes).concat());
    log.extend([0x0c, 0]);
    log.extend([7; 48]);
    log.extend(b"\x08\0\0\0firmware");
    std::fs::write(&path, &log).unwrap();
    let path = path.to_str().unwrap();
    let (is_done, shown, complaint) = inspect(&[path, "--line", "cocoon:tdx_inited", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(is_done && shown["kind"].as_str().unwrap().contains("proves nothing"), "{shown} {complaint}");
    assert!(shown["event1"].as_str().unwrap().ends_with("firmware"), "{shown}");
    assert_eq!(shown["rtmr1"], "0".repeat(96));
    assert_ne!(shown["rtmr3"], shown["rtmr1"]);
    let (is_done, _, complaint) = inspect(&[path, "--collateral", path]);
    assert!(!is_done && complaint.contains("proves nothing by itself"), "{complaint}");
}

#[test]
fn what_is_no_evidence_is_named() {
    let (is_done, _, complaint) = inspect(&[&recorded("README.md")]);
    assert!(!is_done && complaint.contains("no quote of Intel TDX or SGX"), "{complaint}");
    let (is_done, _, complaint) = inspect(&["nowhere"]);
    assert!(!is_done && complaint.contains("cannot read nowhere"), "{complaint}");
    let log = recorded("tdx_quote.dat");
    let (is_done, _, complaint) = inspect(&[&log, "--event-log", &log]);
    assert!(!is_done && complaint.contains("event log begins with"), "{complaint}");
}

#[test]
fn an_images_registers_are_computed_as_far_as_they_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().to_str().unwrap();
    let measure = |flags: &[&str]| {
        let output = cocoon(&[&["attest", "measure", image, "--json"], flags].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let nothing = measure(&[]);
    for register in ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"] {
        assert!(nothing[format!("{register}_unknown")].is_string(), "{nothing}");
    }
    assert!(nothing.get("image").is_none() && nothing["image_unknown"].is_string(), "{nothing}");

    std::fs::create_dir(folder.path().join("spec")).unwrap();
    std::fs::write(folder.path().join("spec/app"), "app\n").unwrap();
    std::fs::write(folder.path().join("initrd.img"), "ram disk").unwrap();
    std::fs::write(folder.path().join("cmdline"), "console=hvc0\n").unwrap();
    let some = measure(&[]);
    let known = |measured: &Value, name: &str| measured[name].as_str().map(str::len);
    assert_eq!(
        (known(&some, "rtmr2"), known(&some, "rtmr3"), known(&some, "spec_tree")),
        (Some(96), Some(96), Some(64))
    );
    assert_eq!(some["rtmr3_lines"][1], "cocoon:tdx_inited");
    assert_ne!(measure(&["--debug-image"])["rtmr3"], some["rtmr3"]);
    assert_ne!(measure(&["--command-line", "console=hvc0 quiet"])["rtmr2"], some["rtmr2"]);

    let digits = "ab".repeat(48);
    let given = ["mrtd", "rtmr0", "rtmr1"].map(|name| format!("{name}={digits}"));
    let given: Vec<&str> = given.iter().flat_map(|given| ["--register", given.as_str()]).collect();
    let all = measure(&given);
    assert_eq!((known(&all, "image"), &all["rtmr0"]), (Some(64), &Value::from(digits)));

    // What is named and no firmware is an error, and not unknown.
    let named = cocoon(&["attest", "measure", image, "--firmware", &format!("{image}/cmdline")]);
    assert!(!named.status.success() && String::from_utf8(named.stderr).unwrap().contains("no firmware"));
    let wrong = cocoon(&["attest", "measure", image, "--register", "rtmr4=ab"]);
    assert!(!wrong.status.success() && String::from_utf8(wrong.stderr).unwrap().contains("no register"));
}

#[test]
fn a_reader_that_has_enough_ends_the_program_without_a_word() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cocoon"))
        .args(["attest", "inspect", &recorded("tdx_quote.dat")])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}
