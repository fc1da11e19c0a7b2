//! The least HTTP/1.1 that a load generator and a mock need: heads, lengths and chunks, read in place.
//!
//! Both ends of every connection are ours or a server under test, so that what is not understood is an error of the
//! measurement, not an attack.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection with the bytes that were read and not yet used.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are used up.
    start: usize,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyLen {
    Known(usize),
    Chunked,
}

/// The first line and the length of a message.
struct Head {
    first_line: String,
    body: BodyLen,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), start: 0 })
    }

    pub(crate) async fn open(port: u16) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self::new(TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Whether the peer has closed; returns only then.
    pub(crate) async fn closed(&mut self) {
        while self.fill().await.is_ok_and(|len| len > 0) {}
    }

    /// A request as the mock sees it: method and path, and the body. `None` when the peer has closed.
    pub(crate) async fn request(&mut self) -> Result<Option<(String, Vec<u8>)>> {
        let Some(head) = self.head().await? else { return Ok(None) };
        let mut body = Vec::new();
        self.body(head.body, |piece| body.extend_from_slice(piece)).await?;
        let line = head.first_line.strip_suffix(" HTTP/1.1").unwrap_or(&head.first_line).to_owned();
        Ok(Some((line, body)))
    }

    /// The status of an answer whose body goes piece by piece to `sink`.
    pub(crate) async fn answer(&mut self, sink: impl FnMut(&[u8])) -> Result<u16> {
        let Some(head) = self.head().await? else { bail!("the server closed the connection") };
        let status = head.first_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("no status in {:?}", head.first_line))?;
        self.body(head.body, sink).await?;
        Ok(status)
    }

    async fn head(&mut self) -> Result<Option<Head>> {
        let end = loop {
            if let Some(at) = memchr::memmem::find(self.unused(), b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill().await? == 0 {
                ensure!(self.unused().is_empty(), "the connection ended within a head");
                return Ok(None);
            }
        };
        let text = std::str::from_utf8(&self.unused()[..end]).context("a head is no text")?;
        let head = read_head(text)?;
        self.start += end;
        Ok(Some(head))
    }

    async fn body(&mut self, len: BodyLen, mut sink: impl FnMut(&[u8])) -> Result<()> {
        match len {
            BodyLen::Known(len) => self.piece(len, &mut sink).await,
            BodyLen::Chunked => loop {
                let line = self.line().await?;
                let len = line.split(';').next().unwrap_or_default();
                let len = usize::from_str_radix(len.trim(), 16).with_context(|| format!("chunk {line:?}"))?;
                self.piece(len, &mut sink).await?;
                ensure!(self.line().await?.is_empty(), "a chunk is longer than it says, or has trailers");
                if len == 0 {
                    return Ok(());
                }
            },
        }
    }

    /// Hands over exactly `len` bytes, as they come.
    async fn piece(&mut self, mut len: usize, sink: &mut impl FnMut(&[u8])) -> Result<()> {
        while len > 0 {
            if self.unused().is_empty() && self.fill().await? == 0 {
                bail!("the connection ended within a body");
            }
            let now = len.min(self.unused().len());
            sink(&self.unused()[..now]);
            self.start += now;
            len -= now;
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(len) = memchr::memmem::find(self.unused(), b"\r\n") {
                let line = String::from_utf8_lossy(&self.unused()[..len]).into_owned();
                self.start += len + 2;
                return Ok(line);
            }
            ensure!(self.fill().await? > 0, "the connection ended within a line");
        }
    }

    fn unused(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    async fn fill(&mut self) -> Result<usize> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        // Small while small answers come, so that thousands of waiting callers stay cheap.
        if self.buffer.capacity() - self.buffer.len() < 1024 {
            self.buffer.reserve(64 * 1024);
        }
        Ok(self.stream.read_buf(&mut self.buffer).await?)
    }
}

fn read_head(text: &str) -> Result<Head> {
    let mut lines = text.split("\r\n");
    let first_line = lines.next().unwrap_or_default().to_owned();
    let mut body = BodyLen::Known(0);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            body = BodyLen::Known(value.trim().parse().with_context(|| format!("length {value:?}"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            body = BodyLen::Chunked;
        }
    }
    Ok(Head { first_line, body })
}

/// A POST of a chat completion.
pub(crate) fn chat_request(body: &[u8], keeps_connection: bool) -> Vec<u8> {
    let connection = if keeps_connection { "" } else { "Connection: close\r\n" };
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{connection}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Status and body of a GET.
pub(crate) async fn get(port: u16, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut connection = Connection::open(port).await?;
    connection.write(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).await?;
    let mut body = Vec::new();
    let status = connection.answer(|piece| body.extend_from_slice(piece)).await?;
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let connection = Connection::open(listener.local_addr().unwrap().port()).await.unwrap();
        (connection, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn answers_are_read_in_both_framings_on_one_connection() {
        let (mut connection, mut server) = pair().await;
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
        server
            .write_all(
                b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n",
            )
            .await
            .unwrap();
        for (status, text) in [(200, &b"abc"[..]), (503, b"def")] {
            let mut body = Vec::new();
            let found = connection.answer(|piece| body.extend_from_slice(piece)).await.unwrap();
            assert_eq!((found, &body[..]), (status, text));
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_is_an_error() {
        let (mut connection, mut server) = pair().await;
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").await.unwrap();
        drop(server);
        assert!(connection.answer(|_piece| {}).await.is_err());
    }
}
