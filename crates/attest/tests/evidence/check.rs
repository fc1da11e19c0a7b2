//! What must hold of evidence whatever bytes it is, shared by tests and fuzz targets. Where evidence is verified, the first
//! four bytes are the clock: seconds since 1970, little-endian.

use std::sync::LazyLock;
use std::time::Duration;

use attest::measure::{PageOrder, mrtd, rtmr1};
use attest::sealed_key::{KeyAnswer, KeyRequest, MESSAGE_LEN_MAX};
use attest::{
    Allowed, Certificate, Collateral, EvidenceKind, GpuCertificates, GpuEvidence, GpuForm, GpuKeys,
    GpuReport, GpuRoot, GpuVerified, GpuVerifier, Policy, Quote, Root, SnpCertificates, SnpReport, SnpRoot,
    SnpVerifier, Tee, Verifier, event_log, quote_service, report_data_of_key,
};

const TDX: &[u8] = include_bytes!("../../../../spec/vectors/quotes/tdx_quote.dat");
const SGX: &[u8] = include_bytes!("../../../../spec/vectors/quotes/sgx_quote.dat");
const TDX_COLLATERAL: &str = include_str!("../../../../spec/vectors/quotes/tdx_quote.collateral.json");
const SGX_COLLATERAL: &str = include_str!("../../../../spec/vectors/quotes/sgx_quote.collateral.json");
const MILAN: &[u8] = include_bytes!("../../../../spec/vectors/quotes/snp_milan.dat");
const MILAN_PEM: &[u8] = include_bytes!("../../../../spec/vectors/quotes/snp_milan.certificates.pem");

const HOPPER: &[u8] = include_bytes!("../../../../spec/vectors/quotes/nvidia_hopper.dat");
const HOPPER_PEM: &[u8] = include_bytes!("../../../../spec/vectors/quotes/nvidia_hopper.certificates.pem");
const GPU_TOKEN: &[u8] = include_bytes!("../../../../spec/vectors/quotes/nvidia_token.json");
const GPU_KEYS: &[u8] = include_bytes!("../../../../spec/vectors/quotes/nvidia_token.keys.json");

/// Trusts NVIDIA's root and the recorded token's key.
static GPUS: LazyLock<GpuVerifier> =
    LazyLock::new(|| GpuVerifier::new(GpuRoot::Nvidia, GpuKeys::from_json(GPU_KEYS).expect("recorded")));
static GPU_CERTIFICATES: LazyLock<GpuCertificates> =
    LazyLock::new(|| GpuCertificates::from_pem(HOPPER_PEM).expect("recorded"));

/// Collateral of the recorded quotes: TDX, SGX.
static COLLATERAL: LazyLock<[Collateral; 2]> = LazyLock::new(|| {
    [TDX_COLLATERAL, SGX_COLLATERAL].map(|text| Collateral::from_json(text).expect("recorded"))
});
static CERTIFICATES: LazyLock<SnpCertificates> =
    LazyLock::new(|| SnpCertificates::from_pem(MILAN_PEM).expect("recorded"));
static REPORT: LazyLock<SnpReport> = LazyLock::new(|| SnpReport::parse(MILAN).expect("recorded"));
static QUOTE: LazyLock<Quote> = LazyLock::new(|| Quote::parse(TDX).expect("recorded"));

fn clock(input: &[u8]) -> Option<(Duration, &[u8])> {
    let (now, rest) = input.split_first_chunk()?;
    Some((Duration::from_secs(u32::from_le_bytes(*now).into()), rest))
}

/// A quote with the recorded collateral: none but the recorded ones is genuine, and these only in their time.
pub(crate) fn quote(input: &[u8]) {
    let Some((now, bytes)) = clock(input) else { return };
    let Ok(quote) = Quote::parse(bytes) else { return };
    assert_eq!(Quote::parse(quote.as_bytes()).as_ref(), Ok(&quote), "padding is no part of a quote");
    let _kind = quote.collateral_kind();
    let [tdx, sgx] = &*COLLATERAL;
    let (collateral, recorded) = if quote.claims().tee == Tee::Sgx { (sgx, SGX) } else { (tdx, TDX) };
    if let Ok(verified) = Verifier::new(Root::Intel).verify(&quote, collateral, now) {
        // Header, body: what the platform's key signs.
        let signed = if quote.claims().tee == Tee::Sgx { 48 + 384 } else { 48 + 584 };
        assert_eq!(quote.as_bytes()[..signed], recorded[..signed], "nobody but the platform makes a quote");
        assert!(verified.valid_until() > now && !verified.is_simulated());
    }
}

