//! Reports: whatever is not exactly what the GPU signed, under NVIDIA's root, is refused.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use time::OffsetDateTime;

use super::vendor::{FIRMWARE, Parts, VENDOR, tcb_info};
use super::*;

pub(super) const YEAR_2026: Duration = Duration::from_secs(1_780_000_000);

fn refusal(evidence: &GpuEvidence) -> GpuRefusal {
    VENDOR.verifier().appraise(evidence, &nonce(), &policy(any()), YEAR_2026).unwrap_err()
}

fn of_certificates(change: impl Fn(usize, &mut CertificateParams)) -> GpuRefusal {
    refusal(&GpuEvidence::Reports(vec![(VENDOR.report(|_parts| {}), VENDOR.certificates(change))]))
}

#[test]
fn no_byte_of_a_recorded_report_can_be_another() {
    let certificates = GpuCertificates::from_pem(BLACKWELL_PEM).unwrap();
    for at in 0..BLACKWELL.len() {
        let mut bytes = BLACKWELL.to_vec();
        bytes[at] ^= 1;
        let Ok(report) = GpuReport::parse(&bytes) else { continue };
        // What it was asked for with is granted: the signature is over it too.
        let asked = report.nonce();
        let evidence = GpuEvidence::Reports(vec![(report, certificates.clone())]);
        let outcome = nvidia().verify(&evidence, &asked, JULY_2026);
        assert!(matches!(outcome, Err(GpuRefusal::ReportSignature { .. })), "{at}: {outcome:?}");
    }
}

#[test]
fn no_byte_of_recorded_certificates_can_be_another() {
    let GpuCertificates(chain) = GpuCertificates::from_pem(BLACKWELL_PEM).unwrap();
    let report = GpuReport::parse(BLACKWELL).unwrap();
    // The root that comes along is not read further than that it is one.
    for which in 0..4 {
        for at in 0..chain[which].len() {
            let mut chain = chain.clone();
            chain[which][at] ^= 1;
            let evidence = GpuEvidence::Reports(vec![(report.clone(), GpuCertificates(chain))]);
            let outcome = nvidia().verify(&evidence, &nonce(), JULY_2026);
            assert!(outcome.is_err(), "certificate {which}, byte {at}");
        }
    }
}

#[test]
fn a_report_is_read_to_its_last_byte_and_no_further() {
    for len in 0..HOPPER.len() {
        assert!(GpuReport::parse(&HOPPER[..len]).is_err(), "{len}");
    }
    let longer = GpuReport::parse(&[HOPPER, &[0]].concat());
    assert!(matches!(longer, Err(GpuReportError::Trailing { len: 1, .. })), "{longer:?}");
    let long = GpuReport::parse(&vec![0x11; GpuReport::LEN_MAX + 1]);
    assert!(matches!(long, Err(GpuReportError::TooLong { .. })), "{long:?}");
}

#[test]
fn recorded_reports_are_of_their_nonce_root_certificates_and_time() {
    let verify = |verifier: GpuVerifier, pem: &[u8], nonce: &GpuNonce, now| {
        verifier.verify(&report(BLACKWELL, pem), nonce, now)
    };
    let other = GpuNonce::new([7; 32]);
    let refused = verify(nvidia(), BLACKWELL_PEM, &other, JULY_2026).unwrap_err();
    assert_eq!(refused, GpuRefusal::Nonce { name: "GPU-0".to_owned(), expected: other, found: nonce() });
    let refused = verify(VENDOR.verifier(), BLACKWELL_PEM, &nonce(), JULY_2026).unwrap_err();
    assert_eq!(refused, GpuRefusal::CertificateSignature { at: 3, is_by_root: true });
    let refused = verify(nvidia(), HOPPER_PEM, &nonce(), JULY_2026).unwrap_err();
    assert!(matches!(refused, GpuRefusal::ReportSignature { .. }), "{refused:?}");
    let early = Duration::from_secs(1_600_000_000);
    let refused = verify(nvidia(), BLACKWELL_PEM, &nonce(), early).unwrap_err();
    assert!(matches!(refused, GpuRefusal::CertificateTime { at: 0, .. }), "{refused:?}");
    let late = Duration::from_secs(253_402_300_800);
    let refused = verify(nvidia(), BLACKWELL_PEM, &nonce(), late).unwrap_err();
    assert!(matches!(refused, GpuRefusal::CertificateTime { .. }), "{refused:?}");
    // One GPU, shown as two.
    let GpuEvidence::Reports(one) = report(BLACKWELL, BLACKWELL_PEM) else { panic!("a report") };
    let twice = nvidia().verify(&GpuEvidence::Reports([&one[..], &one].concat()), &nonce(), JULY_2026);
    assert!(matches!(twice, Err(GpuRefusal::Twice { .. })), "{twice:?}");
}

