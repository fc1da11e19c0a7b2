//! A recorded report of a Milan processor and recorded certificates of Milan and Turin, each accepted case with its refused twins;
//! and what only a simulated vendor can show.

mod platform;

use std::time::Duration;

use platform::{CHIP, Revocations, TCB, VENDOR};

use super::*;
use crate::appraise::{Appraised, Firmware};
use crate::measurements::{Hex, Measurements, PlatformId, Register};
use crate::policy::{Allowed, Policy};
use crate::quote::Tee;
use crate::refusal::Refusal;

const MILAN: &[u8] = include_bytes!("../../../../spec/vectors/quotes/snp_milan.dat");
const MILAN_PEM: &[u8] = include_bytes!("../../../../spec/vectors/quotes/snp_milan.certificates.pem");
const TURIN_PEM: &[u8] = include_bytes!("../../../../spec/vectors/quotes/snp_turin.certificates.pem");

/// 2024-07-01, when all certificates here are valid.
const JULY_2024: Duration = Duration::from_secs(1_719_792_000);
/// 2025-07-01: the simulated ones are not any longer, those of Turin are.
const JULY_2025: Duration = Duration::from_secs(1_751_328_000);

fn milan() -> SnpCertificates {
    SnpCertificates::from_pem(MILAN_PEM).unwrap()
}

fn turin() -> SnpCertificates {
    SnpCertificates::from_pem(TURIN_PEM).unwrap()
}

/// As new as the recorded Milan's firmware, and the simulated Genoa's.
fn floors() -> TcbFloors {
    TcbFloors {
        milan: Some(SnpTcb { fmc: 0, bootloader: 3, tee: 0, snp: 8, microcode: 0x73 }),
        genoa: Some(SnpTcb::from_bytes(SnpProduct::Genoa, TCB)),
        turin: None,
    }
}

/// What the recorded report needs beyond the defaults: its guest allows two threads on a core, its firmware tells of no protections, and
/// no list came with it.
fn lenient() -> SnpPolicy {
    SnpPolicy {
        smt: true,
        platform_info_required: [].into(),
        revocations_required: false,
        ..SnpPolicy::for_firmware(floors())
    }
}

fn policy(snp: SnpPolicy) -> Policy {
    Policy { tees: [Tee::Snp].into(), snp: Some(snp), ..Policy::for_images(Allowed::default()) }
}

fn recorded(policy: &Policy) -> Result<Appraised, Refusal> {
    let report = SnpReport::parse(MILAN).unwrap();
    let report_data = *report.claims().measurements.report_data();
    SnpVerifier::new(SnpRoot::Amd).appraise(&report, &report_data, &milan(), policy, JULY_2024)
}

