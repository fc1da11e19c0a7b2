use proptest::prelude::*;

use super::*;

/// Policy `any`, key `00..1f`, 127.0.0.1:40000 to 127.0.0.1:11102: the worked example of the deployed protocol.
fn example() -> PeerHeader {
    PeerHeader {
        attestation: None,
        collateral_root_hash: [0; 48],
        public_key: PublicKey::new(std::array::from_fn(|index| u8::try_from(index).unwrap())),
        source: "127.0.0.1:40000".parse().unwrap(),
        destination: "127.0.0.1:11102".parse().unwrap(),
    }
}

fn tdx(registers: [u8; 8]) -> Measurements {
    let registers = registers.map(|byte| [byte; 48]);
    Measurements::Tdx(Box::new(TdxMeasurements { registers, report_data: [0xee; 64] }))
}

fn decode(bytes: &[u8]) -> Result<PeerHeader, PeerHeaderError> {
    let (len, body) = bytes.split_first_chunk().unwrap();
    assert_eq!(PeerHeader::decode_len(*len), Ok(body.len()));
    PeerHeader::decode(body)
}

#[test]
fn bytes_are_those_of_the_deployed_network() {
    let address = "09 3132372e302e302e31 0000";
    let expected = format!(
        "78000000 00000000 {} 20 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 000000
         {address} 409c0000 {address} 5e2b0000",
        "00".repeat(48)
    );
    let expected: String = expected.split_whitespace().collect();
    let bytes = example().encode();
    assert_eq!(hex::encode(&bytes), expected);
    assert_eq!(decode(&bytes), Ok(example()));
}

/// Recorded between the deployed router and its proxy, policy `any`: a worker on one host with both.
#[test]
fn a_recorded_header_is_read_and_written() {
    let address = "093132372e302e302e310000";
    let recorded = format!(
        "780000000000000000{}20eb959630c5f153d673653d023199e4840a708eaf1c0b3d3809ccea215abb25f1000000{address}3aed0000{address}\
         6d520000",
        "00".repeat(47)
    );
    let recorded = hex::decode(recorded).unwrap();
    let header = decode(&recorded).unwrap();
    assert_eq!(
        (header.attestation.clone(), header.source.port(), header.destination.port()),
        (None, 60_730, 21_101)
    );
    assert_eq!(header.encode(), recorded);
}

#[test]
fn a_header_with_tdx_measurements_has_572_bytes() {
    let header = PeerHeader { attestation: Some(tdx([1, 2, 3, 4, 5, 6, 7, 8])), ..example() };
    let bytes = header.encode();
    assert_eq!(bytes.len(), 4 + 572);
    assert_eq!(decode(&bytes), Ok(header));
}

#[test]
fn image_hashes_are_those_of_the_deployed_network() {
    let measured = tdx([0x12, 0x34, 0xaa, 0xbb, b'a', b'b', b'c', b'd']);
    let expected = "36caf4e8958afa865b8ccc68f1c6f40bc7bddb11150bf437f6fed58b1ca26000";
    assert_eq!(measured.image_hash().to_string(), expected);
    let fake = "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61";
    assert_eq!(tdx([0; 8]).image_hash().to_string(), fake);
}

#[test]
fn one_register_bit_makes_another_image() {
    let mut registers = [[0; 48]; 8];
    registers[7][47] = 1;
    let other = Measurements::Tdx(Box::new(TdxMeasurements { registers, report_data: [0xee; 64] }));
    assert_ne!(other.image_hash(), tdx([0; 8]).image_hash());
}

#[test]
fn lengths_above_the_limit_are_refused() {
    assert_eq!(PeerHeader::decode_len(16_536u32.to_le_bytes()), Ok(16_536));
    let found = 16_537;
    assert_eq!(PeerHeader::decode_len(u32::to_le_bytes(found)), Err(PeerHeaderError::TooLong { found }));
    assert!(PeerHeader::decode_len([0xff; 4]).is_err());
}

