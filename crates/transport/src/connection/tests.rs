//! Two connections face to face. Time moves only when a test moves it.

mod conversation;
mod life;
mod queries;

use bytes::Buf as _;
use wire::frame::FrameError;

use super::*;

/// Two connections and the wires between them.
struct Pair {
    now: Instant,
    client: Connection<u32>,
    server: Connection<u32>,
    to_server: BytesMut,
    to_client: BytesMut,
}

impl Pair {
    /// Before the hello.
    fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "instants have no other origin; only differences matter"
        )]
        let now = Instant::now();
        Self {
            now,
            client: Connection::connecting(now, 1),
            server: Connection::accepting(now, 2),
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
        }
    }

    fn ready() -> Self {
        let mut pair = Self::new();
        pair.exchange();
        assert!(matches!(pair.client.poll_event(), Some(ConnectionEvent::Ready)));
        assert!(matches!(pair.server.poll_event(), Some(ConnectionEvent::Ready)));
        assert!(pair.client.is_ready() && pair.server.is_ready());
        pair
    }

    /// Moves bytes until both fall silent.
    fn exchange(&mut self) {
        loop {
            self.to_server.extend_from_slice(&sent(&mut self.client));
            self.to_client.extend_from_slice(&sent(&mut self.server));
            if self.to_server.is_empty() && self.to_client.is_empty() {
                return;
            }
            self.server.handle_input(self.now, &mut self.to_server);
            self.client.handle_input(self.now, &mut self.to_client);
        }
    }

    fn server_gets(&mut self, bytes: &[u8]) {
        self.server.handle_input(self.now, &mut BytesMut::from(bytes));
    }

    /// Lets the client send a packet that it would not send by itself.
    fn client_says(&mut self, packet: &Packet<'_>) {
        self.client.write(packet);
        self.exchange();
    }

    fn server_says(&mut self, packet: &Packet<'_>) {
        self.server.write(packet);
        self.exchange();
    }
}

fn events(connection: &mut Connection<u32>) -> Vec<ConnectionEvent<u32>> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

/// The one event, which is the end.
fn end(connection: &mut Connection<u32>) -> CloseReason {
    match events(connection).pop() {
        Some(ConnectionEvent::Closed(reason)) => reason,
        other => panic!("not closed: {other:?}"),
    }
}

fn sent(connection: &mut Connection<u32>) -> Vec<u8> {
    let outgoing = connection.outgoing();
    outgoing.copy_to_bytes(outgoing.len()).to_vec()
}

fn message(bytes: &[u8]) -> Message {
    Bytes::copy_from_slice(bytes).into()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn the_hello_is_that_of_the_deployed_network() {
    let mut pair = Pair::new();
    let hello = sent(&mut pair.client);
    assert_eq!(hex::encode(&hello[..12]), "0c0000000000000061427ca5");
    assert_eq!(hello.len(), 20);
    assert!(!pair.client.is_ready());

    pair.server_gets(&hello);
    let answer = sent(&mut pair.server);
    assert_eq!(hex::encode(&answer[..12]), "0c00000000000000d6416d63");
    assert_eq!(answer[12..], hello[12..]);
    assert!(pair.server.is_ready());
}

#[test]
fn other_first_frames_close() {
    let no_connect = CloseReason::NoHello { expected: "tcp.connect" };
    for packet in [Packet::Ping { id: 1 }, Packet::Connected { id: 1 }, Packet::Packet { data: b"abc" }] {
        let mut pair = Pair::new();
        let mut bytes = BytesMut::new();
        FrameWriter::new().write(&packet, &mut bytes).unwrap();
        pair.server_gets(&bytes);
        assert_eq!(end(&mut pair.server), no_connect);
        assert!(sent(&mut pair.server).is_empty());
    }
    let mut pair = Pair::new();
    pair.server_says(&Packet::Pong { id: 1 });
    assert_eq!(end(&mut pair.client), CloseReason::NoHello { expected: "tcp.connected" });
}

#[test]
fn an_answer_to_another_hello_closes() {
    let mut pair = Pair::new();
    pair.server_says(&Packet::Connected { id: 0 });
    assert_eq!(end(&mut pair.client), CloseReason::HelloMismatch);
}

#[test]
fn large_first_frames_are_refused_by_their_length() {
    let mut pair = Pair::new();
    pair.server_gets(&[13, 0, 0, 0]);
    let refused = FrameError::LengthOutOfBounds { len: 13, len_max: 12 };
    assert_eq!(end(&mut pair.server), CloseReason::Frame(refused));
    // What a browser or a TLS client would say.
    for stranger in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"\x16\x03\x01\x02\x00\x01\x00\x01"] {
        let mut pair = Pair::new();
        pair.server_gets(stranger);
        assert!(matches!(end(&mut pair.server), CloseReason::Frame(_)));
    }
}

#[test]
fn a_second_hello_is_ignored() {
    let mut pair = Pair::ready();
    pair.client_says(&Packet::Connect { id: 5 });
    pair.server_says(&Packet::Connected { id: 5 });
    assert!(events(&mut pair.client).is_empty() && events(&mut pair.server).is_empty());
}

