//! Why bytes are not an object.

/// Why bytes could not be read as the expected object. The peer that sent them broke the protocol, or speaks a
/// version that we do not know.
///
/// Never carries any of the bytes but the constructor id or the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field reaches beyond the last byte.
    #[error("message ends early: a field needs {needed} bytes, {left} are left")]
    UnexpectedEnd {
        /// Bytes that the field occupies.
        needed: u64,
        /// Bytes after the field's start.
        left: usize,
    },
    /// Bytes follow the last field.
    #[error("message continues for {left} bytes after its last field")]
    TrailingBytes {
        /// Number of bytes after the last field.
        left: usize,
    },
    /// The constructor id is none of those that may stand here. A query with such an id can be refused; anything
    /// else is a violation of the protocol.
    #[error("unknown constructor {id:08x}")]
    UnknownConstructor {
        /// The id as a number; on the wire it is little endian.
        id: u32,
    },
    /// The sign bit of a `#` field is set, which the protocol forbids.
    #[error("flags {flags:08x} are negative")]
    NegativeFlags {
        /// The flags as found.
        flags: u32,
    },
    /// A vector claims more elements than the remaining bytes can hold.
    #[error("vector of {count} elements does not fit into the remaining {left} bytes")]
    VectorTooLong {
        /// Number of elements claimed.
        count: u32,
        /// Bytes after the count.
        left: usize,
    },
}
