//! What others published about systems like this one, as tests that must stay refused here. Each is named after the finding.

use std::time::Duration;

use attest::{
    Allowed, Appraised, Collateral, Measurements, Policy, Quote, Refusal, Root, SnpCertificates, SnpPolicy,
    SnpRefusal, SnpReport, SnpRoot, SnpTcb, SnpVerifier, TcbFloors, TcbStatus, Tee, Verifier,
};

const TDX: &[u8] = include_bytes!("../../../../spec/vectors/quotes/tdx_quote.dat");
const COLLATERAL: &str = include_str!("../../../../spec/vectors/quotes/tdx_quote.collateral.json");
const SNP: &[u8] = include_bytes!("../../../../spec/vectors/quotes/snp_milan.dat");
const SNP_PEM: &[u8] = include_bytes!("../../../../spec/vectors/quotes/snp_milan.certificates.pem");

/// 2025-07-01, when all of that is valid.
const NOW: Duration = Duration::from_secs(1_751_328_000);

/// Accepts both recorded pieces of evidence.
fn lenient() -> Policy {
    let floor = SnpTcb { fmc: 0, bootloader: 3, tee: 0, snp: 8, microcode: 0x73 };
    let floors = TcbFloors { milan: Some(floor), ..TcbFloors::default() };
    let snp = SnpPolicy {
        smt: true,
        platform_info_required: [].into(),
        revocations_required: false,
        ..SnpPolicy::for_firmware(floors)
    };
    Policy { tees: [Tee::Tdx, Tee::Snp].into(), snp: Some(snp), ..Policy::for_images(Allowed::default()) }
}

/// Appraises a quote with what it vouches for.
fn tdx(bytes: &[u8], collateral: &str, policy: &Policy) -> Result<Appraised, Refusal> {
    let quote = Quote::parse(bytes).unwrap();
    let report_data = *quote.claims().measurements.report_data();
    let collateral = Collateral::from_json(collateral).unwrap();
    Verifier::new(Root::Intel).appraise(&quote, &report_data, &collateral, policy, NOW)
}

/// Appraises a report with what it vouches for.
fn snp(bytes: &[u8], policy: &Policy) -> Result<Appraised, Refusal> {
    let report = SnpReport::parse(bytes).unwrap();
    let report_data = *report.claims().measurements.report_data();
    let certificates = SnpCertificates::from_pem(SNP_PEM).unwrap();
    SnpVerifier::new(SnpRoot::Amd).appraise(&report, &report_data, &certificates, policy, NOW)
}

#[test]
fn what_is_refused_below_is_accepted_unchanged() {
    assert!(tdx(TDX, COLLATERAL, &lenient()).is_ok());
    assert!(snp(SNP, &lenient()).is_ok());
}

#[test]
fn missing_freshness_evidence_of_yesterday_or_of_another_key_is_replayed() {
    // Genuine evidence, shown by somebody with another key.
    let quote = Quote::parse(TDX).unwrap();
    let collateral = Collateral::from_json(COLLATERAL).unwrap();
    let verifier = Verifier::new(Root::Intel);
    let of_other_key = verifier.appraise(&quote, &[1; 64], &collateral, &lenient(), NOW);
    assert!(matches!(of_other_key, Err(Refusal::ReportData { .. })), "{of_other_key:?}");
    // A verdict that is remembered is held to the same key, and to the time.
    let verified = verifier.verify(&quote, &collateral, NOW).unwrap();
    let report_data = *quote.claims().measurements.report_data();
    let lapsed = verified.valid_until();
    let remembered = |report_data, now| lenient().appraise(verified.clone(), report_data, now);
    assert!(remembered(&report_data, NOW).is_ok());
    assert!(matches!(remembered(&[1; 64], NOW), Err(Refusal::ReportData { .. })));
    assert!(matches!(remembered(&report_data, lapsed), Err(Refusal::Lapsed { .. })));
    // What the vendor said long ago is not what it says today.
    assert!(verifier.verify(&quote, &collateral, lapsed + Duration::from_secs(1)).is_err());
}

