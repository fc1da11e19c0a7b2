use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;
use crate::clock;
use crate::identity::{TlsConfigs, TlsIdentity};
use crate::tls::{PROVIDER, VERSIONS, Verifier, accept, connect, server_name};

fn configs() -> TlsConfigs {
    TlsConfigs::new(TlsIdentity::generate(clock::unix_now()).unwrap())
}

/// Both ends ours: the connecting side first.
async fn pair(pipe_len: usize) -> (TlsStream<DuplexStream>, TlsStream<DuplexStream>) {
    let (left, right) = duplex(pipe_len);
    let TlsConfigs { client, server } = configs();
    let (left, right) = tokio::join!(connect(left, &client), accept(right, &server));
    (left.unwrap().0, right.unwrap().0)
}

/// Our accepting side, and the library's usual stream.
async fn accepting(pipe_len: usize) -> (TlsStream<DuplexStream>, client::TlsStream<DuplexStream>) {
    let (left, right) = duplex(pipe_len);
    let TlsConfigs { client, server } = configs();
    let theirs = TlsConnector::from(client).connect(server_name(), left);
    let (ours, theirs) = tokio::join!(accept(right, &server), theirs);
    (ours.unwrap().0, theirs.unwrap())
}

/// Our connecting side, and the library's usual stream.
async fn connecting(pipe_len: usize) -> (TlsStream<DuplexStream>, server::TlsStream<DuplexStream>) {
    let (left, right) = duplex(pipe_len);
    let TlsConfigs { client, server } = configs();
    let (ours, theirs) = tokio::join!(connect(left, &client), TlsAcceptor::from(server).accept(right));
    (ours.unwrap().0, theirs.unwrap())
}

fn message(len: usize) -> Vec<u8> {
    (0..len).map(|index| u8::try_from(index * 7 % 251).unwrap()).collect()
}

/// Sends messages of many lengths each way at once, in front of a reader that takes `slice_len` at a time.
async fn converse<L, R>(left: &mut L, right: &mut R, slice_len: usize)
where
    L: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    async fn side<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, len: usize, slice_len: usize) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let write = async {
            writer.write_all(&message(len)).await.unwrap();
            writer.flush().await.unwrap();
        };
        let read = async {
            let mut received = Vec::new();
            let mut slice = vec![0; slice_len];
            while received.len() < len {
                let part = slice_len.min(len - received.len());
                let read_len = reader.read(&mut slice[..part]).await.unwrap();
                assert!(read_len > 0, "the end came early");
                received.extend_from_slice(&slice[..read_len]);
            }
            assert!(received == message(len), "other bytes came out");
        };
        tokio::join!(write, read);
    }
    for len in [1, 100, 16 * 1024, 16 * 1024 + 1, 64 * 1024 + 1, 300_000] {
        tokio::join!(side(left, len, slice_len), side(right, len, slice_len));
    }
}

#[tokio::test]
async fn messages_come_through_whatever_fits_at_once() {
    for pipe_len in [61, 64 * 1024] {
        for slice_len in [7, 512, 100_000] {
            let (mut left, mut right) = pair(pipe_len).await;
            converse(&mut left, &mut right, slice_len).await;
        }
    }
}

#[tokio::test]
async fn both_sides_understand_other_streams() {
    let (mut ours, mut theirs) = accepting(4096).await;
    converse(&mut ours, &mut theirs, 4096).await;
    let (mut ours, mut theirs) = connecting(4096).await;
    converse(&mut ours, &mut theirs, 4096).await;
}

#[tokio::test]
async fn new_keys_are_taken_and_given() {
    let (mut ours, mut theirs) = accepting(4096).await;
    for _ in 0..3 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        converse(&mut ours, &mut theirs, 4096).await;
    }
    let (mut ours, mut theirs) = connecting(4096).await;
    for _ in 0..3 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        converse(&mut ours, &mut theirs, 4096).await;
    }
}

/// A peer that offers the longer keys only.
fn with_long_keys() -> ClientConfig {
    let cipher_suites = vec![cipher_suite::TLS13_AES_256_GCM_SHA384];
    let provider = Arc::new(CryptoProvider { cipher_suites, ..(**PROVIDER).clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier))
        .with_client_cert_resolver(configs().client.client_auth_cert_resolver.clone());
    config.enable_sni = false;
    config
}

#[tokio::test]
async fn both_suites_are_spoken_and_both_ends_export_the_same() {
    for config in [configs().client, Arc::new(with_long_keys())] {
        let (left, right) = duplex(4096);
        let theirs = TlsConnector::from(config).connect(server_name(), left);
        let server = configs().server;
        let (ours, theirs) = tokio::join!(accept(right, &server), theirs);
        let ((mut ours, peer), mut theirs) = (ours.unwrap(), theirs.unwrap());
        let exported: [u8; 32] =
            theirs.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
        assert_eq!(peer.tls_exporter.as_bytes(), &exported);
        converse(&mut ours, &mut theirs, 4096).await;
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        converse(&mut ours, &mut theirs, 4096).await;
    }
}

