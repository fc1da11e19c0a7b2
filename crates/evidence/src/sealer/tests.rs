use std::sync::Mutex;

use attest::{PlatformEvidenceError, PlatformId, Refusal, Root};
use sim::{Enclave, Firmware, Guest, Platform, Publication, Vendor};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::*;
use crate::simulated::Simulated;

/// 2026-11-22.
const NOW: Duration = Duration::from_secs(1_795_305_600);

fn vendor() -> Vendor {
    Vendor::from_seed(&[1; 32]).unwrap()
}

fn platform() -> Platform {
    vendor().platform(PlatformId::new([7; 16]), Firmware::Current).unwrap()
}

fn name() -> KeyName {
    "app".parse().unwrap()
}

/// A folder with collateral and a socket.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let collateral = vendor().enclave_collateral(&Publication::at(NOW)).unwrap();
        let file = format!("{}.json", Vendor::ENCLAVE_COLLATERAL_KIND);
        std::fs::write(folder.path().join(file), collateral).unwrap();
        Self { folder }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("sealer")
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.socket()).unwrap()
    }

    fn serve(&self) -> JoinHandle<()> {
        let sealer = sim::Sealer::new(platform(), Enclave::of_name("sealer"));
        tokio::spawn(serve_simulated(self.listen(), sealer))
    }

    /// Answers one question with these bytes, or with none, and then waits for the guest to go.
    fn answer_with(&self, bytes: Vec<u8>) -> JoinHandle<()> {
        let listener = self.listen();
        tokio::spawn(async move {
            let (mut stream, _address) = listener.accept().await.unwrap();
            read_message(&mut stream).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            let _ = stream.read_u8().await;
        })
    }

    fn sealer(&self, image: &str, enclaves: &[MrEnclave]) -> Sealer {
        let reports = Arc::new(Simulated::new(platform(), Guest::of_image(image)));
        let verifier = Verifier::new(Root::Other(vendor().root_der().to_vec()));
        let collateral = CollateralStore::new(self.folder.path().to_owned(), None);
        Sealer::new(
            SealerAddress::Unix(self.socket()),
            reports,
            verifier,
            collateral,
            enclaves.iter().copied(),
        )
    }

    async fn key(&self, image: &str) -> Result<[u8; 32], SealerError> {
        let key = self.sealer(image, &[Enclave::of_name("sealer").mrenclave()]).key(&name(), NOW).await?;
        Ok(**key.expose())
    }
}

#[tokio::test]
async fn an_image_gets_its_own_key_again_and_again() {
    let world = World::new();
    let serving = world.serve();
    let first = world.key("proxy").await.unwrap();
    assert_ne!(world.key("another proxy").await.unwrap(), first);
    // The sealer begins anew; nothing was kept of the key.
    serving.abort();
    std::fs::remove_file(world.socket()).unwrap();
    let _serving = world.serve();
    assert_eq!(world.key("proxy").await.unwrap(), first);
}

#[tokio::test]
async fn a_sealer_that_is_not_listed_is_refused() {
    let world = World::new();
    let _serving = world.serve();
    for enclaves in [&[][..], &[Enclave::of_name("another").mrenclave()]] {
        let refused = world.sealer("proxy", enclaves).key(&name(), NOW).await.unwrap_err();
        let SealerError::Refused(AppraiseError::Refused(Refusal::Image { .. })) = refused else {
            panic!("{enclaves:?}: {refused}")
        };
    }
}

#[tokio::test]
async fn a_sealer_under_another_root_is_refused() {
    let world = World::new();
    let _serving = world.serve();
    let sealer = Sealer::new(
        SealerAddress::Unix(world.socket()),
        Arc::new(Simulated::new(platform(), Guest::of_image("proxy"))),
        Verifier::new(Root::Intel),
        CollateralStore::new(world.folder.path().to_owned(), None),
        [Enclave::of_name("sealer").mrenclave()],
    );
    let refused = sealer.key(&name(), NOW).await.unwrap_err();
    assert!(
        matches!(refused, SealerError::Refused(AppraiseError::Refused(Refusal::Unverified { .. }))),
        "{refused}"
    );
}

