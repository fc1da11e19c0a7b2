//! The event log of a measured boot (TCG PC Client Platform Firmware Profile), and what the registers of a TDX guest must
//! hold if it is true.
//!
//! The log itself proves nothing: its replay has to give the registers of a quote that was verified.

use sha2::{Digest as _, Sha384};

use crate::measurements::{Hex, Register};

/// Longest accepted log in bytes; firmware writes some tens of kilobytes.
pub const LEN_MAX: usize = 1 << 20;

/// `EV_NO_ACTION`: an event that extends no register.
const NO_ACTION: u32 = 3;
/// `TPM_ALG_SHA384`.
const SHA384: u16 = 0x000c;
/// Kinds of digests that a log may have; there are five in use.
const ALGORITHMS_MAX: u32 = 16;

/// One measurement that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which of RTMR0 to RTMR3 was extended.
    pub rtmr: usize,
    /// What kind of event it was, as the profile numbers them.
    pub kind: u32,
    /// What the register was extended with.
    pub digest: Register,
    /// What was measured, or words about it.
    pub data: Vec<u8>,
}

/// Bytes that are no event log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    /// Longer than any.
    #[error("the event log has {found} bytes, at most {LEN_MAX} are read")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// It ends within an event.
    #[error("the event log ends within its event {event} (counted from 0)")]
    CutOff {
        /// Which one.
        event: usize,
    },
    /// It does not begin as logs do.
    #[error(
        "the event log begins with an event of kind {found}, and must with kind {NO_ACTION} (EV_NO_ACTION), its own description"
    )]
    Header {
        /// The kind found.
        found: u32,
    },
    /// Its description names no kind of digest, or too many.
    #[error("the event log has {found} kinds of digests, and must have 1 to {ALGORITHMS_MAX}")]
    Algorithms {
        /// How many.
        found: u32,
    },
    /// An event with a digest that its description does not name.
    #[error(
        "event {event} has a digest of algorithm {algorithm:#06x}, which the log's description does not name"
    )]
    Algorithm {
        /// Which event.
        event: usize,
        /// Its algorithm.
        algorithm: u16,
    },
    /// An event without what the registers are extended with.
    #[error("event {event} has no SHA-384 digest, and the registers of TDX are extended with those")]
    NoDigest {
        /// Which event.
        event: usize,
    },
    /// An event of a register that there is not.
    #[error("event {event} is of measurement register {found}, and TDX guests have 1 to 4")]
    Register {
        /// Which event.
        event: usize,
        /// Its register.
        found: u32,
    },
}

/// Reads a log as the firmware's table `CCEL` points to it. It ends with its bytes, or where they are all ones.
///
/// # Errors
/// [`EventLogError`].
pub fn parse(bytes: &[u8]) -> Result<Vec<Event>, EventLogError> {
    if bytes.len() > LEN_MAX {
        return Err(EventLogError::TooLong { found: bytes.len() });
    }
    let mut rest = Rest { bytes, event: 0 };
    let algorithms = rest.description()?;
    let mut events = Vec::new();
    while !rest.is_over() {
        rest.event += 1;
        events.extend(rest.event(&algorithms)?);
    }
    Ok(events)
}

/// Whether bytes begin as logs do: with their own description.
pub(crate) fn is_begun(bytes: &[u8]) -> bool {
    let kind = bytes.get(4..).and_then(<[u8]>::first_chunk).map(|kind| u32::from_le_bytes(*kind));
    // Register and kind, a digest of 20 bytes, and the length of what follows.
    kind == Some(NO_ACTION) && bytes.get(32..).is_some_and(|body| body.starts_with(b"Spec ID Event03\0"))
}

/// What RTMR0 to RTMR3 hold after these events, and after what the guest adds to RTMR3: the SHA-384 of each line.
#[must_use]
pub fn replay<'a>(events: &[Event], guest_lines: impl IntoIterator<Item = &'a str>) -> [Register; 4] {
    let mut rtmrs = [[0; 48]; 4];
    for event in events {
        extend(&mut rtmrs[event.rtmr], event.digest.as_bytes());
    }
    for line in guest_lines {
        extend(&mut rtmrs[3], &Sha384::digest(line.as_bytes()).into());
    }
    rtmrs.map(Hex::new)
}

