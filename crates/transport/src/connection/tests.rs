use proptest::prelude::*;
use wire::frame::FrameError;

use super::*;

/// Two connections and the wires between them. Time moves only when a test moves it.
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
            self.to_server.unsplit(self.client.outgoing().split());
            self.to_client.unsplit(self.server.outgoing().split());
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
    connection.outgoing().split().to_vec()
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
fn pings_are_answered() {
    let mut pair = Pair::ready();
    pair.client.write(&Packet::Ping { id: 77 });
    let ping = sent(&mut pair.client);
    pair.server_gets(&ping);
    let pong = sent(&mut pair.server);
    assert_eq!(hex::encode(pong), "0c000000010000002c30d40b4d00000000000000");
}

#[test]
fn a_flood_of_pings_fills_no_memory() {
    let mut pair = Pair::ready();
    for id in 0..10_000 {
        pair.client.write(&Packet::Ping { id });
    }
    let flood = sent(&mut pair.client);
    pair.server_gets(&flood);
    assert_eq!(sent(&mut pair.server).len(), PONGS_UNSENT_MAX * 20);
    // Once these are written, pings are answered again.
    pair.client_says(&Packet::Ping { id: 1 });
    assert!(pair.server.is_ready());
    assert_eq!(pair.server.pongs_unsent, 1);
}

#[test]
fn the_connecting_side_pings_after_ten_seconds_and_gives_up_after_twenty() {
    let mut pair = Pair::ready();
    let heard = pair.now;
    assert_eq!(pair.client.poll_timeout(), Some(heard + seconds(10)));
    pair.client.handle_timeout(heard + seconds(10) - Duration::from_nanos(1));
    assert!(sent(&mut pair.client).is_empty());
    pair.client.handle_timeout(heard + seconds(10));
    assert_eq!(sent(&mut pair.client)[8..12], [0x7c, 0x62, 0xe9, 0xbb], "one tcp.ping");
    assert_eq!(pair.client.poll_timeout(), Some(heard + seconds(20)));
    pair.client.handle_timeout(heard + seconds(15));
    assert!(sent(&mut pair.client).is_empty(), "one ping only");
    pair.client.handle_timeout(heard + seconds(20));
    assert_eq!(end(&mut pair.client), CloseReason::Silence { limit: seconds(20) });
    assert_eq!(pair.client.poll_timeout(), None);
}

#[test]
fn the_accepting_side_pings_late_and_gives_up_after_sixty_seconds() {
    let mut pair = Pair::ready();
    let heard = pair.now;
    assert_eq!(pair.server.poll_timeout(), Some(heard + seconds(25)));
    pair.server.handle_timeout(heard + seconds(25));
    assert_eq!(sent(&mut pair.server).len(), 20);
    assert_eq!(pair.server.poll_timeout(), Some(heard + seconds(60)));
    pair.server.handle_timeout(heard + seconds(60));
    assert_eq!(end(&mut pair.server), CloseReason::Silence { limit: seconds(60) });
}

#[test]
fn an_answered_ping_keeps_an_idle_connection_alive() {
    let mut pair = Pair::ready();
    for _ in 0..100 {
        pair.now = pair.client.poll_timeout().unwrap().min(pair.server.poll_timeout().unwrap());
        pair.client.handle_timeout(pair.now);
        pair.server.handle_timeout(pair.now);
        pair.exchange();
    }
    assert!(pair.client.is_ready() && pair.server.is_ready());
    assert!(events(&mut pair.client).is_empty() && events(&mut pair.server).is_empty());
}

#[test]
fn nobody_is_pinged_before_the_hello_and_silence_counts_from_the_start() {
    let mut pair = Pair::new();
    sent(&mut pair.client);
    let begin = pair.now;
    assert_eq!(pair.client.poll_timeout(), Some(begin + seconds(20)));
    assert_eq!(pair.server.poll_timeout(), Some(begin + seconds(60)));
    pair.client.handle_timeout(begin + seconds(19));
    assert!(sent(&mut pair.client).is_empty());
    pair.client.handle_timeout(begin + seconds(20));
    assert_eq!(end(&mut pair.client), CloseReason::Silence { limit: seconds(20) });
}

#[test]
fn bytes_of_an_unfinished_frame_are_signs_of_life() {
    let mut pair = Pair::ready();
    let heard = pair.now + seconds(9);
    pair.client.handle_input(heard, &mut BytesMut::from(&[200, 0][..]));
    assert_eq!(pair.client.poll_timeout(), Some(heard + seconds(10)));
    pair.client.handle_input_paused(heard + seconds(5));
    assert_eq!(pair.client.poll_timeout(), Some(heard + seconds(15)));
}

