//! Tokens: whatever the service did not sign, or signed and did not find good, is refused.

use serde_json::{Value, json};

use super::vendor::VENDOR;
use super::*;

fn appraise(verifier: &GpuVerifier, text: &str, now: Duration) -> Result<GpuAppraised, GpuRefusal> {
    let evidence = GpuEvidence::parse(text.as_bytes()).unwrap();
    verifier.appraise(&evidence, &nonce(), &policy(any()), now)
}

/// Of a simulated answer about two GPUs, changed before it is signed.
fn refusal(change: impl Fn(usize, &mut Value)) -> GpuRefusal {
    appraise(&VENDOR.verifier(), &VENDOR.answer(2, change), ISSUED).unwrap_err()
}

#[test]
fn no_byte_of_the_recorded_token_can_be_another() {
    let verifier = nvidia();
    assert!(appraise(&verifier, TOKEN, ISSUED).is_ok());
    for at in 0..TOKEN.len() {
        let mut bytes = TOKEN.as_bytes().to_vec();
        bytes[at] ^= 1;
        let Ok(evidence) = GpuEvidence::parse(&bytes) else { continue };
        let outcome = verifier.appraise(&evidence, &nonce(), &policy(any()), ISSUED);
        // What stands between the parts is no part of them.
        assert!(outcome.is_err() || TOKEN.as_bytes()[at].is_ascii_whitespace(), "{at}");
    }
    for len in 0..TOKEN.len() {
        assert!(GpuEvidence::parse(&TOKEN.as_bytes()[..len]).is_err(), "{len}");
    }
}

#[test]
fn the_recorded_token_is_of_its_keys_nonce_and_time() {
    let refused = appraise(&VENDOR.verifier(), TOKEN, ISSUED).unwrap_err();
    assert!(matches!(refused, GpuRefusal::UnknownKey { .. }), "{refused:?}");
    let mut set: Value = serde_json::from_slice(KEYS).unwrap();
    for member in ["x", "y"] {
        set["keys"][0][member] = VENDOR.key()[member].clone();
    }
    let other = GpuVerifier::new(GpuRoot::Nvidia, GpuKeys::from_json(set.to_string().as_bytes()).unwrap());
    let refused = appraise(&other, TOKEN, ISSUED).unwrap_err();
    assert!(matches!(refused, GpuRefusal::TokenSignature { .. }), "{refused:?}");
    let expected = GpuNonce::new([7; 32]);
    let refused = nvidia().verify(&token(), &expected, ISSUED).unwrap_err();
    assert_eq!(refused, GpuRefusal::Nonce { name: "overall".to_owned(), expected, found: nonce() });
    let second = Duration::from_secs(1);
    let minute = Duration::from_mins(1);
    let at = |now| appraise(&nvidia(), TOKEN, now);
    assert!(at(ISSUED - minute).is_ok() && at(EXPIRED - second).is_ok());
    let refused = at(ISSUED - minute - second).unwrap_err();
    assert!(matches!(refused, GpuRefusal::NotYetValid { from: ISSUED, .. }), "{refused:?}");
    let refused = at(EXPIRED).unwrap_err();
    assert!(matches!(refused, GpuRefusal::Expired { until: EXPIRED, .. }), "{refused:?}");
}

