//! Streams to other parts of the machine, such as a guest's host (`vsock(7)`).

use std::io;
use std::time::Duration;

use socket2::Socket;

/// The host, as its guests number it.
pub(crate) const HOST: u32 = 2;

/// A stream to a port there, as the blocking calls of the system have it.
#[cfg(target_os = "linux")]
pub(crate) fn connect(cid: u32, port: u32, timeout: Duration) -> io::Result<Socket> {
    use socket2::{Domain, SockAddr, Type};

    let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
    socket.connect_timeout(&SockAddr::vsock(cid, port), timeout)?;
    Ok(socket)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn connect(_cid: u32, _port: u32, _timeout: Duration) -> io::Result<Socket> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "vsock is there under Linux only"))
}
