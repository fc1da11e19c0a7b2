//! A boxed object on its way to the wire.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::Encode;
use crate::codec::{Sink, encoded_len};

/// Bytes from which a field is shared. A shorter one is copied: sharing it would cost more.
pub const SHARED_LEN_MIN: usize = 2048;

/// A boxed object as bytes, of which a long field may be shared with the memory it came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// All of it, or what stands before the shared field.
    start: Bytes,
    rest: Option<Box<Rest>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Rest {
    shared: Bytes,
    end: Bytes,
}

/// As [`encode`](crate::encode), without copying `field` if it is long: `object` must have it as one of its byte fields.
pub fn encode_sharing<T: Encode + ?Sized>(object: &T, field: &Bytes) -> Message {
    if field.len() < SHARED_LEN_MIN {
        return crate::encode(object).into();
    }
    let around = encoded_len(object).saturating_sub(field.len());
    let mut out = Around { bytes: BytesMut::with_capacity(around), field, at: None };
    object.write_boxed(&mut out);
    let Around { mut bytes, at, .. } = out;
    let rest = at.map(|at| {
        let end = bytes.split_off(at).freeze();
        Box::new(Rest { shared: field.clone(), end })
    });
    Message { start: bytes.freeze(), rest }
}

/// Writes an object but for one field.
struct Around<'f> {
    bytes: BytesMut,
    field: &'f Bytes,
    /// Where the field belongs, once it came.
    at: Option<usize>,
}

impl Sink for Around<'_> {
    fn put(&mut self, bytes: &[u8]) {
        // The same memory, not just equal bytes.
        if self.at.is_none() && std::ptr::eq(bytes, self.field.as_ref()) {
            self.at = Some(self.bytes.len());
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

impl Message {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.start.len() + self.rest.as_ref().map_or(0, |rest| rest.shared.len() + rest.end.len())
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        let rest = self.rest.iter().flat_map(|rest| [&rest.shared, &rest.end]);
        std::iter::once(&self.start).chain(rest)
    }

    /// Takes the first `len` bytes off, or all if there are fewer. They are copied only where they were not in one piece.
    pub fn split_to(&mut self, len: usize) -> Bytes {
        let len = len.min(self.len());
        if len <= self.start.len() {
            let taken = self.start.split_to(len);
            self.close_up();
            return taken;
        }
        let mut taken = BytesMut::with_capacity(len);
        while taken.len() < len {
            let piece = self.start.split_to(self.start.len().min(len - taken.len()));
            taken.extend_from_slice(&piece);
            self.close_up();
        }
        taken.freeze()
    }

    /// Puts the rest at the start if nothing is before it.
    fn close_up(&mut self) {
        while self.start.is_empty()
            && let Some(rest) = self.rest.take()
        {
            let Rest { shared, end } = *rest;
            self.start = shared;
            self.rest = (!end.is_empty()).then(|| Box::new(Rest { shared: end, end: Bytes::new() }));
        }
    }

    /// All bytes in one piece, copied if there are several.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.rest.is_none() {
            return self.start;
        }
        let mut bytes = BytesMut::with_capacity(self.len());
        for piece in self.pieces() {
            bytes.extend_from_slice(piece);
        }
        bytes.freeze()
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self { start: bytes, rest: None }
    }
}

/// It may be a prompt.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<message of {} bytes>", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode, stream};

    fn part(data: &[u8]) -> stream::BodyPart<'_> {
        stream::BodyPart { request_id: [7; 32], data, is_last: true }
    }

    #[test]
    fn a_long_field_is_shared_and_a_short_one_is_not() {
        for len in [0, 1, SHARED_LEN_MIN - 1, SHARED_LEN_MIN, SHARED_LEN_MIN + 1, 70_001] {
            let field = Bytes::from(vec![3; len]);
            let message = encode_sharing(&part(&field), &field);
            let is_shared = message.pieces().any(|piece| std::ptr::eq(piece.as_ref(), field.as_ref()));
            assert_eq!(is_shared, len >= SHARED_LEN_MIN);
            let whole = encode(&part(&field));
            assert_eq!((message.len(), message.into_bytes()), (whole.len(), whole));
        }
    }

    #[test]
    fn a_message_comes_off_in_parts_of_any_length() {
        let field: Bytes = (0..20_001).map(|at| (at % 251) as u8).collect();
        let whole = encode(&part(&field));
        for len in [1, 7, 40, 4096, 19_999, 20_040, 30_000] {
            let mut message = encode_sharing(&part(&field), &field);
            let mut taken = Vec::new();
            while !message.is_empty() {
                let part = message.split_to(len);
                assert_eq!(part.len(), len.min(whole.len() - taken.len()));
                taken.extend_from_slice(&part);
            }
            assert_eq!(taken, whole);
            assert!(message.split_to(1).is_empty());
        }
        let mut message = encode_sharing(&part(&field), &field);
        message.split_to(100);
        let shared = message.split_to(4096);
        assert!(field.as_ptr_range().contains(&shared.as_ptr()), "what is in one piece is not copied");
    }

    #[test]
    fn equal_bytes_elsewhere_are_copied() {
        let (field, equal) = (Bytes::from(vec![3; 5000]), Bytes::from(vec![3; 5000]));
        let message = encode_sharing(&part(&field), &equal);
        assert_eq!(message.pieces().count(), 1);
        assert_eq!(message.into_bytes(), encode(&part(&field)));
    }
}