#[test]
fn packets_arrive_in_order() {
    let mut pair = Pair::ready();
    for said in [b"one".as_slice(), b"", b"three"] {
        pair.client.send(&message(said)).unwrap();
    }
    pair.exchange();
    let received: Vec<Bytes> = events(&mut pair.server)
        .into_iter()
        .map(|event| match event {
            ConnectionEvent::Packet(message) => message,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(received, ["one", "", "three"]);
}

#[test]
fn nothing_is_sent_before_the_hello_or_after_the_end() {
    let mut pair = Pair::new();
    assert_eq!(pair.server.send(&message(b"x")), Err(SendError::Closed));
    pair.server.query(b"x", pair.now, 9);
    assert!(matches!(
        pair.server.poll_event(),
        Some(ConnectionEvent::QueryEnded { query: 9, result: Err(QueryError::Closed) })
    ));
    let mut pair = Pair::ready();
    pair.client.close(CloseReason::Local("done"));
    assert_eq!(pair.client.send(&message(b"x")), Err(SendError::Closed));
    assert!(sent(&mut pair.client).is_empty());
}

#[test]
fn messages_above_the_limit_are_refused_to_the_sender() {
    let mut pair = Pair::ready();
    pair.server.handshake_complete();
    let too_large = vec![0; MESSAGE_LEN_MAX + 1];
    let len = too_large.len();
    assert_eq!(pair.client.send(&message(&too_large)), Err(SendError::TooLarge { len }));
    pair.client.query(&too_large, pair.now + seconds(1), 1);
    let ended = pair.client.poll_event();
    let refused = QueryError::TooLarge { len };
    assert!(
        matches!(ended, Some(ConnectionEvent::QueryEnded { query: 1, result: Err(error) }) if error == refused)
    );
    assert!(sent(&mut pair.client).is_empty());

    assert_eq!(pair.client.send(&message(&too_large[1..])), Ok(()));
    pair.exchange();
    let received = pair.server.poll_event();
    assert!(matches!(received, Some(ConnectionEvent::Packet(message)) if message.len() == MESSAGE_LEN_MAX));
}

#[test]
fn full_frames_need_the_applications_word_on_the_accepting_side_only() {
    let largest = vec![0; UNKNOWN_PEER_PAYLOAD_LEN_MAX - 8];
    let larger = vec![0; UNKNOWN_PEER_PAYLOAD_LEN_MAX - 7];

    let mut pair = Pair::ready();
    pair.server.send(&message(&larger)).unwrap();
    pair.client.send(&message(&largest)).unwrap();
    pair.exchange();
    assert!(matches!(pair.client.poll_event(), Some(ConnectionEvent::Packet(_))));
    assert!(matches!(pair.server.poll_event(), Some(ConnectionEvent::Packet(_))));
    pair.client.send(&message(&larger)).unwrap();
    pair.exchange();
    assert!(matches!(end(&mut pair.server), CloseReason::Frame(FrameError::LengthOutOfBounds { .. })));

    let mut pair = Pair::ready();
    pair.server.handshake_complete();
    pair.client.send(&message(&larger)).unwrap();
    pair.exchange();
    assert!(matches!(pair.server.poll_event(), Some(ConnectionEvent::Packet(_))));
}

#[test]
fn the_applications_word_counts_for_nothing_before_the_hello() {
    let mut pair = Pair::new();
    pair.server.handshake_complete();
    pair.server_gets(&[13, 0, 0, 0]);
    assert!(matches!(end(&mut pair.server), CloseReason::Frame(_)));
}

#[test]
fn malformed_packets_close_and_say_why() {
    let ends_with = |bytes: &[u8]| {
        let mut pair = Pair::ready();
        pair.server_gets(bytes);
        end(&mut pair.server)
    };
    let wrong_number = FrameError::WrongSeqno { expected: 1, received: 2 };
    assert_eq!(ends_with(b"\x04\0\0\0\x02\0\0\0"), CloseReason::Frame(wrong_number));
    let too_short = FrameError::LengthOutOfBounds { len: 3, len_max: UNKNOWN_PEER_PAYLOAD_LEN_MAX };
    assert_eq!(ends_with(b"\x03\0\0\0"), CloseReason::Frame(too_short));
    let unknown = wire::DecodeError::UnknownConstructor { id: 0x1234_5678 };
    assert_eq!(ends_with(b"\x04\0\0\0\x01\0\0\0\x78\x56\x34\x12"), CloseReason::Packet(unknown));
    let trailing = wire::DecodeError::TrailingBytes { left: 4 };
    let long_ping = b"\x10\0\0\0\x01\0\0\0\x7c\x62\xe9\xbb\0\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(ends_with(long_ping), CloseReason::Packet(trailing));
}

#[test]
fn nothing_is_read_after_the_end() {
    let mut pair = Pair::ready();
    pair.server.close(CloseReason::Local("done"));
    assert_eq!(end(&mut pair.server), CloseReason::Local("done"));
    let mut input = BytesMut::from(&b"anything"[..]);
    pair.server.handle_input(pair.now, &mut input);
    assert!(input.is_empty());
    assert!(events(&mut pair.server).is_empty());
}
