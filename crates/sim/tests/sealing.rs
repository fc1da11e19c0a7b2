//! Keys from a simulated sealer: what a guest accepts, and the twin of each that it, or the sealer, refuses.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use attest::sealed_key::{
    self, GuestKey, KeyAnswer, KeyRequest, MrEnclave, SealedKeyError, WRAPPED_LEN, report_data_of_answer,
};
use attest::{Collateral, PlatformId, Policy, Quote, Refusal, Root, TcbStatus, TdReport, Verifier};
use cocoon_sim::{Enclave, Firmware, Guest, Platform, Publication, QuoteForm, Sealer, SealerRefusal, Vendor};

/// 2026-11-22.
const NOW: Duration = Duration::from_secs(1_795_305_600);
const ID: PlatformId = PlatformId::new([7; 16]);

/// A guest and a sealer on one machine.
struct World {
    vendor: Vendor,
    platform: Platform,
    sealer: Sealer,
    enclave: Enclave,
    collateral: Collateral,
}

/// What a guest has and has got.
struct Exchange {
    key: GuestKey,
    answer: KeyAnswer,
}

/// A refusal of either part of the guest.
#[derive(Debug, PartialEq)]
enum Refused {
    Quote(Refusal),
    Key(SealedKeyError),
}

impl World {
    fn new() -> Self {
        Self::with(Firmware::Current, Enclave::of_name("sealer"))
    }

    fn with(firmware: Firmware, enclave: Enclave) -> Self {
        let vendor = Vendor::from_seed(&[1; 32]).unwrap();
        let platform = || vendor.platform(ID, firmware).unwrap();
        let collateral = vendor.enclave_collateral(&Publication::at(NOW)).unwrap();
        let collateral = Collateral::from_json(&collateral).unwrap();
        Self {
            platform: platform(),
            sealer: Sealer::new(platform(), enclave.clone()),
            vendor,
            enclave,
            collateral,
        }
    }

    fn request(&self, guest: &Guest, name: &str, key: &GuestKey) -> KeyRequest {
        let report = self.platform.report(guest, &key.report_data());
        KeyRequest { report, public: *key.public(), name: name.parse().unwrap() }
    }

    fn exchange(&self, guest: &Guest, name: &str) -> Exchange {
        let key = GuestKey::generate().unwrap();
        let answer = self.sealer.answer(&self.request(guest, name, &key).to_bytes()).unwrap();
        Exchange { key, answer: KeyAnswer::parse(&answer).unwrap() }
    }

    fn open(&self, exchange: Exchange, enclaves: &[MrEnclave]) -> Result<[u8; 32], Refused> {
        self.open_by(exchange, &sealed_key::policy(enclaves.iter().copied()))
    }

    fn open_by(&self, Exchange { key, answer }: Exchange, policy: &Policy) -> Result<[u8; 32], Refused> {
        let quote = Quote::parse(&answer.quote).unwrap();
        let root = Root::Other(self.vendor.root_der().to_vec());
        let appraised = Verifier::new(root)
            .appraise(&quote, &key.report_data_of(&answer), &self.collateral, policy, NOW)
            .map_err(Refused::Quote)?;
        let opened = key.open(&answer, &appraised).map_err(Refused::Key)?;
        Ok(**opened.expose())
    }

    fn key(&self, guest: &Guest, name: &str) -> [u8; 32] {
        self.open(self.exchange(guest, name), &[self.enclave.mrenclave()]).unwrap()
    }
}

fn guest() -> Guest {
    Guest::of_image("proxy")
}

/// The key on a machine that guests refuse, as one sees it who names the machine's status.
fn on_old_firmware() -> [u8; 32] {
    let world = World::with(Firmware::Outdated, Enclave::of_name("sealer"));
    let policy = Policy {
        statuses: TcbStatus::ALL_BUT_REVOKED.into(),
        ..sealed_key::policy([world.enclave.mrenclave()])
    };
    world.open_by(world.exchange(&guest(), "app"), &policy).unwrap()
}

