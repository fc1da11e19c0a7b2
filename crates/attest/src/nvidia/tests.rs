//! Recorded evidence of GPUs, each accepted case with its refused twins; and what only a simulated vendor can show, since signatures
//! cover it.

mod policies;
mod reports;
mod tokens;
mod vendor;

use std::time::Duration;

use super::*;
use crate::policy::{Allowed, Policy};

/// The recorded token and its keys.
const TOKEN: &str = include_str!("../../../../spec/vectors/quotes/nvidia_token.json");
const KEYS: &[u8] = include_bytes!("../../../../spec/vectors/quotes/nvidia_token.keys.json");
/// What it was asked for with.
const NONCE: &str = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";
/// When it was issued, and when it ended.
const ISSUED: Duration = Duration::from_secs(1_749_601_858);
const EXPIRED: Duration = Duration::from_secs(1_749_605_458);

/// The recorded report of a Hopper GPU with its certificates.
const HOPPER: &[u8] = include_bytes!("../../../../spec/vectors/quotes/nvidia_hopper.dat");
const HOPPER_PEM: &[u8] = include_bytes!("../../../../spec/vectors/quotes/nvidia_hopper.certificates.pem");
/// That of a Blackwell GPU, which was asked for with the token's nonce.
const BLACKWELL: &[u8] = include_bytes!("../../../../spec/vectors/quotes/nvidia_blackwell.dat");
const BLACKWELL_PEM: &[u8] =
    include_bytes!("../../../../spec/vectors/quotes/nvidia_blackwell.certificates.pem");
/// 2026-07-01.
const JULY_2026: Duration = Duration::from_secs(1_782_864_000);

fn nonce() -> GpuNonce {
    NONCE.parse().unwrap()
}

fn version(text: &str) -> GpuVersion {
    text.parse().unwrap()
}

fn token() -> GpuEvidence {
    GpuEvidence::parse(TOKEN.as_bytes()).unwrap()
}

fn report(bytes: &[u8], pem: &[u8]) -> GpuEvidence {
    let (report, certificates) = (GpuReport::parse(bytes).unwrap(), GpuCertificates::from_pem(pem).unwrap());
    GpuEvidence::Reports(vec![(report, certificates)])
}

fn nvidia() -> GpuVerifier {
    GpuVerifier::new(GpuRoot::Nvidia, GpuKeys::from_json(KEYS).unwrap())
}

/// Accepts any GPU.
fn any() -> GpuPolicy {
    GpuPolicy::for_any([GpuForm::Token, GpuForm::Report])
}

fn policy(nvidia: GpuPolicy) -> Policy {
    Policy { nvidia: Some(nvidia), ..Policy::for_images(Allowed::only([])) }
}

#[test]
fn recorded_evidence_is_genuine() {
    let appraise = |evidence: &GpuEvidence, nonce, now| {
        nvidia().appraise(evidence, &nonce, &policy(any()), now).unwrap()
    };
    let token = appraise(&token(), nonce(), ISSUED);
    let gpu = Gpu {
        name: "GPU-0".to_owned(),
        device: "478176379286082186618948445787393647364802107249".to_owned(),
        model: "GH100 A01 GSP BROM".to_owned(),
        driver: version("550.90.07"),
        vbios: version("96.00.9F.00.01"),
        protected_pcie: None,
        measurements: None,
    };
    assert_eq!(token.gpus(), [gpu]);
    assert_eq!((token.form(), token.valid_until(), token.is_simulated()), (GpuForm::Token, EXPIRED, false));

    let hopper = report(HOPPER, HOPPER_PEM);
    let asked = GpuNonce::new(*HOPPER[4..].first_chunk().unwrap());
    let hopper = appraise(&hopper, asked, JULY_2026);
    let [gpu] = hopper.gpus() else { panic!("{hopper:?}") };
    assert_eq!((gpu.model.as_str(), &gpu.driver), ("GH100 A01 GSP BROM", &version("580.159.03")));
    assert_eq!(gpu.vbios, version("96.00.74.00.20"));
    assert_eq!((gpu.measurements.as_ref().unwrap().len(), gpu.protected_pcie), (64, Some(false)));
    assert_eq!((hopper.form(), hopper.is_simulated()), (GpuForm::Report, false));
    assert_eq!(hopper.valid_until(), JULY_2026 + Duration::from_hours(1));

    let blackwell = appraise(&report(BLACKWELL, BLACKWELL_PEM), nonce(), JULY_2026);
    let [gpu] = blackwell.gpus() else { panic!("{blackwell:?}") };
    assert_eq!((gpu.model.as_str(), &gpu.driver), ("GB100 A01 GSP BROM", &version("575.32")));
    assert_eq!((&gpu.vbios, gpu.protected_pcie), (&version("97.00.88.00.0F"), None));
}

#[test]
fn evidence_is_recognised_by_its_form() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let one = |report: &[u8], pem: &[u8]| {
        serde_json::json!({
            "arch": "HOPPER",
            "nonce": "00".repeat(32),
            "evidence": STANDARD.encode(report),
            "certificate": STANDARD.encode(pem),
        })
    };
    let collected = serde_json::json!([one(BLACKWELL, BLACKWELL_PEM)]);
    let wrapped = serde_json::json!({"evidences": collected, "result_code": 0});
    for text in [collected.to_string(), wrapped.to_string()] {
        let evidence = GpuEvidence::parse(text.as_bytes()).unwrap();
        assert_eq!(evidence, report(BLACKWELL, BLACKWELL_PEM));
        assert_eq!(evidence.nonce(), Some(nonce()));
    }
    assert_eq!(token().nonce(), Some(nonce()));
    let cut = serde_json::json!([one(&BLACKWELL[..4000], BLACKWELL_PEM)]).to_string();
    assert!(matches!(GpuEvidence::parse(cut.as_bytes()), Err(GpuEvidenceError::Report { at: 0, .. })));
    let no_pem = serde_json::json!([one(BLACKWELL, b"")]).to_string();
    assert!(matches!(
        GpuEvidence::parse(no_pem.as_bytes()),
        Err(GpuEvidenceError::Certificates { at: 0, .. })
    ));
    let many = serde_json::Value::from(vec![one(b"", b""); GPUS_MAX + 1]).to_string();
    assert!(matches!(GpuEvidence::parse(many.as_bytes()), Err(GpuEvidenceError::Count { found: 17 })));
    for other in ["", "{}", "[]", "[{}]", "[1]", "null", r#"{"evidences": 1}"#, r#"[{"evidence": "!"}]"#] {
        let error = GpuEvidence::parse(other.as_bytes()).unwrap_err();
        assert!(
            matches!(error, GpuEvidenceError::Form { .. } | GpuEvidenceError::Count { found: 0 }),
            "{other}: {error}"
        );
    }
    let long = vec![b' '; GpuEvidence::LEN_MAX + 1];
    assert!(matches!(GpuEvidence::parse(&long), Err(GpuEvidenceError::TooLong { .. })));
}
