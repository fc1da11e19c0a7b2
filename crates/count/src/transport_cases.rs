//! Frames through a connection and TLS, in memory: what a driver does at one wake-up, without its sockets.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use transport::connection::{Connection, ConnectionEvent};
use transport::testing::tls_session;
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
    let (mut client, mut server) = tls_session();
    let message = Message::from(Bytes::from(vec![1; len]));
    let (mut records, mut input) = (Vec::new(), BytesMut::new());
    Box::new(move || {
        (0..count).for_each(|_| sender.send(black_box(&message)).expect("it is ready"));
        let outgoing = sender.outgoing();
        while outgoing.has_remaining() {
            let len = client.writer().write(outgoing.chunk()).expect("the session buffers it");
            outgoing.advance(len);
        }
        records.clear();
        while client.wants_write() {
            client.write_tls(&mut records).expect("memory takes all");
        }
        let mut unread = &records[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).expect("memory gives all");
            let plain_len = server.process_new_packets().expect("good records").plaintext_bytes_to_read();
            let before = input.len();
            input.resize(before + plain_len, 0);
            server.reader().read_exact(&mut input[before..]).expect("as much as it says");
        }
        receiver.handle_input(now, &mut input);
        let mut received = 0;
        while let Some(event) = receiver.poll_event() {
            received += usize::from(matches!(event, ConnectionEvent::Packet(_)));
        }
        assert_eq!(received, count, "frames came through");
    })
}
