//! TLS to public servers: version 1.3, and certificates that a public authority signed for the name we ask for.
//!
//! The authorities come with the program and not from the machine, so that a measured image trusts what was measured.

use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

/// Connects with or without TLS, as the address says.
pub(super) fn connector() -> HttpsConnector<HttpConnector> {
    trusting(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())
}

fn trusting(authorities: RootCertStore) -> HttpsConnector<HttpConnector> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has the cipher suites of TLS 1.3")
        .with_root_certificates(authorities)
        .with_no_client_auth();
    HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build()
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::time::Duration;

    use axum::Router;
    use axum::http::header::CONTENT_TYPE;
    use axum::routing::post;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::server::conn::auto;
    use hyper_util::service::TowerToHyperService;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::provider::{Limits, Provider, ProviderError};

    const BLOCK: &str = r#"{"ok":true,"result":{"last":{"workchain":-1,"shard":"-9223372036854775808","seqno":7,
        "root_hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "file_hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
        "init":{"workchain":-1,"root_hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "file_hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}}"#;

    /// A server on this machine with a certificate for `localhost` of its own making.
    async fn serve() -> (u16, RootCertStore) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let mut authorities = RootCertStore::empty();
        authorities.add(cert.der().clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new()
            .route("/api/v2/jsonRPC", post(async || ([(CONTENT_TYPE, "application/json")], BLOCK)));
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _peer)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.ok()?;
                    let service = TowerToHyperService::new(router);
                    auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok()
                });
            }
        });
        (port, authorities)
    }

    async fn asked(
        authorities: RootCertStore,
        host: &str,
        port: u16,
    ) -> Result<crate::Network, ProviderError> {
        let limits =
            Limits { attempts_max: 1, answer_time_max: Duration::from_secs(60), ..Limits::default() };
        let endpoint = format!("https://{host}:{port}").parse().unwrap();
        Provider::over(trusting(authorities), endpoint, limits).network().await
    }

    #[tokio::test]
    async fn a_server_is_asked_over_tls() {
        let (port, authorities) = serve().await;
        assert!(asked(authorities, "localhost", port).await.is_ok());
    }

    #[tokio::test]
    async fn a_certificate_of_nobody_known_or_for_another_name_is_refused() {
        let (port, authorities) = serve().await;
        let public = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        for (authorities, host, reason) in
            [(public, "localhost", "UnknownIssuer"), (authorities, "127.0.0.1", "not valid for name")]
        {
            let error = asked(authorities, host, port).await.unwrap_err();
            assert!(matches!(error, ProviderError::Unreachable { .. }), "{error:?}");
            let mut source = error.source();
            let mut words = String::new();
            while let Some(cause) = source {
                words = format!("{words}: {cause}");
                source = cause.source();
            }
            assert!(words.contains(reason), "{words}");
        }
    }
}
