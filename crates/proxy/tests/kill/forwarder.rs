//! A server between a role and the chain: honest, or one that loses, doubles, delays, mixes up and lies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use devnet::Node;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower_service::Service as _;

/// What becomes of questions and answers.
pub(crate) enum Mischief {
    /// They go through as they are.
    None,
    /// They are lost, doubled, late, out of order and out of date, as the dice fall.
    Storm(Box<StdRng>),
    /// Answers are changed: method, what was asked, the answer.
    Lies(Lie),
}

pub(crate) type Lie = Box<dyn FnMut(&str, &Value, &mut Value) + Send>;

impl Mischief {
    pub(crate) fn storm(seed: u64) -> Self {
        Self::Storm(Box::new(StdRng::seed_from_u64(seed)))
    }
}

/// A running server; stopped when it is dropped.
pub(crate) struct Forwarder {
    endpoint: String,
    shared: Arc<Mutex<Shared>>,
    _stop: DropGuard,
}

struct Shared {
    mischief: Mischief,
    /// Answers that were given, by question.
    old: BTreeMap<String, Vec<Value>>,
    /// How often something was done to a question or its answer.
    done: usize,
}

/// Old answers kept of each question.
const OLD_MAX: usize = 12;
/// The longest delay.
const LATE_MS: u64 = 400;
/// The longest that a message is held back after its sender was told that it is lost.
const HELD_MS: u64 = 3000;

impl Forwarder {
    pub(crate) async fn start(node: Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared { mischief: Mischief::None, old: BTreeMap::new(), done: 0 }));
        let server = Server { api: devnet::http::router(node), shared: Arc::clone(&shared) };
        let routes = Router::new().route("/api/v2/jsonRPC", post(answer)).with_state(server);
        let stop = CancellationToken::new();
        tokio::spawn(
            stop.clone().run_until_cancelled_owned(async move { axum::serve(listener, routes).await }),
        );
        Self { endpoint, shared, _stop: stop.drop_guard() }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// From now on this becomes of questions and answers. Returns how often something did until now.
    pub(crate) fn set(&self, mischief: Mischief) -> usize {
        let mut shared = self.shared.lock().unwrap();
        shared.mischief = mischief;
        std::mem::take(&mut shared.done)
    }

    /// How often what becomes of questions and answers did something.
    pub(crate) fn done(&self) -> usize {
        self.shared.lock().unwrap().done
    }
}

/// What becomes of one question.
enum Fate {
    Through,
    /// It never arrives.
    Lost,
    /// It arrives, and the answer is lost.
    AnswerLost,
    /// It is said to be lost, and arrives later.
    Held(Duration),
    /// It arrives twice.
    Doubled,
    /// It arrives late.
    Late(Duration),
    /// Its answer arrives late.
    AnswerLate(Duration),
    /// It gets an answer of earlier.
    Old(Value),
}

impl Shared {
    fn fate(&mut self, method: &str, question: &str) -> Fate {
        let Mischief::Storm(dice) = &mut self.mischief else { return Fate::Through };
        let mut late = |max| Duration::from_millis(dice.random_range(0..max));
        let (short, long) = (late(LATE_MS), late(HELD_MS));
        let fate = match dice.random_range(0..14) {
            0 => Fate::Lost,
            1 => Fate::AnswerLost,
            2 if method == "sendBoc" => Fate::Held(long),
            2 | 3 => Fate::Doubled,
            4 => Fate::Late(short),
            5 => Fate::AnswerLate(short),
            6 | 7 => match self.old.get(question) {
                Some(old) => Fate::Old(old[dice.random_range(0..old.len())].clone()),
                None => Fate::Through,
            },
            _ => Fate::Through,
        };
        self.done += usize::from(!matches!(fate, Fate::Through));
        fate
    }

    /// Remembers an answer, and changes it.
    fn pass(&mut self, method: &str, question: &str, params: &Value, mut answer: Value) -> Value {
        if method == "getAddressInformation" {
            let old = self.old.entry(question.to_owned()).or_default();
            if old.len() == OLD_MAX {
                old.remove(0);
            }
            old.push(answer.clone());
        }
        if let Mischief::Lies(lie) = &mut self.mischief {
            let honest = answer.clone();
            lie(method, params, &mut answer);
            self.done += usize::from(answer != honest);
        }
        answer
    }
}

#[derive(Clone)]
struct Server {
    api: Router,
    shared: Arc<Mutex<Shared>>,
}

impl Server {
    /// The chain's answer.
    async fn forward(&mut self, question: &str) -> (StatusCode, Value) {
        let request = Request::post("/api/v2/jsonRPC").body(Body::from(question.to_owned())).unwrap();
        let response = self.api.call(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 26).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

async fn answer(State(mut server): State<Server>, request: Request) -> Response {
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let question = String::from_utf8(body.to_vec()).unwrap();
    let asked: Value = serde_json::from_str(&question).unwrap();
    let method = asked["method"].as_str().unwrap();
    let lost = || {
        let status = StatusCode::GATEWAY_TIMEOUT;
        Response::builder().status(status).body(Body::from("lost")).unwrap()
    };
    let fate = server.shared.lock().unwrap().fate(method, &question);
    let mut answer_late = Duration::ZERO;
    match fate {
        Fate::Through => {}
        Fate::Lost => return lost(),
        Fate::AnswerLost => {
            server.forward(&question).await;
            return lost();
        }
        Fate::Held(time) => {
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                server.forward(&question).await;
            });
            return lost();
        }
        Fate::Doubled => drop(server.forward(&question).await),
        Fate::Late(time) => tokio::time::sleep(time).await,
        Fate::AnswerLate(time) => answer_late = time,
        Fate::Old(answer) => return Response::new(Body::from(answer.to_string())),
    }
    let (status, answer) = server.forward(&question).await;
    let answer = match status {
        StatusCode::OK => server.shared.lock().unwrap().pass(method, &question, &asked["params"], answer),
        _ => answer,
    };
    tokio::time::sleep(answer_late).await;
    Response::builder().status(status).body(Body::from(answer.to_string())).unwrap()
}
