//! The attested-peer header: what a router tells the local program about the peer, once, before any frame.
//!
//! A little-endian u32 length and a body of that length. Routers of the deployed network send it on the local hop in
//! both directions of connecting: to a program that accepts, and to one that connects through SOCKS5.
//!
//! The header is not authenticated. Whoever can connect to the local port can claim anything in it.

use std::net::{IpAddr, SocketAddr};

use sha2::{Digest as _, Sha256};
use tl_proto::{TlError, TlRead as _, TlWrite as _};
use units::{ImageHash, PublicKey};

/// What a router says about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHeader {
    /// Measurements from the peer's quote; `None` when the router's policy did not ask for one.
    pub attestation: Option<Attestation>,
    /// Identifies the root of trust of the quote's collateral; zero unless the quote was a real one.
    pub collateral_root_hash: [u8; 48],
    /// The key of the peer's certificate.
    pub public_key: PublicKey,
    /// Who opened the connection to the router.
    pub source: SocketAddr,
    /// Where the router connected to.
    pub destination: SocketAddr,
}

/// Measurements of an enclave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attestation {
    /// Intel TDX.
    Tdx(Box<TdxMeasurements>),
    /// Intel SGX.
    Sgx {
        /// Measurement of the enclave.
        mrenclave: [u8; 32],
        /// What the enclave vouches for.
        report_data: [u8; 64],
    },
}

/// Registers of a TDX guest, in the order in which they are hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxMeasurements {
    /// MRTD, MRCONFIGID, MROWNER, MROWNERCONFIG, RTMR0, RTMR1, RTMR2, RTMR3.
    pub registers: [[u8; 48]; 8],
    /// What the guest vouches for.
    pub report_data: [u8; 64],
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
    #[error("the peer header has {field} {found}, expected 0 or 1")]
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

impl From<TlError> for PeerHeaderError {
    fn from(_error: TlError) -> Self {
        Self::Malformed
    }
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
    pub fn decode(mut body: &[u8]) -> Result<Self, PeerHeaderError> {
        let rest = &mut body;
        let attestation = match i32::read_from(rest)? {
            0 => None,
            1 => Some(match i32::read_from(rest)? {
                0 => Attestation::Tdx(Box::new(TdxMeasurements {
                    registers: read_registers(rest)?,
                    report_data: <[u8; 64]>::read_from(rest)?,
                })),
                1 => Attestation::Sgx {
                    mrenclave: <[u8; 32]>::read_from(rest)?,
                    report_data: <[u8; 64]>::read_from(rest)?,
                },
                found => return Err(PeerHeaderError::UnknownForm { field: "attestation type", found }),
            }),
            found => return Err(PeerHeaderError::UnknownForm { field: "attestation flag", found }),
        };
        let collateral_root_hash = <[u8; 48]>::read_from(rest)?;
        let claims = <&[u8]>::read_from(rest)?;
        let public_key = claims.try_into().map(PublicKey::new);
        let public_key = public_key.or(Err(PeerHeaderError::KeyLength { found: claims.len() }))?;
        let source = read_address(rest, "source")?;
        let destination = read_address(rest, "destination")?;
        if !rest.is_empty() {
            return Err(PeerHeaderError::Malformed);
        }
        Ok(Self { attestation, collateral_root_hash, public_key, source, destination })
    }

    /// Length and body, as a router sends them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        i32::from(self.attestation.is_some()).write_to(&mut body);
        match &self.attestation {
            None => {}
            Some(Attestation::Tdx(measurements)) => {
                0i32.write_to(&mut body);
                body.extend_from_slice(measurements.registers.as_flattened());
                body.extend_from_slice(&measurements.report_data);
            }
            Some(Attestation::Sgx { mrenclave, report_data }) => {
                1i32.write_to(&mut body);
                body.extend_from_slice(mrenclave);
                body.extend_from_slice(report_data);
            }
        }
        body.extend_from_slice(&self.collateral_root_hash);
        self.public_key.as_bytes().as_slice().write_to(&mut body);
        for address in [self.source, self.destination] {
            address.ip().to_string().as_bytes().write_to(&mut body);
            i32::from(address.port()).write_to(&mut body);
        }
        let len = u32::try_from(body.len()).expect("every part has a fixed or small size");
        [len.to_le_bytes().as_slice(), &body].concat()
    }
}

impl Attestation {
    /// What the measured image is known by: SHA-256 over the measurements, with the report data as zeros.
    #[must_use]
    pub fn image_hash(&self) -> ImageHash {
        let mut hash = Sha256::new();
        match self {
            Self::Tdx(measurements) => hash.update(measurements.registers.as_flattened()),
            Self::Sgx { mrenclave, .. } => hash.update(mrenclave),
        }
        hash.update([0; 64]);
        ImageHash::new(hash.finalize().into())
    }
}

fn read_registers(rest: &mut &[u8]) -> Result<[[u8; 48]; 8], PeerHeaderError> {
    let mut registers = [[0; 48]; 8];
    for register in &mut registers {
        *register = <[u8; 48]>::read_from(rest)?;
    }
    Ok(registers)
}

fn read_address(rest: &mut &[u8], field: &'static str) -> Result<SocketAddr, PeerHeaderError> {
    let ip = <&[u8]>::read_from(rest)?;
    let port = i32::read_from(rest)?;
    let ip: Option<IpAddr> = str::from_utf8(ip).ok().and_then(|text| text.parse().ok());
    let port = u16::try_from(port).ok();
    let address = ip.zip(port).map(SocketAddr::from);
    address.ok_or(PeerHeaderError::Address { field })
}

#[cfg(test)]
mod tests;
