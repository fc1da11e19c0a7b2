//! Policies: what they do not name is refused.

use std::collections::BTreeMap;

use super::reports::YEAR_2026;
use super::vendor::VENDOR;
use super::*;
use crate::measurements::{Hex, Register};

const STRICT: &str = r#"
images = "any"
[nvidia]
forms = ["report"]
models = ["GB100 A01 GSP BROM"]
drivers = { min = "575.32" }
vbioses = ["97.00.88.00.0F"]
[[nvidia.golden]]
driver = "575.32"
vbios = "97.00.88.00.0F"
measurements = { 1 = ["INDEX1"], 2 = ["00", "INDEX2"] }
"#;

/// The strict policy for the recorded Blackwell GPU.
fn strict() -> Policy {
    let GpuEvidence::Reports(reports) = report(BLACKWELL, BLACKWELL_PEM) else { panic!("a report") };
    let measurement = |index: u8| reports[0].0.measurements()[&index].to_string();
    let text = STRICT.replace("INDEX1", &measurement(1)).replace("INDEX2", &measurement(2));
    toml::from_str(&text.replace("\"00\"", &format!("\"{}\"", "00".repeat(48)))).unwrap()
}

fn appraise(policy: &Policy, evidence: &GpuEvidence, now: Duration) -> Result<GpuAppraised, GpuRefusal> {
    nvidia().appraise(evidence, &nonce(), policy, now)
}

