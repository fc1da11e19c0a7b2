//! The chain of certificates from NVIDIA's root to the key that signs a GPU's reports.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::{Any, Class, FromDer as _, OctetString, Oid, Sequence, Tag, oid};
use x509_parser::extensions::KeyUsage;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{GpuCertificates, GpuRefusal};
use crate::measurements::{Hex, Register};
use crate::x509;

/// The certificates of one GPU below its root, read and not verified: that of the report's key first.
pub(super) struct Chain<'a>(Vec<X509Certificate<'a>>);

/// What the certificates say of a GPU.
pub(super) struct Device {
    /// Serial number of the report key's certificate, in decimal, as the service names GPUs (`ueid`).
    pub(super) id: String,
    /// The name in the certificate of the GPU itself, such as `GH100 A01 GSP BROM` (`hwmodel`).
    pub(super) model: String,
    /// Digest of the firmware that the report's key is for.
    pub(super) firmware_id: Register,
    /// A point on P-384, uncompressed.
    pub(super) key: Vec<u8>,
    /// The GPU's own key, which signs those of its reports: the same under each firmware.
    pub(super) own_key: Vec<u8>,
}

impl<'a> Chain<'a> {
    /// Reads certificates, and what they say of their GPU.
    pub(super) fn read(certificates: &'a GpuCertificates) -> Result<(Self, Device), GpuRefusal> {
        let parsed = certificates.0.iter().enumerate().map(|(at, der)| parse(at, der));
        let mut chain = parsed.collect::<Result<Vec<_>, _>>()?;
        // A root that comes along is passed over: which one is trusted does not depend on the input.
        let _root = chain.pop_if(|last| last.subject().as_raw() == last.issuer().as_raw());
        let [leaf, gpu, ..] = chain.as_slice() else {
            return Err(GpuRefusal::NoDevice { found: chain.len() });
        };
        let device = Device {
            id: leaf.serial.to_string(),
            model: model(gpu)?,
            firmware_id: firmware_id(leaf)?,
            key: point(0, leaf.public_key())?.to_vec(),
            own_key: point(1, gpu.public_key())?.to_vec(),
        };
        Ok((Self(chain), device))
    }

    /// Verifies them at `now` since 1970 up to the root certificate `root`, as DER. Until when they hold, since 1970.
    pub(super) fn verify(self, root: &'a [u8], now: Duration) -> Result<Duration, GpuRefusal> {
        let Self(mut chain) = self;
        let at_root = chain.len();
        chain.push(parse(at_root, root)?);
        let mut valid_until = i64::MAX;
        for (at, certificate) in chain.iter().enumerate() {
            check_use(at, certificate)?;
            let validity = certificate.validity();
            let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            if !(from..until).contains(&seconds) {
                return Err(GpuRefusal::CertificateTime { at, from, until, now: seconds });
            }
            valid_until = valid_until.min(until);
        }
        for (at, pair) in chain.windows(2).enumerate() {
            let [certificate, issuer] = pair else { continue };
            let is_named = certificate.issuer().as_raw() == issuer.subject().as_raw();
            if !is_named || !is_signed(certificate, point(at + 1, issuer.public_key())?) {
                return Err(GpuRefusal::CertificateSignature { at, is_by_root: at + 1 == at_root });
            }
        }
        Ok(Duration::from_secs(u64::try_from(valid_until).unwrap_or(0)))
    }
}

fn parse(at: usize, der: &[u8]) -> Result<X509Certificate<'_>, GpuRefusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) if is_exact(der, &certificate) => Ok(certificate),
        _ => Err(GpuRefusal::Malformed { at }),
    }
}

/// Whether what stands around the signed part is as everybody writes it: ECDSA with SHA-384, and the signature. No signature is over
/// that, and the parser takes other bytes for the same.
fn is_exact(der: &[u8], certificate: &X509Certificate<'_>) -> bool {
    const ECDSA_WITH_SHA384: [u8; 12] = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    let (signed, signature) = (certificate.tbs_certificate.as_ref(), &*certificate.signature_value.data);
    let Ok(len @ ..0x80) = u8::try_from(signature.len() + 1) else { return false };
    let around = [&ECDSA_WITH_SHA384[..], &[3, len, 0], signature].concat();
    let Ok(whole) = u16::try_from(signed.len() + around.len()) else { return false };
    der == [&[0x30, 0x82][..], &whole.to_be_bytes(), signed, &around].concat()
}

