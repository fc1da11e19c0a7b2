//! Engines: where a prompt is run.
//!
//! Both kinds answer in the same way, a head followed by pieces of body as they come, and both stop working when
//! their answer is dropped. Neither retries a prompt that an engine may have begun.

mod chunks;
mod connection;
#[cfg(feature = "embedded-engine")]
mod embedded;
mod headers;
mod http;
mod url;

use std::future::poll_fn;
use std::task::{Context, Poll};

use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;

pub use self::http::{HttpBackend, ProbeError};
pub use self::url::{EngineUrl, InvalidEngineUrl};

/// An engine that serves one worker's model.
pub enum Backend {
    /// An OpenAI-compatible server.
    Http(HttpBackend),
    /// The engine inside this process.
    #[cfg(feature = "embedded-engine")]
    Embedded(engine::Engine),
}

/// A prompt for an engine. It has no `Debug`: the body is a user's text.
pub struct EngineRequest {
    /// Path of the route, such as `/v1/chat/completions`.
    pub path: &'static str,
    /// Headers of the application, without those of a hop.
    pub headers: HeaderMap,
    /// The JSON body.
    pub body: Bytes,
}

/// The head of an engine's answer, and the way to its body.
pub struct EngineAnswer {
    /// HTTP status. Refusals of the engine are answers too.
    pub status: StatusCode,
    /// Headers without those of the engine's own connection.
    pub headers: HeaderMap,
    /// The body; dropping it makes the engine stop.
    pub body: AnswerBody,
}

/// The body of an answer, in the pieces in which it arrives.
pub struct AnswerBody(BodySource);

enum BodySource {
    Http(http::HttpBody),
    #[cfg(feature = "embedded-engine")]
    Embedded(tokio::sync::mpsc::Receiver<Bytes>),
}

/// An engine gave no answer, or only a part of one. Messages never repeat what the engine said.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No connection could be made, so nothing was sent.
    #[error("the engine cannot be reached")]
    Unreachable {
        /// What the connection attempt reported.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection ended after the request was sent and before the answer's head came.
    #[error("the engine closed the connection without an answer")]
    NoAnswer {
        /// What the connection reported.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection ended within the body.
    #[error("the engine closed the connection within its answer")]
    CutShort {
        /// What the connection reported.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Backend {
    /// Runs `request`. Returns as soon as the head of the answer is there.
    ///
    /// The caller sets the deadline: dropping the future, or the answer's body, ends the work in the engine.
    ///
    /// # Errors
    /// [`EngineError`] when no head arrives. An engine's refusal is not an error but an answer.
    pub async fn run(&self, request: EngineRequest) -> Result<EngineAnswer, EngineError> {
        match self {
            Self::Http(backend) => backend.run(request).await,
            #[cfg(feature = "embedded-engine")]
            Self::Embedded(engine) => Ok(embedded::run(engine, &request).await),
        }
    }

    /// Names of the models that the engine serves, which shows that it is up.
    ///
    /// # Errors
    /// [`ProbeError`] if it is not.
    pub async fn models(&self) -> Result<Vec<String>, ProbeError> {
        match self {
            Self::Http(backend) => backend.models().await,
            #[cfg(feature = "embedded-engine")]
            Self::Embedded(engine) => Ok(vec![engine.model_id().base().to_owned()]),
        }
    }
}

impl AnswerBody {
    /// The next piece, never empty; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, EngineError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Whether it is already known that no piece follows.
    #[must_use]
    pub fn is_end(&self) -> bool {
        match &self.0 {
            BodySource::Http(body) => body.is_end(),
            #[cfg(feature = "embedded-engine")]
            BodySource::Embedded(pieces) => pieces.is_closed() && pieces.is_empty(),
        }
    }

    /// All of a body that is here already, if it is no longer than `len_max`: then it needs no parts of its own.
    pub(crate) fn whole(&mut self, len_max: usize) -> Option<Bytes> {
        match &mut self.0 {
            BodySource::Http(body) => body.whole(len_max),
            #[cfg(feature = "embedded-engine")]
            BodySource::Embedded(_) => None,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, EngineError>>> {
        match &mut self.0 {
            BodySource::Http(body) => body.poll_next(cx),
            #[cfg(feature = "embedded-engine")]
            BodySource::Embedded(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(Ok)),
        }
    }
}
