//! The vendor of simulated platforms: its certificates.

use attest::{CollateralKind, Hex, PlatformId, Register, Tee};
use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyUsagePurpose,
    SerialNumber,
};
use time::OffsetDateTime;

use crate::der::{SGX_EXTENSION, sgx_extension};
use crate::key::Key;
use crate::platform::{Firmware, Platform};
use crate::{Publication, SimError};

/// The model of all simulated platforms: family, model, stepping and package, as a number.
pub(crate) const FMSPC: [u8; 6] = [0x51, 0x4d, 0, 0, 0, 0];
/// The provisioning enclave of all simulated platforms.
pub(crate) const PCE_ID: [u8; 2] = [0; 2];
/// Its version.
pub(crate) const PCE_SVN: u8 = 13;

/// A certificate that signs, and its key.
pub(crate) struct Authority {
    pub(crate) issuer: Issuer<'static, Key>,
    pub(crate) certificate: Certificate,
}

/// Who vouches for simulated platforms, in the part that Intel has for real ones.
pub struct Vendor {
    seed: zeroize::Zeroizing<[u8; 32]>,
    pub(crate) root: Authority,
    /// Signs the certificates of platforms: Intel's `PCK Processor CA`.
    pub(crate) processor: Authority,
    /// Signs what is published: Intel's `TCB Signing`.
    pub(crate) publisher: Authority,
}

impl Vendor {
    /// What [`Vendor::collateral`] is about: guests on its one model of platforms.
    pub const COLLATERAL_KIND: CollateralKind =
        CollateralKind { tee: Tee::Tdx, fmspc: Hex::new(FMSPC), is_multi_package: false };
    /// What [`Vendor::enclave_collateral`] is about: enclaves there.
    pub const ENCLAVE_COLLATERAL_KIND: CollateralKind =
        CollateralKind { tee: Tee::Sgx, ..Self::COLLATERAL_KIND };

    /// The vendor that a seed has. The seed is a secret of the development network: whoever has it makes platforms.
    ///
    /// # Errors
    /// [`SimError::Cryptography`] or [`SimError::Certificate`] if the libraries fail.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, SimError> {
        let authority = |path| IsCa::Ca(BasicConstraints::Constrained(path));
        let signs = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

        let key = Key::derive(seed, "root", &[])?;
        let mut params = params("Root CA", &[1]);
        (params.is_ca, params.key_usages) = (authority(1), signs.clone());
        let certificate = params.self_signed(&key)?;
        let root = Authority { issuer: Issuer::new(params, key), certificate };

        let mut params = self::params("PCK Processor CA", &[2]);
        (params.is_ca, params.key_usages) = (authority(0), signs);
        let processor = root.issue(params, Key::derive(seed, "processor", &[])?)?;

        let mut params = self::params("TCB Signing", &[3]);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let publisher = root.issue(params, Key::derive(seed, "publisher", &[])?)?;

        Ok(Self { seed: zeroize::Zeroizing::new(*seed), root, processor, publisher })
    }

    /// The root certificate, for [`attest::Root::Other`]. Of one seed, only its signature differs each time.
    #[must_use]
    pub fn root_der(&self) -> &[u8] {
        self.root.certificate.der()
    }

    /// What policies know the root by: the SHA-384 of its key.
    #[must_use]
    pub fn root_key(&self) -> Register {
        let mut hash = [0; 48];
        hash.copy_from_slice(digest::digest(&digest::SHA384, self.root.issuer.key().point()).as_ref());
        Register::new(hash)
    }

    /// Makes a platform. Of one number, the keys are the same each time.
    ///
    /// # Errors
    /// [`SimError::Cryptography`] or [`SimError::Certificate`] if the libraries fail.
    pub fn platform(&self, id: PlatformId, firmware: Firmware) -> Result<Platform, SimError> {
        let provisioning = Key::derive(&self.seed, "provisioning", id.as_bytes())?;
        let mut params = params("PCK Certificate", &serial_of(id));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let extension = sgx_extension(id, &firmware.cpu_svn(), PCE_SVN, &PCE_ID, &FMSPC);
        params.custom_extensions = vec![CustomExtension::from_oid_content(SGX_EXTENSION, extension)];
        let leaf = params.signed_by(&provisioning, &self.processor.issuer)?;
        let certificates =
            [leaf.pem(), self.processor.certificate.pem(), self.root.certificate.pem()].concat();
        let attestation = Key::derive(&self.seed, "attestation", id.as_bytes())?;
        Platform::certify(id, firmware, attestation, &provisioning, certificates)
    }

    /// What the vendor publishes, as [`attest::Collateral::from_json`] reads it. It fits all platforms of this vendor.
    ///
    /// # Errors
    /// [`SimError::Date`] or [`SimError::Certificate`] if the dates cannot be written, or the second is not after the first.
    pub fn collateral(&self, publication: &Publication) -> Result<String, SimError> {
        publication.signed_by(self, Self::COLLATERAL_KIND.tee)
    }

    /// The same for enclaves under SGX.
    ///
    /// # Errors
    /// As [`Vendor::collateral`].
    pub fn enclave_collateral(&self, publication: &Publication) -> Result<String, SimError> {
        publication.signed_by(self, Self::ENCLAVE_COLLATERAL_KIND.tee)
    }
}

impl Authority {
    fn issue(&self, params: CertificateParams, key: Key) -> Result<Self, SimError> {
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }
}

/// The number of a platform's certificate, so that it can be revoked by the platform's number.
pub(crate) fn serial_of(id: PlatformId) -> Vec<u8> {
    // Below 20 bytes, above the authorities' own, and never with the sign's bit.
    [&[1], &id.as_bytes()[..]].concat()
}

fn params(role: &str, serial: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::default();
    // As long as Intel's root: what ends early is what is published.
    (params.not_before, params.not_after) = (day(2020), day(2050));
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name.push(DnType::CommonName, format!("Simulated SGX {role}"));
    params.distinguished_name.push(DnType::OrganizationName, "Cocoon development");
    params.use_authority_key_identifier_extension = true;
    params
}

/// The first of January.
fn day(year: i32) -> OffsetDateTime {
    rcgen::date_time_ymd(year, 1, 1)
}