/// The first bytes of a frame of `len` bytes, the first after the hello.
fn begun_frame(len: u32, received: usize) -> BytesMut {
    let mut bytes = BytesMut::from(&len.to_le_bytes()[..]);
    bytes.extend_from_slice(&1i32.to_le_bytes());
    bytes.resize(received, 0);
    bytes
}

#[test]
fn a_begun_frame_has_a_deadline_that_its_bytes_move() {
    let mut pair = Pair::ready();
    pair.server.handle_input(pair.now, &mut begun_frame(10_000, 8));
    assert_eq!(pair.server.poll_timeout(), Some(pair.now + FRAME_GRACE));
    // A second's worth of bytes is a second more.
    let mut input = begun_frame(1 << 14, usize::try_from(FRAME_BYTES_PER_S_MIN).unwrap());
    pair.server.handle_input(pair.now + seconds(9), &mut input);
    let deadline = pair.now + FRAME_GRACE + seconds(1);
    assert_eq!(pair.server.poll_timeout(), Some(deadline));
    pair.server.handle_timeout(deadline - Duration::from_millis(1));
    assert!(pair.server.is_ready());
    pair.server.handle_timeout(deadline);
    assert_eq!(end(&mut pair.server), CloseReason::FrameTooSlow { received: 1 << 14 });
}

#[test]
fn a_frame_that_ends_in_time_leaves_no_deadline() {
    let mut pair = Pair::ready();
    pair.client.send(&[7; 1000]).unwrap();
    let mut bytes = pair.client.outgoing().split();
    let mut rest = bytes.split_off(10);
    pair.server.handle_input(pair.now, &mut bytes);
    bytes.unsplit(rest.split());
    pair.server.handle_input(pair.now + seconds(1), &mut bytes);
    assert!(matches!(pair.server.poll_event(), Some(ConnectionEvent::Packet(_))));
    pair.server.handle_timeout(pair.now + FRAME_GRACE + seconds(1));
    assert!(pair.server.is_ready());
    // Nor does the end of one frame count for the beginning of the next.
    pair.server.handle_input(pair.now + seconds(20), &mut BytesMut::from(&[100, 0][..]));
    assert_eq!(pair.server.poll_timeout(), Some(pair.now + seconds(20) + FRAME_GRACE));
}

#[test]
fn a_frame_does_not_age_while_nobody_reads() {
    let mut pair = Pair::ready();
    pair.server.handle_input(pair.now, &mut begun_frame(1 << 14, 9000));
    pair.server.handle_input_paused(pair.now + seconds(50));
    // What came before the pause is used up.
    assert_eq!(pair.server.poll_timeout(), Some(pair.now + seconds(50) + FRAME_GRACE));
}

