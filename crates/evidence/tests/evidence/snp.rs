//! Reports of AMD SEV-SNP, and a key service that gives out what was recorded with them, or what a simulated vendor makes.

#[path = "../../../attest/src/snp/tests/platform.rs"]
mod platform;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{
    Allowed, PlatformEvidenceError, Policy, Refusal, Root, SnpCertificate, SnpCertificates, SnpPolicy,
    SnpProduct, SnpRefusal, SnpReport, SnpRoot, SnpTcb, SnpVerifier, TcbFloors, Tee, Verifier,
};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_evidence::{
    AppraiseError, Appraiser, CollateralStore, Kds, ServiceError, SnpFault, SnpStore, SnpStoreError, Standing,
};
use platform::{CHIP, Revocations, VENDOR};
use tempfile::tempdir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

const MILAN: &[u8] = include_bytes!("../../../../spec/vectors/quotes/snp_milan.dat");
const PEM: &str = include_str!("../../../../spec/vectors/quotes/snp_milan.certificates.pem");
const TURIN: &str = include_str!("../../../../spec/vectors/quotes/snp_turin.certificates.pem");
/// 2024-07-01.
const NOW: Duration = Duration::from_secs(1_719_792_000);
const HALF_A_DAY: Duration = Duration::from_secs(12 * 3600);
const PAUSE: Duration = Duration::from_secs(30);

const MILAN_CHAIN: &str = "/vcek/v1/Milan/cert_chain";
const MILAN_CRL: &str = "/vcek/v1/Milan/crl";
const GENOA_CRL: &str = "/vcek/v1/Genoa/crl";

/// A key service.
struct Stub {
    kds: Kds,
    served: Arc<Served>,
}

type Answers = HashMap<String, (StatusCode, Vec<u8>)>;

struct Served {
    answers: Mutex<Answers>,
    asked: AtomicUsize,
    /// Answers that may go out.
    gate: Semaphore,
}

