//! HTTP as a good application speaks it, and bytes as a bad one sends them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No good request takes longer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends `text` and returns all that comes back until the other side closes, at most for `time`.
pub(crate) async fn exchange(address: SocketAddr, text: &[u8], time: Duration) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let both = async {
        // The server may answer and close before it has read all.
        let (_sent, read) = tokio::join!(writer.write_all(text), reader.read_to_end(&mut answer));
        read
    };
    // A reset is an end too.
    let _reset = timeout(time, both).await.context("the connection is still open")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status of an answer.
pub(crate) fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

/// One good chat request for `model`.
///
/// # Errors
/// If it is not answered with 200.
pub(crate) async fn chat(address: SocketAddr, model: &str) -> Result<()> {
    let body = format!(
        r#"{{"model":"{model}","timeout":25,"messages":[{{"role":"user","content":"how are you?"}}]}}"#
    );
    let text = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(address, text.as_bytes(), PATIENCE).await?;
    ensure!(status(&answer) == Some(200), "a neighbour's request got {answer:?}");
    Ok(())
}