#[test]
fn a_policy_is_data_and_each_of_its_lines_decides() {
    let evidence = report(BLACKWELL, BLACKWELL_PEM);
    let with = |change: &dyn Fn(&mut GpuPolicy)| {
        let mut policy = strict();
        change(policy.nvidia.as_mut().unwrap());
        appraise(&policy, &evidence, JULY_2026)
    };
    assert!(with(&|_policy| {}).is_ok());
    let measurement = |number: u8| MeasurementIndex::new(number.try_into().unwrap());
    let golden = |measurements: &[(u8, &[Register])]| GoldenMeasurements {
        driver: version("575.32"),
        vbios: version("97.00.88.00.0F"),
        measurements: measurements
            .iter()
            .map(|(index, values)| (measurement(*index), values.iter().copied().collect()))
            .collect::<BTreeMap<_, _>>(),
    };
    let zeros: Register = Hex::new([0; 48]);
    let ones: Register = Hex::new([1; 48]);
    let of_others = GoldenMeasurements { driver: version("575.33"), ..golden(&[(1, &[zeros])]) };
    let refused: [(&str, Result<_, _>); 12] = [
        ("accepts one of [token] (nvidia.forms)", with(&|policy| policy.forms = [GpuForm::Token].into())),
        ("forms", with(&|policy| policy.forms.clear())),
        (
            "accepts one of [GH100 A01 GSP BROM]",
            with(&|policy| policy.models = Allowed::only(["GH100 A01 GSP BROM".to_owned()])),
        ),
        ("575.32.1 or later", with(&|policy| policy.drivers = GpuVersions::from(version("575.32.1")))),
        ("one of [575.31]", with(&|policy| policy.drivers = GpuVersions::Only([version("575.31")].into()))),
        ("vbioses", with(&|policy| policy.vbioses = GpuVersions::Only([].into()))),
        ("gpus_min", with(&|policy| policy.gpus_min = 2)),
        ("age_max_s", with(&|policy| policy.age_max_s = 0)),
        ("golden", with(&|policy| policy.golden = Allowed::only([]))),
        ("golden", with(&|policy| policy.golden = Allowed::only([golden(&[]), of_others.clone()]))),
        ("measurement 1", with(&|policy| policy.golden = Allowed::only([golden(&[(1, &[ones])])]))),
        (
            "nothing",
            with(&|policy| policy.golden = Allowed::only([golden(&[(1, &[zeros]), (65, &[zeros])])])),
        ),
    ];
    for (word, outcome) in refused {
        let said = outcome.unwrap_err().to_string();
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(
        with(&|policy| policy.golden =
            Allowed::only([golden(&[(1, &[ones])]), golden(&[(1, &[ones, zeros])])]))
        .is_ok()
    );
    assert!(with(&|policy| policy.golden = Allowed::only([golden(&[(1, &[])])])).is_err());
    let none = Policy { nvidia: None, ..strict() };
    assert_eq!(appraise(&none, &evidence, JULY_2026), Err(GpuRefusal::NoPolicy));
}

#[test]
fn links_that_are_not_encrypted_are_accepted_if_the_policy_says_so() {
    let appraise = |says: Option<u8>, protected_pcie| {
        let evidence = VENDOR.evidence(|parts| {
            parts.fields.retain(|(kind, _value)| *kind != 21);
            parts.fields.extend(says.map(|says| (21, vec![says])));
        });
        let policy = super::policy(GpuPolicy { protected_pcie, ..any() });
        VENDOR.verifier().appraise(&evidence, &nonce(), &policy, YEAR_2026)
    };
    for (says, found) in [(None, None), (Some(0x55), Some(false)), (Some(0xaa), Some(true))] {
        assert_eq!(appraise(says, true).unwrap().gpus()[0].protected_pcie, found);
    }
    assert!(appraise(None, false).is_ok() && appraise(Some(0x55), false).is_ok());
    let refused = GpuRefusal::ProtectedPcie { name: "GPU-0".to_owned() };
    assert_eq!(appraise(Some(0xaa), false), Err(refused));
}

#[test]
fn tokens_age() {
    let with = |age_max_s, now| {
        let mut policy = any();
        policy.age_max_s = age_max_s;
        appraise(&super::policy(policy), &token(), now)
    };
    let later = ISSUED + Duration::from_mins(10);
    assert_eq!(with(601, later).unwrap().valid_until(), ISSUED + Duration::from_secs(601));
    assert!(matches!(with(600, later), Err(GpuRefusal::TooOld { age_max_s: 600, .. })));
    // What is refused by the service is not made good by a patient policy.
    assert!(matches!(with(u32::MAX, EXPIRED), Err(GpuRefusal::Expired { .. })));
}

#[test]
fn a_policy_says_what_it_must_and_knows_no_other_keys() {
    let strict = strict();
    assert_eq!(toml::from_str::<Policy>(&toml::to_string(&strict).unwrap()).unwrap(), strict);
    let json = serde_json::to_string(&strict).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), strict);
    let least = "forms = [\"token\"]\nmodels = \"any\"\ndrivers = \"any\"\nvbioses = \"any\"";
    let read = |table: &str| toml::from_str::<Policy>(&format!("images = \"any\"\n[nvidia]\n{table}"));
    let policy = read(least).unwrap().nvidia.unwrap();
    let any = GpuPolicy::for_any([GpuForm::Token]);
    assert_eq!(policy, GpuPolicy { protected_pcie: false, golden: Allowed::only([]), ..any });
    for missing in least.lines() {
        assert!(read(&least.replace(missing, "")).is_err(), "{missing}");
    }
    let indices = "golden = [{ driver = \"1\", vbios = \"1\", measurements = { 1 = [], 255 = [] } }]";
    assert!(read(&format!("{least}\n{indices}")).is_ok());
    for refused in [
        "debug = true",
        "gpus_min = -1",
        "age_max_s = \"1h\"",
        "golden = [{ driver = \"1\", vbios = \"1\" }]",
        "golden = [{ driver = \"1\", vbios = \"1\", measurements = {}, more = 1 }]",
        "golden = [{ driver = \"1\", vbios = \"1\", measurements = { 0 = [] } }]",
        "golden = [{ driver = \"1\", vbios = \"1\", measurements = { 256 = [] } }]",
        "golden = [{ driver = \"1\", vbios = \"1\", measurements = { 01 = [] } }]",
        "golden = [{ driver = \"1\", vbios = \"1\", measurements = { \"+1\" = [] } }]",
        "golden = [{ driver = \"1\", vbios = \"1\", measurements = { \" 1\" = [] } }]",
        "golden = [{ driver = \"1\", vbios = \"1\", measurements = { 1 = [\"00\"] } }]",
    ] {
        assert!(read(&format!("{least}\n{refused}")).is_err(), "{refused}");
    }
    for other in [
        "drivers = { min = \"x\" }",
        "drivers = { min = \"1\", max = \"2\" }",
        "drivers = \"all\"",
        "drivers = [1]",
    ] {
        assert!(read(&least.replace("drivers = \"any\"", other)).is_err(), "{other}");
    }
    assert!(read(&least.replace("\"token\"", "\"quote\"")).is_err());
}
