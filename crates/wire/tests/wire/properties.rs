//! What holds for every object and for every string of bytes.

use std::collections::BTreeSet;

use bytes::BytesMut;
use proptest::prelude::*;
use wire::frame::FrameReader;
use wire::{DecodeError, client, http, key_manager, proxy};

use crate::constructors::{CONSTRUCTORS, Entry, SETS};
use crate::schema::{SCHEMA, Sample, Style, object, random};

/// Fields of the types that stand for several optional fields of the schema.
const GROUPS: [&str; 4] = ["debug", "deployment", "proto_range", "times"];

#[test]
fn every_constructor_of_the_schema_has_a_type() {
    let built_in = ["bytes", "int256", "vector", "boolTrue", "boolFalse"];
    let schema: BTreeSet<&str> = SCHEMA
        .types
        .keys()
        .chain(SCHEMA.functions.keys())
        .copied()
        .filter(|n| !built_in.contains(n))
        .collect();
    let types: BTreeSet<&str> = CONSTRUCTORS.iter().map(|entry| entry.name).collect();
    assert_eq!(types, schema);
}

#[test]
fn fields_are_named_and_ordered_as_in_the_schema() {
    for entry in CONSTRUCTORS {
        let sample = object(entry.name, Style::Canonical, &mut Sample::default());
        let shown = (entry.show)(&sample.bytes).unwrap();
        let fields = shown.split_whitespace().filter_map(|word| word.strip_suffix(':'));
        let names: Vec<_> = fields.filter(|name| !GROUPS.contains(name)).collect();
        assert_eq!(names, sample.names, "{}", entry.name);
    }
}

#[test]
fn debug_output_holds_no_contents() {
    for entry in CONSTRUCTORS {
        let sample = object(entry.name, Style::Canonical, &mut Sample::default());
        let shown = (entry.show)(&sample.bytes).unwrap();
        assert!(!shown.contains("sample"), "{shown}");
        assert!(!shown.contains("115, 97, 109"), "{shown}");
        assert!(!shown.contains("73616d"), "{shown}");
    }
}

#[test]
fn a_set_holds_its_members_and_nothing_else() {
    for set in SETS {
        for entry in CONSTRUCTORS {
            let sample = object(entry.name, Style::Canonical, &mut Sample::default());
            let outcome = (set.reencode)(&sample.bytes);
            if set.members.contains(&entry.name) {
                assert_eq!(outcome.as_deref(), Ok(&sample.bytes[..]), "{} in {}", entry.name, set.name);
            } else {
                let id = u32::from_le_bytes(*sample.bytes.first_chunk().unwrap());
                assert_eq!(
                    outcome,
                    Err(DecodeError::UnknownConstructor { id }),
                    "{} in {}",
                    entry.name,
                    set.name
                );
            }
        }
    }
}

#[test]
fn negative_flags_are_refused_and_unknown_ones_ignored() {
    let mut objects_with_flags = 0;
    for entry in CONSTRUCTORS {
        let sample = object(entry.name, Style::Canonical, &mut Sample::default());
        for &at in &sample.flags_at {
            objects_with_flags += 1;
            let mut bytes = sample.bytes.clone();
            bytes[at + 3] |= 0x40;
            assert_eq!((entry.reencode)(&bytes).as_deref(), Ok(&sample.bytes[..]), "{}", entry.name);
            bytes[at + 3] |= 0x80;
            let flags = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
            assert_eq!((entry.reencode)(&bytes), Err(DecodeError::NegativeFlags { flags }), "{}", entry.name);
        }
    }
    assert!(objects_with_flags > 20);
}

#[test]
fn an_object_fills_its_bytes_exactly() {
    for entry in CONSTRUCTORS {
        let mut bytes = object(entry.name, Style::Canonical, &mut Sample::default()).bytes;
        for len in 0..bytes.len() {
            let outcome = (entry.reencode)(&bytes[..len]);
            assert!(
                matches!(outcome, Err(DecodeError::UnexpectedEnd { .. } | DecodeError::VectorTooLong { .. })),
                "{} cut to {len} of {} bytes: {outcome:?}",
                entry.name,
                bytes.len()
            );
        }
        bytes.push(0);
        assert_eq!((entry.reencode)(&bytes), Err(DecodeError::TrailingBytes { left: 1 }), "{}", entry.name);
    }
}

#[test]
fn a_bool_has_two_values() {
    let mut bytes = object("worker.proxyHandshakeComplete", Style::Canonical, &mut Sample::default()).bytes;
    bytes[4] ^= 1;
    let id = u32::from_le_bytes(*bytes[4..].first_chunk().unwrap());
    assert_eq!(
        wire::decode::<wire::worker::ProxyHandshakeComplete>(&bytes),
        Err(DecodeError::UnknownConstructor { id })
    );
}

