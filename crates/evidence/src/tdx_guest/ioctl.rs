//! The one call of the kernel for which nobody has a safe function: `TDX_CMD_GET_REPORT0` of `/dev/tdx_guest`.
#![expect(
    unsafe_code,
    reason = "the compiler cannot know what a device writes where; this module is the only one that answers for it"
)]

use std::fs::File;
use std::io;

use attest::TdReport;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `struct tdx_report_req` of `linux/tdx-guest.h`.
#[repr(C)]
struct Request {
    report_data: [u8; 64],
    report: [u8; TdReport::LEN],
}

/// `TDX_CMD_GET_REPORT0` there: it reads and writes a [`Request`].
const GET_REPORT: Opcode = opcode::read_write::<Request>(b'T', 1);

/// Has the driver of an open `/dev/tdx_guest` write a report that vouches for `report_data`.
pub(super) fn report(device: &File, report_data: &[u8; 64]) -> io::Result<[u8; TdReport::LEN]> {
    let mut request = Request { report_data: *report_data, report: [0; TdReport::LEN] };
    rustix::io::retry_on_intr(|| {
        // SAFETY: a driver that knows this number writes nothing but the 1024 bytes of `report` in a `Request`, which is of the layout that
        // the number names, is ours alone meanwhile and may hold any bytes. The number has the length of a `Request` in it, so that no
        // other driver takes it for something longer; one that does not know it returns an error.
        unsafe { ioctl(device, Updater::<GET_REPORT, Request>::new(&mut request)) }
    })?;
    Ok(request.report)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel's header gives it: `_IOWR('T', 1, struct tdx_report_req)`.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_call_has_the_kernel_s_number() {
        assert_eq!((GET_REPORT, size_of::<Request>()), (0xc440_5401, 1088));
    }

    #[test]
    fn another_device_gives_no_report() {
        let error = report(&File::open("/dev/null").unwrap(), &[7; 64]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NOTTY.raw_os_error()));
    }
}
