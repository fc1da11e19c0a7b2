//! Peers that do something wrong get no link, and disturb nobody else.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cocoon_transport::identity::{CertificateRefused, TlsIdentity};
use cocoon_transport::peer_header::PeerHeader;
use cocoon_transport::pow::{Challenge, Solution};
use cocoon_transport::{
    CloseReason, ConnectConfig, ConnectError, LinkEvent, ListenConfig, ListenDeadlines, ListenMode, Phase,
    Via, connect,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use wire::frame::FrameWriter;
use wire::tcp::Packet;

use crate::support::{LOCAL, listen, next_is_a_good_client, shown_as, tls_config};

/// Reads until the other side closes; however it does that.
async fn until_closed(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut received = Vec::new();
    let _closed = stream.read_to_end(&mut received).await;
    received
}

/// A raw connection whose proof of work is done.
async fn past_work(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut challenge = [0; Challenge::LEN];
    stream.read_exact(&mut challenge).await.unwrap();
    let solution = Challenge::decode(&challenge, 20).unwrap().search(0..i64::MAX).unwrap();
    stream.write_all(&solution.encode()).await.unwrap();
    stream
}

fn frame(packet: &Packet<'_>) -> BytesMut {
    let mut bytes = BytesMut::new();
    FrameWriter::new().write(packet, &mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn wrong_work_gets_no_link() {
    let (mut listener, address) = listen(tls_config(10)).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let mut challenge = [0; Challenge::LEN];
    stream.read_exact(&mut challenge).await.unwrap();
    let challenge = Challenge::decode(&challenge, 10).unwrap();
    let wrong = (0..).map(|nonce| Solution { nonce }).find(|nonce| challenge.check(*nonce).is_err());
    stream.write_all(&wrong.unwrap().encode()).await.unwrap();
    assert!(until_closed(stream).await.is_empty());
    next_is_a_good_client(&mut listener, &address).await;
}

#[tokio::test]
async fn strangers_get_no_link() {
    let (mut listener, address) = listen(tls_config(0)).await;
    let strangers: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03aaaaaaaaaaaaaaaaaaaaaaaa",
        &[0; 64],
        &[0xff; 64],
    ];
    for stranger in strangers {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(stranger).await.unwrap();
        assert_eq!(until_closed(stream).await.len(), Challenge::LEN);
    }
    next_is_a_good_client(&mut listener, &address).await;
}

#[tokio::test]
async fn frames_without_tls_get_no_link() {
    let (mut listener, address) = listen(tls_config(0)).await;
    for bytes in [frame(&Packet::Connect { id: 1 }), BytesMut::from(&[0xa5; 1000][..])] {
        let mut stream = past_work(&address).await;
        stream.write_all(&bytes).await.unwrap();
        // At most an alert comes back, no frame.
        assert!(until_closed(stream).await.len() < 16);
    }
    next_is_a_good_client(&mut listener, &address).await;
}

#[derive(Debug)]
struct TrustAnyone;

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Shakes hands without a client certificate, under `provider`; then says hello and waits for the end.
async fn without_certificate(address: &str, provider: CryptoProvider) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnyone))
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = past_work(address).await;
    let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, stream).await else {
        return Vec::new();
    };
    let _refused_already = stream.write_all(&frame(&Packet::Connect { id: 1 })).await;
    until_closed(stream).await
}

#[tokio::test]
async fn clients_without_a_certificate_get_no_link() {
    let (mut listener, address) = listen(tls_config(0)).await;
    assert!(without_certificate(&address, aws_lc_rs::default_provider()).await.is_empty());
    next_is_a_good_client(&mut listener, &address).await;
}

#[tokio::test]
async fn other_cipher_suites_get_no_link() {
    let (mut listener, address) = listen(tls_config(0)).await;
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        ..aws_lc_rs::default_provider()
    };
    assert!(without_certificate(&address, provider).await.is_empty());
    next_is_a_good_client(&mut listener, &address).await;
}

