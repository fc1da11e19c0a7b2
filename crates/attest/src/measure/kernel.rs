//! RTMR1, from a kernel that QEMU starts directly.
//!
//! OVMF hashes the kernel as it would for the signature of a program (Windows Authenticode Portable Executable Signature Format; TCG PC Client
//! Platform Firmware Profile, `EV_EFI_BOOT_SERVICES_APPLICATION`), and adds words about what it does next.

use sha2::{Digest as _, Sha384};

use super::extended;
use crate::measurements::Register;

/// A kernel that cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// No such file.
    #[error("this is no kernel with an EFI stub (CONFIG_EFI_STUB): {what}")]
    NotEfi {
        /// What is wrong.
        what: &'static str,
    },
}

/// What OVMF tells of what it does, and what it hashes at the end of its own part.
const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
const SEPARATOR: &[u8] = &[0; 4];
const EXITING: &[u8] = b"Exit Boot Services Invocation";
const EXITED: &[u8] = b"Exit Boot Services Returned with Success";

/// Sections that a program may have.
const SECTIONS_MAX: u16 = 96;
/// The entry of the table of directories that names the signatures.
const SIGNATURES: usize = 4;

/// RTMR1 of a guest with this kernel under firmware that loads it as it is in the file: OVMF from edk2-stable202505 on. Before, QEMU's changes
/// to the kernel's head, which depend on the guest's memory, were measured too.
///
/// # Errors
/// [`KernelError`] if it is no program for EFI.
pub fn rtmr1(kernel: &[u8]) -> Result<Register, KernelError> {
    let kernel = authenticode(kernel)?;
    let [calling, separator, exiting, exited] =
        [CALLING, SEPARATOR, EXITING, EXITED].map(|words| Sha384::digest(words).into());
    Ok(extended([kernel, calling, separator, exiting, exited]))
}

/// The hash of a program without what a signature changes: its checksum, and where its signatures are.
fn authenticode(file: &[u8]) -> Result<[u8; 48], KernelError> {
    let refused = |what| KernelError::NotEfi { what };
    let cut = || refused("it is cut off");
    let program = Bytes(file);
    if !file.starts_with(b"MZ") {
        return Err(refused("it does not begin with MZ"));
    }
    let head = program.number(0x3c).ok_or_else(cut)?;
    if program.slice(head, 4) != Some(b"PE\0\0") {
        return Err(refused("its PE header is missing"));
    }
    // The header of the file has 24 bytes with its signature; the optional one follows it.
    let sections = program.short(head + 6).ok_or_else(cut)?;
    let optional = head + 24;
    let optional_len = usize::from(program.short(head + 20).ok_or_else(cut)?);
    let directories = match program.short(optional).ok_or_else(cut)? {
        0x10b => optional + 96,
        0x20b => optional + 112,
        _ => return Err(refused("its optional header is of no known kind")),
    };
    if sections > SECTIONS_MAX {
        return Err(refused("it has more than 96 sections"));
    }
    let checksum = optional + 64;
    let headers_len = program.number(optional + 60).ok_or_else(cut)?;
    let entry = directories + 8 * SIGNATURES;
    let has_entry = program.number(directories - 4).ok_or_else(cut)? > SIGNATURES;
    let (signatures, after) = if has_entry { (entry, entry + 8) } else { (checksum + 4, checksum + 4) };
    let signatures_len = if has_entry { program.number(entry + 4).ok_or_else(cut)? } else { 0 };

    let mut hash = Sha384::new();
    for (from, to) in [(0, checksum), (checksum + 4, signatures), (after, headers_len)] {
        hash.update(file.get(from..to).ok_or(refused("its headers end too early"))?);
    }
    let table = optional + optional_len;
    let mut parts = Vec::new();
    for section in 0..usize::from(sections) {
        let at = table + 40 * section;
        let (len, offset) = program.number(at + 16).zip(program.number(at + 20)).ok_or_else(cut)?;
        if len > 0 {
            parts.push((offset, len));
        }
    }
    parts.sort_by_key(|(offset, _len)| *offset);
    let mut hashed = headers_len;
    for (offset, len) in parts {
        hash.update(program.slice(offset, len).ok_or(refused("a section lies outside the file"))?);
        hashed += len;
    }
    // What follows the sections, up to the signatures.
    let rest = file.len().saturating_sub(hashed);
    if rest > signatures_len {
        hash.update(program.slice(hashed, rest - signatures_len).ok_or_else(cut)?);
    }
    Ok(hash.finalize().into())
}

