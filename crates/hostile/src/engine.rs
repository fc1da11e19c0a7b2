//! An engine that answers every request with the same few words.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};

/// The models it has: one for the neighbours, one for workers that are attacked.
pub(crate) const MODEL: &str = "neighbour";
pub(crate) const VICTIM_MODEL: &str = "victim";

/// Starts it; it runs as long as the program.
pub(crate) async fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A caller that leaves in the middle is served.
            tokio::spawn(async move { serve(stream).await.unwrap_or_default() });
        }
    });
    Ok(address)
}

async fn serve(stream: TcpStream) -> Result<()> {
    let mut stream = BufStream::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let len: usize = len.map_or(Ok(0), |len| len.trim().parse())?;
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await?;
        let answer = if head.starts_with("get ") {
            format!(r#"{{"object":"list","data":[{{"id":"{MODEL}"}},{{"id":"{VICTIM_MODEL}"}}]}}"#)
        } else {
            r#"{"id":"1","object":"chat.completion","created":0,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"well"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#.to_owned()
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
}