#[test]
fn the_algorithm_is_not_the_tokens_to_choose() {
    for algorithm in ["none", "None", "HS256", "HS384", "ES256", "ES512", "RS256", "es384", ""] {
        let header = json!({"alg": algorithm, "kid": "one"}).to_string();
        let token = VENDOR.jwt(&header, "{}");
        let refused = appraise(&VENDOR.verifier(), &token, ISSUED).unwrap_err();
        assert!(
            matches!(&refused, GpuRefusal::Algorithm { found, .. } if found == algorithm),
            "{algorithm}: {refused:?}"
        );
        // Nor without a signature at all.
        let (unsigned, _signature) = token.rsplit_once('.').unwrap();
        assert!(appraise(&VENDOR.verifier(), &format!("{unsigned}."), ISSUED).is_err());
    }
    let good = VENDOR.jwt(r#"{"alg": "ES384", "kid": "one"}"#, "{}");
    let (unsigned, _signature) = good.rsplit_once('.').unwrap();
    let refused = appraise(&VENDOR.verifier(), &format!("{unsigned}."), ISSUED).unwrap_err();
    assert!(matches!(refused, GpuRefusal::TokenSignature { .. }), "{refused:?}");
}

#[test]
fn what_is_no_token_is_refused() {
    let header = r#"{"alg": "ES384", "kid": "one"}"#;
    let parse = |text: &str| GpuToken::parse(text.as_bytes());
    for (header, claims) in [
        (r#"{"typ": "JWT"}"#, "{}"),
        (r#"{"alg": "ES384"}"#, "{}"),
        (r#"{"kid": "one"}"#, "{}"),
        (r#"{"alg": "ES384", "alg": "ES384", "kid": "one"}"#, "{}"),
        (r#"{"alg": "ES384", "kid": "one", "crit": ["b64"], "b64": false}"#, "{}"),
        (header, "[]"),
        (header, "{"),
        // Two claims of one name.
        (header, r#"{"exp": 1, "exp": 2}"#),
        (header, r#"{"submods": {"GPU-0": 1, "GPU-0": 1}}"#),
    ] {
        let error = parse(&VENDOR.jwt(header, claims)).unwrap_err();
        assert!(matches!(error, GpuTokenError::Jwt { .. }), "{header} {claims}: {error:?}");
    }
    let good = VENDOR.jwt(header, "{}");
    assert!(parse(&good).is_ok());
    for other in
        [format!("{good}="), format!("{good}.{good}"), good.replacen('.', "", 1), good.replace('.', "+.")]
    {
        assert!(matches!(parse(&other), Err(GpuTokenError::Jwt { .. })), "{other}");
    }
    let bundle = |overall: Value, detached: Value| parse(&json!([overall, detached]).to_string());
    assert!(bundle(json!(["JWT", good]), json!({"GPU-0": good})).is_ok());
    let form = [
        bundle(json!(["CWT", good]), json!({})),
        bundle(json!([good]), json!({})),
        bundle(json!(["JWT", 1]), json!({})),
        bundle(json!(["JWT", good]), json!([])),
        bundle(json!(["JWT", good]), json!({"GPU-0": 1})),
        // What NVIDIA's SDK wraps around the service's answer, with a signature that anybody can make.
        bundle(json!(["JWT", good]), json!({"REMOTE_GPU_CLAIMS": [["JWT", good], {"GPU-0": good}]})),
        parse(&json!([["JWT", good]]).to_string()),
        parse("[]"),
        parse(&format!(r#"[["JWT", "{good}"], {{"GPU-0": "{good}", "GPU-0": "{good}"}}]"#)),
        GpuToken::parse(&[0xff]),
    ];
    for outcome in form {
        assert!(matches!(outcome, Err(GpuTokenError::Form { .. })), "{outcome:?}");
    }
    let detached: serde_json::Map<_, _> =
        (0..17).map(|at| (format!("GPU-{at}"), good.clone().into())).collect();
    let many = bundle(json!(["JWT", good]), detached.into());
    assert_eq!(many, Err(GpuTokenError::TooMany { found: 17 }));
    let long = GpuToken::parse(&vec![b' '; GpuToken::LEN_MAX + 1]);
    assert!(matches!(long, Err(GpuTokenError::TooLong { .. })));
}

#[test]
fn simulated_answers_are_accepted_as_the_recorded_one_is() {
    for gpus in [1, 2, 8] {
        let answer = VENDOR.answer(gpus, |_at, _claims| {});
        let appraised = appraise(&VENDOR.verifier(), &answer, ISSUED).unwrap();
        assert_eq!(appraised.gpus().len(), gpus);
        assert!(appraised.is_simulated());
    }
}

#[test]
fn every_claim_must_be_there_and_as_it_must() {
    let names = |at| {
        let evidence = GpuEvidence::parse(VENDOR.answer(1, |_at, _claims| {}).as_bytes()).unwrap();
        let GpuEvidence::Token(token) = evidence else { panic!("a token") };
        let members = if at == 0 { token.claims() } else { token.gpus().next().unwrap().1 };
        members.keys().cloned().collect::<Vec<_>>()
    };
    // What is not asked: identifiers, and what else is said in words.
    let unasked = ["jti", "oemid", "sub", "x-nvidia-attestation-warning"];
    for at in [0, 1] {
        for name in names(at).iter().filter(|name| !unasked.contains(&name.as_str())) {
            let change = |to: Option<Value>| {
                let answer = VENDOR.answer(1, |which, claims| {
                    if which == at {
                        let claims = claims.as_object_mut().unwrap();
                        match &to {
                            None => drop(claims.remove(name)),
                            Some(value) => drop(claims.insert(name.clone(), value.clone())),
                        }
                    }
                });
                appraise(&VENDOR.verifier(), &answer, ISSUED)
            };
            assert!(change(None).is_err(), "{name} is gone");
            for other in [json!(null), json!(false), json!([]), json!({}), json!(-1)] {
                assert!(change(Some(other.clone())).is_err(), "{name} is {other}");
            }
        }
    }
}

#[test]
fn each_refusal_says_what_was_wrong() {
    let gpu = |name: &'static str, value: Value| {
        refusal(move |at, claims| {
            if at == 2 {
                claims[name] = value.clone();
            }
        })
    };
    let overall = |name: &'static str, value: Value| {
        refusal(move |at, claims| {
            if at == 0 {
                claims[name] = value.clone();
            }
        })
    };
    assert!(matches!(gpu("dbgstat", json!("enabled")), GpuRefusal::Debug { name, .. } if name == "GPU-1"));
    assert!(
        matches!(gpu("eat_nonce", json!("00".repeat(32))), GpuRefusal::Nonce { name, .. } if name == "GPU-1")
    );
    assert!(matches!(gpu("exp", json!(1_749_601_858)), GpuRefusal::Expired { name, .. } if name == "GPU-1"));
    assert!(matches!(gpu("nbf", json!(1_749_602_858)), GpuRefusal::NotYetValid { .. }));
    assert!(matches!(gpu("iat", json!(1_749_598_000)), GpuRefusal::TooOld { .. }));
    assert!(matches!(gpu("ueid", json!("0")), GpuRefusal::Twice { device } if device == "0"));
    let said = [
        gpu("measres", json!("fail")),
        gpu("secboot", json!(false)),
        gpu("iss", json!("https://nras.attestation-stg.nvidia.com")),
        gpu("x-nvidia-attestation-warning", json!("CERTIFICATE_HOLD")),
        gpu(
            "x-nvidia-gpu-driver-rim-cert-chain",
            json!({"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "revoked"}),
        ),
        gpu(
            "x-nvidia-gpu-vbios-rim-cert-chain",
            json!({"x-nvidia-cert-status": "expired", "x-nvidia-cert-ocsp-status": "good"}),
        ),
        gpu(
            "x-nvidia-gpu-attestation-report-cert-chain",
            json!({"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good", "x-nvidia-cert-revocation-reason": "hold"}),
        ),
        overall("x-nvidia-overall-att-result", json!(false)),
        overall("x-nvidia-overall-att-result", json!("true")),
        overall("x-nvidia-ver", json!("2.0")),
        overall("iss", json!("https://nras.attestation.nvidia.com/")),
    ];
    for refusal in said {
        assert!(matches!(refusal, GpuRefusal::Claim { .. }), "{refusal:?}");
        assert!(refusal.to_string().contains("must say"), "{refusal}");
    }
    // A stranger's words come short.
    let long = gpu("measres", json!("x".repeat(10_000))).to_string();
    assert!(long.len() < 400, "{long}");
}

#[test]
fn each_gpu_that_is_named_comes_along_and_no_other() {
    let answer = VENDOR.answer(2, |_at, _claims| {});
    let other = VENDOR.answer(2, |_at, _claims| {});
    let mut parts: Value = serde_json::from_str(&answer).unwrap();
    let others: Value = serde_json::from_str(&other).unwrap();
    let outcome = |parts: &Value| appraise(&VENDOR.verifier(), &parts.to_string(), ISSUED);
    assert!(outcome(&parts).is_ok());
    let name = || "GPU-1".to_owned();
    let mut missing = parts.clone();
    missing[1].as_object_mut().unwrap().remove("GPU-1");
    assert_eq!(outcome(&missing), Err(GpuRefusal::MissingSubmodule { name: name() }));
    // The overall token alone.
    let alone = appraise(&VENDOR.verifier(), parts[0][1].as_str().unwrap(), ISSUED);
    assert!(matches!(alone, Err(GpuRefusal::MissingSubmodule { .. })), "{alone:?}");
    let mut more = parts.clone();
    more[1]["GPU-2"] = more[1]["GPU-1"].clone();
    assert_eq!(outcome(&more), Err(GpuRefusal::UnnamedSubmodule { name: "GPU-2".to_owned() }));
    // Genuine, and of another answer.
    parts[1]["GPU-1"] = others[1]["GPU-1"].clone();
    let refused = outcome(&parts);
    assert!(matches!(refused, Err(GpuRefusal::SubmoduleDigest { .. })), "{refused:?}");
    let none = appraise(&VENDOR.verifier(), &VENDOR.answer(0, |_at, _claims| {}), ISSUED);
    assert_eq!(none, Err(GpuRefusal::NoGpu));
    for digest in
        [json!("x"), json!(["DIGEST"]), json!(["DIGEST", ["SHA-1", "00"]]), json!(["X", ["SHA-256", "00"]])]
    {
        let refused = refusal(|at, claims| {
            if at == 0 {
                claims["submods"]["GPU-0"] = digest.clone();
            }
        });
        assert!(matches!(refused, GpuRefusal::UnreadableClaim { .. }), "{refused:?}");
    }
}

#[test]
fn keys_of_other_kinds_are_passed_over_and_unreadable_ones_refused() {
    let read = |keys: Value| GpuKeys::from_json(json!({"keys": keys}).to_string().as_bytes());
    let with = |member: &str, value: Value| {
        let mut key = VENDOR.key();
        key[member] = value;
        key
    };
    assert_eq!(read(json!([VENDOR.key()])), read(json!([VENDOR.key(), {"kty": "RSA", "kid": "one"}])));
    for other in [
        with("kty", json!("oct")),
        with("crv", json!("P-256")),
        with("alg", json!("HS256")),
        with("use", json!("enc")),
    ] {
        assert_eq!(read(json!([other])), Ok(GpuKeys::default()));
    }
    let long = vec![b'A'; 65];
    for unreadable in
        [with("kid", json!(1)), with("x", json!("AA")), with("y", json!(String::from_utf8(long).unwrap()))]
    {
        assert_eq!(read(json!([unreadable])), Err(GpuKeysError::Key { at: 1 }));
    }
    assert_eq!(read(json!([VENDOR.key(), VENDOR.key()])), Err(GpuKeysError::Twice { id: "one".to_owned() }));
    assert_eq!(read(json!([1])), Err(GpuKeysError::Form));
    assert_eq!(GpuKeys::from_json(b"{}"), Err(GpuKeysError::Form));
    assert!(matches!(GpuKeys::from_json(b"{"), Err(GpuKeysError::Json { .. })));
    assert!(matches!(
        GpuKeys::from_json(&vec![b' '; GpuKeys::LEN_MAX + 1]),
        Err(GpuKeysError::TooLong { .. })
    ));
    // A point that is on no curve signs nothing.
    let set = json!({"keys": [with("y", VENDOR.key()["x"].clone())]}).to_string();
    let verifier = GpuVerifier::new(GpuRoot::Nvidia, GpuKeys::from_json(set.as_bytes()).unwrap());
    let refused = appraise(&verifier, &VENDOR.answer(1, |_at, _claims| {}), ISSUED).unwrap_err();
    assert!(matches!(refused, GpuRefusal::TokenSignature { .. }), "{refused:?}");
}
