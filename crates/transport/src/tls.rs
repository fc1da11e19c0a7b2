//! TLS as the deployed network speaks it: version 1.3 only, certificates on both sides, no resumption.
//!
//! Offered: AES-128-GCM and AES-256-GCM; X25519MLKEM768 first, then X25519 and P-256; Ed25519 signatures. No tickets,
//! no early data, no ALPN; the server name is always the address 127.0.0.1, so that none is sent.

mod handshake;
mod records;
mod sealed;
mod secrets;
mod stream;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, PeerMisbehaved, ServerConfig, SignatureScheme,
};
use units::PublicKey;

use crate::clock;
use crate::identity::{
    CertificateRefused, PeerRole, SPKI_PREFIX, public_key_of, quote_of, verify_certificate,
};
use crate::peer::TlsExporter;
pub(crate) use handshake::{accept, connect};
#[cfg(any(test, feature = "testing"))]
pub use records::RecordPair;
#[cfg(fuzzing)]
pub(crate) use records::read_records;
pub(crate) use stream::TlsStream;

/// The name that connecting peers expect in every certificate.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    })
});

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

pub(crate) fn server_config(certificate: Arc<SingleCertAndKey>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_details(PROVIDER.clone(), Arc::new(WallClock))
        .with_protocol_versions(VERSIONS)
        .expect("the provider has suites and groups for TLS 1.3")
        .with_client_cert_verifier(Arc::new(Verifier))
        .with_cert_resolver(certificate);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

pub(crate) fn client_config(certificate: Arc<SingleCertAndKey>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_details(PROVIDER.clone(), Arc::new(WallClock))
        .with_protocol_versions(VERSIONS)
        .expect("the provider has suites and groups for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier))
        .with_client_cert_resolver(certificate);
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config
}

/// What a handshake has shown of the peer. It lives as long as somebody looks at the certificate: a session keeps nothing
/// of it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The key that it proved to hold.
    pub(crate) key: PublicKey,
    /// The session's `tls-exporter` channel binding.
    pub(crate) tls_exporter: TlsExporter,
    certificate: CertificateDer<'static>,
}

impl Peer {
    fn new(certificate: CertificateDer<'static>, tls_exporter: TlsExporter) -> Result<Self, Error> {
        Ok(Self { key: public_key_of(&certificate).map_err(refused)?, tls_exporter, certificate })
    }

    /// Its certificate, as DER.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The quote in its certificate, without any check.
    pub(crate) fn quote(&self) -> Option<Vec<u8>> {
        quote_of(&self.certificate)
    }
}

#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(clock::certificate_now()))
    }
}

/// Judges certificates by [`verify_certificate`] and handshake signatures by the certificate's key.
#[derive(Debug)]
struct Verifier;

impl Verifier {
    fn certificate(
        end_entity: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        role: PeerRole,
        now: UnixTime,
    ) -> Result<(), Error> {
        let now = Duration::from_secs(now.as_secs());
        verify_certificate(end_entity, others, role, now).map(|_key| ()).map_err(refused)
    }

    /// Not through rustls's own check of the certificate: it refuses the critical extensions of quotes.
    fn signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signature.scheme != SignatureScheme::ED25519 {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let key = public_key_of(certificate).map_err(refused)?;
        let spki = SubjectPublicKeyInfoDer::from([SPKI_PREFIX, key.as_bytes()].concat());
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &spki, signature, algorithms)
    }
}

fn refused(reason: CertificateRefused) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// Our own reason behind an error of a handshake, if it was one.
pub(crate) fn certificate_refused(error: &Error) -> Option<CertificateRefused> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => {
            reason.downcast_ref::<CertificateRefused>().cloned()
        }
        _ => None,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::certificate(end_entity, intermediates, PeerRole::Server, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::certificate(end_entity, intermediates, PeerRole::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
