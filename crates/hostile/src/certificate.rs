//! Certificates, good and bad, and TLS set-ups that show them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use transport::clock::unix_now;

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing: without this, a refusal would prove little.
    None,
    /// There is none.
    Absent,
    /// Its key is no Ed25519 key.
    KeyType,
    /// It comes with a second one.
    Chain,
    Expired,
    NotYetValid,
    /// It has an extension that nobody knows and that must be understood.
    UnknownCritical,
    /// It has an extension of 60,000 bytes in the place of a quote.
    HugeQuote,
    /// Its own signature is changed.
    Signature,
    /// The handshake is signed with another key than the certificate's.
    OtherKey,
    /// It may not be used for this.
    Usage,
}

/// A TLS set-up for a peer that connects.
pub(crate) fn client_config(flaw: Flaw) -> Result<ClientConfig> {
    if flaw == Flaw::Absent { config_with(None) } else { config_with(Some(certified(flaw)?)) }
}

/// A TLS set-up for a peer that connects with somebody else's certificate, whose key it does not have.
pub(crate) fn impostor_config(certificate: CertificateDer<'static>) -> Result<ClientConfig> {
    let key = certified(Flaw::None)?.key;
    config_with(Some(CertifiedKey::new(vec![certificate], key)))
}

fn config_with(key: Option<CertifiedKey>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnyone));
    let mut config = match key {
        None => builder.with_no_client_auth(),
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
    };
    config.enable_sni = false;
    Ok(config)
}

/// A TLS set-up for a peer that accepts.
pub(crate) fn server_config(flaw: Flaw) -> Result<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified(flaw)?)));
    Ok(config)
}

fn certified(flaw: Flaw) -> Result<CertifiedKey> {
    const QUOTE: &[u64] = &[1, 3, 6, 1, 4, 1, 12345, 1];
    const UNKNOWN: &[u64] = &[1, 3, 6, 1, 4, 1, 54321, 1];
    let algorithm = if flaw == Flaw::KeyType { &rcgen::PKCS_ECDSA_P256_SHA256 } else { &rcgen::PKCS_ED25519 };
    let pair = KeyPair::generate_for(algorithm)?;
    let day = Duration::from_secs(86_400);
    let now = rcgen::date_time_ymd(1970, 1, 1) + unix_now();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.subject_alt_names.push(rcgen::SanType::DnsName("127.0.0.1".try_into()?));
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = match flaw {
        Flaw::Expired => (now - 3 * day, now - day),
        Flaw::NotYetValid => (now + day, now + 2 * day),
        _ => (now - day / 24, now + day),
    };
    let extension = |oid, content| {
        let mut extension = CustomExtension::from_oid_content(oid, content);
        extension.set_criticality(true);
        extension
    };
    match flaw {
        Flaw::UnknownCritical => params.custom_extensions.push(extension(UNKNOWN, vec![5, 0])),
        Flaw::HugeQuote => params.custom_extensions.push(extension(QUOTE, vec![7; 60_000])),
        Flaw::Usage => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
        _ => {}
    }
    let mut der = params.self_signed(&pair)?.der().to_vec();
    if flaw == Flaw::Signature
        && let Some(last) = der.last_mut()
    {
        *last ^= 1;
    }
    let signing = if flaw == Flaw::OtherKey { KeyPair::generate_for(algorithm)? } else { pair };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing.serialize_der()));
    let certificate = CertificateDer::from(der);
    let chain = if flaw == Flaw::Chain { vec![certificate.clone(), certificate] } else { vec![certificate] };
    Ok(CertifiedKey::new(chain, any_supported_type(&key)?))
}

#[derive(Debug)]
struct TrustAnyone;

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
