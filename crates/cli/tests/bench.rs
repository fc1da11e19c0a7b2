//! Every suite of `cocoon bench` runs and says what it measured. How fast anything is, is no test's business.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;

/// A line of `--json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    unit: String,
    value: f64,
    spread: (f64, f64),
    yardstick: Option<String>,
    ratio: Option<f64>,
    ratio_spread: Option<(f64, f64)>,
    load_average: f64,
    versions: Vec<String>,
}

/// What cannot be zero on any machine, suite by suite, in tiny runs too.
const PRESENT: &[&str] = &[
    "e2e/memory/at_rest/cocoon",
    "e2e/c1/cpu_per_request/cocoon",
    "e2e/c16/cpu_per_request/cocoon",
    "e2e/100 KB c16/cpu_per_request/cocoon",
    "e2e/s16/cpu_per_request/cocoon",
    "e2e/new/cpu_per_request/cocoon",
    "stream/1/cpu_per_token/cocoon",
    "stream/4/cpu_per_token/cocoon",
    "stream/4/one_way_p50/cocoon",
    "stream/4/one_way_p50/direct",
    "scale/2/cpu_per_request",
    "scale/10/cpu_per_request",
    "scale/10/joining",
    "ledger/charges_per_core_second",
    "ledger/charges_per_second",
    "ledger/window",
    "ledger/recovery",
    "overload/goodput_by_peak",
    "cancel/heard/cocoon",
    "slow-reader/taken/cocoon",
    "slow-reader/beside_p50/cocoon",
    "hol/beside_p50/cocoon",
    "attest/appraisals",
    "attest/remembered",
    "attest/handshake",
    "attest/without_quotes/first",
    "attest/with_quotes/again",
];

/// An answer with a lost, doubled or reordered token ends the command with an error.
#[test]
fn every_suite_measures_and_says_it_in_json() {
    let output = Command::new(env!("CARGO_BIN_EXE_cocoon"))
        .args(["bench", "all", "--smoke", "--rounds", "1", "--secs", "0.1", "--json"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cocoon bench: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Line>(line).unwrap_or_else(|error| panic!("{error} in {line}")));
    let figures: BTreeMap<String, Line> = lines.map(|line| (line.name.clone(), line)).collect();
    assert_eq!(figures.len(), text.lines().count(), "no two figures have one name:\n{text}");
    figures.values().for_each(is_sound);
    for name in PRESENT {
        let figure = figures.get(*name).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        assert!(figure.value > 0.0, "{figure:?}");
    }
}

fn is_sound(line: &Line) {
    assert!(line.value.is_finite() && !line.unit.is_empty() && line.load_average >= 0.0, "{line:?}");
    assert!(line.spread.0 <= line.value && line.value <= line.spread.1, "{line:?}");
    assert!(line.versions.iter().any(|version| version.starts_with("cocoon ")), "{line:?}");
    assert_eq!(line.yardstick.is_some(), line.ratio.is_some(), "{line:?}");
    let within = line
        .ratio_spread
        .zip(line.ratio)
        .is_none_or(|(spread, ratio)| spread.0 <= ratio && ratio <= spread.1);
    assert!(within, "{line:?}");
}
