//! The client side of SOCKS5 (RFC 1928), as far as routers of the deployed network need it: no authentication,
//! `CONNECT`, IPv4.
//!
//! Such a router answers as soon as it *begins* to connect, and reports the peer with a
//! [`PeerHeader`](crate::peer_header::PeerHeader) once it has verified it; a failure closes without a word.

use std::net::SocketAddrV4;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::error::{ConnectError, Phase};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const CONNECT: u8 = 1;
const ADDRESS_IPV4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_IPV6: u8 = 4;

/// Why a router refused. Ours to fix: the router or the address of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocksError {
    /// Another protocol answers at the router's address.
    #[error("expected SOCKS version 5, found {found}")]
    Version {
        /// First byte of a reply.
        found: u8,
    },
    /// The router wants authentication.
    #[error("the router does not accept connections without authentication")]
    Authentication,
    /// The router refused to connect.
    #[error("the router answered with code {code} (RFC 1928, section 6)")]
    Refused {
        /// The reply code.
        code: u8,
    },
    /// The reply has an unknown form.
    #[error("the router's reply has the unknown address type {found}")]
    AddressType {
        /// The type.
        found: u8,
    },
}

/// Asks the router behind `stream` to connect to `target`. Reads exactly the router's replies.
///
/// # Errors
/// [`ConnectError::Socks`], or [`ConnectError::Io`] when the router closes.
pub(crate) async fn connect<S>(stream: &mut S, target: SocketAddrV4) -> Result<(), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |source| ConnectError::Io { phase: Phase::Socks, source };
    stream.write_all(&[VERSION, 1, NO_AUTHENTICATION]).await.map_err(failed)?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.map_err(failed)?;
    match method {
        [VERSION, NO_AUTHENTICATION] => {}
        [VERSION, _] => return Err(SocksError::Authentication.into()),
        [found, _] => return Err(SocksError::Version { found }.into()),
    }

    stream.write_all(&request(target)).await.map_err(failed)?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await.map_err(failed)?;
    let address_len = match reply {
        [VERSION, 0, _, ADDRESS_IPV4] => 4,
        [VERSION, 0, _, ADDRESS_IPV6] => 16,
        [VERSION, 0, _, ADDRESS_NAME] => stream.read_u8().await.map_err(failed)?.into(),
        [VERSION, 0, _, found] => return Err(SocksError::AddressType { found }.into()),
        [VERSION, code, ..] => return Err(SocksError::Refused { code }.into()),
        [found, ..] => return Err(SocksError::Version { found }.into()),
    };
    // The router's own address and port. Deployed routers write it in the wrong byte order; nobody needs it.
    let mut bound = [0; u8::MAX as usize + 2];
    stream.read_exact(&mut bound[..address_len + 2]).await.map_err(failed)?;
    Ok(())
}

fn request(target: SocketAddrV4) -> [u8; 10] {
    let [a, b, c, d] = target.ip().octets();
    let [port_high, port_low] = target.port().to_be_bytes();
    [VERSION, CONNECT, 0, ADDRESS_IPV4, a, b, c, d, port_high, port_low]
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const TARGET: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(203, 0, 113, 7), 11_102);

    /// Runs the client against a router that says `replies`, then `after`; returns what is left to read.
    async fn exchange(replies: &[u8], after: &[u8]) -> Result<Vec<u8>, ConnectError> {
        let (mut ours, mut router) = duplex(1024);
        router.write_all(replies).await.unwrap();
        router.write_all(after).await.unwrap();
        router.shutdown().await.unwrap();
        let mut said = vec![0; 13];
        let result = connect(&mut ours, TARGET).await;
        if result.is_ok() {
            router.read_exact(&mut said).await.unwrap();
            assert_eq!(said, [5, 1, 0, 5, 1, 0, 1, 203, 0, 113, 7, 0x2b, 0x5e]);
        }
        drop(router);
        result?;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        Ok(rest)
    }

    #[tokio::test]
    async fn what_follows_the_reply_is_left_alone() {
        let replies: [&[u8]; 3] = [
            b"\x05\x00\x05\x00\x00\x01\x01\x00\x00\x7f\x12\x34",
            b"\x05\x00\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x34",
            b"\x05\x00\x05\x00\x00\x03\x03abc\x12\x34",
        ];
        for reply in replies {
            assert_eq!(exchange(reply, b"\x78\0\0\0").await.unwrap(), b"\x78\0\0\0");
        }
    }

    #[tokio::test]
    async fn refusals_are_named() {
        let refusals: [(&[u8], SocksError); 6] = [
            (b"\x05\xff", SocksError::Authentication),
            (b"\x05\x02", SocksError::Authentication),
            (b"HT", SocksError::Version { found: b'H' }),
            (b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0", SocksError::Refused { code: 5 }),
            (b"\x05\x00\x04\x00\x00\x01\0\0\0\0\0\0", SocksError::Version { found: 4 }),
            (b"\x05\x00\x05\x00\x00\x02\0\0\0\0\0\0", SocksError::AddressType { found: 2 }),
        ];
        for (replies, expected) in refusals {
            match exchange(replies, &[]).await {
                Err(ConnectError::Socks(found)) => assert_eq!(found, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
        let cut = exchange(b"\x05\x00\x05\x00\x00\x01\0\0", &[]).await;
        assert!(matches!(cut, Err(ConnectError::Io { phase: Phase::Socks, .. })), "{cut:?}");
    }
}
