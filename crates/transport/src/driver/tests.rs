//! The task of a link, against a peer that a test plays by hand. The clock moves when everybody waits.

use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{DuplexStream, ReadBuf, duplex};
use wire::StatusCode;
use wire::frame::FrameWriter;
use wire::tcp::Packet;

use super::*;
use crate::error::SendError;
use crate::handshake::start;
use crate::link::{Link, LinkEvents, LinkLimits};
use crate::testing;

impl Tenure for Arc<()> {}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The far end of a link, without any of our code behind it.
struct Puppet {
    stream: DuplexStream,
    writer: FrameWriter,
}

impl Puppet {
    async fn say(&mut self, packet: Packet<'_>) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        self.writer.write(&packet, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await
    }

    /// The constructor id and the rest of the next frame.
    async fn hear(&mut self) -> (u32, Vec<u8>) {
        let len = self.stream.read_u32_le().await.unwrap();
        let _seqno = self.stream.read_u32_le().await.unwrap();
        let id = self.stream.read_u32_le().await.unwrap();
        let mut rest = vec![0; len as usize - 4];
        self.stream.read_exact(&mut rest).await.unwrap();
        (id, rest)
    }
}

const PING: u32 = 0xbbe9_627c;
const PONG: u32 = 0x0bd4_302c;

/// A link whose peer is a puppet, over a pipe of `pipe_len` bytes.
async fn with_puppet<T: Tenure + Send + 'static>(
    side: Side,
    pipe_len: usize,
    limits: LinkLimits,
    tenure: T,
) -> (Link, LinkEvents, Puppet) {
    let (ours, stream) = duplex(pipe_len);
    let mut puppet = Puppet { stream, writer: FrameWriter::new() };
    let link = start(ours, side, testing::peer(None, None), None, limits, seconds(1), tenure);
    let hello = async {
        match side {
            Side::Accepting => {
                puppet.say(Packet::Connect { id: 5 }).await.unwrap();
                puppet.hear().await;
            }
            Side::Connecting => {
                let (_, id) = puppet.hear().await;
                let id = i64::from_le_bytes(id.try_into().unwrap());
                puppet.say(Packet::Connected { id }).await.unwrap();
            }
        }
        puppet
    };
    let (link, puppet) = tokio::join!(link, hello);
    let (link, events) = link.unwrap();
    (link, events, puppet)
}

async fn plain(side: Side) -> (Link, LinkEvents, Puppet) {
    with_puppet(side, 64 * 1024, LinkLimits::default(), ()).await
}

async fn closed(events: &mut LinkEvents) -> CloseReason {
    match events.next().await {
        Some(LinkEvent::Closed(reason)) => reason,
        other => panic!("expected the end: {other:?}"),
    }
}

