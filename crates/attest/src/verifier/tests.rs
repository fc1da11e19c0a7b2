use super::*;
use crate::CollateralError;
use crate::measurements::{Measurements, Register};
use crate::policy::{Allowed, TcbStatus};
use crate::quote::Tee;

macro_rules! recorded {
    ($name:literal) => {
        (
            include_bytes!(concat!("../../../../spec/vectors/quotes/", $name, ".dat")).as_slice(),
            include_str!(concat!("../../../../spec/vectors/quotes/", $name, ".collateral.json")),
        )
    };
}

type Recorded = (&'static [u8], &'static str);

const TDX: Recorded = recorded!("tdx_quote");
const TDX_15: Recorded = recorded!("tdx_quote_td15ex");
const TDX_OUTDATED: Recorded = recorded!("tdx_quote_outdated");
const SGX: Recorded = recorded!("sgx_quote");

/// 2025-07-01, 2026-03-01 and 2026-10-20.
const JULY_2025: Duration = Duration::from_secs(1_751_328_000);
const MARCH_2026: Duration = Duration::from_secs(1_772_323_200);
const OCTOBER_2026: Duration = Duration::from_secs(1_792_454_400);

fn collateral((_quote, collateral): Recorded) -> Collateral {
    Collateral::from_json(collateral).unwrap()
}

fn any() -> Policy {
    Policy::for_images(Allowed::default())
}

fn of(tee: Tee) -> Policy {
    Policy { tees: [tee].into(), ..any() }
}

/// Appraises a quote with what it vouches for.
fn appraise(
    bytes: &[u8],
    collateral: &Collateral,
    policy: &Policy,
    now: Duration,
) -> Result<Appraised, Refusal> {
    let quote = Quote::parse(bytes).unwrap();
    let report_data = *quote.claims().measurements.report_data();
    Verifier::new(Root::Intel).appraise(&quote, &report_data, collateral, policy, now)
}

