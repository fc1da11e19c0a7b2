//! The kept inputs of fuzz targets: they are accepted as far as they are meant to be, and each check holds of them.

use attest::measure::{PageOrder, mrtd, rtmr1};
use attest::quote_service::{AnswerError, quote_of};
use attest::sealed_key::{KeyAnswer, KeyRequest};

use crate::check;

fn of(target: &str, check: impl Fn(&[u8])) {
    let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for seed in seeds {
        check(&std::fs::read(seed).unwrap());
    }
}

#[test]
fn every_check_holds_of_the_kept_inputs() {
    of("quotes", check::quote);
    of("snp_reports", check::snp_report);
    of("snp_certificates", check::snp_certificates);
    of("certificates", check::certificate);
    of("event_logs", check::event_log);
    of("policies", check::policy);
    of("gpu_reports", check::gpu_report);
    of("gpu_certificates", check::gpu_certificates);
    of("gpu_evidence", check::gpu_evidence);
    of("sealed_keys", |input| {
        check::sealed_key(input);
        assert!(KeyRequest::parse(input).is_ok() || KeyAnswer::parse(input).is_ok());
    });
    of("quote_answers", |input| {
        check::quote_answer(input);
        assert!(matches!(quote_of(input), Ok(_) | Err(AnswerError::Refused { .. })));
    });
    of("images", |input| {
        check::image(input);
        assert!(mrtd(input, PageOrder::PageByPage).is_ok() || rtmr1(input).is_ok());
    });
}