impl Stub {
    async fn serve(answers: Answers) -> Self {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        let served = Arc::new(Served { answers: answers.into(), asked: AtomicUsize::new(0), gate });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kds = Kds::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().fallback(answer).with_state(served.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { kds, served }
    }

    /// Serves the certificates of the recorded report, and nothing of what was revoked: no list is recorded.
    async fn recorded() -> Self {
        let certificates = SnpCertificates::from_pem(PEM.as_bytes()).unwrap();
        let chip = SnpReport::parse(MILAN).unwrap().chip_id();
        let vcek = format!("/vcek/v1/Milan/{chip}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115");
        let answers = [(vcek, certificates.vcek), (MILAN_CHAIN.to_owned(), ask(PEM).into())];
        Self::serve(answers.map(|(path, body)| (path, (StatusCode::OK, body))).into()).await
    }

    /// Serves what the simulated vendor makes, and a list of what was revoked.
    async fn simulated() -> Self {
        let list = Revocations { serials: vec![], next_update: "240801", is_by_root: true };
        let certificates = VENDOR.certificates_with(|_extensions| {}, Some(&list));
        let chip = hex::encode(CHIP);
        let ask = STANDARD.encode(certificates.ask);
        let answers = [
            (format!("/vcek/v1/Genoa/{chip}?blSPL=04&teeSPL=01&snpSPL=22&ucodeSPL=213"), certificates.vcek),
            (
                "/vcek/v1/Genoa/cert_chain".to_owned(),
                format!("-----BEGIN CERTIFICATE-----\n{ask}\n-----END CERTIFICATE-----\n").into(),
            ),
            (GENOA_CRL.to_owned(), certificates.revocations.unwrap()),
        ];
        Self::serve(answers.map(|(path, body)| (path, (StatusCode::OK, body))).into()).await
    }

    /// From now on it answers so.
    fn answer(&self, path: &str, status: StatusCode, body: impl Into<Vec<u8>>) {
        self.served.answers.lock().unwrap().insert(path.to_owned(), (status, body.into()));
    }

    fn asked(&self) -> usize {
        self.served.asked.load(Ordering::SeqCst)
    }

    /// Waits until it was asked so many times.
    async fn was_asked(&self, times: usize) {
        while self.asked() < times {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.asked(), times);
    }
}

async fn answer(State(served): State<Arc<Served>>, request: Request) -> Response {
    served.asked.fetch_add(1, Ordering::SeqCst);
    let _permit = served.gate.acquire().await.unwrap();
    let path = request.uri().path_and_query().unwrap().as_str();
    let answer = served.answers.lock().unwrap().get(path).cloned();
    answer.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

fn ask(pem: &str) -> &str {
    pem.split_inclusive("-----END CERTIFICATE-----").nth(1).unwrap()
}

/// Takes the recorded report and the simulated one.
fn policy() -> Policy {
    let milan = Some(SnpTcb { fmc: 0, bootloader: 3, tee: 0, snp: 8, microcode: 115 });
    let genoa = Some(SnpTcb { fmc: 0, bootloader: 0, tee: 0, snp: 0, microcode: 0 });
    let snp = SnpPolicy {
        smt: true,
        platform_info_required: [].into(),
        revocations_required: false,
        ..SnpPolicy::for_firmware(TcbFloors { milan, genoa, turin: None })
    };
    Policy { tees: [Tee::Snp].into(), snp: Some(snp), ..Policy::for_images(Allowed::default()) }
}

fn appraiser_under(root: SnpRoot, policy: Policy, folder: &Path, kds: Option<Kds>) -> Appraiser {
    let store = CollateralStore::new(folder.into(), None);
    let appraiser = Appraiser::new(Verifier::new(Root::Intel), policy, store, NonZeroUsize::MIN);
    appraiser.with_snp(SnpStore::new(SnpVerifier::new(root), folder.into(), kds))
}

fn appraiser(policy: Policy, folder: &Path, kds: Option<Kds>) -> Appraiser {
    appraiser_under(SnpRoot::Amd, policy, folder, kds)
}

/// Believes the simulated vendor, and wants the list of what it revoked.
fn strict(folder: &Path, kds: Option<Kds>) -> Appraiser {
    let mut policy = policy();
    policy.snp.as_mut().unwrap().revocations_required = true;
    appraiser_under(VENDOR.root(), policy, folder, kds)
}

async fn appraise(appraiser: &Appraiser, report: &[u8], now: Duration) -> Result<(), AppraiseError> {
    let report_data = report[0x50..0x90].try_into().unwrap();
    appraiser.appraise(report, &report_data, Standing::Stranger, now).await.map(drop)
}

/// Reports of the simulated processor, none of which was seen before.
fn fresh() -> Vec<u8> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst).to_be_bytes();
    VENDOR.report(|bytes| bytes[0x50..0x58].copy_from_slice(&number)).as_bytes().to_vec()
}

/// As if of another processor: nobody signed it.
fn made_up(number: u8) -> Vec<u8> {
    VENDOR.report(|bytes| bytes[0x1a0] = number).as_bytes().to_vec()
}

