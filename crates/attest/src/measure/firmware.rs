//! MRTD, from a firmware image.
//!
//! Where its parts go, the image says itself (Intel TDX Virtual Firmware Design Guide, "TDVF Metadata"). QEMU puts them into the guest's
//! memory, and the TDX module hashes what is done (Intel TDX Module Base Architecture Specification, "Measurement and Attestation"): that a page was
//! added, and where; and of each 256 bytes that are measured, where they are and what they are.

use sha2::{Digest as _, Sha384};

use crate::measurements::{Hex, Register};

/// In what order a host does it, which the hash shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOrder {
    /// Each page is added and then measured, as Linux 6.16 and later do.
    PageByPage,
    /// All pages of a part are added, and then measured, as QEMU 8 with Intel's patches does.
    AllThenMeasured,
}

/// An image that a guest cannot be started with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    /// No such image.
    #[error(
        "this is no firmware for guests under TDX: {what} is missing. OVMF has it as one file, with code and variables"
    )]
    NotTdvf {
        /// What was looked for.
        what: &'static str,
    },
    /// Another version.
    #[error("the firmware's description is of version {found}, and only 1 is known")]
    Version {
        /// The version.
        found: u32,
    },
    /// A part that cannot be.
    #[error("part {part} of the firmware (counted from 0) cannot be loaded: {what}")]
    Part {
        /// Which one.
        part: usize,
        /// Why.
        what: &'static str,
    },
}

/// `96b582de-1fb2-45f7-baea-a366c55a082d`: the end of the table at the end of an image.
const TABLE_END: [u8; 16] =
    [0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d];
/// `e47a6535-984a-4798-865e-4685a7bf8ec2`: its entry that says where the description is.
const DESCRIPTION_OFFSET: [u8; 16] =
    [0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2];
/// What follows the table: the reset vector.
const RESET_LEN: usize = 32;
/// Each entry ends with its length in two bytes and its name.
const ENTRY_TAIL_LEN: usize = 18;

const PAGE_LEN: u64 = 4096;
/// What is measured at a time.
const MEASURED_LEN: usize = 256;
/// Parts that an image may have: OVMF has six.
const PARTS_MAX: usize = 64;
/// Memory that those of them may take together that a guest begins with. OVMF's take some MiB.
const MEMORY_LEN_MAX: u64 = 1 << 26;

/// Attribute of a part: what it holds is measured.
const MEASURED: u32 = 1;
/// Attribute of a part: its pages are given to the guest later, and no part of the measurement.
const ADDED_LATER: u32 = 2;

/// A part of an image, and where it goes.
struct Part<'a> {
    data: &'a [u8],
    address: u64,
    len: u64,
    attributes: u32,
}

/// MRTD of a guest with this firmware.
///
/// # Errors
/// [`FirmwareError`] if it is no image for guests under TDX, or one that cannot be loaded.
pub fn mrtd(image: &[u8], order: PageOrder) -> Result<Register, FirmwareError> {
    let mut hash = Sha384::new();
    let mut left = MEMORY_LEN_MAX;
    for (at, part) in parts(image)?.into_iter().enumerate() {
        if part.attributes & (MEASURED | ADDED_LATER) == ADDED_LATER {
            continue;
        }
        left = left
            .checked_sub(part.len)
            .ok_or(FirmwareError::Part { part: at, what: "the parts take more than 64 MiB together" })?;
        let pages = || (0..part.len / PAGE_LEN).map(|page| page * PAGE_LEN);
        match order {
            PageOrder::PageByPage => pages().for_each(|page| {
                add(&mut hash, &part, page);
                measure(&mut hash, &part, page);
            }),
            PageOrder::AllThenMeasured => {
                pages().for_each(|page| add(&mut hash, &part, page));
                pages().for_each(|page| measure(&mut hash, &part, page));
            }
        }
    }
    Ok(Hex::new(hash.finalize().into()))
}

/// That a page was added. `page` counts bytes from the part's beginning.
fn add(hash: &mut Sha384, part: &Part<'_>, page: u64) {
    if part.attributes & ADDED_LATER == 0 {
        hash.update(step(b"MEM.PAGE.ADD", part.address + page));
    }
}

/// What a page holds. A part's memory that its data does not fill is zero.
fn measure(hash: &mut Sha384, part: &Part<'_>, page: u64) {
    if part.attributes & MEASURED == 0 {
        return;
    }
    for at in (page..page + PAGE_LEN).step_by(MEASURED_LEN) {
        hash.update(step(b"MR.EXTEND", part.address + at));
        let mut bytes = [0; MEASURED_LEN];
        let data = usize::try_from(at).ok().and_then(|at| part.data.get(at..)).unwrap_or_default();
        let len = data.len().min(MEASURED_LEN);
        bytes[..len].copy_from_slice(&data[..len]);
        hash.update(bytes);
    }
}

