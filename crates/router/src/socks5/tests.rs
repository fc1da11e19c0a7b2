use proptest::prelude::*;

use super::*;

/// Feeds a whole conversation; returns what was answered, how it ended, and what was not taken.
fn talk(takes_user_names: bool, mut bytes: &[u8]) -> (Vec<u8>, Option<Result<Request, Socks5Error>>, &[u8]) {
    let mut conversation = Conversation::new(takes_user_names);
    let mut answered = Vec::new();
    while bytes.len() >= conversation.wants() {
        assert!((1..=Conversation::WANTS_MAX).contains(&conversation.wants()));
        let (taken, rest) = bytes.split_at(conversation.wants());
        bytes = rest;
        match conversation.take(taken, |name| name == "tdx") {
            Step::Send(answer) => answered.extend(answer),
            Step::Done(request) => return (answered, Some(Ok(request)), bytes),
            Step::Fail(answer, error) => {
                answered.extend(answer);
                return (answered, Some(Err(error)), bytes);
            }
        }
    }
    (answered, None, bytes)
}

fn asks(target: Target) -> Option<Result<Request, Socks5Error>> {
    Some(Ok(Request { target, policy: None }))
}

#[test]
fn addresses_of_both_kinds_and_names_are_understood() {
    let (answered, outcome, rest) = talk(false, b"\x05\x01\x00\x05\x01\x00\x01\xcb\x00\x71\x07\x2b\x5ehello");
    assert_eq!((answered.as_slice(), rest), (&[5, 0][..], &b"hello"[..]));
    assert_eq!(outcome, asks(Target::Address("203.0.113.7:11102".parse().unwrap())));

    let ip: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let bytes = [&b"\x05\x02\x02\x00\x05\x01\x00\x04"[..], &ip.octets(), b"\x2b\x5e"].concat();
    assert_eq!(talk(false, &bytes).1, asks(Target::Address("[2001:db8::7]:11102".parse().unwrap())));

    let (_, outcome, rest) = talk(false, b"\x05\x01\x00\x05\x01\x00\x03\x0bexample.org\x01\xbb");
    let target = Target::Name { host: "example.org".to_owned(), port: 443 };
    assert_eq!((outcome, rest, target.to_string().as_str()), (asks(target), &b""[..], "example.org:443"));
}

#[test]
fn a_user_name_chooses_the_policy_where_the_port_takes_one() {
    let logged_in = b"\x05\x02\x00\x02\x01\x03tdx\x02pw\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50";
    let (answered, outcome, _) = talk(true, logged_in);
    assert_eq!(answered, [5, 2, 1, 0]);
    assert_eq!(outcome.unwrap().unwrap().policy.as_deref(), Some("tdx"));
    let (answered, outcome, _) = talk(true, b"\x05\x01\x02\x01\x03tdx\x00");
    assert_eq!((answered.as_slice(), outcome), (&[5, 2, 1, 0][..], None));
    let (answered, outcome, _) = talk(true, b"\x05\x01\x02\x01\x03any\x00");
    assert_eq!((answered.as_slice(), outcome), (&[5, 2, 1, 1][..], Some(Err(Socks5Error::UnknownPolicy))));
    // Nobody is asked for a name where none is taken, and nobody needs one where one is.
    let (answered, ..) = talk(false, b"\x05\x02\x00\x02");
    assert_eq!(answered, [5, 0]);
    let (answered, ..) = talk(true, b"\x05\x01\x00");
    assert_eq!(answered, [5, 0]);
    let (answered, outcome, _) = talk(false, b"\x05\x01\x02");
    assert_eq!((answered.as_slice(), outcome), (&[5, 0xff][..], Some(Err(Socks5Error::NoMethod))));
}

#[test]
fn what_is_not_served_is_refused_by_its_code() {
    let refused = |bytes: &[u8]| {
        let (answered, outcome, _) = talk(true, bytes);
        (answered, outcome.unwrap().unwrap_err())
    };
    assert_eq!(refused(b"\x04\x01"), (vec![], Socks5Error::Version { found: 4 }));
    assert_eq!(refused(b"GET /"), (vec![], Socks5Error::Version { found: b'G' }));
    assert_eq!(refused(b"\x05\x00"), (vec![5, 0xff], Socks5Error::NoMethod));
    let after_login = |bytes: &[u8]| refused(&[b"\x05\x01\x00", bytes].concat());
    let code = |answered: &[u8]| answered.get(3).copied();
    let (answered, error) = after_login(b"\x05\x02\x00\x01");
    assert_eq!((code(&answered), error), (Some(7), Socks5Error::Command { found: 2 }));
    let (answered, error) = after_login(b"\x05\x01\x00\x02");
    assert_eq!((code(&answered), error), (Some(8), Socks5Error::AddressType { found: 2 }));
    let (answered, error) = after_login(b"\x05\x01\x00\x03\x00");
    assert_eq!((code(&answered), error), (Some(4), Socks5Error::Name));
    let (answered, error) = after_login(b"\x05\x01\x00\x03\x03a\nb\x00\x50");
    assert_eq!((code(&answered), error), (Some(4), Socks5Error::Name));
    assert_eq!(after_login(b"\x04\x01\x00\x01").1, Socks5Error::Version { found: 4 });
}

/// All lengths as long as they get.
#[test]
fn the_longest_parts_fit_the_longest_want() {
    let (methods, user_name, password) = ([2; 255], [b'n'; 255], [b'p'; 255]);
    let bytes = [&[5, 255][..], &methods, &[1, 255], &user_name, &[255], &password].concat();
    let (answered, outcome, rest) = talk(true, &bytes);
    assert_eq!((answered.as_slice(), rest.len()), (&[5, 2, 1, 1][..], 0));
    assert_eq!(outcome, Some(Err(Socks5Error::UnknownPolicy)));

    let mut conversation = Conversation::new(false);
    for part in [&b"\x05\x01"[..], b"\x00", b"\x05\x01\x00\x03", b"\xff"] {
        assert!(matches!(conversation.take(part, |_| false), Step::Send(_)));
    }
    assert_eq!(conversation.wants(), Conversation::WANTS_MAX);
    let bytes = [&[b'h'; 255][..], b"\x01\xbb"].concat();
    let target = Target::Name { host: "h".repeat(255), port: 443 };
    assert_eq!(conversation.take(&bytes, |_| false), Step::Done(Request { target, policy: None }));
}

#[test]
fn success_names_the_connections_own_address() {
    assert_eq!(encode_success("192.0.2.1:258".parse().unwrap()), [5, 0, 0, 1, 192, 0, 2, 1, 1, 2]);
    let bytes = encode_success("[2001:db8::1]:258".parse().unwrap());
    assert_eq!((bytes.len(), &bytes[..4], &bytes[20..]), (22, &[5, 0, 0, 4][..], &[1, 2][..]));
    assert_eq!(Reply::NotAllowed.encode(), [5, 2, 0, 1, 0, 0, 0, 0, 0, 0]);
}

proptest! {
    #[test]
    fn any_bytes_are_answered_or_refused(takes: bool, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        talk(takes, &bytes);
    }

    /// With the parts that lead far in, changed here and there.
    #[test]
    fn changed_conversations_are_answered_or_refused(
        takes: bool, changes in proptest::collection::vec((0..40_usize, any::<u8>()), 0..6),
    ) {
        let mut bytes = b"\x05\x02\x00\x02\x01\x03tdx\x02pw\x05\x01\x00\x03\x0bexample.org\x01\xbbhello".to_vec();
        for (at, byte) in changes {
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        talk(takes, &bytes);
    }
}
