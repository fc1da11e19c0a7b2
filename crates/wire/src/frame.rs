//! Frames: a byte stream cut into numbered payloads, each one boxed [`tcp::Packet`].
//!
//! A frame is a 32-bit payload length, a 32-bit number that counts frames from 0 in each direction, and the payload;
//! both numbers are little endian. Wire protocol of the deployed network.

mod outgoing;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::codec::{Encode as _, Sink, bytes_header, bytes_padding, encoded_len};
use crate::message::SHARED_LEN_MIN;
use crate::{Message, schema, tcp};

pub use outgoing::Outgoing;

/// Most bytes of one payload, 16 MiB.
pub const PAYLOAD_LEN_MAX: usize = 1 << 24;

/// Fewest bytes of one payload: a constructor id.
pub const PAYLOAD_LEN_MIN: usize = 4;

/// Most bytes of an application message: constructor id, query id and length header of the largest `tcp.query` or
/// `tcp.queryAnswer` take the rest of a payload.
pub const MESSAGE_LEN_MAX: usize = PAYLOAD_LEN_MAX - 4 - 8 - 4;

/// Length and number.
const HEADER_LEN: usize = 8;

/// Why a stream cannot be read further, or a packet not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer announces a payload that is too short or too long; the connection must close.
    #[error("frame of {len} bytes is outside the limits {PAYLOAD_LEN_MIN}..={len_max}")]
    LengthOutOfBounds {
        /// Announced length.
        len: u32,
        /// The reader's limit.
        len_max: usize,
    },
    /// The peer's frames are not numbered one by one; the connection must close.
    #[error("frame has the number {received}, expected {expected}")]
    WrongSeqno {
        /// Number of the next frame.
        expected: i32,
        /// Number found.
        received: i32,
    },
    /// Our packet fits into no frame; nothing was written.
    #[error("packet of {len} bytes exceeds the limit of {PAYLOAD_LEN_MAX}")]
    PayloadTooLarge {
        /// Length of the packet as a payload.
        len: usize,
    },
}

/// Takes payloads out of received bytes.
#[derive(Debug)]
pub struct FrameReader {
    payload_len_max: usize,
    seqno_next: i32,
}

impl FrameReader {
    /// A reader at the start of a stream that accepts payloads of up to `payload_len_max` bytes, though never of more
    /// than [`PAYLOAD_LEN_MAX`]. Unknown peers deserve a small limit, since a frame is buffered until it is complete.
    pub fn new(payload_len_max: usize) -> Self {
        Self { payload_len_max: payload_len_max.min(PAYLOAD_LEN_MAX), seqno_next: 0 }
    }

    /// Changes the limit for the frames to come.
    pub fn set_payload_len_max(&mut self, payload_len_max: usize) {
        self.payload_len_max = payload_len_max.min(PAYLOAD_LEN_MAX);
    }

