//! One simulated machine.

use std::fmt;

use attest::{Hex, PlatformId, TdReport};
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::SimError;
use crate::enclave::Enclave;
use crate::guest::Guest;
use crate::key::Key;
use crate::quote::{
    Certification, QE_REPORT_LEN, qe_report, signed, signed_of_enclave, signed_part, signed_part_of_enclave,
    td_report,
};

/// Which firmware a platform has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// The one whose status the vendor publishes.
    Current,
    /// One with a known hole: out of date, whatever is published.
    Outdated,
}

/// The version of the module that runs guests.
pub(crate) const MODULE_SVN: u8 = 4;
/// Its kind: that of TDX 1.5, which makes both forms of quotes.
pub(crate) const MODULE_VERSION: u8 = 1;

impl Firmware {
    /// Versions of its parts for SGX, as the platform's certificate says them.
    pub(crate) const fn cpu_svn(self) -> [u8; 16] {
        let mut svns = [0; 16];
        (svns[0], svns[1]) = (self.svn(), self.svn());
        svns
    }

    /// Versions of its parts for TDX: the module, its kind, and the microcode.
    pub(crate) const fn tee_tcb_svn(self) -> [u8; 16] {
        let mut svns = [0; 16];
        (svns[0], svns[1], svns[2]) = (MODULE_SVN, MODULE_VERSION, self.svn());
        svns
    }

    const fn svn(self) -> u8 {
        match self {
            Self::Current => 7,
            Self::Outdated => 5,
        }
    }
}

/// A machine: the key that its quoting enclave signs with, and what certifies it.
///
/// It makes quotes of any guest, and no other platforms: neither the vendor's keys nor the machine's own are in it.
pub struct Platform {
    id: PlatformId,
    tee_tcb_svn: [u8; 16],
    key: Key,
    report: [u8; QE_REPORT_LEN],
    report_signature: [u8; 64],
    certificates: String,
}

/// The form of a platform's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformFile {
    id: PlatformId,
    tee_tcb_svn: Hex<16>,
    attestation_key: Zeroizing<String>,
    report: Hex<QE_REPORT_LEN>,
    report_signature: Hex<64>,
    certificates: String,
}

/// Its number, and nothing of its key.
impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Platform({})", self.id)
    }
}

impl Platform {
    /// Longest accepted file in bytes.
    pub const LEN_MAX: usize = 1 << 15;

    /// Has the machine's own key vouch for the key of its quoting enclave.
    pub(crate) fn certify(
        id: PlatformId,
        firmware: Firmware,
        key: Key,
        provisioning: &Key,
        certificates: String,
    ) -> Result<Self, SimError> {
        let report = qe_report(firmware, &key);
        let report_signature = provisioning.sign(&report)?;
        Ok(Self { id, tee_tcb_svn: firmware.tee_tcb_svn(), key, report, report_signature, certificates })
    }

    /// Its number at the vendor.
    #[must_use]
    pub const fn id(&self) -> PlatformId {
        self.id
    }

    /// A quote of a guest that vouches for `report_data`.
    ///
    /// # Errors
    /// [`SimError::Cryptography`] if the library fails to sign.
    pub fn quote(&self, guest: &Guest, report_data: &[u8; 64]) -> Result<Vec<u8>, SimError> {
        signed(signed_part(guest, &self.tee_tcb_svn, report_data), &self.key, &self.certification())
    }

    /// A quote of an enclave that vouches for `report_data`.
    ///
    /// # Errors
    /// [`SimError::Cryptography`] if the library fails to sign.
    pub fn enclave_quote(&self, enclave: &Enclave, report_data: &[u8; 64]) -> Result<Vec<u8>, SimError> {
        let part = signed_part_of_enclave(enclave, self.cpu_svn(), report_data);
        signed_of_enclave(part, &self.key, &self.certification())
    }

    /// A report of a guest that vouches for `report_data`: what enclaves on this machine, and nobody else, can verify.
    #[must_use]
    pub fn report(&self, guest: &Guest, report_data: &[u8; 64]) -> TdReport {
        let firmware = (self.cpu_svn(), &self.tee_tcb_svn);
        let report = td_report(guest, firmware, report_data, |head| self.code_of(head));
        TdReport::parse(&report).expect("it was just made of that form")
    }

