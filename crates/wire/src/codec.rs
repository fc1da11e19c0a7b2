//! TL serialisation: how the built-in types look in bytes, and the two entry points.
//!
//! Everything is little endian and a multiple of four bytes long. Two pairs of traits: [`Read`] and [`Write`] for a
//! field of an object, [`Decode`] and [`Encode`] for an object that stands alone, its constructor id first.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::{DecodeError, TlStr, schema};

/// Reads one boxed object, which must fill `bytes` exactly. The result borrows from `bytes`.
///
/// # Errors
/// [`DecodeError`] if the bytes are not such an object; [`DecodeError::UnknownConstructor`] if they begin with
/// an id that `T` does not have, or are one of its objects up to a field with such an id.
pub fn decode<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let mut input = Input(bytes);
    let object = read_boxed(&mut input)?;
    match input.0.len() {
        0 => Ok(object),
        left => Err(DecodeError::TrailingBytes { left }),
    }
}

/// Writes one boxed object into a buffer of exactly its length.
pub fn encode<T: Encode + ?Sized>(object: &T) -> Bytes {
    let mut out = BytesMut::with_capacity(encoded_len(object));
    object.write_boxed(&mut out);
    out.freeze()
}

/// Length of what [`encode`] returns, in bytes.
pub(crate) fn encoded_len<T: Encode + ?Sized>(object: &T) -> usize {
    let mut counter = Counter(0);
    object.write_boxed(&mut counter);
    counter.0
}

/// An object, or a set of objects, that [`decode`] can read.
pub trait Decode<'a>: Sized {
    /// Reads the fields of constructor `id`; `None` if this type has no such constructor.
    #[doc(hidden)]
    fn read_constructor(id: u32, input: &mut Input<'a>) -> Result<Option<Self>, DecodeError>;
}

/// An object that [`encode`] can write.
pub trait Encode {
    /// Writes constructor id and fields.
    #[doc(hidden)]
    fn write_boxed(&self, out: &mut impl Sink);
}

/// Reads a constructor id and the object that it announces.
pub(crate) fn read_boxed<'a, T: Decode<'a>>(input: &mut Input<'a>) -> Result<T, DecodeError> {
    let id = u32::read(input)?;
    T::read_constructor(id, input)?.ok_or(DecodeError::UnknownConstructor { id })
}

/// A type that can be read as a field.
pub(crate) trait Read<'a>: Sized {
    /// No value of this type takes fewer bytes; never 0 for an element of a vector.
    const LEN_MIN: usize;

    fn read(input: &mut Input<'a>) -> Result<Self, DecodeError>;
}

/// A type that can be written as a field.
pub(crate) trait Write {
    fn write(&self, out: &mut impl Sink);

    /// Prints what a log may have: the shape and the numbers.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// The bytes that are still to be read.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads the beginning of a `bytes` field that is the last one, where `missing` bytes are still to come. Returns
    /// what is there of its data, and the length of all of it.
    pub(crate) fn bytes_start(&mut self, missing: usize) -> Result<(&'a [u8], usize), DecodeError> {
        let left = self.0.len();
        let (header_len, data_len) = self.bytes_header()?;
        let needed = (header_len as u64 + data_len).next_multiple_of(4);
        match (usize::try_from(needed), usize::try_from(data_len)) {
            (Ok(needed), Ok(data_len)) if Some(needed) == left.checked_add(missing) => {
                let there = &self.0[header_len..];
                self.0 = &[];
                Ok((&there[..there.len().min(data_len)], data_len))
            }
            _ => Err(DecodeError::UnexpectedEnd { needed, left }),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.0.split_first_chunk() else {
            return Err(DecodeError::UnexpectedEnd { needed: N as u64, left: self.0.len() });
        };
        self.0 = rest;
        Ok(*taken)
    }

    /// Reads a `#` field. Its sign bit is an error; which of the other bits are known is up to the caller.
    pub(crate) fn flags(&mut self) -> Result<u32, DecodeError> {
        let flags = u32::read(self)?;
        if flags >> 31 == 0 { Ok(flags) } else { Err(DecodeError::NegativeFlags { flags }) }
    }

    /// Reads a `string` or `bytes` field: header, data, padding to a multiple of four. The deployed peers check
    /// neither that the padding is zero nor that the header is the shortest, so neither do we.
    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let left = self.0.len();
        let (header_len, data_len) = self.bytes_header()?;
        let needed = (header_len as u64 + data_len).next_multiple_of(4);
        match (usize::try_from(needed), usize::try_from(data_len)) {
            (Ok(needed), Ok(data_len)) if needed <= left => {
                let (field, rest) = self.0.split_at(needed);
                self.0 = rest;
                Ok(&field[header_len..][..data_len])
            }
            _ => Err(DecodeError::UnexpectedEnd { needed, left }),
        }
    }
}

