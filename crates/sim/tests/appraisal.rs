//! Simulated evidence before the verifier that judges real evidence: what it accepts, and the twin of each that it refuses.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use attest::{
    Allowed, Appraised, Collateral, Measurements, PlatformId, Policy, Quote, Refusal, Root, TcbStatus, Tee,
    Verifier,
};
use cocoon_sim::{Firmware, Guest, Platform, Publication, QuoteForm, SimError, Vendor};

/// 2026-11-22.
const NOW: Duration = Duration::from_secs(1_795_305_600);
const ID: PlatformId = PlatformId::new([7; 16]);
const REPORT_DATA: [u8; 64] = [9; 64];

/// One vendor with one platform, and what it published.
struct World {
    vendor: Vendor,
    platform: Platform,
    collateral: Collateral,
}

impl World {
    fn new(seed: u8) -> Self {
        let vendor = Vendor::from_seed(&[seed; 32]).unwrap();
        let platform = vendor.platform(ID, Firmware::Current).unwrap();
        let collateral = published(&vendor, &Publication::at(NOW));
        Self { vendor, platform, collateral }
    }

    fn root(&self) -> Root {
        Root::Other(self.vendor.root_der().to_vec())
    }

    /// Appraises bytes under this world's root and what it published.
    fn appraise(&self, quote: &[u8]) -> Result<Appraised, Refusal> {
        self.appraise_by(quote, &self.collateral, &any(), NOW)
    }

    fn appraise_by(
        &self,
        quote: &[u8],
        collateral: &Collateral,
        policy: &Policy,
        now: Duration,
    ) -> Result<Appraised, Refusal> {
        let quote = Quote::parse(quote).unwrap();
        Verifier::new(self.root()).appraise(&quote, &REPORT_DATA, collateral, policy, now)
    }
}

fn published(vendor: &Vendor, publication: &Publication) -> Collateral {
    Collateral::from_json(&vendor.collateral(publication).unwrap()).unwrap()
}

fn any() -> Policy {
    Policy::for_images(Allowed::default())
}

fn guest() -> Guest {
    Guest::of_image("worker")
}

fn unverified(outcome: Result<Appraised, Refusal>, word: &str) {
    match outcome {
        Err(Refusal::Unverified { reason }) => assert!(reason.contains(word), "{word}: {reason}"),
        other => panic!("{word}: {other:?}"),
    }
}

#[test]
fn both_forms_of_quotes_are_accepted_for_what_they_say() {
    let world = World::new(1);
    for (form, version) in [(QuoteForm::V4, 4), (QuoteForm::V5, 5)] {
        let guest = Guest { form, ..guest() };
        let bytes = world.platform.quote(&guest, &REPORT_DATA).unwrap();
        let quote = Quote::parse(&bytes).unwrap();
        assert_eq!((quote.claims().tee, quote.version(), quote.as_bytes()), (Tee::Tdx, version, &*bytes));
        assert_eq!(quote.collateral_kind(), Some(Vendor::COLLATERAL_KIND));
        let accepted = world.appraise(&bytes).unwrap();
        let Measurements::Tdx(measured) = &accepted.claims().measurements else { panic!("a guest") };
        assert_eq!((measured.registers, measured.report_data), (guest.registers, REPORT_DATA));
        assert_eq!(accepted.image(), guest.image_hash());
        let platform = accepted.platform();
        assert_eq!((platform.id, platform.status()), (ID, Some(TcbStatus::UpToDate)));
        let attest::Firmware::Intel { evaluation_number, .. } = platform.firmware else {
            panic!("{platform:?}")
        };
        assert_eq!((platform.root_key, evaluation_number), (world.vendor.root_key(), 1));
        assert_eq!(accepted.valid_until(), Publication::at(NOW).next_update);
    }
}

#[test]
fn images_are_told_apart_by_their_names() {
    let world = World::new(1);
    let quote = world.platform.quote(&guest(), &REPORT_DATA).unwrap();
    let only = |name| Policy::for_images(Allowed::only([Guest::of_image(name).image_hash()]));
    let appraise = |name| world.appraise_by(&quote, &world.collateral, &only(name), NOW);
    assert!(appraise("worker").is_ok());
    let found = guest().image_hash();
    assert_eq!(appraise("proxy"), Err(Refusal::Image { found }));
}

