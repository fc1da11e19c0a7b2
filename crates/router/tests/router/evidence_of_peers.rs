//! Who is let through, and what the others are told.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};

use cocoon_router::{Limits, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tracing_subscriber::fmt::MakeWriter;
use transport::identity::IdentitySource;

use crate::support::{Echo, Running, World, ask, forward, image, reverse, socks5, target, tells};

/// Log lines of all tests here.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// One for the process: which of several subscribers a line goes to would depend on who came first.
    fn capture() -> Self {
        static LINES: OnceLock<Lines> = OnceLock::new();
        let begun = || {
            let lines = Self::default();
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone());
            subscriber.with_max_level(tracing::Level::INFO).init();
            lines
        };
        LINES.get_or_init(begun).clone()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Nothing more comes.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let _closed = stream.read_to_end(&mut rest).await;
    rest.is_empty()
}

#[tokio::test]
async fn a_program_learns_by_the_reply_that_its_peer_is_refused_and_the_operator_why() {
    let lines = Lines::capture();
    let world = World::new();
    let echo = Echo::listen().await;
    let far = world.router(&[reverse(echo.address, "any")], world.shows("somebody else's")).await;
    let bare = world.router(&[reverse(echo.address, "any")], IdentitySource::generated()).await;
    let wanted = format!("tdx:{}", image("proxy"));
    let near = world.router(&[socks5(&wanted), socks5("tdx")], world.shows("worker")).await;

    let (mut stream, code) = ask(near.ports[0], &target(far.ports[0])).await;
    assert_eq!(code, 2, "not allowed by the rules");
    assert!(is_closed(&mut stream).await);
    let (mut stream, code) = ask(near.ports[1], &target(bare.ports[0])).await;
    assert_eq!(code, 2);
    assert!(is_closed(&mut stream).await);

    let text = lines.text();
    let refused: Vec<&str> = text.lines().filter(|line| line.contains("connection ended")).collect();
    let found = image("somebody else's").to_string();
    assert!(refused.iter().any(|line| line.contains("tdx_inline_0") && line.contains(&found)), "{text}");
    assert!(refused.iter().any(|line| line.contains("no evidence")), "{text}");
    assert!(!refused.concat().contains("127.0.0.1"), "whom it concerns is nobody's business: {text}");
}

#[tokio::test]
async fn a_user_name_chooses_the_policy_where_the_file_says_so() {
    let lines = Lines::capture();
    let echo = Echo::listen().await;
    let far = Running::plain(tells(&[reverse(echo.address, "any")]), Limits::default()).await;
    let near = Running::of_file(
        r#"{"policies": [{"name": "strict", "type": "tdx"}], "ports": [
            {"port": 0, "type": "socks5", "policy_name": "any", "allow_policy_from_username": true}]}"#,
    )
    .await;
    assert_eq!(ask(near.ports[0], &target(far.ports[0])).await.1, 0, "the port's own");
    let named = async |name: &str| {
        let mut stream = TcpStream::connect(near.ports[0]).await.unwrap();
        let login = [&[5, 1, 2, 1, u8::try_from(name.len()).unwrap()][..], name.as_bytes(), &[0]].concat();
        stream.write_all(&login).await.unwrap();
        stream.write_all(&[&[5, 1, 0][..], &target(far.ports[0])].concat()).await.unwrap();
        let mut replies = Vec::new();
        let _closed = stream.read_to_end(&mut replies).await;
        replies
    };
    assert_eq!(named("strict").await[..6], [5, 2, 1, 0, 5, 2]);
    let text = lines.text();
    assert!(text.contains("(socks5, policy strict): evidence"), "{text}");
    assert_eq!(named("other").await, [5, 2, 1, 1]);
}

#[tokio::test]
async fn a_port_says_why_peers_did_not_come_as_far_as_evidence() {
    let lines = Lines::capture();
    let echo = Echo::listen().await;
    let far = Running::plain(tells(&[reverse(echo.address, "any")]), Limits::default()).await;
    let mut stream = TcpStream::connect(far.ports[0]).await.unwrap();
    stream.write_all(&[0xff; 12]).await.unwrap();
    let _closed = stream.read_to_end(&mut Vec::new()).await;
    let text = lines.text();
    assert!(
        text.lines().any(|line| line.contains("reverse{port=0") && line.contains("proof of work")),
        "{text}"
    );
}

