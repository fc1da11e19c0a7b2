//! The chunked transfer coding (RFC 9112 section 7.1), taken off in place.

use std::io;

use bytes::{Bytes, BytesMut};

use super::connection::invalid;

/// Longest line between chunks. Engines write a dozen bytes.
const LINE_LEN_MAX: usize = 1024;

/// Most bytes of trailers, which are dropped.
const TRAILERS_LEN_MAX: usize = 8 * 1024;

/// How far a chunked body has been read.
#[derive(Debug, Default)]
pub(super) struct Chunks(State);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// A line with the next chunk's length follows.
    #[default]
    Len,
    /// So many bytes of the chunk follow.
    Data(u64),
    /// The line break after a chunk follows.
    DataEnd,
    /// Trailers follow; so many bytes of them were dropped.
    Trailers(usize),
    Over,
}

impl Chunks {
    /// Whether the last chunk and the trailers were read.
    pub(super) fn is_over(&self) -> bool {
        self.0 == State::Over
    }

    /// Takes all whole steps off `input` and returns the data among them as one piece, which may be empty. Data moves
    /// together inside the buffer: copying some bytes costs less than handing on every chunk by itself.
    ///
    /// # Errors
    /// If the coding is broken.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> io::Result<Bytes> {
        let (mut read, mut written) = (0, 0);
        while !self.is_over() {
            let rest = &input[read..];
            match self.0 {
                State::Data(len) => {
                    let now = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
                    if now == 0 {
                        break;
                    }
                    input.copy_within(read..read + now, written);
                    (read, written) = (read + now, written + now);
                    let left = len - now as u64;
                    self.0 = if left == 0 { State::DataEnd } else { State::Data(left) };
                }
                State::Len | State::DataEnd | State::Trailers(_) => {
                    let Some(line_len) = line(rest)? else { break };
                    let text = rest[..line_len].strip_suffix(b"\r").unwrap_or(&rest[..line_len]);
                    self.0 = self.after_line(text)?;
                    read += line_len + 1;
                }
                State::Over => {}
            }
        }
        let mut taken = input.split_to(read);
        taken.truncate(written);
        Ok(taken.freeze())
    }

    fn after_line(&self, line: &[u8]) -> io::Result<State> {
        match self.0 {
            State::Len => Ok(match chunk_len(line)? {
                0 => State::Trailers(0),
                len => State::Data(len),
            }),
            State::DataEnd if line.is_empty() => Ok(State::Len),
            State::Trailers(_) if line.is_empty() => Ok(State::Over),
            State::Trailers(len) if len + line.len() <= TRAILERS_LEN_MAX => {
                Ok(State::Trailers(len + line.len() + 1))
            }
            State::Trailers(_) => Err(invalid("the answer has too many trailers")),
            State::Data(_) | State::DataEnd | State::Over => {
                Err(invalid("a chunk of the answer is longer than it says"))
            }
        }
    }
}

/// Length of the line that `rest` begins with, without its `\n`; `None` if that has not come yet.
fn line(rest: &[u8]) -> io::Result<Option<usize>> {
    let end = rest.iter().take(LINE_LEN_MAX).position(|byte| *byte == b'\n');
    if end.is_none() && rest.len() >= LINE_LEN_MAX {
        return Err(invalid("a line between chunks of the answer is too long"));
    }
    Ok(end)
}

/// Hexadecimal digits, then perhaps an extension, which nobody uses.
fn chunk_len(line: &[u8]) -> io::Result<u64> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let text =
        std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let len = text.and_then(|text| u64::from_str_radix(text, 16).ok());
    len.ok_or_else(|| invalid("a chunk of the answer has no length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces of `len` bytes; the data, and what stands after the body.
    fn decode(text: &str, len: usize) -> io::Result<(String, Option<String>)> {
        let (mut chunks, mut input, mut data) = (Chunks::default(), BytesMut::new(), Vec::new());
        for piece in text.as_bytes().chunks(len) {
            input.extend_from_slice(piece);
            data.extend_from_slice(&chunks.take(&mut input)?);
        }
        let after = chunks.is_over().then(|| String::from_utf8_lossy(&input).into_owned());
        Ok((String::from_utf8_lossy(&data).into_owned(), after))
    }

    #[test]
    fn data_is_the_same_however_the_bytes_are_cut() {
        let text = "5\r\nhello\r\nA;name=value\r\n, chunked \r\n1\nx\n0\r\nTrailer: 1\r\n\r\nnext";
        for len in 1..=text.len() {
            let (data, after) = decode(text, len).unwrap();
            assert_eq!((data.as_str(), after.as_deref()), ("hello, chunked x", Some("next")), "{len}");
        }
    }

    #[test]
    fn chunks_of_one_read_are_one_piece() {
        let mut input: BytesMut = "1\r\na\r\n1\r\nb\r\n1\r\nc".into();
        let mut chunks = Chunks::default();
        assert_eq!(chunks.take(&mut input).unwrap(), "abc");
        assert!(input.is_empty() && !chunks.is_over());
    }

    #[test]
    fn broken_codings_are_refused() {
        let long = "1".repeat(LINE_LEN_MAX);
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(TRAILERS_LEN_MAX));
        for text in
            ["\r\n", "x\r\n", "-1\r\n", "+1\r\n", "1\r\nab\r\n", "11111111111111111\r\n", &long, &trailers]
        {
            assert!(decode(text, text.len()).is_err(), "{text:?}");
        }
        assert_eq!(decode("3\r\nab", 9).unwrap(), ("ab".into(), None));
    }
}
