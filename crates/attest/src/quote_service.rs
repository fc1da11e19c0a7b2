//! Messages of the quote generation service: what a guest under TDX sends to its host, and gets back, to have a quote made of its report.
//!
//! The form is that of Intel's service, `qgsd` (`qgs_msg_lib.h` in its SGX DCAP sources), version 1.1. All numbers are little-endian. On a
//! stream four bytes precede each message, its length, and those are big-endian; they are no part of it, and not read here.

use crate::quote::Quote;
use crate::td_report::TdReport;

/// Version of the messages. A service checks the first number only, and so do we.
const VERSION: [u16; 2] = [1, 1];
/// Kind of the message that asks for a quote.
const REQUEST: u32 = 0;
/// Kind of the one that answers it.
const ANSWER: u32 = 1;
/// Bytes before the data: version, kind, length of the whole and error (16), then the lengths of both parts of the data.
const HEAD_LEN: usize = 24;
/// Longest name of a key in an answer.
const KEY_ID_LEN: usize = 16;

/// Longest answer that is read, in bytes, without the four bytes before it.
pub const ANSWER_LEN_MAX: usize = HEAD_LEN + KEY_ID_LEN + Quote::LEN_MAX;

/// Bytes that hold no quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Longer than any.
    #[error("the answer has {found} bytes, at most {ANSWER_LEN_MAX} are read")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// It ends before its data.
    #[error("the answer has {found} bytes, and its head alone has {HEAD_LEN}")]
    CutOff {
        /// Its length.
        found: usize,
    },
    /// Of another version.
    #[error("the answer is of version {found}, only {} is known", VERSION[0])]
    Version {
        /// The first number of its version.
        found: u16,
    },
    /// Another message.
    #[error("the message is of kind {found}, and not {ANSWER}, which answers the request for a quote")]
    Kind {
        /// Its kind.
        found: u32,
    },
    /// Its head names other lengths.
    #[error(
        "the answer has {found} bytes, and by its head {said}, of which {key_id} are a key's name and {quote} the quote"
    )]
    Length {
        /// Its length.
        found: usize,
        /// What it says of that.
        said: u32,
        /// What it says of the first part of its data.
        key_id: u32,
        /// What it says of the quote.
        quote: u32,
    },
    /// The service made none.
    #[error(
        "the service refused with {code:#x}: its log on the host says why (journalctl -u qgsd); most often its PCCS has no certificate of \
         this machine"
    )]
    Refused {
        /// Its number.
        code: u32,
    },
    /// It says that all went well.
    #[error("the answer reports success, and holds no quote")]
    Empty,
}

/// The message that asks for a quote of a report, by whichever key the service has.
#[must_use]
pub fn request(report: &TdReport) -> Vec<u8> {
    const REPORT_LEN: u32 = 1024;
    const LEN: u32 = 24 + REPORT_LEN;
    const _: () = assert!(TdReport::LEN == REPORT_LEN as usize && HEAD_LEN + TdReport::LEN == LEN as usize);
    let version = VERSION.map(u16::to_le_bytes);
    // No error, and no list of keys.
    let numbers = [REQUEST, LEN, 0, REPORT_LEN, 0].map(u32::to_le_bytes);
    [version.as_flattened(), numbers.as_flattened(), report.as_bytes()].concat()
}

