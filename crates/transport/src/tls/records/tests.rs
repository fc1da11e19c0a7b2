use super::*;

/// Both ends of a session, the client first.
fn pair() -> (Records, Records) {
    (Records::of_nobody(End::Client), Records::of_nobody(End::Server))
}

fn seal(records: &mut Records, plain: &[u8]) -> Vec<u8> {
    let mut sealed = Sealed::default();
    records.seal_plain(plain.len(), |room| room.copy_from_slice(plain), &mut sealed);
    sealed.waiting().to_vec()
}

fn seal_as(records: &mut Records, kind: ContentType, content: &[u8]) -> Vec<u8> {
    let mut sealed = Sealed::default();
    records.seal_message(kind, content, &mut sealed);
    sealed.waiting().to_vec()
}

/// Opens all of `sealed`. Returns the bytes for the application.
fn open(records: &mut Records, mut sealed: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let (mut plain, mut used) = (Vec::new(), 0);
    while let Some((len, opened)) = records.open(&mut sealed[used..])? {
        if let Opened::Plain(bytes) = opened {
            plain.extend_from_slice(bytes);
        }
        used += len;
    }
    assert_eq!(used, sealed.len(), "the last record is whole");
    Ok(plain)
}

fn refused(records: &mut Records, sealed: Vec<u8>) -> (Error, Option<AlertDescription>) {
    let Failure { error, alert } = open(records, sealed).unwrap_err();
    (error, alert)
}

#[test]
fn what_one_end_seals_the_other_opens() {
    let (mut client, mut server) = pair();
    for len in [0, 1, 100, PLAIN_LEN_MAX] {
        let plain = vec![7; len];
        let sealed = seal(&mut client, &plain);
        assert_eq!(sealed.len(), len + OVERHEAD);
        assert_eq!(open(&mut server, sealed).unwrap(), plain);
        let sealed = seal(&mut server, &plain);
        assert_eq!(open(&mut client, sealed).unwrap(), plain);
    }
}

#[test]
fn a_part_of_a_record_waits_for_the_rest() {
    let (mut client, mut server) = pair();
    let sealed = seal(&mut client, b"prompt");
    for len in 0..sealed.len() {
        assert_eq!(server.open(&mut sealed[..len].to_vec()), Ok(None));
    }
    assert_eq!(open(&mut server, sealed).unwrap(), b"prompt");
}

#[test]
fn a_changed_repeated_dropped_or_returned_record_does_not_open() {
    let bad_mac = (Error::DecryptError, Some(AlertDescription::BadRecordMac));
    for at in [HEADER_LEN, HEADER_LEN + 6, HEADER_LEN + 6 + TAG_LEN] {
        let (mut client, mut server) = pair();
        let mut changed = seal(&mut client, b"prompt");
        changed[at] ^= 1;
        assert_eq!(refused(&mut server, changed), bad_mac);
    }
    let (mut client, mut server) = pair();
    let first = seal(&mut client, b"first");
    open(&mut server, first.clone()).unwrap();
    assert_eq!(refused(&mut server, first), bad_mac);

    let (mut client, mut server) = pair();
    let _dropped = seal(&mut client, b"first");
    assert_eq!(refused(&mut server, seal(&mut client, b"second")), bad_mac);

    let (mut client, _) = pair();
    let own = seal(&mut client, b"own");
    assert_eq!(refused(&mut client, own), bad_mac);
}

#[test]
fn headers_are_those_of_sealed_records() {
    let header = |kind, major, len: u16| [&[kind, major, 3][..], &len.to_be_bytes()].concat();
    let (_, mut server) = pair();
    for kind in [20, 21, 22, 24, 0x47] {
        let (error, alert) = refused(&mut server, header(kind, 3, 1));
        assert!(matches!(error, Error::InappropriateMessage { .. }), "{error:?}");
        assert_eq!(alert, Some(AlertDescription::UnexpectedMessage));
    }
    assert!(open(&mut server, header(23, 2, 1)).is_err());
    let too_long = u16::try_from(BODY_LEN_MAX + 1).unwrap();
    let overflow = (Error::PeerSentOversizedRecord, Some(AlertDescription::RecordOverflow));
    assert_eq!(refused(&mut server, header(23, 3, too_long)), overflow);
    assert_eq!(server.open(&mut header(23, 3, too_long - 1)), Ok(None));
    // Shorter than a tag.
    assert_eq!(refused(&mut server, header(23, 3, 0)).0, Error::DecryptError);
}

/// A record whose inner part is `inner`, its type included.
fn seal_inner(records: &mut Records, inner: &[u8]) -> Vec<u8> {
    let (kind, content) = inner.split_last().unwrap();
    seal_as(records, ContentType::from(*kind), content)
}

