//! `cocoon attest`, with recorded evidence.

use serde_json::Value;

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
fn what_is_no_evidence_is_named() {
    let (is_done, _, complaint) = inspect(&[&recorded("README.md")]);
    assert!(!is_done && complaint.contains("no quote of Intel TDX or SGX"), "{complaint}");
    let (is_done, _, complaint) = inspect(&["nowhere"]);
    assert!(!is_done && complaint.contains("cannot read nowhere"), "{complaint}");
    let log = recorded("tdx_quote.dat");
    let (is_done, _, complaint) = inspect(&[&log, "--event-log", &log]);
    assert!(!is_done && complaint.contains("event log begins with"), "{complaint}");
}