#[test]
fn memory_follows_the_bytes_at_hand_and_not_the_count_claimed() {
    let headers = |claimed: u32, present: usize| {
        let id = &wire::encode(&http::Response {
            http_version: "".into(),
            status_code: 0,
            reason: "".into(),
            headers: Vec::new(),
            payload: b"",
        })[..16];
        [id, &claimed.to_le_bytes(), &vec![0; present * 8], &[0; 4]].concat()
    };
    let exact = headers(1000, 1000);
    let response = wire::decode::<http::Response<'_>>(&exact).unwrap();
    assert_eq!(response.headers.capacity(), 1000);
    for count in [1001, 1 << 20, u32::MAX] {
        assert_eq!(
            wire::decode::<http::Response<'_>>(&headers(count, 1000)),
            Err(DecodeError::VectorTooLong { count, left: 8004 })
        );
    }

    // Bytes of memory per element, against the fewest bytes on the wire: two or three empty strings or counts, or
    // the numbers.
    assert!(size_of::<http::Header<'_>>() <= 5 * 8);
    assert!(size_of::<client::WorkerTypeV2<'_>>() <= 5 * 8);
    assert!(size_of::<client::WorkerType<'_>>() <= 5 * 20);
    assert!(size_of::<client::WorkerInstanceV2>() <= 16);
    assert!(size_of::<key_manager::PrivateKey>() <= 36);
}

#[test]
fn reading_borrows() {
    let written = wire::encode(&proxy::SignedPayment::Payment { data: &[9; 1000] });
    let Ok(proxy::SignedPayment::Payment { data }) = wire::decode(&written) else { panic!("own encoding") };
    assert!(written.as_ptr_range().contains(&data.as_ptr()));
}

#[test]
fn strings_have_the_shortest_header() {
    for (len, header) in [
        (0, &[0][..]),
        (253, &[253]),
        (254, &[254, 254, 0, 0]),
        (255, &[254, 255, 0, 0]),
        (0xff_ffff, &[254, 255, 255, 255]),
        (0x100_0000, &[255, 0, 0, 0, 1, 0, 0, 0]),
    ] {
        let data = vec![7; len];
        let object = proxy::SignedPayment::Payment { data: &data };
        let written = wire::encode(&object);
        assert_eq!(written[4..][..header.len()], *header);
        assert_eq!(written.len(), 4 + (header.len() + len).next_multiple_of(4));
        assert_eq!(wire::decode(&written), Ok(object));
    }
}

#[test]
fn a_string_cannot_claim_more_than_there_is() {
    let payment = |rest: &[u8]| {
        let id = &wire::encode(&proxy::SignedPayment::Payment { data: b"" })[..4];
        wire::decode::<proxy::SignedPayment<'_>>(&[id, rest].concat()).map(drop)
    };
    let refused = |needed, left| Err(DecodeError::UnexpectedEnd { needed, left });
    assert_eq!(payment(&[3, 1, 1, 1]), Ok(()));
    assert_eq!(payment(&[3, 1, 1]), refused(4, 3));
    assert_eq!(payment(&[4, 1, 1, 1]), refused(8, 4));
    assert_eq!(payment(&[4, 1, 1, 1, 1]), refused(8, 5), "the padding must be there");
    assert_eq!(payment(&[]), refused(4, 0));
    assert_eq!(payment(&[254, 1, 0]), refused(4, 3));
    assert_eq!(payment(&[254, 255, 255, 255]), refused(0x100_0004, 4));
    assert_eq!(payment(&[255, 0, 0, 0]), refused(8, 4));
    assert_eq!(payment(&[255, 1, 0, 0, 0, 0, 0, 0]), refused(12, 8));
    assert_eq!(payment(&[255; 8]), refused((1 << 56) + 8, 8));
}

/// Whatever is accepted can be written, and what was written means the same and is not longer.
fn check_accepted(entry: &Entry, bytes: &[u8]) {
    if let Ok(written) = (entry.reencode)(bytes) {
        assert!(written.len() <= bytes.len(), "{}", entry.name);
        assert_eq!((entry.reencode)(&written).as_ref(), Ok(&written), "{}", entry.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn types_and_schema_agree_on_every_byte(values in random()) {
        for entry in CONSTRUCTORS {
            let random = object(entry.name, Style::Canonical, &mut values.clone());
            let written = (entry.reencode)(&random.bytes);
            prop_assert_eq!(written.as_deref(), Ok(&random.bytes[..]), "{}", entry.name);
        }
    }

    #[test]
    fn strings_may_be_written_in_other_ways(values in random()) {
        for entry in CONSTRUCTORS {
            let canonical = object(entry.name, Style::Canonical, &mut values.clone());
            let loose = object(entry.name, Style::Loose, &mut values.clone());
            let written = (entry.reencode)(&loose.bytes);
            prop_assert_eq!(written.as_deref(), Ok(&canonical.bytes[..]), "{}", entry.name);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for entry in CONSTRUCTORS.iter().chain(SETS) {
            check_accepted(entry, &bytes);
        }
        for entry in CONSTRUCTORS {
            let sample = object(entry.name, Style::Canonical, &mut Sample::default());
            check_accepted(entry, &[&sample.bytes[..4], &bytes].concat());
        }
    }

    #[test]
    fn no_damaged_object_panics(
        values in random(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for entry in CONSTRUCTORS {
            let mut bytes = object(entry.name, Style::Loose, &mut values.clone()).bytes;
            for (index, value) in &damage {
                let at = index.index(bytes.len());
                bytes[at] = *value;
            }
            check_accepted(entry, &bytes);
            bytes.truncate(cut.index(bytes.len()));
            check_accepted(entry, &bytes);
        }
    }

    #[test]
    fn no_stream_panics_or_makes_its_reader_wait_for_more_than_the_limit(
        stream in prop::collection::vec(prop_oneof![3 => Just(0), 1 => 0..32_u8, 1 => any::<u8>()], 0..500),
    ) {
        let len_max = 64;
        let (mut reader, mut buffer) = (FrameReader::new(len_max), BytesMut::new());
        for byte in stream {
            buffer.extend_from_slice(&[byte]);
            match reader.next_frame(&mut buffer) {
                Ok(Some(payload)) => prop_assert!(buffer.is_empty() && payload.len() <= len_max),
                Ok(None) => prop_assert!(buffer.len() < 8 + len_max),
                Err(_) => break,
            }
        }
    }
}
