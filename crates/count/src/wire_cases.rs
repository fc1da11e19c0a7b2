//! Frames: a part of an answer into bytes, and back into a message that borrows them.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use wire::frame::{FrameReader, FrameWriter, PAYLOAD_LEN_MAX};
use wire::{client, tcp};

use crate::{Case, Step};

pub(crate) const CASES: &[Case] = &[
    ("wire: write a frame of 200 B", || write(200)),
    ("wire: write a frame of 100 KB", || write(100_000)),
    ("wire: read a frame of 200 B", || read(200)),
    ("wire: read a frame of 100 KB", || read(100_000)),
];

fn part(len: usize) -> Bytes {
    let answer = vec![1; len];
    wire::encode(&client::QueryAnswerPartEx { request_id: [7; 32], answer: &answer, final_info: None })
}

fn write(len: usize) -> Step {
    let (answer, mut writer, mut out) = (vec![1; len], FrameWriter::new(), BytesMut::new());
    Box::new(move || {
        let part =
            client::QueryAnswerPartEx { request_id: [7; 32], answer: black_box(&answer), final_info: None };
        let message = wire::encode(&part);
        out.clear();
        writer.write(&tcp::Packet::Packet { data: &message }, &mut out).expect("it fits a frame");
        black_box(&out);
    })
}

fn read(len: usize) -> Step {
    let (mut frame, message) = (BytesMut::new(), part(len));
    FrameWriter::new().write(&tcp::Packet::Packet { data: &message }, &mut frame).expect("it fits a frame");
    let frame = frame.freeze();
    Box::new(move || {
        // As it comes from a socket: into a buffer of our own.
        let mut input = BytesMut::from(black_box(&frame[..]));
        let payload = FrameReader::new(PAYLOAD_LEN_MAX).next_frame(&mut input);
        let payload = payload.expect("the frame is good").expect("it is whole");
        let packet: tcp::Packet<'_> = wire::decode(&payload).expect("a packet");
        let tcp::Packet::Packet { data } = packet else { unreachable!("a packet was written") };
        let answer: client::FromProxy<'_> = wire::decode(data).expect("an answer");
        black_box(&answer);
    })
}