impl Input<'_> {
    /// Length of the header of a `string` or `bytes` field, and of its data.
    fn bytes_header(&self) -> Result<(usize, u64), DecodeError> {
        let left = self.0.len();
        match *self.0 {
            [len @ 0..=253, ..] => Ok((1, len.into())),
            [254, a, b, c, ..] => Ok((4, u32::from_le_bytes([a, b, c, 0]).into())),
            [255, a, b, c, d, e, f, g, ..] => Ok((8, u64::from_le_bytes([a, b, c, d, e, f, g, 0]))),
            [255, ..] => Err(DecodeError::UnexpectedEnd { needed: 8, left }),
            _ => Err(DecodeError::UnexpectedEnd { needed: 4, left }),
        }
    }
}

/// Where an object is written to.
pub trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// So many bytes are about to come.
    fn expect(&mut self, _len: usize) {}
}

impl Sink for BytesMut {
    fn expect(&mut self, len: usize) {
        self.reserve(len);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Measures instead of writing, so that an object has one description of its bytes and lengths cannot disagree.
struct Counter(usize);

impl Sink for Counter {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Read<'_> for $number {
            const LEN_MIN: usize = size_of::<Self>();

            fn read(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_le_bytes(input.take()?))
            }
        }

        impl Write for $number {
            fn write(&self, out: &mut impl Sink) {
                out.put(&self.to_le_bytes());
            }

            fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    )*};
}

number!(u32, i32, i64, f64);

/// `Bool`, a boxed type.
impl Read<'_> for bool {
    const LEN_MIN: usize = 4;

    fn read(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        match u32::read(input)? {
            schema::boolTrue => Ok(true),
            schema::boolFalse => Ok(false),
            id => Err(DecodeError::UnknownConstructor { id }),
        }
    }
}

impl Write for bool {
    fn write(&self, out: &mut impl Sink) {
        if *self { schema::boolTrue.write(out) } else { schema::boolFalse.write(out) }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `int256`: raw bytes, no header.
impl Read<'_> for [u8; 32] {
    const LEN_MIN: usize = 32;

    fn read(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        input.take()
    }
}

impl Write for [u8; 32] {
    fn write(&self, out: &mut impl Sink) {
        out.put(self);
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<32 bytes>")
    }
}

/// What stands before `len` bytes of a `bytes` field, and how much of it that is.
#[inline]
pub(crate) fn bytes_header(len: usize) -> ([u8; 8], usize) {
    let [a, b, c, d, e, f, g, _] = (len as u64).to_le_bytes();
    match len {
        0..=253 => ([a, 0, 0, 0, 0, 0, 0, 0], 1),
        254..=0xff_ffff => ([254, a, b, c, 0, 0, 0, 0], 4),
        _ => ([255, a, b, c, d, e, f, g], 8),
    }
}

/// What stands behind header and data of a `bytes` field.
#[inline]
pub(crate) fn bytes_padding(unpadded_len: usize) -> &'static [u8] {
    &[0; 3][..unpadded_len.next_multiple_of(4) - unpadded_len]
}

/// `bytes`.
impl<'a> Read<'a> for &'a [u8] {
    const LEN_MIN: usize = 4;

    fn read(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        input.bytes()
    }
}

impl Write for &[u8] {
    fn write(&self, out: &mut impl Sink) {
        let (header, header_len) = bytes_header(self.len());
        out.put(&header[..header_len]);
        out.put(self);
        out.put(bytes_padding(header_len + self.len()));
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.len())
    }
}

impl<'a> Read<'a> for TlStr<'a> {
    const LEN_MIN: usize = 4;

    fn read(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        input.bytes().map(Self::new)
    }
}

impl Write for TlStr<'_> {
    fn write(&self, out: &mut impl Sink) {
        self.as_bytes().write(out);
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `vector`, always bare: a count and that many elements.
impl<'a, T: Read<'a>> Read<'a> for Vec<T> {
    const LEN_MIN: usize = 4;

    fn read(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        let count = u32::read(input)?;
        let left = input.0.len();
        // No memory for elements whose bytes are not here.
        if u64::from(count) * T::LEN_MIN as u64 > left as u64 {
            return Err(DecodeError::VectorTooLong { count, left });
        }
        let mut elements = Self::with_capacity(count as usize);
        for _ in 0..count {
            elements.push(T::read(input)?);
        }
        Ok(elements)
    }
}

impl<T: Write> Write for Vec<T> {
    fn write(&self, out: &mut impl Sink) {
        let count = u32::try_from(self.len()).expect("a message of 2^32 elements exceeds any frame");
        count.write(out);
        for element in self {
            element.write(out);
        }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Shown)).finish()
    }
}

/// Prints a field by [`Write::show`].
pub(crate) struct Shown<'t, T>(pub(crate) &'t T);

impl<T: Write> fmt::Debug for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }
}

/// Prints an optional field, as [`Shown`].
pub(crate) struct ShownOption<'t, T>(pub(crate) &'t Option<T>);

impl<T: Write> fmt::Debug for ShownOption<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map(Shown).fmt(f)
    }
}
