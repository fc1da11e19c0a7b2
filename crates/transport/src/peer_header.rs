//! The attested-peer header: what a router tells the local program about the peer, once, before any frame.
//!
//! A little-endian u32 length and a body of that length. Routers of the deployed network send it on the local hop in
//! both directions of connecting: to a program that accepts, and to one that connects through SOCKS5.
//!
//! The header is not authenticated. Whoever can connect to the local port can claim anything in it.

use std::net::{IpAddr, SocketAddr};

use attest::{Measurements, SnpMeasurements, TdxMeasurements};
use units::PublicKey;

/// What a router says about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHeader {
    /// Measurements from the peer's quote; `None` when the router's policy did not ask for one.
    pub attestation: Option<Measurements>,
    /// Identifies the root of trust of the quote's collateral; zero unless the quote was a real one.
    pub collateral_root_hash: [u8; 48],
    /// The key of the peer's certificate.
    pub public_key: PublicKey,
    /// Who opened the connection to the router.
    pub source: SocketAddr,
    /// Where the router connected to.
    pub destination: SocketAddr,
}

/// Why a header was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerHeaderError {
    /// Longer than the deployed network accepts.
    #[error("the peer header announces {found} bytes, at most {} are accepted", PeerHeader::LEN_MAX)]
    TooLong {
        /// The announced length of the body.
        found: u32,
    },
    /// The body ends early, goes on, or its strings are malformed.
    #[error("the peer header is not exactly one object")]
    Malformed,
    /// A number that selects a form is none of those defined.
    #[error("the peer header has {field} {found}, which is none that there are")]
    UnknownForm {
        /// Which number.
        field: &'static str,
        /// Its value.
        found: i32,
    },
    /// The claims are not a public key.
    #[error("the peer header carries claims of {found} bytes, expected a key of 32")]
    KeyLength {
        /// Their length.
        found: usize,
    },
    /// An address or port cannot be read.
    #[error("the peer header has a malformed {field}")]
    Address {
        /// Which one.
        field: &'static str,
    },
}

impl PeerHeader {
    /// Largest body in bytes.
    pub const LEN_MAX: usize = 16_536;

    /// Reads the four bytes before the body: how long the body is.
    ///
    /// # Errors
    /// [`PeerHeaderError::TooLong`] above [`PeerHeader::LEN_MAX`].
    pub fn decode_len(bytes: [u8; 4]) -> Result<usize, PeerHeaderError> {
        let found = u32::from_le_bytes(bytes);
        match usize::try_from(found) {
            Ok(len) if len <= Self::LEN_MAX => Ok(len),
            _ => Err(PeerHeaderError::TooLong { found }),
        }
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`PeerHeaderError`] names what is wrong.
    pub fn decode(body: &[u8]) -> Result<Self, PeerHeaderError> {
        let mut rest = Rest(body);
        let attestation = match rest.int()? {
            0 => None,
            1 => Some(match rest.int()? {
                0 => {
                    let mut registers = [[0; 48]; 8];
                    for register in &mut registers {
                        *register = rest.take()?;
                    }
                    Measurements::Tdx(Box::new(TdxMeasurements { registers, report_data: rest.take()? }))
                }
                1 => Measurements::Sgx { mrenclave: rest.take()?, report_data: rest.take()? },
                2 => Measurements::Snp(Box::new(SnpMeasurements {
                    measurement: rest.take()?,
                    host_data: rest.take()?,
                    report_data: rest.take()?,
                })),
                found => return Err(PeerHeaderError::UnknownForm { field: "attestation type", found }),
            }),
            found => return Err(PeerHeaderError::UnknownForm { field: "attestation flag", found }),
        };
        let collateral_root_hash = rest.take()?;
        let claims = rest.bytes()?;
        let public_key = claims.try_into().map(PublicKey::new);
        let public_key = public_key.or(Err(PeerHeaderError::KeyLength { found: claims.len() }))?;
        let source = rest.address("source")?;
        let destination = rest.address("destination")?;
        if !rest.0.is_empty() {
            return Err(PeerHeaderError::Malformed);
        }
        Ok(Self { attestation, collateral_root_hash, public_key, source, destination })
    }

    /// Length and body, as a router sends them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_int(&mut body, self.attestation.is_some().into());
        match &self.attestation {
            None => {}
            Some(Measurements::Tdx(measurements)) => {
                put_int(&mut body, 0);
                body.extend_from_slice(measurements.registers.as_flattened());
                body.extend_from_slice(&measurements.report_data);
            }
            Some(Measurements::Sgx { mrenclave, report_data }) => {
                put_int(&mut body, 1);
                body.extend_from_slice(mrenclave);
                body.extend_from_slice(report_data);
            }
            // Ours: routers of the deployed network know no SEV-SNP.
            Some(Measurements::Snp(measurements)) => {
                put_int(&mut body, 2);
                body.extend_from_slice(&measurements.measurement);
                body.extend_from_slice(&measurements.host_data);
                body.extend_from_slice(&measurements.report_data);
            }
        }
        body.extend_from_slice(&self.collateral_root_hash);
        put_short_bytes(&mut body, self.public_key.as_bytes());
        for address in [self.source, self.destination] {
            put_short_bytes(&mut body, address.ip().to_string().as_bytes());
            put_int(&mut body, address.port().into());
        }
        let len = u32::try_from(body.len()).expect("every part has a fixed or small size");
        [len.to_le_bytes().as_slice(), &body].concat()
    }
}

/// What is still to be read. Numbers and strings are those of TL.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], PeerHeaderError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(PeerHeaderError::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn int(&mut self) -> Result<i32, PeerHeaderError> {
        self.take().map(i32::from_le_bytes)
    }

    /// A string: length, bytes, padding to a multiple of four. Its length fits two bytes, since the body does.
    fn bytes(&mut self) -> Result<&'a [u8], PeerHeaderError> {
        let (header_len, len) = match *self.0 {
            [len @ 0..=253, ..] => (1, usize::from(len)),
            [254, low, high, 0, ..] => (4, usize::from(u16::from_le_bytes([low, high]))),
            [255, low, high, 0, 0, 0, 0, 0, ..] => (8, usize::from(u16::from_le_bytes([low, high]))),
            _ => return Err(PeerHeaderError::Malformed),
        };
        let padded_len = (header_len + len).next_multiple_of(4);
        let (string, rest) = self.0.split_at_checked(padded_len).ok_or(PeerHeaderError::Malformed)?;
        self.0 = rest;
        Ok(&string[header_len..][..len])
    }

    fn address(&mut self, field: &'static str) -> Result<SocketAddr, PeerHeaderError> {
        let (ip, port) = (self.bytes()?, self.int()?);
        let ip: Option<IpAddr> = str::from_utf8(ip).ok().and_then(|text| text.parse().ok());
        let address = ip.zip(u16::try_from(port).ok()).map(SocketAddr::from);
        address.ok_or(PeerHeaderError::Address { field })
    }
}

fn put_int(out: &mut Vec<u8>, number: i32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u8::try_from(bytes.len()).expect("keys and addresses have less than 254 bytes");
    out.push(len);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests;