/// What the module hashes of a step: its name, and where it was done.
fn step(name: &[u8], address: u64) -> [u8; 128] {
    let mut step = [0; 128];
    step[..name.len()].copy_from_slice(name);
    step[16..24].copy_from_slice(&address.to_le_bytes());
    step
}

/// The parts that an image names.
fn parts(image: &[u8]) -> Result<Vec<Part<'_>>, FirmwareError> {
    let missing = |what| FirmwareError::NotTdvf { what };
    let at = description(image).ok_or(missing("the table that says where the description is"))?;
    let head = image.get(at..).and_then(<[u8]>::first_chunk::<16>).ok_or(missing("the description"))?;
    let [signature, _len, version, count] = words(head);
    if signature.to_le_bytes() != *b"TDVF" {
        return Err(missing("the description"));
    }
    if version != 1 {
        return Err(FirmwareError::Version { found: version });
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > PARTS_MAX {
        return Err(FirmwareError::Part { part: PARTS_MAX, what: "there are too many of them" });
    }
    (0..count).map(|part| Part::read(image, at + head.len(), part)).collect()
}

/// Where the description begins.
fn description(image: &[u8]) -> Option<usize> {
    let end = image.len().checked_sub(RESET_LEN)?;
    let tail = |end: usize| {
        let tail = image.get(end.checked_sub(ENTRY_TAIL_LEN)?..end)?;
        let (len, name) = tail.split_first_chunk::<2>()?;
        Some((usize::from(u16::from_le_bytes(*len)), name))
    };
    let (table_len, name) = tail(end)?;
    // The table counts its own end.
    let begin = end.checked_sub(table_len)?;
    if name != TABLE_END {
        return None;
    }
    let mut entry = end.checked_sub(ENTRY_TAIL_LEN)?;
    while entry > begin {
        let (len, name) = tail(entry)?;
        if name == DESCRIPTION_OFFSET {
            let data = image.get(..entry - ENTRY_TAIL_LEN)?.last_chunk::<4>()?;
            return image.len().checked_sub(usize::try_from(u32::from_le_bytes(*data)).ok()?);
        }
        entry = entry.checked_sub(len.max(ENTRY_TAIL_LEN))?;
    }
    None
}

/// Numbers of four bytes.
fn words<const N: usize, const LEN: usize>(bytes: &[u8; LEN]) -> [u32; N] {
    const { assert!(4 * N == LEN) };
    std::array::from_fn(|at| u32::from_le_bytes(std::array::from_fn(|byte| bytes[4 * at + byte])))
}

