//! Reading bags of cells within bounds.

use tycho_types::boc::{Boc, de};
use tycho_types::cell::Cell;

/// Bytes that are not exactly one bag of cells with one root.
#[derive(Debug, thiserror::Error)]
pub enum BocError {
    /// More bytes than such a bag ever has.
    #[error("the bag of cells has {len} bytes, at most {len_max} are accepted")]
    TooLong {
        /// Bytes found.
        len: usize,
        /// Bytes accepted.
        len_max: usize,
    },
    /// The bytes do not decode.
    #[error("the bytes are no bag of cells with one root")]
    Malformed(#[source] de::Error),
    /// The bag ends before the bytes do.
    #[error("bytes follow the bag of cells")]
    TrailingBytes,
}

/// The root of the bag of cells that `bytes` are.
///
/// The bound on length bounds the rest: a cell takes two bytes or more, so `len_max` also limits count and
/// depth, and every cell is hashed once however often it is referenced.
///
/// # Errors
/// [`BocError`] for anything but exactly one bag with one root.
pub fn decode(bytes: &[u8], len_max: usize) -> Result<Cell, BocError> {
    if bytes.len() > len_max {
        return Err(BocError::TooLong { len: bytes.len(), len_max });
    }
    let root = Boc::decode(bytes).map_err(BocError::Malformed)?;
    // The decoder ignores what follows the bag; a shorter text that still decodes shows that something did.
    let shorter = bytes.split_last().map_or(bytes, |(_last, rest)| rest);
    if Boc::decode(shorter).is_ok() {
        return Err(BocError::TrailingBytes);
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use tycho_types::cell::CellBuilder;

    use super::*;

    #[test]
    fn exactly_one_bag_is_read() {
        let cell = CellBuilder::build_from(7_u32).unwrap();
        let mut bytes = Boc::encode(&cell);
        assert_eq!(decode(&bytes, bytes.len()).unwrap(), cell);
        assert!(matches!(decode(&bytes, bytes.len() - 1), Err(BocError::TooLong { .. })));
        assert!(matches!(decode(&bytes[..bytes.len() - 1], 100), Err(BocError::Malformed(_))));
        assert!(matches!(decode(&[], 100), Err(BocError::Malformed(_))));
        let two_roots = Boc::encode_pair((&cell, &Cell::default()));
        assert!(matches!(decode(&two_roots, 100), Err(BocError::Malformed(_))));
        for more in 1..3 {
            bytes.push(0);
            assert!(matches!(decode(&bytes, 100), Err(BocError::TrailingBytes)), "{more} more bytes");
        }
    }
}
