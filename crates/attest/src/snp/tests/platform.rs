//! A simulated vendor: certificates and reports of AMD's form under a root that nobody else trusts. What a recorded report
//! cannot show, since its signature covers it, is shown with these.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA384, RsaKeyPair,
};

use super::{SnpCertificates, SnpReport, SnpRoot};

/// The chip id of the simulated processor.
pub(super) const CHIP: [u8; 64] = [0xc1; 64];
/// Its firmware, as Milan and Genoa order it.
pub(super) const TCB: [u8; 8] = [4, 1, 0, 0, 0, 0, 22, 213];

pub(super) struct Vendor {
    ark: RsaKeyPair,
    ask: RsaKeyPair,
    vcek: EcdsaKeyPair,
}

pub(super) static VENDOR: LazyLock<Vendor> = LazyLock::new(Vendor::new);

/// One extension: dotted OID, whether it is critical, value.
pub(super) type Extension = (&'static str, bool, Vec<u8>);

/// What a revocation list says.
pub(super) struct Revocations {
    pub(super) serials: Vec<u8>,
    pub(super) next_update: &'static str,
    pub(super) is_by_root: bool,
}

impl Vendor {
    fn new() -> Self {
        let rsa = || RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let vcek = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self { ark: rsa(), ask: rsa(), vcek }
    }

    pub(super) fn root(&self) -> SnpRoot {
        SnpRoot::Other(certificate(("ARK", &self.ark), "ARK", 1, &rsa_key(&self.ark), &ca()))
    }

    pub(super) fn certificates(&self) -> SnpCertificates {
        self.certificates_with(|_extensions| {}, None)
    }

    /// Certificates of which the processor's has other extensions.
    pub(super) fn certificates_with(
        &self,
        change: impl FnOnce(&mut Vec<Extension>),
        revocations: Option<&Revocations>,
    ) -> SnpCertificates {
        let mut extensions = genoa();
        change(&mut extensions);
        let key = spki(&[oid("1.2.840.10045.2.1"), oid("1.3.132.0.34")], self.vcek.public_key().as_ref());
        SnpCertificates {
            vcek: certificate(("ASK", &self.ask), "VCEK", 0, &key, &extensions),
            ask: certificate(("ARK", &self.ark), "ASK", 7, &rsa_key(&self.ask), &ca()),
            revocations: revocations.map(|list| self.revocations(list)),
        }
    }

    fn revocations(&self, list: &Revocations) -> Vec<u8> {
        let serials =
            list.serials.iter().map(|serial| tlv(0x30, &[tlv(2, &[vec![*serial]]), time("240101")]));
        let mut parts = vec![tlv(2, &[vec![1]]), pss(), name("ARK"), time("240101"), time(list.next_update)];
        let serials: Vec<_> = serials.collect();
        if !serials.is_empty() {
            parts.push(tlv(0x30, &serials));
        }
        signed(&tlv(0x30, &parts), if list.is_by_root { &self.ark } else { &self.ask })
    }

    /// A report of version 3, changed before it is signed.
    pub(super) fn report(&self, change: impl FnOnce(&mut [u8; SnpReport::LEN])) -> SnpReport {
        let mut bytes = [0; SnpReport::LEN];
        bytes[0] = 3;
        bytes[0x0a] = 2;
        bytes[0x34] = 1;
        for at in [0x38, 0x180, 0x1e0, 0x1f0] {
            bytes[at..at + 8].copy_from_slice(&TCB);
        }
        // The machine was looked at for memory at two addresses.
        bytes[0x40] = 1 << 5;
        bytes[0x50..0x90].fill(0xda);
        bytes[0x90..0xc0].fill(0x3e);
        bytes[0x188..0x18b].copy_from_slice(&[0x19, 0x11, 1]);
        bytes[0x1a0..0x1e0].copy_from_slice(&CHIP);
        change(&mut bytes);
        let signature = self.vcek.sign(&SystemRandom::new(), &bytes[..0x2a0]).unwrap();
        for (half, at) in signature.as_ref().chunks_exact(48).zip([0x2a0, 0x2e8]) {
            bytes[at..at + 48].copy_from_slice(half);
            bytes[at..at + 48].reverse();
        }
        SnpReport::parse(&bytes).unwrap()
    }
}

/// What the processor's certificate says.
fn genoa() -> Vec<Extension> {
    let number = |number: u8| if number < 0x80 { vec![2, 1, number] } else { vec![2, 2, 0, number] };
    let [bootloader, tee, .., snp, microcode] = TCB;
    vec![
        ("1.3.6.1.4.1.3704.1.2", false, tlv(0x16, &[b"Genoa-B1".to_vec()])),
        ("1.3.6.1.4.1.3704.1.3.1", false, number(bootloader)),
        ("1.3.6.1.4.1.3704.1.3.2", false, number(tee)),
        ("1.3.6.1.4.1.3704.1.3.3", false, number(snp)),
        ("1.3.6.1.4.1.3704.1.3.8", false, number(microcode)),
        ("1.3.6.1.4.1.3704.1.4", false, CHIP.to_vec()),
    ]
}

/// Basic constraints of an authority.
fn ca() -> Vec<Extension> {
    vec![("2.5.29.19", true, tlv(0x30, &[tlv(1, &[vec![0xff]])]))]
}

/// A certificate of the year 2024.
fn certificate(
    (issuer, key): (&str, &RsaKeyPair),
    subject: &str,
    serial: u8,
    spki: &[u8],
    extensions: &[Extension],
) -> Vec<u8> {
    let extensions: Vec<_> = extensions
        .iter()
        .map(|(id, is_critical, value)| {
            let critical = if *is_critical { tlv(1, &[vec![0xff]]) } else { vec![] };
            tlv(0x30, &[oid(id), critical, tlv(4, std::slice::from_ref(value))])
        })
        .collect();
    let validity = tlv(0x30, &[time("240101"), time("250101")]);
    let version = tlv(0xa0, &[tlv(2, &[vec![2]])]);
    let extensions = tlv(0xa3, &[tlv(0x30, &extensions)]);
    let serial = tlv(2, &[vec![serial]]);
    let parts = [version, serial, pss(), name(issuer), validity, name(subject), spki.to_vec(), extensions];
    signed(&tlv(0x30, &parts), key)
}

fn signed(message: &[u8], key: &RsaKeyPair) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PSS_SHA384, &SystemRandom::new(), message, &mut signature).unwrap();
    tlv(0x30, &[message.to_vec(), pss(), tlv(3, &[vec![0], signature])])
}

