//! Golden vectors: `spec/vectors/wire`, which other implementations read too.

use std::path::PathBuf;
use std::{env, fs};

use bytes::BytesMut;
use serde_json::{Value, json};
use wire::client::{ConnectToProxy, Params, ProtoRange};
use wire::frame::{FrameReader, FrameWriter, PAYLOAD_LEN_MAX};
use wire::tcp::Packet;

use crate::constructors::CONSTRUCTORS;
use crate::schema::{Sample, Style, object};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/wire").join(name)
}

/// Each constructor with sample values, as the schema alone makes it.
fn messages() -> String {
    let messages: Vec<Value> = CONSTRUCTORS
        .iter()
        .map(|entry| {
            let sample = object(entry.name, Style::Canonical, &mut Sample::default());
            json!({ "constructor": entry.name, "fields": sample.fields, "hex": hex::encode(sample.bytes) })
        })
        .collect();
    format!("{:#}\n", Value::Array(messages))
}

#[test]
fn messages_keep_their_bytes() {
    if env::var_os("UPDATE_VECTORS").is_some() {
        fs::write(path("messages.json"), messages()).unwrap();
    }
    let golden = fs::read_to_string(path("messages.json")).unwrap();
    let messages: Vec<Value> = serde_json::from_str(&golden).unwrap();
    for (entry, message) in CONSTRUCTORS.iter().zip(&messages) {
        assert_eq!(message["constructor"], entry.name);
        let bytes = hex::decode(message["hex"].as_str().unwrap()).unwrap();
        assert_eq!((entry.reencode)(&bytes).as_deref(), Ok(&bytes[..]), "{}", entry.name);
    }
    assert!(golden == self::messages(), "messages.json is not what the schema gives; see its README");
}

#[test]
fn the_first_frames_of_a_client_keep_their_bytes() {
    let golden: Value = serde_json::from_str(&fs::read_to_string(path("frames.json")).unwrap()).unwrap();
    let stream = |index: usize| hex::decode(golden[index]["hex"].as_str().unwrap()).unwrap();

    let query = wire::encode(&ConnectToProxy {
        params: Params {
            client_owner_address: "UQAuz15H1ZHrZ_psVrAra7HealMIVeFq0wguqlmFno1f3B-m".into(),
            is_test: Some(true),
            proto_range: Some(ProtoRange { min_proto_version: 1, max_proto_version: 2 }),
        },
        min_config_version: 3,
    });
    let packets = [Packet::Connect { id: 0x1122_3344_5566_7788 }, Packet::Query { id: 1, data: &query }];

    let (mut writer, mut written) = (FrameWriter::new(), BytesMut::new());
    let (mut reader, mut buffer) = (FrameReader::new(PAYLOAD_LEN_MAX), BytesMut::new());
    for (index, packet) in packets.iter().enumerate() {
        written.clear();
        writer.write(packet, &mut written).unwrap();
        assert_eq!(written, stream(index));

        buffer.extend_from_slice(&stream(index));
        let payload = reader.next_frame(&mut buffer).unwrap().unwrap();
        assert_eq!(wire::decode::<Packet<'_>>(&payload).as_ref(), Ok(packet));
    }
}