#[test]
fn self_reported_patch_level_is_not_believed() {
    // The report says newer firmware than AMD certified the key for.
    let mut newer = SNP.to_vec();
    newer[0x180 + 7] += 1;
    let refused = snp(&newer, &lenient());
    assert!(matches!(refused, Err(Refusal::Snp(SnpRefusal::OtherTcb { .. }))), "{refused:?}");
    // Whoever carries the collateral says that an old level is up to date.
    let kind =
        COLLATERAL.replace("\\\"tcbStatus\\\":\\\"OutOfDate\\\"", "\\\"tcbStatus\\\":\\\"UpToDate\\\"");
    assert_ne!(kind, COLLATERAL);
    assert!(matches!(tdx(TDX, &kind, &lenient()), Err(Refusal::Unverified { .. })));
    // Nobody says anything: without a floor no firmware of AMD's is new enough.
    let mut silent = lenient();
    silent.snp.as_mut().unwrap().tcb_min = TcbFloors::default();
    assert!(matches!(snp(SNP, &silent), Err(Refusal::Snp(SnpRefusal::NoFloor { .. }))));
    assert!(!TcbStatus::ALL_BUT_REVOKED.contains(&TcbStatus::Revoked));
}

#[test]
fn an_empty_allow_list_allows_nothing() {
    let changes: [fn(&mut Policy); 7] = [
        |policy| policy.tees.clear(),
        |policy| policy.images = Allowed::only([]),
        |policy| policy.mrtds = Allowed::only([]),
        |policy| policy.rtmrs = Allowed::only([]),
        |policy| policy.root_keys = Allowed::only([]),
        |policy| policy.statuses.clear(),
        |policy| policy.platforms = Allowed::only([]),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut policy = lenient();
        change(&mut policy);
        assert!(tdx(TDX, COLLATERAL, &policy).is_err(), "list {at}");
    }
    let changes: [fn(&mut SnpPolicy); 2] =
        [|policy| policy.vmpls.clear(), |policy| policy.measurements = Allowed::only([])];
    for (at, change) in changes.into_iter().enumerate() {
        let mut policy = lenient();
        change(policy.snp.as_mut().unwrap());
        assert!(snp(SNP, &policy).is_err(), "list {at} of [snp]");
    }
    // As files say it; a file that forgets the list is no policy at all.
    for (text, is_policy) in [(r#"{"images": []}"#, true), ("{}", false), (r#"{"images": null}"#, false)] {
        let policy = serde_json::from_str::<Policy>(text);
        assert_eq!(policy.is_ok(), is_policy, "{text}");
        assert!(policy.map_or(true, |policy| tdx(TDX, COLLATERAL, &policy).is_err()), "{text}");
    }
}

#[test]
fn evidence_is_not_called_verified_without_cryptography() {
    // Everything that can be read off is as the policy wants it: image, key, kind. The signature is of zeros.
    let mut unsigned = TDX.to_vec();
    let signature = 48 + 584 + 4;
    unsigned[signature..signature + 64].fill(0);
    let quote = Quote::parse(&unsigned).unwrap();
    let image = quote.claims().measurements.image_hash();
    let policy = Policy { images: Allowed::only([image]), ..lenient() };
    let report_data = *quote.claims().measurements.report_data();
    assert_eq!(policy.screen(quote.claims(), &report_data), Ok(()), "which is why screening proves nothing");
    assert!(matches!(tdx(&unsigned, COLLATERAL, &policy), Err(Refusal::Unverified { .. })));
    let mut unsigned = SNP.to_vec();
    unsigned[0x2a0..].fill(0);
    let refused = snp(&unsigned, &lenient());
    assert_eq!(refused, Err(Refusal::Snp(SnpRefusal::ReportSignature)));
    // The text of a quote in the place of one: what tests of the deployed software call evidence.
    assert!(Quote::parse(&report_data).is_err());
}

#[test]
fn configuration_that_is_not_measured_has_no_allowed_image() {
    let allowed = |bytes: &[u8]| Quote::parse(bytes).unwrap().claims().measurements.image_hash();
    // MRCONFIGID, MROWNER and MROWNERCONFIG are whatever the host started the guest with: header 48, then 184 up to them.
    let image = allowed(TDX);
    for at in [184, 232, 280] {
        let mut configured = TDX.to_vec();
        configured[48 + at] ^= 1;
        assert_ne!(allowed(&configured), image, "register at {at}");
        let policy = Policy { images: Allowed::only([image]), ..lenient() };
        assert!(matches!(tdx(&configured, COLLATERAL, &policy), Err(Refusal::Image { .. })));
    }
    // HOST_DATA is that of SEV-SNP.
    let measurements = |bytes: &[u8]| SnpReport::parse(bytes).unwrap().claims().measurements.clone();
    let Measurements::Snp(guest) = measurements(SNP) else { panic!("a guest") };
    assert_eq!(guest.host_data, [0; 32]);
    let policy = Policy { images: Allowed::only([measurements(SNP).image_hash()]), ..lenient() };
    assert!(snp(SNP, &policy).is_ok());
    let mut configured = SNP.to_vec();
    configured[0xc0] = 1;
    assert!(matches!(snp(&configured, &policy), Err(Refusal::Image { .. })));
}
