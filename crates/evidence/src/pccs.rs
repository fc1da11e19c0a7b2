//! Asking a caching service (PCCS), or Intel itself, for collateral: version 4 of its HTTP interface.

use attest::{Collateral, CollateralKind};
use bytes::Bytes;
use http::HeaderMap;
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::service::{Service, ServiceError};

/// A service that gives out collateral. It need not be trusted, since all it says is signed by the vendor: plain `http` will do.
#[derive(Clone, Debug)]
pub struct Pccs(Service);

/// An answer's body and the certificates that sign it, which travel in a header.
struct Signed {
    url: String,
    chain: String,
    body: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfo<'a> {
    // As the bytes that were signed.
    #[serde(borrow)]
    tcb_info: &'a RawValue,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QeIdentity<'a> {
    #[serde(borrow)]
    enclave_identity: &'a RawValue,
    signature: String,
}

impl Pccs {
    /// A service at an address such as `https://localhost:8081`. Asks nothing yet.
    ///
    /// # Errors
    /// [`ServiceError::Address`].
    pub fn new(address: &str) -> Result<Self, ServiceError> {
        Ok(Self(Service::new(address)?))
    }

    /// Fetches what is needed to verify quotes of one kind of platform: its JSON, as [`Collateral::from_json`] reads it.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn fetch(&self, kind: CollateralKind) -> Result<String, ServiceError> {
        let tee = kind.tee_name();
        let tcb = format!("{tee}/certification/v4/tcb?fmspc={}", kind.fmspc);
        let tcb = self.signed(&tcb, &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"]).await?;
        let identity = format!("{tee}/certification/v4/qe/identity");
        let identity = self.signed(&identity, &["SGX-Enclave-Identity-Issuer-Chain"]).await?;
        let revoked = format!("sgx/certification/v4/pckcrl?ca={}&encoding=der", kind.ca());
        let revoked = self.signed(&revoked, &["SGX-PCK-CRL-Issuer-Chain"]).await?;
        let (url, (_headers, root)) = self.get("sgx/certification/v4/rootcacrl").await?;

        let malformed = |url: &str, what| ServiceError::Malformed { url: url.to_owned(), what };
        let tcb_info: TcbInfo<'_> =
            serde_json::from_slice(&tcb.body).or(Err(malformed(&tcb.url, "tcbInfo and its signature")))?;
        let qe_identity: QeIdentity<'_> = serde_json::from_slice(&identity.body)
            .or(Err(malformed(&identity.url, "enclaveIdentity and its signature")))?;
        let text = json!({
            "tcb_info": tcb_info.tcb_info.get(),
            "tcb_info_signature": tcb_info.signature,
            "tcb_info_issuer_chain": tcb.chain,
            "qe_identity": qe_identity.enclave_identity.get(),
            "qe_identity_signature": qe_identity.signature,
            "qe_identity_issuer_chain": identity.chain,
            "pck_crl": hex::encode(crl(&revoked.body)),
            "pck_crl_issuer_chain": revoked.chain,
            "root_ca_crl": hex::encode(crl(&root)),
        });
        let text = text.to_string();
        let found = Collateral::from_json(&text)?;
        found.next_update().ok_or_else(|| malformed(&url, "the date of the next update"))?;
        Ok(text)
    }

    /// Whether the service answers: it is asked for the list of what the root has revoked.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn probe(&self) -> Result<(), ServiceError> {
        self.get("sgx/certification/v4/rootcacrl").await.map(drop)
    }

    async fn signed(&self, path: &str, chains: &[&str]) -> Result<Signed, ServiceError> {
        let (url, (headers, body)) = self.get(path).await?;
        let chain = chains.iter().find_map(|name| {
            let encoded = headers.get(*name)?.as_bytes();
            percent_decode(encoded).decode_utf8().ok().map(String::from)
        });
        match chain {
            Some(chain) => Ok(Signed { url, chain, body }),
            None => Err(ServiceError::Malformed { url, what: "the issuer chain in its headers" }),
        }
    }

    async fn get(&self, path: &str) -> Result<(String, (HeaderMap, Bytes)), ServiceError> {
        self.0.get(path, Collateral::LEN_MAX / 2).await
    }
}

/// A list of revocations in DER. Intel sends it so, caching services as hexadecimal digits.
fn crl(body: &[u8]) -> Vec<u8> {
    hex::decode(body.trim_ascii()).unwrap_or_else(|_binary| body.to_vec())
}