/// A report with the recorded certificates: none but the recorded one is genuine.
pub(crate) fn snp_report(input: &[u8]) {
    let Some((now, bytes)) = clock(input) else { return };
    let Ok(report) = SnpReport::parse(bytes) else { return };
    assert_eq!(report.as_bytes(), bytes);
    if let Ok(verified) = SnpVerifier::new(SnpRoot::Amd).verify(&report, &CERTIFICATES, now) {
        assert_eq!(bytes[..0x2a0], MILAN[..0x2a0], "nobody but the processor makes a report");
        assert!(verified.valid_until() >= now && !verified.is_simulated());
    }
}

/// Certificates for the recorded report: whichever lead to AMD's root say the same of it.
pub(crate) fn snp_certificates(input: &[u8]) {
    let Some((now, bytes)) = clock(input) else { return };
    let Ok(certificates) = SnpCertificates::from_pem(bytes) else { return };
    let verify = |certificates| SnpVerifier::new(SnpRoot::Amd).verify(&REPORT, certificates, now);
    if let Ok(verified) = verify(&certificates) {
        let recorded = verify(&CERTIFICATES).expect("it is their time");
        assert_eq!(verified.platform().id, recorded.platform().id);
        assert_eq!(verified.platform().root_key, recorded.platform().root_key);
    }
}

/// A certificate of the network, and the evidence in it.
pub(crate) fn certificate(bytes: &[u8]) {
    let Ok(certificate) = Certificate::parse(bytes) else { return };
    let again = Certificate::parse(&certificate.der).expect("what was read from PEM is read from its DER");
    assert_eq!(again, certificate);
    assert_eq!(certificate.report_data(), report_data_of_key(&certificate.public_key));
    if let Some(evidence) = &certificate.evidence {
        assert!(evidence.len() <= Quote::LEN_MAX);
        match EvidenceKind::of(evidence) {
            EvidenceKind::SnpReport => drop(SnpReport::parse(evidence)),
            _ => drop(Quote::parse(evidence)),
        }
    }
}

/// An event log: it ends where ones begin, and every event changes a register.
pub(crate) fn event_log(bytes: &[u8]) {
    let Ok(events) = event_log::parse(bytes) else { return };
    let ended = [bytes, &[0xff; 4]].concat();
    if ended.len() <= event_log::LEN_MAX {
        assert_eq!(event_log::parse(&ended).as_ref(), Ok(&events));
    }
    let registers = event_log::replay(&events, []);
    if let Some((_last, before)) = events.split_last() {
        assert_ne!(event_log::replay(before, []), registers);
    }
}

/// A policy (JSON), a byte of zero, collateral: what they accept at some time is what was recorded, and an empty list accepts nothing.
pub(crate) fn policy(input: &[u8]) {
    let Some((now, bytes)) = clock(input) else { return };
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let policy = parts.next().and_then(|json| serde_json::from_slice::<Policy>(json).ok());
    let collateral = parts.next().and_then(|text| std::str::from_utf8(text).ok());
    let collateral = collateral.and_then(|text| Collateral::from_json(text).ok());
    if let Some(collateral) = &collateral {
        let _next = collateral.next_update();
    }
    let policy = policy.unwrap_or_else(|| Policy::for_images(Allowed::default()));
    let written = serde_json::to_vec(&policy).expect("a policy");
    assert_eq!(serde_json::from_slice::<Policy>(&written).expect("what was written"), policy);
    let collateral = collateral.as_ref().unwrap_or(&COLLATERAL[0]);
    let report_data = *QUOTE.claims().measurements.report_data();
    let appraised = Verifier::new(Root::Intel).appraise(&QUOTE, &report_data, collateral, &policy, now);
    if let Ok(appraised) = appraised {
        assert!(policy.images.allows(&appraised.image()) && policy.tees.contains(&Tee::Tdx));
        assert!(appraised.valid_until() > now);
        assert_eq!(appraised.claims(), QUOTE.claims());
    }
    let report_data = *REPORT.claims().measurements.report_data();
    let verifier = SnpVerifier::new(SnpRoot::Amd);
    if verifier.appraise(&REPORT, &report_data, &CERTIFICATES, &policy, now).is_ok() {
        assert!(policy.snp.is_some() && policy.tees.contains(&Tee::Snp));
    }
    let gpu = with_recorded_certificates(GpuReport::parse(HOPPER).expect("recorded"));
    let nonce = gpu.nonce().expect("recorded");
    if let Ok(appraised) = GPUS.appraise(&gpu, &nonce, &policy, now) {
        let gpus = policy.nvidia.as_ref().expect("no GPU is accepted without a policy for it");
        assert!(gpus.forms.contains(&GpuForm::Report) && gpus.gpus_min <= 1);
        assert!(gpus.golden != Allowed::only([]) && gpus.models.allows(&appraised.gpus()[0].model));
    }
}

