//! Reading and writing the numbers of the format.

use ton::Address;

/// Bytes of an address: workchain and hash.
pub(super) const ADDRESS_LEN: usize = 33;

/// A slice that is read from its beginning. `None` means that it ended too early, or held no such number.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(slice)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn address(&mut self) -> Option<Address> {
        let workchain = i8::from_le_bytes(self.array()?);
        self.array().map(|hash| Address::new(workchain, hash))
    }

    /// A LEB128 number, in the shortest form alone.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let placed = bits.checked_shl(shift)?;
            if placed.checked_shr(shift)? != bits {
                return None;
            }
            number |= placed;
            if byte & 0x80 == 0 {
                let is_shortest = byte != 0 || shift == 0;
                return is_shortest.then_some(number);
            }
        }
        None
    }
}

pub(super) fn put_address(into: &mut Vec<u8>, address: &Address) {
    into.extend(address.workchain().to_le_bytes());
    into.extend(address.hash());
}

/// Appends `number` as LEB128.
pub(super) fn put_number(into: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            into.push(low & 0x7f);
            return;
        }
        into.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_one_form() {
        let read = |bytes: &[u8]| Reader::new(bytes).number();
        assert_eq!((read(&[0]), read(&[0x7f]), read(&[0x80, 1])), (Some(0), Some(127), Some(128)));
        let largest = [[0xff; 9].as_slice(), &[1]].concat();
        assert_eq!(read(&largest), Some(u64::MAX));
        let too_large = [[0xff; 9].as_slice(), &[2]].concat();
        for refused in [&[][..], &[0x80], &[0x80, 0], &too_large, &[0xff; 11]] {
            assert_eq!(read(refused), None, "{refused:x?}");
        }
    }

    proptest! {
        #[test]
        fn every_number_comes_back(number: u64) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.number(), Some(number));
            prop_assert!(reader.is_empty());
        }
    }
}
