//! Conversations recorded from deployed programs, if they are at hand: every frame and every object inside must
//! decode, and encode to the same bytes.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use wire::frame::{FrameReader, FrameWriter, PAYLOAD_LEN_MAX};
use wire::tcp::Packet;
use wire::{Decode, Encode, client, http, proxy, worker};

/// The recordings live beside the repository, not in it.
fn recording(name: &str) -> Option<BytesMut> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/reference");
    match fs::read(folder.join(name)) {
        Ok(bytes) => Some(bytes.as_slice().into()),
        Err(error) => {
            eprintln!("skipped: no recording {name} ({error})");
            None
        }
    }
}

/// A stream towards a proxy begins with a header about the peer, which is not a frame.
fn skip_peer_header(stream: &mut BytesMut) {
    let len = u32::from_le_bytes(*stream.first_chunk().unwrap());
    let _ = stream.split_to(4 + len as usize);
}

/// Cuts a stream into payloads and checks that writing them gives the stream again.
fn payloads(mut stream: BytesMut) -> Vec<Bytes> {
    let recorded = stream.clone();
    let (mut reader, mut payloads) = (FrameReader::new(PAYLOAD_LEN_MAX), Vec::new());
    while let Some(payload) = reader.next_frame(&mut stream).unwrap() {
        payloads.push(payload);
    }
    assert!(stream.is_empty());

    let (mut writer, mut written) = (FrameWriter::new(), BytesMut::new());
    for payload in &payloads {
        writer.write(&wire::decode(payload).unwrap(), &mut written).unwrap();
    }
    assert!(written == recorded);
    payloads
}

/// Decodes an object that must encode to the same bytes.
fn exact<'a, T: Decode<'a> + Encode>(bytes: &'a [u8]) -> T {
    let object = wire::decode::<T>(bytes).unwrap();
    assert!(wire::encode(&object) == bytes);
    object
}

/// Checks an object of a type that the function knows.
type Check = fn(&[u8]);

/// Checks a query, and tells how to check its answer.
type CheckQuery = fn(&[u8]) -> Check;

fn check_client_query(data: &[u8]) -> Check {
    match exact(data) {
        client::Query::ConnectToProxy(_) => |answer| {
            exact::<client::ConnectedToProxy<'_>>(answer);
        },
        client::Query::AuthorizeWithProxyShort(_) | client::Query::AuthorizeWithProxyLong(_) => |answer| {
            exact::<client::AuthorizationWithProxy<'_>>(answer);
        },
        client::Query::GetWorkerTypes(_) => |answer| {
            exact::<client::WorkerTypes<'_>>(answer);
        },
        client::Query::GetWorkerTypesV2(_) => |answer| {
            exact::<client::WorkerTypesV2<'_>>(answer);
        },
        client::Query::UpdatePaymentStatus(_) => |answer| {
            exact::<client::PaymentStatus<'_>>(answer);
        },
        client::Query::RequestRefund(_) => |answer| {
            exact::<client::Refund<'_>>(answer);
        },
    }
}

fn check_worker_query(data: &[u8]) -> Check {
    match exact(data) {
        worker::Query::ConnectToProxy(_) => |answer| {
            exact::<worker::ConnectedToProxy<'_>>(answer);
        },
        worker::Query::CompareBalanceWithProxy(_) => |answer| {
            exact::<worker::CompareBalanceWithProxyResult<'_>>(answer);
        },
        worker::Query::ExtendedCompareBalanceWithProxy(_) => |answer| {
            exact::<worker::ExtendedCompareBalanceWithProxyResult>(answer);
        },
        worker::Query::ProxyHandshakeComplete(_) => |answer| {
            exact::<worker::ProxyHandshakeCompleted>(answer);
        },
        worker::Query::UpdatePaymentStatus(_) => |answer| {
            exact::<worker::PaymentStatus<'_>>(answer);
        },
    }
}

fn check_client_packet(data: &[u8]) {
    match exact(data) {
        client::Packet::RunQuery(client::RunQuery { query, .. })
        | client::Packet::RunQueryEx(client::RunQueryEx { query, .. }) => {
            exact::<http::Request<'_>>(query);
        }
        ours => panic!("the deployed network does not say {ours:?}"),
    }
}

fn check_packet_to_client(data: &[u8]) {
    if let client::FromProxy::QueryAnswer(client::QueryAnswer { answer, .. })
    | client::FromProxy::QueryAnswerEx(client::QueryAnswerEx { answer, .. }) = exact(data)
    {
        exact::<http::Response<'_>>(answer);
    }
}

fn check_worker_packet(data: &[u8]) {
    if let worker::ToProxy::QueryAnswer(proxy::QueryAnswer { answer, .. })
    | worker::ToProxy::QueryAnswerEx(proxy::QueryAnswerEx { answer, .. }) = exact(data)
    {
        exact::<http::Response<'_>>(answer);
    }
}

fn check_packet_to_worker(data: &[u8]) {
    if let worker::FromProxy::RunQuery(proxy::RunQuery { query, .. })
    | worker::FromProxy::RunQueryEx(proxy::RunQueryEx { query, .. }) = exact(data)
    {
        exact::<http::Request<'_>>(query);
    }
}

/// Checks both directions of one connection.
fn check_conversation(name: &str, check_query: CheckQuery, check_to_proxy: Check, check_from_proxy: Check) {
    let (Some(mut to_proxy), Some(from_proxy)) =
        (recording(&format!("{name}.to_proxy.bin")), recording(&format!("{name}.from_proxy.bin")))
    else {
        return;
    };
    skip_peer_header(&mut to_proxy);

    let mut answer_checks = HashMap::new();
    let mut packets = 0;
    for (index, payload) in payloads(to_proxy).iter().enumerate() {
        match wire::decode(payload).unwrap() {
            Packet::Connect { .. } => assert_eq!(index, 0),
            Packet::Ping { .. } => {}
            Packet::Query { id, data } => assert!(answer_checks.insert(id, check_query(data)).is_none()),
            Packet::Packet { data } => {
                check_to_proxy(data);
                packets += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    for (index, payload) in payloads(from_proxy).iter().enumerate() {
        match wire::decode(payload).unwrap() {
            Packet::Connected { .. } => assert_eq!(index, 0),
            Packet::Pong { .. } => {}
            Packet::QueryAnswer { id, data } => answer_checks.remove(&id).unwrap()(data),
            Packet::Packet { data } => {
                check_from_proxy(data);
                packets += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(packets > 10);
}

#[test]
fn a_client_and_its_proxy() {
    check_conversation("client", check_client_query, check_client_packet, check_packet_to_client);
}

#[test]
fn a_worker_and_its_proxy() {
    check_conversation("worker", check_worker_query, check_worker_packet, check_packet_to_worker);
}