#[tokio::test]
async fn answers_that_are_none_are_refused() {
    let world = World::new();
    let with = async |bytes: Vec<u8>| {
        let _ = std::fs::remove_file(world.socket());
        let answering = world.answer_with(bytes);
        let refused = world.key("proxy").await.unwrap_err();
        answering.await.unwrap();
        refused
    };
    let framed = |message: &[u8]| [&u32::try_from(message.len()).unwrap().to_le_bytes(), message].concat();
    let cause = |error: &SealerError| match error {
        SealerError::Answer { source, .. } => source.to_string(),
        other => panic!("{other}"),
    };
    // Too long by a byte, and by as much as can be said: refused by the length alone.
    for len in [u32::try_from(MESSAGE_LEN_MAX).unwrap() + 1, u32::MAX] {
        let refused = with(len.to_le_bytes().to_vec()).await;
        assert!(cause(&refused).contains("16536"), "{refused}");
    }
    assert!(matches!(with(framed(b"")).await, SealerError::Message(KeyMessageError::Kind { .. })));
    assert!(matches!(with(framed(&[0; 100])).await, SealerError::Message(KeyMessageError::Kind { .. })));
    let no_quote = KeyAnswer { quote: vec![1; 500], wrapped: [0; 96] }.to_bytes();
    assert!(matches!(
        with(framed(&no_quote)).await,
        SealerError::Refused(AppraiseError::Unreadable(PlatformEvidenceError::Quote(_)))
    ));
    assert!(matches!(
        with(framed(&no_quote[..100])).await,
        SealerError::Message(KeyMessageError::CutOff { field: "sgx_quote" })
    ));
}

#[tokio::test]
async fn a_sealer_that_hangs_up_or_is_not_there_is_named() {
    let world = World::new();
    let nobody = world.key("proxy").await.unwrap_err();
    assert!(matches!(&nobody, SealerError::Connect { .. }), "{nobody}");
    let listener = world.listen();
    let hanging_up = tokio::spawn(async move {
        let (mut stream, _address) = listener.accept().await.unwrap();
        read_message(&mut stream).await.unwrap();
        stream.write_all(&[200, 0, 0, 0, 1]).await.unwrap();
    });
    let cut = world.key("proxy").await.unwrap_err();
    hanging_up.await.unwrap();
    assert!(matches!(&cut, SealerError::Answer { .. }), "{cut}");
    assert!(cut.to_string().contains("sealer at unix:"), "{cut}");
}

/// A sealer that never answers, and one that sends a byte at a time, hold nobody up for longer than an exchange may take.
#[tokio::test(start_paused = true)]
async fn a_slow_sealer_is_given_up() {
    for drips in [false, true] {
        let world = World::new();
        let listener = world.listen();
        let slow = tokio::spawn(async move {
            let (mut stream, _address) = listener.accept().await.unwrap();
            read_message(&mut stream).await.unwrap();
            stream.write_all(&1000_u32.to_le_bytes()).await.unwrap();
            while drips && stream.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(EXCHANGE_TIMEOUT / 4).await;
            }
            std::future::pending::<()>().await;
        });
        let refused = world.key("proxy").await.unwrap_err();
        slow.abort();
        assert!(matches!(refused, SealerError::Slow { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_guest_that_is_refused_hears_nothing() {
    let world = World::new();
    let _serving = world.serve();
    let neighbour = vendor().platform(PlatformId::new([8; 16]), Firmware::Current).unwrap();
    let sealer = Sealer {
        reports: Arc::new(Simulated::new(neighbour, Guest::of_image("proxy"))),
        ..world.sealer("proxy", &[Enclave::of_name("sealer").mrenclave()])
    };
    let refused = sealer.key(&name(), NOW).await.unwrap_err();
    assert!(matches!(refused, SealerError::Answer { .. }), "{refused}");
}

/// More guests than are answered at the same time, none of which says anything. Some go, and the rest hold a place each.
#[tokio::test]
async fn silent_guests_keep_nobody_from_a_key() {
    let world = World::new();
    let _serving = world.serve();
    let mut silent = Vec::new();
    for _guest in 0..20 {
        silent.push(tokio::net::UnixStream::connect(world.socket()).await.unwrap());
    }
    silent.truncate(10);
    assert!(world.key("proxy").await.is_ok());
}

/// What a guest sends is what it vouches for.
#[derive(Debug, Default)]
struct Watched(Mutex<Vec<[u8; 64]>>);

impl LocalReports for Watched {
    fn report(&self, report_data: &[u8; 64]) -> Result<TdReport, ProduceError> {
        self.0.lock().unwrap().push(*report_data);
        Ok(platform().report(&Guest::of_image("proxy"), report_data))
    }
}

#[tokio::test]
async fn each_question_has_a_key_of_its_own() {
    let world = World::new();
    let _serving = world.serve();
    let watched = Arc::new(Watched::default());
    let enclaves = [Enclave::of_name("sealer").mrenclave()];
    let sealer = Sealer { reports: Arc::clone(&watched) as _, ..world.sealer("proxy", &enclaves) };
    let first = **sealer.key(&name(), NOW).await.unwrap().expose();
    assert_eq!(**sealer.key(&name(), NOW).await.unwrap().expose(), first);
    let asked = watched.0.lock().unwrap();
    assert_ne!(asked[0], asked[1]);
}