#[tokio::test]
async fn peers_without_a_quote_reach_no_program_behind_tdx() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let far = world.router(&[reverse(address, "tdx")], world.shows("proxy")).await;
    let bare = world.router(&[forward(far.ports[0], "tdx")], IdentitySource::generated()).await;
    let mut refused = TcpStream::connect(bare.ports[0]).await.unwrap();
    // Its own side accepted the proxy, so that the header came; then the proxy hung up.
    let mut received = Vec::new();
    let _closed = refused.read_to_end(&mut received).await;
    assert!(received.is_empty() || received.len() > 500);

    let good = world.router(&[forward(far.ports[0], "tdx")], world.shows("worker")).await;
    let _allowed = TcpStream::connect(good.ports[0]).await.unwrap();
    let (mut first, _) = listener.accept().await.unwrap();
    let header = crate::support::read_header(&mut first).await;
    let measured = header.attestation.map(|measured| measured.image_hash());
    assert_eq!(measured, Some(image("worker")), "nobody came before");
}

#[tokio::test]
async fn what_cannot_be_reached_has_a_code_of_its_own() {
    let near = Running::plain(tells(&[socks5("any")]), Limits::default()).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_stream, code) = ask(near.ports[0], &target(free)).await;
    assert_eq!(code, 5, "nobody listens");
    let (_stream, code) = ask(near.ports[0], b"\x03\x0enobody.invalid\x00\x50").await;
    assert_eq!(code, 4, "no address");
    // A server that speaks something else.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    let speak = async {
        let (mut stream, _) = other.accept().await.unwrap();
        stream.write_all(&[b'x'; 64]).await.unwrap();
        stream
    };
    let asked = target(address);
    let ((_stream, code), _other) = tokio::join!(ask(near.ports[0], &asked), speak);
    assert_eq!(code, 1);
}

#[tokio::test]
async fn more_work_than_the_port_does_is_refused() {
    let echo = Echo::listen().await;
    let hard = Options { pow_difficulty: Some(12), ..tells(&[reverse(echo.address, "any")]) };
    let far = Running::plain(hard, Limits::default()).await;
    let lazy = Options { pow_difficulty_max: Some(11), ..tells(&[socks5("any")]) };
    let near = Running::plain(lazy, Limits::default()).await;
    assert_eq!(ask(near.ports[0], &target(far.ports[0])).await.1, 1);
}

/// The report data in the place of a quote, as the deployed software's tests show it.
#[derive(Debug)]
struct Fake;

impl evidence::Enclave for Fake {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, evidence::ProduceError> {
        Ok(report_data.to_vec())
    }
}

#[tokio::test]
async fn fakes_pass_where_fakes_are_asked_for_and_nowhere_else() {
    let world = World::new();
    let echo = Echo::listen().await;
    let fake = || IdentitySource::attested(Arc::new(Fake));
    let far = world.router(&[reverse(echo.address, "any")], fake()).await;
    let strict = world.router(&[socks5("tdx")], fake()).await;
    assert_eq!(ask(strict.ports[0], &target(far.ports[0])).await.1, 2);

    let insecure = Options { insecure_fake_tdx: true, ..tells(&[socks5("fake_tdx")]) };
    let near = Running::plain(insecure, Limits::default()).await;
    let asked = target(far.ports[0]);
    let ((mut stream, code), _server) = tokio::join!(ask(near.ports[0], &asked), echo.accept());
    assert_eq!(code, 0);
    let header = crate::support::read_header(&mut stream).await;
    let image = header.attestation.unwrap().image_hash().to_string();
    assert_eq!(image, "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61");
    assert_eq!(header.collateral_root_hash, [0; 48]);

    let bare = Running::plain(tells(&[reverse(echo.address, "any")]), Limits::default()).await;
    assert_eq!(ask(near.ports[0], &target(bare.ports[0])).await.1, 2);
}