#[test]
fn each_damaged_part_is_named() {
    let whole = example().encode().split_off(4);
    let with = |offset: usize, bytes: &[u8]| {
        let mut body = whole.clone();
        body[offset..offset + bytes.len()].copy_from_slice(bytes);
        PeerHeader::decode(&body)
    };
    let flag = PeerHeaderError::UnknownForm { field: "attestation flag", found: 2 };
    assert_eq!(with(0, &[2]), Err(flag));
    let kind = PeerHeaderError::UnknownForm { field: "attestation type", found: 7 };
    assert_eq!(PeerHeader::decode(&[1, 0, 0, 0, 7, 0, 0, 0]), Err(kind));
    assert_eq!(with(52, &[31]), Err(PeerHeaderError::KeyLength { found: 31 }));
    assert_eq!(with(89, b"x"), Err(PeerHeaderError::Address { field: "source" }));
    assert_eq!(with(102, &[1]), Err(PeerHeaderError::Address { field: "source" }));
    assert_eq!(with(119, &[0xff]), Err(PeerHeaderError::Address { field: "destination" }));
    assert_eq!(PeerHeader::decode(&[whole.as_slice(), &[0; 4]].concat()), Err(PeerHeaderError::Malformed));
    for len in 0..whole.len() {
        assert_eq!(PeerHeader::decode(&whole[..len]), Err(PeerHeaderError::Malformed), "cut to {len}");
    }
}

#[test]
fn strings_may_have_longer_headers_than_they_need() {
    let body = example().encode().split_off(4);
    let (before, key, after) = (&body[..52], &body[53..85], &body[88..]);
    let longer = [before, &[254, 32, 0, 0], key, after].concat();
    assert_eq!(PeerHeader::decode(&longer), Ok(example()));
    let longest = [before, &[255, 32, 0, 0, 0, 0, 0, 0], key, after].concat();
    assert_eq!(PeerHeader::decode(&longest), Ok(example()));
    for lying in [[254, 32, 0, 1].as_slice(), &[255, 32, 0, 0, 0, 0, 0, 1], &[255, 32], &[254]] {
        let lying = [before, lying, key, after].concat();
        assert_eq!(PeerHeader::decode(&lying), Err(PeerHeaderError::Malformed));
    }
}

fn any_attestation() -> impl Strategy<Value = Option<Measurements>> {
    let wide = |[low, high]: [[u8; 32]; 2]| {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&low);
        bytes[32..].copy_from_slice(&high);
        bytes
    };
    let sgx = any::<([u8; 32], [[u8; 32]; 2])>()
        .prop_map(move |(mrenclave, data)| Measurements::Sgx { mrenclave, report_data: wide(data) });
    let snp = any::<([u8; 48], [u8; 32], [[u8; 32]; 2])>().prop_map(move |(measurement, host_data, data)| {
        Measurements::Snp(Box::new(SnpMeasurements { measurement, host_data, report_data: wide(data) }))
    });
    let tdx = any::<[u8; 8]>().prop_map(tdx);
    prop_oneof![Just(None), tdx.prop_map(Some), sgx.prop_map(Some), snp.prop_map(Some)]
}

proptest! {
    #[test]
    fn headers_round_trip(
        attestation in any_attestation(),
        root in any::<u8>(),
        key in any::<[u8; 32]>(),
        source in any::<SocketAddr>(),
        destination in any::<SocketAddr>(),
    ) {
        // The text of an address has no room for the flow label of IPv6.
        let plain = |address: SocketAddr| SocketAddr::new(address.ip(), address.port());
        let header = PeerHeader {
            attestation,
            collateral_root_hash: [root; 48],
            public_key: PublicKey::new(key),
            source: plain(source),
            destination: plain(destination),
        };
        prop_assert_eq!(decode(&header.encode()), Ok(header));
    }

    #[test]
    fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..700)) {
        let _ = PeerHeader::decode(&body);
    }
}
