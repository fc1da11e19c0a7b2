//! What the registers of a TDX guest will hold, from the files of its image, before anybody starts it.
//!
//! - [`mrtd`]: the firmware, by the rules of Intel's TDX module and virtual firmware (TDVF).
//! - [`rtmr1`], [`rtmr2`]: kernel, initial RAM disk and command line, where QEMU starts the kernel directly (`-kernel`) under OVMF.
//! - [`rtmr3`]: the lines that the deployed network's guests add, one of which holds the [`GitTree`] of the image's specification.
//!
//! RTMR0 is not here: it holds the ACPI tables, which QEMU makes of the whole machine, down to each of its devices.

mod firmware;
mod kernel;
mod tree;

use sha2::{Digest as _, Sha384};

use crate::event_log;
use crate::measurements::{Hex, Register};

pub use firmware::{FirmwareError, PageOrder, mrtd};
pub use kernel::{KernelError, rtmr1};
pub use tree::{GitTree, GitTreeError, GitTreeId};

/// RTMR2: the kernel measures its command line, to which OVMF adds where the RAM disk is, and then the RAM disk.
///
/// The rule is that of Linux's EFI stub (`drivers/firmware/efi/libstub`), for guests that have a RAM disk.
#[must_use]
pub fn rtmr2(command_line: &str, ram_disk: &[u8]) -> Register {
    let whole = format!("{command_line} initrd=initrd\0");
    let utf16: Vec<u8> = whole.encode_utf16().flat_map(u16::to_le_bytes).collect();
    extended([Sha384::digest(&utf16).into(), Sha384::digest(ram_disk).into()])
}

/// RTMR3 of a guest whose specification has this tree: what the deployed network's guests add to it, in the order in which they do.
#[must_use]
pub fn rtmr3_lines(spec: &GitTreeId, is_debug: bool) -> Vec<String> {
    let mut lines = vec![format!("cocoon:spec.tree={spec}")];
    lines.extend(is_debug.then(|| "cocoon:cocoon_debug".to_owned()));
    lines.push("cocoon:tdx_inited".to_owned());
    lines
}

/// RTMR3 after these lines.
#[must_use]
pub fn rtmr3<'a>(lines: impl IntoIterator<Item = &'a str>) -> Register {
    let [.., register] = event_log::replay(&[], lines);
    register
}

/// What a register holds after these digests.
fn extended<const N: usize>(digests: [[u8; 48]; N]) -> Register {
    let register = digests
        .iter()
        .fold([0; 48], |register, digest| Sha384::digest([register, *digest].as_flattened()).into());
    Hex::new(register)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_and_ram_disk_are_measured_in_order() {
        let register = rtmr2("console=hvc0 root=/dev/vda1", b"ram disk");
        let text = "c\0o\0n\0s\0o\0l\0e\0=\0h\0v\0c\x000\0 \0r\0o\0o\0t\0=\0/\0d\0e\0v\0/\0v\0d\0a\x001\0 \0i\0n\0i\0t\0r\0d\0=\0i\0n\0i\0t\0r\0d\0\0\0";
        let first: [u8; 48] = Sha384::digest(text).into();
        let first: [u8; 48] = Sha384::digest([[0; 48], first].as_flattened()).into();
        let second: [u8; 48] = Sha384::digest(b"ram disk").into();
        let second: [u8; 48] = Sha384::digest([first, second].as_flattened()).into();
        assert_eq!(register, Hex::new(second));
        for other in
            [rtmr2("console=hvc0 root=/dev/vda2", b"ram disk"), rtmr2("console=hvc0 root=/dev/vda1", b"")]
        {
            assert_ne!(other, register);
        }
    }

    #[test]
    fn lines_are_those_of_the_guests() {
        let spec = GitTreeId::new([0xab; 32]);
        let first = format!("cocoon:spec.tree={}", "ab".repeat(32));
        assert_eq!(rtmr3_lines(&spec, false), [first.as_str(), "cocoon:tdx_inited"]);
        let debug = rtmr3_lines(&spec, true);
        assert_eq!(debug, [first.as_str(), "cocoon:cocoon_debug", "cocoon:tdx_inited"]);
        let digests = [first.as_str(), "cocoon:tdx_inited"].map(|line| Sha384::digest(line).into());
        assert_eq!(rtmr3(rtmr3_lines(&spec, false).iter().map(String::as_str)), extended(digests));
        assert_ne!(rtmr3(debug.iter().map(String::as_str)), extended(digests));
    }
}
