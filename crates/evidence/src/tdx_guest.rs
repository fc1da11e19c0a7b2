//! Reports and quotes of a guest under TDX by the driver `tdx_guest` (Linux 6.2 and later).
//!
//! The device gives reports, which enclaves of the same machine can verify. Anybody else needs a quote: an enclave of the host makes it of
//! a report, and the host's quote generation service passes both on. That is untrusted, as everything between an enclave and its
//! verifier is.

mod ioctl;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use attest::quote_service::{self, ANSWER_LEN_MAX, AnswerError};
use attest::{Quote, TdReport, TdReportError, Tee};
use socket2::Socket;
use tokio::time::Instant;

use crate::enclave::ProduceError;
use crate::sealer::LocalReports;
use crate::vsock;

/// Where Linux has the device.
pub const TDX_GUEST_DEVICE: &str = "/dev/tdx_guest";

/// Where the host's service listens, unless its configuration says otherwise.
const SERVICE_PORT: u32 = 4050;
/// How long the service may take in all. It gives each guest as much itself.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(30);

/// The driver `tdx_guest`, and the service on the host.
#[derive(Debug)]
pub struct TdxGuest {
    machine: Box<dyn Machine>,
    service_timeout: Duration,
}

/// What is asked of the machine. No file or pipe answers as a device does, so tests bring their own.
trait Machine: fmt::Debug + Send + Sync {
    /// What the device writes. [`io::ErrorKind::NotFound`] if there is none.
    fn report(&self, report_data: &[u8; 64]) -> io::Result<[u8; TdReport::LEN]>;
    /// A stream to the host's service.
    fn connect(&self, timeout: Duration) -> io::Result<Socket>;
}

/// No report, or no quote of it.
#[derive(Debug, thiserror::Error)]
pub enum TdxGuestError {
    /// There is no device.
    #[error(
        "{TDX_GUEST_DEVICE} is not there: it takes a guest under TDX, Linux 6.2 or later in it with CONFIG_TDX_GUEST_DRIVER, and the module \
         tdx_guest (modprobe)"
    )]
    Missing,
    /// Only root may.
    #[error("{TDX_GUEST_DEVICE} may not be opened: run as root, or have the device given to this user")]
    Denied,
    /// The device gave none.
    #[error("{TDX_GUEST_DEVICE} gave no report: the kernel's log says more (dmesg)")]
    NotMade(#[source] io::Error),
    /// The device gave something else.
    #[error("what {TDX_GUEST_DEVICE} gave cannot be read")]
    Report(#[from] TdReportError),
    /// A report of something else.
    #[error("the report of {TDX_GUEST_DEVICE} does not vouch for what it was asked to")]
    OtherReport,
    /// Nobody is there.
    #[error(
        "no quote generation service at vsock:{}:{SERVICE_PORT}: the host has to run qgsd with port = {SERVICE_PORT} in /etc/qgs.conf and give the guest a \
         vsock (QEMU: -device vhost-vsock-pci), and the guest needs the module vmw_vsock_virtio_transport (modprobe)",
        vsock::HOST
    )]
    Connect(#[source] io::Error),
    /// The connection broke. A service that cannot begin says no more than that.
    #[error(
        "the quote generation service gave no whole answer: its log on the host says why (journalctl -u qgsd)"
    )]
    Exchange(#[source] io::Error),
    /// It takes too long.
    #[error("the quote generation service gave no answer within {} s: see to it on the host (systemctl status qgsd)", .limit.as_secs())]
    Slow {
        /// How long it had.
        limit: Duration,
    },
    /// It said something else.
    #[error("the quote generation service gave no quote")]
    Answer(#[from] AnswerError),
    /// A quote that is none, or of something else.
    #[error(
        "what the quote generation service gave is no quote of TDX that can be read, or does not vouch for what it was asked to: update qgsd on \
         the host"
    )]
    OtherQuote,
}

impl Default for TdxGuest {
    fn default() -> Self {
        Self { machine: Box::new(Linux), service_timeout: SERVICE_TIMEOUT }
    }
}

impl TdxGuest {
    /// A report that vouches for `report_data`, for enclaves of this machine.
    ///
    /// # Errors
    /// [`TdxGuestError`].
    pub fn report(&self, report_data: &[u8; 64]) -> Result<TdReport, TdxGuestError> {
        let bytes = self.machine.report(report_data).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => TdxGuestError::Missing,
            io::ErrorKind::PermissionDenied => TdxGuestError::Denied,
            _ => TdxGuestError::NotMade(error),
        })?;
        let report = TdReport::parse(&bytes)?;
        if report.report_data() == report_data { Ok(report) } else { Err(TdxGuestError::OtherReport) }
    }

    /// A quote that vouches for `report_data`. It may take seconds, since the host makes it.
    ///
    /// # Errors
    /// [`TdxGuestError`].
    pub fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TdxGuestError> {
        let report = self.report(report_data)?;
        let answer = self.exchange(&quote_service::request(&report))?;
        let quote = Quote::parse(quote_service::quote_of(&answer)?);
        let is_asked = |quote: &Quote| {
            let claims = quote.claims();
            claims.tee == Tee::Tdx && claims.measurements.report_data() == report_data
        };
        match quote {
            // Without the zeros behind it.
            Ok(quote) if is_asked(&quote) => Ok(quote.as_bytes().to_vec()),
            _ => Err(TdxGuestError::OtherQuote),
        }
    }

    /// Whether the device gives reports, and the host's service is there. No quote is asked for.
    ///
    /// # Errors
    /// [`TdxGuestError`].
    pub fn probe(&self) -> Result<(), TdxGuestError> {
        self.report(&[0; 64])?;
        self.machine.connect(self.service_timeout).map(drop).map_err(TdxGuestError::Connect)
    }

    fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, TdxGuestError> {
        let limit = self.service_timeout;
        let until = Instant::now() + limit;
        let socket = self.machine.connect(limit).map_err(TdxGuestError::Connect)?;
        ask(&mut Timed { socket, until }, request).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => TdxGuestError::Slow { limit },
            _ => TdxGuestError::Exchange(error),
        })
    }
}

/// Both messages are behind their lengths, each in four bytes.
fn ask(stream: &mut (impl Read + Write), request: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(request.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), request].concat())?;
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let found = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
    if found > ANSWER_LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, AnswerError::TooLong { found }));
    }
    let mut answer = vec![0; found];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// A stream that ends at a time, however its bytes are spread until then.
struct Timed {
    socket: Socket,
    until: Instant,
}

impl Timed {
    /// What is left, and not so little that the system takes it for no limit.
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left < Duration::from_millis(1) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// The system's word for a limit that has passed is that there is nothing now.
fn in_time(outcome: io::Result<usize>) -> io::Result<usize> {
    outcome.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        in_time(self.socket.read(bytes))
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        in_time(self.socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Linux, in a guest under TDX.
#[derive(Debug)]
struct Linux;

impl Machine for Linux {
    fn report(&self, report_data: &[u8; 64]) -> io::Result<[u8; TdReport::LEN]> {
        ioctl::report(&File::options().read(true).write(true).open(TDX_GUEST_DEVICE)?, report_data)
    }

    fn connect(&self, timeout: Duration) -> io::Result<Socket> {
        vsock::connect(vsock::HOST, SERVICE_PORT, timeout)
    }
}

impl LocalReports for TdxGuest {
    fn report(&self, report_data: &[u8; 64]) -> Result<TdReport, ProduceError> {
        self.report(report_data).map_err(|error| ProduceError(error.into()))
    }
}

#[cfg(test)]
mod tests;