/// RSASSA-PSS (RFC 4055) with SHA-384, MGF1 with SHA-384, and a salt of 48 bytes.
fn pss() -> Vec<u8> {
    let sha384 = tlv(0x30, &[oid("2.16.840.1.101.3.4.2.2")]);
    let mgf1 = tlv(0x30, &[oid("1.2.840.113549.1.1.8"), sha384.clone()]);
    let parameters = [tlv(0xa0, &[sha384]), tlv(0xa1, &[mgf1]), tlv(0xa2, &[tlv(2, &[vec![48]])])];
    tlv(0x30, &[oid("1.2.840.113549.1.1.10"), tlv(0x30, &parameters)])
}

fn rsa_key(key: &RsaKeyPair) -> Vec<u8> {
    key.public_key().as_der().unwrap().as_ref().to_vec()
}

fn spki(algorithm: &[Vec<u8>], key: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(0x30, algorithm), tlv(3, &[vec![0], key.to_vec()])])
}

fn name(common: &str) -> Vec<u8> {
    tlv(0x30, &[tlv(0x31, &[tlv(0x30, &[oid("2.5.4.3"), tlv(0x0c, &[common.as_bytes().to_vec()])])])])
}

/// The first second of a day, as `YYMMDD`.
fn time(day: &str) -> Vec<u8> {
    tlv(0x17, &[format!("{day}000000Z").into_bytes()])
}

fn oid(text: &str) -> Vec<u8> {
    let numbers: Vec<u64> = text.split('.').map(|number| number.parse().unwrap()).collect();
    let rest = numbers[2..].iter().copied();
    let mut bytes = Vec::new();
    for number in [numbers[0] * 40 + numbers[1]].into_iter().chain(rest) {
        let digits = (0..10).rev().map(|digit| (number >> (7 * digit) & 0x7f) as u8);
        let digits: Vec<_> = digits.skip_while(|digit| *digit == 0).collect();
        let (last, others) = digits.split_last().map_or((0, &[][..]), |(last, others)| (*last, others));
        bytes.extend(others.iter().map(|digit| digit | 0x80));
        bytes.push(last);
    }
    tlv(6, &[bytes])
}

fn tlv(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let len = match content.len() {
        0..0x80 => vec![low],
        0x80..0x100 => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [vec![tag], len, content].concat()
}
