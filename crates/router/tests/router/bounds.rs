//! Deadlines, numbers, and the end.

use std::time::Duration;

use cocoon_router::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::support::{Echo, Running, ask, forward, read_header, reverse, socks5, target, tells};

const DAY: Duration = Duration::from_secs(86_400);

/// How long it takes until the other side closes; nothing is said meanwhile.
async fn until_closed(stream: &mut TcpStream) -> Duration {
    let since = Instant::now();
    let _closed = stream.read_to_end(&mut Vec::new()).await;
    since.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_program_that_says_nothing_is_let_go() {
    let near = Running::plain(tells(&[socks5("any")]), Limits::default()).await;
    for begun in [&b""[..], b"\x05", b"\x05\x01\x00\x05\x01\x00\x03\x0bexam"] {
        let mut stream = TcpStream::connect(near.ports[0]).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let waited = until_closed(&mut stream).await;
        assert!(waited >= Limits::default().socks5 && waited < DAY, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_let_go() {
    // One that we connect to, and that sends no challenge.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = Running::plain(tells(&[socks5("any")]), Limits::default()).await;
    let address = silent.local_addr().unwrap();
    assert_eq!(ask(near.ports[0], &target(address)).await.1, 1);
    // One that connects to us, and does no work.
    let far = Running::plain(tells(&[reverse(address, "any")]), Limits::default()).await;
    let mut stream = TcpStream::connect(far.ports[0]).await.unwrap();
    let waited = until_closed(&mut stream).await;
    assert!(waited >= Limits::default().listen.proof_of_work && waited < DAY, "{waited:?}");
}

#[tokio::test]
async fn a_port_has_so_many_connections_and_no_more() {
    let echo = Echo::listen().await;
    let far = Running::plain(tells(&[reverse(echo.address, "any")]), Limits::default()).await;
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let near = Running::plain(tells(&[forward(far.ports[0], "any")]), limits).await;
    let connect = async || {
        let mut stream = TcpStream::connect(near.ports[0]).await.unwrap();
        read_header(&mut stream).await;
        stream
    };
    let (first, _first_server) = tokio::join!(connect(), echo.accept());
    let (_second, _second_server) = tokio::join!(connect(), echo.accept());
    for _ in 0..20 {
        let mut flood = TcpStream::connect(near.ports[0]).await.unwrap();
        assert!(matches!(flood.read(&mut [0]).await, Ok(0) | Err(_)));
    }
    drop((first, _first_server));
    // The place is free once the router has seen it.
    let mut stream = loop {
        let mut stream = TcpStream::connect(near.ports[0]).await.unwrap();
        if stream.read_u8().await.is_ok() {
            break stream;
        }
    };
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_address_has_its_share_of_a_port_for_peers() {
    let echo = Echo::listen().await;
    let limits = Limits { connections_per_address_max: 1, ..Limits::default() };
    let far = Running::plain(tells(&[reverse(echo.address, "any")]), limits).await;
    let near = Running::plain(tells(&[socks5("any")]), Limits::default()).await;
    let asked = target(far.ports[0]);
    let ((_first, code), _server) = tokio::join!(ask(near.ports[0], &asked), echo.accept());
    assert_eq!(code, 0);
    assert_eq!(ask(near.ports[0], &asked).await.1, 1, "the far router closes before it says anything");
}

#[tokio::test]
async fn what_is_open_may_end_by_itself_when_the_router_stops() {
    let echo = Echo::listen().await;
    let far = Running::plain(tells(&[reverse(echo.address, "any")]), Limits::default()).await;
    let near = Running::plain(tells(&[forward(far.ports[0], "any")]), Limits::default()).await;
    let local = async {
        let mut stream = TcpStream::connect(near.ports[0]).await.unwrap();
        read_header(&mut stream).await;
        near.stop.cancel();
        while TcpStream::connect(near.ports[0]).await.is_ok() {
            tokio::task::yield_now().await;
        }
        stream.write_all(b"the last words").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).await.unwrap();
        received
    };
    let (received, _header) = tokio::join!(local, echo.serve());
    assert_eq!(received, "the last words");
    near.ended.await.unwrap();
}

#[tokio::test]
async fn what_does_not_end_by_itself_is_cut_off_when_the_router_stops() {
    let echo = Echo::listen().await;
    let far = Running::plain(tells(&[reverse(echo.address, "any")]), Limits::default()).await;
    let limits = Limits { drain: Duration::ZERO, ..Limits::default() };
    let near = Running::plain(tells(&[forward(far.ports[0], "any")]), limits).await;
    let local = async {
        let mut stream = TcpStream::connect(near.ports[0]).await.unwrap();
        read_header(&mut stream).await;
        stream
    };
    let (mut stream, _server) = tokio::join!(local, echo.accept());
    near.stop.cancel();
    near.ended.await.unwrap();
    until_closed(&mut stream).await;
}
