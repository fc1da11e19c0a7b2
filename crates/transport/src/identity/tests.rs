use rcgen::{CustomExtension, KeyPair};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;

const NOW: Duration = Duration::from_secs(1_795_000_000);

/// Made by the certificate tool of the deployed network on 2026-11-21 at 12:45:26 UTC; X.509 version 1.
const DEPLOYED: &str = include_str!("../../testdata/deployed_peer.pem");
/// The same with a test quote and claims in critical extensions.
const DEPLOYED_WITH_QUOTE: &str = include_str!("../../testdata/deployed_peer_with_quote.pem");
const DEPLOYED_SINCE: Duration = Duration::from_secs(1_795_265_126);

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn verify_both(certificate: &CertificateDer<'_>, now: Duration) -> Result<PublicKey, CertificateRefused> {
    let key = verify_certificate(certificate, &[], PeerRole::Server, now)?;
    assert_eq!(verify_certificate(certificate, &[], PeerRole::Client, now), Ok(key));
    Ok(key)
}

/// A certificate like ours but for one change.
fn changed(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    signed_by(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), change)
}

fn signed_by(pair: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = certificate_params(pair.public_key_raw(), NOW).unwrap();
    change(&mut params);
    params.self_signed(pair).unwrap().into()
}

fn refusal(change: impl FnOnce(&mut CertificateParams)) -> CertificateRefused {
    verify_certificate(&changed(change), &[], PeerRole::Server, NOW).unwrap_err()
}

fn quote(len: usize) -> CustomExtension {
    extension(&[1, 3, 6, 1, 4, 1, 12345, 1], true, &vec![0; len])
}

#[test]
fn certificates_of_deployed_peers_verify_within_their_day() {
    for pem in [DEPLOYED, DEPLOYED_WITH_QUOTE] {
        let certificate = der(pem);
        let until = DEPLOYED_SINCE + VALIDITY;
        let second = Duration::from_secs(1);
        let key = verify_both(&certificate, DEPLOYED_SINCE).unwrap();
        assert_eq!(verify_both(&certificate, until), Ok(key));
        assert_eq!(public_key_of(&certificate), Ok(key));

        let early = verify_both(&certificate, DEPLOYED_SINCE - second).unwrap_err();
        assert!(matches!(early, CertificateRefused::NotYetValid { .. }), "{early}");
        let late = verify_both(&certificate, until + second).unwrap_err();
        assert!(matches!(late, CertificateRefused::Expired { .. }), "{late}");
    }
}

#[test]
fn no_flipped_bit_of_a_certificate_is_overlooked() {
    for pem in [DEPLOYED, DEPLOYED_WITH_QUOTE] {
        let whole = der(pem);
        for offset in 0..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[offset] ^= 1 << (offset % 8);
            let damaged = CertificateDer::from(damaged);
            assert!(verify_both(&damaged, DEPLOYED_SINCE).is_err(), "byte {offset} of {}", whole.len());
        }
    }
}

#[test]
fn our_layout_is_that_of_deployed_peers() {
    let deployed = der(DEPLOYED);
    let (_, deployed) = X509Certificate::from_der(&deployed).unwrap();
    let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let ours = signed_by(&pair, |_| {});
    let (_, ours) = X509Certificate::from_der(&ours).unwrap();
    assert_eq!(ours.subject().as_raw(), deployed.subject().as_raw());
    assert_eq!(ours.issuer().as_raw(), deployed.issuer().as_raw());
    assert_eq!(ours.version().0, 2, "X.509 version 3 is written as 2");
    let validity = ours.validity();
    assert_eq!(validity.not_before.timestamp(), 1_795_000_000 - 300);
    assert_eq!(validity.not_after.timestamp(), 1_795_000_000 - 300 + 86_400);

    // With the deployed peer's key the extensions are the same, byte by byte and in the same order.
    let deployed_key = public_key_of(&der(DEPLOYED)).unwrap();
    let params = certificate_params(deployed_key.as_bytes(), NOW).unwrap();
    let ours = params.custom_extensions.iter().map(|extension| {
        let oid: Vec<u64> = extension.oid_components().collect();
        (oid, extension.criticality(), extension.content())
    });
    let theirs = deployed
        .extensions()
        .iter()
        .map(|extension| (extension.oid.iter().unwrap().collect(), extension.critical, extension.value));
    assert!(ours.eq(theirs), "{:?}", params.custom_extensions);
}

