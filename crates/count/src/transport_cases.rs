//! Frames through a connection and TLS, in memory: what a driver does at one wake-up, without its sockets.

use std::hint::black_box;
use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use transport::connection::{Connection, ConnectionEvent};
use transport::testing::RecordPair;
use wire::Message;

use crate::{Case, Step};

pub(crate) const CASES: &[Case] = &[
    ("transport: a frame of 200 B through TLS", || frames(1, 200)),
    ("transport: 16 frames of 200 B through TLS", || frames(16, 200)),
];

/// What a connection has to write, in one piece.
fn waiting(connection: &mut Connection<()>) -> BytesMut {
    let outgoing = connection.outgoing();
    BytesMut::from(outgoing.copy_to_bytes(outgoing.len()))
}

/// So many messages, written, sealed and opened together.
fn frames(count: usize, len: usize) -> Step {
    #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to one")]
    let now = Instant::now();
    let mut sender = Connection::<()>::connecting(now, 1);
    let mut receiver = Connection::<()>::accepting(now, 2);
    receiver.handle_input(now, &mut waiting(&mut sender));
    sender.handle_input(now, &mut waiting(&mut receiver));
    assert!(sender.is_ready() && receiver.is_ready(), "the hello is done");
    let mut records = RecordPair::default();
    let message = Message::from(Bytes::from(vec![1; len]));
    let mut input = BytesMut::new();
    Box::new(move || {
        (0..count).for_each(|_| sender.send(black_box(&message)).expect("it is ready"));
        let outgoing = sender.outgoing();
        while outgoing.has_remaining() {
            let len = outgoing.chunk().len();
            records.carry(outgoing.chunk(), &mut input);
            outgoing.advance(len);
        }
        receiver.handle_input(now, &mut input);
        let mut received = 0;
        while let Some(event) = receiver.poll_event() {
            received += usize::from(matches!(event, ConnectionEvent::Packet(_)));
        }
        assert_eq!(received, count, "frames came through");
    })
}
