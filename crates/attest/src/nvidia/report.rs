//! Reports of GPUs, read and not verified: the request and the answer of SPDM 1.1 for measurements (DMTF DSP0274 1.1,
//! `GET_MEASUREMENTS` and `MEASUREMENTS`), with NVIDIA's fields in the answer's opaque data.

use std::collections::BTreeMap;

use super::{GpuNonce, GpuVersion};
use crate::measurements::{Hex, Register};

/// What a GPU says of itself, as it signed it. All of it are claims until it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuReport {
    bytes: Vec<u8>,
    nonce: GpuNonce,
    measurements: BTreeMap<u8, Register>,
    driver: GpuVersion,
    vbios: GpuVersion,
    firmware_id: Option<Register>,
    protected_pcie: Option<bool>,
}

/// Bytes that are no report of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuReportError {
    /// Longer than any.
    #[error("the report has {found} bytes, at most {} are read", GpuReport::LEN_MAX)]
    TooLong {
        /// Their number.
        found: usize,
    },
    /// They end too early.
    #[error("the report ends in its {part}")]
    Truncated {
        /// What is not complete.
        part: &'static str,
    },
    /// They go on.
    #[error("{len} bytes follow the {part} of the report")]
    Trailing {
        /// What should have been the end.
        part: &'static str,
        /// How many.
        len: usize,
    },
    /// Another message, or one that was asked for otherwise.
    #[error("the report's {part} begins with {}, and not with {}: ask for all measurements, signed, over SPDM 1.1",
        Hex::new(*.found), Hex::new(*.expected))]
    Message {
        /// Request or answer.
        part: &'static str,
        /// What it begins with.
        expected: [u8; 4],
        /// What was found.
        found: [u8; 4],
    },
    /// A measurement of another form.
    #[error("measurement {index} of the report is not a digest of 48 bytes (SHA-384), or it is there twice")]
    Measurement {
        /// Its index, from 1.
        index: u8,
    },
    /// A field of the opaque data that is not as NVIDIA's.
    #[error("field {kind} of the report's opaque data ({name}) is absent, cannot be read, or is there twice")]
    Field {
        /// Its number.
        kind: u16,
        /// What it is for.
        name: &'static str,
    },
}

/// Fields of the opaque data that are read. Others are passed over.
const DRIVER: (u16, &str) = (3, "driver version");
const VBIOS: (u16, &str) = (6, "VBIOS version");
const FIRMWARE_ID: (u16, &str) = (20, "firmware id");
const PROTECTED_PCIE: (u16, &str) = (21, "protected PCIe");

impl GpuReport {
    /// Longest accepted report in bytes: what NVIDIA's driver has room for.
    pub const LEN_MAX: usize = 8192;

    const SIGNATURE_LEN: usize = 96;
    /// Version 1.1, GET_MEASUREMENTS, a signature is asked for, all measurements.
    pub(crate) const REQUEST: [u8; 4] = [0x11, 0xe0, 1, 0xff];
    /// Version 1.1, MEASUREMENTS, and two zeros.
    const ANSWER: [u8; 4] = [0x11, 0x60, 0, 0];

    /// Reads a report as NVIDIA's driver gives it: request and answer, one after the other.
    ///
    /// # Errors
    /// [`GpuReportError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, GpuReportError> {
        if bytes.len() > Self::LEN_MAX {
            return Err(GpuReportError::TooLong { found: bytes.len() });
        }
        let mut rest = Reader(bytes);
        rest.begins_with("request", Self::REQUEST)?;
        let nonce = GpuNonce::new(rest.array("nonce")?);
        // The slot of the GPU's only chain.
        let [slot] = rest.array("slot")?;
        if slot != 0 {
            let (expected, found) = ([0; 4], [slot, 0, 0, 0]);
            return Err(GpuReportError::Message { part: "slot", expected, found });
        }
        rest.begins_with("answer", Self::ANSWER)?;
        let [blocks, len @ ..] = rest.array::<4>("number of measurements")?;
        let [a, b, c] = len;
        let mut record = Reader(rest.take("measurements", u32::from_le_bytes([a, b, c, 0]) as usize)?);
        let measurements = measurements(blocks, &mut record)?;
        // The GPU's own nonce, which nobody expects.
        let _nonce: [u8; 32] = rest.array("nonce of the answer")?;
        let len = u16::from_le_bytes(rest.array("length of the opaque data")?);
        let fields = fields(Reader(rest.take("opaque data", len.into())?))?;
        rest.take("signature", Self::SIGNATURE_LEN)?;
        rest.end("signature")?;
        Ok(Self {
            bytes: bytes.to_vec(),
            nonce,
            measurements,
            driver: field(&fields, DRIVER, driver)?.ok_or(absent(DRIVER))?,
            vbios: field(&fields, VBIOS, vbios)?.ok_or(absent(VBIOS))?,
            firmware_id: field(&fields, FIRMWARE_ID, |bytes| bytes.try_into().ok().map(Hex::new))?,
            protected_pcie: field(&fields, PROTECTED_PCIE, |bytes| match bytes {
                [0xaa] => Some(true),
                [0x55] => Some(false),
                _ => None,
            })?,
        })
    }

    /// The whole report.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it was asked for with.
    #[must_use]
    pub const fn nonce(&self) -> GpuNonce {
        self.nonce
    }

    /// Its measurements by their index, from 1. Which index is for what, NVIDIA's reference manifests say.
    #[must_use]
    pub const fn measurements(&self) -> &BTreeMap<u8, Register> {
        &self.measurements
    }

    /// Version of the driver.
    #[must_use]
    pub const fn driver(&self) -> &GpuVersion {
        &self.driver
    }

    /// Version of the VBIOS.
    #[must_use]
    pub const fn vbios(&self) -> &GpuVersion {
        &self.vbios
    }

    /// Digest of the firmware that the certificate of the report's key is for. Drivers before 550 do not say it.
    #[must_use]
    pub const fn firmware_id(&self) -> Option<Register> {
        self.firmware_id
    }

    /// Whether links between GPUs are not encrypted (protected PCIe): the board and what is on it is trusted with them. `None` if it does
    /// not say, as drivers without that mode do.
    #[must_use]
    pub const fn protected_pcie(&self) -> Option<bool> {
        self.protected_pcie
    }

    /// What the GPU signed, and its signature.
    pub(super) fn signed(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.bytes.len() - Self::SIGNATURE_LEN)
    }
}