#[test]
fn flipped_bytes_are_refused() {
    let world = World::new(1);
    let quote = world.platform.quote(&guest(), &REPORT_DATA).unwrap();
    // Header, body, signature, key, the enclave's report and its signature; after them, certificates as text.
    let certificates = quote.windows(5).position(|window| window == b"-----").unwrap();
    // Header and report are signed as a whole; behind them are the signature, its key and the enclave's report, between them
    // lengths and types that nothing signs.
    let unsigned = (632..636).chain(764..770);
    for at in (0..632).step_by(37).chain(unsigned).chain((636..certificates).step_by(7)) {
        let mut changed = quote.clone();
        changed[at] ^= 1;
        let Ok(parsed) = Quote::parse(&changed) else { continue };
        let report_data = *parsed.claims().measurements.report_data();
        let verifier = Verifier::new(world.root());
        let outcome = verifier.appraise(&parsed, &report_data, &world.collateral, &any(), NOW);
        assert!(outcome.is_err(), "byte {at}");
    }
}

#[test]
fn another_root_is_another_world() {
    let (world, other) = (World::new(1), World::new(2));
    let quote = world.platform.quote(&guest(), &REPORT_DATA).unwrap();
    unverified(other.appraise(&quote), "certificate chain");
    unverified(other.appraise_by(&quote, &world.collateral, &any(), NOW), "");
    unverified(world.appraise_by(&quote, &other.collateral, &any(), NOW), "");
    // The one that production has.
    let parsed = Quote::parse(&quote).unwrap();
    for collateral in [&world.collateral, &other.collateral] {
        unverified(Verifier::new(Root::Intel).appraise(&parsed, &REPORT_DATA, collateral, &any(), NOW), "");
    }
    // Certificates are the platform's own affair; the key that they end at is what counts.
    let again = World::new(1);
    assert_ne!(again.vendor.root_der(), world.vendor.root_der(), "signatures are never the same");
    assert_eq!(again.vendor.root_key(), world.vendor.root_key());
    assert!(again.appraise(&quote).is_ok());
}

#[test]
fn evidence_for_another_key_is_refused() {
    let world = World::new(1);
    let quote = world.platform.quote(&guest(), &[8; 64]).unwrap();
    assert!(matches!(world.appraise(&quote), Err(Refusal::ReportData { .. })));
}

#[test]
fn a_guest_under_debug_is_refused() {
    let world = World::new(1);
    for form in [QuoteForm::V4, QuoteForm::V5] {
        let quote = world.platform.quote(&Guest { form, is_debug: true, ..guest() }, &REPORT_DATA).unwrap();
        assert!(matches!(world.appraise(&quote), Err(Refusal::Debug { .. })));
    }
}

#[test]
fn a_revoked_platform_is_refused_and_its_neighbour_is_not() {
    let world = World::new(1);
    let revoked = Publication { revoked: [ID].into(), ..Publication::at(NOW) };
    let collateral = published(&world.vendor, &revoked);
    let quote = world.platform.quote(&guest(), &REPORT_DATA).unwrap();
    unverified(world.appraise_by(&quote, &collateral, &any(), NOW), "certificate chain");
    let neighbour = world.vendor.platform(PlatformId::new([8; 16]), Firmware::Current).unwrap();
    let quote = neighbour.quote(&guest(), &REPORT_DATA).unwrap();
    assert_eq!(world.appraise_by(&quote, &collateral, &any(), NOW).unwrap().platform().id, neighbour.id());
}

#[test]
fn collateral_counts_between_its_dates() {
    let world = World::new(1);
    let quote = world.platform.quote(&guest(), &REPORT_DATA).unwrap();
    let at = |now| world.appraise_by(&quote, &world.collateral, &any(), now);
    let (first, end) = (NOW, Publication::at(NOW).next_update);
    let second = Duration::from_secs(1);
    assert!(at(first).is_ok());
    assert!(at(end - second).is_ok());
    unverified(at(first - second), "future");
    assert!(at(end).is_err());
    unverified(at(end + second), "");
}

