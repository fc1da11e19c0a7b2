//! A handshake with the TLS library of the deployed peers, where its program is installed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::BytesMut;
use cocoon_transport::identity::PemIdentity;
use cocoon_transport::pow::{Challenge, Solution};
use cocoon_transport::{ConnectConfig, connect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, Command};
use wire::frame::FrameWriter;
use wire::tcp::Packet;

use crate::support::{LOCAL, identity, listen, tls_config};

/// TLS as deployed peers set it up.
const SETUP: [&str; 4] =
    ["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384", "-quiet"];

fn is_installed() -> bool {
    let found = std::process::Command::new("openssl").arg("version").output().is_ok();
    if !found {
        println!("skipped: no `openssl` program on this machine");
    }
    found
}

/// Writes an identity into `folder`, for the program to read.
fn write_identity(folder: &Path) -> (PathBuf, PathBuf) {
    let PemIdentity { certificate, private_key } = identity().to_pem();
    let paths = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&paths.0, certificate).unwrap();
    std::fs::write(&paths.1, private_key.as_bytes()).unwrap();
    paths
}

fn openssl(folder: &Path, mode: &str, arguments: &[&str]) -> Child {
    let (certificate, key) = write_identity(folder);
    Command::new("openssl")
        .arg(mode)
        .args(SETUP)
        .arg("-cert")
        .arg(certificate)
        .arg("-key")
        .arg(key)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn an_openssl_client_gets_a_link() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut listener, address) = listen(tls_config(8)).await;

    // The program cannot do proof of work, so this end does it and passes the rest on.
    let entrance = TcpListener::bind(LOCAL).await.unwrap();
    let entrance_address = entrance.local_addr().unwrap().to_string();
    let work = tokio::spawn(async move {
        let (mut from_program, _) = entrance.accept().await.unwrap();
        let mut to_listener = TcpStream::connect(&address).await.unwrap();
        let mut challenge = [0; Challenge::LEN];
        to_listener.read_exact(&mut challenge).await.unwrap();
        let solution = Challenge::decode(&challenge, 8).unwrap().search(0..i64::MAX).unwrap();
        to_listener.write_all(&solution.encode()).await.unwrap();
        let _ended = copy_bidirectional(&mut from_program, &mut to_listener).await;
    });
    let verify = ["-connect", &entrance_address, "-noservername", "-nocommands"];
    let mut program = openssl(folder.path(), "s_client", &verify);
    let mut input = program.stdin.take().unwrap();
    let mut output = program.stdout.take().unwrap();

    let mut hello = BytesMut::new();
    FrameWriter::new().write(&Packet::Connect { id: 7 }, &mut hello).unwrap();
    input.write_all(&hello).await.unwrap();
    let (link, _events) = listener.accept().await.unwrap();
    assert!(link.peer().public_key().is_some());

    let mut answer = BytesMut::new();
    FrameWriter::new().write(&Packet::Connected { id: 7 }, &mut answer).unwrap();
    let mut received = vec![0; answer.len()];
    output.read_exact(&mut received).await.unwrap();
    assert_eq!(received, answer);
    drop(program);
    work.await.unwrap();
}

#[tokio::test]
async fn an_openssl_server_gets_a_link() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    // `-Verify` requires a client certificate; the depth does not matter for a self-signed one.
    let arguments = ["-unix", socket.to_str().unwrap(), "-Verify", "0"];
    let mut program = openssl(folder.path(), "s_server", &arguments);
    let mut input = program.stdin.take().unwrap();
    let mut output = program.stdout.take().unwrap();

    let entrance = TcpListener::bind(LOCAL).await.unwrap();
    let address = entrance.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut from_us, _) = entrance.accept().await.unwrap();
        let challenge = Challenge { difficulty: 8, salt: [3; 16] };
        from_us.write_all(&challenge.encode()).await.unwrap();
        let mut solution = [0; Solution::LEN];
        from_us.read_exact(&mut solution).await.unwrap();
        challenge.check(Solution::decode(&solution).unwrap()).unwrap();
        // The program does not say when it listens.
        let mut to_program = loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let _ended = copy_bidirectional(&mut from_us, &mut to_program).await;
    });
    let answer_hello = async {
        let mut hello = [0; 20];
        output.read_exact(&mut hello).await.unwrap();
        let id = i64::from_le_bytes(hello[12..].try_into().unwrap());
        let mut answer = BytesMut::new();
        FrameWriter::new().write(&Packet::Connected { id }, &mut answer).unwrap();
        input.write_all(&answer).await.unwrap();
    };
    let config = ConnectConfig::default();
    let (connected, ()) = tokio::join!(connect(&address, &config), answer_hello);
    let (link, _events) = connected.unwrap();
    assert!(link.peer().public_key().is_some());
}