/// The quote in an answer: its last part. Whether it is one, and of what, is for the reader to see.
///
/// # Errors
/// [`AnswerError`].
pub fn quote_of(answer: &[u8]) -> Result<&[u8], AnswerError> {
    let found = answer.len();
    if found > ANSWER_LEN_MAX {
        return Err(AnswerError::TooLong { found });
    }
    let (head, data) = answer.split_first_chunk::<HEAD_LEN>().ok_or(AnswerError::CutOff { found })?;
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let version = u16::from_le_bytes([head[0], head[1]]);
    if version != VERSION[0] {
        return Err(AnswerError::Version { found: version });
    }
    let [kind, said, error, key_id, quote] = [4, 8, 12, 16, 20].map(number);
    if kind != ANSWER {
        return Err(AnswerError::Kind { found: kind });
    }
    // In 64 bits no sum of these lengths is cut.
    let whole = HEAD_LEN as u64 + u64::from(key_id) + u64::from(quote);
    if u64::from(said) != found as u64 || whole != found as u64 {
        return Err(AnswerError::Length { found, said, key_id, quote });
    }
    match (error, data.len() - key_id as usize) {
        (0, 0) => Err(AnswerError::Empty),
        (0, _) => Ok(&data[key_id as usize..]),
        (code, _) => Err(AnswerError::Refused { code }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with these numbers in its head.
    fn answer(version: u16, numbers: [u32; 5], data: &[u8]) -> Vec<u8> {
        let numbers = numbers.map(u32::to_le_bytes);
        [&version.to_le_bytes()[..], &[1, 0], numbers.as_flattened(), data].concat()
    }

    #[test]
    fn a_request_is_a_head_and_the_report() {
        let mut bytes = vec![7; TdReport::LEN];
        bytes[..4].copy_from_slice(&[0x81, 0, 1, 0]);
        let request = request(&TdReport::parse(&bytes).unwrap());
        let head = "01000100 00000000 18040000 00000000 00040000 00000000".replace(' ', "");
        assert_eq!(hex::encode(&request[..24]), head);
        assert_eq!(request[24..], bytes);
    }

    #[test]
    fn a_quote_is_what_follows_the_key_s_name() {
        let plain = answer(1, [1, 27, 0, 0, 3], &[1, 2, 3]);
        assert_eq!(quote_of(&plain), Ok(&[1, 2, 3][..]));
        let named = answer(1, [1, 27, 0, 2, 1], &[1, 2, 3]);
        assert_eq!(quote_of(&named), Ok(&[3][..]));
        let longest = answer(1, [1, 32_808, 0, 16, 32_768], &vec![5; 32_784]);
        assert_eq!((longest.len(), quote_of(&longest).unwrap().len()), (ANSWER_LEN_MAX, Quote::LEN_MAX));
        let longer = [longest, vec![5]].concat();
        assert_eq!(quote_of(&longer), Err(AnswerError::TooLong { found: ANSWER_LEN_MAX + 1 }));
    }

    #[test]
    fn what_a_service_refuses_has_its_number() {
        let refused = answer(1, [1, 24, 0x12001, 0, 0], &[]);
        assert_eq!(quote_of(&refused), Err(AnswerError::Refused { code: 0x12001 }));
        // A quote beside an error is none.
        let both = answer(1, [1, 25, 1, 0, 1], &[9]);
        assert_eq!(quote_of(&both), Err(AnswerError::Refused { code: 1 }));
    }

    #[test]
    fn other_messages_hold_no_quote() {
        assert_eq!(quote_of(&answer(1, [1, 24, 0, 0, 0], &[])), Err(AnswerError::Empty));
        assert_eq!(quote_of(&answer(1, [1, 26, 0, 2, 0], &[1, 2])), Err(AnswerError::Empty));
        assert_eq!(quote_of(&answer(2, [1, 25, 0, 0, 1], &[1])), Err(AnswerError::Version { found: 2 }));
        assert_eq!(quote_of(&answer(1, [3, 25, 0, 0, 1], &[1])), Err(AnswerError::Kind { found: 3 }));
        let whole = answer(1, [1, 27, 0, 1, 2], &[1, 2, 3]);
        for len in 0..HEAD_LEN {
            assert_eq!(quote_of(&whole[..len]), Err(AnswerError::CutOff { found: len }));
        }
        for bytes in [&whole[..25], &whole[..26], &[&whole[..], &[0]].concat()] {
            let found = bytes.len();
            let expected = AnswerError::Length { found, said: 27, key_id: 1, quote: 2 };
            assert_eq!(quote_of(bytes), Err(expected));
        }
        for (key_id, quote) in [(1, 3), (2, 2), (0, 0), (u32::MAX, 4), (4, u32::MAX), (u32::MAX, u32::MAX)] {
            let refused = quote_of(&answer(1, [1, 27, 0, key_id, quote], &[1, 2, 3])).unwrap_err();
            assert_eq!(refused, AnswerError::Length { found: 27, said: 27, key_id, quote });
        }
    }
}
