//! A simulated vendor: certificates, reports and tokens of NVIDIA's form under a root and a key that nobody else trusts.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, SerialNumber,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;

/// Digest of the simulated firmware.
pub(super) const FIRMWARE: [u8; 48] = [0xf1; 48];

pub(super) struct Vendor {
    /// Of root, product, provisioner, GPU, report.
    keys: [KeyPair; 5],
    service: EcdsaKeyPair,
}

pub(super) static VENDOR: LazyLock<Vendor> = LazyLock::new(|| Vendor {
    keys: std::array::from_fn(|_key| KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()),
    service: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
});

fn certificate(at: usize) -> CertificateParams {
    let mut params = CertificateParams::default();
    let name = ["Root", "Product", "Provisioner", "GX100 A01 GSP BROM", "GX100 A01 GSP FMC LF"][at];
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(vec![1, u8::try_from(at).unwrap()]));
    params.not_before = OffsetDateTime::from_unix_timestamp(1_600_000_000).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    if at == 4 {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.custom_extensions.push(tcb_info(&[6], &FIRMWARE));
    } else {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    params
}

/// DiceTcbInfo with a FWID in the member with this number.
pub(super) fn tcb_info(member: &[u8], firmware: &[u8]) -> CustomExtension {
    let tlv = |tag: u8, value: &[u8]| [&[tag, u8::try_from(value.len()).unwrap()][..], value].concat();
    let sha384 = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
    let id = tlv(0x30, &[&sha384[..], &tlv(4, firmware)].concat());
    let numbered = member.iter().map(|number| tlv(0xa0 | number, &id));
    let members = [vec![0x80, 1, b'v']].into_iter().chain(numbered).collect::<Vec<_>>().concat();
    let der = tlv(0x30, &members);
    CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1, 1], der)
}

impl Vendor {
    /// The same vendor with another GPU.
    pub(super) fn with_other_gpu(&self) -> Self {
        let old = |at: usize| KeyPair::try_from(self.keys[at].serialized_der()).unwrap();
        let new = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        Self {
            keys: [old(0), old(1), old(2), new(), new()],
            service: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
        }
    }

    /// Trusts it.
    pub(super) fn verifier(&self) -> GpuVerifier {
        let root = certificate(0).self_signed(&self.keys[0]).unwrap();
        GpuVerifier::new(GpuRoot::Other(root.der().to_vec()), self.key_set())
    }

    /// Certificates, changed before they are signed: 4 is that of the report's key, 0 the root's.
    pub(super) fn certificates(&self, change: impl Fn(usize, &mut CertificateParams)) -> GpuCertificates {
        let params: Vec<_> = (0..5)
            .map(|at| {
                let mut params = certificate(at);
                change(at, &mut params);
                params
            })
            .collect();
        let signed = (1..5).rev().map(|at| {
            let issuer = Issuer::from_params(&params[at - 1], &self.keys[at - 1]);
            params[at].signed_by(&self.keys[at], &issuer).unwrap().der().to_vec()
        });
        GpuCertificates(signed.collect())
    }

    /// Certificates of a GPU whose reports are signed with this key.
    pub(super) fn certificates_of(&self, key: &KeyPair) -> GpuCertificates {
        let GpuCertificates(mut chain) = self.certificates(|_at, _params| {});
        let gpu = certificate(3);
        let issuer = Issuer::from_params(&gpu, &self.keys[3]);
        chain[0] = certificate(4).signed_by(key, &issuer).unwrap().der().to_vec();
        GpuCertificates(chain)
    }

    /// A report, changed before it is signed.
    pub(super) fn report(&self, change: impl FnOnce(&mut Parts)) -> GpuReport {
        let bytes = self.report_bytes(change);
        GpuReport::parse(&bytes).unwrap()
    }