fn refused(report: &SnpReport, root: SnpRoot, certificates: &SnpCertificates, now: Duration) -> SnpRefusal {
    match SnpVerifier::new(root).verify(report, certificates, now) {
        Err(Refusal::Snp(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// What becomes of a report that a simulated processor signed.
fn simulated(
    report: &SnpReport,
    certificates: &SnpCertificates,
    snp: SnpPolicy,
) -> Result<Appraised, Refusal> {
    let report_data = *report.claims().measurements.report_data();
    SnpVerifier::new(VENDOR.root()).appraise(report, &report_data, certificates, &policy(snp), JULY_2024)
}

fn simulated_refusal(report: &SnpReport, certificates: &SnpCertificates, snp: SnpPolicy) -> SnpRefusal {
    match simulated(report, certificates, snp) {
        Err(Refusal::Snp(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_recorded_report_is_genuine_and_says_what_it_says() {
    let appraised = recorded(&policy(lenient())).unwrap();
    let Firmware::Amd(platform) = &appraised.platform().firmware else { panic!("{appraised:?}") };
    assert_eq!((platform.product, platform.vmpl, platform.has_revocations), (SnpProduct::Milan, 0, false));
    let tcb = floors().milan.unwrap();
    let SnpTcbs { reported, current, committed, launch } = platform.tcbs;
    assert_eq!([reported, current, committed, launch], [tcb; 4]);
    assert_eq!(appraised.platform().status(), None, "AMD judges no firmware");
    // AMD's root for Milan, by the SHA-384 of its key.
    let root = appraised.platform().root_key;
    assert_eq!(
        recorded(&Policy { root_keys: Allowed::only([root]), ..policy(lenient()) }),
        Ok(appraised.clone())
    );
    // The processor's certificate lapses first: 2030-04-03T19:23:43Z.
    assert_eq!(appraised.valid_until(), Duration::from_secs(1_901_474_623));
}

#[test]
fn recorded_certificates_of_turin_lead_to_its_root() {
    let verifier = SnpVerifier::new(SnpRoot::Amd);
    let authority = verifier.authority(SnpProduct::Turin, &turin().ask, None, JULY_2025).unwrap();
    let vcek = authority.vcek(&turin().vcek, JULY_2025).ok().unwrap();
    assert_eq!(vcek.product, SnpProduct::Turin);
    assert_eq!(vcek.tcb, SnpTcb { fmc: 0, bootloader: 0, tee: 0, snp: 0, microcode: 9 });
    assert_eq!(vcek.chip_id.as_bytes()[..8], [0x1e, 0x55, 0x0a, 0x8e, 0xe5, 0xcf, 0x9f, 0x4d]);
    assert_eq!(vcek.chip_id.as_bytes()[8..], [0; 56]);
    assert_eq!(
        SnpTcb::from_bytes(SnpProduct::Turin, [1, 2, 3, 4, 0, 0, 0, 9]),
        SnpTcb { fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 9 }
    );
}

#[test]
fn every_flipped_byte_of_a_report_is_refused() {
    let (verifier, certificates) = (SnpVerifier::new(SnpRoot::Amd), milan());
    for at in 0..SnpReport::LEN {
        let mut bytes = MILAN.to_vec();
        bytes[at] ^= 0x10;
        let Ok(report) = SnpReport::parse(&bytes) else { continue };
        assert!(verifier.verify(&report, &certificates, JULY_2024).is_err(), "byte {at:#x}");
    }
}

#[test]
fn flipped_bytes_of_what_is_signed_in_certificates_are_refused() {
    let (verifier, report) = (SnpVerifier::new(SnpRoot::Amd), SnpReport::parse(MILAN).unwrap());
    let good = milan();
    for at in (4..good.vcek.len()).step_by(11) {
        let mut certificates = good.clone();
        certificates.vcek[at] ^= 1;
        assert!(verifier.verify(&report, &certificates, JULY_2024).is_err(), "VCEK {at}");
    }
    for at in (4..good.ask.len()).step_by(11) {
        let mut certificates = good.clone();
        certificates.ask[at] ^= 1;
        assert!(verifier.verify(&report, &certificates, JULY_2024).is_err(), "ASK {at}");
    }
}

#[test]
fn reports_have_one_length_and_plain_sev_is_named() {
    for len in (0..SnpReport::LEN).filter(|len| *len != 208) {
        assert_eq!(SnpReport::parse(&MILAN[..len]), Err(SnpReportError::Length { found: len }));
    }
    let long = [MILAN, &[0]].concat();
    assert_eq!(SnpReport::parse(&long), Err(SnpReportError::Length { found: SnpReport::LEN + 1 }));
    let plain = SnpReport::parse(&MILAN[..208]).unwrap_err();
    assert!(plain.to_string().contains("plain SEV or SEV-ES"), "{plain}");
    let changed = |at: usize, byte| {
        let mut bytes = MILAN.to_vec();
        bytes[at] = byte;
        SnpReport::parse(&bytes).unwrap_err()
    };
    for version in [0, 1, 6] {
        assert_eq!(changed(0, version), SnpReportError::Version { found: version.into() });
    }
    assert_eq!(changed(0x34, 2), SnpReportError::SignatureAlgorithm { found: 2 });
    for at in [0x2d0, 0x318, 0x330, SnpReport::LEN - 1] {
        assert_eq!(changed(at, 1), SnpReportError::Signature);
    }
}

#[test]
fn certificates_of_another_processor_product_or_root_are_refused() {
    let report = SnpReport::parse(MILAN).unwrap();
    let refused = |root, certificates: &SnpCertificates| refused(&report, root, certificates, JULY_2025);
    assert!(matches!(refused(SnpRoot::Amd, &turin()), SnpRefusal::Chip { .. }));
    let mixed = SnpCertificates { ask: turin().ask, ..milan() };
    assert!(matches!(refused(SnpRoot::Amd, &mixed), SnpRefusal::Signature { .. }));
    let swapped = SnpCertificates { ask: milan().vcek, vcek: milan().ask, revocations: None };
    assert!(matches!(refused(SnpRoot::Amd, &swapped), SnpRefusal::Extension { .. }));
    let other = SnpRoot::Other(SnpRoot::Amd.of(SnpProduct::Turin).to_vec());
    assert!(matches!(refused(other, &milan()), SnpRefusal::Signature { which: SnpCertificate::Ask, .. }));
    let none = refused(SnpRoot::Other(vec![]), &milan());
    assert_eq!(none, SnpRefusal::Malformed { which: SnpCertificate::Ark });
    let same = SnpRoot::Other(SnpRoot::Amd.of(SnpProduct::Milan).to_vec());
    assert!(SnpVerifier::new(same).verify(&report, &milan(), JULY_2025).is_ok());
    // The other vendor's, whose root is no input.
    let refusal =
        SnpVerifier::new(SnpRoot::Amd).verify(&VENDOR.report(|_bytes| {}), &VENDOR.certificates(), JULY_2024);
    assert!(matches!(refusal, Err(Refusal::Snp(SnpRefusal::Signature { .. }))), "{refusal:?}");
}

#[test]
fn certificates_hold_for_their_time_only() {
    let report = SnpReport::parse(MILAN).unwrap();
    let at = |seconds| refused(&report, SnpRoot::Amd, &milan(), Duration::from_secs(seconds));
    let which = SnpCertificate::Vcek;
    assert!(matches!(at(1_901_474_624), SnpRefusal::Expired { which: found, .. } if found == which));
    assert!(matches!(at(1_680_549_822), SnpRefusal::NotYetValid { which: found, .. } if found == which));
    let verifier = SnpVerifier::new(SnpRoot::Amd);
    for edge in [1_680_549_823, 1_901_474_623] {
        assert!(verifier.verify(&report, &milan(), Duration::from_secs(edge)).is_ok());
    }
    // What was verified in time does not hold for ever either.
    let verified = verifier.verify(&report, &milan(), JULY_2024).unwrap();
    let report_data = *report.claims().measurements.report_data();
    let late = policy(lenient()).appraise(verified, &report_data, Duration::from_secs(1_901_474_624));
    assert!(matches!(late, Err(Refusal::Lapsed { .. })), "{late:?}");
}

#[test]
fn each_line_of_a_policy_refuses_and_accepts() {
    let accepted = recorded(&policy(lenient())).unwrap();
    let Measurements::Snp(guest) = &accepted.claims().measurements else { panic!("a guest") };
    let measurement = Hex::new(guest.measurement);
    let (image, id) = (accepted.image(), accepted.platform().id);
    let with = |change: &dyn Fn(&mut Policy)| {
        let mut policy = policy(lenient());
        change(&mut policy);
        recorded(&policy)
    };
    let snp = |change: &dyn Fn(&mut SnpPolicy)| with(&|policy| change(policy.snp.as_mut().unwrap()));
    let same = [
        with(&|policy| policy.images = Allowed::only([image])),
        with(&|policy| policy.platforms = Allowed::only([id])),
        snp(&|snp| snp.measurements = Allowed::only([measurement])),
        snp(&|snp| snp.vmpls = Vmpl::ALL.into()),
    ];
    assert!(same.iter().all(|outcome| outcome.as_ref() == Ok(&accepted)), "{same:?}");
    let none = Register::new([0; 48]);
    let alias_check = SnpPolicy::for_firmware(floors()).platform_info_required;
    let refused = [
        (with(&|policy| policy.tees = [Tee::Tdx].into()), "tees"),
        (with(&|policy| policy.images = Allowed::only([])), "image"),
        (with(&|policy| policy.root_keys = Allowed::only([none])), "root_keys"),
        (with(&|policy| policy.platforms = Allowed::only([PlatformId::new([0; 16])])), "platforms"),
        (with(&|policy| policy.snp = None), "[snp]"),
        (snp(&|snp| snp.measurements = Allowed::only([none])), "snp.measurements"),
        (snp(&|snp| snp.measurements = Allowed::only([none])), "accepts one of [000000"),
        (snp(&|snp| snp.vmpls = [Vmpl::ALL[1]].into()), "snp.vmpls"),
        (snp(&|snp| snp.vmpls = Vmpl::ALL[1..].iter().copied().collect()), "accepts one of [1, 2, 3]"),
        (snp(&|snp| snp.smt = false), "snp.smt"),
        (snp(&|snp| snp.platform_info_required = alias_check.clone()), "alias_check_complete (bit 5"),
        (snp(&|snp| snp.revocations_required = true), "snp.revocations_required"),
        (snp(&|snp| snp.tcb_min = TcbFloors::default()), "snp.tcb_min"),
        (snp(&|snp| snp.tcb_min.milan.as_mut().unwrap().microcode += 1), "update the platform's firmware"),
    ];
    for (outcome, word) in refused {
        let said = outcome.unwrap_err().to_string();
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_policy_says_which_firmware_and_knows_no_other_keys() {
    let floor = "fmc = 0\nbootloader = 3\ntee = 0\nsnp = 8\nmicrocode = 115";
    let read = |snp: &str| toml::from_str::<Policy>(&format!("tees = [\"snp\"]\nimages = \"any\"\n{snp}"));
    let least = read(&format!("[snp.tcb_min.milan]\n{floor}")).unwrap();
    let milan_only = TcbFloors { genoa: None, ..floors() };
    assert_eq!(least, policy(SnpPolicy::for_firmware(milan_only)));
    assert_eq!(toml::from_str::<Policy>(&toml::to_string(&least).unwrap()).unwrap(), least);
    for refused in [
        "[snp]\nsmt = true".to_owned(),
        "[snp]\nvmpl = 0\n[snp.tcb_min]".to_owned(),
        "[snp]\ntcb_min = {}\nvmpls = [4]".to_owned(),
        "[snp]\ntcb_min = {}\nplatform_info_required = [\"smt\"]".to_owned(),
        "[snp]\ntcb_min = {}\nplatform_info_required = [5]".to_owned(),
        "[snp]\ntcb_min = {}\nvmpls = [4294967295]".to_owned(),
        format!("[snp.tcb_min.rome]\n{floor}"),
        format!("[snp.tcb_min.milan]\n{floor}\nspl = 1"),
        "[snp.tcb_min.turin]\nbootloader = 3\ntee = 0\nsnp = 8\nmicrocode = 115".to_owned(),
    ] {
        assert!(read(&refused).is_err(), "{refused}");
    }
    let all = read("[snp]\ntcb_min = {}\nvmpls = [0, 1, 2, 3]").unwrap().snp.unwrap();
    assert_eq!(all.vmpls, Vmpl::ALL.into());
    assert_eq!(all.platform_info_required, [PlatformInfoBit::AliasCheckComplete].into());
    let names = PlatformInfoBit::ALL.map(|bit| format!("\"{bit}\"")).join(", ");
    let required = read(&format!("[snp]\ntcb_min = {{}}\nplatform_info_required = [{names}]"));
    assert_eq!(required.unwrap().snp.unwrap().platform_info_required, PlatformInfoBit::ALL.into());
    // The shortest that can be said accepts no processor at all.
    assert_eq!(read("[snp]\ntcb_min = {}").unwrap().snp.unwrap().tcb_min, TcbFloors::default());
}

#[test]
fn a_report_names_the_key_that_signed_it() {
    let report = SnpReport::parse(MILAN).unwrap();
    let id = report.vcek_id().unwrap();
    assert_eq!(
        id.products().collect::<Vec<_>>(),
        [SnpProduct::Milan, SnpProduct::Genoa],
        "version 2 says none"
    );
    assert_eq!(id.chip_id(SnpProduct::Milan), report.chip_id().to_string());
    assert_eq!(id.tcb(SnpProduct::Milan), report.tcbs(SnpProduct::Milan).reported);
    let genoa = VENDOR.report(|_bytes| {}).vcek_id().unwrap();
    assert_eq!(genoa.products().collect::<Vec<_>>(), [SnpProduct::Genoa]);
    let of_turin = |change: &dyn Fn(&mut [u8; SnpReport::LEN])| {
        let report = VENDOR.report(|bytes| {
            bytes[0x188] = 0x1a;
            bytes[0x1a8..0x1e0].fill(0);
            bytes[0x180..0x188].copy_from_slice(&[1, 2, 3, 4, 0, 0, 0, 9]);
            change(bytes);
        });
        report.vcek_id()
    };
    let turin = of_turin(&|_bytes| {}).unwrap();
    assert_eq!(turin.products().collect::<Vec<_>>(), [SnpProduct::Turin]);
    assert_eq!(turin.chip_id(SnpProduct::Turin), "c1".repeat(8));
    // What AMD is not asked by tells no keys apart.
    for at in [0x1a8, 0x1df] {
        let reserved = of_turin(&|bytes| bytes[at] = 1);
        assert!(matches!(reserved, Err(SnpRefusal::Reserved { field: "CHIP_ID", .. })), "{reserved:?}");
    }
    let reserved = [0x184, 0x186].map(|at| of_turin(&|bytes| bytes[at] = 1));
    let of_genoa = [0x182, 0x185].map(|at| VENDOR.report(|bytes| bytes[at] = 1).vcek_id());
    for reserved in reserved.into_iter().chain(of_genoa) {
        assert!(matches!(reserved, Err(SnpRefusal::Reserved { field: "REPORTED_TCB", .. })), "{reserved:?}");
    }
    let other_tcb = VENDOR.report(|bytes| bytes[0x187] += 1).vcek_id().unwrap();
    assert_ne!(other_tcb.to_string(), genoa.to_string());
    let refused = |change: &dyn Fn(&mut [u8; SnpReport::LEN])| VENDOR.report(change).vcek_id().unwrap_err();
    let (family, model) = (0x17, 0x11);
    assert_eq!(refused(&|bytes| bytes[0x188] = family), SnpRefusal::UnknownProduct { family, model });
    assert_eq!(refused(&|bytes| bytes[0x1a0..0x1e0].fill(0)), SnpRefusal::ChipMasked);
    assert_eq!(refused(&|bytes| bytes[0x48] = 1 << 2), SnpRefusal::SigningKey { found: 1 });
}

#[test]
fn what_a_report_says_itself_is_refused_before_anybody_is_asked() {
    let all = policy(SnpPolicy { smt: false, ..lenient() });
    let screen = |policy: &Policy, change: &dyn Fn(&mut [u8; SnpReport::LEN])| {
        let report = VENDOR.report(change);
        policy.screen_report(&report, report.claims().measurements.report_data())
    };
    assert_eq!(screen(&all, &|_bytes| {}), Ok(()));
    assert_eq!(screen(&all, &|bytes| bytes[0] = 2), Ok(()), "of Milan or Genoa, and new enough for either");
    let refused = |change: &dyn Fn(&mut [u8; SnpReport::LEN])| match screen(&all, change) {
        Err(Refusal::Snp(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(&|bytes| bytes[0x0a] |= 1), SnpRefusal::Smt { .. }));
    assert!(matches!(refused(&|bytes| bytes[0x0a] |= 4), SnpRefusal::MigrationAgent { .. }));
    assert!(matches!(refused(&|bytes| bytes[0x30] = 1), SnpRefusal::Vmpl { found: 1, .. }));
    assert!(matches!(refused(&|bytes| bytes[0x48] = 1 << 2), SnpRefusal::SigningKey { found: 1 }));
    assert!(matches!(refused(&|bytes| bytes[0x187] -= 1), SnpRefusal::Tcb { which: "reported", .. }));
    // Too old for a Milan, and a Genoa that is older.
    let old = refused(&|bytes| {
        bytes[0] = 2;
        bytes[0x187] = 0;
    });
    assert!(matches!(old, SnpRefusal::Tcb { which: "reported", .. }), "{old:?}");
    let milan_only = TcbFloors { genoa: None, ..floors() };
    let milan_only = policy(SnpPolicy { tcb_min: milan_only, ..lenient() });
    let genoa = screen(&milan_only, &|_bytes| {});
    assert_eq!(genoa, Err(Refusal::Snp(SnpRefusal::NoFloor { product: SnpProduct::Genoa })));
    let none = Policy { snp: None, ..all.clone() };
    assert_eq!(screen(&none, &|_bytes| {}), Err(Refusal::Snp(SnpRefusal::NoPolicy)));
}

#[test]
fn a_policy_names_such_guests_in_both_places_or_in_none() {
    let read = |text: &str| toml::from_str::<Policy>(&format!("images = \"any\"\n{text}"));
    let table = "[snp]\ntcb_min = {}";
    assert!(read(&format!("tees = [\"snp\"]\n{table}")).is_ok());
    assert!(read("tees = [\"tdx\"]").is_ok());
    let without_table = read("tees = [\"tdx\", \"snp\"]").unwrap_err().to_string();
    assert!(without_table.contains("no table [snp]"), "{without_table}");
    let without_name = read(&format!("tees = [\"tdx\"]\n{table}")).unwrap_err().to_string();
    assert!(without_name.contains("does not name"), "{without_name}");
}

#[test]
fn a_processors_certificate_is_verified_without_a_report() {
    let verifier = SnpVerifier::new(VENDOR.root());
    let list = Revocations { serials: vec![], next_update: "240801", is_by_root: true };
    let certificates = VENDOR.certificates_with(|_extensions| {}, Some(&list));
    let authority = |revocations: Option<&[u8]>| {
        verifier.authority(SnpProduct::Genoa, &certificates.ask, revocations, JULY_2024).unwrap()
    };
    let (listed, unlisted) = (authority(certificates.revocations.as_deref()), authority(None));
    assert!(listed.has_revocations() && !unlisted.has_revocations());
    // 2024-08-01, when the simulated list ends, and 2025-01-01, when the certificates do.
    let ends = [1_722_470_400, 1_735_689_600].map(Duration::from_secs);
    assert_eq!([listed.valid_until(), unlisted.valid_until()], ends);
    let id = VENDOR.report(|_bytes| {}).vcek_id().unwrap();
    let check = |id: &VcekId| unlisted.check_vcek(&certificates.vcek, id, JULY_2024);
    assert_eq!(check(&id), Ok(ends[1]));
    let other_chip = VENDOR.report(|bytes| bytes[0x1a0] = 0).vcek_id().unwrap();
    assert!(matches!(check(&other_chip), Err(SnpRefusal::Chip { .. })));
    let other_tcb = VENDOR.report(|bytes| bytes[0x187] += 1).vcek_id().unwrap();
    assert!(matches!(check(&other_tcb), Err(SnpRefusal::OtherTcb { .. })));
    let other_product = VENDOR.report(|bytes| bytes[0x189] = 1).vcek_id().unwrap();
    assert!(matches!(check(&other_product), Err(SnpRefusal::OtherProduct { .. })));
    let other_root =
        SnpVerifier::new(SnpRoot::Amd).authority(SnpProduct::Genoa, &certificates.ask, None, JULY_2024);
    assert!(matches!(other_root, Err(SnpRefusal::Signature { .. })), "{other_root:?}");
    let as_milan = verifier.authority(SnpProduct::Milan, &certificates.ask, None, JULY_2024).unwrap();
    let as_milan = as_milan.check_vcek(&certificates.vcek, &id, JULY_2024);
    assert!(matches!(as_milan, Err(SnpRefusal::Signature { .. })), "{as_milan:?}");
}

#[test]
fn simulated_guests_are_accepted_as_recorded_ones_are() {
    let strict = || SnpPolicy { revocations_required: false, ..SnpPolicy::for_firmware(floors()) };
    let appraise = |report| simulated(&report, &VENDOR.certificates(), strict());
    let appraised = appraise(VENDOR.report(|_bytes| {})).unwrap();
    assert_eq!(appraised.platform().id, PlatformId::of_chip(&Hex::new(CHIP)));
    for version in [2, 4, 5] {
        assert!(appraise(VENDOR.report(|bytes| bytes[0] = version)).is_ok());
    }
    // Newer firmware everywhere but in the part that signed.
    let newer = VENDOR.report(|bytes| bytes[0x38 + 7] += 1);
    assert!(appraise(newer).is_ok());
}

#[test]
fn what_a_host_may_do_to_a_guest_decides() {
    let appraise = |change: &dyn Fn(&mut [u8; SnpReport::LEN])| {
        simulated(&VENDOR.report(change), &VENDOR.certificates(), lenient())
    };
    assert!(appraise(&|bytes| bytes[0x0a] |= 1).is_ok(), "two threads, where the policy has it");
    let debug = appraise(&|bytes| bytes[0x0a] |= 8);
    assert_eq!(debug, Err(Refusal::Debug { attributes: 0x000a_0000 }));
    let snp = |change: &dyn Fn(&mut [u8; SnpReport::LEN])| match appraise(change) {
        Err(Refusal::Snp(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(snp(&|bytes| bytes[0x0a] |= 4), SnpRefusal::MigrationAgent { bits: 0x0006_0000 });
    assert_eq!(snp(&|bytes| bytes[0x0b] |= 4), SnpRefusal::UnknownPolicy { bits: 0x0400_0000 });
    assert_eq!(snp(&|bytes| bytes[0x0f] |= 0x80), SnpRefusal::UnknownPolicy { bits: 1 << 63 });
    let vmpl = |found| SnpRefusal::Vmpl { expected: "one of [0]".to_owned(), found };
    assert_eq!(snp(&|bytes| bytes[0x30] = 1), vmpl(1));
    assert_eq!(snp(&|bytes| bytes[0x30..0x34].fill(0xff)), vmpl(u32::MAX));
}

#[test]
fn a_report_is_of_the_processor_and_firmware_of_its_certificate() {
    let snp = |change: &dyn Fn(&mut [u8; SnpReport::LEN])| {
        simulated_refusal(&VENDOR.report(change), &VENDOR.certificates(), lenient())
    };
    assert_eq!(snp(&|bytes| bytes[0x1a0..0x1e0].fill(0)), SnpRefusal::ChipMasked);
    assert!(matches!(snp(&|bytes| bytes[0x1a0] = 0), SnpRefusal::Chip { .. }));
    assert_eq!(
        snp(&|bytes| bytes[0x189] = 1),
        SnpRefusal::OtherProduct { report: "Milan".to_owned(), certificate: SnpProduct::Genoa }
    );
    assert_eq!(snp(&|bytes| bytes[0x48] = 1 << 2), SnpRefusal::SigningKey { found: 1 });
    assert_eq!(snp(&|bytes| bytes[0x48] = 7 << 2), SnpRefusal::SigningKey { found: 7 });
    // Higher than what the key was made for is refused as lower is: the number must be the signer's.
    for microcode in [212, 214] {
        let report = VENDOR.report(|bytes| bytes[0x187] = microcode);
        let refusal = refused(&report, VENDOR.root(), &VENDOR.certificates(), JULY_2024);
        assert!(matches!(refusal, SnpRefusal::OtherTcb { .. }), "{refusal:?}");
    }
}

#[test]
fn every_part_of_every_firmware_has_a_floor() {
    for (which, at) in [("current", 0x38), ("committed", 0x1e0), ("launch", 0x1f0)] {
        for part in [0, 1, 6, 7] {
            let older = VENDOR.report(|bytes| bytes[at + part] -= 1);
            let refusal = simulated_refusal(&older, &VENDOR.certificates(), lenient());
            let SnpRefusal::Tcb { which: found, .. } = refusal else { panic!("{refusal:?}") };
            assert_eq!(found, which);
        }
    }
    let mut newer = lenient();
    newer.tcb_min.genoa.as_mut().unwrap().snp += 1;
    let refusal = simulated_refusal(&VENDOR.report(|_bytes| {}), &VENDOR.certificates(), newer);
    assert!(matches!(refusal, SnpRefusal::Tcb { which: "reported", .. }), "{refusal:?}");
}

#[test]
fn a_machine_has_the_protections_that_a_policy_asks_for() {
    let strict = SnpPolicy { revocations_required: false, ..SnpPolicy::for_firmware(floors()) };
    let appraise = |platform_info, platform_info_required| {
        let report = VENDOR.report(|bytes| bytes[0x40] = platform_info);
        simulated(&report, &VENDOR.certificates(), SnpPolicy { platform_info_required, ..strict.clone() })
    };
    for (bit, mask) in PlatformInfoBit::ALL.into_iter().zip([0x02, 0x04, 0x08, 0x10, 0x20]) {
        assert!(appraise(mask, [bit].into()).is_ok(), "{bit}");
        let refusal = SnpRefusal::PlatformInfo { expected: bit, found: (!mask).into() };
        assert_eq!(appraise(!mask, [bit].into()), Err(Refusal::Snp(refusal)), "{bit}");
    }
    assert!(appraise(0, [].into()).is_ok());
    assert!(appraise(0xff, PlatformInfoBit::ALL.into()).is_ok());
}

#[test]
fn what_the_root_took_back_is_refused() {
    let report = VENDOR.report(|_bytes| {});
    let list = |serials: &[u8], next_update, is_by_root| {
        let list = Revocations { serials: serials.to_vec(), next_update, is_by_root };
        VENDOR.certificates_with(|_extensions| {}, Some(&list))
    };
    let required = SnpPolicy { smt: true, ..SnpPolicy::for_firmware(floors()) };
    for good in [list(&[], "240801", true), list(&[6, 8], "240801", true)] {
        let appraised = simulated(&report, &good, required.clone()).unwrap();
        // The list lapses before the certificates: 2024-08-01.
        assert_eq!(appraised.valid_until(), Duration::from_secs(1_722_470_400));
    }
    let refusal = |certificates: &SnpCertificates| simulated_refusal(&report, certificates, required.clone());
    assert_eq!(refusal(&list(&[6, 7], "240801", true)), SnpRefusal::Revoked { serial: "07".to_owned() });
    let which = SnpCertificate::RevocationList;
    assert!(
        matches!(refusal(&list(&[], "240601", true)), SnpRefusal::Expired { which: found, .. } if found == which)
    );
    assert!(
        matches!(refusal(&list(&[], "240801", false)), SnpRefusal::Signature { which: found, .. } if found == which)
    );
    assert_eq!(refusal(&VENDOR.certificates()), SnpRefusal::NoRevocations);
    let garbage = SnpCertificates { revocations: Some(vec![0x30, 0]), ..VENDOR.certificates() };
    assert_eq!(refusal(&garbage), SnpRefusal::Malformed { which });
}

#[test]
fn a_processors_certificate_says_each_thing_once_and_readably() {
    let report = VENDOR.report(|_bytes| {});
    let refusal = |change: &dyn Fn(&mut Vec<platform::Extension>)| {
        simulated_refusal(&report, &VENDOR.certificates_with(change, None), lenient())
    };
    for at in 0..6 {
        let missing = refusal(&|extensions| drop(extensions.remove(at)));
        assert!(matches!(missing, SnpRefusal::Extension { .. }), "{at}: {missing:?}");
        let twice = refusal(&|extensions| extensions.push(extensions[at].clone()));
        assert!(
            matches!(twice, SnpRefusal::Extension { .. } | SnpRefusal::Malformed { .. }),
            "{at}: {twice:?}"
        );
        let cut = refusal(&|extensions| extensions[at].2.truncate(1));
        assert!(matches!(cut, SnpRefusal::Extension { .. }), "{at}: {cut:?}");
    }
    let rome = refusal(&|extensions| extensions[0].2 = b"\x16\x04Rome".to_vec());
    assert_eq!(rome, SnpRefusal::Product { found: "Rome".to_owned() });
    let critical = refusal(&|extensions| extensions[1].1 = true);
    assert!(matches!(critical, SnpRefusal::CriticalExtension { .. }), "{critical:?}");
    // An authority's certificate in the place of a processor's, and one that is none in that of the authority.
    let mut swapped = VENDOR.certificates();
    swapped.ask = swapped.vcek.clone();
    let unsigned = simulated_refusal(&report, &swapped, lenient());
    assert!(matches!(unsigned, SnpRefusal::Signature { .. }), "{unsigned:?}");
}

#[test]
fn a_text_with_other_than_the_certificates_of_one_processor_is_refused() {
    use SnpCertificatesError as Error;
    let read = |parts: &[&[u8]]| SnpCertificates::from_pem(&parts.concat());
    assert_eq!(read(&[MILAN_PEM]).unwrap(), milan());
    let end = MILAN_PEM.windows(25).position(|bytes| bytes == b"-----END CERTIFICATE-----").unwrap() + 26;
    let (vcek, ask) = MILAN_PEM.split_at(end);
    assert_eq!(read(&[ask, vcek]).unwrap(), milan(), "any order");
    assert!(matches!(read(&[]), Err(Error::Missing { which: SnpCertificate::Vcek })));
    assert!(matches!(read(&[vcek]), Err(Error::Missing { which: SnpCertificate::Ask })));
    assert!(matches!(read(&[MILAN_PEM, vcek]), Err(Error::Twice { which: SnpCertificate::Vcek })));
    assert!(matches!(read(&[&MILAN_PEM[..1000]]), Err(Error::Pem(_))));
    let key = b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    assert!(matches!(read(&[key]), Err(Error::Section { at: 1 })));
    let empty = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert!(matches!(read(&[vcek, empty]), Err(Error::Malformed { at: 2 })));
    let long = vec![b'\n'; SnpCertificates::LEN_MAX + 1];
    assert!(matches!(read(&[&long]), Err(Error::TooLong { .. })));
}

proptest::proptest! {
    #[test]
    fn any_certificates_are_read_or_refused(
        change in proptest::collection::vec((0..1400_usize, proptest::num::u8::ANY), 1..8),
    ) {
        let mut certificates = milan();
        for (at, byte) in change {
            let der = if byte & 1 == 0 { &mut certificates.vcek } else { &mut certificates.ask };
            if let Some(old) = der.get_mut(at) {
                *old ^= byte;
            }
        }
        let report = SnpReport::parse(MILAN).unwrap();
        let _outcome = SnpVerifier::new(SnpRoot::Amd).verify(&report, &certificates, JULY_2024);
    }
}
