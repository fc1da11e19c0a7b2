//! A devnet, and a server in front of it that answers as a test wants.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_chain::{Endpoint, Limits, Provider};
use devnet::{Devnet, ExternalMessage, Genesis, NetworkConfig, Node, Pace};
use http::StatusCode;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use ton::Address;
use tower_service::Service as _;
use units::NanoTon;

pub(crate) const START: Duration = Duration::from_secs(1_800_000_000);

/// What becomes of an answer.
pub(crate) enum Answer {
    /// It goes out like this.
    Json(Value),
    /// It goes out with a status and a text.
    Text(u16, String),
    /// It never comes.
    Never,
    /// It is announced to be longer than it is.
    Cut,
}

type Meddle = dyn Fn(&Asked, Value) -> Answer + Send + Sync;

/// A question.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) params: Value,
}

/// A devnet with a clock of its own, and a server in front of it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) node: Node,
    now: Arc<AtomicU64>,
    questions: Arc<AtomicUsize>,
    handed_in: Arc<Mutex<Vec<String>>>,
    meddle: Arc<Mutex<Arc<Meddle>>>,
    endpoint: Endpoint,
    _stop: Arc<tokio_util::sync::DropGuard>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let now = Arc::new(AtomicU64::new(START.as_secs()));
        let config = NetworkConfig::mainnet();
        let seed = Genesis::seed_of("world");
        let chain = Devnet::new(Genesis { config, seed, start: START, pace: Pace::Instant });
        let clock = Arc::clone(&now);
        let node = Node::new(chain, move || Duration::from_secs(clock.load(Ordering::SeqCst)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let stop = CancellationToken::new();
        let honest: Arc<Meddle> = Arc::new(|_asked, answer| Answer::Json(answer));
        let world = Self {
            node,
            now,
            questions: Arc::default(),
            handed_in: Arc::default(),
            meddle: Arc::new(Mutex::new(honest)),
            endpoint,
            _stop: Arc::new(stop.clone().drop_guard()),
        };
        let server = Server {
            api: devnet::http::router(world.node.clone()),
            questions: Arc::clone(&world.questions),
            handed_in: Arc::clone(&world.handed_in),
            meddle: Arc::clone(&world.meddle),
        };
        let routes = Router::new().route("/api/v2/jsonRPC", post(answer)).with_state(server);
        tokio::spawn(admin::serve(listener, routes, stop));
        world
    }

    /// A client that does not wait long.
    pub(crate) fn provider(&self) -> Provider {
        let limits = Limits {
            answer_time_max: Duration::from_secs(20),
            answer_len_max: 1 << 20,
            attempts_max: 3,
            pause: Duration::from_millis(1),
        };
        Provider::new(self.endpoint.clone(), limits)
    }

    /// A client that waits hardly at all.
    pub(crate) fn hasty_provider(&self) -> Provider {
        let limits = Limits {
            answer_time_max: Duration::from_millis(20),
            answer_len_max: 1 << 20,
            attempts_max: 2,
            pause: Duration::from_millis(1),
        };
        Provider::new(self.endpoint.clone(), limits)
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_secs(self.now.load(Ordering::SeqCst))
    }

    /// Both clocks go on, and a block shows it.
    pub(crate) fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
        self.give(&Address::new(0, [0xee; 32]), 1_000_000);
    }

    pub(crate) fn give(&self, to: &Address, nanotons: u64) {
        self.node.give(to, NanoTon::new(nanotons)).unwrap();
    }

    /// From now on answers pass through `meddle`.
    pub(crate) fn meddle(&self, meddle: impl Fn(&Asked, Value) -> Answer + Send + Sync + 'static) {
        *self.meddle.lock().unwrap() = Arc::new(meddle);
    }

    pub(crate) fn be_honest(&self) {
        self.meddle(|_asked, answer| Answer::Json(answer));
    }

    /// Messages that clients handed in, in base64, whatever became of them.
    pub(crate) fn handed_in(&self) -> Vec<String> {
        self.handed_in.lock().unwrap().clone()
    }

    /// Hands in a message once more, as anybody may. The chain says no, or takes it.
    pub(crate) fn hand_in(&self, message: &str) {
        let bytes = STANDARD.decode(message).unwrap();
        let _refused = self.node.submit(ExternalMessage::from_boc(&bytes).unwrap());
    }

    /// Questions since the last time that was asked.
    pub(crate) fn questions(&self) -> usize {
        self.questions.swap(0, Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Server {
    api: Router,
    questions: Arc<AtomicUsize>,
    handed_in: Arc<Mutex<Vec<String>>>,
    meddle: Arc<Mutex<Arc<Meddle>>>,
}

async fn answer(State(mut server): State<Server>, request: Request) -> Response {
    server.questions.fetch_add(1, Ordering::SeqCst);
    let meddle = Arc::clone(&server.meddle.lock().unwrap());
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let question: Value = serde_json::from_slice(&body).unwrap();
    let asked =
        Asked { method: question["method"].as_str().unwrap().to_owned(), params: question["params"].clone() };
    let request = Request::post("/api/v2/jsonRPC").body(Body::from(body)).unwrap();
    if asked.method == "sendBoc" {
        server.handed_in.lock().unwrap().push(asked.params["boc"].as_str().unwrap().to_owned());
        // A message may be lost before the chain has it.
        match meddle(&asked, Value::Null) {
            Answer::Never => return std::future::pending().await,
            Answer::Text(status, text) => {
                return Response::builder().status(status).body(Body::from(text)).unwrap();
            }
            Answer::Json(_) | Answer::Cut => {}
        }
    }
    let response = server.api.call(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 26).await.unwrap();
    let honest: Value = serde_json::from_slice(&body).unwrap();
    let built = match meddle(&asked, honest) {
        Answer::Json(json) => {
            let status = if json["ok"] == true { StatusCode::OK } else { status };
            Response::builder().status(status).body(Body::from(json.to_string()))
        }
        Answer::Text(status, text) => Response::builder().status(status).body(Body::from(text)),
        Answer::Never => return std::future::pending().await,
        Answer::Cut => Response::builder().header("content-length", 1_000).body(Body::from("{")),
    };
    built.unwrap()
}
