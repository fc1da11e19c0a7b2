//! How every file of the books begins.

use ton::Address;
use units::{Multiplier, NanoTon};

use super::books::Position;
use super::bytes::{ADDRESS_LEN, Reader, put_address};
use super::{CommitNumber, JournalError, SegmentNumber};
use crate::{Multipliers, PriceTable};

/// Whose books these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The proxy's contract. It follows from its owner, its key and all params of the network.
    pub contract: Address,
    /// What a token costs there.
    pub prices: PriceTable,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Segment,
    Snapshot,
}

/// Version of the format that this crate writes.
pub(super) const VERSION: u32 = 2;
/// The oldest one that it reads.
const VERSION_MIN: u32 = 1;

const MAGIC_LEN: usize = 8;
const PRICES_LEN: usize = 2 * 8 + 4 * 4;
/// The zeros are the room that version 1 left for an anchor, which became a record.
const POSITION_LEN: usize = 8 + 8 + 32 + ZEROS_LEN;
const ZEROS_LEN: usize = 32;

/// Bytes of a header, without the signature that follows it in a segment.
pub(super) const HEADER_LEN: usize = MAGIC_LEN + 4 + ADDRESS_LEN + PRICES_LEN + POSITION_LEN;

impl FileKind {
    const fn magic(self) -> &'static [u8; MAGIC_LEN] {
        match self {
            Self::Segment => b"COCOONjr",
            Self::Snapshot => b"COCOONsn",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Segment => "segment of a journal",
            Self::Snapshot => "snapshot of books",
        }
    }
}

pub(super) fn put_header(into: &mut Vec<u8>, kind: FileKind, identity: &Identity, at: &Position) {
    let Identity { contract, prices } = identity;
    into.extend(kind.magic());
    into.extend(VERSION.to_le_bytes());
    put_address(into, contract);
    into.extend(prices.price_per_token().get().to_le_bytes());
    into.extend(prices.worker_fee_per_token().get().to_le_bytes());
    let Multipliers { prompt, cached, completion, reasoning } = prices.multipliers();
    for multiplier in [prompt, cached, completion, reasoning] {
        into.extend(multiplier.get().to_le_bytes());
    }
    into.extend(at.segment.get().to_le_bytes());
    into.extend(at.commit.get().to_le_bytes());
    into.extend(at.head);
    into.extend([0; ZEROS_LEN]);
}

/// Reads a header that must belong to `identity`, and its version. Whether it is genuine only a signature tells.
pub(super) fn read_header(
    bytes: &[u8],
    kind: FileKind,
    identity: &Identity,
) -> Result<(Position, u32), JournalError> {
    let magic = kind.magic().as_slice();
    // A file that is something else says so even if it is short.
    let found = &bytes[..bytes.len().min(MAGIC_LEN)];
    if !magic.starts_with(found) {
        let hexadecimal = |bytes: &[u8]| hexadecimal(bytes);
        let (expected, found) = (hexadecimal(magic), hexadecimal(found));
        return Err(JournalError::Magic { kind: kind.name(), expected, found });
    }
    let short = JournalError::Short { needed: HEADER_LEN as u64, found: bytes.len() as u64 };
    let mut reader = Reader::new(bytes);
    let version = reader.array::<MAGIC_LEN>().and_then(|_magic| reader.u32()).ok_or(short.clone())?;
    if version > VERSION {
        return Err(JournalError::NewerFormat { found: version, known: VERSION });
    }
    if version < VERSION_MIN {
        return Err(JournalError::Damaged { what: "the format version", offset: MAGIC_LEN as u64 });
    }
    let (contract, prices, at) = read_rest(&mut reader).ok_or(short)?;
    if contract != identity.contract {
        return Err(JournalError::ForeignContract { expected: identity.contract, found: contract });
    }
    let ours = price_fields(&identity.prices);
    if prices != ours {
        let text =
            |(price, fee, multipliers): PriceFields| format!("{price} (workers {fee}) × {multipliers:?}");
        return Err(JournalError::ForeignPrices { expected: text(ours), found: text(prices) });
    }
    Ok((at, version))
}

/// Price, worker fee and multipliers as they stand in a header.
type PriceFields = (NanoTon, NanoTon, [Multiplier; 4]);

fn price_fields(prices: &PriceTable) -> PriceFields {
    let Multipliers { prompt, cached, completion, reasoning } = *prices.multipliers();
    (prices.price_per_token(), prices.worker_fee_per_token(), [prompt, cached, completion, reasoning])
}

fn read_rest(reader: &mut Reader<'_>) -> Option<(Address, PriceFields, Position)> {
    let contract = reader.address()?;
    let (price, fee) = (NanoTon::new(reader.u64()?), NanoTon::new(reader.u64()?));
    let mut multipliers = [Multiplier::default(); 4];
    for multiplier in &mut multipliers {
        *multiplier = Multiplier::new(reader.u32()?);
    }
    let at = Position {
        segment: SegmentNumber::new(reader.u64()?),
        commit: CommitNumber::new(reader.u64()?),
        head: reader.array()?,
    };
    let _zeros: [u8; ZEROS_LEN] = reader.array()?;
    Some((contract, (price, fee, multipliers), at))
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