#[test]
fn a_status_is_accepted_where_the_policy_names_it() {
    let world = World::new(1);
    let outdated = world.vendor.platform(ID, Firmware::Outdated).unwrap();
    let quote = outdated.quote(&guest(), &REPORT_DATA).unwrap();
    let by = |policy: &Policy| world.appraise_by(&quote, &world.collateral, policy, NOW);
    let advisories = vec!["SIMULATED-SA-00001".to_owned()];
    let refused = Err(Refusal::Status { found: TcbStatus::OutOfDate, advisories: advisories.clone() });
    assert_eq!(by(&any()), refused);
    let named = Policy { statuses: [TcbStatus::OutOfDate].into(), ..any() };
    let accepted = by(&named).unwrap();
    let attest::Firmware::Intel { advisories: found, .. } = &accepted.platform().firmware else {
        panic!("Intel's form")
    };
    assert_eq!(found, &advisories);
    let denied = Policy { refused_advisories: advisories.iter().cloned().collect(), ..named };
    assert!(matches!(by(&denied), Err(Refusal::Advisory { .. })));
}

#[test]
fn the_vendor_says_what_current_firmware_is_worth() {
    let world = World::new(1);
    let quote = world.platform.quote(&guest(), &REPORT_DATA).unwrap();
    let published = |status| {
        let publication = Publication { status, evaluation_number: 5, ..Publication::at(NOW) };
        published(&world.vendor, &publication)
    };
    for status in [
        TcbStatus::SwHardeningNeeded,
        TcbStatus::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSwHardeningNeeded,
        TcbStatus::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded,
    ] {
        let collateral = published(status);
        let refused = world.appraise_by(&quote, &collateral, &any(), NOW);
        assert_eq!(refused, Err(Refusal::Status { found: status, advisories: vec![] }));
        let named = Policy { statuses: [status].into(), ..any() };
        assert_eq!(
            world.appraise_by(&quote, &collateral, &named, NOW).unwrap().platform().status(),
            Some(status)
        );
    }
    let all = Policy { statuses: TcbStatus::ALL_BUT_REVOKED.into(), ..any() };
    unverified(world.appraise_by(&quote, &published(TcbStatus::Revoked), &all, NOW), "Revoked");
    let newer = |evaluation_number_min| Policy { evaluation_number_min, ..any() };
    let up_to_date = published(TcbStatus::UpToDate);
    assert!(world.appraise_by(&quote, &up_to_date, &newer(5), NOW).is_ok());
    assert!(matches!(
        world.appraise_by(&quote, &up_to_date, &newer(6), NOW),
        Err(Refusal::EvaluationNumber { expected: 6, found: 5 })
    ));
}

#[test]
fn changed_collateral_is_refused() {
    let world = World::new(1);
    let quote = world.vendor.platform(ID, Firmware::Outdated).unwrap().quote(&guest(), &REPORT_DATA).unwrap();
    let text = world.vendor.collateral(&Publication::at(NOW)).unwrap();
    let changed = text.replace("\\\"OutOfDate\\\"", "\\\"UpToDate\\\"");
    assert_ne!(changed, text);
    unverified(world.appraise_by(&quote, &Collateral::from_json(&changed).unwrap(), &any(), NOW), "tcb_info");
}

#[test]
fn a_platform_from_its_file_is_the_same() {
    let world = World::new(1);
    let read = Platform::from_json(&world.platform.to_json()).unwrap();
    assert!(world.appraise(&read.quote(&guest(), &REPORT_DATA).unwrap()).is_ok());
    // The key of one platform under the certificates of another.
    let other = world.vendor.platform(PlatformId::new([8; 16]), Firmware::Current).unwrap().to_json();
    let line = |text: &str| text.lines().find(|line| line.contains("attestation_key")).unwrap().to_owned();
    let swapped = other.replace(&line(&other), &line(&world.platform.to_json()));
    let swapped = Platform::from_json(&swapped).unwrap();
    unverified(world.appraise(&swapped.quote(&guest(), &REPORT_DATA).unwrap()), "QE report");
}

#[test]
fn dates_that_cannot_be_are_refused() {
    let vendor = Vendor::from_seed(&[1; 32]).unwrap();
    let of =
        |issued, next_update| vendor.collateral(&Publication { issued, next_update, ..Publication::at(NOW) });
    assert!(matches!(of(NOW, NOW), Err(SimError::Certificate(_))));
    assert!(matches!(of(Duration::MAX, Duration::MAX), Err(SimError::Date { seconds: u64::MAX })));
    let late = Duration::from_secs(300_000_000_000);
    assert!(matches!(of(NOW, late), Err(SimError::Date { seconds: 300_000_000_000 })));
}
