//! What several tests of routers need.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use attest::{Allowed, Hex, Policy, Root, Verifier};
use cocoon_router::{Limits, Options, PortOption, Router, RouterConfig, RouterFile};
use evidence::{Appraiser, CollateralStore, Simulated};
use sim::{Firmware, Guest, Publication, Vendor};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use transport::clock::unix_now;
use transport::identity::IdentitySource;
use transport::peer_header::PeerHeader;
use units::ImageHash;

/// A vendor of simulated platforms, and what it publishes of them.
pub(crate) struct World {
    vendor: Vendor,
    collateral: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let vendor = Vendor::from_seed(&[7; 32]).unwrap();
        let collateral = tempfile::tempdir().unwrap();
        let file = collateral.path().join(format!("{}.json", Vendor::COLLATERAL_KIND));
        std::fs::write(file, vendor.collateral(&Publication::at(unix_now())).unwrap()).unwrap();
        Self { vendor, collateral }
    }

    /// What a guest with this image shows.
    pub(crate) fn shows(&self, image: &str) -> IdentitySource {
        let platform = self.vendor.platform(Hex::new([1; 16]), Firmware::Current).unwrap();
        IdentitySource::attested(Arc::new(Simulated::new(platform, Guest::of_image(image))))
    }

    fn asks(&self) -> Appraiser {
        asks(Root::Other(self.vendor.root_der().to_vec()), self.collateral.path())
    }

    /// A router that takes the vendor's root for Intel's.
    pub(crate) async fn router(&self, ports: &[PortOption], identity: IdentitySource) -> Running {
        let options = Options { root_keys: Some(Allowed::only([self.vendor.root_key()])), ..tells(ports) };
        Running::start(options, Limits::default(), identity, &self.asks()).await
    }
}

fn asks(root: Root, collateral: &Path) -> Appraiser {
    let store = CollateralStore::new(collateral.into(), None);
    let none = Policy::for_images(Allowed::only([]));
    Appraiser::new(Verifier::new(root), none, store, NonZeroUsize::MIN)
}

pub(crate) fn image(name: &str) -> ImageHash {
    Guest::of_image(name).image_hash()
}

/// Options of such ports, with little work and the header.
pub(crate) fn tells(ports: &[PortOption]) -> Options {
    let ports = ports.to_vec();
    Options { ports, serialize_info: true, pow_difficulty: Some(4), ..Options::default() }
}

/// A router at work. It ends when this is dropped.
pub(crate) struct Running {
    pub(crate) ports: Vec<SocketAddr>,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: tokio::task::JoinHandle<()>,
    _guard: DropGuard,
}

impl Running {
    pub(crate) async fn start(
        options: Options,
        limits: Limits,
        identity: IdentitySource,
        appraiser: &Appraiser,
    ) -> Self {
        let config = RouterConfig::new(options, RouterFile::default()).unwrap();
        Self::of(RouterConfig { limits, ..config }, identity, appraiser).await
    }

    async fn of(config: RouterConfig, identity: IdentitySource, appraiser: &Appraiser) -> Self {
        let router = Router::bind(config, identity, appraiser).await.unwrap();
        let local = |address: SocketAddr| SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        let ports = router.local_addrs().unwrap().into_iter().map(local).collect();
        let stop = CancellationToken::new();
        let ended = tokio::spawn(router.run(stop.clone()));
        let guard = stop.clone().drop_guard();
        Self { ports, stop, ended, _guard: guard }
    }

    /// One for which evidence plays no part.
    pub(crate) async fn plain(options: Options, limits: Limits) -> Self {
        let nothing = asks(Root::Intel, Path::new("none"));
        Self::start(options, limits, IdentitySource::generated(), &nothing).await
    }
}

impl Running {
    /// What a file says.
    pub(crate) async fn of_file(json: &str) -> Self {
        let config = RouterConfig::new(Options::default(), RouterFile::from_json(json).unwrap()).unwrap();
        Self::of(config, IdentitySource::generated(), &asks(Root::Intel, Path::new("none"))).await
    }
}

pub(crate) fn socks5(policy: &str) -> PortOption {
    PortOption::socks5(&format!("0@{policy}")).unwrap()
}

pub(crate) fn forward(to: SocketAddr, policy: &str) -> PortOption {
    PortOption::forward(&format!("0:{}:{}@{policy}", to.ip(), to.port())).unwrap()
}

pub(crate) fn reverse(to: SocketAddr, policy: &str) -> PortOption {
    PortOption::reverse(&format!("0:{}:{}@{policy}", to.ip(), to.port())).unwrap()
}

/// A program behind a router: reads the header, and sends back what follows until it ends.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
}

impl Echo {
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    /// The next connection, behind its header.
    pub(crate) async fn accept(&self) -> (TcpStream, PeerHeader) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let header = read_header(&mut stream).await;
        (stream, header)
    }

    /// Serves one connection and returns its header.
    pub(crate) async fn serve(&self) -> PeerHeader {
        let (mut stream, header) = self.accept().await;
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
        header
    }
}

pub(crate) async fn read_header(stream: &mut TcpStream) -> PeerHeader {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await.unwrap();
    let mut body = vec![0; PeerHeader::decode_len(len).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    PeerHeader::decode(&body).unwrap()
}

/// Asks by SOCKS5, for a target as RFC 1928 writes it. Returns the connection and the code of the reply.
pub(crate) async fn ask(router: SocketAddr, target: &[u8]) -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(router).await.unwrap();
    stream.write_all(&[&[5, 1, 0, 5, 1, 0][..], target].concat()).await.unwrap();
    let mut reply = [0; 2 + 4];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!((&reply[..3], reply[4]), (&[5, 0, 5][..], 0));
    let bound_len = match reply[5] {
        1 => 4 + 2,
        4 => 16 + 2,
        other => panic!("address type {other}"),
    };
    stream.read_exact(&mut vec![0; bound_len]).await.unwrap();
    (stream, reply[3])
}

/// An address as RFC 1928 writes it.
pub(crate) fn target(address: SocketAddr) -> Vec<u8> {
    let (kind, ip) = match address.ip() {
        std::net::IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        std::net::IpAddr::V6(ip) => (4, ip.octets().to_vec()),
    };
    [&[kind][..], &ip, &address.port().to_be_bytes()].concat()
}
