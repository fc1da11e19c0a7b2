//! Whether a platform of the vendor's said what a quote says.

use std::time::Duration;

use dcap_qvl::QuoteClaims;
use dcap_qvl::verify::QuoteVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::appraise::{Appraised, Firmware, Platform, Verified};
use crate::collateral::{Collateral, CollateralKind};
use crate::crypto::AwsLc;
use crate::measurements::Hex;
use crate::policy::Policy;
use crate::quote::Quote;
use crate::refusal::Refusal;
use crate::signatures::ECDSA_P256;

/// Whose certificates platforms have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// Intel's.
    Intel,
    /// Somebody else's, as DER: platforms that are simulated.
    Other(Vec<u8>),
}

/// Verifies quotes under one root.
#[derive(Clone, Debug)]
pub struct Verifier {
    root: Root,
}

/// The policy is ours, so the library accepts all that it verified.
struct AcceptsAll;

impl dcap_qvl::Policy for AcceptsAll {
    fn validate(&self, _claims: &QuoteClaims) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Verifier {
    /// A verifier that trusts one root.
    #[must_use]
    pub const fn new(root: Root) -> Self {
        Self { root }
    }

    /// Appraises a quote that has to vouch for `report_data`, at `now` since 1970. What costs little is checked first; the
    /// outcome does not depend on the order.
    ///
    /// # Errors
    /// [`Refusal`] names the first thing that is not as the policy wants it.
    pub fn appraise(
        &self,
        quote: &Quote,
        report_data: &[u8; 64],
        collateral: &Collateral,
        policy: &Policy,
        now: Duration,
    ) -> Result<Appraised, Refusal> {
        policy.screen(quote.claims(), report_data)?;
        policy.appraise(self.verify(quote, collateral, now)?, report_data, now)
    }

    /// Checks at `now` since 1970 that a quote is of one of the vendor's platforms: its certificate leads up to the root.
    /// [`Verifier::verify`] does that too, but wants collateral, which is not to be fetched for platforms that somebody made up.
    ///
    /// # Errors
    /// [`Refusal::Unverified`].
    pub fn check_platform(&self, quote: &Quote, now: Duration) -> Result<(), Refusal> {
        let unverified =
            |reason: &str| Refusal::Unverified { reason: format!("the platform's certificate: {reason}") };
        let certificates = quote.certificates();
        let [platform, others @ ..] = certificates.as_slice() else {
            return Err(unverified("there is none"));
        };
        if others.len() > AUTHORITIES_MAX {
            return Err(unverified("there are too many above it"));
        }
        let others: Vec<_> = others.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let platform = CertificateDer::from(platform.as_slice());
        let root = CertificateDer::from(self.root_der());
        let check = || {
            let time = UnixTime::since_unix_epoch(now);
            // No extended usage is asked for, as these certificates have none.
            let usage = webpki::KeyUsage::server_auth();
            let anchors = [webpki::anchor_from_trusted_cert(&root)?];
            let platform = webpki::EndEntityCert::try_from(&platform)?;
            platform.verify_for_usage(&[&*ECDSA_P256], &anchors, &others, time, usage, None, None)?;
            Ok::<_, webpki::Error>(())
        };
        check().map_err(|error| unverified(&error.to_string()))
    }

    /// Checks at `now` since 1970 that collateral is the vendor's, valid, and about a kind of platforms, before it takes the place of other
    /// collateral. [`Verifier::verify`] does not rely on it.
    ///
    /// # Errors
    /// [`Refusal::Unverified`].
    pub fn check_collateral(
        &self,
        kind: CollateralKind,
        collateral: &Collateral,
        now: Duration,
    ) -> Result<(), Refusal> {
        collateral.check(self.root_der(), kind, now)
    }

    fn root_der(&self) -> &[u8] {
        match &self.root {
            Root::Intel => INTEL_ROOT,
            Root::Other(der) => der,
        }
    }

    /// Verifies a quote at `now` since 1970: signatures and certificates up to the root, revocations, and what the vendor
    /// says of the platform. It takes milliseconds of one core.
    ///
    /// # Errors
    /// [`Refusal::Unverified`].
    pub fn verify(&self, quote: &Quote, collateral: &Collateral, now: Duration) -> Result<Verified, Refusal> {
        let unverified = |error: anyhow::Error| Refusal::Unverified { reason: format!("{error:#}") };
        let claims = self.claims(quote, collateral, now).map_err(unverified)?;
        Ok(Verified {
            claims: quote.claims().clone(),
            platform: platform(&claims)?,
            is_simulated: self.root != Root::Intel,
            valid_until: Duration::from_secs(claims.earliest_expiration_date),
        })
    }

    fn claims(&self, quote: &Quote, collateral: &Collateral, now: Duration) -> anyhow::Result<QuoteClaims> {
        let verifier = QuoteVerifier::<AwsLc>::new_with_config(self.root_der().to_vec());
        verifier.verify_with_policy(quote.as_bytes(), &collateral.0, now.as_secs(), &AcceptsAll)
    }
}

/// Certificates above a platform's: the authority for platforms and the root, and some to spare.
const AUTHORITIES_MAX: usize = 4;

/// `Intel SGX Root CA`, from <https://certificates.trustedservices.intel.com/>.
const INTEL_ROOT: &[u8] = include_bytes!("../roots/intel_sgx.der");

fn platform(claims: &QuoteClaims) -> Result<Platform, Refusal> {
    let unread =
        |what: &str| Refusal::Unverified { reason: format!("{what} has another length than it must have") };
    let id =
        claims.platform.pck.ppid.as_slice().try_into().map_err(|_length| unread("the platform's number"))?;
    let root_key =
        claims.platform.root_key_id.as_slice().try_into().map_err(|_length| unread("the root key's id"))?;
    Ok(Platform {
        id: Hex::new(id),
        firmware: Firmware::Intel {
            status: claims.tcb.status.into(),
            advisories: claims.tcb.advisory_ids.clone(),
            evaluation_number: claims.tcb.eval_data_number,
        },
        root_key: Hex::new(root_key),
    })
}

#[cfg(test)]
mod tests;
