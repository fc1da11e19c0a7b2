//! What a file of evidence is, by its first bytes and its length.

use crate::event_log;
use crate::nvidia::GpuReport;
use crate::snp::SnpReport;

/// A kind of evidence, as files hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvidenceKind {
    /// A quote of Intel TDX or SGX.
    Quote,
    /// A report of AMD SEV-SNP, or of what came before it and is always refused.
    SnpReport,
    /// A certificate, as PEM or DER.
    Certificate,
    /// The log of a measured boot.
    EventLog,
    /// A report of an NVIDIA GPU.
    GpuReport,
    /// A token of NVIDIA's attestation service, or reports of GPUs with their certificates.
    GpuEvidence,
}

impl EvidenceKind {
    /// What these bytes are if they are evidence: no more than a guess by which parser to ask. What looks like nothing else is
    /// taken for a quote.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let number =
            |at| bytes.get(at..).and_then(<[u8]>::first_chunk).map(|number| u32::from_le_bytes(*number));
        if bytes.starts_with(b"\x30\x82") || bytes.starts_with(b"-----BEGIN ") {
            Self::Certificate
        } else if event_log::is_begun(bytes) {
            Self::EventLog
        } else if bytes.starts_with(&GpuReport::REQUEST) {
            Self::GpuReport
        } else if [&b"["[..], b"{", b"eyJ"].iter().any(|first| bytes.trim_ascii_start().starts_with(first)) {
            Self::GpuEvidence
        } else if bytes.len() == SnpReport::PLAIN_SEV_LEN
            || bytes.len() == SnpReport::LEN && number(0) < Some(0x1_0000)
        {
            // A quote of the same length would have the type of its key, which is not zero, in the upper half of its first number.
            Self::SnpReport
        } else {
            Self::Quote
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_evidence_is_recognised() {
        let quotes = [
            include_bytes!("../../../spec/vectors/quotes/tdx_quote.dat").as_slice(),
            include_bytes!("../../../spec/vectors/quotes/tdx_quote_td15ex.dat"),
            include_bytes!("../../../spec/vectors/quotes/sgx_quote.dat"),
        ];
        for quote in quotes {
            assert_eq!(EvidenceKind::of(quote), EvidenceKind::Quote);
            assert_eq!(EvidenceKind::of(&quote[..SnpReport::LEN]), EvidenceKind::Quote);
        }
        let report = include_bytes!("../../../spec/vectors/quotes/snp_milan.dat");
        assert_eq!(EvidenceKind::of(report), EvidenceKind::SnpReport);
        assert_eq!(EvidenceKind::of(&report[..208]), EvidenceKind::SnpReport);
        let pem = include_bytes!("../../../spec/vectors/quotes/snp_milan.certificates.pem");
        assert_eq!(EvidenceKind::of(pem), EvidenceKind::Certificate);
        assert_eq!(EvidenceKind::of(include_bytes!("../roots/amd_milan.der")), EvidenceKind::Certificate);
        let hopper = include_bytes!("../../../spec/vectors/quotes/nvidia_hopper.dat");
        assert_eq!(EvidenceKind::of(hopper), EvidenceKind::GpuReport);
        let token = include_bytes!("../../../spec/vectors/quotes/nvidia_token.json");
        for gpus in [token, &b"eyJhbGciOiJFUzM4NCJ9.e30."[..], b"\n {\"evidences\": []}"] {
            assert_eq!(EvidenceKind::of(gpus), EvidenceKind::GpuEvidence);
        }
        for nothing in [&b""[..], b"#", &[0; 2000]] {
            assert_eq!(EvidenceKind::of(nothing), EvidenceKind::Quote);
        }
    }
}