async fn packet(events: &mut LinkEvents) -> Bytes {
    match events.next().await {
        Some(LinkEvent::Packet(message)) => message,
        other => panic!("expected a packet: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_pinged_and_given_up() {
    let (_link, mut events, mut puppet) = plain(Side::Connecting).await;
    let begin = Instant::now();
    assert_eq!(puppet.hear().await.0, PING);
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert_eq!(closed(&mut events).await, CloseReason::Silence { limit: seconds(20) });
    assert_eq!(begin.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_and_given_up() {
    let (_link, mut events, mut puppet) = plain(Side::Accepting).await;
    let begin = Instant::now();
    assert_eq!(puppet.hear().await.0, PING);
    assert_eq!(begin.elapsed().as_secs(), 25);
    assert_eq!(closed(&mut events).await, CloseReason::Silence { limit: seconds(60) });
    assert_eq!(begin.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_lives_for_hours() {
    let ((client, mut client_events), (server, mut server_events)) = testing::pair();
    tokio::time::sleep(seconds(10_000)).await;
    client.try_send(Bytes::from_static(b"hello")).unwrap();
    assert_eq!(packet(&mut server_events).await, "hello");
    server.try_send(Bytes::from_static(b"hello")).unwrap();
    assert_eq!(packet(&mut client_events).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered() {
    let (_link, _events, mut puppet) = plain(Side::Accepting).await;
    puppet.say(Packet::Ping { id: 9 }).await.unwrap();
    assert_eq!(puppet.hear().await, (PONG, 9i64.to_le_bytes().to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_given_up() {
    let (link, mut events, mut puppet) = with_puppet(Side::Accepting, 1024, LinkLimits::default(), ()).await;
    let begin = Instant::now();
    link.try_send(Bytes::from(vec![0; 10_000])).unwrap();
    // It goes on talking, so that silence is not the reason.
    let talk = async {
        while puppet.say(Packet::Pong { id: 0 }).await.is_ok() {
            tokio::time::sleep(seconds(1)).await;
        }
    };
    let end = async { (closed(&mut events).await, begin.elapsed().as_secs()) };
    let (end, ()) = tokio::join!(end, talk);
    assert_eq!(end, (CloseReason::WriteStalled { limit: seconds(30) }, 30));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_given_up() {
    let (link, mut events, mut puppet) = with_puppet(Side::Accepting, 1024, LinkLimits::default(), ()).await;
    let message = vec![3; 100_000];
    link.try_send(Bytes::from(message.clone())).unwrap();
    let mut received = Vec::new();
    while received.len() < 12 + 4 + message.len() {
        tokio::time::sleep(seconds(20)).await;
        puppet.say(Packet::Pong { id: 0 }).await.unwrap();
        let mut part = vec![0; 1024];
        let len = puppet.stream.read(&mut part).await.unwrap();
        received.extend_from_slice(&part[..len]);
    }
    assert_eq!(received[16..], message);
    drop(puppet);
    assert_eq!(closed(&mut events).await, CloseReason::Peer);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_told_to_the_caller_and_room_lets_senders_go_on() {
    let limits = LinkLimits { outgoing_bytes_max: 10_000, ..LinkLimits::default() };
    let (link, _events, mut puppet) = with_puppet(Side::Accepting, 1024, limits, ()).await;
    let message = Bytes::from(vec![1; 4_000]);
    let mut sent = 0;
    while tokio::time::timeout(seconds(1), link.send(message.clone())).await.is_ok() {
        sent += 1;
    }
    assert!(
        sent * message.len() < WRITE_LEN_MAX + 3 * limits.outgoing_bytes_max,
        "{sent} messages were taken"
    );
    assert_eq!(link.try_send(message.clone()), Err(SendError::QueueFull));
    let begin = Instant::now();
    assert_eq!(link.query(message.clone(), seconds(3)).await, Err(QueryError::Timeout));
    assert_eq!(begin.elapsed().as_secs(), 3);

    let waiting = tokio::spawn({
        let link = link.clone();
        async move { link.send(Bytes::from_static(b"last")).await }
    });
    for _ in 0..sent {
        assert_eq!(puppet.hear().await.1.len(), 4 + message.len());
    }
    assert_eq!(puppet.hear().await.1, b"\x04last\0\0\0");
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn one_message_may_exceed_the_limit_of_an_empty_queue() {
    let limits = LinkLimits { outgoing_bytes_max: 10, ..LinkLimits::default() };
    let (link, _events, mut puppet) = with_puppet(Side::Accepting, 1024, limits, ()).await;
    let large = Bytes::from(vec![1; 300_000]);
    link.try_send(large.clone()).unwrap();
    assert_eq!(link.try_send(Bytes::new()), Err(SendError::QueueFull));
    assert_eq!(puppet.hear().await.1.len(), 4 + large.len());
    tokio::task::yield_now().await;
    link.send(large).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_the_application_lags() {
    let limits = LinkLimits { incoming_bytes_max: 10_000, ..LinkLimits::default() };
    let (_link, mut events, mut puppet) = with_puppet(Side::Accepting, 1024, limits, ()).await;
    let message = vec![2; 1_000];
    let mut sent = 0;
    let say = async |puppet: &mut Puppet| puppet.say(Packet::Packet { data: &message }).await;
    while tokio::time::timeout(seconds(1), say(&mut puppet)).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 20, "{sent} messages were taken");
    // The peer's silence is our doing: after minutes the link still lives.
    tokio::time::sleep(seconds(300)).await;
    for _ in 0..sent {
        assert_eq!(packet(&mut events).await, message);
    }
}

#[tokio::test(start_paused = true)]
async fn peers_that_both_write_do_not_block_each_other() {
    let (left_stream, right_stream) = duplex(1024);
    let begin = |stream, side| {
        start(stream, side, testing::peer(None, None), None, LinkLimits::default(), seconds(1), ())
    };
    let (left, right) =
        tokio::join!(begin(left_stream, Side::Connecting), begin(right_stream, Side::Accepting));
    let (mut links, message) = ([left.unwrap(), right.unwrap()], Bytes::from(vec![8; 50_000]));
    links[1].0.handshake_complete();
    for (link, _) in &links {
        for _ in 0..50 {
            link.try_send(message.clone()).unwrap();
        }
    }
    for (_, events) in &mut links {
        for _ in 0..50 {
            assert_eq!(packet(events).await, message);
        }
    }
}

/// Counts the writes that a stream takes.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[tokio::test(start_paused = true)]
async fn all_frames_of_a_wake_up_go_out_in_one_write() {
    let (left, right) = duplex(64 * 1024);
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Counted { stream: left, writes: writes.clone() };
    let peer = || testing::peer(None, None);
    let limits = LinkLimits::default();
    let (ours, theirs) = tokio::join!(
        start(counted, Side::Connecting, peer(), None, limits, seconds(1), ()),
        start(right, Side::Accepting, peer(), None, limits, seconds(1), ()),
    );
    let ((ours, mut our_events), (theirs, mut their_events)) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(writes.swap(0, Ordering::Relaxed), 1, "the hello");
    for index in 0..100u8 {
        ours.try_send(Bytes::copy_from_slice(&[index; 50])).unwrap();
    }
    for index in 0..100u8 {
        assert_eq!(packet(&mut their_events).await, [index; 50].as_slice());
    }
    assert_eq!(writes.swap(0, Ordering::Relaxed), 1);

    // Answers too.
    let asked = async |name: &'static [u8]| theirs.query(Bytes::from_static(name), seconds(1)).await;
    let answer = async {
        let mut queries = Vec::new();
        while queries.len() < 2 {
            match our_events.next().await {
                Some(LinkEvent::Query(query)) => queries.push(query),
                other => panic!("{other:?}"),
            }
        }
        for query in queries {
            query.responder.answer(query.message);
        }
    };
    let (one, two, ()) = tokio::join!(asked(b"1"), asked(b"2"), answer);
    assert_eq!((one.unwrap(), two.unwrap()), (Bytes::from("1"), Bytes::from("2")));
    assert_eq!(writes.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_closed_link_gives_its_tenure_up_even_if_the_peer_reads_nothing() {
    let tenure = Arc::new(());
    let watch: Weak<()> = Arc::downgrade(&tenure);
    let (link, mut events, puppet) = with_puppet(Side::Accepting, 1024, LinkLimits::default(), tenure).await;
    link.try_send(Bytes::from(vec![0; 100_000])).unwrap();
    link.close("done");
    let begin = Instant::now();
    assert_eq!(closed(&mut events).await, CloseReason::Local("done"));
    assert_eq!(begin.elapsed().as_secs(), 0);
    tokio::time::sleep(seconds(3)).await;
    assert!(watch.upgrade().is_none());
    drop(puppet);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_nobody_listens_to_closes() {
    let (link, events, mut puppet) = plain(Side::Accepting).await;
    drop(events);
    assert!(link.is_closed());
    let mut rest = Vec::new();
    puppet.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test(start_paused = true)]
async fn unanswered_queries_of_a_lost_application_are_refused() {
    let (_link, mut events, mut puppet) = plain(Side::Accepting).await;
    puppet.say(Packet::Query { id: 3, data: b"?" }).await.unwrap();
    let Some(LinkEvent::Query(query)) = events.next().await else { panic!("no query") };
    drop(query);
    let (_, refusal) = puppet.hear().await;
    let code = StatusCode::CANCELLED.code().to_le_bytes();
    assert_eq!(refusal[..12], [&3i64.to_le_bytes()[..], &code].concat());
}

/// A driver that no task runs.
fn driver_over(stream: DuplexStream) -> Driver<DuplexStream, ()> {
    let shared = Arc::new(Shared::new(testing::peer(None, None), LinkLimits::default()));
    Driver::new(stream, Side::Accepting, shared, ())
}

#[tokio::test(start_paused = true)]
async fn a_dropped_task_ends_the_link() {
    let (ours, _theirs) = duplex(64);
    let driver = driver_over(ours);
    let shared = driver.shared.clone();
    let (link, mut events) = (Link::new(shared.clone()), LinkEvents::new(shared));
    let asked = tokio::spawn({
        let link = link.clone();
        async move { link.query(Bytes::new(), seconds(100)).await }
    });
    tokio::task::yield_now().await;
    drop(driver);
    assert!(matches!(closed(&mut events).await, CloseReason::Local(_)));
    assert!(events.next().await.is_none());
    assert_eq!(asked.await.unwrap(), Err(QueryError::Closed));
    assert_eq!(link.try_send(Bytes::new()), Err(SendError::Closed));
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_keeps_little_memory() {
    let (ours, _theirs) = duplex(64);
    let mut driver = driver_over(ours);
    driver.input.reserve(100_000);
    driver.release_buffers();
    assert!(driver.input.capacity() <= READ_LEN_MIN);
    let state = size_of::<Driver<DuplexStream, ()>>();
    assert!(state <= 1024, "the state of a link takes {state} bytes");
    let task = size_of_val(&Box::new(driver_over(duplex(64).0)).run());
    assert!(task <= 512, "besides that, its task takes {task} bytes");

    // What has begun to arrive stays.
    driver.input.extend_from_slice(&[1; 3]);
    driver.input.reserve(100_000);
    driver.release_buffers();
    assert_eq!(driver.input, [1; 3].as_slice());
}

#[tokio::test(start_paused = true)]
async fn announced_bytes_take_no_memory_before_they_come() {
    let (ours, _theirs) = duplex(64);
    let mut driver = driver_over(ours);
    driver.input.extend_from_slice(&(1u32 << 24).to_le_bytes());
    driver.reserve_input();
    assert!(driver.input.capacity() <= 2 * READ_LEN_MAX);
}

/// Lets a link hold so many bytes.
struct AtMost(usize);

impl Tenure for AtMost {
    fn may_hold(&mut self, len: usize) -> bool {
        len <= self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_holds_no_more_than_it_may() {
    // One frame and what surrounds it fit; the second waits behind the first, which nobody takes.
    let limits = LinkLimits { incoming_bytes_max: 2000, ..LinkLimits::default() };
    let (_link, mut events, mut puppet) = with_puppet(Side::Accepting, 64, limits, AtMost(1500)).await;
    puppet.say(Packet::Packet { data: &[7; 1000] }).await.unwrap();
    assert!(matches!(events.next().await, Some(LinkEvent::Packet(_))));
    puppet.say(Packet::Packet { data: &[7; 1000] }).await.unwrap();
    let _closed_meanwhile = puppet.say(Packet::Packet { data: &[7; 1000] }).await;
    assert!(matches!(events.next().await, Some(LinkEvent::Packet(_))));
    assert!(matches!(closed(&mut events).await, CloseReason::NoMemory { wanted } if wanted > 1500));
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_and_does_not_read_loses_its_link() {
    let limits = LinkLimits { outgoing_bytes_max: 1000, ..LinkLimits::default() };
    let (_link, mut events, mut puppet) = with_puppet(Side::Accepting, 1024, limits, ()).await;
    let answer = Bytes::from(vec![0; 1 << 20]);
    for id in 0.. {
        if puppet.say(Packet::Query { id, data: b"?" }).await.is_err() {
            break;
        }
        match events.next().await {
            Some(LinkEvent::Query(query)) => query.responder.answer(answer.clone()),
            Some(LinkEvent::Closed(reason)) => {
                assert!(matches!(reason, CloseReason::AnswersUnread { .. }), "{reason:?}");
                assert!((16..20).contains(&id), "one frame's worth of answers may wait: {id}");
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(closed(&mut events).await, CloseReason::AnswersUnread { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_drips_ends_its_link() {
    let (link, mut events, mut puppet) = plain(Side::Accepting).await;
    link.handshake_complete();
    let begin = Instant::now();
    let mut header = (1u32 << 24).to_le_bytes().to_vec();
    header.extend_from_slice(&1i32.to_le_bytes());
    puppet.stream.write_all(&header).await.unwrap();
    tokio::spawn(async move {
        while puppet.stream.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(seconds(1)).await;
        }
    });
    assert!(matches!(closed(&mut events).await, CloseReason::FrameTooSlow { .. }));
    assert!(begin.elapsed() < seconds(11), "{:?}", begin.elapsed());
}