#[test]
fn padding_is_taken_off_and_a_record_of_padding_refused() {
    let (mut client, mut server) = pair();
    let padded = seal_inner(&mut client, &[&b"prompt"[..], &[23], &[0; 200]].concat());
    assert_eq!(open(&mut server, padded).unwrap(), b"prompt");
    let nothing = seal_inner(&mut client, &[0; 100]);
    let illegal = PeerMisbehaved::IllegalTlsInnerPlaintext.into();
    assert_eq!(refused(&mut server, nothing), (illegal, Some(AlertDescription::UnexpectedMessage)));

    let (mut client, mut server) = pair();
    let full = [&vec![1; PLAIN_LEN_MAX][..], &[23]].concat();
    assert_eq!(open(&mut server, seal_inner(&mut client, &full)).unwrap().len(), PLAIN_LEN_MAX);
    // Padding counts (section 5.4).
    for more in [[&full[..], &[0]].concat(), [&vec![1; PLAIN_LEN_MAX + 1][..], &[23]].concat()] {
        let (mut client, mut server) = pair();
        assert_eq!(refused(&mut server, seal_inner(&mut client, &more)).0, Error::PeerSentOversizedRecord);
    }
}

#[test]
fn other_kinds_of_content_are_refused() {
    for kind in [20, 24, 99] {
        let (mut client, mut server) = pair();
        let sealed = seal_as(&mut client, ContentType::from(kind), &[1]);
        assert_eq!(refused(&mut server, sealed).1, Some(AlertDescription::UnexpectedMessage), "{kind}");
    }
}

#[test]
fn keys_change_at_the_bound_of_records_and_when_the_peer_asks() {
    let (mut client, mut server) = pair();
    client.sealed_per_key_max = 3;
    for number in 0..20_u8 {
        let sealed = seal(&mut client, &[number]);
        // Two records with one key, the third one says that it changes.
        let is_change = number > 0 && number % 2 == 0;
        assert_eq!(sealed.len() > 1 + OVERHEAD, is_change, "{number}");
        assert_eq!(open(&mut server, sealed).unwrap(), [number]);
    }
    assert!(!server.is_asked_for_new_key);

    let asked = seal_as(&mut client, ContentType::Handshake, &[24, 0, 0, 1, 1]);
    client.sending.change_key();
    open(&mut server, asked).unwrap();
    let answer = seal(&mut server, b"answer");
    assert_eq!(answer.len(), b"answer".len() + OVERHEAD + 5 + OVERHEAD);
    assert_eq!(open(&mut client, answer).unwrap(), b"answer");
    assert_eq!(seal(&mut server, b"more").len(), b"more".len() + OVERHEAD, "asked once, changed once");
    let sealed = seal(&mut client, b"prompt");
    assert_eq!(open(&mut server, sealed).unwrap(), b"prompt");
}

#[test]
fn changes_of_keys_have_one_form() {
    let refuse = |message: &[u8]| {
        let (mut client, mut server) = pair();
        let sealed = seal_as(&mut client, ContentType::Handshake, message);
        refused(&mut server, sealed)
    };
    let illegal = (InvalidMessage::InvalidKeyUpdate.into(), Some(AlertDescription::IllegalParameter));
    assert_eq!(refuse(&[24, 0, 0, 1, 2]), illegal);
    assert_eq!(refuse(&[24, 0, 0, 0]), illegal);
    assert_eq!(refuse(&[24, 0, 0, 2, 0, 0]).1, Some(AlertDescription::DecodeError));
    assert_eq!(refuse(&[24, 0, 0, 1, 0, 24]).0, PeerMisbehaved::KeyEpochWithPendingFragment.into());
    assert_eq!(refuse(&[]).0, InvalidMessage::InvalidEmptyPayload.into());
}

#[test]
fn a_message_in_parts_is_one_and_nothing_comes_between() {
    let (mut client, mut server) = pair();
    for part in [&[24, 0][..], &[0, 1], &[0]] {
        let sealed = seal_as(&mut client, ContentType::Handshake, part);
        open(&mut server, sealed).unwrap();
    }
    client.sending.change_key();
    let sealed = seal(&mut client, b"prompt");
    assert_eq!(open(&mut server, sealed).unwrap(), b"prompt");

    let begun = seal_as(&mut client, ContentType::Handshake, &[24, 0]);
    open(&mut server, begun).unwrap();
    let interleaved = PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into();
    let sealed = seal(&mut client, b"prompt");
    assert_eq!(refused(&mut server, sealed), (interleaved, Some(AlertDescription::UnexpectedMessage)));
}

