//! One keep-alive HTTP/1.1 connection to an engine: as much of RFC 9112 as an engine needs.
//!
//! It lives in the task of the request that uses it. A request leaves in one write, an answer's body is handed on as it
//! arrives, all chunks of one read as one piece. While an engine thinks, no buffer is held. A general client costs a
//! second task, two channels and 25 KB for each request that waits.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use ::http::{HeaderMap, StatusCode};
use bytes::{Buf as _, Bytes, BytesMut};
use gateway::headers::{HEADERS_MAX, end_to_end};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::chunks::Chunks;

/// Free space for a read, at first and at most: it grows while an engine fills it.
const READ_LEN: (usize, usize) = (16 * 1024, 64 * 1024);

/// Longest head of an answer.
const HEAD_LEN_MAX: usize = 64 * 1024;

/// A connection between two answers, or within one.
pub(super) struct Connection {
    stream: TcpStream,
    /// What was read and not handed on yet.
    input: BytesMut,
    read_len: usize,
}

/// Where an answer's body ends.
#[derive(Debug)]
pub(super) enum Framing {
    /// After so many more bytes.
    Len(u64),
    /// After its last chunk.
    Chunked(Chunks),
    /// Where the connection does.
    UntilClose,
}

/// The head of an answer.
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// End-to-end headers.
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// Whether another request may follow on the connection.
    pub(super) keeps_connection: bool,
}

