//! The bytes of quotes, all numbers little-endian: versions 4 and 5 for guests (Intel TDX DCAP Quoting Library API, appendix 3), version 3 for
//! enclaves (Intel SGX ECDSA Quote Library API, appendix A.4).

use attest::TdReport;
use aws_lc_rs::digest;

use crate::SimError;
use crate::enclave::Enclave;
use crate::guest::{Guest, QuoteForm};
use crate::key::Key;
use crate::platform::Firmware;

/// Flags of the quoting enclave: initialised, 64 bits, with a provisioning key; then the parts of the processor's state.
pub(crate) const QE_ATTRIBUTES: [u8; 16] = [0x15, 0, 0, 0, 0, 0, 0, 0, 0xe7, 0, 0, 0, 0, 0, 0, 0];
/// Who signed it.
pub(crate) const QE_SIGNER: [u8; 32] = [0x51; 32];
/// Its product number: that of the one for TDX.
pub(crate) const QE_PRODUCT: u16 = 2;
/// Its version.
pub(crate) const QE_SVN: u16 = 4;
/// What it binds to its key besides.
const QE_AUTHENTICATION: [u8; 32] = [0x1f; 32];
/// Length of its report.
pub(crate) const QE_REPORT_LEN: usize = 384;

/// The vendor whose quoting enclaves verifiers know.
const QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// ECDSA on P-256.
const ATTESTATION_KEY_TYPE: u16 = 2;
const TEE_TDX: u32 = 0x81;
const TEE_SGX: u32 = 0;
/// The report of TDX 1.5 within version 5.
const BODY_TDX_15: u16 = 3;
/// Certification data that is a chain of certificates in PEM.
const CERTIFICATES: u16 = 5;
/// Certification data that is a quoting enclave's report, with such data of its own.
const QE_REPORT: u16 = 6;
/// Flags of an enclave: initialised, 64 bits.
const ENCLAVE_FLAGS: u64 = 0x05;
/// Flags of an enclave: the host may read it.
const ENCLAVE_DEBUG: u64 = 0x02;
/// Parts of the processor's state that an enclave may use.
const XFRM: u64 = 0xe7;
/// Attributes of a guest: no `#VE` by the host's will, which verifiers ask for.
const SEPT_VE_DISABLE: u64 = 1 << 28;
/// Attributes of a guest: the host may read it.
const DEBUG: u64 = 1;
/// Parts of the processor's state that a guest may use.
const XFAM: u64 = 0x0006_02e7;

/// The report of a quoting enclave that binds its key.
pub(crate) fn qe_report(firmware: Firmware, key: &Key) -> [u8; QE_REPORT_LEN] {
    let mut report = [0; QE_REPORT_LEN];
    let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &firmware.cpu_svn());
    put(48, &QE_ATTRIBUTES);
    put(64, &sha256(b"the simulated quoting enclave"));
    put(128, &QE_SIGNER);
    put(256, &QE_PRODUCT.to_le_bytes());
    put(258, &QE_SVN.to_le_bytes());
    put(320, &sha256(&[key.coordinates(), &QE_AUTHENTICATION].concat()));
    report
}

/// What a quote signs: its header, and what the guest is.
pub(crate) fn signed_part(guest: &Guest, tee_tcb_svn: &[u8; 16], report_data: &[u8; 64]) -> Vec<u8> {
    let (version, body) = match guest.form {
        QuoteForm::V4 => (4_u16, report_10(guest, tee_tcb_svn, report_data)),
        QuoteForm::V5 => {
            let bound_guests = [0; 48];
            let report =
                [&report_10(guest, tee_tcb_svn, report_data), &tee_tcb_svn[..], &bound_guests].concat();
            (5, [&BODY_TDX_15.to_le_bytes()[..], &sized(report)].concat())
        }
    };
    [header(version, TEE_TDX), body].concat()
}

/// The same of an enclave, in version 3.
pub(crate) fn signed_part_of_enclave(
    enclave: &Enclave,
    firmware_svn: &[u8; 16],
    report_data: &[u8; 64],
) -> Vec<u8> {
    let flags = ENCLAVE_FLAGS | if enclave.is_debug { ENCLAVE_DEBUG } else { 0 };
    let mut report = [0; QE_REPORT_LEN];
    let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, firmware_svn);
    put(48, &flags.to_le_bytes());
    put(56, &XFRM.to_le_bytes());
    put(64, &enclave.mrenclave);
    put(320, report_data);
    [header(3, TEE_SGX), report.to_vec()].concat()
}