impl<'a> Part<'a> {
    fn read(image: &'a [u8], first: usize, part: usize) -> Result<Self, FirmwareError> {
        let refused = |what| FirmwareError::Part { part, what };
        let entry = image.get(first + 32 * part..).and_then(<[u8]>::first_chunk::<32>);
        let entry = entry.ok_or(refused("the image ends before its description"))?;
        let [offset, data_len, address_low, address_high, len_low, len_high, _kind, attributes] =
            words(entry);
        let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let (address, len) = (wide(address_low, address_high), wide(len_low, len_high));
        if address % PAGE_LEN != 0 || len % PAGE_LEN != 0 {
            return Err(refused("its memory does not begin and end with pages"));
        }
        if address.checked_add(len).is_none() {
            return Err(refused("its memory goes beyond all addresses"));
        }
        if u64::from(data_len) > len {
            return Err(refused("its data is longer than its memory"));
        }
        let slice = usize::try_from(offset).ok().zip(usize::try_from(data_len).ok());
        let data = slice.and_then(|(offset, len)| image.get(offset..)?.get(..len));
        let data = data.ok_or(refused("its data lies outside the image"))?;
        Ok(Self { data, address, len, attributes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts as an image describes them: offset and length of the data, address and length of the memory, kind, attributes.
    type Entry = (u32, u32, u64, u64, u32, u32);

    const PARTS: [Entry; 4] = [
        (0, 0x1100, 0xffff_e000, 0x2000, 0, MEASURED),
        (0x1100, 0x100, 0xffff_d000, 0x1000, 1, 0),
        (0, 0, 0x80_9000, 0x1000, 2, 0),
        (0, 0, 0x10_0000, 0x1000, 4, ADDED_LATER),
    ];

    /// An image of the form of OVMF's.
    fn image(parts: &[Entry]) -> Vec<u8> {
        let mut image: Vec<u8> = (0..0x1200_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let description = image.len();
        image.extend(b"TDVF");
        image.extend(u32::try_from(16 + 32 * parts.len()).unwrap().to_le_bytes());
        image.extend(1_u32.to_le_bytes());
        image.extend(u32::try_from(parts.len()).unwrap().to_le_bytes());
        for (offset, data_len, address, len, kind, attributes) in parts {
            image.extend([*offset, *data_len].map(u32::to_le_bytes).as_flattened());
            image.extend([*address, *len].map(u64::to_le_bytes).as_flattened());
            image.extend([*kind, *attributes].map(u32::to_le_bytes).as_flattened());
        }
        // Another entry, ours, and the end.
        let total = image.len() + 22 + 22 + 18 + 32;
        image.extend([9, 9, 9, 9, 22, 0]);
        image.extend([7; 16]);
        let entry = image.len();
        image.extend(u32::try_from(total - description).unwrap().to_le_bytes());
        image.extend([22, 0]);
        image.extend(DESCRIPTION_OFFSET);
        assert_eq!(image.len(), entry + 22);
        image.extend(u16::try_from(22 + 22 + 18).unwrap().to_le_bytes());
        image.extend(TABLE_END);
        image.extend([0x90; 32]);
        assert_eq!(image.len(), total);
        image
    }

    /// Computed by another program (Python's `hashlib`) on the same bytes. The same program gives for Ubuntu's OVMF 2025.02-3ubuntu2 what is
    /// published for it, and so does this one.
    #[test]
    fn registers_are_those_of_another_program() {
        let image = image(&PARTS);
        let of = |order| mrtd(&image, order).unwrap().to_string();
        assert_eq!(
            of(PageOrder::PageByPage),
            "7c6d0884b597f7a3999324b094141f76ce6a43c8555f1c27db578d1c794d77520f72eb657b1c9af964df66f1deb8d1ac"
        );
        assert_eq!(
            of(PageOrder::AllThenMeasured),
            "088a54ba9a7a23ba724266bab4ef15edf66a2627f8cc5e01f34e27f6167ec24979a58ee249c661e8ab7c3f4928b16c0e"
        );
    }

    #[test]
    fn what_is_measured_counts_and_what_is_not_does_not() {
        let whole = image(&PARTS);
        let of = |image: &[u8]| mrtd(image, PageOrder::PageByPage).unwrap();
        let with = |at: usize| {
            let mut image = whole.clone();
            image[at] ^= 1;
            of(&image)
        };
        assert_ne!(with(0), of(&whole));
        assert_ne!(with(0x10ff), of(&whole));
        assert_eq!(with(0x1100), of(&whole), "variables are not measured here");
        let moved = image(&[PARTS[0], PARTS[1], (0, 0, 0x80_a000, 0x1000, 2, 0), PARTS[3]]);
        assert_ne!(of(&moved), of(&whole));
        let later = image(&[PARTS[0], PARTS[1], PARTS[2], (0, 0, 0x20_0000, 1 << 40, 4, ADDED_LATER)]);
        assert_eq!(of(&later), of(&whole), "memory that is added later is not measured");
    }

    #[test]
    fn other_images_are_refused() {
        let of = |image: &[u8]| mrtd(image, PageOrder::PageByPage).unwrap_err();
        let whole = image(&PARTS);
        for bytes in [&[][..], &[0; 50], &[0; 5000], &whole[..whole.len() - 1]] {
            let refused = of(bytes);
            assert!(matches!(refused, FirmwareError::NotTdvf { .. }), "{refused}");
        }
        let description = whole.windows(4).position(|bytes| bytes == b"TDVF").unwrap();
        let mut newer = whole.clone();
        newer[description + 8] = 2;
        assert_eq!(of(&newer), FirmwareError::Version { found: 2 });
        let mut many = whole.clone();
        many[description + 12..][..4].fill(0xff);
        assert!(matches!(of(&many), FirmwareError::Part { .. }));
        for wrong in [
            (0, 0x100, 0x1001, 0x1000, 0, 1),
            (0, 0x100, 0x1000, 0x1001, 0, 1),
            (0, 0x1001, 0x1000, 0x1000, 0, 1),
            (0x2_0000, 1, 0x1000, 0x1000, 0, 1),
            (u32::MAX, 0x1000, 0x1000, 0x1000, 0, 1),
            (0, 0, u64::MAX - 0xfff, 0x1000, 0, 0),
            (0, 0, 0x1000, 1 << 40, 3, 0),
        ] {
            let refused = of(&image(&[PARTS[0], wrong]));
            assert!(matches!(refused, FirmwareError::Part { part: 1, .. }), "{wrong:x?}: {refused}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_image_is_measured_or_refused(
            changes in proptest::collection::vec((0x1200..0x1340_usize, proptest::num::u8::ANY), 1..6),
        ) {
            let mut image = image(&PARTS);
            for (at, byte) in changes {
                if let Some(old) = image.get_mut(at) {
                    *old = byte;
                }
            }
            let _ = mrtd(&image, PageOrder::AllThenMeasured);
        }
    }
}
