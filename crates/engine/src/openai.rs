//! The OpenAI HTTP API as bodies in, bodies out.
//!
//! `/v1/chat/completions`, `/v1/completions`, `/v1/models` and `/v1/models/{id}` after OpenAI's API reference.
//! A parameter that would change the answer and is not implemented is refused by name with status 400; one
//! that asks for what happens anyway is accepted.

mod refusal;
mod request;
mod response;

use bytes::Bytes;
use rand::RngExt;
use tokio::sync::mpsc;

use self::refusal::Refusal;
use self::request::{Parsed, Surface};
use self::response::{Collected, Writer};
use crate::Engine;
use crate::sequence::Event;

/// Events on their way to a reader. A slower reader delays only its own events.
const BODY_QUEUE: usize = 16;

/// An HTTP response without the HTTP.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Value of the `content-type` header.
    pub content_type: &'static str,
    /// The body: one piece of JSON, or each event of a stream when it is generated. Dropping it before its
    /// end stops the generation.
    pub body: mpsc::Receiver<Bytes>,
}

impl Response {
    fn json(status: u16, body: Bytes) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        // The channel is new and empty, and its receiver is here.
        let sent = sender.try_send(body);
        debug_assert!(sent.is_ok(), "a new channel has room");
        Self { status, content_type: "application/json", body: receiver }
    }
}

/// Answers a request for `path` with `body`, which may be empty where the API has none.
///
/// Resolves when the status is known: for a stream when its prompt is accepted, else when the answer is
/// complete. Dropping the future stops the generation. Must run on a tokio runtime.
pub async fn respond(engine: &Engine, path: &str, body: &[u8]) -> Response {
    let path = path.split('?').next().unwrap_or(path);
    let answered = match path {
        "/v1/chat/completions" => generate(engine, Surface::Chat, body).await,
        "/v1/completions" => generate(engine, Surface::Completion, body).await,
        "/v1/models" => Ok(Response::json(200, response::models(engine))),
        _ => match path.strip_prefix("/v1/models/") {
            Some(id) if id == engine.model_id().base() => Ok(Response::json(200, response::model(engine))),
            Some(id) => Err(Refusal::UnknownModel { found: id.to_owned() }),
            None => Err(Refusal::UnknownPath { found: path.to_owned() }),
        },
    };
    answered.unwrap_or_else(|refusal| Response::json(refusal.status(), refusal.body()))
}

async fn generate(engine: &Engine, surface: Surface, body: &[u8]) -> Result<Response, Refusal> {
    // Both are shown to nobody else and guard nothing: a fast generator is enough.
    let (seed, id): (u64, u128) = (rand::rng().random(), rand::rng().random());
    let now = (engine.unix_now)();
    let Parsed { request, stream, include_usage } = request::parse(engine, surface, body, seed, now)?;
    let writer = Writer::new(surface, id, now, engine.model_id().base(), include_usage);
    let mut events = engine.scheduler.submit(request)?;
    match events.recv().await {
        Some(Event::Started) => {}
        Some(Event::Failed(failure)) => return Err(Refusal::failed(failure, surface)),
        Some(Event::Text(_) | Event::Finished { .. }) | None => return Err(Refusal::Stopped),
    }
    if stream {
        let (sender, receiver) = mpsc::channel(BODY_QUEUE);
        tokio::spawn(forward(events, sender, writer));
        return Ok(Response { status: 200, content_type: "text/event-stream", body: receiver });
    }
    let mut collected = Collected::default();
    loop {
        match events.recv().await {
            Some(Event::Text(delta)) => collected.add(delta),
            Some(Event::Finished { reason, usage }) => {
                return Ok(Response::json(200, writer.whole(collected, reason, usage)));
            }
            Some(Event::Failed(failure)) => return Err(Refusal::failed(failure, surface)),
            Some(Event::Started) | None => return Err(Refusal::Stopped),
        }
    }
}

/// Writes each event the moment it comes. Ends when the answer does, or when nobody reads.
async fn forward(mut events: mpsc::Receiver<Event>, body: mpsc::Sender<Bytes>, mut writer: Writer) {
    if let Some(opening) = writer.opening()
        && body.send(opening).await.is_err()
    {
        return;
    }
    loop {
        let event = tokio::select! {
            biased;
            () = body.closed() => return,
            event = events.recv() => event,
        };
        let (piece, is_last) = match event {
            Some(Event::Text(delta)) => (writer.delta(delta), false),
            Some(Event::Finished { reason, usage }) => (writer.closing(reason, usage), true),
            Some(Event::Failed(failure)) => (Refusal::failed(failure, writer.surface()).event(), true),
            Some(Event::Started) | None => (Refusal::Stopped.event(), true),
        };
        if body.send(piece).await.is_err() || is_last {
            return;
        }
    }
}
