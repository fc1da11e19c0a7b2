//! Whether the vendor published what a piece of collateral says, by the collateral alone.
//!
//! Quotes are verified with collateral, and that decides. But somebody else's quote may be no quote of a platform, which says nothing of
//! the collateral; so whoever holds it for many quotes asks here whether to put it in the place of what he held.

use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{Collateral, CollateralKind};
use crate::quote::Tee;
use crate::refusal::Refusal;

/// What the texts that are signed have in common, and what each of them may have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    id: String,
    issue_date: String,
    next_update: String,
    fmspc: Option<String>,
}

/// A text that the vendor signs, and what it has to be.
struct Text<'a> {
    chain: &'a str,
    text: &'a str,
    signature: &'a [u8],
    id: &'static str,
    fmspc: Option<String>,
    fault: &'static str,
}

impl Collateral {
    /// Checks at `now` since 1970 that all parts are of the vendor with a root (DER), valid, and about a kind of platforms.
    pub(crate) fn check(&self, root: &[u8], kind: CollateralKind, now: Duration) -> Result<(), Refusal> {
        self.find_fault(root, kind, now).map_or(Ok(()), |fault| {
            Err(Refusal::Unverified { reason: format!("collateral for platforms {kind}: {fault}") })
        })
    }

    fn find_fault(&self, root: &[u8], kind: CollateralKind, now: Duration) -> Option<&'static str> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let Ok(([], root)) = X509Certificate::from_der(root) else {
            return Some("the trusted root cannot be read");
        };
        let Ok(([], of_root)) = CertificateRevocationList::from_der(&self.0.root_ca_crl) else {
            return Some("the root's list of revocations cannot be read");
        };
        if !is_valid_list(&of_root, &root, now) {
            return Some("the root's list of revocations is not signed by the trusted root, or not valid");
        }
        let is_revoked = |certificate: &X509Certificate<'_>| {
            let serial = certificate.raw_serial();
            of_root.iter_revoked_certificates().any(|revoked| revoked.raw_serial() == serial)
        };
        // Each chain has its root behind the one that counts here.
        let authority = |chain: &str, check: &dyn Fn(&X509Certificate<'_>) -> bool| {
            let Some(Ok(der)) = CertificateDer::pem_slice_iter(chain.as_bytes()).next() else { return false };
            let Ok(([], certificate)) = X509Certificate::from_der(&der) else { return false };
            is_issued(&certificate, &root, now) && !is_revoked(&certificate) && check(&certificate)
        };
        let (tcb_id, identity_id) = match kind.tee {
            Tee::Tdx => ("TDX", "TD_QE"),
            Tee::Sgx | Tee::Snp => ("SGX", "QE"),
        };
        let Collateral(all) = self;
        let texts = [
            Text {
                chain: &all.tcb_info_issuer_chain,
                text: &all.tcb_info,
                signature: &all.tcb_info_signature,
                id: tcb_id,
                fmspc: Some(kind.fmspc.to_string()),
                fault: "the TCB info is not the vendor's, not valid, or of other platforms",
            },
            Text {
                chain: &all.qe_identity_issuer_chain,
                text: &all.qe_identity,
                signature: &all.qe_identity_signature,
                id: identity_id,
                fmspc: None,
                fault: "the identity of quoting enclaves is not the vendor's, not valid, or of other enclaves",
            },
        ];
        for Text { chain, text, signature, id, fmspc, fault } in texts {
            let is_signed = |by: &X509Certificate<'_>| {
                is_signed(by, &ECDSA_P256_SHA256_FIXED, text.as_bytes(), signature)
            };
            let is_good = serde_json::from_str(text).is_ok_and(|signed: Signed| {
                let found = signed.fmspc.as_ref().map(|text| text.to_ascii_lowercase());
                signed.id == id && found == fmspc && is_current(&signed, now)
            });
            if !is_good || !authority(chain, &is_signed) {
                return Some(fault);
            }
        }
        let of_platforms = |by: &X509Certificate<'_>| {
            CertificateRevocationList::from_der(&all.pck_crl)
                .is_ok_and(|(rest, list)| rest.is_empty() && is_valid_list(&list, by, now))
        };
        if !authority(&all.pck_crl_issuer_chain, &of_platforms) {
            return Some("the list of revoked platforms is not the vendor's, or not valid");
        }
        None
    }
}

fn is_signed(
    by: &X509Certificate<'_>,
    algorithm: &'static EcdsaVerificationAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let key = UnparsedPublicKey::new(algorithm, &by.public_key().subject_public_key.data);
    key.verify(message, signature).is_ok()
}

fn is_issued(certificate: &X509Certificate<'_>, by: &X509Certificate<'_>, now: i64) -> bool {
    let validity = certificate.validity();
    let period = validity.not_before.timestamp()..=validity.not_after.timestamp();
    let (message, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
    period.contains(&now)
        && certificate.issuer().as_raw() == by.subject().as_raw()
        && is_signed(by, &ECDSA_P256_SHA256_ASN1, message, signature)
}

fn is_valid_list(list: &CertificateRevocationList<'_>, by: &X509Certificate<'_>, now: i64) -> bool {
    let until = list.next_update().map(|until| until.timestamp());
    let (message, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
    until.is_some_and(|until| (list.last_update().timestamp()..=until).contains(&now))
        && list.issuer().as_raw() == by.subject().as_raw()
        && is_signed(by, &ECDSA_P256_SHA256_ASN1, message, signature)
}

fn is_current(signed: &Signed, now: i64) -> bool {
    let time = |text: &str| UtcDateTime::parse(text, &Rfc3339).ok().map(UtcDateTime::unix_timestamp);
    match (time(&signed.issue_date), time(&signed.next_update)) {
        (Some(from), Some(until)) => (from..=until).contains(&now),
        _ => false,
    }
}
