//! What passes, and how.

use std::net::SocketAddr;

use cocoon_router::{Limits, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use transport::peer_header::PeerHeader;

use crate::support::{
    Echo, Running, World, ask, forward, image, read_header, reverse, socks5, target, tells,
};

/// Sends `bytes` and reads until the end.
async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        writer.write_all(bytes).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_written, read) = tokio::join!(write, reader.read_to_end(&mut received));
    read.unwrap();
    received
}

#[tokio::test]
async fn both_local_sides_learn_what_runs_at_the_other_end() {
    let world = World::new();
    let echo = Echo::listen().await;
    let far = world.router(&[reverse(echo.address, "tdx")], world.shows("proxy")).await;
    let near = world.router(&[socks5("tdx")], world.shows("worker")).await;
    let local = async {
        let (mut stream, code) = ask(near.ports[0], &target(far.ports[0])).await;
        assert_eq!(code, 0);
        let header = read_header(&mut stream).await;
        assert_eq!(exchange(&mut stream, b"hello").await, b"hello");
        (stream.local_addr().unwrap(), header)
    };
    let ((program, header), at_server) = tokio::join!(local, echo.serve());
    let runs = |header: &PeerHeader| header.attestation.as_ref().map(|measured| measured.image_hash());
    assert_eq!((runs(&header), runs(&at_server)), (Some(image("proxy")), Some(image("worker"))));
    assert_eq!((header.source, header.destination), (program, far.ports[0]));
    assert_eq!(at_server.destination, echo.address);
    assert_ne!(header.collateral_root_hash, [0; 48]);
    assert_eq!(header.encode().len(), 4 + 568 + padded(&header));
}

/// What two addresses need more than 9 characters each, as in the deployed network's example of 572 bytes.
fn padded(header: &PeerHeader) -> usize {
    let len = |address: SocketAddr| (1 + address.ip().to_string().len()).next_multiple_of(4);
    len(header.source) + len(header.destination) + 4 - 24
}

#[tokio::test]
async fn names_and_addresses_lead_to_the_same_peer() {
    let echo = Echo::listen().await;
    let far = Running::plain(tells(&[reverse(echo.address, "any")]), Limits::default()).await;
    let near = Running::plain(tells(&[socks5("any"), forward(far.ports[0], "any")]), Limits::default()).await;
    let port = far.ports[0].port();
    let name = [&b"\x03\x09localhost"[..], &port.to_be_bytes()].concat();
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().unwrap();
    for asked in [name, target(far.ports[0]), target(mapped)] {
        let local = async {
            let (mut stream, code) = ask(near.ports[0], &asked).await;
            assert_eq!(code, 0);
            let header = read_header(&mut stream).await;
            assert_eq!((header.attestation, header.destination), (None, far.ports[0]));
            exchange(&mut stream, b"hello").await
        };
        assert_eq!(tokio::join!(local, echo.serve()).0, b"hello");
    }
    let forwarded = async {
        let mut stream = TcpStream::connect(near.ports[1]).await.unwrap();
        let header = read_header(&mut stream).await;
        assert_eq!((header.source, header.destination), (stream.local_addr().unwrap(), far.ports[0]));
        exchange(&mut stream, b"hello").await
    };
    assert_eq!(tokio::join!(forwarded, echo.serve()).0, b"hello");
}

#[tokio::test]
async fn much_passes_both_ways_at_once_and_unchanged() {
    let echo = Echo::listen().await;
    let far = Running::plain(tells(&[reverse(echo.address, "any")]), Limits::default()).await;
    let near = Running::plain(tells(&[forward(far.ports[0], "any")]), Limits::default()).await;
    let bytes: Vec<u8> = (0..8 << 20_u32).map(|at: u32| (at % 251) as u8).collect();
    let local = async {
        let mut stream = TcpStream::connect(near.ports[0]).await.unwrap();
        read_header(&mut stream).await;
        exchange(&mut stream, &bytes).await
    };
    assert!(tokio::join!(local, echo.serve()).0 == bytes);
}

#[tokio::test]
async fn nothing_is_told_where_nobody_asks_for_it() {
    let echo = Echo::listen().await;
    let far = Running::plain(tells(&[reverse(echo.address, "any")]), Limits::default()).await;
    let silent = Options { serialize_info: false, ..tells(&[forward(far.ports[0], "any")]) };
    let near = Running::plain(silent, Limits::default()).await;
    let local = async {
        let mut stream = TcpStream::connect(near.ports[0]).await.unwrap();
        exchange(&mut stream, b"hello").await
    };
    assert_eq!(tokio::join!(local, echo.serve()).0, b"hello", "no byte before it");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_stops_the_writer_at_the_other_end() {
    let echo = Echo::listen().await;
    let far = Running::plain(tells(&[reverse(echo.address, "any")]), Limits::default()).await;
    let near = Running::plain(tells(&[forward(far.ports[0], "any")]), Limits::default()).await;
    let local = async {
        let mut stream = TcpStream::connect(near.ports[0]).await.unwrap();
        read_header(&mut stream).await;
        stream
    };
    let (mut stream, (mut server, _header)) = tokio::join!(local, echo.accept());
    // Until nothing more is taken: socket buffers on the way hold some megabytes, and the routers a few records.
    let mut sent = 0;
    let chunk = vec![7; 1 << 16];
    let full = async {
        while sent < 256 << 20 {
            sent += stream.write(&chunk).await.unwrap();
        }
    };
    // Paused time goes on when everybody waits.
    let quiet = tokio::time::timeout(Limits::default().idle / 2, full).await;
    assert!(quiet.is_err(), "256 MiB were taken without a reader");
    // Read, and all of it is there.
    stream.shutdown().await.unwrap();
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match server.read(&mut buffer).await.unwrap() {
            0 => break,
            len => received += len,
        }
    }
    assert_eq!(received, sent);
}
