//! Frames must not depend on how the stream is cut, nor make the reader wait for more than its limit.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use wire::frame::{FrameError, FrameReader, FrameWriter, PAYLOAD_LEN_MAX};
use wire::tcp::Packet;

/// Feeds `stream` in chunks; all payloads, and the error that ended the stream if any.
fn read(stream: &[u8], chunk_len: usize, len_max: usize) -> (Vec<Bytes>, Option<FrameError>) {
    let (mut reader, mut buffer) = (FrameReader::new(len_max), BytesMut::new());
    let mut payloads = Vec::new();
    for chunk in stream.chunks(chunk_len) {
        buffer.extend_from_slice(chunk);
        loop {
            match reader.next_frame(&mut buffer) {
                Ok(Some(payload)) => {
                    assert!((4..=len_max).contains(&payload.len()));
                    payloads.push(payload);
                }
                Ok(None) => break,
                Err(error) => return (payloads, Some(error)),
            }
        }
        assert!(buffer.len() < 8 + len_max);
    }
    (payloads, None)
}

fuzz_target!(|input: (u16, u8, &[u8])| {
    let (len_max, chunk_len, stream) = input;
    let (len_max, chunk_len) = (usize::from(len_max), usize::from(chunk_len) + 1);

    let (payloads, error) = read(stream, chunk_len, len_max);
    assert_eq!(read(stream, stream.len().max(1), len_max), (payloads.clone(), error));

    // Every packet can be sent on, and arrives as what it was.
    let packets = || payloads.iter().filter_map(|payload| wire::decode::<Packet<'_>>(payload).ok());
    let (mut writer, mut written) = (FrameWriter::new(), BytesMut::new());
    for packet in packets() {
        writer.write(&packet, &mut written).expect("no packet grows");
    }
    let (payloads_again, error) = read(&written, chunk_len, PAYLOAD_LEN_MAX);
    assert_eq!(error, None);
    let packets_again =
        payloads_again.iter().map(|payload| wire::decode::<Packet<'_>>(payload).expect("ours"));
    assert!(packets().eq(packets_again));
});