/// Why a request got no head.
#[derive(Debug)]
pub(super) struct NoHead {
    pub(super) error: io::Error,
    /// No byte of the request left: it may be sent again.
    pub(super) is_unsent: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: BytesMut::new(), read_len: READ_LEN.0 })
    }

    /// Whether an idle connection may take a request: the engine has neither closed it nor said anything.
    pub(super) fn is_idle(&self) -> bool {
        let mut byte = [0];
        self.input.is_empty()
            && matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn exchange(&mut self, head: &[u8], body: &[u8]) -> Result<Head, NoHead> {
        let mut request = head.chain(body);
        let len = request.remaining();
        let written = self.stream.write_all_buf(&mut request).await;
        let is_unsent = request.remaining() == len;
        match (written, is_unsent) {
            (Err(error), true) => Err(NoHead { error, is_unsent }),
            // An engine may refuse a body before it has read all of it, and then stop reading.
            (_, is_unsent) => self.head().await.map_err(|error| NoHead { error, is_unsent }),
        }
    }

    async fn head(&mut self) -> io::Result<Head> {
        loop {
            if let Some(head) = parse_head(&mut self.input)? {
                return Ok(head);
            }
            if self.input.len() > HEAD_LEN_MAX {
                return Err(invalid("the head of the answer is too long"));
            }
            if std::future::poll_fn(|cx| self.poll_fill(cx)).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next piece of a body, never empty; `None` at its end.
    pub(super) fn poll_piece(
        &mut self,
        framing: &mut Framing,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match framing.take(&mut self.input) {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(None) if framing.is_over() => return Poll::Ready(None),
                Ok(None) => {}
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if matches!(framing, Framing::UntilClose) => {
                    *framing = Framing::Len(0);
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// The whole body, if it is here already and no longer than `len_max`.
    pub(super) fn whole_body(&mut self, framing: &mut Framing, len_max: usize) -> Option<Bytes> {
        let Framing::Len(len) = *framing else { return None };
        let len = usize::try_from(len).ok().filter(|len| *len <= len_max && *len <= self.input.len())?;
        *framing = Framing::Len(0);
        Some(self.input.split_to(len).freeze())
    }

    /// Reads what is there; 0 at the end. Room is made only once there is something to read.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let space = self.input.capacity() - self.input.len();
            if space < self.read_len / 4 {
                self.input.reserve(self.read_len);
            }
            let space = self.input.capacity() - self.input.len();
            match self.stream.try_read_buf(&mut self.input) {
                Ok(len) => {
                    if len == space {
                        self.read_len = (self.read_len * 2).min(READ_LEN.1);
                    }
                    return Poll::Ready(Ok(len));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives back what the last answer needed. False if bytes came that belong to no answer.
    pub(super) fn rest(&mut self) -> bool {
        let is_clean = self.input.is_empty();
        self.input = BytesMut::new();
        self.read_len = READ_LEN.0;
        is_clean
    }
}

impl Framing {
    /// Whether nothing follows.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Len(len) => *len == 0,
            Self::Chunked(chunks) => chunks.is_over(),
            Self::UntilClose => false,
        }
    }

    /// Takes what `input` holds of the body; `None` if that is nothing.
    fn take(&mut self, input: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let piece = match self {
            Self::Chunked(chunks) => chunks.take(input)?,
            Self::UntilClose => input.split().freeze(),
            Self::Len(len) => {
                let now = usize::try_from(*len).unwrap_or(usize::MAX).min(input.len());
                *len -= now as u64;
                input.split_to(now).freeze()
            }
        };
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// Takes a head off `input`, if all of it is there. Interim answers (RFC 9110 section 15.2) are passed over.
fn parse_head(input: &mut BytesMut) -> io::Result<Option<Head>> {
    loop {
        let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX * 2];
        let mut response = httparse::Response::new(&mut lines);
        let parsed =
            response.parse(input).map_err(|_malformed| invalid("the engine does not speak HTTP/1"))?;
        let httparse::Status::Complete(len) = parsed else { return Ok(None) };
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or_else(|| invalid("the answer has no status"))?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(invalid("the engine switches protocols, which nobody asked for"));
        }
        if status.is_informational() {
            input.advance(len);
            continue;
        }
        let pairs = response.headers.iter().map(|line| (line.name.as_bytes(), line.value));
        let is_http_1_1 = response.version == Some(1);
        let head = Head {
            status,
            headers: end_to_end(pairs),
            framing: framing(status, response.headers)?,
            keeps_connection: is_http_1_1 && !says(response.headers, "connection", "close"),
        };
        let keeps_connection = head.keeps_connection && !matches!(head.framing, Framing::UntilClose);
        input.advance(len);
        return Ok(Some(Head { keeps_connection, ..head }));
    }
}

/// RFC 9112 section 6.3, for an answer to a POST or GET.
fn framing(status: StatusCode, lines: &[httparse::Header<'_>]) -> io::Result<Framing> {
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Framing::Len(0));
    }
    let has_coding = lines.iter().any(|line| line.name.eq_ignore_ascii_case("transfer-encoding"));
    if says(lines, "transfer-encoding", "chunked") {
        return Ok(Framing::Chunked(Chunks::default()));
    }
    if has_coding {
        return Ok(Framing::UntilClose);
    }
    let mut found = None;
    for line in lines.iter().filter(|line| line.name.eq_ignore_ascii_case("content-length")) {
        let text = std::str::from_utf8(line.value).unwrap_or_default().trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let len: u64 = text
            .parse()
            .ok()
            .filter(|_| is_number)
            .ok_or_else(|| invalid("the answer's length is no number"))?;
        if found.is_some_and(|other| other != len) {
            return Err(invalid("the answer has two lengths"));
        }
        found = Some(len);
    }
    Ok(found.map_or(Framing::UntilClose, Framing::Len))
}

/// Whether a header with a list of words has this one.
fn says(lines: &[httparse::Header<'_>], name: &str, word: &str) -> bool {
    let values = lines.iter().filter(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value);
    values
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

pub(super) fn invalid(message: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> io::Result<Option<Head>> {
        parse_head(&mut text.as_bytes().into())
    }

    fn head(lines: &str) -> Head {
        parse(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).unwrap().unwrap()
    }

    #[test]
    fn bodies_end_where_the_head_says() {
        assert!(matches!(head("Content-Length: 12\r\n").framing, Framing::Len(12)));
        assert!(matches!(head("content-length: 3\r\nContent-Length: 3\r\n").framing, Framing::Len(3)));
        assert!(matches!(head("Transfer-Encoding: chunked\r\n").framing, Framing::Chunked(_)));
        assert!(matches!(
            head("Transfer-Encoding: gzip, Chunked\r\nContent-Length: 4\r\n").framing,
            Framing::Chunked(_)
        ));
        assert!(matches!(head("").framing, Framing::UntilClose));
        assert!(matches!(head("Transfer-Encoding: gzip\r\n").framing, Framing::UntilClose));
        assert!(parse("HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().framing.is_over());
    }

    #[test]
    fn lengths_that_contradict_or_are_none_are_refused() {
        for lines in [
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: \r\n",
        ] {
            assert!(parse(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).is_err(), "{lines}");
        }
        assert!(parse("SMTP ready\r\n\r\n").is_err());
        assert!(parse("HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
    }

    #[test]
    fn a_connection_is_kept_unless_either_framing_or_word_forbids() {
        assert!(head("Content-Length: 0\r\n").keeps_connection);
        assert!(!head("Content-Length: 0\r\nConnection: Close\r\n").keeps_connection);
        assert!(!head("").keeps_connection);
        let old = parse("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap().unwrap();
        assert!(!old.keeps_connection);
    }

    #[test]
    fn interim_answers_are_passed_over_and_half_heads_waited_for() {
        let mut input: BytesMut = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-".into();
        assert!(parse_head(&mut input).unwrap().is_none());
        input.extend_from_slice(b"Length: 2\r\n\r\nab");
        assert_eq!(parse_head(&mut input).unwrap().unwrap().status, StatusCode::OK);
        assert_eq!(&input[..], b"ab");
    }
}
