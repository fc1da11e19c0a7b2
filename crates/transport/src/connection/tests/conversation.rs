//! Whatever two peers say and however the bytes are cut: what one sent is what the other receives.

use bytes::Buf as _;
use proptest::prelude::*;

use super::*;

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
            outcomes: HashMap::default(),
            received: Vec::new(),
            questions: VecDeque::new(),
        }
    }

    fn act(&mut self, now: Instant, step: Step, other: &mut Self) {
        match step {
            Step::Send(message) => {
                if self.connection.send(&super::message(&message)).is_ok() {
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
                self.input.extend_from_slice(&outgoing.copy_to_bytes(len));
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