fn extend(register: &mut [u8; 48], digest: &[u8; 48]) {
    let mut hash = Sha384::new();
    hash.update(*register);
    hash.update(digest);
    *register = hash.finalize().into();
}

/// What is still to be read.
struct Rest<'a> {
    bytes: &'a [u8],
    event: usize,
}

impl<'a> Rest<'a> {
    fn is_over(&self) -> bool {
        self.bytes.is_empty() || self.bytes.starts_with(&[0xff; 4])
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], EventLogError> {
        let taken = self.bytes.split_at_checked(len);
        let (taken, rest) = taken.ok_or(EventLogError::CutOff { event: self.event })?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EventLogError> {
        let taken = self.bytes.split_first_chunk();
        let (taken, rest) = taken.ok_or(EventLogError::CutOff { event: self.event })?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u32, EventLogError> {
        self.array().map(u32::from_le_bytes)
    }

    fn short(&mut self) -> Result<u16, EventLogError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Bytes after their length.
    fn counted(&mut self) -> Result<&'a [u8], EventLogError> {
        let len = self.number()?;
        self.take(usize::try_from(len).map_err(|_too_long| EventLogError::CutOff { event: self.event })?)
    }

    /// The first event, in the form of older logs: it says which digests the others have, and how long they are.
    fn description(&mut self) -> Result<Vec<(u16, u16)>, EventLogError> {
        let (_register, kind) = (self.number()?, self.number()?);
        if kind != NO_ACTION {
            return Err(EventLogError::Header { found: kind });
        }
        let _sha1 = self.take(20)?;
        let mut body = Rest { bytes: self.counted()?, event: self.event };
        // Signature of 16 bytes, class of the platform, two numbers of a version, errata, size of an address.
        body.take(16 + 4 + 4)?;
        let found = body.number()?;
        if found == 0 || found > ALGORITHMS_MAX {
            return Err(EventLogError::Algorithms { found });
        }
        (0..found).map(|_algorithm| Ok((body.short()?, body.short()?))).collect()
    }

    /// The next event; none if it extends nothing.
    fn event(&mut self, algorithms: &[(u16, u16)]) -> Result<Option<Event>, EventLogError> {
        let event = self.event;
        let (register, kind, count) = (self.number()?, self.number()?, self.number()?);
        if count > ALGORITHMS_MAX {
            return Err(EventLogError::Algorithms { found: count });
        }
        let mut digest = None;
        for _digest in 0..count {
            let algorithm = self.short()?;
            let known = algorithms.iter().find(|(known, _len)| *known == algorithm);
            let (_known, len) = known.ok_or(EventLogError::Algorithm { event, algorithm })?;
            let bytes = self.take(usize::from(*len))?;
            if algorithm == SHA384 {
                digest = bytes.try_into().ok().map(Hex::new);
            }
        }
        let data = self.counted()?.to_vec();
        if kind == NO_ACTION {
            return Ok(None);
        }
        let digest = digest.ok_or(EventLogError::NoDigest { event })?;
        let rtmr = match register {
            1 => 0,
            2 => 1,
            3 => 2,
            4 => 3,
            found => return Err(EventLogError::Register { event, found }),
        };
        Ok(Some(Event { rtmr, kind, digest, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(algorithms: &[(u16, u16)]) -> Vec<u8> {
        let mut body = b"Spec ID Event03\0".to_vec();
        body.extend([0, 0, 0, 0, 0, 2, 105, 2]);
        body.extend(u32::try_from(algorithms.len()).unwrap().to_le_bytes());
        for (algorithm, len) in algorithms {
            body.extend(algorithm.to_le_bytes());
            body.extend(len.to_le_bytes());
        }
        body.push(0);
        let mut log = [1_u32.to_le_bytes(), NO_ACTION.to_le_bytes()].concat();
        log.extend([0; 20]);
        log.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        log.extend(body);
        log
    }

    fn event(register: u32, kind: u32, digest: u8, data: &[u8]) -> Vec<u8> {
        let mut event = [register, kind, 1].map(u32::to_le_bytes).concat();
        event.extend(SHA384.to_le_bytes());
        event.extend([digest; 48]);
        event.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        event.extend(data);
        event
    }

    fn log(events: &[Vec<u8>]) -> Vec<u8> {
        [description(&[(SHA384, 48)]), events.concat()].concat()
    }

    /// SHA-384 of two parts.
    fn hash(parts: [&[u8]; 2]) -> [u8; 48] {
        Sha384::digest(parts.concat()).into()
    }

    #[test]
    fn registers_are_what_the_events_made_of_them() {
        let bytes =
            log(&[event(1, 1, 7, b"firmware"), event(2, 0x8000_0003, 8, b"kernel"), event(1, 1, 9, b"")]);
        let events = parse(&bytes).unwrap();
        assert_eq!(events.iter().map(|event| event.rtmr).collect::<Vec<_>>(), [0, 1, 0]);
        assert_eq!(events[1].data, b"kernel");
        assert!(is_begun(&bytes) && !is_begun(&bytes[..40]) && !is_begun(&bytes[1..]));
        let zero = [0; 48];
        let first = hash([&hash([&zero, &[7; 48]]), &[9; 48]]);
        let guest = hash([&zero, &hash([b"cocoon:tdx_inited", b""])]);
        let expected = [first, hash([&zero, &[8; 48]]), zero, guest].map(Hex::new);
        assert_eq!(replay(&events, ["cocoon:tdx_inited"]), expected);
        assert_ne!(replay(&events, ["cocoon:cocoon_debug", "cocoon:tdx_inited"]), expected);
        assert_ne!(replay(&events[..2], ["cocoon:tdx_inited"]), expected);
    }

    #[test]
    fn a_log_ends_with_its_bytes_or_with_ones() {
        let events = [event(1, 1, 7, b"")];
        let padded = [log(&events), vec![0xff; 64]].concat();
        assert_eq!(parse(&padded), parse(&log(&events)));
        // What extends nothing is no event.
        assert_eq!(parse(&log(&[event(0, NO_ACTION, 1, b"")])), Ok(vec![]));
    }

    #[test]
    fn other_bytes_are_refused() {
        let whole = log(&[event(1, 1, 7, b"firmware")]);
        let end = description(&[(SHA384, 48)]).len();
        for len in (0..whole.len()).filter(|len| *len != end) {
            let error = parse(&whole[..len]).unwrap_err();
            assert!(matches!(error, EventLogError::CutOff { .. }), "{len}: {error}");
        }
        let refused = |events: &[Vec<u8>]| parse(&log(events)).unwrap_err();
        assert_eq!(refused(&[event(0, 1, 1, b"")]), EventLogError::Register { event: 1, found: 0 });
        assert_eq!(refused(&[event(5, 1, 1, b"")]), EventLogError::Register { event: 1, found: 5 });
        let other = [description(&[(0x000b, 32)]), event(1, 1, 1, b"")].concat();
        assert_eq!(parse(&other), Err(EventLogError::Algorithm { event: 1, algorithm: SHA384 }));
        let none = [description(&[(SHA384, 48)]), [1_u32, 1, 0, 0].map(u32::to_le_bytes).concat()].concat();
        assert_eq!(parse(&none), Err(EventLogError::NoDigest { event: 1 }));
        let many =
            [description(&[(SHA384, 48)]), [1_u32, 1, u32::MAX].map(u32::to_le_bytes).concat()].concat();
        assert_eq!(parse(&many), Err(EventLogError::Algorithms { found: u32::MAX }));
        assert_eq!(parse(&description(&[])), Err(EventLogError::Algorithms { found: 0 }));
        let mut no_header = whole.clone();
        no_header[4] = 1;
        assert_eq!(parse(&no_header), Err(EventLogError::Header { found: 1 }));
        assert_eq!(parse(&vec![0; LEN_MAX + 1]), Err(EventLogError::TooLong { found: LEN_MAX + 1 }));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let whole = [description(&[(SHA384, 48)]), bytes].concat();
            if let Ok(events) = parse(&whole) {
                let _registers = replay(&events, []);
            }
        }
    }
}
