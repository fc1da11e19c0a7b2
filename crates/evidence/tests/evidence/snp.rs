//! Reports of AMD SEV-SNP, and a key service that gives out what was recorded with them.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use attest::{
    Allowed, PlatformEvidenceError, Policy, Refusal, Root, SnpCertificates, SnpPolicy, SnpRefusal, SnpReport,
    SnpTcb, TcbFloors, Tee, Verifier,
};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cocoon_evidence::{
    AppraiseError, Appraiser, CollateralStore, Kds, PccsError, SnpStore, SnpStoreError, Standing,
};
use tempfile::tempdir;
use tokio::net::TcpListener;

const MILAN: &[u8] = include_bytes!("../../../../spec/vectors/quotes/snp_milan.dat");
const PEM: &str = include_str!("../../../../spec/vectors/quotes/snp_milan.certificates.pem");
/// 2024-07-01.
const NOW: Duration = Duration::from_secs(1_719_792_000);

/// A key service.
struct Stub {
    kds: Kds,
    served: Arc<Served>,
}

struct Served {
    answers: HashMap<String, Vec<u8>>,
    asked: AtomicUsize,
}

impl Stub {
    /// Serves the certificates of the recorded report, and nothing of what was revoked: no list is recorded.
    async fn serve(change: impl FnOnce(&mut HashMap<String, Vec<u8>>)) -> Self {
        let certificates = SnpCertificates::from_pem(PEM.as_bytes()).unwrap();
        let chip = SnpReport::parse(MILAN).unwrap().chip_id();
        let ask = PEM.split_inclusive("-----END CERTIFICATE-----").nth(1).unwrap();
        let mut answers = HashMap::from([
            (format!("/vcek/v1/Milan/{chip}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115"), certificates.vcek),
            ("/vcek/v1/Milan/cert_chain".to_owned(), ask.into()),
        ]);
        change(&mut answers);
        let served = Arc::new(Served { answers, asked: AtomicUsize::new(0) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kds = Kds::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().fallback(answer).with_state(served.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { kds, served }
    }

    fn asked(&self) -> usize {
        self.served.asked.load(Ordering::SeqCst)
    }
}

async fn answer(State(served): State<Arc<Served>>, request: Request) -> Response {
    served.asked.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path_and_query().unwrap().as_str();
    served
        .answers
        .get(path)
        .map_or_else(|| StatusCode::NOT_FOUND.into_response(), |body| body.clone().into_response())
}

fn policy() -> Policy {
    let milan = Some(SnpTcb { fmc: 0, bootloader: 3, tee: 0, snp: 8, microcode: 115 });
    let snp = SnpPolicy {
        smt: true,
        platform_info_required: [].into(),
        revocations_required: false,
        ..SnpPolicy::for_firmware(TcbFloors { milan, ..TcbFloors::default() })
    };
    Policy { tees: [Tee::Snp].into(), snp: Some(snp), ..Policy::for_images(Allowed::default()) }
}

fn appraiser(policy: Policy, folder: &Path, kds: Option<Kds>) -> Appraiser {
    let store = CollateralStore::new(folder.into(), None);
    let appraiser = Appraiser::new(Verifier::new(Root::Intel), policy, store, NonZeroUsize::MIN);
    appraiser.with_snp(SnpStore::new(folder.into(), kds))
}

async fn appraise(appraiser: &Appraiser, report: &[u8], now: Duration) -> Result<(), AppraiseError> {
    let report_data = report[0x50..0x90].try_into().unwrap();
    appraiser.appraise(report, &report_data, Standing::Stranger, now).await.map(drop)
}

fn kept(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn certificates_are_fetched_once_and_kept_for_the_next_process() {
    let folder = tempdir().unwrap();
    let stub = Stub::serve(|_answers| {}).await;
    let first = appraiser(policy(), folder.path(), Some(stub.kds.clone()));
    appraise(&first, MILAN, NOW).await.unwrap();
    assert_eq!((stub.asked(), kept(folder.path())), (3, 1), "the key's, the product's, what is revoked");
    appraise(&first, MILAN, NOW).await.unwrap();
    let next = appraiser(policy(), folder.path(), Some(stub.kds.clone()));
    appraise(&next, MILAN, NOW).await.unwrap();
    assert_eq!(stub.asked(), 3, "nobody is asked for what is known");
    let offline = appraiser(policy(), folder.path(), None);
    appraise(&offline, MILAN, NOW).await.unwrap();
}

#[tokio::test]
async fn reports_are_refused_as_quotes_are() {
    let folder = tempdir().unwrap();
    let stub = Stub::serve(|_answers| {}).await;
    let with = |policy| appraiser(policy, folder.path(), Some(stub.kds.clone()));
    let refused = with(policy()).appraise(MILAN, &[7; 64], Standing::Known, NOW).await.unwrap_err();
    assert!(matches!(refused, AppraiseError::Refused(Refusal::ReportData { .. })), "{refused:?}");
    let tdx_only = Policy { snp: None, ..Policy::for_images(Allowed::default()) };
    let refused = appraise(&with(tdx_only), MILAN, NOW).await.unwrap_err();
    assert!(matches!(refused, AppraiseError::Refused(Refusal::Tee { found: Tee::Snp })), "{refused:?}");
    assert_eq!(stub.asked(), 0, "what costs nothing comes first");

    // Of the launch's measurement, which is signed and which any image allows.
    let mut forged = MILAN.to_vec();
    forged[0x90] ^= 1;
    let refused = appraise(&with(policy()), &forged, NOW).await.unwrap_err();
    assert!(
        matches!(refused, AppraiseError::Refused(Refusal::Snp(SnpRefusal::ReportSignature))),
        "{refused:?}"
    );
    assert_eq!(kept(folder.path()), 0, "nothing is kept for a forgery");
    let mut strict = policy();
    strict.snp.as_mut().unwrap().revocations_required = true;
    let refused = appraise(&with(strict), MILAN, NOW).await.unwrap_err();
    assert!(
        matches!(refused, AppraiseError::Refused(Refusal::Snp(SnpRefusal::NoRevocations))),
        "{refused:?}"
    );

    let mut masked = MILAN.to_vec();
    masked[0x1a0..0x1e0].fill(0);
    let refused = appraise(&with(policy()), &masked, NOW).await.unwrap_err();
    let is_masked = matches!(refused, AppraiseError::Refused(Refusal::Snp(SnpRefusal::ChipMasked)));
    assert!(is_masked, "{refused:?}");
    let refused = appraise(&with(policy()), &[0; 208], NOW).await.unwrap_err();
    assert!(matches!(refused, AppraiseError::Unreadable(PlatformEvidenceError::Report(_))), "{refused:?}");
    let store = CollateralStore::new(folder.path().into(), None);
    let without = Appraiser::new(Verifier::new(Root::Intel), policy(), store, NonZeroUsize::MIN);
    let refused = appraise(&without, MILAN, NOW).await.unwrap_err();
    assert!(matches!(refused, AppraiseError::NoSnp), "{refused:?}");
}

#[tokio::test]
async fn a_service_is_not_believed() {
    let folder = tempdir().unwrap();
    let refusal = async |change: fn(&mut HashMap<String, Vec<u8>>)| {
        let stub = Stub::serve(change).await;
        appraise(&appraiser(policy(), folder.path(), Some(stub.kds)), MILAN, NOW).await.unwrap_err()
    };
    let other_list = refusal(|answers| {
        answers.insert("/vcek/v1/Milan/crl".to_owned(), vec![0x30, 0]);
    });
    let other_list = other_list.await;
    assert!(
        matches!(
            &other_list,
            AppraiseError::Certificates(SnpStoreError::Fetch { source: PccsError::Malformed { .. }, .. })
        ),
        "{other_list:?}"
    );
    let other_authority = refusal(|answers| {
        let turin = include_str!("../../../../spec/vectors/quotes/snp_turin.certificates.pem");
        let ask = turin.split_inclusive("-----END CERTIFICATE-----").nth(1).unwrap();
        answers.insert("/vcek/v1/Milan/cert_chain".to_owned(), ask.into());
    });
    let other_authority = other_authority.await;
    assert!(
        matches!(&other_authority, AppraiseError::Refused(Refusal::Snp(SnpRefusal::Signature { .. }))),
        "{other_authority:?}"
    );
    let binary =
        refusal(|answers| drop(answers.insert("/vcek/v1/Milan/cert_chain".to_owned(), vec![0xff]))).await;
    assert!(matches!(binary, AppraiseError::Certificates(SnpStoreError::Fetch { .. })), "{binary:?}");
    assert_eq!(kept(folder.path()), 0);
}

#[tokio::test]
async fn a_processor_that_nobody_certifies_is_asked_for_now_and_then() {
    let folder = tempdir().unwrap();
    let stub = Stub::serve(HashMap::clear).await;
    let appraiser = appraiser(policy(), folder.path(), Some(stub.kds.clone()));
    let unknown = appraise(&appraiser, MILAN, NOW).await.unwrap_err();
    let AppraiseError::Certificates(SnpStoreError::Fetch { source, .. }) = unknown else {
        panic!("{unknown:?}")
    };
    assert!(matches!(source, PccsError::Status { status: 404, .. }), "{source:?}");
    assert_eq!(stub.asked(), 2, "a report of version 2 may be of Milan or of Genoa");
    let paused = appraise(&appraiser, MILAN, NOW + Duration::from_secs(29)).await.unwrap_err();
    assert!(matches!(paused, AppraiseError::Certificates(SnpStoreError::Paused { .. })), "{paused:?}");

    let alone = self::appraiser(policy(), folder.path(), None);
    let missing = appraise(&alone, MILAN, NOW).await.unwrap_err();
    let AppraiseError::Certificates(missing @ SnpStoreError::Missing { .. }) = missing else {
        panic!("{missing:?}")
    };
    let said = missing.to_string();
    let name = SnpReport::parse(MILAN).unwrap().vcek_id().unwrap().to_string();
    assert!(said.contains(&format!("{name}.pem")), "{said}");
    std::fs::write(folder.path().join(format!("{name}.pem")), PEM).unwrap();
    appraise(&alone, MILAN, NOW + Duration::from_secs(30)).await.unwrap();
}