#[test]
fn an_image_has_one_key_for_each_name() {
    let world = World::new();
    let key = world.key(&guest(), "app");
    assert_eq!(World::new().key(&guest(), "app"), key, "the same after everything began anew");
    let others = [
        world.key(&guest(), "disk_encryption"),
        world.key(&Guest::of_image("proxy 2"), "app"),
        world.key(&Guest { is_debug: true, ..guest() }, "app"),
        on_old_firmware(),
        World::with(Firmware::Current, Enclave::of_name("another sealer")).key(&guest(), "app"),
    ];
    for (at, other) in others.iter().enumerate() {
        assert_ne!(*other, key, "{at}");
    }
}

#[test]
fn both_versions_of_reports_are_taken() {
    let world = World::new();
    for (form, version) in [(QuoteForm::V4, 0), (QuoteForm::V5, 1)] {
        let guest = Guest { form, ..guest() };
        assert_eq!(world.platform.report(&guest, &[0; 64]).version(), version);
        // What the guest is does not depend on the form of what is said about it.
        assert_eq!(world.key(&guest, "app"), world.key(&self::guest(), "app"));
    }
}

#[test]
fn only_listed_enclaves_are_believed() {
    let world = World::new();
    let by = |enclaves: &[MrEnclave]| world.open(world.exchange(&guest(), "app"), enclaves);
    let (own, other) = (world.enclave.mrenclave(), Enclave::of_name("another").mrenclave());
    assert!(by(&[other, own]).is_ok());
    for enclaves in [&[][..], &[other]] {
        assert!(matches!(by(enclaves), Err(Refused::Quote(Refusal::Image { .. }))), "{enclaves:?}");
    }
}

#[test]
fn an_enclave_under_debug_or_on_old_firmware_is_refused() {
    let debug = Enclave { is_debug: true, ..Enclave::of_name("sealer") };
    let world = World::with(Firmware::Current, debug);
    let refused = world.open(world.exchange(&guest(), "app"), &[world.enclave.mrenclave()]);
    assert!(matches!(refused, Err(Refused::Quote(Refusal::Debug { .. }))), "{refused:?}");
    let world = World::with(Firmware::Outdated, Enclave::of_name("sealer"));
    let refused = world.open(world.exchange(&guest(), "app"), &[world.enclave.mrenclave()]);
    assert!(
        matches!(refused, Err(Refused::Quote(Refusal::Status { found: TcbStatus::OutOfDate, .. }))),
        "{refused:?}"
    );
}

#[test]
fn changed_answers_are_refused() {
    let world = World::new();
    let own = [world.enclave.mrenclave()];
    let exchange = world.exchange(&guest(), "app");
    // The enclave's key, and the secret.
    for at in 0..WRAPPED_LEN {
        let mut changed = world.exchange(&guest(), "app");
        changed.answer.wrapped[at] ^= 1;
        let refused = world.open(changed, &own);
        assert!(matches!(refused, Err(Refused::Quote(Refusal::ReportData { .. }))), "{at}: {refused:?}");
    }
    // The quote's head, body, signature, key, and the quoting enclave's report.
    let signed = (0..432).step_by(31).chain((436..948).step_by(17)).chain(368..432);
    for at in signed {
        let mut quote = exchange.answer.quote.clone();
        quote[at] ^= 1;
        let Ok(parsed) = Quote::parse(&quote) else { continue };
        let report_data = *parsed.claims().measurements.report_data();
        let mut policy = sealed_key::policy(own);
        policy.images = attest::Allowed::default();
        let verifier = Verifier::new(Root::Other(world.vendor.root_der().to_vec()));
        let outcome = verifier.appraise(&parsed, &report_data, &world.collateral, &policy, NOW);
        assert!(outcome.is_err(), "byte {at}");
    }
}

