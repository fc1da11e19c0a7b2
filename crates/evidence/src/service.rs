//! Asking a service over HTTP for what vendors sign.

use std::time::Duration;

use attest::CollateralError;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;

/// How long one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// A service that need not be trusted, since vendors sign all that it says: plain `http` will do.
#[derive(Clone)]
pub(crate) struct Service {
    base: String,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// A service did not give what vendors publish.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
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
    #[error("{url} did not answer within {} s: does the service run, and can it be reached?", ANSWER_TIME_MAX.as_secs())]
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
    /// It failed a moment ago.
    #[error("{base} failed a moment ago, and is asked again later")]
    Resting {
        /// The service.
        base: String,
    },
    /// An answer without a part that it must have.
    #[error("the answer to {url} lacks {what}, or it cannot be read: is that the right service?")]
    Malformed {
        /// What was asked for.
        url: String,
        /// Which part.
        what: &'static str,
    },
    /// The parts do not make collateral.
    #[error("what the service gave is no collateral: is that the right service?")]
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

impl ServiceError {
    /// Whether the service knows nothing of what it was asked for.
    pub(crate) const fn is_unknown(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::NOT_FOUND.as_u16())
    }

    /// Whether any other question would fare alike just now.
    pub(crate) const fn is_of_service(&self) -> bool {
        const BUSY: [u16; 2] =
            [StatusCode::TOO_MANY_REQUESTS.as_u16(), StatusCode::SERVICE_UNAVAILABLE.as_u16()];
        match self {
            Self::Unreachable { .. } | Self::Late { .. } => true,
            Self::Status { status, .. } => *status == BUSY[0] || *status == BUSY[1],
            _ => false,
        }
    }
}

impl Service {
    /// A service at an address such as `https://localhost:8081`. Asks nothing yet.
    pub(crate) fn new(address: &str) -> Result<Self, ServiceError> {
        let uri: Option<Uri> = address.parse().ok();
        let scheme = uri.as_ref().and_then(Uri::scheme_str);
        if !matches!(scheme, Some("http" | "https")) || uri.as_ref().is_none_or(|uri| uri.query().is_some()) {
            return Err(ServiceError::Address { text: address.to_owned() });
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

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// What was asked for, and its answer of at most `len_max` bytes.
    pub(crate) async fn get(
        &self,
        path: &str,
        len_max: usize,
    ) -> Result<(String, (HeaderMap, Bytes)), ServiceError> {
        let url = format!("{}/{path}", self.base);
        let exchange = async {
            let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| ServiceError::Unreachable {
                url: url.clone(),
                source,
            };
            let request = Request::get(&url).body(Empty::new()).map_err(|error| unreachable(error.into()))?;
            let response = self.client.request(request).await.map_err(|error| unreachable(error.into()))?;
            let (parts, body) = response.into_parts();
            if !parts.status.is_success() {
                return Err(ServiceError::Status { url: url.clone(), status: parts.status.as_u16() });
            }
            let body = Limited::new(body, len_max).collect().await.map_err(unreachable)?;
            Ok((parts.headers, body.to_bytes()))
        };
        match tokio::time::timeout(ANSWER_TIME_MAX, exchange).await {
            Ok(answer) => Ok((url.clone(), answer?)),
            Err(_elapsed) => Err(ServiceError::Late { url }),
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Service({})", self.base)
    }
}