#[test]
fn packets_arrive_in_order() {
    let mut pair = Pair::ready();
    for message in [b"one".as_slice(), b"", b"three"] {
        pair.client.send(message).unwrap();
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
    assert_eq!(pair.server.send(b"x"), Err(SendError::Closed));
    pair.server.query(b"x", pair.now, 9);
    assert!(matches!(
        pair.server.poll_event(),
        Some(ConnectionEvent::QueryEnded { query: 9, result: Err(QueryError::Closed) })
    ));
    let mut pair = Pair::ready();
    pair.client.close(CloseReason::Local("done"));
    assert_eq!(pair.client.send(b"x"), Err(SendError::Closed));
    assert!(sent(&mut pair.client).is_empty());
}

#[test]
fn messages_above_the_limit_are_refused_to_the_sender() {
    let mut pair = Pair::ready();
    pair.server.handshake_complete();
    let too_large = vec![0; MESSAGE_LEN_MAX + 1];
    let len = too_large.len();
    assert_eq!(pair.client.send(&too_large), Err(SendError::TooLarge { len }));
    pair.client.query(&too_large, pair.now + seconds(1), 1);
    let ended = pair.client.poll_event();
    let refused = QueryError::TooLarge { len };
    assert!(
        matches!(ended, Some(ConnectionEvent::QueryEnded { query: 1, result: Err(error) }) if error == refused)
    );
    assert!(sent(&mut pair.client).is_empty());

    assert_eq!(pair.client.send(&too_large[1..]), Ok(()));
    pair.exchange();
    let received = pair.server.poll_event();
    assert!(matches!(received, Some(ConnectionEvent::Packet(message)) if message.len() == MESSAGE_LEN_MAX));
}

/// Asks from the client; returns the server's id of the query.
fn ask(pair: &mut Pair, query: u32) -> i64 {
    pair.client.query(b"question", pair.now + seconds(30), query);
    pair.exchange();
    match pair.server.poll_event() {
        Some(ConnectionEvent::Query { id, message }) => {
            assert_eq!(message, "question");
            id
        }
        other => panic!("{other:?}"),
    }
}

/// How the client's only ended query ended.
fn outcome(pair: &mut Pair) -> (u32, Result<Bytes, QueryError>) {
    match events(&mut pair.client).as_mut_slice() {
        [ConnectionEvent::QueryEnded { query, result }] => (*query, result.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn queries_are_answered_in_any_order() {
    let mut pair = Pair::ready();
    let (first, second) = (ask(&mut pair, 1), ask(&mut pair, 2));
    pair.server.answer(second, b"second");
    pair.exchange();
    assert_eq!(outcome(&mut pair), (2, Ok(Bytes::from("second"))));
    pair.server.answer(first, b"first");
    pair.exchange();
    assert_eq!(outcome(&mut pair), (1, Ok(Bytes::from("first"))));
    assert!(pair.client.query_deadlines.is_empty());
}

#[test]
fn a_refusal_carries_code_and_message() {
    let mut pair = Pair::ready();
    let id = ask(&mut pair, 1);
    pair.server.refuse(id, StatusCode::NOT_READY, "not yet");
    pair.exchange();
    let refused = QueryError::Refused { code: StatusCode::NOT_READY, message: "not yet".into() };
    assert_eq!(outcome(&mut pair), (1, Err(refused)));
}

#[test]
fn messages_of_refusals_are_cut_at_both_ends() {
    let long = "é".repeat(1000);
    let mut pair = Pair::ready();
    let id = ask(&mut pair, 1);
    pair.server.refuse(id, StatusCode::ERROR, &long);
    assert!(sent(&mut pair.server).len() < 1100);

    // That refusal is lost on the way, and the next frame has its number.
    let id = *pair.client.queries.keys().next().unwrap();
    pair.server.writer = FrameWriter::new();
    pair.server.write(&Packet::Connected { id: 0 });
    sent(&mut pair.server);
    pair.server_says(&Packet::QueryError { id, code: -5, message: long.as_str().into() });
    match outcome(&mut pair) {
        (1, Err(QueryError::Refused { code, message })) => {
            assert_eq!(code.code(), -5);
            assert_eq!(message, "é".repeat(512));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_query_is_answered_once() {
    let mut pair = Pair::ready();
    let id = ask(&mut pair, 1);
    pair.server.answer(id, b"yes");
    pair.server.answer(id, b"no");
    pair.server.refuse(id, StatusCode::ERROR, "no");
    pair.server.answer(id.wrapping_add(1), b"no");
    pair.exchange();
    assert_eq!(outcome(&mut pair), (1, Ok(Bytes::from("yes"))));
}

#[test]
fn an_answer_above_the_limit_becomes_a_refusal() {
    let mut pair = Pair::ready();
    let id = ask(&mut pair, 1);
    pair.server.answer(id, &vec![0; MESSAGE_LEN_MAX + 1]);
    pair.exchange();
    assert!(matches!(outcome(&mut pair), (1, Err(QueryError::Refused { .. }))));
}

#[test]
fn unknown_answers_are_ignored() {
    let mut pair = Pair::ready();
    ask(&mut pair, 1);
    pair.server_says(&Packet::QueryAnswer { id: 0, data: b"?" });
    pair.server_says(&Packet::QueryError { id: 0, code: 0, message: "?".into() });
    assert!(events(&mut pair.client).is_empty());
}

#[test]
fn a_query_times_out_at_its_deadline_and_a_late_answer_is_ignored() {
    let mut pair = Pair::ready();
    pair.client.query(b"slow", pair.now + seconds(5), 1);
    pair.client.query(b"slower", pair.now + seconds(6), 2);
    pair.exchange();
    assert_eq!(pair.client.poll_timeout(), Some(pair.now + seconds(5)));
    pair.client.handle_timeout(pair.now + seconds(5) - Duration::from_nanos(1));
    assert!(events(&mut pair.client).is_empty());
    pair.client.handle_timeout(pair.now + seconds(5));
    assert_eq!(outcome(&mut pair), (1, Err(QueryError::Timeout)));
    for event in events(&mut pair.server) {
        if let ConnectionEvent::Query { id, .. } = event {
            pair.server.answer(id, b"late");
        }
    }
    pair.exchange();
    assert_eq!(outcome(&mut pair), (2, Ok(Bytes::from("late"))));
}

#[test]
fn open_queries_fail_at_once_when_the_connection_closes() {
    let mut pair = Pair::ready();
    ask(&mut pair, 1);
    ask(&mut pair, 2);
    pair.client.close(CloseReason::Peer);
    pair.client.close(CloseReason::Local("again"));
    let mut ended = events(&mut pair.client);
    assert!(matches!(ended.pop(), Some(ConnectionEvent::Closed(CloseReason::Peer))));
    let mut failed: Vec<u32> = ended
        .into_iter()
        .map(|event| match event {
            ConnectionEvent::QueryEnded { query, result: Err(QueryError::Closed) } => query,
            other => panic!("{other:?}"),
        })
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, [1, 2]);
    pair.client.handle_timeout(pair.now + seconds(1000));
    assert!(events(&mut pair.client).is_empty());
}

#[test]
fn too_many_and_doubled_queries_close() {
    let mut pair = Pair::ready();
    for id in 0..=i64::try_from(QUERIES_OPEN_MAX).unwrap() {
        pair.client_says(&Packet::Query { id, data: b"?" });
    }
    assert_eq!(end(&mut pair.server), CloseReason::TooManyQueries { max: QUERIES_OPEN_MAX });

    let mut pair = Pair::ready();
    pair.client_says(&Packet::Query { id: 7, data: b"?" });
    pair.server.answer(7, b"!");
    pair.client_says(&Packet::Query { id: 7, data: b"?" });
    assert!(pair.server.is_ready(), "an answered id is free again");
    pair.client_says(&Packet::Query { id: 7, data: b"?" });
    assert_eq!(end(&mut pair.server), CloseReason::DuplicateQuery);
}

#[test]
fn full_frames_need_the_applications_word_on_the_accepting_side_only() {
    let largest = vec![0; UNKNOWN_PEER_PAYLOAD_LEN_MAX - 8];
    let larger = vec![0; UNKNOWN_PEER_PAYLOAD_LEN_MAX - 7];

    let mut pair = Pair::ready();
    pair.server.send(&larger).unwrap();
    pair.client.send(&largest).unwrap();
    pair.exchange();
    assert!(matches!(pair.client.poll_event(), Some(ConnectionEvent::Packet(_))));
    assert!(matches!(pair.server.poll_event(), Some(ConnectionEvent::Packet(_))));
    pair.client.send(&larger).unwrap();
    pair.exchange();
    assert!(matches!(end(&mut pair.server), CloseReason::Frame(FrameError::LengthOutOfBounds { .. })));

    let mut pair = Pair::ready();
    pair.server.handshake_complete();
    pair.client.send(&larger).unwrap();
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

/// What a peer does in the property tests.
#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Query(Vec<u8>),
    /// Answers the oldest query, or refuses it.
    Answer(bool),
    /// Moves this many bytes, at most.
    Deliver(usize),
}

fn any_step() -> impl Strategy<Value = (bool, Step)> {
    let message = || proptest::collection::vec(any::<u8>(), 0..300);
    let step = prop_oneof![
        3 => message().prop_map(Step::Send),
        2 => message().prop_map(Step::Query),
        2 => any::<bool>().prop_map(Step::Answer),
        6 => (1usize..200).prop_map(Step::Deliver),
    ];
    (any::<bool>(), step)
}

/// One side of a conversation and what it has seen.
struct Talker {
    connection: Connection<usize>,
    input: BytesMut,
    sent: Vec<Bytes>,
    asked: Vec<Bytes>,
    outcomes: HashMap<usize, Result<Bytes, QueryError>>,
    received: Vec<Bytes>,
    questions: VecDeque<(i64, Bytes)>,
}

impl Talker {
    fn new(connection: Connection<usize>) -> Self {
        Self {
            connection,
            input: BytesMut::new(),
            sent: Vec::new(),
            asked: Vec::new(),
            outcomes: HashMap::new(),
            received: Vec::new(),
            questions: VecDeque::new(),
        }
    }

    fn act(&mut self, now: Instant, step: Step, other: &mut Self) {
        match step {
            Step::Send(message) => {
                if self.connection.send(&message).is_ok() {
                    self.sent.push(message.into());
                }
            }
            Step::Query(message) => {
                if self.connection.is_ready() {
                    self.connection.query(&message, now + seconds(5), self.asked.len());
                    self.asked.push(message.into());
                }
            }
            Step::Answer(is_refusal) => {
                if let Some((id, question)) = self.questions.pop_front() {
                    if is_refusal {
                        self.connection.refuse(id, StatusCode::ERROR, "no");
                    } else {
                        self.connection.answer(id, &question);
                    }
                }
            }
            Step::Deliver(len) => {
                let outgoing = other.connection.outgoing();
                let len = len.min(outgoing.len());
                self.input.extend_from_slice(&outgoing.split_to(len));
                self.connection.handle_input(now, &mut self.input);
            }
        }
        while let Some(event) = self.connection.poll_event() {
            match event {
                ConnectionEvent::Ready => {}
                ConnectionEvent::Packet(message) => self.received.push(message),
                ConnectionEvent::Query { id, message } => self.questions.push_back((id, message)),
                ConnectionEvent::QueryEnded { query, result } => {
                    assert!(self.outcomes.insert(query, result).is_none(), "query {query} ended twice");
                }
                ConnectionEvent::Closed(reason) => panic!("closed: {reason}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn everything_arrives_once_and_in_order_however_the_bytes_are_cut(
        seeds in any::<[u64; 2]>(),
        steps in proptest::collection::vec(any_step(), 0..200),
    ) {
        let now = Pair::new().now;
        let mut left = Talker::new(Connection::connecting(now, seeds[0]));
        let mut right = Talker::new(Connection::accepting(now, seeds[1]));
        for (is_left, step) in steps {
            if is_left { left.act(now, step, &mut right) } else { right.act(now, step, &mut left) }
        }
        // The rest arrives, and everything is answered.
        for _ in 0..4 {
            for _ in 0..200 {
                left.act(now, Step::Answer(false), &mut right);
                right.act(now, Step::Answer(false), &mut left);
            }
            left.act(now, Step::Deliver(usize::MAX), &mut right);
            right.act(now, Step::Deliver(usize::MAX), &mut left);
        }
        for (one, other) in [(&left, &right), (&right, &left)] {
            prop_assert_eq!(&one.received, &other.sent);
            prop_assert_eq!(one.outcomes.len(), one.asked.len());
            for (query, outcome) in &one.outcomes {
                match outcome {
                    Ok(answer) => prop_assert_eq!(answer, &one.asked[*query]),
                    Err(QueryError::Refused { .. }) => {}
                    Err(other) => prop_assert!(false, "{other}"),
                }
            }
            prop_assert!(one.connection.queries.is_empty() && one.connection.query_deadlines.is_empty());
            prop_assert!(one.connection.unanswered.is_empty());
        }
    }

    #[test]
    fn no_bytes_panic(
        is_after_hello in any::<bool>(),
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..20),
    ) {
        let mut pair = if is_after_hello { Pair::ready() } else { Pair::new() };
        let mut input = BytesMut::new();
        for chunk in chunks {
            input.extend_from_slice(&chunk);
            pair.server.handle_input(pair.now, &mut input);
        }
        prop_assert!(events(&mut pair.server).len() <= 21);
    }

    #[test]
    fn no_payloads_panic(
        payloads in proptest::collection::vec(
            (0usize..8, proptest::collection::vec(any::<u8>(), 0..40)), 1..10,
        ),
    ) {
        const IDS: [u32; 8] = [
            0xa57c_4261, 0x636d_41d6, 0xbbe9_627c, 0x0bd4_302c, 0x9c17_baf8, 0x3af5_1908, 0xc048_c311, 0x4cd2_f602,
        ];
        let mut pair = Pair::ready();
        for (seqno, (kind, fields)) in payloads.into_iter().enumerate() {
            let mut frame = BytesMut::new();
            frame.extend_from_slice(&u32::try_from(4 + fields.len()).unwrap().to_le_bytes());
            frame.extend_from_slice(&u32::try_from(seqno + 1).unwrap().to_le_bytes());
            frame.extend_from_slice(&IDS[kind].to_le_bytes());
            frame.extend_from_slice(&fields);
            pair.server.handle_input(pair.now, &mut frame);
        }
    }
}
