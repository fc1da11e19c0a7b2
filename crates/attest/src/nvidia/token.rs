//! Tokens of NVIDIA's attestation service: an overall one, and one for each GPU, whose digests the overall one holds
//! (detached claims of RFC 9711).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::json::{self, Members};
use super::jwt::{Jwt, short};
use super::verifier::Gpu;
use super::{GPUS_MAX, GpuKeys, GpuNonce, GpuRefusal, GpuVersion};

/// Who signs them.
pub(super) const ISSUER: &str = "https://nras.attestation.nvidia.com";
/// The claims' version.
const VERSION: &str = "3.0";
/// How far a clock of the service may be ahead of ours.
const CLOCK_SKEW_MAX: Duration = Duration::from_mins(1);
/// What the overall token is called in errors.
const OVERALL: &str = "overall";

/// What of a GPU the service has to have found true.
const TRUE: [&str; 17] = [
    "secboot",
    "x-nvidia-gpu-arch-check",
    "x-nvidia-gpu-attestation-report-parsed",
    "x-nvidia-gpu-attestation-report-nonce-match",
    "x-nvidia-gpu-attestation-report-signature-verified",
    "x-nvidia-gpu-attestation-report-cert-chain-fwid-match",
    "x-nvidia-gpu-driver-rim-fetched",
    "x-nvidia-gpu-driver-rim-schema-validated",
    "x-nvidia-gpu-driver-rim-signature-verified",
    "x-nvidia-gpu-driver-rim-version-match",
    "x-nvidia-gpu-driver-rim-measurements-available",
    "x-nvidia-gpu-vbios-rim-fetched",
    "x-nvidia-gpu-vbios-rim-schema-validated",
    "x-nvidia-gpu-vbios-rim-signature-verified",
    "x-nvidia-gpu-vbios-rim-version-match",
    "x-nvidia-gpu-vbios-rim-measurements-available",
    "x-nvidia-gpu-vbios-index-no-conflict",
];

/// Whose certificates it has to have found valid and not revoked.
const CHAINS: [&str; 3] = [
    "x-nvidia-gpu-attestation-report-cert-chain",
    "x-nvidia-gpu-driver-rim-cert-chain",
    "x-nvidia-gpu-vbios-rim-cert-chain",
];

/// What NVIDIA's attestation service says of GPUs. All of it are claims until it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuToken {
    overall: Jwt,
    gpus: BTreeMap<String, Jwt>,
}

/// A text that is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuTokenError {
    /// Longer than any.
    #[error("the token has {found} bytes, at most {} are read", GpuToken::LEN_MAX)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Neither of the forms.
    #[error(
        "this is no token of NVIDIA's attestation service, as it answers with: [[\"JWT\", OVERALL], {{\"GPU-0\": …}}]; \
         of what NVIDIA's SDK prints that is the part REMOTE_GPU_CLAIMS{reason}"
    )]
    Form {
        /// What is wrong with the JSON, if it is none.
        reason: String,
    },
    /// One of the tokens cannot be read.
    #[error("the token {name:?} cannot be read: {reason}")]
    Jwt {
        /// Which one.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More GPUs than a machine has.
    #[error("the token is about {found} GPUs, at most {GPUS_MAX} are read")]
    TooMany {
        /// Their number.
        found: usize,
    },
}

impl GpuToken {
    /// Longest accepted text in bytes; a GPU takes four thousand.
    pub const LEN_MAX: usize = 1 << 18;

    /// Reads the service's answer, or an overall token alone, which is only good to look at.
    ///
    /// # Errors
    /// [`GpuTokenError`].
    pub fn parse(text: &[u8]) -> Result<Self, GpuTokenError> {
        if text.len() > Self::LEN_MAX {
            return Err(GpuTokenError::TooLong { found: text.len() });
        }
        let form = |reason: &str| GpuTokenError::Form { reason: reason.to_owned() };
        let text = str::from_utf8(text).map_err(|_error| form(" (it is not UTF-8)"))?.trim_ascii();
        if text.starts_with("ey") {
            return Ok(Self { overall: Jwt::parse(OVERALL, text)?, gpus: BTreeMap::new() });
        }
        let bundle = json::parse(text.as_bytes()).map_err(|reason| form(&format!(" ({reason})")))?;
        let Some([overall, Value::Object(detached)]) = bundle.as_array().map(Vec::as_slice) else {
            return Err(form(""));
        };
        let Some([Value::String(kind), Value::String(overall)]) = overall.as_array().map(Vec::as_slice)
        else {
            return Err(form(""));
        };
        if kind != "JWT" {
            return Err(form(""));
        }
        if detached.len() > GPUS_MAX {
            return Err(GpuTokenError::TooMany { found: detached.len() });
        }
        let gpu = |(name, token): (&String, &Value)| {
            let token = token.as_str().ok_or_else(|| form(""))?;
            Ok((name.clone(), Jwt::parse(&short(name), token)?))
        };
        Ok(Self {
            overall: Jwt::parse(OVERALL, overall)?,
            gpus: detached.iter().map(gpu).collect::<Result<_, GpuTokenError>>()?,
        })
    }