    /// Whether this machine made a report.
    #[must_use]
    pub fn has_made(&self, report: &TdReport) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.own_secret("report")[..]);
        hmac::verify(&key, report.authenticated(), report.authentication_code()).is_ok()
    }

    /// The secret that this machine has for an enclave: what a processor derives for sealing.
    pub(crate) fn seal_key(&self, enclave: &Enclave) -> Zeroizing<[u8; 16]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.own_secret("seal")[..]);
        let mut secret = Zeroizing::new([0; 16]);
        let debug = [u8::from(enclave.is_debug)];
        secret.copy_from_slice(&hmac::sign(&key, &[&enclave.mrenclave[..], &debug].concat()).as_ref()[..16]);
        secret
    }

    /// The authentication code of a report's head.
    fn code_of(&self, head: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.own_secret("report")[..]);
        let mut code = [0; 32];
        code.copy_from_slice(hmac::sign(&key, head).as_ref());
        code
    }

    /// A secret that no other machine has, in the place of those that processors are made with.
    fn own_secret(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key.scalar()[..]);
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(hmac::sign(&key, purpose.as_bytes()).as_ref());
        secret
    }

    /// The versions of its firmware, as the quoting enclave's report has them.
    fn cpu_svn(&self) -> &[u8; 16] {
        self.report.first_chunk().expect("a report is longer than that")
    }

    fn certification(&self) -> Certification<'_> {
        let Self { report, report_signature, certificates, .. } = self;
        Certification { report, report_signature, certificates }
    }

    /// The text of its file. It is a secret: whoever has it is this platform.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let file = PlatformFile {
            id: self.id,
            tee_tcb_svn: Hex::new(self.tee_tcb_svn),
            attestation_key: Zeroizing::new(hex::encode(self.key.scalar())),
            report: Hex::new(self.report),
            report_signature: Hex::new(self.report_signature),
            certificates: self.certificates.clone(),
        };
        Zeroizing::new(serde_json::to_string_pretty(&file).expect("its members are texts"))
    }

    /// Reads such a text. What it certifies is for verifiers to judge.
    ///
    /// # Errors
    /// [`SimError::TooLong`], [`SimError::Platform`] or [`SimError::Cryptography`] if it is none.
    pub fn from_json(text: &str) -> Result<Self, SimError> {
        if text.len() > Self::LEN_MAX {
            return Err(SimError::TooLong { found: text.len() });
        }
        let file: PlatformFile = serde_json::from_str(text)?;
        let mut scalar = Zeroizing::new([0; 32]);
        hex::decode_to_slice(&*file.attestation_key, &mut *scalar)
            .map_err(|_not_hex| SimError::Cryptography("take a key that is not 64 hexadecimal digits"))?;
        Ok(Self {
            id: file.id,
            tee_tcb_svn: *file.tee_tcb_svn.as_bytes(),
            key: Key::new(scalar)?,
            report: *file.report.as_bytes(),
            report_signature: *file.report_signature.as_bytes(),
            certificates: file.certificates,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vendor;

    #[test]
    fn a_platform_is_what_its_file_says() {
        let vendor = Vendor::from_seed(&[1; 32]).unwrap();
        let platform = vendor.platform(PlatformId::new([7; 16]), Firmware::Current).unwrap();
        let text = platform.to_json();
        let read = Platform::from_json(&text).unwrap();
        assert_eq!(*read.to_json(), *text);
        assert_eq!(read.id(), PlatformId::new([7; 16]));
        assert!(!format!("{read:?}").contains(&hex::encode(read.key.scalar())));
        for other in ["root", "processor", "publisher", "provisioning"] {
            let key = Key::derive(&[1; 32], other, &[7; 16]).unwrap();
            assert!(!text.contains(&hex::encode(key.scalar())), "{other}");
        }
    }

    #[test]
    fn texts_that_are_no_platform_are_refused() {
        let vendor = Vendor::from_seed(&[1; 32]).unwrap();
        let text = vendor.platform(PlatformId::new([7; 16]), Firmware::Current).unwrap().to_json();
        let key = Key::derive(&[1; 32], "attestation", &[7; 16]).unwrap();
        let key = hex::encode(key.scalar());
        assert!(text.contains(&key));
        for refused in ["", "{}", &text[1..], &text.replacen('{', "{\"more\":1,", 1)] {
            assert!(matches!(Platform::from_json(refused), Err(SimError::Platform(_))));
        }
        for digits in ["00".repeat(32), key[2..].to_owned(), "xy".repeat(32)] {
            let refused = Platform::from_json(&text.replace(&key, &digits));
            assert!(matches!(refused, Err(SimError::Cryptography(_))), "{refused:?}");
        }
        let long = [&text, " ".repeat(Platform::LEN_MAX).as_str()].concat();
        assert!(matches!(Platform::from_json(&long), Err(SimError::TooLong { .. })));
    }
}