#[test]
fn certificates_come_in_their_order_and_lead_to_the_root() {
    let GpuCertificates(chain) = GpuCertificates::from_pem(HOPPER_PEM).unwrap();
    let asked = GpuReport::parse(HOPPER).unwrap().nonce();
    let verify = |chain: &[Vec<u8>]| {
        let evidence = (GpuReport::parse(HOPPER).unwrap(), GpuCertificates(chain.to_vec()));
        nvidia().verify(&GpuEvidence::Reports(vec![evidence]), &asked, JULY_2026)
    };
    assert!(verify(&chain).is_ok() && verify(&chain[..4]).is_ok(), "with its root and without");
    assert_eq!(verify(&chain[..1]), Err(GpuRefusal::NoDevice { found: 1 }));
    // A root is nowhere but at the end.
    for at in 0..4 {
        let mut chain = chain.clone();
        chain.insert(at, chain[4].clone());
        assert!(verify(&chain).is_err(), "root at {at}");
    }
    for missing in 0..4 {
        let mut chain = chain.clone();
        chain.remove(missing);
        assert!(verify(&chain).is_err(), "{missing}");
    }
    for at in 0..3 {
        let mut chain = chain.clone();
        chain.swap(at, at + 1);
        assert!(verify(&chain).is_err(), "{at}");
    }
}

#[test]
fn a_text_with_other_than_certificates_is_refused() {
    use GpuCertificatesError as Error;
    let read = GpuCertificates::from_pem;
    assert!(matches!(read(b""), Err(Error::Count { found: 0 })));
    let first =
        &HOPPER_PEM[..HOPPER_PEM.windows(25).position(|at| at == b"-----END CERTIFICATE-----").unwrap() + 26];
    assert!(matches!(read(first), Err(Error::Count { found: 1 })));
    assert!(read(&first.repeat(8)).is_ok());
    let many = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".repeat(9);
    assert!(matches!(read(&many), Err(Error::Count { found: 9 })));
    assert!(matches!(read(&HOPPER_PEM[..1000]), Err(Error::Pem(_))));
    let key = b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    assert!(matches!(read(key), Err(Error::Section { at: 1 })));
    assert!(matches!(read(&[b'\n'; GpuCertificates::LEN_MAX + 1]), Err(Error::TooLong { .. })));
    let no_x509 = GpuCertificates(vec![vec![0x30, 0]; 2]);
    let evidence = GpuEvidence::Reports(vec![(VENDOR.report(|_parts| {}), no_x509)]);
    assert_eq!(refusal(&evidence), GpuRefusal::Malformed { at: 0 });
}

#[test]
fn simulated_reports_are_accepted_as_recorded_ones_are() {
    let evidence = VENDOR.evidence(|_parts| {});
    let appraised = VENDOR.verifier().appraise(&evidence, &nonce(), &policy(any()), YEAR_2026).unwrap();
    assert!(appraised.is_simulated());
    assert_eq!(appraised.gpus()[0].model, "GX100 A01 GSP BROM");
    assert_eq!(appraised.gpus()[0].device, "260");
    let refused = nvidia().appraise(&evidence, &nonce(), &policy(any()), YEAR_2026).unwrap_err();
    assert_eq!(refused, GpuRefusal::CertificateSignature { at: 3, is_by_root: true });
}

