//! Account addresses, as text and in cells.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use tycho_types::cell::{CellBuilder, CellContext, CellSlice, HashBytes, Load, Store};
use tycho_types::crc::crc_16;
use tycho_types::error::Error as CellError;

/// The address of an account: `addr_std` without anycast in TL-B.
///
/// `Display` prints the raw form `workchain:hash`; [`Self::to_text`] the user-friendly one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    workchain: i8,
    hash: [u8; 32],
}

/// What a user-friendly address says besides the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressFlags {
    /// Messages to the account should come back when it cannot process them (`E…`, else `U…`).
    pub bounceable: bool,
    /// The address is meant for the test network only (`k…` and `0…`).
    pub testnet: bool,
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressParseError {
    /// Neither 48 characters nor a raw address.
    #[error("expected 48 characters or \"workchain:hash\", found {len} characters")]
    Length {
        /// Length of the text in bytes.
        len: usize,
    },
    /// The 48 characters are not base64 or base64url.
    #[error("the address holds a character outside base64 and base64url, or mixes the two alphabets")]
    Base64,
    /// The last two bytes do not fit the rest: a character was mistyped.
    #[error(
        "the address's checksum is {found:04x}, its content gives {computed:04x}: check for a typing error"
    )]
    Checksum {
        /// The checksum in the text.
        found: u16,
        /// CRC16 of the bytes before it.
        computed: u16,
    },
    /// The first byte is none of the four known tags.
    #[error("the address begins with tag {tag:#04x}, expected 0x11, 0x51, 0x91 or 0xd1")]
    Tag {
        /// The first byte.
        tag: u8,
    },
    /// The part before the colon is no workchain.
    #[error("the workchain of a raw address is a number in -128..=127 without sign or zeros in front")]
    Workchain,
    /// The part after the colon is no hash.
    #[error("the hash of a raw address has 64 hexadecimal digits")]
    Hash,
}

const TAG_BOUNCEABLE: u8 = 0x11;
const TAG_NON_BOUNCEABLE: u8 = 0x51;
const TAG_TESTNET: u8 = 0x80;

impl Address {
    /// The account `hash` of `workchain`.
    #[must_use]
    pub const fn new(workchain: i8, hash: [u8; 32]) -> Self {
        Self { workchain, hash }
    }

    /// The workchain: 0 for everything that Cocoon deploys.
    #[must_use]
    pub const fn workchain(&self) -> i8 {
        self.workchain
    }

    /// The account within its workchain; at deployment, the hash of its `StateInit`.
    #[must_use]
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Reads any text form: raw `workchain:hash`, or 48 characters of base64 or base64url.
    ///
    /// The raw form carries no flags, so none come back.
    ///
    /// # Errors
    /// [`AddressParseError`] names what is wrong with the text.
    pub fn parse(text: &str) -> Result<(Self, Option<AddressFlags>), AddressParseError> {
        if let Some((workchain, hash)) = text.split_once(':') {
            return Self::parse_raw(workchain, hash).map(|address| (address, None));
        }
        if text.len() != 48 {
            return Err(AddressParseError::Length { len: text.len() });
        }
        let engine = if text.contains(['+', '/']) { STANDARD } else { URL_SAFE };
        let bytes = engine.decode(text).map_err(|_not_base64| AddressParseError::Base64)?;
        // Padding is the only way for 48 characters to hold fewer bytes.
        let bytes: [u8; 36] = bytes.try_into().map_err(|_padded| AddressParseError::Base64)?;
        let [tag, workchain, hash @ .., crc_high, crc_low] = bytes;

        let found = u16::from_be_bytes([crc_high, crc_low]);
        let computed = crc_16(&bytes[..34]);
        if found != computed {
            return Err(AddressParseError::Checksum { found, computed });
        }
        let bounceable = match tag & !TAG_TESTNET {
            TAG_BOUNCEABLE => true,
            TAG_NON_BOUNCEABLE => false,
            _ => return Err(AddressParseError::Tag { tag }),
        };
        let flags = AddressFlags { bounceable, testnet: tag & TAG_TESTNET != 0 };
        Ok((Self::new(i8::from_be_bytes([workchain]), hash), Some(flags)))
    }

