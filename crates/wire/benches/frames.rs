//! Frames of the hot path, beside a copy of the same bytes.

use bytes::{Bytes, BytesMut};
use cocoon_wire::frame::{FrameReader, FrameWriter, PAYLOAD_LEN_MAX};
use cocoon_wire::{client, tcp};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Bodies: a token of a stream, a small request, a large prompt.
const LENS: [usize; 3] = [200, 2_000, 100_000];

fn part(body: &[u8]) -> Bytes {
    cocoon_wire::encode(&client::QueryAnswerPartEx { request_id: [7; 32], answer: body, final_info: None })
}

/// The yardstick: the same bytes into a buffer of the same kind.
#[divan::bench(args = LENS)]
fn copy(bencher: Bencher<'_, '_>, len: usize) {
    let (body, mut out) = (vec![1_u8; len], BytesMut::with_capacity(len + 100));
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        out.clear();
        out.extend_from_slice(black_box(&body));
    });
}

#[divan::bench(args = LENS)]
fn write(bencher: Bencher<'_, '_>, len: usize) {
    let message = part(&vec![1_u8; len]);
    let (mut writer, mut out) = (FrameWriter::new(), BytesMut::with_capacity(len + 200));
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        out.clear();
        let packet = tcp::Packet::Packet { data: black_box(&message) };
        writer.write(&packet, &mut out).expect("it fits a frame");
    });
}

/// From received bytes to the message that borrows them.
#[divan::bench(args = LENS)]
fn read(bencher: Bencher<'_, '_>, len: usize) {
    let message = part(&vec![1_u8; len]);
    let mut frame = BytesMut::new();
    let packet = tcp::Packet::Packet { data: &message };
    FrameWriter::new().write(&packet, &mut frame).expect("it fits a frame");
    bencher.counter(BytesCount::new(len)).with_inputs(|| frame.clone()).bench_local_values(|mut input| {
        let payload = FrameReader::new(PAYLOAD_LEN_MAX).next_frame(&mut input);
        let payload = payload.expect("the frame is good").expect("it is whole");
        let packet: tcp::Packet<'_> = cocoon_wire::decode(&payload).expect("a packet");
        let tcp::Packet::Packet { data } = packet else { panic!("another packet") };
        let answer: client::FromProxy<'_> = cocoon_wire::decode(data).expect("an answer");
        assert!(matches!(answer, client::FromProxy::QueryAnswerPartEx(_)));
        payload.len()
    });
}