#[test]
fn one_gpu_under_two_firmwares_is_one() {
    let numbered = |serial| {
        VENDOR.certificates(move |which, params| {
            if which == 4 {
                params.serial_number = Some(SerialNumber::from(vec![serial]));
            }
        })
    };
    let report = || VENDOR.report(|_parts| {});
    let verify = |reports| VENDOR.verifier().verify(&GpuEvidence::Reports(reports), &nonce(), YEAR_2026);
    let twice = verify(vec![(report(), numbered(1)), (report(), numbered(2))]);
    assert_eq!(twice, Err(GpuRefusal::Twice { device: "2".to_owned() }));
    // Two GPUs are two, though their numbers be one.
    let other = VENDOR.with_other_gpu();
    let others = (other.report(|_parts| {}), other.certificates(|_which, _params| {}));
    let two = verify(vec![(report(), VENDOR.certificates(|_which, _params| {})), others]).unwrap();
    assert_eq!(two.gpus().len(), 2);
}

#[test]
fn each_certificate_is_for_one_use() {
    let in_use = |refusal: GpuRefusal, at| assert_eq!(refusal, GpuRefusal::CertificateUse { at });
    for at in 1..4 {
        in_use(
            of_certificates(|which, params| {
                if which == at {
                    params.is_ca = IsCa::ExplicitNoCa;
                }
            }),
            4 - at,
        );
        in_use(
            of_certificates(|which, params| {
                if which == at {
                    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
                }
            }),
            4 - at,
        );
    }
    in_use(
        of_certificates(|which, params| {
            if which == 4 {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
        }),
        0,
    );
    in_use(
        of_certificates(|which, params| {
            if which == 4 {
                params.key_usages = Vec::new();
            }
        }),
        0,
    );
    // The product's authority may have none below it, and has two.
    in_use(
        of_certificates(|which, params| {
            if which == 1 {
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
            }
        }),
        3,
    );
    let unknown = of_certificates(|which, params| {
        if which == 2 {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        }
    });
    assert_eq!(unknown, GpuRefusal::CriticalExtension { at: 2, oid: "1.2.3".to_owned() });
    let expired = of_certificates(|which, params| {
        if which == 2 {
            params.not_after = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        }
    });
    assert!(
        matches!(expired, GpuRefusal::CertificateTime { at: 2, until: 1_700_000_000, .. }),
        "{expired:?}"
    );
}

#[test]
fn keys_are_on_p384() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificates = VENDOR.certificates_of(&key);
    let evidence = GpuEvidence::Reports(vec![(VENDOR.report(|_parts| {}), certificates)]);
    let found = "1.2.840.10045.2.1 on 1.2.840.10045.3.1.7".to_owned();
    assert_eq!(refusal(&evidence), GpuRefusal::CertificateKey { at: 0, found });
}

#[test]
fn certificates_and_what_was_verified_by_them_end_at_one_second() {
    let until = Duration::from_secs(1_790_000_000);
    let certificates = VENDOR.certificates(|which, params| {
        if which == 2 {
            params.not_after = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
        }
    });
    let evidence = GpuEvidence::Reports(vec![(VENDOR.report(|_parts| {}), certificates)]);
    let last = until - Duration::from_secs(1);
    let verified = VENDOR.verifier().verify(&evidence, &nonce(), last).unwrap();
    assert_eq!(verified.valid_until(), until);
    let late = VENDOR.verifier().verify(&evidence, &nonce(), until).unwrap_err();
    assert!(matches!(late, GpuRefusal::CertificateTime { at: 2, until: 1_790_000_000, .. }), "{late:?}");
    let patient = GpuPolicy { age_max_s: u32::MAX, ..any() };
    assert_eq!(patient.appraise(verified.clone(), last).unwrap().valid_until(), until);
    assert_eq!(patient.appraise(verified.clone(), until), Err(GpuRefusal::Lapsed { until, now: until }));
    // What lapsed for both reasons is named by the one that no policy mends.
    let late = GpuPolicy { age_max_s: 0, ..any() }.appraise(verified, until);
    assert_eq!(late, Err(GpuRefusal::Lapsed { until, now: until }));
}