/// Whether the first of a chain may sign reports and the others certificates, and none has rules that nobody here knows.
fn check_use(at: usize, certificate: &X509Certificate<'_>) -> Result<(), GpuRefusal> {
    if let Some(oid) = x509::unknown_critical(certificate.extensions()) {
        return Err(GpuRefusal::CriticalExtension { at, oid });
    }
    // An error says that there are two of one kind.
    let usage = certificate.key_usage().ok().flatten();
    let may = |what: fn(&KeyUsage) -> bool| usage.as_ref().is_some_and(|usage| what(usage.value));
    let constraints = certificate.basic_constraints().ok().flatten().map(|constraints| constraints.value);
    let is_ca = constraints.is_some_and(|constraints| constraints.ca);
    // Authorities below it: all that come before it but the first.
    let below = u32::try_from(at.saturating_sub(1)).unwrap_or(u32::MAX);
    let is_long = constraints
        .and_then(|constraints| constraints.path_len_constraint)
        .is_some_and(|longest| longest < below);
    let is_fit = if at == 0 {
        !is_ca && may(KeyUsage::digital_signature)
    } else {
        is_ca && may(KeyUsage::key_cert_sign)
    };
    if is_fit && !is_long { Ok(()) } else { Err(GpuRefusal::CertificateUse { at }) }
}

/// NVIDIA signs certificates by ECDSA on P-384 with SHA-384 and nothing else.
fn is_signed(certificate: &X509Certificate<'_>, key: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, key);
    certificate.signature_algorithm == certificate.tbs_certificate.signature
        && key.verify(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data).is_ok()
}

fn point<'a>(at: usize, key: &'a SubjectPublicKeyInfo<'_>) -> Result<&'a [u8], GpuRefusal> {
    x509::p384(key).map_err(|found| GpuRefusal::CertificateKey { at, found })
}

/// The only name of the second certificate, which is of the GPU's own key.
fn model(device: &X509Certificate<'_>) -> Result<String, GpuRefusal> {
    let mut names = device.subject().iter_common_name().map(|name| name.as_str());
    match (names.next(), names.next()) {
        (Some(Ok(name)), None) if name.len() <= 100 => Ok(name.to_owned()),
        _ => Err(GpuRefusal::Malformed { at: 1 }),
    }
}

/// The firmware that the report's key was made for, by the one extension of two in which GPUs say it.
fn firmware_id(leaf: &X509Certificate<'_>) -> Result<Register, GpuRefusal> {
    // Hopper's form, and the one that came after it.
    const COMPOSITE: Oid<'_> = oid!(2.23.133.5.4.1);
    const TCB_INFO: Oid<'_> = oid!(2.23.133.5.4.1.1);
    let mut found = leaf.extensions().iter().filter(|one| one.oid == COMPOSITE || one.oid == TCB_INFO);
    let id = match (found.next(), found.next()) {
        (Some(extension), None) if extension.oid == COMPOSITE => composite(extension.value),
        (Some(extension), None) => tcb_info(extension.value),
        _ => None,
    };
    id.ok_or(GpuRefusal::NoCertificateFirmware)
}

/// `SEQUENCE { version, key, FWID }`.
fn composite(der: &[u8]) -> Option<Register> {
    let ([], sequence) = Sequence::from_der(der).ok()? else { return None };
    let (rest, _version) = Any::from_der(&sequence.content).ok()?;
    let (rest, _key) = Any::from_der(rest).ok()?;
    match fwid(rest)? {
        (id, []) => Some(id),
        _ => None,
    }
}

/// DiceTcbInfo of TCG's DICE attestation architecture: the member `[6]` holds FWIDs, of which the first is that of the firmware.
fn tcb_info(der: &[u8]) -> Option<Register> {
    let ([], sequence) = Sequence::from_der(der).ok()? else { return None };
    let mut rest: &[u8] = &sequence.content;
    while !rest.is_empty() {
        let (after, member) = Any::from_der(rest).ok()?;
        if member.class() == Class::ContextSpecific && member.tag().0 == 6 {
            return fwid(member.data).map(|(id, _others)| id);
        }
        rest = after;
    }
    None
}

/// `SEQUENCE { SHA-384, 48 bytes }`, and what follows it.
fn fwid(der: &[u8]) -> Option<(Register, &[u8])> {
    const SHA384: Oid<'_> = oid!(2.16.840.1.101.3.4.2.2);
    let (after, sequence) = Any::from_der(der).ok()?;
    sequence.header.assert_tag(Tag::Sequence).ok()?;
    let (rest, algorithm) = Oid::from_der(sequence.data).ok()?;
    let ([], digest) = OctetString::from_der(rest).ok()? else { return None };
    let digest: [u8; 48] = digest.as_ref().try_into().ok()?;
    (algorithm == SHA384).then_some((Hex::new(digest), after))
}
