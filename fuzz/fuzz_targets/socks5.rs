//! Whatever a program says by SOCKS5, it is answered or refused, and asked for no more than the conversation has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use router::socks5::{Conversation, Step};

/// Longest conversation in bytes (RFC 1928, RFC 1929): greeting, user name and password, request.
const LEN_MAX: usize = 2 + 255 + 2 + 255 + 1 + 255 + 4 + 1 + 255 + 2;

fuzz_target!(|input: (bool, &[u8])| {
    let (takes_user_names, mut bytes) = input;
    let mut conversation = Conversation::new(takes_user_names);
    let mut taken = 0;
    while bytes.len() >= conversation.wants() {
        let (part, rest) = bytes.split_at(conversation.wants());
        assert!(!part.is_empty());
        (bytes, taken) = (rest, taken + part.len());
        match conversation.take(part, |name| name == "tdx") {
            Step::Send(answer) => assert!(answer.len() <= 2),
            Step::Fail(answer, _error) => {
                assert!(answer.len() <= 10);
                return;
            }
            Step::Done(request) => {
                assert!(taken <= LEN_MAX);
                assert!(request.policy.is_none_or(|name| takes_user_names && name == "tdx"));
                let target = request.target.to_string();
                assert!(target.rsplit_once(':').is_some_and(|(_host, port)| port.parse::<u16>().is_ok()));
                return;
            }
        }
    }
});