    /// Takes the next payload from the front of `buffer`, without copying it; `None` if more bytes are needed.
    ///
    /// Length and number are judged as soon as they are here, so the caller never buffers for a frame that will be
    /// refused: it holds at most the header and the limit.
    ///
    /// # Errors
    /// [`FrameError::LengthOutOfBounds`] and [`FrameError::WrongSeqno`]. Both are final: the same call fails again.
    pub fn next_frame(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some((len, rest)) = buffer.split_first_chunk() else { return Ok(None) };
        let len = u32::from_le_bytes(*len);
        let payload_len = usize::try_from(len)
            .ok()
            .filter(|len| (PAYLOAD_LEN_MIN..=self.payload_len_max).contains(len))
            .ok_or(FrameError::LengthOutOfBounds { len, len_max: self.payload_len_max })?;

        let Some((seqno, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let (expected, received) = (self.seqno_next, i32::from_le_bytes(*seqno));
        if received != expected {
            return Err(FrameError::WrongSeqno { expected, received });
        }

        if rest.len() < payload_len {
            return Ok(None);
        }
        buffer.advance(HEADER_LEN);
        self.seqno_next = self.seqno_next.wrapping_add(1);
        Ok(Some(buffer.split_to(payload_len).freeze()))
    }
}

/// Puts packets into frames.
#[derive(Debug, Default)]
pub struct FrameWriter {
    seqno_next: i32,
}

impl FrameWriter {
    /// A writer at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one frame to `out`. The packet's bytes are copied once, straight to their place.
    ///
    /// # Errors
    /// [`FrameError::PayloadTooLarge`]; then nothing was written and no number was used, so the stream is still good.
    pub fn write(&mut self, packet: &tcp::Packet<'_>, out: &mut impl Sink) -> Result<(), FrameError> {
        let len = encoded_len(packet);
        self.begin(len, len, out)?;
        packet.write_boxed(out);
        Ok(())
    }

    /// Appends a frame with a [`tcp::Packet::Packet`] of `message`, whose long pieces are shared and not copied.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_message(&mut self, message: &Message, out: &mut Outgoing) -> Result<(), FrameError> {
        let (header, header_len) = bytes_header(message.len());
        let padding = bytes_padding(header_len + message.len());
        let len = size_of::<u32>() + header_len + message.len() + padding.len();
        let is_short = |piece: &&Bytes| piece.len() < SHARED_LEN_MIN;
        let copied_len = message.pieces().filter(is_short).map(Bytes::len).sum::<usize>();
        self.begin(len, size_of::<u32>() + header_len + copied_len + padding.len(), out)?;
        out.put(&schema::tcp::packet.to_le_bytes());
        out.put(&header[..header_len]);
        for piece in message.pieces() {
            if is_short(&piece) { out.put(piece) } else { out.share(piece) }
        }
        out.put(padding);
        Ok(())
    }

    fn begin(&mut self, len: usize, copied_len: usize, out: &mut impl Sink) -> Result<(), FrameError> {
        let announced_len = u32::try_from(len)
            .ok()
            .filter(|_| len <= PAYLOAD_LEN_MAX)
            .ok_or(FrameError::PayloadTooLarge { len })?;
        out.expect(HEADER_LEN + copied_len);
        out.put(&announced_len.to_le_bytes());
        out.put(&self.seqno_next.to_le_bytes());
        self.seqno_next = self.seqno_next.wrapping_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode, encode_sharing, stream};

    /// All that waits, as the other side receives it.
    fn received(out: &mut Outgoing) -> BytesMut {
        let mut received = BytesMut::new();
        while out.has_remaining() {
            // No write takes all of it.
            let chunk = out.chunk();
            let len = chunk.len().min(1000);
            received.extend_from_slice(&chunk[..len]);
            out.advance(len);
        }
        received
    }

    fn frame(len: u32, seqno: i32, payload: &[u8]) -> BytesMut {
        [&len.to_le_bytes()[..], &seqno.to_le_bytes(), payload].concat().as_slice().into()
    }

    /// Writes `packets` into one buffer.
    fn stream(packets: &[tcp::Packet<'_>]) -> BytesMut {
        let mut out = BytesMut::new();
        let mut writer = FrameWriter::new();
        for packet in packets {
            writer.write(packet, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_arrive() {
        let packets = [
            tcp::Packet::Connect { id: 1 },
            tcp::Packet::Packet { data: &[7; 300] },
            tcp::Packet::QueryError { id: -1, code: 621, message: "no".into() },
        ];
        let stream = stream(&packets);
        for chunk_len in [1, 3, 8, 64, stream.len()] {
            let mut reader = FrameReader::new(1024);
            let mut buffer = BytesMut::new();
            let mut payloads = Vec::new();
            for chunk in stream.chunks(chunk_len) {
                buffer.extend_from_slice(chunk);
                while let Some(payload) = reader.next_frame(&mut buffer).unwrap() {
                    payloads.push(payload);
                }
            }
            let read: Vec<tcp::Packet<'_>> =
                payloads.iter().map(|payload| decode(payload).unwrap()).collect();
            assert_eq!(read, packets);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_payload_shares_the_memory_of_the_buffer() {
        let mut buffer = stream(&[tcp::Packet::Ping { id: 5 }]);
        let start = buffer[HEADER_LEN..].as_ptr();
        let payload = FrameReader::new(1024).next_frame(&mut buffer).unwrap().unwrap();
        assert_eq!(payload.as_ptr(), start);
    }

    #[test]
    fn lengths_are_judged_by_the_first_four_bytes() {
        let at_limit = |len: u32, len_max: usize| {
            FrameReader::new(len_max).next_frame(&mut len.to_le_bytes().as_slice().into())
        };
        let refused = |len, len_max| Err(FrameError::LengthOutOfBounds { len, len_max });

        assert_eq!(at_limit(3, 64), refused(3, 64));
        assert_eq!(at_limit(4, 64), Ok(None));
        assert_eq!(at_limit(64, 64), Ok(None));
        assert_eq!(at_limit(65, 64), refused(65, 64));
        assert_eq!(at_limit(1 << 24, PAYLOAD_LEN_MAX), Ok(None));
        assert_eq!(at_limit((1 << 24) + 1, PAYLOAD_LEN_MAX), refused((1 << 24) + 1, PAYLOAD_LEN_MAX));
        assert_eq!(at_limit(u32::MAX, PAYLOAD_LEN_MAX), refused(u32::MAX, PAYLOAD_LEN_MAX));
        // No caller can raise the limit of the protocol.
        assert_eq!(at_limit((1 << 24) + 1, usize::MAX), refused((1 << 24) + 1, PAYLOAD_LEN_MAX));
    }

    #[test]
    fn the_limit_can_change_between_frames() {
        let mut buffer = stream(&[tcp::Packet::Ping { id: 1 }, tcp::Packet::Packet { data: &[0; 100] }]);
        let mut reader = FrameReader::new(12);
        assert!(matches!(reader.next_frame(&mut buffer), Ok(Some(_))));
        assert_eq!(
            reader.next_frame(&mut buffer),
            Err(FrameError::LengthOutOfBounds { len: 108, len_max: 12 })
        );
        reader.set_payload_len_max(108);
        assert!(matches!(reader.next_frame(&mut buffer), Ok(Some(_))));
    }

    #[test]
    fn numbers_are_judged_before_the_payload_arrives() {
        let mut reader = FrameReader::new(64);
        let wrong = |expected, received| Err(FrameError::WrongSeqno { expected, received });

        assert_eq!(reader.next_frame(&mut frame(4, 1, &[])), wrong(0, 1));
        assert_eq!(reader.next_frame(&mut frame(4, -1, &[])), wrong(0, -1));
        assert!(matches!(reader.next_frame(&mut frame(4, 0, &[0; 4])), Ok(Some(_))));
        assert_eq!(reader.next_frame(&mut frame(4, 0, &[])), wrong(1, 0));
        assert_eq!(reader.next_frame(&mut frame(4, 1, &[])), Ok(None));
    }

    #[test]
    fn a_refused_frame_stays_refused() {
        let mut reader = FrameReader::new(64);
        let mut buffer = frame(4, 3, &[0; 4]);
        let refusal = reader.next_frame(&mut buffer);
        assert!(refusal.is_err());
        assert_eq!(reader.next_frame(&mut buffer), refusal);
    }

    #[test]
    fn the_largest_message_fits_into_a_query_and_one_byte_more_does_not() {
        let too_large = vec![0; MESSAGE_LEN_MAX + 1];
        let (mut writer, mut out) = (FrameWriter::new(), BytesMut::new());

        let refusal = writer.write(&tcp::Packet::Query { id: 1, data: &too_large }, &mut out);
        assert_eq!(refusal, Err(FrameError::PayloadTooLarge { len: PAYLOAD_LEN_MAX + 4 }));
        assert!(out.is_empty());

        writer.write(&tcp::Packet::Query { id: 1, data: &too_large[1..] }, &mut out).unwrap();
        assert_eq!(out[..8], [0, 0, 0, 1, 0, 0, 0, 0], "the refused packet used no number");
        let mut reader = FrameReader::new(PAYLOAD_LEN_MAX);
        assert_eq!(reader.next_frame(&mut out).unwrap().map(|payload| payload.len()), Some(PAYLOAD_LEN_MAX));
    }

    #[test]
    fn a_frame_is_header_and_object() {
        let packet = tcp::Packet::Connected { id: 0x0102_0304_0506_0708 };
        assert_eq!(stream(&[packet]), frame(12, 0, &encode(&packet)));
    }

    #[test]
    fn a_message_is_framed_as_a_packet_of_its_bytes_whether_shared_or_not() {
        let (mut writer, mut out) = (FrameWriter::new(), Outgoing::default());
        let mut expected = Vec::new();
        for len in [0, 1, 100, 216, 217, 218, 5000, 16_384, 70_003, 1] {
            let data = Bytes::from(vec![5; len]);
            let part = stream::BodyPart { request_id: [1; 32], data: &data, is_last: false };
            for message in
                [encode(&part).into(), encode_sharing(&part, &data), Bytes::from(vec![6; len]).into()]
            {
                writer.write_message(&message, &mut out).unwrap();
                expected.push(message.into_bytes());
            }
        }
        let packets: Vec<_> = expected.iter().map(|data| tcp::Packet::Packet { data }).collect();
        let len = out.len();
        let found = received(&mut out);
        assert_eq!(found.len(), len);
        assert_eq!(found, stream(&packets));
        assert!(out.is_empty());
    }

    #[test]
    fn a_message_that_fits_no_frame_is_refused_and_one_byte_less_is_not() {
        let (mut writer, mut out) = (FrameWriter::new(), Outgoing::default());
        let too_large = Bytes::from(vec![0; PAYLOAD_LEN_MAX - 7]);
        let refusal = writer.write_message(&too_large.clone().into(), &mut out);
        assert_eq!(refusal, Err(FrameError::PayloadTooLarge { len: PAYLOAD_LEN_MAX + 4 }));
        assert!(out.is_empty());
        writer.write_message(&too_large.slice(1..).into(), &mut out).unwrap();
        assert_eq!(received(&mut out)[..8], [0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn what_waits_can_be_written_in_one_go_or_forgotten() {
        let (mut writer, mut out) = (FrameWriter::new(), Outgoing::default());
        let data = Bytes::from(vec![5; 5000]);
        for _ in 0..2 {
            writer.write(&tcp::Packet::Ping { id: 3 }, &mut out).unwrap();
            writer.write_message(&data.clone().into(), &mut out).unwrap();
        }
        writer.write(&tcp::Packet::Ping { id: 3 }, &mut out).unwrap();
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let count = out.chunks_vectored(&mut slices);
        assert_eq!(count, 5, "the shared pieces and what is around them");
        let written: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        assert_eq!(written, out.len());
        out.clear();
        assert!(out.is_empty() && !out.has_remaining());
        out.release();
        writer.write(&tcp::Packet::Ping { id: 3 }, &mut out).unwrap();
        assert_eq!(out.len(), HEADER_LEN + 12);
    }
}
