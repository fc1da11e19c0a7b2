//! Slow peers, with the clock of tokio: it moves when everybody waits.

use tokio::io::{DuplexStream, duplex};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::*;
use crate::identity::IdentitySource;
use crate::pow;
use crate::socks;
use crate::turns::{HANDSHAKES, SEARCHES};
use crate::{clock, testing};

const LIMIT: Duration = Duration::from_secs(10);

/// Sends zeros, one byte per second, for as long as somebody reads.
async fn drip(mut stream: DuplexStream) {
    while stream.write_all(&[0]).await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
}

/// Runs a phase against a peer that drips; returns the error and how long it took.
async fn against_dripping<T>(
    phase: Phase,
    work: impl AsyncFnOnce(DuplexStream) -> Result<T, ConnectError>,
) -> ConnectError {
    let (ours, theirs) = duplex(64);
    let begin = Instant::now();
    let dripping = tokio::spawn(drip(theirs));
    let result = within(phase, LIMIT, work(ours)).await;
    assert!(begin.elapsed() <= LIMIT);
    dripping.await.unwrap();
    match result {
        Err(error) => error,
        Ok(_) => panic!("{phase}: done"),
    }
}

fn assert_late(error: &ConnectError, expected: Phase) {
    match error {
        ConnectError::Deadline { phase, limit: LIMIT } => assert_eq!(*phase, expected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_drips_is_late_in_every_phase() {
    let error =
        against_dripping(Phase::ProofOfWork, async |mut stream| demand_work(&mut stream, 4).await).await;
    assert_late(&error, Phase::ProofOfWork);
    let error =
        against_dripping(Phase::ProofOfWork, async |mut stream| read_challenge(&mut stream, 4).await).await;
    assert_late(&error, Phase::ProofOfWork);

    let peer = testing::peer(None, None);
    let hello = async |stream| {
        start(stream, Side::Accepting, peer, None, LinkLimits::default(), Duration::MAX, ()).await
    };
    let error = against_dripping(Phase::Hello, hello).await;
    // Four bytes are a length, and zero is none.
    assert!(matches!(error, ConnectError::Hello(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dripped_header_is_late() {
    let (mut ours, mut theirs) = duplex(64);
    let drip = tokio::spawn(async move {
        for byte in [120, 0, 0, 0].into_iter().chain(std::iter::repeat(0)) {
            if theirs.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    let header = within(Phase::PeerHeader, LIMIT, read_peer_header(&mut ours)).await;
    assert_late(&header.unwrap_err(), Phase::PeerHeader);
    drop(ours);
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_falls_silent_is_late_in_every_phase() {
    let configs = IdentitySource::generated().configs(clock::unix_now()).await.unwrap();

    let (stream, _peer) = duplex(64);
    let error = within(Phase::Tls, LIMIT, accept_tls(stream, &configs.server)).await.unwrap_err();
    assert_late(&error, Phase::Tls);

    let (stream, _peer) = duplex(64);
    let error = within(Phase::Tls, LIMIT, connect_tls(stream, &configs.client)).await.unwrap_err();
    assert_late(&error, Phase::Tls);

    let (mut stream, _peer) = duplex(64);
    let target = "192.0.2.1:1".parse().unwrap();
    let error = within(Phase::Socks, LIMIT, socks::connect(&mut stream, target)).await.unwrap_err();
    assert_late(&error, Phase::Socks);

    for side in [Side::Accepting, Side::Connecting] {
        let (stream, _peer) = duplex(64);
        let peer = testing::peer(None, None);
        let link = start(stream, side, peer, None, LinkLimits::default(), LIMIT, ()).await;
        assert_late(&link.unwrap_err(), Phase::Hello);
    }
}

#[tokio::test]
async fn nothing_beyond_a_phase_is_read() {
    let (mut ours, mut theirs) = duplex(1024);
    let challenge = Challenge { difficulty: 6, salt: [9; 16] };
    theirs.write_all(&[&challenge.encode()[..], b"next"].concat()).await.unwrap();
    let challenge_read = read_challenge(&mut ours, 6).await.unwrap();
    do_work(&mut ours, challenge_read).await.unwrap();
    let mut next = [0; 4];
    ours.read_exact(&mut next).await.unwrap();
    assert_eq!(&next, b"next");

    let mut solution = [0; Solution::LEN];
    theirs.read_exact(&mut solution).await.unwrap();
    assert_eq!(challenge.check(Solution::decode(&solution).unwrap()), Ok(()));
}

/// Salt `000102…0f`, as in the vectors of the deployed network.
fn challenge(difficulty: i32) -> Challenge {
    Challenge { difficulty, salt: std::array::from_fn(|index| u8::try_from(index).unwrap()) }
}

#[tokio::test]
async fn work_of_several_turns_finds_the_smallest_nonce() {
    let solution = solve(challenge(20)).await.unwrap();
    assert_eq!(solution, Solution { nonce: 303_607 });
    assert!(solution.nonce > NONCES_PER_TURN);
}

fn cores() -> u32 {
    u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap()
}

/// One thread for everything: whatever is queued before runs before.
fn with_one_thread_to_block(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(test);
}

#[test]
fn nobody_searches_without_a_turn() {
    with_one_thread_to_block(async {
        let all = SEARCHES.acquire_many(cores()).await.unwrap();
        assert_eq!(SEARCHES.available_permits(), 0, "one turn for each core");
        let search = tokio::spawn(solve(challenge(12)));
        tokio::task::yield_now().await;
        assert_eq!(spawn_blocking(|| "verified").await.unwrap(), "verified");
        tokio::task::yield_now().await;
        assert!(!search.is_finished());
        drop(all);
        assert_eq!(search.await.unwrap(), Ok(Solution { nonce: 7012 }));
    });
}

#[test]
fn handshakes_are_computed_in_turns_off_the_thread_of_messages() {
    with_one_thread_to_block(async {
        let configs = IdentitySource::generated().configs(clock::unix_now()).await.unwrap();
        let all = HANDSHAKES.acquire_many(cores()).await.unwrap();
        let (left, right) = duplex(16 * 1024);
        let mut handshake = tokio::spawn(async move {
            tokio::join!(accept_tls(left, &configs.server), connect_tls(right, &configs.client))
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(spawn_blocking(|| "verified").await.unwrap(), "verified");
        assert!(!handshake.is_finished());
        drop(all);
        let (accepted, connected) = (&mut handshake).await.unwrap();
        assert_eq!(accepted.unwrap().1.tls_exporter, connected.unwrap().1.tls_exporter);
    });
}

/// No hash has 65 zero bits among 64.
#[test]
fn endless_work_leaves_turns_to_others_and_ends_with_who_asked_for_it() {
    with_one_thread_to_block(async {
        let mut endless = tokio::task::JoinSet::new();
        for _ in 0..2 * cores() {
            endless.spawn(solve(challenge(65)));
        }
        tokio::task::yield_now().await;
        assert_eq!(solve(challenge(12)).await, Ok(Solution { nonce: 7012 }));
        assert!(endless.try_join_next().is_none());
        endless.shutdown().await;
        drop(SEARCHES.acquire_many(cores()).await.unwrap());
    });
}

#[tokio::test]
async fn each_challenge_has_its_own_salt() {
    let mut salts = Vec::new();
    for _ in 0..2 {
        let (mut ours, mut theirs) = duplex(1024);
        let demand = tokio::spawn(async move { demand_work(&mut ours, 64).await });
        let mut challenge = [0; Challenge::LEN];
        theirs.read_exact(&mut challenge).await.unwrap();
        salts.push(Challenge::decode(&challenge, 64).unwrap().salt);
        theirs.write_all(&Solution { nonce: 0 }.encode()).await.unwrap();
        let refused = demand.await.unwrap().unwrap_err();
        assert!(matches!(refused, ConnectError::ProofOfWork(pow::PowError::Unsatisfied { difficulty: 64 })));
    }
    assert_ne!(salts[0], salts[1]);
}

#[test]
fn both_ends_of_tls_agree_on_the_best_offer() {
    let (client, server) = testing::tls_session();
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let suite = client.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(client.alpn_protocol(), None);
    assert_eq!(client.tls13_tickets_received(), 0);
    assert_eq!(server.server_name(), None, "no name is sent");
}