/// What was asked for is what it answers: nobody asks here.
fn verify_gpus(evidence: &GpuEvidence, now: Duration) -> Option<GpuVerified> {
    GPUS.verify(evidence, &evidence.nonce()?, now).ok()
}

fn with_recorded_certificates(report: GpuReport) -> GpuEvidence {
    GpuEvidence::Reports(vec![(report, GPU_CERTIFICATES.clone())])
}

/// A report of a GPU with recorded certificates: none but the recorded one is genuine.
pub(crate) fn gpu_report(input: &[u8]) {
    let Some((now, bytes)) = clock(input) else { return };
    let Ok(report) = GpuReport::parse(bytes) else { return };
    assert_eq!(report.as_bytes(), bytes);
    assert!(!report.measurements().contains_key(&0));
    if let Some(verified) = verify_gpus(&with_recorded_certificates(report), now) {
        let signed = HOPPER.len() - 96;
        assert_eq!(bytes[..signed], HOPPER[..signed], "nobody but the GPU makes a report");
        assert!(verified.valid_until() >= now && !verified.is_simulated());
    }
}

/// Certificates for the recorded report of a GPU: whichever lead to NVIDIA's root say the same of it.
pub(crate) fn gpu_certificates(input: &[u8]) {
    let Some((now, bytes)) = clock(input) else { return };
    let Ok(certificates) = GpuCertificates::from_pem(bytes) else { return };
    let report = GpuReport::parse(HOPPER).expect("recorded");
    if let Some(verified) = verify_gpus(&GpuEvidence::Reports(vec![(report.clone(), certificates)]), now) {
        assert_eq!(Some(verified), verify_gpus(&with_recorded_certificates(report), now));
    }
}

/// A token or reports as text, or a set of keys: a token that is genuine says what the recorded one says, in its time.
pub(crate) fn gpu_evidence(input: &[u8]) {
    let Some((now, bytes)) = clock(input) else { return };
    let _keys = GpuKeys::from_json(bytes);
    let Ok(evidence) = GpuEvidence::parse(bytes) else { return };
    let Some(verified) = verify_gpus(&evidence, now) else { return };
    assert!(verified.valid_until() > now && !verified.gpus().is_empty());
    if verified.form() == GpuForm::Token {
        let recorded = GpuEvidence::parse(GPU_TOKEN).expect("recorded");
        let recorded = verify_gpus(&recorded, now).expect("it is its time");
        assert_eq!(verified.gpus(), recorded.gpus());
    }
}

/// A message of sealed keys, of either side: what is read means the same when written again.
pub(crate) fn sealed_key(input: &[u8]) {
    if let Ok(request) = KeyRequest::parse(input) {
        assert_eq!(KeyRequest::parse(&request.to_bytes()).as_ref(), Ok(&request));
    }
    if let Ok(answer) = KeyAnswer::parse(input) {
        assert_eq!(KeyAnswer::parse(&answer.to_bytes()).as_ref(), Ok(&answer));
        assert!(input.len() <= MESSAGE_LEN_MAX);
    }
}

/// A message of the quote generation service: a quote is its end, and only with the length that the message says.
pub(crate) fn quote_answer(input: &[u8]) {
    if let Ok(quote) = quote_service::quote_of(input) {
        assert!(!quote.is_empty() && input.ends_with(quote) && input.len() <= quote_service::ANSWER_LEN_MAX);
        assert!(quote_service::quote_of(&input[..input.len() - 1]).is_err());
        assert!(quote_service::quote_of(&[input, &[0]].concat()).is_err());
    }
}

/// A firmware image or a kernel: measuring it ends, and both orders of pages take the same images.
pub(crate) fn image(input: &[u8]) {
    let [by_page, after] =
        [PageOrder::PageByPage, PageOrder::AllThenMeasured].map(|order| mrtd(input, order).err());
    assert_eq!(by_page, after);
    let _register = rtmr1(input);
}
