//! Secure streams: TLS after proof of work, for other protocols than frames.

use cocoon_transport::identity::{IdentitySource, TlsIdentity};
use cocoon_transport::{
    ConnectError, ListenDeadlines, SecureConnectConfig, SecureListenConfig, SecureListener, SecureStream,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{LOCAL, identity};

async fn listens(identity: TlsIdentity, pow_difficulty: u8) -> (SecureListener, String) {
    let config = SecureListenConfig {
        identity: identity.into(),
        pow_difficulty,
        streams_max: 8,
        streams_per_address_max: 2,
        deadlines: ListenDeadlines::default(),
    };
    let listener = SecureListener::bind(LOCAL, config).await.unwrap();
    let address = listener.local_addr().to_string();
    (listener, address)
}

fn shows(identity: TlsIdentity, pow_difficulty_max: u8) -> SecureConnectConfig {
    let identity = IdentitySource::from(identity);
    SecureConnectConfig { identity, pow_difficulty_max, ..SecureConnectConfig::default() }
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    let (server, client) = (identity(), identity());
    let keys = [server.public_key(), client.public_key()];
    let (mut listener, address) = listens(server, 8).await;
    let config = shows(client, 8);
    let (ours, theirs) = tokio::join!(SecureStream::connect(&address, &config), listener.accept());
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!([ours.public_key(), theirs.public_key()], keys);
    assert_eq!(theirs.peer_addr(), ours.local_addr().unwrap());
    assert_eq!(ours.peer_addr().to_string(), address);
    assert_eq!((ours.evidence(), ours.certificate().is_some()), (None, true));

    ours.write_all(b"question").await.unwrap();
    ours.shutdown().await.unwrap();
    let mut received = String::new();
    theirs.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "question");
    theirs.write_all(b"answer").await.unwrap();
    theirs.shutdown().await.unwrap();
    received.clear();
    ours.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "answer");
}

#[tokio::test]
async fn an_end_without_goodbye_is_told_apart() {
    let (mut listener, address) = listens(identity(), 0).await;
    let config = shows(identity(), 0);
    let (ours, theirs) = tokio::join!(SecureStream::connect(&address, &config), listener.accept());
    drop(ours.unwrap());
    let ended = theirs.unwrap().read_to_end(&mut Vec::new()).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn more_work_than_wanted_is_refused() {
    let (_listener, address) = listens(identity(), 9).await;
    let refused = SecureStream::connect(&address, &shows(identity(), 8)).await;
    assert!(matches!(refused, Err(ConnectError::ProofOfWork(_))), "{refused:?}");
}

#[tokio::test]
async fn an_address_has_its_share_until_its_streams_end() {
    let (mut listener, address) = listens(identity(), 0).await;
    let config = shows(identity(), 0);
    let mut both = Vec::new();
    for _ in 0..2 {
        let (ours, theirs) = tokio::join!(SecureStream::connect(&address, &config), listener.accept());
        let mut theirs = theirs.unwrap();
        theirs.admit(false);
        both.push((ours.unwrap(), theirs));
    }
    assert!(SecureStream::connect(&address, &config).await.is_err());
    both.pop();
    let (ours, theirs) = tokio::join!(SecureStream::connect(&address, &config), listener.accept());
    assert!(ours.is_ok() && theirs.is_some());
}

#[tokio::test]
async fn whoever_is_vouched_for_does_no_work_the_next_time() {
    let (mut listener, address) = listens(identity(), 8).await;
    let (willing, unwilling) = (shows(identity(), 8), shows(identity(), 0));
    for vouched_for in [false, true] {
        assert!(SecureStream::connect(&address, &unwilling).await.is_err());
        let (ours, theirs) = tokio::join!(SecureStream::connect(&address, &willing), listener.accept());
        theirs.unwrap().admit(vouched_for);
        drop(ours);
    }
    assert!(SecureStream::connect(&address, &unwilling).await.is_ok());
}