#[test]
fn the_connecting_end_passes_tickets_over_and_the_accepting_end_refuses_them() {
    let ticket = [&[4, 0, 0, 200][..], &[9; 200]].concat();
    let (mut client, mut server) = pair();
    for part in [&ticket[..], &ticket[..100], &ticket[100..], &[&ticket[..], &ticket].concat()] {
        let sealed = seal_as(&mut server, ContentType::Handshake, part);
        open(&mut client, sealed).unwrap();
    }
    assert_eq!(client.message.capacity(), 0, "nothing is kept of them");
    let sealed = seal(&mut server, b"answer");
    assert_eq!(open(&mut client, sealed).unwrap(), b"answer");

    let huge = seal_as(&mut server, ContentType::Handshake, &[4, 1, 0, 1]);
    assert_eq!(refused(&mut client, huge).1, Some(AlertDescription::DecodeError));

    let (mut client, mut server) = pair();
    let sealed = seal_as(&mut client, ContentType::Handshake, &ticket);
    let (error, alert) = refused(&mut server, sealed);
    assert!(matches!(error, Error::InappropriateHandshakeMessage { .. }), "{error:?}");
    assert_eq!(alert, Some(AlertDescription::UnexpectedMessage));
    // Of the client's messages, another handshake is the worst.
    let (mut client, mut server) = pair();
    let hello = seal_as(&mut client, ContentType::Handshake, &[1, 0, 0, 4]);
    assert!(open(&mut server, hello).is_err());
}

#[test]
fn what_gives_nothing_comes_only_so_often() {
    let change = |client: &mut Records| {
        let sealed = seal_as(client, ContentType::Handshake, &[24, 0, 0, 1, 0]);
        client.sending.change_key();
        sealed
    };
    let empty = |client: &mut Records| seal_as(client, ContentType::ApplicationData, &[]);
    let cancelled = |client: &mut Records| seal_as(client, ContentType::Alert, &[1, 90]);
    let ticket = |server: &mut Records| seal_as(server, ContentType::Handshake, &[4, 0, 0, 0]);
    let forms: [fn(&mut Records) -> Vec<u8>; 4] = [change, empty, cancelled, ticket];
    for (number, form) in forms.into_iter().enumerate() {
        let (mut client, mut server) = pair();
        if number == 3 {
            // Only servers send tickets.
            (client, server) = (server, client);
        }
        for _round in 0..2 {
            for _time in 0..FRUITLESS_MAX {
                open(&mut server, form(&mut client)).unwrap();
            }
            let sealed = seal(&mut client, b"prompt");
            assert_eq!(open(&mut server, sealed).unwrap(), b"prompt");
        }
        for _time in 0..FRUITLESS_MAX {
            open(&mut server, form(&mut client)).unwrap();
        }
        let (error, _) = refused(&mut server, form(&mut client));
        assert!(matches!(error, Error::PeerMisbehaved(_)), "{error:?}");
    }
}

#[test]
fn a_goodbye_is_the_end_and_other_alerts_are_errors() {
    let (mut client, mut server) = pair();
    let mut sealed = Sealed::default();
    client.seal_goodbye(&mut sealed);
    let mut goodbye = sealed.waiting().to_vec();
    assert_eq!(server.open(&mut goodbye), Ok(Some((2 + OVERHEAD, Opened::Goodbye))));

    let mut sealed = Sealed::default();
    client.seal_alert(AlertDescription::AccessDenied, &mut sealed);
    let denied = (Error::AlertReceived(AlertDescription::AccessDenied), None);
    assert_eq!(refused(&mut server, sealed.waiting().to_vec()), denied, "it is not answered");

    for malformed in [&[][..], &[1], &[1, 0, 0]] {
        let (mut client, mut server) = pair();
        let sealed = seal_as(&mut client, ContentType::Alert, malformed);
        assert_eq!(refused(&mut server, sealed).1, Some(AlertDescription::DecodeError));
    }
}

#[test]
fn whatever_is_said_comes_out_as_it_went_in_until_it_is_refused() {
    let said = |words: &[(u8, &[u8])], raw: &[u8]| {
        let words: Vec<_> = words.iter().map(|(kind, content)| (*kind, content.to_vec())).collect();
        read_records(&words, raw);
    };
    said(&[(23, b"prompt"), (22, &[24, 0, 0, 1, 1]), (23, b"more"), (21, &[1, 0]), (23, b"late")], b"");
    said(&[(22, &[4, 0, 0, 2, 1]), (22, &[1]), (23, b"")], &[23, 3, 3, 0, 17, 0, 0, 0, 0, 0, 0, 0]);
}