    /// The claims about all GPUs.
    #[must_use]
    pub const fn claims(&self) -> &Members {
        &self.overall.claims
    }

    /// The claims about each GPU, by the name that the service gave it.
    pub fn gpus(&self) -> impl Iterator<Item = (&str, &Members)> {
        self.gpus.iter().map(|(name, token)| (name.as_str(), &token.claims))
    }

    /// What it was asked for with, if it says so.
    #[must_use]
    pub fn nonce(&self) -> Option<GpuNonce> {
        self.overall.claims.get("eat_nonce")?.as_str()?.parse().ok()
    }

    /// Verifies all tokens and what is not a policy's to judge. The GPUs, when the oldest token was issued, until when the
    /// first holds.
    pub(super) fn verify(
        &self,
        keys: &GpuKeys,
        nonce: &GpuNonce,
        now: Duration,
    ) -> Result<(Vec<Gpu>, Duration, Duration), GpuRefusal> {
        self.overall.verify(OVERALL, keys)?;
        let overall = Claims { name: OVERALL, members: &self.overall.claims };
        let (mut issued, mut expires) = overall.verify(nonce, now)?;
        overall.expect("x-nvidia-ver", &VERSION.into())?;
        overall.expect("x-nvidia-overall-att-result", &true.into())?;
        let (mut gpus, mut devices) = (Vec::new(), BTreeSet::new());
        for (name, token) in self.matched(&overall)? {
            token.verify(name, keys)?;
            let claims = Claims { name, members: &token.claims };
            let (its_issued, its_expires) = claims.verify(nonce, now)?;
            (issued, expires) = (issued.min(its_issued), expires.min(its_expires));
            let gpu = claims.gpu()?;
            // Tokens name a GPU by nothing that outlasts its firmware.
            if !devices.insert(gpu.device.clone()) {
                return Err(GpuRefusal::Twice { device: gpu.device });
            }
            gpus.push(gpu);
        }
        Ok((gpus, issued, expires))
    }

    /// The detached tokens, if they are the very ones that the overall one names: none more, none fewer, none other.
    fn matched(&self, overall: &Claims<'_>) -> Result<Vec<(&str, &Jwt)>, GpuRefusal> {
        let named = overall.member("submods")?.as_object().ok_or_else(|| overall.unreadable("submods"))?;
        if let Some(name) = self.gpus.keys().find(|name| !named.contains_key(*name)) {
            return Err(GpuRefusal::UnnamedSubmodule { name: short(name) });
        }
        if named.is_empty() {
            return Err(GpuRefusal::NoGpu);
        }
        let matched = named.iter().map(|(name, digest)| {
            let name_ = || short(name);
            let (name, token) = self
                .gpus
                .get_key_value(name)
                .ok_or_else(|| GpuRefusal::MissingSubmodule { name: name_() })?;
            let digest = sha256(digest).ok_or_else(|| overall.unreadable("submods"))?;
            if digest != hex::encode(token.digest) {
                let (expected, found) = (short(digest), hex::encode(token.digest));
                return Err(GpuRefusal::SubmoduleDigest { name: name_(), expected, found });
            }
            Ok((name.as_str(), token))
        });
        matched.collect()
    }
}

/// The digest in `["DIGEST", ["SHA-256", "…"]]`.
fn sha256(digest: &Value) -> Option<&str> {
    let [kind, digest] = digest.as_array()?.as_slice() else { return None };
    let [algorithm, digest] = digest.as_array()?.as_slice() else { return None };
    (kind == "DIGEST" && algorithm == "SHA-256").then(|| digest.as_str())?
}