    pub(super) fn report_bytes(&self, change: impl FnOnce(&mut Parts)) -> Vec<u8> {
        let mut parts = Parts::default();
        change(&mut parts);
        let unsigned = parts.bytes();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, self.keys[4].serialized_der())
            .unwrap();
        let signature = key.sign(&SystemRandom::new(), &unsigned).unwrap();
        [&unsigned, signature.as_ref()].concat()
    }

    pub(super) fn evidence(&self, change: impl FnOnce(&mut Parts)) -> GpuEvidence {
        GpuEvidence::Reports(vec![(self.report(change), self.certificates(|_at, _params| {}))])
    }

    /// The service's keys, as it publishes them.
    pub(super) fn key(&self) -> Value {
        let point = self.service.public_key().as_ref();
        let [x, y] = [&point[1..49], &point[49..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({"kty": "EC", "crv": "P-384", "kid": "one", "use": "sig", "x": x, "y": y})
    }

    fn key_set(&self) -> GpuKeys {
        GpuKeys::from_json(json!({"keys": [self.key()]}).to_string().as_bytes()).unwrap()
    }

    /// A token, signed whatever its header says.
    pub(super) fn jwt(&self, header: &str, claims: &str) -> String {
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = self.service.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The service's answer, changed before it is signed: the overall claims first, then those of each GPU.
    pub(super) fn answer(&self, gpus: usize, change: impl Fn(usize, &mut Value)) -> String {
        let header = r#"{"alg": "ES384", "kid": "one"}"#;
        let tokens: Vec<_> = (0..gpus)
            .map(|at| {
                let mut claims = recorded_claims();
                claims["ueid"] = format!("{at}").into();
                change(at + 1, &mut claims);
                self.jwt(header, &claims.to_string())
            })
            .collect();
        let mut overall = recorded_overall();
        let (mut submods, mut detached) = (json!({}), json!({}));
        for (at, token) in tokens.into_iter().enumerate() {
            let name = format!("GPU-{at}");
            let sha256 = hex::encode(digest(&SHA256, token.as_bytes()));
            submods[&name] = json!(["DIGEST", ["SHA-256", sha256]]);
            detached[&name] = token.into();
        }
        overall["submods"] = submods;
        change(0, &mut overall);
        json!([["JWT", self.jwt(header, &overall.to_string())], detached]).to_string()
    }
}

/// The claims of the recorded token.
fn recorded_overall() -> Value {
    let GpuEvidence::Token(token) = token() else { panic!("a token") };
    token.claims().clone().into()
}

fn recorded_claims() -> Value {
    let GpuEvidence::Token(token) = token() else { panic!("a token") };
    token.gpus().next().unwrap().1.clone().into()
}

/// What a report is made of.
pub(super) struct Parts {
    pub(super) request: Vec<u8>,
    pub(super) head: Vec<u8>,
    pub(super) blocks: Vec<Vec<u8>>,
    pub(super) fields: Vec<(u16, Vec<u8>)>,
}

impl Default for Parts {
    fn default() -> Self {
        let block = |index: u8| [&[index, 1, 51, 0, 1, 48, 0][..], &[index; 48]].concat();
        Self {
            request: [&[0x11, 0xe0, 1, 0xff][..], nonce().as_bytes(), &[0]].concat(),
            head: vec![0x11, 0x60, 0, 0],
            blocks: (1..=64).map(block).collect(),
            fields: vec![
                (6, vec![0, 0x74, 0, 0x96, 0x20, 0, 0, 0]),
                (3, b"580.159.03\0".to_vec()),
                (20, FIRMWARE.to_vec()),
                (21, vec![0x55]),
                (999, vec![1, 2, 3]),
            ],
        }
    }
}

impl Parts {
    fn bytes(&self) -> Vec<u8> {
        let record = self.blocks.concat();
        let fields = self.fields.iter().map(|(kind, value)| {
            [&kind.to_le_bytes()[..], &u16::try_from(value.len()).unwrap().to_le_bytes(), value].concat()
        });
        let fields = fields.collect::<Vec<_>>().concat();
        [
            &self.request[..],
            &self.head,
            &[u8::try_from(self.blocks.len()).unwrap()],
            &u32::try_from(record.len()).unwrap().to_le_bytes()[..3],
            &record,
            &[0x4e; 32],
            &u16::try_from(fields.len()).unwrap().to_le_bytes(),
            &fields,
        ]
        .concat()
    }
}