fn store_error(outcome: Result<(), AppraiseError>) -> SnpStoreError {
    match outcome {
        Err(AppraiseError::Certificates(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn kept(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn certificates_are_fetched_once_and_kept_for_the_next_process() {
    let folder = tempdir().unwrap();
    let stub = Stub::simulated().await;
    let first = strict(folder.path(), Some(stub.kds.clone()));
    appraise(&first, &fresh(), NOW).await.unwrap();
    assert_eq!(stub.asked(), 3, "the key's, the product's, what is revoked");
    let processor = fresh_id().platform();
    let files = [format!("snp-{processor}.der"), "snp-genoa.crl".to_owned(), "snp-genoa.pem".to_owned()];
    let mut expected = files.to_vec();
    expected.sort();
    assert_eq!(kept(folder.path()), expected);
    appraise(&first, &fresh(), NOW).await.unwrap();
    let next = strict(folder.path(), Some(stub.kds.clone()));
    appraise(&next, &fresh(), NOW).await.unwrap();
    let offline = strict(folder.path(), None);
    appraise(&offline, &fresh(), NOW).await.unwrap();
    assert_eq!(stub.asked(), 3, "nobody is asked for what is known");
}

fn fresh_id() -> attest::VcekId {
    SnpReport::parse(&fresh()).unwrap().vcek_id().unwrap()
}

#[tokio::test]
async fn a_recorded_report_is_genuine_by_recorded_certificates() {
    let folder = tempdir().unwrap();
    let stub = Stub::recorded().await;
    appraise(&appraiser(policy(), folder.path(), Some(stub.kds.clone())), MILAN, NOW).await.unwrap();
    appraise(&appraiser(policy(), folder.path(), None), MILAN, NOW).await.unwrap();
    let other_root = appraiser_under(VENDOR.root(), policy(), folder.path(), None);
    let refused = store_error(appraise(&other_root, MILAN, NOW).await);
    assert!(matches!(refused, SnpStoreError::Missing { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_product_is_renewed_and_a_processor_is_not() {
    let folder = tempdir().unwrap();
    let stub = Stub::simulated().await;
    let appraiser = strict(folder.path(), Some(stub.kds.clone()));
    appraise(&appraiser, &fresh(), NOW).await.unwrap();
    appraise(&appraiser, &fresh(), NOW + HALF_A_DAY - Duration::from_secs(1)).await.unwrap();
    assert_eq!(stub.asked(), 3);
    // Whoever asks does not wait for it.
    stub.served.gate.forget_permits(Semaphore::MAX_PERMITS);
    appraise(&appraiser, &fresh(), NOW + HALF_A_DAY).await.unwrap();
    stub.was_asked(4).await;
    stub.served.gate.add_permits(100);
    stub.was_asked(5).await;
    appraise(&appraiser, &fresh(), NOW + HALF_A_DAY).await.unwrap();
    assert_eq!(stub.asked(), 5);
}

#[tokio::test]
async fn what_is_not_genuine_takes_the_place_of_nothing() {
    let folder = tempdir().unwrap();
    let stub = Stub::simulated().await;
    let appraiser = strict(folder.path(), Some(stub.kds.clone()));
    appraise(&appraiser, &fresh(), NOW).await.unwrap();
    let list = std::fs::read(folder.path().join("snp-genoa.crl")).unwrap();
    let by_another = Revocations { serials: vec![], next_update: "241001", is_by_root: false };
    let by_another = VENDOR.certificates_with(|_extensions| {}, Some(&by_another)).revocations.unwrap();
    let answers = [
        (StatusCode::OK, by_another, "another's"),
        (StatusCode::NOT_FOUND, vec![], "left out"),
        (StatusCode::INTERNAL_SERVER_ERROR, vec![], "an error"),
    ];
    let mut now = NOW + HALF_A_DAY;
    let mut asked = 3;
    for (status, body, what) in answers {
        stub.answer(GENOA_CRL, status, body);
        asked += 2;
        while stub.asked() < asked {
            appraise(&appraiser, &fresh(), now).await.unwrap();
        }
        // It is asked for again soon, and what there was serves.
        now += PAUSE;
        let next = strict(folder.path(), Some(stub.kds.clone()));
        appraise(&next, &fresh(), now).await.unwrap();
        asked += 2;
        stub.was_asked(asked).await;
        assert_eq!(std::fs::read(folder.path().join("snp-genoa.crl")).unwrap(), list, "{what}");
        now += PAUSE;
    }
}

#[tokio::test]
async fn only_who_has_no_list_of_revocations_may_say_so() {
    let stub = Stub::simulated().await;
    let fetch = async |status| {
        let folder = tempdir().unwrap();
        stub.answer(GENOA_CRL, status, []);
        let appraiser = strict(folder.path(), Some(stub.kds.clone()));
        let refused = appraise(&appraiser, &fresh(), NOW).await.unwrap_err();
        assert!(!kept(folder.path()).contains(&"snp-genoa.crl".to_owned()));
        (appraiser, refused)
    };
    let (_, failed) = fetch(StatusCode::INTERNAL_SERVER_ERROR).await;
    let failed = store_error(Err(failed));
    assert!(matches!(failed, SnpStoreError::Fetch { source: ServiceError::Status { status: 500, .. }, .. }));
    let (appraiser, none) = fetch(StatusCode::NOT_FOUND).await;
    let is_none = matches!(none, AppraiseError::Refused(Refusal::Snp(SnpRefusal::NoRevocations)));
    assert!(is_none, "{none:?}");

    // And that holds for half a minute.
    let list = Revocations { serials: vec![], next_update: "240801", is_by_root: true };
    let list = VENDOR.certificates_with(|_extensions| {}, Some(&list)).revocations.unwrap();
    stub.answer(GENOA_CRL, StatusCode::OK, list);
    let asked = stub.asked();
    assert!(appraise(&appraiser, &fresh(), NOW + PAUSE - Duration::from_secs(1)).await.is_err());
    assert_eq!(stub.asked(), asked);
    while appraise(&appraiser, &fresh(), NOW + PAUSE).await.is_err() {}
    assert_eq!(stub.asked(), asked + 2);
}

#[tokio::test]
async fn reports_are_refused_as_quotes_are() {
    let folder = tempdir().unwrap();
    let stub = Stub::recorded().await;
    let with = |policy| appraiser(policy, folder.path(), Some(stub.kds.clone()));
    let refused = with(policy()).appraise(MILAN, &[7; 64], Standing::Known, NOW).await.unwrap_err();
    assert!(matches!(refused, AppraiseError::Refused(Refusal::ReportData { .. })), "{refused:?}");
    let tdx_only = Policy { snp: None, ..Policy::for_images(Allowed::default()) };
    let refused = appraise(&with(tdx_only), MILAN, NOW).await.unwrap_err();
    assert!(matches!(refused, AppraiseError::Refused(Refusal::Tee { found: Tee::Snp })), "{refused:?}");
    let mut newer = policy();
    let floors = &mut newer.snp.as_mut().unwrap().tcb_min;
    (floors.milan.as_mut().unwrap().microcode, floors.genoa) = (116, None);
    let refused = appraise(&with(newer), MILAN, NOW).await.unwrap_err();
    let is_old = matches!(refused, AppraiseError::Refused(Refusal::Snp(SnpRefusal::Tcb { .. })));
    assert!(is_old, "{refused:?}");
    let mut masked = MILAN.to_vec();
    masked[0x1a0..0x1e0].fill(0);
    let refused = appraise(&with(policy()), &masked, NOW).await.unwrap_err();
    let is_masked = matches!(refused, AppraiseError::Refused(Refusal::Snp(SnpRefusal::ChipMasked)));
    assert!(is_masked, "{refused:?}");
    assert_eq!(stub.asked(), 0, "what costs nothing comes first");

    // Of the launch's measurement, which is signed and which any image allows.
    let mut forged = MILAN.to_vec();
    forged[0x90] ^= 1;
    let refused = appraise(&with(policy()), &forged, NOW).await.unwrap_err();
    let is_forged = matches!(refused, AppraiseError::Refused(Refusal::Snp(SnpRefusal::ReportSignature)));
    assert!(is_forged, "{refused:?}");
    let mut strict = policy();
    strict.snp.as_mut().unwrap().revocations_required = true;
    let refused = appraise(&with(strict), MILAN, NOW).await.unwrap_err();
    let has_none = matches!(refused, AppraiseError::Refused(Refusal::Snp(SnpRefusal::NoRevocations)));
    assert!(has_none, "{refused:?}");
    assert_eq!(kept(folder.path()), ["snp-milan.pem"], "no processor's is kept for what is refused");

    let refused = appraise(&with(policy()), &[0; 208], NOW).await.unwrap_err();
    assert!(matches!(refused, AppraiseError::Unreadable(PlatformEvidenceError::Report(_))), "{refused:?}");
    let store = CollateralStore::new(folder.path().into(), None);
    let without = Appraiser::new(Verifier::new(Root::Intel), policy(), store, NonZeroUsize::MIN);
    let refused = appraise(&without, MILAN, NOW).await.unwrap_err();
    assert!(matches!(refused, AppraiseError::NoSnp), "{refused:?}");
}

#[tokio::test]
async fn a_service_is_not_believed() {
    let fault = async |path: &str, body: Vec<u8>| {
        let folder = tempdir().unwrap();
        let stub = Stub::recorded().await;
        stub.answer(path, StatusCode::OK, body);
        let error = appraise(&appraiser(policy(), folder.path(), Some(stub.kds)), MILAN, NOW).await;
        assert_eq!(kept(folder.path()).iter().filter(|name| name.ends_with(".der")).count(), 0);
        match store_error(error) {
            SnpStoreError::Refused { source, .. } => source,
            other => panic!("{other:?}"),
        }
    };
    let list = SnpCertificate::RevocationList;
    let other_list = fault(MILAN_CRL, vec![0x30, 0]).await;
    assert!(
        matches!(&other_list, SnpFault::Refused(SnpRefusal::Malformed { which }) if *which == list),
        "{other_list:?}"
    );
    let other_authority = fault(MILAN_CHAIN, ask(TURIN).into()).await;
    assert!(
        matches!(other_authority, SnpFault::Refused(SnpRefusal::Signature { .. })),
        "{other_authority:?}"
    );
    let binary = fault(MILAN_CHAIN, vec![0xff]).await;
    assert!(matches!(binary, SnpFault::Pem(_)), "{binary:?}");
    let chip = SnpReport::parse(MILAN).unwrap().chip_id();
    let vcek = format!("/vcek/v1/Milan/{chip}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115");
    let mut der = SnpCertificates::from_pem(PEM.as_bytes()).unwrap().vcek;
    let more = fault(&vcek, [&der[..], &[0]].concat()).await;
    assert!(matches!(more, SnpFault::Refused(SnpRefusal::Malformed { .. })), "{more:?}");
    *der.last_mut().unwrap() ^= 1;
    let unsigned = fault(&vcek, der).await;
    assert!(matches!(unsigned, SnpFault::Refused(SnpRefusal::Signature { .. })), "{unsigned:?}");
}

#[tokio::test]
async fn answers_have_a_bound() {
    let folder = tempdir().unwrap();
    let stub = Stub::recorded().await;
    stub.answer(MILAN_CHAIN, StatusCode::OK, [ask(PEM).as_bytes(), &[b'\n'; 16_384]].concat());
    let refused = appraise(&appraiser(policy(), folder.path(), Some(stub.kds)), MILAN, NOW).await;
    let refused = store_error(refused);
    assert!(
        matches!(refused, SnpStoreError::Fetch { source: ServiceError::Unreachable { .. }, .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_processor_that_nobody_certifies_is_asked_for_now_and_then() {
    let folder = tempdir().unwrap();
    let stub = Stub::serve(HashMap::new()).await;
    let appraiser = appraiser(policy(), folder.path(), Some(stub.kds.clone()));
    let unknown = store_error(appraise(&appraiser, MILAN, NOW).await);
    let SnpStoreError::Fetch { source, .. } = unknown else { panic!("{unknown:?}") };
    assert!(matches!(source, ServiceError::Status { status: 404, .. }), "{source:?}");
    assert_eq!(stub.asked(), 2, "a report of version 2 may be of Milan or of Genoa");
    let paused = store_error(appraise(&appraiser, MILAN, NOW + Duration::from_secs(29)).await);
    assert!(matches!(paused, SnpStoreError::Paused { .. }), "{paused:?}");
    assert_eq!(stub.asked(), 2);
    // The time that was told was of the future.
    assert!(matches!(
        store_error(appraise(&appraiser, MILAN, NOW - PAUSE).await),
        SnpStoreError::Fetch { .. }
    ));
    assert_eq!(stub.asked(), 4);
}

#[tokio::test]
async fn a_service_that_is_asked_too_often_rests() {
    let folder = tempdir().unwrap();
    let stub = Stub::simulated().await;
    let appraiser = appraiser_under(VENDOR.root(), policy(), folder.path(), Some(stub.kds.clone()));
    let unknown = appraise(&appraiser, &made_up(1), NOW).await;
    assert!(matches!(store_error(unknown), SnpStoreError::Fetch { .. }));
    assert_eq!(stub.asked(), 1, "one processor that it does not know says nothing of others");
    let path = format!(
        "/vcek/v1/Genoa/{}?blSPL=04&teeSPL=01&snpSPL=22&ucodeSPL=213",
        hex::encode([&[2], &CHIP[1..]].concat())
    );
    stub.answer(&path, StatusCode::TOO_MANY_REQUESTS, []);
    assert!(appraise(&appraiser, &made_up(2), NOW).await.is_err());
    assert_eq!(stub.asked(), 2);
    let rests = store_error(appraise(&appraiser, &made_up(3), NOW + PAUSE - Duration::from_secs(1)).await);
    assert!(matches!(rests, SnpStoreError::Fetch { source: ServiceError::Resting { .. }, .. }), "{rests:?}");
    assert_eq!(stub.asked(), 2);
    appraise(&appraiser, &fresh(), NOW + PAUSE).await.unwrap();
    assert_eq!(stub.asked(), 5);
}

#[tokio::test]
async fn made_up_processors_stop_nobody_whose_certificate_is_in_the_folder() {
    let folder = tempdir().unwrap();
    let stub = Stub::simulated().await;
    appraise(&strict(folder.path(), Some(stub.kds.clone())), &fresh(), NOW).await.unwrap();
    stub.served.gate.forget_permits(Semaphore::MAX_PERMITS);
    let appraiser = Arc::new(strict(folder.path(), Some(stub.kds.clone())));
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..100 {
        let appraiser = appraiser.clone();
        flood.spawn(async move { appraise(&appraiser, &made_up(number), NOW).await });
    }
    stub.was_asked(5).await;
    appraise(&appraiser, &fresh(), NOW).await.unwrap();
    assert_eq!(stub.asked(), 5, "for two of them at a time");
    assert!(flood.try_join_next().is_none());
}

#[tokio::test]
async fn the_folder_has_one_certificate_for_a_processor() {
    let folder = tempdir().unwrap();
    let stub = Stub::simulated().await;
    let appraiser = strict(folder.path(), Some(stub.kds.clone()));
    appraise(&appraiser, &fresh(), NOW).await.unwrap();
    // Its owner has another version certified.
    let certificates = VENDOR.certificates_with(|extensions| extensions[4].2 = vec![2, 2, 0, 212], None);
    let path = format!("/vcek/v1/Genoa/{}?blSPL=04&teeSPL=01&snpSPL=22&ucodeSPL=212", hex::encode(CHIP));
    stub.answer(&path, StatusCode::OK, certificates.vcek.clone());
    let older = VENDOR.report(|bytes| bytes[0x187] = 212).as_bytes().to_vec();
    appraise(&appraiser, &older, NOW).await.unwrap();
    assert_eq!(kept(folder.path()).len(), 3);
    appraise(&appraiser, &fresh(), NOW).await.unwrap();
    assert_eq!(stub.asked(), 4, "both are known");

    // One that is not of the report's firmware is named, and where it is.
    let alone = strict(folder.path(), None);
    let other = store_error(appraise(&alone, &fresh(), NOW).await);
    let SnpStoreError::Missing { source, .. } = &other else { panic!("{other:?}") };
    assert!(matches!(source, SnpFault::Refused(SnpRefusal::OtherTcb { .. })), "{source:?}");
    let name = format!("snp-{}.der", fresh_id().platform());
    assert!(other.to_string().contains(&name), "{other}");
    let vcek = VENDOR.certificates().vcek;
    std::fs::write(folder.path().join(name), vcek).unwrap();
    appraise(&alone, &fresh(), NOW).await.unwrap();
    assert_eq!(SnpProduct::of_vcek(&certificates.vcek), Ok(SnpProduct::Genoa));
}