fn unverified(outcome: Result<Appraised, Refusal>) -> String {
    match outcome {
        Err(Refusal::Unverified { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn collateral_is_checked_without_a_quote() {
    let check = |(quote, _): Recorded, collateral: &Collateral, now| {
        let kind = Quote::parse(quote).unwrap().collateral_kind().unwrap();
        Verifier::new(Root::Intel).check_collateral(kind, collateral, now)
    };
    for (recorded, now) in [(TDX, JULY_2025), (SGX, JULY_2025), (TDX_15, OCTOBER_2026)] {
        assert_eq!(check(recorded, &collateral(recorded), now), Ok(()));
        let late = check(recorded, &collateral(recorded), now + Duration::from_secs(365 * 86_400));
        assert!(matches!(late, Err(Refusal::Unverified { .. })), "{late:?}");
    }
    let of_others = check(TDX, &collateral(SGX), JULY_2025).unwrap_err().to_string();
    assert!(of_others.contains("other platforms"), "{of_others}");
    let changed = |change: &dyn Fn(&mut dcap_qvl::QuoteCollateralV3)| {
        let mut all = collateral(TDX);
        change(&mut all.0);
        check(TDX, &all, JULY_2025).unwrap_err().to_string()
    };
    let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    assert!(changed(&|all| flip(&mut all.root_ca_crl)).contains("root's list"));
    assert!(changed(&|all| all.root_ca_crl.clear()).contains("cannot be read"));
    assert!(changed(&|all| flip(&mut all.pck_crl)).contains("revoked platforms"));
    assert!(changed(&|all| all.pck_crl = all.root_ca_crl.clone()).contains("revoked platforms"));
    assert!(changed(&|all| flip(&mut all.tcb_info_signature)).contains("TCB info"));
    assert!(changed(&|all| all.tcb_info.push(' ')).contains("TCB info"));
    assert!(changed(&|all| all.tcb_info_issuer_chain.clear()).contains("TCB info"));
    assert!(
        changed(&|all| all.tcb_info_issuer_chain = all.pck_crl_issuer_chain.clone()).contains("TCB info")
    );
    assert!(changed(&|all| flip(&mut all.qe_identity_signature)).contains("quoting enclaves"));
    assert!(changed(&|all| all.qe_identity = "{}".to_owned()).contains("quoting enclaves"));
    let other = Verifier::new(Root::Other(vec![0]));
    let kind = Quote::parse(TDX.0).unwrap().collateral_kind().unwrap();
    assert!(other.check_collateral(kind, &collateral(TDX), JULY_2025).is_err());
}

#[test]
fn recorded_quotes_have_the_status_that_they_have() {
    let root: Register =
        "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993"
            .parse()
            .unwrap();
    let tdx = appraise(TDX.0, &collateral(TDX), &any(), JULY_2025).unwrap();
    assert_eq!(
        (tdx.claims().tee, tdx.platform().status(), tdx.platform().root_key),
        (Tee::Tdx, Some(TcbStatus::UpToDate), root)
    );
    let Firmware::Intel { evaluation_number, .. } = tdx.platform().firmware else { panic!("{tdx:?}") };
    assert_eq!(evaluation_number, 17);
    assert_eq!(tdx.image(), Quote::parse(TDX.0).unwrap().claims().measurements.image_hash());
    assert!(
        tdx.valid_until() > JULY_2025 && tdx.valid_until() < JULY_2025 + Duration::from_secs(30 * 86_400)
    );

    let tdx_15 = appraise(TDX_15.0, &collateral(TDX_15), &any(), OCTOBER_2026).unwrap();
    assert_eq!(tdx_15.platform().status(), Some(TcbStatus::UpToDate));

    let refused = appraise(SGX.0, &collateral(SGX), &of(Tee::Sgx), JULY_2025).unwrap_err();
    let Refusal::Status { found: TcbStatus::ConfigurationAndSwHardeningNeeded, advisories } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(advisories, ["INTEL-SA-00289", "INTEL-SA-00615"]);
    let outdated = unverified(appraise(TDX_OUTDATED.0, &collateral(TDX_OUTDATED), &any(), MARCH_2026));
    assert!(outdated.contains("TCB level"), "{outdated}");
}

#[test]
fn a_status_is_accepted_when_the_policy_names_it_and_no_advisory_stands_against_it() {
    let status = TcbStatus::ConfigurationAndSwHardeningNeeded;
    let named = Policy { statuses: [status].into(), ..of(Tee::Sgx) };
    let sgx = |policy: &Policy| appraise(SGX.0, &collateral(SGX), policy, JULY_2025);
    assert_eq!(sgx(&named).unwrap().platform().status(), Some(status));
    let strict = Policy { refused_advisories: ["INTEL-SA-00615".to_owned()].into(), ..named.clone() };
    assert_eq!(sgx(&strict), Err(Refusal::Advisory { found: "INTEL-SA-00615".to_owned() }));
    let other = Policy { refused_advisories: ["INTEL-SA-00001".to_owned()].into(), ..named };
    assert!(sgx(&other).is_ok());
}

#[test]
fn every_flipped_byte_of_what_is_signed_is_refused() {
    let collateral = collateral(TDX);
    // Header and body, and the signature's parts after them; what the certificates' text says is in the chain's check.
    for at in (0..1600).step_by(13) {
        let mut bytes = TDX.0.to_vec();
        bytes[at] ^= 1;
        let Ok(quote) = Quote::parse(&bytes) else { continue };
        let report_data = *quote.claims().measurements.report_data();
        let outcome =
            Verifier::new(Root::Intel).appraise(&quote, &report_data, &collateral, &any(), JULY_2025);
        assert!(outcome.is_err(), "byte {at}");
    }
}

#[test]
fn evidence_for_another_key_is_refused() {
    let quote = Quote::parse(TDX.0).unwrap();
    let (verifier, collateral) = (Verifier::new(Root::Intel), collateral(TDX));
    let outcome = verifier.appraise(&quote, &[7; 64], &collateral, &any(), JULY_2025);
    let Err(Refusal::ReportData { expected, found }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((*expected, &*found), ([7; 64], quote.claims().measurements.report_data()));
}

#[test]
fn a_guest_under_debug_is_refused_before_anything_is_verified() {
    let mut bytes = TDX.0.to_vec();
    bytes[48 + 120] |= 1;
    let outcome = appraise(&bytes, &collateral(TDX), &any(), JULY_2025);
    assert!(matches!(outcome, Err(Refusal::Debug { .. })), "{outcome:?}");
}

#[test]
fn collateral_that_is_expired_of_another_platform_or_changed_is_refused() {
    let tdx = |collateral: &Collateral, now| appraise(TDX.0, collateral, &any(), now);
    let month = Duration::from_secs(31 * 86_400);
    unverified(tdx(&collateral(TDX), JULY_2025 + month));
    unverified(tdx(&collateral(TDX), JULY_2025 - month));
    unverified(tdx(&collateral(SGX), JULY_2025));
    unverified(tdx(&collateral(TDX_15), OCTOBER_2026));
    let changed = TDX.1.replace("\\\"tcbStatus\\\":\\\"OutOfDate\\\"", "\\\"tcbStatus\\\":\\\"UpToDate\\\"");
    assert_ne!(changed, TDX.1);
    unverified(tdx(&Collateral::from_json(&changed).unwrap(), JULY_2025));
}

#[test]
fn another_root_is_another_world() {
    let quote = Quote::parse(TDX.0).unwrap();
    let report_data = *quote.claims().measurements.report_data();
    // Any certificate that did not sign Intel's: the one of the platform's own authority.
    for root in [vec![], INTEL_ROOT[..600].to_vec()] {
        let verifier = Verifier::new(Root::Other(root));
        unverified(verifier.appraise(&quote, &report_data, &collateral(TDX), &any(), JULY_2025));
    }
    let same = Verifier::new(Root::Other(INTEL_ROOT.to_vec()));
    assert!(same.appraise(&quote, &report_data, &collateral(TDX), &any(), JULY_2025).is_ok());
}

#[test]
fn each_line_of_a_policy_refuses_and_accepts() {
    let accepted = appraise(TDX.0, &collateral(TDX), &any(), JULY_2025).unwrap();
    let Measurements::Tdx(guest) = &accepted.claims().measurements else { panic!("a guest") };
    let (image, platform) = (accepted.image(), accepted.platform().clone());
    let none = Register::new([0; 48]);
    type Change = Box<dyn Fn(bool) -> Policy>;
    let (mrtd, rtmrs) = (guest.mrtd(), guest.rtmrs());
    let (id, root) = (platform.id, platform.root_key);
    let lines: [(Change, &str); 7] = [
        (
            Box::new(move |is_it| Policy { tees: [if is_it { Tee::Tdx } else { Tee::Sgx }].into(), ..any() }),
            "tees",
        ),
        (Box::new(move |is_it| Policy { images: Allowed::only(is_it.then_some(image)), ..any() }), "image"),
        (
            Box::new(move |is_it| Policy {
                mrtds: Allowed::only([if is_it { mrtd } else { none }]),
                ..any()
            }),
            "mrtds",
        ),
        (
            Box::new(move |is_it| Policy {
                rtmrs: Allowed::only([if is_it { rtmrs } else { [none; 4] }]),
                ..any()
            }),
            "rtmrs",
        ),
        (
            Box::new(move |is_it| Policy {
                root_keys: Allowed::only([if is_it { root } else { none }]),
                ..any()
            }),
            "root_keys",
        ),
        (
            Box::new(move |is_it| Policy { evaluation_number_min: if is_it { 17 } else { 18 }, ..any() }),
            "evaluation",
        ),
        (
            Box::new(move |is_it| Policy { platforms: Allowed::only(is_it.then_some(id)), ..any() }),
            "platforms",
        ),
    ];
    for (policy, word) in lines {
        let appraise = |is_it| appraise(TDX.0, &collateral(TDX), &policy(is_it), JULY_2025);
        assert_eq!(appraise(true).as_ref(), Ok(&accepted), "{word}");
        let said = appraise(false).unwrap_err().to_string();
        assert!(said.contains(word), "{word}: {said}");
    }
    let nothing = Policy { statuses: [].into(), ..any() };
    assert!(matches!(
        appraise(TDX.0, &collateral(TDX), &nothing, JULY_2025),
        Err(Refusal::Status { found: TcbStatus::UpToDate, .. })
    ));
}

#[test]
fn a_text_that_is_no_collateral_is_refused() {
    assert!(matches!(Collateral::from_json("{}"), Err(CollateralError::Json(_))));
    let long = " ".repeat(Collateral::LEN_MAX + 1);
    assert!(matches!(Collateral::from_json(&long), Err(CollateralError::TooLong { .. })));
}

#[test]
fn what_was_verified_holds_until_what_the_vendor_said_lapses() {
    let quote = Quote::parse(TDX.0).unwrap();
    let report_data = *quote.claims().measurements.report_data();
    let verified = Verifier::new(Root::Intel).verify(&quote, &collateral(TDX), JULY_2025).unwrap();
    let until = verified.valid_until();
    let last = until - Duration::from_secs(1);
    assert_eq!(any().appraise(verified.clone(), &report_data, last).as_deref(), Ok(&verified));
    let refused = any().appraise(verified.clone(), &report_data, until);
    assert_eq!(refused, Err(Refusal::Lapsed { valid_until: until, now: until }));
    // What one policy accepts is nothing to another.
    let none = Policy::for_images(Allowed::only([]));
    assert_eq!(
        none.appraise(verified.clone(), &report_data, last),
        Err(Refusal::Image { found: verified.image() })
    );
}

#[test]
fn collateral_says_when_it_is_renewed() {
    let next = |recorded| collateral(recorded).next_update().unwrap();
    assert!((JULY_2025..JULY_2025 + Duration::from_secs(30 * 86_400)).contains(&next(TDX)));
    let undated = TDX.1.replace("nextUpdate", "mextUpdate");
    assert_eq!(Collateral::from_json(&undated).unwrap().next_update(), None);
}

#[test]
fn a_platform_of_the_vendors_is_recognised_without_collateral() {
    let intel = Verifier::new(Root::Intel);
    for (recorded, now) in [(TDX, JULY_2025), (TDX_15, OCTOBER_2026), (SGX, MARCH_2026)] {
        let quote = Quote::parse(recorded.0).unwrap();
        assert_eq!(intel.check_platform(&quote, now), Ok(()));
        let other = Verifier::new(Root::Other(quote.certificates()[0].clone()));
        assert!(matches!(other.check_platform(&quote, now), Err(Refusal::Unverified { .. })));
        let late = now + Duration::from_secs(40 * 365 * 86_400);
        assert!(matches!(intel.check_platform(&quote, late), Err(Refusal::Unverified { .. })));
    }
}

#[test]
fn a_platform_that_somebody_made_up_is_not() {
    let intel = Verifier::new(Root::Intel);
    let quote = Quote::parse(TDX.0).unwrap();
    let pem = quote.as_bytes().windows(10).position(|bytes| bytes == b"-----BEGIN").unwrap();
    // Letters of the first certificate: its signed part, or its signature.
    for at in [pem + 300, pem + 1500] {
        let mut changed = quote.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = Quote::parse(&changed).unwrap();
        let refused = intel.check_platform(&changed, JULY_2025);
        assert!(matches!(refused, Err(Refusal::Unverified { .. })), "{at}: {refused:?}");
    }
}
