//! Evidence of enclaves on links.

use std::num::NonZeroUsize;
use std::sync::Arc;

use attest::{Allowed, Attestation, Hex, PlatformEvidenceError, Policy, Refusal, Root, Verifier};
use cocoon_transport::clock::unix_now;
use cocoon_transport::identity::{IdentitySource, TlsIdentity};
use cocoon_transport::{ConnectConfig, ConnectError, Link, ListenConfig, ListenMode, Listener, Via, connect};
use evidence::{AppraiseError, Appraiser, CollateralStore, Enclave, ProduceError, Simulated};
use sim::{Firmware, Guest, Publication, Vendor};
use tempfile::TempDir;
use units::ImageHash;

use crate::support::{listen, tls_config};

/// A vendor of simulated platforms, and what it publishes of them.
struct World {
    vendor: Vendor,
    collateral: TempDir,
}

impl World {
    fn new() -> Self {
        let vendor = Vendor::from_seed(&[7; 32]).unwrap();
        let collateral = tempfile::tempdir().unwrap();
        let file = collateral.path().join(format!("{}.json", Vendor::COLLATERAL_KIND));
        std::fs::write(file, vendor.collateral(&Publication::at(unix_now())).unwrap()).unwrap();
        Self { vendor, collateral }
    }

    fn enclave(&self, image: &str, firmware: Firmware) -> Arc<dyn Enclave> {
        let platform = self.vendor.platform(Hex::new([1; 16]), firmware).unwrap();
        Arc::new(Simulated::new(platform, Guest::of_image(image)))
    }

    fn shows(&self, image: &str) -> IdentitySource {
        IdentitySource::attested(self.enclave(image, Firmware::Current))
    }

    fn asks(&self, root: Root, images: Allowed<ImageHash>) -> Option<Arc<Appraiser>> {
        let store = CollateralStore::new(self.collateral.path().into(), None);
        let policy = Policy::for_images(images);
        Some(Arc::new(Appraiser::new(Verifier::new(root), policy, store, NonZeroUsize::MIN)))
    }

    /// Asks for any image on a platform of the vendor's.
    fn asks_for_any(&self) -> Option<Arc<Appraiser>> {
        self.asks(Root::Other(self.vendor.root_der().to_vec()), Allowed::default())
    }
}

fn image(name: &str) -> ImageHash {
    Guest::of_image(name).image_hash()
}

async fn listens(identity: IdentitySource, appraiser: Option<Arc<Appraiser>>) -> (Listener, String) {
    let mode = ListenMode::Tls { identity, appraiser, pow_difficulty: 0 };
    listen(ListenConfig { mode, ..ListenConfig::default() }).await
}

fn shows(identity: IdentitySource, appraiser: Option<Arc<Appraiser>>) -> ConnectConfig {
    ConnectConfig { via: Via::Direct { identity, appraiser }, ..ConnectConfig::default() }
}

#[tokio::test]
async fn both_sides_know_what_the_other_one_runs() {
    let world = World::new();
    let (mut listener, address) = listens(world.shows("proxy"), world.asks_for_any()).await;
    let config = shows(world.shows("worker"), world.asks_for_any());
    let (ours, theirs) = tokio::join!(connect(&address, &config), listener.accept());
    let attested = |link: &Link| link.peer().attestation();
    let simulated = |name| Some(Attestation { image: image(name), is_simulated: true });
    assert_eq!(attested(&ours.unwrap().0), simulated("proxy"));
    assert_eq!(attested(&theirs.unwrap().0), simulated("worker"));
}

#[tokio::test]
async fn evidence_that_is_not_as_it_should_be_makes_no_link() {
    let world = World::new();
    let root = || Root::Other(world.vendor.root_der().to_vec());
    let (_listener, address) = listens(world.shows("proxy"), None).await;
    let refused = async |address: &str, appraiser| match connect(
        address,
        &shows(IdentitySource::generated(), appraiser),
    )
    .await
    {
        Err(ConnectError::Evidence(AppraiseError::Refused(refusal))) => refusal,
        other => panic!("{other:?}"),
    };
    let other_image = refused(&address, world.asks(root(), Allowed::only([image("worker")]))).await;
    assert_eq!(other_image, Refusal::Image { found: image("proxy") });
    let real_vendor = refused(&address, world.asks(Root::Intel, Allowed::default())).await;
    assert!(matches!(real_vendor, Refusal::Unverified { .. }), "{real_vendor:?}");

    // A quote that somebody else's key is vouched for by.
    #[derive(Debug)]
    struct Copied(Vec<u8>);
    impl Enclave for Copied {
        fn quote(&self, _report_data: &[u8; 64]) -> Result<Vec<u8>, ProduceError> {
            Ok(self.0.clone())
        }
    }
    let key = TlsIdentity::generate(unix_now()).unwrap().public_key();
    let quote = world.enclave("proxy", Firmware::Current).quote(&attest::report_data_of_key(&key)).unwrap();
    let (_listener, address) = listens(IdentitySource::attested(Arc::new(Copied(quote))), None).await;
    let copied = refused(&address, world.asks_for_any()).await;
    assert!(matches!(copied, Refusal::ReportData { .. }), "{copied:?}");

    let milan = include_bytes!("../../../../spec/vectors/quotes/snp_milan.dat").to_vec();
    let (_listener, address) = listens(IdentitySource::attested(Arc::new(Copied(milan))), None).await;
    let other_kind = refused(&address, world.asks_for_any()).await;
    assert_eq!(other_kind, Refusal::Tee { found: attest::Tee::Snp });

    let outdated = IdentitySource::attested(world.enclave("proxy", Firmware::Outdated));
    let (_listener, address) = listens(outdated, None).await;
    let outdated = refused(&address, world.asks_for_any()).await;
    assert!(matches!(outdated, Refusal::Status { .. }), "{outdated:?}");
}

/// An enclave whose quotes nobody can read.
#[derive(Debug)]
struct Pretender;

impl Enclave for Pretender {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, ProduceError> {
        Ok(report_data.to_vec())
    }
}

#[tokio::test]
async fn peers_without_evidence_are_refused_where_it_is_asked_for() {
    let world = World::new();
    let pretender = || IdentitySource::attested(Arc::new(Pretender));
    // It shows something, and that is not looked at where nobody asks.
    let (mut lenient, address) = listens(pretender(), None).await;
    let config = shows(IdentitySource::generated(), None);
    let (ours, _theirs) = tokio::join!(connect(&address, &config), lenient.accept());
    assert_eq!(ours.unwrap().0.peer().attestation(), None);

    let asks = || shows(IdentitySource::generated(), world.asks_for_any());
    let refused = connect(&address, &asks()).await.unwrap_err();
    assert!(
        matches!(refused, ConnectError::Evidence(AppraiseError::Unreadable(PlatformEvidenceError::Quote(_)))),
        "{refused:?}"
    );
    let (_bare, address) = listen(tls_config(0)).await;
    let refused = connect(&address, &asks()).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Evidence(AppraiseError::NoEvidence)), "{refused:?}");

    // And the other way round: to the peer it looks as if the server hung up.
    let (_strict, address) = listens(world.shows("proxy"), world.asks_for_any()).await;
    for identity in [IdentitySource::generated(), pretender()] {
        let refused = connect(&address, &shows(identity, None)).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Hello(_)), "{refused:?}");
    }
}