#[tokio::test]
async fn expired_certificates_are_refused_by_both_sides() {
    let two_days_ago = cocoon_transport::clock::unix_now() - Duration::from_secs(2 * 86_400);
    let expired = || TlsIdentity::generate(two_days_ago).unwrap();

    let (mut listener, address) = listen(tls_config(0)).await;
    // In TLS 1.3 the client is done before the server judges it: the refusal arrives instead of the hello.
    match connect(&address, &shown_as(expired())).await.unwrap_err() {
        ConnectError::Hello(CloseReason::Tls(_) | CloseReason::Lost(_) | CloseReason::Peer) => {}
        other => panic!("{other:?}"),
    }
    next_is_a_good_client(&mut listener, &address).await;

    let mode = ListenMode::Tls { identity: expired().into(), appraiser: None, pow_difficulty: 0 };
    let (_listener, address) = listen(ListenConfig { mode, ..ListenConfig::default() }).await;
    match connect(&address, &ConnectConfig::default()).await.unwrap_err() {
        ConnectError::Certificate(CertificateRefused::Expired { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn garbage_after_tls_gets_no_link() {
    let (mut listener, address) =
        listen(ListenConfig { mode: ListenMode::BehindRouter, ..ListenConfig::default() }).await;
    let header = hex::decode("78000000").unwrap();
    let whole: Vec<u8> = [
        &header[..],
        &[0; 52],
        &[32],
        &[7; 32],
        &[0; 3],
        b"\x09127.0.0.1\0\0\x40\x9c\0\0",
        b"\x09127.0.0.1\0\0\x5e\x2b\0\0",
    ]
    .concat();
    let after_header = |bytes: &[u8]| [&whole[..], bytes].concat();
    let refused = [
        // The reference sends a header before any frame; without one, a frame is read as a header.
        frame(&Packet::Connect { id: 1 }).to_vec(),
        b"\xff\xff\xff\xff".to_vec(),
        after_header(&frame(&Packet::Ping { id: 1 })),
        after_header(b"GET / HTTP/1.1\r\n\r\n"),
    ];
    for bytes in refused {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(until_closed(stream).await.is_empty());
    }
    // The same header with a hello is fine.
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(&after_header(&frame(&Packet::Connect { id: 1 }))).await.unwrap();
    let (link, _events) = listener.accept().await.unwrap();
    assert_eq!(link.peer().source().port(), 40_000);
}

#[tokio::test]
async fn those_who_wait_too_long_are_let_go_phase_by_phase() {
    const SHORT: Duration = Duration::from_millis(50);
    let default = ListenDeadlines::default();

    let deadlines = ListenDeadlines { proof_of_work: SHORT, ..default };
    let (_listener, address) = listen(ListenConfig { deadlines, ..tls_config(0) }).await;
    let silent = TcpStream::connect(&address).await.unwrap();
    assert_eq!(until_closed(silent).await.len(), Challenge::LEN);

    let deadlines = ListenDeadlines { tls: SHORT, ..default };
    let (_listener, address) = listen(ListenConfig { deadlines, ..tls_config(0) }).await;
    assert!(until_closed(past_work(&address).await).await.is_empty());

    let deadlines = ListenDeadlines { peer_header: SHORT, ..default };
    let config = ListenConfig { mode: ListenMode::BehindRouter, deadlines, ..ListenConfig::default() };
    let (_listener, address) = listen(config).await;
    assert!(until_closed(TcpStream::connect(&address).await.unwrap()).await.is_empty());
}

#[tokio::test]
async fn a_slow_server_is_given_up_phase_by_phase() {
    const SHORT: Duration = Duration::from_millis(50);
    // Accepts connections, by way of the system, and says nothing.
    let silent = TcpListener::bind(LOCAL).await.unwrap();
    let silent_address = silent.local_addr().unwrap();
    let phase_of = |error| match error {
        ConnectError::Deadline { phase, .. } => phase,
        other => panic!("{other:?}"),
    };

    let mut config = ConnectConfig::default();
    config.deadlines.challenge = SHORT;
    let error = connect(&silent_address.to_string(), &config).await.unwrap_err();
    assert_eq!(phase_of(error), Phase::ProofOfWork);

    let mut config = ConnectConfig { via: Via::Socks5Router(silent_address), ..ConnectConfig::default() };
    config.deadlines.socks = SHORT;
    let error = connect("192.0.2.1:1", &config).await.unwrap_err();
    assert_eq!(phase_of(error), Phase::Socks);

    let router = TcpListener::bind(LOCAL).await.unwrap();
    let via = Via::Socks5Router(router.local_addr().unwrap());
    let mut config = ConnectConfig { via, ..ConnectConfig::default() };
    config.deadlines.peer_header = SHORT;
    let answers = async {
        let (mut stream, _) = router.accept().await.unwrap();
        stream.write_all(b"\x05\x00\x05\x00\x00\x01\x01\x00\x00\x7f\x12\x34").await.unwrap();
        stream
    };
    let (result, _stream) = tokio::join!(connect("192.0.2.1:1", &config), answers);
    assert_eq!(phase_of(result.unwrap_err()), Phase::PeerHeader);
}

#[tokio::test]
async fn one_address_cannot_take_all_handshakes() {
    let config = ListenConfig { handshakes_per_address_max: 3, ..tls_config(0) };
    let (mut listener, address) = listen(config).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.read_exact(&mut [0; Challenge::LEN]).await.unwrap();
        waiting.push(stream);
    }
    let above = TcpStream::connect(&address).await.unwrap();
    assert!(until_closed(above).await.is_empty(), "one above the limit is closed without a challenge");
    // When one of them leaves, there is room for another.
    drop(waiting.pop());
    while connect(&address, &ConnectConfig::default()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(listener.accept().await.is_some());
}

#[tokio::test]
async fn further_handshakes_wait_for_those_before() {
    let config = ListenConfig { handshakes_max: 1, ..tls_config(0) };
    let (mut listener, address) = listen(config).await;
    let mut first = TcpStream::connect(&address).await.unwrap();
    first.read_exact(&mut [0; Challenge::LEN]).await.unwrap();
    let config = ConnectConfig::default();
    let second = tokio::spawn({
        let address = address.clone();
        async move { connect(&address, &config).await.is_ok() }
    });
    drop(first);
    assert!(listener.accept().await.is_some());
    assert!(second.await.unwrap());
}

/// A client that says what it likes once its link stands.
async fn raw_client(address: &str) -> impl AsyncRead + AsyncWrite + Unpin {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let header = PeerHeader {
        attestation: None,
        collateral_root_hash: [0; 48],
        public_key: units::PublicKey::new([1; 32]),
        source: LOCAL,
        destination: LOCAL,
    };
    stream.write_all(&header.encode()).await.unwrap();
    stream.write_all(&frame(&Packet::Connect { id: 1 })).await.unwrap();
    stream
}

#[tokio::test]
async fn a_broken_frame_ends_its_own_link_only() {
    let config = ListenConfig { mode: ListenMode::BehindRouter, ..ListenConfig::default() };
    let (mut listener, address) = listen(config).await;
    let mut good = raw_client(&address).await;
    let (good_link, mut good_events) = listener.accept().await.unwrap();
    let mut bad = raw_client(&address).await;
    let (bad_link, mut bad_events) = listener.accept().await.unwrap();

    bad.write_all(b"\x04\0\0\0\x01\0\0\0abcd").await.unwrap();
    match bad_events.next().await {
        Some(LinkEvent::Closed(CloseReason::Packet(error))) => {
            assert_eq!(error, wire::DecodeError::UnknownConstructor { id: u32::from_le_bytes(*b"abcd") });
        }
        other => panic!("{other:?}"),
    }
    until_closed(bad).await;
    assert!(bad_link.is_closed());

    let mut bytes = BytesMut::new();
    let mut writer = FrameWriter::new();
    writer.write(&Packet::Connect { id: 1 }, &mut bytes).unwrap();
    bytes.clear();
    writer.write(&Packet::Packet { data: b"fine" }, &mut bytes).unwrap();
    good.write_all(&bytes).await.unwrap();
    assert!(matches!(good_events.next().await, Some(LinkEvent::Packet(message)) if message == "fine"));
    good_link.try_send(Bytes::from_static(b"fine too")).unwrap();
    let mut answer = [0; 20 + 20];
    good.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[20 + 12..], b"\x08fine too"[..8]);
}