/// Claims of one token, and what it is called.
struct Claims<'a> {
    name: &'a str,
    members: &'a Members,
}

impl<'a> Claims<'a> {
    fn name(&self) -> String {
        short(self.name)
    }

    fn unreadable(&self, claim: &str) -> GpuRefusal {
        GpuRefusal::UnreadableClaim { name: self.name(), claim: claim.to_owned() }
    }

    fn member(&self, claim: &str) -> Result<&'a Value, GpuRefusal> {
        self.members.get(claim).ok_or_else(|| self.unreadable(claim))
    }

    fn text(&self, claim: &str) -> Result<&'a str, GpuRefusal> {
        let text = self.member(claim)?.as_str().filter(|text| text.len() <= 200);
        text.ok_or_else(|| self.unreadable(claim))
    }

    fn version(&self, claim: &str) -> Result<GpuVersion, GpuRefusal> {
        self.text(claim)?.parse().map_err(|_no_version| self.unreadable(claim))
    }

    fn time(&self, claim: &str) -> Result<Duration, GpuRefusal> {
        let seconds = self.member(claim)?.as_u64().ok_or_else(|| self.unreadable(claim))?;
        Ok(Duration::from_secs(seconds))
    }

    fn expect(&self, claim: &str, expected: &Value) -> Result<(), GpuRefusal> {
        let found = self.member(claim)?;
        self.compare(claim, expected, found)
    }

    fn compare(&self, claim: &str, expected: &Value, found: &Value) -> Result<(), GpuRefusal> {
        if found == expected {
            return Ok(());
        }
        let (expected, found) = (expected.to_string(), short(&found.to_string()));
        Err(GpuRefusal::Claim { name: self.name(), claim: claim.to_owned(), expected, found })
    }

    /// Issuer, nonce and times, which every token has. When it was issued, until when it holds.
    fn verify(&self, nonce: &GpuNonce, now: Duration) -> Result<(Duration, Duration), GpuRefusal> {
        self.expect("iss", &ISSUER.into())?;
        let found: GpuNonce =
            self.text("eat_nonce")?.parse().map_err(|_no_nonce| self.unreadable("eat_nonce"))?;
        if found != *nonce {
            return Err(GpuRefusal::Nonce { name: self.name(), expected: *nonce, found });
        }
        let [issued, not_before, expires] = [self.time("iat")?, self.time("nbf")?, self.time("exp")?];
        let from = issued.max(not_before);
        if now.saturating_add(CLOCK_SKEW_MAX) < from {
            return Err(GpuRefusal::NotYetValid { name: self.name(), from, now });
        }
        if now >= expires {
            return Err(GpuRefusal::Expired { name: self.name(), until: expires, now });
        }
        Ok((issued, expires))
    }

    /// What is said of one GPU, if all is as it must be.
    fn gpu(&self) -> Result<Gpu, GpuRefusal> {
        let debug = self.member("dbgstat")?;
        if debug != "disabled" {
            return Err(GpuRefusal::Debug { name: self.name(), found: short(&debug.to_string()) });
        }
        self.expect("measres", &"success".into())?;
        for claim in TRUE {
            self.expect(claim, &true.into())?;
        }
        for chain in CHAINS {
            let says = self.member(chain)?;
            for (member, expected) in
                [("x-nvidia-cert-status", "valid".into()), ("x-nvidia-cert-ocsp-status", "good".into())]
            {
                let found = says.get(member).ok_or_else(|| self.unreadable(chain))?;
                self.compare(&format!("{chain}.{member}"), &expected, found)?;
            }
            let reason = says.get("x-nvidia-cert-revocation-reason").unwrap_or(&Value::Null);
            self.compare(&format!("{chain}.x-nvidia-cert-revocation-reason"), &Value::Null, reason)?;
        }
        // The service's word for a certificate on hold, which it does not count as revoked.
        let warning = self.members.get("x-nvidia-attestation-warning").unwrap_or(&Value::Null);
        self.compare("x-nvidia-attestation-warning", &Value::Null, warning)?;
        Ok(Gpu {
            name: self.name.to_owned(),
            device: self.text("ueid")?.to_owned(),
            model: self.text("hwmodel")?.to_owned(),
            driver: self.version("x-nvidia-gpu-driver-version")?,
            vbios: self.version("x-nvidia-gpu-vbios-version")?,
            protected_pcie: None,
            measurements: None,
        })
    }
}
