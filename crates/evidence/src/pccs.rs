//! Asking a caching service (PCCS), or Intel itself, for collateral: version 4 of its HTTP interface.

use std::time::Duration;

use attest::{Collateral, CollateralError, CollateralKind};
use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::percent_decode;
use rustls::RootCertStore;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// How long one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// A service that gives out collateral. It need not be trusted, since all it says is signed by the vendor: plain `http` will do.
#[derive(Clone)]
pub struct Pccs {
    base: String,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// Collateral, or certificates of processors, could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum PccsError {
    /// An address that cannot be asked.
    #[error("{text:?} is no address of a service: write https://host:port")]
    Address {
        /// What was set.
        text: String,
    },
    /// Nothing was exchanged, or it broke off.
    #[error("{url} cannot be asked: does the service run, and is its address right?")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What broke.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No whole answer in time.
    #[error("{url} did not answer within {} s", ANSWER_TIME_MAX.as_secs())]
    Late {
        /// What was asked for.
        url: String,
    },
    /// The service does not have it, or does not give it.
    #[error("{url} answered with status {status}: {}", next_step(*.status))]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// An answer without a part that it must have.
    #[error("the answer to {url} lacks {what}, or it cannot be read")]
    Malformed {
        /// What was asked for.
        url: String,
        /// Which part.
        what: &'static str,
    },
    /// The parts do not make collateral.
    #[error("what the PCCS gave is no collateral")]
    Collateral(#[from] CollateralError),
}

/// What to do about a status of HTTP.
const fn next_step(status: u16) -> &'static str {
    match status {
        404 => {
            "it does not know this platform; see that the platform is registered with its vendor, or ask another service"
        }
        401 | 403 => "it does not answer us; see what it asks for, or ask another service",
        429 => "it was asked too often; ask a cache of your own in its place",
        500.. => "it has a trouble of its own; see its log, or wait",
        _ => "is its address that of such a service?",
    }
}

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
    /// [`PccsError::Address`].
    pub fn new(address: &str) -> Result<Self, PccsError> {
        let uri: Option<Uri> = address.parse().ok();
        let scheme = uri.as_ref().and_then(Uri::scheme_str);
        if !matches!(scheme, Some("http" | "https")) || uri.as_ref().is_none_or(|uri| uri.query().is_some()) {
            return Err(PccsError::Address { text: address.to_owned() });
        }
        let authorities: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        let tls =
            rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
                .with_safe_default_protocol_versions()
                .expect("the provider has the cipher suites of TLS 1.2 and 1.3")
                .with_root_certificates(authorities)
                .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { base: address.trim_end_matches('/').to_owned(), client })
    }

    /// Fetches what is needed to verify quotes of one kind of platform: its JSON, as [`Collateral::from_json`] reads it.
    ///
    /// # Errors
    /// [`PccsError`].
    pub async fn fetch(&self, kind: CollateralKind) -> Result<String, PccsError> {
        let tee = kind.tee_name();
        let tcb = format!("{tee}/certification/v4/tcb?fmspc={}", kind.fmspc);
        let tcb = self.signed(&tcb, &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"]).await?;
        let identity = format!("{tee}/certification/v4/qe/identity");
        let identity = self.signed(&identity, &["SGX-Enclave-Identity-Issuer-Chain"]).await?;
        let revoked = format!("sgx/certification/v4/pckcrl?ca={}&encoding=der", kind.ca());
        let revoked = self.signed(&revoked, &["SGX-PCK-CRL-Issuer-Chain"]).await?;
        let (url, (_headers, root)) = self.get("sgx/certification/v4/rootcacrl").await?;

        let malformed = |url: &str, what| PccsError::Malformed { url: url.to_owned(), what };
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
    /// [`PccsError`].
    pub async fn probe(&self) -> Result<(), PccsError> {
        self.get("sgx/certification/v4/rootcacrl").await.map(drop)
    }

    async fn signed(&self, path: &str, chains: &[&str]) -> Result<Signed, PccsError> {
        let (url, (headers, body)) = self.get(path).await?;
        let chain = chains.iter().find_map(|name| {
            let encoded = headers.get(*name)?.as_bytes();
            percent_decode(encoded).decode_utf8().ok().map(String::from)
        });
        match chain {
            Some(chain) => Ok(Signed { url, chain, body }),
            None => Err(PccsError::Malformed { url, what: "the issuer chain in its headers" }),
        }
    }

    /// What was asked for, and its answer.
    pub(crate) async fn get(&self, path: &str) -> Result<(String, (HeaderMap, Bytes)), PccsError> {
        let url = format!("{}/{path}", self.base);
        let exchange = async {
            let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| PccsError::Unreachable {
                url: url.clone(),
                source,
            };
            let request = Request::get(&url).body(Empty::new()).map_err(|error| unreachable(error.into()))?;
            let response = self.client.request(request).await.map_err(|error| unreachable(error.into()))?;
            let (parts, body) = response.into_parts();
            if !parts.status.is_success() {
                return Err(PccsError::Status { url: url.clone(), status: parts.status.as_u16() });
            }
            let body = Limited::new(body, Collateral::LEN_MAX / 2).collect().await.map_err(unreachable)?;
            Ok((parts.headers, body.to_bytes()))
        };
        match tokio::time::timeout(ANSWER_TIME_MAX, exchange).await {
            Ok(answer) => Ok((url.clone(), answer?)),
            Err(_elapsed) => Err(PccsError::Late { url }),
        }
    }
}

impl std::fmt::Debug for Pccs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pccs({})", self.base)
    }
}

/// A list of revocations in DER. Intel sends it so, caching services as hexadecimal digits.
fn crl(body: &[u8]) -> Vec<u8> {
    hex::decode(body.trim_ascii()).unwrap_or_else(|_binary| body.to_vec())
}
