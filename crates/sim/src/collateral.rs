//! What a simulated vendor publishes: which firmware is up to date, which quoting enclave is genuine, what is revoked.

use std::collections::BTreeSet;
use std::time::Duration;

use attest::{PlatformId, TcbStatus, Tee};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::SimError;
use crate::platform::{Firmware, MODULE_SVN, MODULE_VERSION};
use crate::quote::{QE_ATTRIBUTES, QE_PRODUCT, QE_SIGNER, QE_SVN};
use crate::vendor::{Authority, FMSPC, PCE_ID, PCE_SVN, Vendor, serial_of};

/// What a vendor says at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// When, since 1970. It counts from then on.
    pub issued: Duration,
    /// When the next is due, since 1970. It counts no longer then.
    pub next_update: Duration,
    /// How new it is: Intel's `tcbEvaluationDataNumber`.
    pub evaluation_number: u32,
    /// The status of platforms with [`Firmware::Current`]. Intel's format has none of the two `TDRelaunchAdvised` here, and
    /// verifiers refuse them.
    pub status: TcbStatus,
    /// What is known against them.
    pub advisories: Vec<String>,
    /// Platforms whose certificates do not count any longer.
    pub revoked: BTreeSet<PlatformId>,
}

impl Publication {
    /// How long one holds, as Intel's do.
    const VALID_FOR: Duration = Duration::from_secs(30 * 86_400);

    /// One that is issued at `now` since 1970, by which all is well.
    #[must_use]
    pub fn at(now: Duration) -> Self {
        Self {
            issued: now,
            next_update: now.saturating_add(Self::VALID_FOR),
            evaluation_number: 1,
            status: TcbStatus::UpToDate,
            advisories: Vec::new(),
            revoked: BTreeSet::new(),
        }
    }

    pub(crate) fn signed_by(&self, vendor: &Vendor, tee: Tee) -> Result<String, SimError> {
        let tcb_info = match tee {
            Tee::Tdx => self.tcb_info()?,
            _ => self.enclave_tcb_info()?,
        };
        let (tcb_info, qe_identity) = (tcb_info.to_string(), self.qe_identity(tee)?.to_string());
        let sign =
            |text: &str| Ok::<_, SimError>(hex::encode(vendor.publisher.issuer.key().sign(text.as_bytes())?));
        let chain = |of: &Authority| [of.certificate.pem(), vendor.root.certificate.pem()].concat();
        let collateral = json!({
            "pck_crl_issuer_chain": chain(&vendor.processor),
            "root_ca_crl": self.revocations(&vendor.root, &BTreeSet::new())?,
            "pck_crl": self.revocations(&vendor.processor, &self.revoked)?,
            "tcb_info_issuer_chain": chain(&vendor.publisher),
            "tcb_info_signature": sign(&tcb_info)?,
            "tcb_info": tcb_info,
            "qe_identity_issuer_chain": chain(&vendor.publisher),
            "qe_identity_signature": sign(&qe_identity)?,
            "qe_identity": qe_identity,
        });
        Ok(collateral.to_string())
    }

    /// TCB info, version 3, of the platforms' one model.
    fn tcb_info(&self) -> Result<Value, SimError> {
        let issued = text(self.issued)?;
        let module = json!({
            "mrsigner": "00".repeat(48),
            "attributes": "00".repeat(8),
            "attributesMask": "FF".repeat(8),
        });
        let mut identity = module.clone();
        identity["id"] = json!(format!("TDX_{MODULE_VERSION:02X}"));
        identity["tcbLevels"] =
            json!([{ "tcb": { "isvsvn": MODULE_SVN }, "tcbDate": issued, "tcbStatus": "UpToDate" }]);
        let components = |svns: [u8; 16]| svns.map(|svn| json!({ "svn": svn }));
        let level = |firmware: Firmware, status: TcbStatus, advisories: &[String]| {
            json!({
                "tcb": {
                    "sgxtcbcomponents": components(firmware.cpu_svn()),
                    "pcesvn": PCE_SVN,
                    "tdxtcbcomponents": components(firmware.tee_tcb_svn()),
                },
                "tcbDate": issued,
                "tcbStatus": status.to_string(),
                "advisoryIDs": advisories,
            })
        };
        let outdated = ["SIMULATED-SA-00001".to_owned()];
        Ok(json!({
            "id": "TDX",
            "version": 3,
            "issueDate": issued,
            "nextUpdate": text(self.next_update)?,
            "fmspc": hex::encode_upper(FMSPC),
            "pceId": hex::encode_upper(PCE_ID),
            "tcbType": 0,
            "tcbEvaluationDataNumber": self.evaluation_number,
            "tdxModule": module,
            "tdxModuleIdentities": [identity],
            "tcbLevels": [
                level(Firmware::Current, self.status, &self.advisories),
                level(Firmware::Outdated, TcbStatus::OutOfDate, &outdated),
            ],
        }))
    }

    /// The same for SGX: without what only guests have.
    fn enclave_tcb_info(&self) -> Result<Value, SimError> {
        let mut info = self.tcb_info()?;
        info["id"] = json!("SGX");
        let members = info.as_object_mut().into_iter();
        members.for_each(|members| members.retain(|name, _value| !name.starts_with("tdxModule")));
        for level in info["tcbLevels"].as_array_mut().into_iter().flatten() {
            let parts = level["tcb"].as_object_mut().into_iter();
            parts.for_each(|parts| parts.retain(|name, _value| name != "tdxtcbcomponents"));
        }
        Ok(info)
    }

    /// The identity of the quoting enclave, version 2. Simulated platforms have one, for guests and enclaves alike.
    fn qe_identity(&self, tee: Tee) -> Result<Value, SimError> {
        let issued = text(self.issued)?;
        Ok(json!({
            "id": if tee == Tee::Tdx { "TD_QE" } else { "QE" },
            "version": 2,
            "issueDate": issued,
            "nextUpdate": text(self.next_update)?,
            "tcbEvaluationDataNumber": self.evaluation_number,
            "miscselect": "00".repeat(4),
            "miscselectMask": "FF".repeat(4),
            "attributes": hex::encode_upper(QE_ATTRIBUTES),
            "attributesMask": "FF".repeat(16),
            "mrsigner": hex::encode_upper(QE_SIGNER),
            "isvprodid": QE_PRODUCT,
            "tcbLevels": [{ "tcb": { "isvsvn": QE_SVN }, "tcbDate": issued, "tcbStatus": "UpToDate" }],
        }))
    }

    /// The list of revocations of one authority, in hexadecimal.
    fn revocations(&self, authority: &Authority, revoked: &BTreeSet<PlatformId>) -> Result<String, SimError> {
        let issued = date(self.issued)?;
        let revoked_certs = revoked.iter().map(|id| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial_of(*id)),
            revocation_time: issued,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: issued,
            next_update: date(self.next_update)?,
            crl_number: SerialNumber::from(u64::from(self.evaluation_number)),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(hex::encode(params.signed_by(&authority.issuer)?.der()))
    }
}

/// A date to the second: what certificates hold.
fn date(since_1970: Duration) -> Result<OffsetDateTime, SimError> {
    let seconds = since_1970.as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(SimError::Date { seconds })
}

fn text(since_1970: Duration) -> Result<String, SimError> {
    let seconds = since_1970.as_secs();
    date(since_1970)?.format(&Rfc3339).map_err(|_unwritable| SimError::Date { seconds })
}
