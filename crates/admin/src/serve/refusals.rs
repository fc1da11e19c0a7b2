//! Bodies for the refusals that the HTTP library sends by itself: it answers what it cannot parse with a bare status,
//! and an application deserves a reason.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Progress;

/// A socket on which a first answer that no request led to gets a body. Later answers pass as they are: on a
/// connection that has served requests, a bare status may be somebody's answer.
pub(super) struct Worded<S> {
    socket: S,
    progress: Arc<Progress>,
    has_written: bool,
    /// What is written instead of the first answer, and how many bytes of the library's it stands for.
    instead: Bytes,
    stands_for: usize,
}

impl<S> Worded<S> {
    pub(super) fn new(socket: S, progress: Arc<Progress>) -> Self {
        Self { socket, progress, has_written: false, instead: Bytes::new(), stands_for: 0 }
    }

    /// Looks at the first bytes that are written.
    fn look(&mut self, first: &[u8], len: usize) {
        if !std::mem::replace(&mut self.has_written, true)
            && !self.progress.has_served.load(Ordering::Relaxed)
        {
            self.instead = worded(first).unwrap_or_default();
            self.stands_for = len;
        }
    }
}

impl<S: AsyncWrite + Unpin> Worded<S> {
    /// Writes what stands for the first answer; ready with that answer's length when it is out.
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while self.instead.has_remaining() {
            let len = ready!(Pin::new(&mut self.socket).poll_write(context, &self.instead))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead.advance(len);
        }
        Poll::Ready(Ok(std::mem::take(&mut self.stands_for)))
    }
}

/// The refusal in words, if this is the head of one without a body.
fn worded(head: &[u8]) -> Option<Bytes> {
    let head = std::str::from_utf8(head).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "))?;
    let (code, message) = match status.get(..3)? {
        "400" => ("malformed_http", "the request is no valid HTTP"),
        "414" => ("head_too_large", "the path of the request is too long"),
        "431" => ("head_too_large", "the head of the request is too large"),
        _ => return None,
    };
    let body = error_object(code, message).to_string();
    let (first_line, _headers) = head.split_once("\r\n")?;
    Some(Bytes::from(format!(
        "{first_line}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )))
}

/// A refusal in the form of the OpenAI API.
pub(super) fn error_object(code: &str, message: &str) -> Value {
    json!({ "error": { "message": message, "type": "invalid_request_error", "param": null, "code": code } })
}

impl<S: AsyncRead + Unpin> AsyncRead for Worded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len_before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if buffer.filled().len() > len_before {
            self.progress.has_read.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Worded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.look(bytes, bytes.len());
        if self.instead.has_remaining() {
            return self.poll_instead(context);
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.look(first, slices.iter().map(|slice| slice.len()).sum());
        if self.instead.has_remaining() {
            return self.poll_instead(context);
        }
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
