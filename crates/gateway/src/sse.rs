//! Server-sent events, read and written (WHATWG HTML, section 9.2), as far as the API uses them.

use std::fmt;

use bytes::{Bytes, BytesMut};
use units::Concealed;

/// An event that is larger than its reader allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {} bytes", EventReader::EVENT_LEN_MAX)]
pub struct EventTooLarge;

/// Takes a stream apart into the data of its events, however its bytes are cut.
#[derive(Clone, Default)]
pub struct EventReader {
    buffer: BytesMut,
    /// So much of the buffer is known to hold no line end.
    scanned: usize,
    data: Option<BytesMut>,
    after_cr: bool,
}

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader").field("buffer", &Concealed::new(&self.buffer)).finish_non_exhaustive()
    }
}

impl EventReader {
    /// Largest event in bytes. Events of chat streams have hundreds; whole tool calls have thousands.
    pub const EVENT_LEN_MAX: usize = 4 * 1024 * 1024;

    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes of the stream.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The data of the next complete event, `None` until more bytes arrive. Comments and events without data
    /// are passed over; several data lines are joined by line feeds.
    ///
    /// # Errors
    /// [`EventTooLarge`] if the event exceeds [`Self::EVENT_LEN_MAX`].
    pub fn next_event(&mut self) -> Result<Option<Bytes>, EventTooLarge> {
        loop {
            if self.after_cr && !self.buffer.is_empty() {
                self.after_cr = false;
                if self.buffer[0] == b'\n' {
                    let _line_feed = self.buffer.split_to(1);
                }
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', &self.buffer[self.scanned..]) else {
                self.scanned = self.buffer.len();
                let len = self.buffer.len() + self.data.as_ref().map_or(0, BytesMut::len);
                return if len > Self::EVENT_LEN_MAX { Err(EventTooLarge) } else { Ok(None) };
            };
            let mut line = self.buffer.split_to(self.scanned + end + 1);
            self.after_cr = line.last() == Some(&b'\r');
            line.truncate(line.len() - 1);
            self.scanned = 0;
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Ok(Some(data.freeze()));
                }
            } else if let Some(value) = line.strip_prefix(b"data:") {
                let value = value.strip_prefix(b" ").unwrap_or(value);
                match &mut self.data {
                    None => self.data = Some(BytesMut::from(value)),
                    Some(data) if data.len() + value.len() < Self::EVENT_LEN_MAX => {
                        data.extend_from_slice(b"\n");
                        data.extend_from_slice(value);
                    }
                    Some(_) => return Err(EventTooLarge),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<String> {
        let mut reader = EventReader::new();
        let mut found = Vec::new();
        for chunk in chunks {
            reader.feed(chunk);
            while let Some(event) = reader.next_event().unwrap() {
                found.push(String::from_utf8(event.to_vec()).unwrap());
            }
        }
        found
    }

    #[test]
    fn data_is_taken_out_of_its_lines() {
        let stream = b": hi\n\nevent: x\ndata: {\"a\":1}\n\ndata:b\r\ndata:  c\r\n\r\nid: 7\n\ndata: [DONE]\n\ndata: cut";
        assert_eq!(events(&[stream]), ["{\"a\":1}", "b\n c", "[DONE]"]);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut reader = EventReader::new();
        reader.feed(&vec![b'x'; EventReader::EVENT_LEN_MAX]);
        assert_eq!(reader.next_event(), Ok(None));
        reader.feed(b"x");
        assert_eq!(reader.next_event(), Err(EventTooLarge));
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same(stream in "(data: ?[a-c]{0,3}|:c|x|)(\r|\n|\r\n){1,3}((data:d)?(\r\n|\n)){0,6}", cuts in prop::collection::vec(0_usize..4, 0..40)) {
            let (mut pieces, mut rest) = (Vec::new(), stream.as_bytes());
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(events(&pieces), events(&[stream.as_bytes()]));
        }
    }
}
