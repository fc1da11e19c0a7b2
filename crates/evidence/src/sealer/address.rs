//! Where a sealer is.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::vsock;

/// Where a sealer is. As text `vsock:HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SealerAddress {
    /// Another part of the machine (`vsock(7)`).
    Vsock {
        /// Its number; 2 is the host.
        cid: u32,
        /// Its port.
        port: u32,
    },
    /// A socket in the file system: for development, or for whatever carries the bytes on.
    Unix(PathBuf),
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealer's address is vsock:CID:PORT, such as vsock:2:12345, or unix:PATH, found {found:?}")]
pub struct SealerAddressError {
    found: String,
}

/// Where the deployed one listens: on the host.
impl Default for SealerAddress {
    fn default() -> Self {
        Self::Vsock { cid: vsock::HOST, port: 12_345 }
    }
}

impl FromStr for SealerAddress {
    type Err = SealerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Some(Self::Unix(path.into())),
            Some(("vsock", numbers)) => numbers.split_once(':').and_then(|(cid, port)| {
                Some(Self::Vsock { cid: cid.parse().ok()?, port: port.parse().ok()? })
            }),
            _ => None,
        };
        address.ok_or_else(|| SealerAddressError { found: text.chars().take(100).collect() })
    }
}

impl fmt::Display for SealerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl TryFrom<String> for SealerAddress {
    type Error = SealerAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SealerAddress> for String {
    fn from(address: SealerAddress) -> Self {
        address.to_string()
    }
}

impl SealerAddress {
    pub(super) async fn connect(&self) -> io::Result<UnixStream> {
        match self {
            Self::Vsock { cid, port } => connect_vsock(*cid, *port).await,
            Self::Unix(path) => UnixStream::connect(path).await,
        }
    }
}

/// A stream to another part of the machine. It is read and written as one in the file system is, and nothing else is done with it.
async fn connect_vsock(cid: u32, port: u32) -> io::Result<UnixStream> {
    let connecting = tokio::task::spawn_blocking(move || {
        let socket = vsock::connect(cid, port, super::EXCHANGE_TIMEOUT)?;
        socket.set_nonblocking(true)?;
        Ok::<_, io::Error>(socket)
    });
    UnixStream::from_std(connecting.await.map_err(io::Error::other)??.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_their_text_says() {
        let vsock = SealerAddress::Vsock { cid: 2, port: 12_345 };
        assert_eq!(SealerAddress::default(), vsock);
        for (text, address) in
            [("vsock:2:12345", vsock), ("unix:/run/a:b", SealerAddress::Unix("/run/a:b".into()))]
        {
            assert_eq!(text.parse(), Ok(address.clone()));
            assert_eq!(address.to_string(), text);
        }
        for refused in ["", "vsock:2", "vsock:2:x", "vsock:-1:2", "unix:", "127.0.0.1:1", "vsock:2:3:4"] {
            assert!(refused.parse::<SealerAddress>().is_err(), "{refused}");
        }
    }

    /// There is no such port, or no such kind of socket: an error, and no wait for one.
    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let nobody = SealerAddress::Vsock { cid: 1, port: 4_000_000_000 };
        assert!(nobody.connect().await.is_err());
        assert!(SealerAddress::Unix("/nowhere/at/all".into()).connect().await.is_err());
    }
}