#[test]
fn an_answer_to_somebody_else_is_refused() {
    let world = World::new();
    let own = [world.enclave.mrenclave()];
    let (one, other) = (world.exchange(&guest(), "app"), world.exchange(&guest(), "app"));
    let swapped = Exchange { key: GuestKey::generate().unwrap(), answer: one.answer.clone() };
    assert!(matches!(world.open(swapped, &own), Err(Refused::Quote(Refusal::ReportData { .. }))));
    // The secret of one answer behind the quote of another.
    let mixed = KeyAnswer { quote: other.answer.quote.clone(), wrapped: one.answer.wrapped };
    let mixed = Exchange { key: one.key, answer: mixed };
    assert!(matches!(world.open(mixed, &own), Err(Refused::Quote(Refusal::ReportData { .. }))));
    // An appraisal that is genuine, and of another answer.
    let root = || Verifier::new(Root::Other(world.vendor.root_der().to_vec()));
    let quote = Quote::parse(&other.answer.quote).unwrap();
    let report_data = other.key.report_data_of(&other.answer);
    let appraised =
        root().appraise(&quote, &report_data, &world.collateral, &sealed_key::policy(own), NOW).unwrap();
    let again = world.exchange(&guest(), "app");
    assert_eq!(again.key.open(&again.answer, &appraised).err(), Some(SealedKeyError::OtherQuote));
    assert!(other.key.open(&other.answer, &appraised).is_ok());
}

#[test]
fn a_guests_quote_is_no_sealers() {
    let world = World::new();
    let mut exchange = world.exchange(&guest(), "app");
    let report_data = exchange.key.report_data_of(&exchange.answer);
    exchange.answer.quote = world.platform.quote(&guest(), &report_data).unwrap();
    let refused = world.open(exchange, &[world.enclave.mrenclave()]);
    assert!(matches!(refused, Err(Refused::Quote(Refusal::Tee { .. }))), "{refused:?}");
}

#[test]
fn simulated_sealers_are_nothing_under_the_vendors_own_root() {
    let world = World::new();
    let Exchange { key, answer } = world.exchange(&guest(), "app");
    let quote = Quote::parse(&answer.quote).unwrap();
    let policy = sealed_key::policy([world.enclave.mrenclave()]);
    let report_data = key.report_data_of(&answer);
    let refused = Verifier::new(Root::Intel).appraise(&quote, &report_data, &world.collateral, &policy, NOW);
    assert!(matches!(refused, Err(Refusal::Unverified { .. })), "{refused:?}");
}

#[test]
fn the_sealer_answers_only_guests_of_its_own_machine() {
    let world = World::new();
    let key = GuestKey::generate().unwrap();
    let request = world.request(&guest(), "app", &key);
    let answered = |request: &KeyRequest| world.sealer.answer(&request.to_bytes());
    assert!(answered(&request).is_ok());

    let neighbour = world.vendor.platform(PlatformId::new([8; 16]), Firmware::Current).unwrap();
    let foreign = KeyRequest { report: neighbour.report(&guest(), &key.report_data()), ..request.clone() };
    assert!(matches!(answered(&foreign), Err(SealerRefusal::Report)));
    // Every byte that the processor vouches for, and its code; a longer image, that is.
    for at in (4..TdReport::AUTHENTICATED_LEN + 32).step_by(5) {
        let mut report = *request.report.as_bytes();
        report[at] ^= 1;
        let changed = KeyRequest { report: TdReport::parse(&report).unwrap(), ..request.clone() };
        assert!(matches!(answered(&changed), Err(SealerRefusal::Report)), "byte {at}");
    }
    let other = KeyRequest { public: *GuestKey::generate().unwrap().public(), ..request.clone() };
    assert!(matches!(answered(&other), Err(SealerRefusal::ReportData)));
    assert!(matches!(world.sealer.answer(b"no request"), Err(SealerRefusal::Message(_))));
    // A report for a key that is no point of the curve.
    let public = [9; 64];
    let report_data = report_data_of_answer(&public, &[0; WRAPPED_LEN]);
    let mut first_half = [0; 64];
    first_half[..32].copy_from_slice(&report_data[..32]);
    let report = world.platform.report(&guest(), &first_half);
    assert!(matches!(answered(&KeyRequest { report, public, ..request }), Err(SealerRefusal::Wrap(_))));
}