/// The end of the client's handshake, its first words, new keys and more words come at once.
#[tokio::test]
async fn what_comes_with_the_end_of_the_handshake_is_read_behind_it() {
    let TlsConfigs { client, server } = configs();
    let (ours, mut theirs) = duplex(64 * 1024);
    let accepted = tokio::spawn(async move { accept(ours, &server).await });
    let mut client = ClientConnection::new(client, server_name()).unwrap();
    let mut bytes = Vec::new();
    while client.is_handshaking() {
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        theirs.write_all(&bytes).await.unwrap();
        bytes.clear();
        let mut flight = vec![0; 16 * 1024];
        let len = theirs.read(&mut flight).await.unwrap();
        assert!(len > 0);
        client.read_tls(&mut &flight[..len]).unwrap();
        client.process_new_packets().unwrap();
    }
    client.writer().write_all(b"first").unwrap();
    client.refresh_traffic_keys().unwrap();
    client.writer().write_all(b"second").unwrap();
    client.send_close_notify();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    theirs.write_all(&bytes).await.unwrap();
    let (mut ours, _peer) = accepted.await.unwrap().unwrap();
    let mut received = Vec::new();
    ours.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"firstsecond");
    ours.write_all(b"answer").await.unwrap();
    let mut answer = vec![0; 4096];
    let len = theirs.read(&mut answer).await.unwrap();
    client.read_tls(&mut &answer[..len]).unwrap();
    client.process_new_packets().unwrap();
    let mut answer = [0; 6];
    client.reader().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

/// Polls a read that has nothing to give yet.
async fn read_nothing(stream: &mut TlsStream<DuplexStream>) {
    let mut bytes = [0; 100];
    let mut reader = ReadBuf::new(&mut bytes);
    poll_fn(|context| {
        assert!(Pin::new(&mut *stream).poll_read(context, &mut reader).is_pending());
        Poll::Ready(())
    })
    .await;
}

fn capacities<S>(stream: &TlsStream<S>) -> [usize; 3] {
    [stream.sealed_in.capacity(), stream.opened.capacity(), stream.sealed_out.bytes.capacity()]
}

#[tokio::test]
async fn an_idle_stream_keeps_no_buffer() {
    let (mut left, mut right) = pair(4096).await;
    converse(&mut left, &mut right, 4096).await;
    for stream in [&mut left, &mut right] {
        read_nothing(stream).await;
        assert_eq!(capacities(stream), [0; 3]);
    }
    let len = size_of_val(&left) - size_of::<DuplexStream>();
    assert!(len <= 128, "beside the session, its state takes {len} bytes");
}

#[tokio::test]
async fn a_begun_record_takes_its_length() {
    let (mut ours, mut theirs) = accepting(64 * 1024).await;
    let mut record = Vec::new();
    std::io::Write::write_all(&mut theirs.get_mut().1.writer(), &[1; 1000]).unwrap();
    theirs.get_mut().1.write_tls(&mut record).unwrap();
    theirs.get_mut().0.write_all(&record[..600]).await.unwrap();
    read_nothing(&mut ours).await;
    assert_eq!(capacities(&ours), [600, 0, 0]);
    theirs.get_mut().0.write_all(&record[600..]).await.unwrap();
    let mut plain = vec![0; 1000];
    ours.read_exact(&mut plain).await.unwrap();
    assert_eq!(plain, [1; 1000]);
}

#[tokio::test]
async fn no_more_waits_than_is_sealed_at_once() {
    let (mut left, _right) = pair(1024).await;
    let plain = vec![0; 1_000_000];
    let written = poll_fn(|context| {
        let mut written = 0;
        while let Poll::Ready(len) = Pin::new(&mut left).poll_write(context, &plain) {
            written += len.unwrap();
        }
        Poll::Ready(written)
    })
    .await;
    assert_eq!(written, SEAL_LEN_MAX);
    assert!(left.sealed_out.bytes.capacity() <= 2 * SEAL_LEN_MAX);
}

