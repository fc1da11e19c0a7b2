//! Signs of life, silence and deadlines.

use super::*;

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
fn a_quiet_connection_is_asked_less_often_until_a_message_comes() {
    let mut pair = Pair::ready();
    // The first sign of life comes as soon as ever; those that follow it do not.
    for wait in [10, 30, 30] {
        let asks_at = pair.now + seconds(wait);
        assert_eq!(pair.client.poll_timeout(), Some(asks_at));
        pair.now = asks_at;
        pair.client.handle_timeout(pair.now);
        pair.exchange();
    }
    assert_eq!(pair.server.poll_timeout(), Some(pair.now + seconds(45)));
    pair.server.send(&message(b"work")).unwrap();
    pair.client.send(&message(b"done")).unwrap();
    pair.exchange();
    assert_eq!(pair.client.poll_timeout(), Some(pair.now + seconds(10)));
    assert_eq!(pair.server.poll_timeout(), Some(pair.now + seconds(25)));
}

#[test]
fn a_quiet_peer_that_vanished_is_given_up() {
    let mut pair = Pair::ready();
    pair.now += seconds(10);
    pair.client.handle_timeout(pair.now);
    pair.exchange();
    let heard = pair.now;
    pair.client.handle_timeout(heard + seconds(30));
    assert_eq!(sent(&mut pair.client).len(), 20, "one ping");
    assert_eq!(pair.client.poll_timeout(), Some(heard + seconds(40)));
    pair.client.handle_timeout(heard + seconds(40));
    assert_eq!(end(&mut pair.client), CloseReason::Silence { limit: seconds(40) });
    pair.server.handle_timeout(heard + seconds(45));
    assert_eq!(sent(&mut pair.server).len(), 20);
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
    pair.client.send(&message(&[7; 1000])).unwrap();
    let mut bytes = BytesMut::from(&sent(&mut pair.client)[..]);
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