#[test]
fn generated_identities_verify() {
    let identity = TlsIdentity::generate(NOW).unwrap();
    let certificate = CertificateDer::from(identity.certificate());
    assert_eq!(verify_both(&certificate, NOW), Ok(identity.public_key()));
    assert_ne!(TlsIdentity::generate(NOW).unwrap().public_key(), identity.public_key());
}

#[test]
fn dates_that_certificates_cannot_express_are_refused() {
    for seconds in [0, 299, 2_524_608_000, u64::MAX - 100_000] {
        let refused = TlsIdentity::generate(Duration::from_secs(seconds)).unwrap_err();
        assert!(matches!(refused, IdentityError::Clock { .. }), "{seconds}: {refused}");
    }
}

#[test]
fn identities_round_trip_through_pem() {
    let identity = TlsIdentity::generate(NOW).unwrap();
    let PemIdentity { certificate, private_key } = identity.to_pem();
    assert!(certificate.lines().all(|line| line.len() <= 64), "{certificate}");
    let read = TlsIdentity::from_pem(&certificate, &private_key).unwrap();
    assert_eq!(read.certificate(), identity.certificate());
    assert_eq!(read.public_key(), identity.public_key());
    assert_eq!(*read.to_pem().private_key, *private_key);
}

#[test]
fn damaged_or_foreign_pem_is_refused() {
    let ours = TlsIdentity::generate(NOW).unwrap().to_pem();
    let other = TlsIdentity::generate(NOW).unwrap().to_pem();
    let refused = |certificate: &str, key: &str| TlsIdentity::from_pem(certificate, key).unwrap_err();
    assert!(matches!(refused(&ours.certificate, &other.private_key), IdentityError::KeyMismatch));
    let section = |error| match error {
        IdentityError::Pem { section, .. } => section,
        other => panic!("{other}"),
    };
    assert_eq!(section(refused(&ours.private_key, &ours.private_key)), "CERTIFICATE");
    assert_eq!(section(refused(&ours.certificate, &ours.certificate)), "PRIVATE KEY");
    let p256 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    assert!(matches!(refused(&ours.certificate, &p256), IdentityError::Key(_)));
}

#[test]
fn debug_shows_no_private_key() {
    let identity = TlsIdentity::generate(NOW).unwrap();
    let shown = format!("{identity:?}");
    assert_eq!(shown, format!("TlsIdentity {{ public_key: PublicKey({}), .. }}", identity.public_key()));
}

#[test]
fn exactly_one_certificate_is_accepted() {
    let certificate = changed(|_| {});
    let refused = verify_certificate(&certificate, &[changed(|_| {})], PeerRole::Client, NOW);
    assert_eq!(refused, Err(CertificateRefused::ChainLength { found: 2 }));
    let trailing = CertificateDer::from([certificate.as_ref(), b"\0"].concat());
    assert_eq!(verify_both(&trailing, NOW), Err(CertificateRefused::TrailingBytes { found: 1 }));
    let cut = CertificateDer::from(&certificate[..certificate.len() - 1]);
    assert_eq!(verify_both(&cut, NOW), Err(CertificateRefused::Malformed));
}

#[test]
fn other_kinds_of_keys_are_refused() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_RSA_SHA256] {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        assert_eq!(verify_both(&signed_by(&pair, |_| {}), NOW), Err(CertificateRefused::KeyNotEd25519));
    }
}