#[tokio::test]
async fn a_goodbye_is_an_end_and_a_cut_is_an_error() {
    let (mut left, mut right) = pair(4096).await;
    left.write_all(b"last").await.unwrap();
    left.shutdown().await.unwrap();
    let mut received = Vec::new();
    right.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"last");
    // The other direction is still open.
    right.write_all(b"answer").await.unwrap();
    right.shutdown().await.unwrap();
    let mut received = Vec::new();
    left.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"answer");

    let (mut left, right) = pair(4096).await;
    drop(right);
    assert_eq!(left.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_changed_byte_ends_both_sides() {
    let (mut ours, mut theirs) = accepting(4096).await;
    let mut record = Vec::new();
    std::io::Write::write_all(&mut theirs.get_mut().1.writer(), b"prompt").unwrap();
    theirs.get_mut().1.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    theirs.get_mut().0.write_all(&record).await.unwrap();
    let error = ours.read_u8().await.unwrap_err();
    let found = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    assert!(matches!(found, Some(Error::DecryptError)), "{error:?}");
    let error = theirs.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    // It stays broken.
    assert_eq!(ours.write_u8(1).await.unwrap_err().kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn what_came_before_an_error_is_read_before_it() {
    let (mut ours, mut theirs) = accepting(4096).await;
    let mut records = Vec::new();
    for word in [&b"answer"[..], b"changed"] {
        theirs.get_mut().1.writer().write_all(word).unwrap();
        theirs.get_mut().1.write_tls(&mut records).unwrap();
    }
    *records.last_mut().unwrap() ^= 1;
    theirs.get_mut().0.write_all(&records).await.unwrap();
    let mut read = [0; 100];
    assert_eq!(ours.read(&mut read).await.unwrap(), 6);
    assert_eq!(ours.read(&mut read).await.unwrap_err().kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn an_answer_is_read_though_nothing_can_be_written() {
    let (mut ours, mut theirs) = accepting(64).await;
    // More waits than the pipe takes.
    let written = poll_fn(|context| Pin::new(&mut ours).poll_write(context, &[1; 1000])).await;
    assert_eq!(written.unwrap(), 1000);
    let mut records = Vec::new();
    theirs.get_mut().1.writer().write_all(b"answer").unwrap();
    theirs.get_mut().1.write_tls(&mut records).unwrap();
    theirs.get_mut().0.write_all(&records).await.unwrap();
    drop(theirs);
    let mut answer = [0; 6];
    ours.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
    assert_eq!(ours.flush().await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn nothing_is_written_behind_a_goodbye() {
    let (mut left, _right) = pair(4096).await;
    left.shutdown().await.unwrap();
    assert_eq!(left.write_u8(1).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// Announced early data makes the library try every record again that it cannot open, with each that comes.
#[tokio::test]
async fn a_handshake_has_only_so_many_records() {
    let (ours, mut theirs) = duplex(1 << 20);
    let accepted = tokio::spawn(async { accept(ours, &configs().server).await });
    let mut client = ClientConnection::new(configs().client, server_name()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    announce_early_data(&mut hello);
    theirs.write_all(&hello).await.unwrap();
    theirs.write_all(&[23, 3, 3, 0, 0].repeat(300)).await.unwrap();
    let error = accepted.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("records"), "{error}");
}

/// Puts the extension (RFC 8446, section 4.2.10) in front of the others of a ClientHello in one record.
fn announce_early_data(hello: &mut Vec<u8>) {
    const EXTENSION: [u8; 4] = [0, 42, 0, 0];
    // Record, message, version, random; then the lengths of session id, suites and compressions.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    at += 1 + usize::from(hello[at]);
    hello.splice(at + 2..at + 2, EXTENSION);
    for len in [3, 7, at] {
        let longer = u16::from_be_bytes([hello[len], hello[len + 1]]) + 4;
        hello[len..len + 2].copy_from_slice(&longer.to_be_bytes());
    }
}

#[tokio::test]
async fn what_is_no_record_ends_the_handshake() {
    let (ours, mut theirs) = duplex(4096);
    let accepted = tokio::spawn(async { accept(ours, &configs().server).await });
    theirs.write_all(&Bytes::from(vec![0x47; 200])).await.unwrap();
    let error = accepted.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    // An alert comes before the end.
    let mut alert = Vec::new();
    theirs.read_to_end(&mut alert).await.unwrap();
    assert_eq!((alert[0], alert.len()), (21, 7));
}

/// The library ends the session without an alert then, with half a message in its hands.
#[tokio::test]
async fn a_message_between_the_parts_of_another_ends_the_handshake() {
    let (ours, mut theirs) = duplex(4096);
    let accepted = tokio::spawn(async { accept(ours, &configs().server).await });
    let (part, alert) = ([22, 3, 1, 0, 8, 1, 0, 0, 100, 3, 3, 0, 0], [21, 3, 3, 0, 2, 1, 0]);
    theirs.write_all(&[&part[..], &alert].concat()).await.unwrap();
    let error = accepted.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_handshake_that_is_cut_says_so() {
    let (ours, theirs) = duplex(4096);
    drop(theirs);
    let error = accept(ours, &configs().server).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn pieces_go_out_together_and_come_through_in_order() {
    for pipe_len in [700, 1 << 20] {
        let (mut left, mut right) = accepting(pipe_len).await;
        let whole = message(200_000);
        let (first, rest) = whole.split_at(60);
        let (second, third) = rest.split_at(100_000);
        let mut pieces = Buf::chain(first, &[][..]).chain(second).chain(third);
        let write = async {
            left.write_all_buf(&mut pieces).await.unwrap();
            left.flush().await.unwrap();
        };
        let mut received = vec![0; whole.len()];
        let read = async { right.read_exact(&mut received).await.unwrap() };
        tokio::join!(write, read);
        assert!(received == whole);
    }
    let (mut left, _right) = accepting(1 << 20).await;
    let long = message(SEAL_LEN_MAX - 1);
    let taken = left.write_vectored(&[IoSlice::new(&long), IoSlice::new(&[]), IoSlice::new(b"xyz")]).await;
    assert_eq!(taken.unwrap(), SEAL_LEN_MAX, "no more than is sealed at once");
    assert!(left.sealed_out.waiting().is_empty(), "in one go");
}