fn measurements(blocks: u8, record: &mut Reader<'_>) -> Result<BTreeMap<u8, Register>, GpuReportError> {
    // DMTF's form, 51 bytes: a digest and not raw bytes, 48 bytes of it.
    const HEAD: [u8; 3] = [1, 51, 0];
    const LEN: [u8; 2] = [48, 0];
    const RAW: u8 = 0x80;
    let mut measurements = BTreeMap::new();
    for _block in 0..blocks {
        let [index, head @ .., kind, low, high] = record.array::<7>("measurements")?;
        let value = Hex::new(record.array("measurements")?);
        let is_digest = index != 0 && head == HEAD && kind & RAW == 0 && [low, high] == LEN;
        if !is_digest || measurements.insert(index, value).is_some() {
            return Err(GpuReportError::Measurement { index });
        }
    }
    record.end("measurements")?;
    Ok(measurements)
}

/// The fields that are read, by their number.
fn fields(mut data: Reader<'_>) -> Result<BTreeMap<u16, &[u8]>, GpuReportError> {
    let mut fields = BTreeMap::new();
    while !data.0.is_empty() {
        let kind = u16::from_le_bytes(data.array("opaque data")?);
        let len = u16::from_le_bytes(data.array("opaque data")?);
        let value = data.take("opaque data", len.into())?;
        if fields.insert(kind, value).is_some() {
            return Err(GpuReportError::Field { kind, name: "any" });
        }
    }
    Ok(fields)
}

const fn absent((kind, name): (u16, &'static str)) -> GpuReportError {
    GpuReportError::Field { kind, name }
}

fn field<T>(
    fields: &BTreeMap<u16, &[u8]>,
    field: (u16, &'static str),
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>, GpuReportError> {
    let value = fields.get(&field.0);
    value.map(|bytes| read(bytes).ok_or(absent(field))).transpose()
}

/// A text, and a zero.
fn driver(bytes: &[u8]) -> Option<GpuVersion> {
    let text = bytes.strip_suffix(&[0])?;
    str::from_utf8(text).ok()?.parse().ok()
}

/// Two little-endian numbers of four bytes; the second has only its lowest one.
fn vbios(bytes: &[u8]) -> Option<GpuVersion> {
    let [d, c, b, a, e, 0, 0, 0] = bytes else { return None };
    format!("{a:02X}.{b:02X}.{c:02X}.{d:02X}.{e:02X}").parse().ok()
}

/// What of some bytes is not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, part: &'static str, len: usize) -> Result<&'a [u8], GpuReportError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(GpuReportError::Truncated { part })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], GpuReportError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(GpuReportError::Truncated { part })?;
        self.0 = rest;
        Ok(*taken)
    }

    fn begins_with(&mut self, part: &'static str, expected: [u8; 4]) -> Result<(), GpuReportError> {
        let found = self.array(part)?;
        if found == expected { Ok(()) } else { Err(GpuReportError::Message { part, expected, found }) }
    }

    const fn end(&self, part: &'static str) -> Result<(), GpuReportError> {
        match self.0.len() {
            0 => Ok(()),
            len => Err(GpuReportError::Trailing { part, len }),
        }
    }
}