#[test]
fn another_signer_is_refused() {
    let subject = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = certificate_params(subject.public_key_raw(), NOW).unwrap();
    let sign = |signer: KeyPair| {
        let issuer = rcgen::Issuer::new(params.clone(), signer);
        CertificateDer::from(params.signed_by(&subject, &issuer).unwrap())
    };
    let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    assert_eq!(verify_both(&sign(other), NOW), Err(CertificateRefused::SelfSignature));
    let p256 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    assert_eq!(verify_both(&sign(p256), NOW), Err(CertificateRefused::SignatureNotEd25519));

    let mut issuer_params = params.clone();
    issuer_params.distinguished_name.push(DnType::LocalityName, "elsewhere");
    let issuer = rcgen::Issuer::new(issuer_params, KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
    let certificate = CertificateDer::from(params.signed_by(&subject, &issuer).unwrap());
    assert_eq!(verify_both(&certificate, NOW), Err(CertificateRefused::NotSelfIssued));
}

#[test]
fn usage_and_name_are_required() {
    let without = |oid: &'static [u64]| {
        move |params: &mut CertificateParams| {
            params.custom_extensions.retain(|extension| !extension.oid_components().eq(oid.iter().copied()));
        }
    };
    const USAGE: &[u64] = &[2, 5, 29, 37];
    const NAMES: &[u64] = &[2, 5, 29, 17];
    assert_eq!(refusal(without(USAGE)), CertificateRefused::MissingUsage { expected: "serverAuth" });
    assert_eq!(refusal(without(NAMES)), CertificateRefused::MissingServerName);
    // Nobody addresses a client by name.
    let nameless = changed(without(NAMES));
    assert!(verify_certificate(&nameless, &[], PeerRole::Client, NOW).is_ok());

    let only_server = changed(|params| {
        without(USAGE)(params);
        let usage = b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
        params.custom_extensions.push(extension(USAGE, true, usage));
    });
    assert!(verify_certificate(&only_server, &[], PeerRole::Server, NOW).is_ok());
    let refused = verify_certificate(&only_server, &[], PeerRole::Client, NOW);
    assert_eq!(refused, Err(CertificateRefused::MissingUsage { expected: "clientAuth" }));

    let as_address = refusal(|params| {
        without(NAMES)(params);
        params.custom_extensions.push(extension(NAMES, false, b"\x30\x06\x87\x04\x7f\0\0\x01"));
    });
    assert_eq!(as_address, CertificateRefused::MissingServerName);

    let for_certificates = refusal(|params| {
        params.custom_extensions[1] = extension(&[2, 5, 29, 15], true, b"\x03\x02\x02\x04");
    });
    assert_eq!(for_certificates, CertificateRefused::NoDigitalSignature);
}

#[test]
fn quotes_are_allowed_for_up_to_their_limit() {
    assert!(verify_both(&changed(|params| params.custom_extensions.push(quote(32_768))), NOW).is_ok());
    let refused = refusal(|params| params.custom_extensions.push(quote(32_769)));
    assert_eq!(refused, CertificateRefused::QuoteTooLong { found: 32_769 });
    let claims = extension(&[1, 3, 6, 1, 4, 1, 12345, 2], true, &[0; 32]);
    assert!(verify_both(&changed(|params| params.custom_extensions.push(claims)), NOW).is_ok());
}

#[test]
fn unknown_critical_extensions_are_refused() {
    let third = |critical| extension(&[1, 3, 6, 1, 4, 1, 12345, 3], critical, b"\0");
    let refused = refusal(|params| params.custom_extensions.push(third(true)));
    assert_eq!(refused, CertificateRefused::UnknownCriticalExtension { oid: "1.3.6.1.4.1.12345.3".into() });
    assert!(verify_both(&changed(|params| params.custom_extensions.push(third(false))), NOW).is_ok());
    let constraints =
        refusal(|params| params.custom_extensions.push(extension(&[2, 5, 29, 36], true, b"\x30\0")));
    assert_eq!(constraints, CertificateRefused::UnknownCriticalExtension { oid: "2.5.29.36".into() });
}

#[test]
fn doubled_and_malformed_extensions_are_refused() {
    let twice = refusal(|params| params.custom_extensions.extend([quote(1), quote(1)]));
    assert_eq!(twice, CertificateRefused::DuplicateExtension { oid: "1.3.6.1.4.1.12345.1".into() });
    let malformed = refusal(|params| {
        params.custom_extensions[4] = extension(&[2, 5, 29, 17], false, b"\x30\x28");
    });
    assert_eq!(malformed, CertificateRefused::MalformedExtension { oid: "2.5.29.17".into() });
}