#[test]
fn a_reports_key_is_of_the_firmware_that_the_report_names() {
    let of_leaf = |extensions: Vec<CustomExtension>| {
        of_certificates(move |which, params| {
            if which == 4 {
                params.custom_extensions.clone_from(&extensions);
            }
        })
    };
    let other = of_leaf(vec![tcb_info(&[6], &[0xf2; 48])]);
    assert!(matches!(other, GpuRefusal::Firmware { .. }), "{other:?}");
    for unreadable in [
        vec![],
        vec![tcb_info(&[], &FIRMWARE)],
        vec![tcb_info(&[5], &FIRMWARE)],
        vec![tcb_info(&[6], &FIRMWARE[..32])],
        vec![
            tcb_info(&[6], &FIRMWARE),
            CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1], vec![0x30, 0]),
        ],
        vec![CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1, 1], vec![0x30, 3, 0xa6, 1, 0x30])],
    ] {
        assert_eq!(of_leaf(unreadable), GpuRefusal::NoCertificateFirmware);
    }
    let silent = refusal(&VENDOR.evidence(|parts| parts.fields.retain(|(kind, _value)| *kind != 20)));
    assert_eq!(silent, GpuRefusal::NoFirmware { name: "GPU-0".to_owned() });
}

#[test]
fn each_part_of_a_report_is_as_the_protocol_has_it() {
    let error = |change: &dyn Fn(&mut Parts)| GpuReport::parse(&VENDOR.report_bytes(change)).unwrap_err();
    for at in [0, 1, 2, 3, 36] {
        let other = error(&|parts| parts.request[at] ^= 0x10);
        assert!(matches!(other, GpuReportError::Message { .. }), "{at}: {other:?}");
    }
    for at in 0..4 {
        let other = error(&|parts| parts.head[at] ^= 0x10);
        assert!(matches!(other, GpuReportError::Message { part: "answer", .. }), "{at}: {other:?}");
    }
    // Index zero, another specification, another length, raw bytes, twice the same.
    for (at, value) in [(0, 0), (1, 2), (2, 50), (4, 0x81), (5, 47), (0, 2)] {
        let other = error(&|parts| parts.blocks[0][at] = value);
        assert!(matches!(other, GpuReportError::Measurement { .. }), "{at}: {other:?}");
    }
    let short = error(&|parts| parts.blocks[63].truncate(54));
    assert_eq!(short, GpuReportError::Truncated { part: "measurements" });
    let long = error(&|parts| parts.blocks[63].push(0));
    assert_eq!(long, GpuReportError::Trailing { part: "measurements", len: 1 });
    for (kind, value) in [
        (6, vec![0; 7]),
        (6, vec![1; 8]),
        (3, b"580.159.03".to_vec()),
        (3, b"580 beta\0".to_vec()),
        (3, vec![0]),
        (20, vec![0; 47]),
        (21, vec![1]),
    ] {
        let other = error(&|parts| {
            let field = parts.fields.iter_mut().find(|field| field.0 == kind).unwrap();
            field.1.clone_from(&value);
        });
        assert!(matches!(other, GpuReportError::Field { kind: found, .. } if found == kind), "{other:?}");
    }
    for kind in [3, 6] {
        let absent = error(&|parts| parts.fields.retain(|field| field.0 != kind));
        assert!(matches!(absent, GpuReportError::Field { kind: found, .. } if found == kind), "{absent:?}");
    }
    let twice = error(&|parts| parts.fields.push((999, vec![])));
    assert!(matches!(twice, GpuReportError::Field { kind: 999, .. }), "{twice:?}");
}