/// A file, read at places that it names itself. They are below 2^32, so that on machines of 64 bits no sum of a few overflows.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn slice(self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..)?.get(..len)
    }

    fn short(self, at: usize) -> Option<u16> {
        self.0.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn number(self, at: usize) -> Option<usize> {
        let bytes = self.0.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: usize = 0x80;
    const OPTIONAL: usize = HEAD + 24;
    const CHECKSUM: usize = OPTIONAL + 64;
    const SIGNATURE_ENTRY: usize = OPTIONAL + 112 + 32;

    /// A program of two sections, the second before the first in the file, and something behind them.
    fn program(signatures: &[u8]) -> Vec<u8> {
        let mut file: Vec<u8> = (0..0x640_u32).map(|at| u8::try_from(at % 249).unwrap()).collect();
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &0x80_u32.to_le_bytes());
        put(HEAD, b"PE\0\0");
        put(HEAD + 6, &2_u16.to_le_bytes());
        put(HEAD + 20, &240_u16.to_le_bytes());
        put(OPTIONAL, &0x20b_u16.to_le_bytes());
        put(OPTIONAL + 60, &0x200_u32.to_le_bytes());
        put(OPTIONAL + 108, &16_u32.to_le_bytes());
        let (at, len) = if signatures.is_empty() { (0, 0) } else { (0x640, signatures.len()) };
        put(SIGNATURE_ENTRY, &u32::try_from(at).unwrap().to_le_bytes());
        put(SIGNATURE_ENTRY + 4, &u32::try_from(len).unwrap().to_le_bytes());
        let table = OPTIONAL + 240;
        for (section, offset, len) in [(0, 0x400_u32, 0x200_u32), (1, 0x200, 0x200)] {
            put(table + 40 * section + 16, &len.to_le_bytes());
            put(table + 40 * section + 20, &offset.to_le_bytes());
        }
        [&file, signatures].concat()
    }

    fn hex(file: &[u8]) -> String {
        hex::encode(authenticode(file).unwrap())
    }

    /// What is left out is left out by hand here.
    #[test]
    fn a_program_is_hashed_without_what_a_signature_changes() {
        let file = program(&[]);
        let mut left = file[..CHECKSUM].to_vec();
        left.extend(&file[CHECKSUM + 4..SIGNATURE_ENTRY]);
        left.extend(&file[SIGNATURE_ENTRY + 8..]);
        assert_eq!(hex(&file), hex::encode(Sha384::digest(&left)));
        // Signing it changes nothing, and neither does the checksum.
        let mut signed = program(&[0x55; 0x48]);
        signed[CHECKSUM] ^= 1;
        assert_eq!(hex(&signed), hex(&file));
        for at in [3, HEAD + 30, 0x200, 0x3ff, 0x400, 0x5ff, 0x63f] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_ne!(hex(&changed), hex(&file), "{at:#x}");
        }
    }

    #[test]
    fn the_register_holds_what_the_firmware_does() {
        let register = rtmr1(&program(&[])).unwrap();
        let kernel = authenticode(&program(&[])).unwrap();
        let mut expected = [0; 48];
        let words: [&[u8]; 4] = [
            b"Calling EFI Application from Boot Option",
            &[0; 4],
            b"Exit Boot Services Invocation",
            b"Exit Boot Services Returned with Success",
        ];
        let words = words.map(|words| <[u8; 48]>::from(Sha384::digest(words)));
        for digest in [kernel].into_iter().chain(words) {
            expected = Sha384::digest([expected, digest].as_flattened()).into();
        }
        assert_eq!(register.as_bytes(), &expected);
    }

    #[test]
    fn other_files_are_refused() {
        let file = program(&[]);
        for len in [0, 1, 0x3f, 0x83, HEAD + 6, OPTIONAL, CHECKSUM, SIGNATURE_ENTRY, 0x1ff, 0x210, 0x5ff] {
            assert!(authenticode(&file[..len]).is_err(), "{len:#x}");
        }
        for (at, bytes) in [
            (0, &b"ZM"[..]),
            (HEAD, b"NE"),
            (0x3c, &[0xff; 4]),
            (OPTIONAL, &[0; 2]),
            (HEAD + 6, &[0xff; 2]),
            (OPTIONAL + 60, &[0xff; 4]),
            (OPTIONAL + 240 + 20, &[0xff; 4]),
        ] {
            let mut changed = file.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(authenticode(&changed).is_err(), "{at:#x}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_measured_or_refused(
            changes in proptest::collection::vec((0..0x200_usize, proptest::num::u8::ANY), 1..8),
        ) {
            let mut file = program(&[1; 16]);
            for (at, byte) in changes {
                file[at] = byte;
            }
            let _ = rtmr1(&file);
        }
    }
}
