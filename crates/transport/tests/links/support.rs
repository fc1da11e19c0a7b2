//! What several tests of links need.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use cocoon_transport::identity::{IdentitySource, TlsIdentity};
use cocoon_transport::{
    ConnectConfig, Link, LinkEvent, LinkEvents, ListenConfig, ListenMode, Listener, Via, connect,
};

/// Port 0 of this host.
pub(crate) const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Long enough for anything here, on any machine.
pub(crate) const LONG: Duration = Duration::from_secs(300);

pub(crate) fn identity() -> TlsIdentity {
    TlsIdentity::generate(cocoon_transport::clock::unix_now()).unwrap()
}

pub(crate) fn tls_config(pow_difficulty: u8) -> ListenConfig {
    let mode = ListenMode::Tls { identity: IdentitySource::generated(), appraiser: None, pow_difficulty };
    ListenConfig { mode, ..ListenConfig::default() }
}

pub(crate) async fn listen(config: ListenConfig) -> (Listener, String) {
    let listener = Listener::bind(LOCAL, config).await.unwrap();
    let address = listener.local_addr().to_string();
    (listener, address)
}

pub(crate) fn shown_as(identity: TlsIdentity) -> ConnectConfig {
    ConnectConfig {
        via: Via::Direct { identity: identity.into(), appraiser: None },
        ..ConnectConfig::default()
    }
}

/// Both ends of a link over TLS on a socket: connecting side first.
pub(crate) async fn tls_pair() -> ((Link, LinkEvents), (Link, LinkEvents)) {
    let (mut listener, address) = listen(tls_config(0)).await;
    let config = ConnectConfig::default();
    let (ours, theirs) = tokio::join!(connect(&address, &config), listener.accept());
    (ours.unwrap(), theirs.unwrap())
}

pub(crate) async fn packet(events: &mut LinkEvents) -> Bytes {
    match events.next().await {
        Some(LinkEvent::Packet(message)) => message,
        other => panic!("expected a packet: {other:?}"),
    }
}

/// The link that comes out next belongs to a good client: nobody before it got through.
pub(crate) async fn next_is_a_good_client(listener: &mut Listener, address: &str) {
    let identity = identity();
    let key = identity.public_key();
    let config = shown_as(identity);
    let (ours, theirs) = tokio::join!(connect(address, &config), listener.accept());
    let (_ours, (link, _events)) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(link.peer().public_key(), Some(key));
}