fn header(version: u16, tee: u32) -> Vec<u8> {
    let (reserved, user_data) = ([0; 4], [0; 20]);
    [
        &version.to_le_bytes()[..],
        &ATTESTATION_KEY_TYPE.to_le_bytes(),
        &tee.to_le_bytes(),
        &reserved,
        &QE_VENDOR,
        &user_data,
    ]
    .concat()
}

/// The report of TDX 1.0.
fn report_10(guest: &Guest, tee_tcb_svn: &[u8; 16], report_data: &[u8; 64]) -> Vec<u8> {
    [&module(tee_tcb_svn), &guest_info(guest)[..], report_data].concat()
}

/// What runs guests: its versions, its measurement, who signed it, its attributes.
fn module(tee_tcb_svn: &[u8; 16]) -> Vec<u8> {
    let module = digest::digest(&digest::SHA384, b"the simulated TDX module");
    let (module_signer, module_attributes) = ([0; 48], [0; 8]);
    [&tee_tcb_svn[..], module.as_ref(), &module_signer, &module_attributes].concat()
}

/// What a guest is: attributes, what of the processor's state it may use, registers.
fn guest_info(guest: &Guest) -> Vec<u8> {
    let attributes = SEPT_VE_DISABLE | if guest.is_debug { DEBUG } else { 0 };
    [&attributes.to_le_bytes()[..], &XFAM.to_le_bytes(), guest.registers.as_flattened()].concat()
}

/// What the processor says of a guest to enclaves of the same machine (Intel TDX Module ABI specification, `TDREPORT_STRUCT`); `code` is
/// its authentication code.
pub(crate) fn td_report(
    guest: &Guest,
    firmware: (&[u8; 16], &[u8; 16]),
    report_data: &[u8; 64],
    code: impl FnOnce(&[u8]) -> [u8; 32],
) -> [u8; TdReport::LEN] {
    let (cpu_svn, tee_tcb_svn) = firmware;
    let version = match guest.form {
        QuoteForm::V4 => 0,
        QuoteForm::V5 => 1,
    };
    let mut report = [0; TdReport::LEN];
    let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x81, 0, version, 0]);
    put(16, cpu_svn);
    put(128, report_data);
    // Which of the following fields are valid, then the fields.
    put(256, &0x3f_u64.to_le_bytes());
    put(264, &module(tee_tcb_svn));
    put(512, &guest_info(guest));
    let hash = |part: &[u8]| digest::digest(&digest::SHA384, part);
    let (module_hash, guest_hash) = (hash(&report[256..495]), hash(&report[512..]));
    report[32..80].copy_from_slice(module_hash.as_ref());
    report[80..128].copy_from_slice(guest_hash.as_ref());
    let code = code(&report[..TdReport::AUTHENTICATED_LEN]);
    report[TdReport::AUTHENTICATED_LEN..][..32].copy_from_slice(&code);
    report
}

/// What vouches for a quote's signing key.
pub(crate) struct Certification<'a> {
    /// The quoting enclave's report.
    pub(crate) report: &'a [u8; QE_REPORT_LEN],
    /// Its signature by the machine's own key.
    pub(crate) report_signature: &'a [u8; 64],
    /// From the machine's certificate to the root, in PEM.
    pub(crate) certificates: &'a str,
}

/// A quote: what is signed, the signature, and why to believe it.
pub(crate) fn signed(
    part: Vec<u8>,
    key: &Key,
    certification: &Certification<'_>,
) -> Result<Vec<u8>, SimError> {
    let signature = key.sign(&part)?;
    let certification = sized(certification.to_bytes());
    let signature = [&signature, key.coordinates(), &QE_REPORT.to_le_bytes(), &certification].concat();
    Ok([part, sized(signature)].concat())
}

/// The same in version 3, where the quoting enclave's report is no certification data of its own.
pub(crate) fn signed_of_enclave(
    part: Vec<u8>,
    key: &Key,
    certification: &Certification<'_>,
) -> Result<Vec<u8>, SimError> {
    let signature = [&key.sign(&part)?[..], key.coordinates(), &certification.to_bytes()].concat();
    Ok([part, sized(signature)].concat())
}

impl Certification<'_> {
    fn to_bytes(&self) -> Vec<u8> {
        [
            &self.report[..],
            self.report_signature,
            &32_u16.to_le_bytes(),
            &QE_AUTHENTICATION,
            &CERTIFICATES.to_le_bytes(),
            &sized(self.certificates.as_bytes().to_vec()),
        ]
        .concat()
    }
}

/// Bytes behind their length.
fn sized(bytes: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("a platform's file is too short for 4 GiB of certificates");
    [len.to_le_bytes().to_vec(), bytes].concat()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}