    fn parse_raw(workchain: &str, hash: &str) -> Result<Self, AddressParseError> {
        let number: i8 = workchain.parse().map_err(|_not_i8| AddressParseError::Workchain)?;
        if number.to_string() != workchain {
            return Err(AddressParseError::Workchain);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(hash, &mut bytes).map_err(|_not_hex| AddressParseError::Hash)?;
        Ok(Self::new(number, bytes))
    }

    /// The user-friendly form: 48 characters of base64url.
    #[must_use]
    pub fn to_text(&self, flags: AddressFlags) -> String {
        let tag = if flags.bounceable { TAG_BOUNCEABLE } else { TAG_NON_BOUNCEABLE };
        let mut bytes = [0; 36];
        bytes[0] = if flags.testnet { tag | TAG_TESTNET } else { tag };
        bytes[1..2].copy_from_slice(&self.workchain.to_be_bytes());
        bytes[2..34].copy_from_slice(&self.hash);
        let crc = crc_16(&bytes[..34]);
        bytes[34..].copy_from_slice(&crc.to_be_bytes());
        URL_SAFE.encode(bytes)
    }

    /// The one form in messages of the deployed network: not bounceable, with the network's flag. Deployed
    /// peers compare the flags too and refuse every other form of the same account.
    #[must_use]
    pub fn to_wire_text(&self, is_testnet: bool) -> String {
        self.to_text(AddressFlags { bounceable: false, testnet: is_testnet })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.workchain, hex::encode(self.hash))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// `addr_std$10 anycast:nothing$0`, the first three bits of every address here.
const ADDR_STD_PREFIX: u8 = 0b100;

impl Store for Address {
    fn store_into(&self, builder: &mut CellBuilder, _context: &dyn CellContext) -> Result<(), CellError> {
        builder.store_small_uint(ADDR_STD_PREFIX, 3)?;
        builder.store_u8(self.workchain.cast_unsigned())?;
        builder.store_u256(&HashBytes(self.hash))
    }
}

impl<'a> Load<'a> for Address {
    fn load_from(slice: &mut CellSlice<'a>) -> Result<Self, CellError> {
        if slice.load_small_uint(3)? != ADDR_STD_PREFIX {
            return Err(CellError::InvalidTag);
        }
        let workchain = slice.load_u8()?.cast_signed();
        Ok(Self::new(workchain, slice.load_u256()?.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The root contract of the deployed network.
    const ROOT: &str = "EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k";
    const ROOT_RAW: &str = "0:a7b3b6d84a9d22805bd2d70a5be70b198c2282575f4c0f9015cc8e04cb1b2753";

    fn flags(bounceable: bool, testnet: bool) -> AddressFlags {
        AddressFlags { bounceable, testnet }
    }

    #[test]
    fn all_text_forms_name_the_same_account() {
        let (root, root_flags) = Address::parse(ROOT).unwrap();
        assert_eq!(root_flags, Some(flags(true, false)));
        assert_eq!(root.to_string(), ROOT_RAW);
        assert_eq!(Address::parse(ROOT_RAW).unwrap(), (root, None));
        assert_eq!(Address::parse(&ROOT_RAW.to_uppercase()).unwrap(), (root, None));
        assert_eq!(root.to_text(flags(true, false)), ROOT);
        for (is_testnet, start) in [(false, "UQ"), (true, "0Q")] {
            let text = root.to_wire_text(is_testnet);
            assert!(text.starts_with(start), "{text}");
            assert_eq!(Address::parse(&text).unwrap(), (root, Some(flags(false, is_testnet))));
        }
        assert!(root.to_text(flags(true, true)).starts_with("kQ"));
    }

    #[test]
    fn both_base64_alphabets_are_read_but_not_mixed() {
        let url_safe = "UQAuz15H1ZHrZ_psVrAra7HealMIVeFq0wguqlmFno1f3B-m";
        let (address, _flags) = Address::parse(url_safe).unwrap();
        let standard = url_safe.replace('-', "+").replace('_', "/");
        assert_eq!(Address::parse(&standard).unwrap().0, address);
        let mixed = url_safe.replace('-', "+");
        assert_eq!(Address::parse(&mixed), Err(AddressParseError::Base64));
    }

    #[test]
    fn refusals_name_the_fault() {
        let refused = |text: &str| Address::parse(text).unwrap_err();
        assert_eq!(refused(""), AddressParseError::Length { len: 0 });
        assert_eq!(refused(&ROOT[..47]), AddressParseError::Length { len: 47 });
        assert_eq!(refused(&format!("{}=", &ROOT[..47])), AddressParseError::Base64);
        assert_eq!(refused(&ROOT.replace("73k", "7!k")), AddressParseError::Base64);
        let mistyped = refused(&ROOT.replace("EQC", "EQD"));
        assert!(matches!(mistyped, AddressParseError::Checksum { .. }), "{mistyped}");

        let mut bytes = URL_SAFE.decode(ROOT).unwrap();
        bytes[0] = 0x12;
        let crc = crc_16(&bytes[..34]);
        bytes[34..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(refused(&URL_SAFE.encode(bytes)), AddressParseError::Tag { tag: 0x12 });

        for workchain in ["", "128", "+0", "00", "-0", "x", " 0"] {
            let text = ROOT_RAW.replacen('0', workchain, 1);
            assert_eq!(refused(&text), AddressParseError::Workchain, "{text}");
        }
        assert_eq!(refused(&ROOT_RAW[..65]), AddressParseError::Hash);
        assert_eq!(refused(&format!("{ROOT_RAW}0")), AddressParseError::Hash);
        assert_eq!(refused(&ROOT_RAW.replace("53", "5g")), AddressParseError::Hash);
    }

    #[test]
    fn a_cell_holds_only_standard_addresses() {
        let none = CellBuilder::from_raw_data(&[0; 34], 267).unwrap().build().unwrap();
        assert_eq!(none.parse::<Address>(), Err(CellError::InvalidTag));
        let anycast = CellBuilder::from_raw_data(&[0b1010_0000; 34], 267).unwrap().build().unwrap();
        assert_eq!(anycast.parse::<Address>(), Err(CellError::InvalidTag));
        let short = CellBuilder::from_raw_data(&[0b1000_0000; 34], 266).unwrap().build().unwrap();
        assert_eq!(short.parse::<Address>(), Err(CellError::CellUnderflow));
    }

    proptest! {
        #[test]
        fn text_and_cell_round_trip(workchain: i8, hash: [u8; 32], bounceable: bool, testnet: bool) {
            let address = Address::new(workchain, hash);
            let flags = flags(bounceable, testnet);
            prop_assert_eq!(Address::parse(&address.to_text(flags)), Ok((address, Some(flags))));
            prop_assert_eq!(Address::parse(&address.to_string()), Ok((address, None)));
            let cell = CellBuilder::build_from(address).unwrap();
            prop_assert_eq!(cell.bit_len(), 267);
            prop_assert_eq!(cell.parse::<Address>(), Ok(address));
        }

        #[test]
        fn one_changed_character_is_refused(hash: [u8; 32], at in 0_usize..48, to in "[A-Za-z0-9_-]") {
            let text = Address::new(0, hash).to_wire_text(false);
            let mut changed = text.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != text);
            prop_assert!(Address::parse(&changed).is_err());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _result = Address::parse(&text);
        }
    }
}
