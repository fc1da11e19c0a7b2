//! Frames through TLS in memory, beside the same bytes through TLS alone:
//! `cargo bench -p cocoon-transport --features testing`.
//!
//! So many streams have a token each that waits at one wake-up. What the frames add to sealing and opening their bytes
//! is ours.
#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::io::{Read as _, Write as _};

use bytes::{Buf as _, Bytes, BytesMut};
use cocoon_transport::LinkEvent;
use cocoon_transport::connection::{Connection, ConnectionEvent};
use cocoon_transport::testing::{tls_pair, tls_session};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use rustls::{ClientConnection, ServerConnection};
use tokio::time::Instant;
use wire::Message;

/// Frames that wait together.
const STREAMS: [usize; 3] = [1, 16, 256];

/// A token as a message, and what a frame takes with it.
const MESSAGE_LEN: usize = 200;
const FRAME_LEN: usize = MESSAGE_LEN + 16;

fn main() {
    divan::main();
}

/// Both ends of a session, and the records on their way.
struct Session {
    client: ClientConnection,
    server: ServerConnection,
    records: Vec<u8>,
}

impl Session {
    fn new() -> Self {
        let (client, server) = tls_session();
        Self { client, server, records: Vec::new() }
    }

    /// Seals all of `plain` and opens it at the other end, onto the end of `into`.
    fn carry(&mut self, mut plain: &[u8], into: &mut BytesMut) {
        while !plain.is_empty() {
            // The session takes so much before it wants to be rid of it.
            let taken = self.client.writer().write(plain).unwrap();
            plain = &plain[taken..];
            self.records.clear();
            while self.client.wants_write() {
                self.client.write_tls(&mut self.records).unwrap();
            }
            let mut unread = &self.records[..];
            while !unread.is_empty() {
                self.server.read_tls(&mut unread).unwrap();
                let len = self.server.process_new_packets().unwrap().plaintext_bytes_to_read();
                let before = into.len();
                into.resize(before + len, 0);
                self.server.reader().read_exact(&mut into[before..]).unwrap();
            }
        }
    }
}

/// The yardstick.
#[divan::bench(args = STREAMS)]
fn records_alone(bencher: Bencher<'_, '_>, streams: usize) {
    let (mut session, plain, mut input) = (Session::new(), vec![1; streams * FRAME_LEN], BytesMut::new());
    bencher.counter(ItemsCount::new(streams)).bench_local(|| {
        input.clear();
        session.carry(black_box(&plain), &mut input);
    });
}

/// What a connection has to write, in one piece.
fn waiting(connection: &mut Connection<()>) -> BytesMut {
    let outgoing = connection.outgoing();
    BytesMut::from(outgoing.copy_to_bytes(outgoing.len()))
}

/// With the state machine of a connection at each end.
#[divan::bench(args = STREAMS)]
fn connection(bencher: Bencher<'_, '_>, streams: usize) {
    let now = Instant::now().into_std();
    let mut sender = Connection::<()>::connecting(now, 1);
    let mut receiver = Connection::<()>::accepting(now, 2);
    receiver.handle_input(now, &mut waiting(&mut sender));
    sender.handle_input(now, &mut waiting(&mut receiver));
    let message = Message::from(Bytes::from(vec![1; MESSAGE_LEN]));
    let (mut session, mut input) = (Session::new(), BytesMut::new());
    bencher.counter(ItemsCount::new(streams)).bench_local(|| {
        (0..streams).for_each(|_| sender.send(black_box(&message)).unwrap());
        let outgoing = sender.outgoing();
        while outgoing.has_remaining() {
            let len = outgoing.chunk().len();
            session.carry(outgoing.chunk(), &mut input);
            outgoing.advance(len);
        }
        receiver.handle_input(now, &mut input);
        let mut received = 0;
        while let Some(event) = receiver.poll_event() {
            received += usize::from(matches!(event, ConnectionEvent::Packet(_)));
        }
        assert_eq!(received, streams);
    });
}

/// With all of a link: queues, tasks and wake-ups.
#[divan::bench(args = STREAMS)]
fn link(bencher: Bencher<'_, '_>, streams: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ((sender, _unused), (_receiver, mut events)) = runtime.block_on(tls_pair());
    let message = Bytes::from(vec![1; MESSAGE_LEN]);
    bencher.counter(ItemsCount::new(streams)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..streams {
                sender.try_send(black_box(&message).clone()).unwrap();
            }
            for _ in 0..streams {
                assert!(matches!(events.next().await, Some(LinkEvent::Packet(_))));
            }
        });
    });
}
