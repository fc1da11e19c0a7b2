//! A PCCS that serves recorded collateral.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use attest::CollateralKind;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use cocoon_evidence::Pccs;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::Recorded;

/// Runs until the test ends.
pub(crate) struct Stub {
    pub(crate) pccs: Pccs,
    served: Arc<Served>,
}

struct Served {
    /// Members of the recorded collateral by path and query.
    answers: HashMap<String, Recording>,
    asked: AtomicUsize,
    /// Answers that may go out.
    gate: Semaphore,
}

/// The header with the certificates, and the body.
type Recording = (Option<(&'static str, String)>, Vec<u8>);

impl Stub {
    /// Serves the collateral of a recorded quote, changed before by a test. Binary lists are hexadecimal, as caching services
    /// send them, or not, as Intel does.
    pub(crate) async fn serve(recorded: &Recorded, change: impl FnOnce(&mut Value)) -> Self {
        let mut all: Value = serde_json::from_str(recorded.collateral).unwrap();
        change(&mut all);
        let text = |name: &str| all[name].as_str().unwrap_or_default().to_owned();
        let chain =
            |header, name| Some((header, utf8_percent_encode(&text(name), NON_ALPHANUMERIC).to_string()));
        let signed = |name: &str, member: &str, signature: &str| {
            format!(r#"{{"{member}":{},"signature":"{}"}}"#, text(name), text(signature)).into_bytes()
        };
        let kind: CollateralKind = recorded.kind();
        let tee = kind.tee_name();
        let answers = [
            (
                format!("/{tee}/certification/v4/tcb?fmspc={}", kind.fmspc),
                (
                    chain("tcb-info-issuer-chain", "tcb_info_issuer_chain"),
                    signed("tcb_info", "tcbInfo", "tcb_info_signature"),
                ),
            ),
            (
                format!("/{tee}/certification/v4/qe/identity"),
                (
                    chain("sgx-enclave-identity-issuer-chain", "qe_identity_issuer_chain"),
                    signed("qe_identity", "enclaveIdentity", "qe_identity_signature"),
                ),
            ),
            (
                format!("/sgx/certification/v4/pckcrl?ca={}&encoding=der", kind.ca()),
                (
                    chain("sgx-pck-crl-issuer-chain", "pck_crl_issuer_chain"),
                    hex::decode(text("pck_crl")).unwrap(),
                ),
            ),
            ("/sgx/certification/v4/rootcacrl".to_owned(), (None, text("root_ca_crl").into_bytes())),
        ];
        let served = Arc::new(Served {
            answers: answers.into(),
            asked: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pccs = Pccs::new(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().fallback(answer).with_state(served.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { pccs, served }
    }

    /// How many requests came; four make one piece of collateral.
    pub(crate) fn asked(&self) -> usize {
        self.served.asked.load(Ordering::SeqCst)
    }

    /// From now on it listens and says nothing.
    pub(crate) fn fall_silent(&self) {
        self.served.gate.forget_permits(Semaphore::MAX_PERMITS);
    }
}

async fn answer(State(served): State<Arc<Served>>, request: Request) -> Response {
    served.asked.fetch_add(1, Ordering::SeqCst);
    let _permit = served.gate.acquire().await.unwrap();
    let path = request.uri().path_and_query().unwrap().as_str();
    match served.answers.get(path) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some((None, body)) => body.clone().into_response(),
        Some((Some((header, chain)), body)) => {
            ([(HeaderName::from_static(header), chain.clone())], body.clone()).into_response()
        }
    }
}
