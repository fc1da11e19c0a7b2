//! The yardstick of appraisals: the library that verifies quotes, called by itself, with the same cryptography.

use anyhow::Result;
use aws_lc_rs::digest;
use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::signature::DerSigEncoder;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::x509::X509CertBackend;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3};
use rustls_pki_types::SignatureVerificationAlgorithm;

struct AwsLc;

impl Config for AwsLc {
    type X509 = X509CertBackend;
    type SigEncoder = DerSigEncoder;
    type Crypto = Self;
}

impl CryptoProvider for AwsLc {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        webpki::aws_lc_rs::ECDSA_P256_SHA256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
        hash
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        let mut hash = [0; 48];
        hash.copy_from_slice(digest::digest(&digest::SHA384, data).as_ref());
        hash
    }
}

/// Its own policies are no part of what is compared.
struct AcceptsAll;

impl dcap_qvl::Policy for AcceptsAll {
    fn validate(&self, _claims: &QuoteClaims) -> Result<()> {
        Ok(())
    }
}

/// The library's verifier under one root, with collateral that it has read.
pub(crate) struct PlainLibrary {
    verifier: QuoteVerifier<AwsLc>,
    collateral: QuoteCollateralV3,
}

impl PlainLibrary {
    /// # Errors
    /// If the collateral is not what the library reads.
    pub(crate) fn new(root_der: &[u8], collateral: &str) -> Result<Self> {
        let verifier = QuoteVerifier::new_with_config(root_der.to_vec());
        Ok(Self { verifier, collateral: serde_json::from_str(collateral)? })
    }

    /// # Errors
    /// If it refuses the quote at `now`, in seconds since 1970.
    pub(crate) fn verify(&self, quote: &[u8], now: u64) -> Result<()> {
        self.verifier.verify_with_policy(quote, &self.collateral, now, &AcceptsAll)?;
        Ok(())
    }
}
