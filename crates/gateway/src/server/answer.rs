//! How an answer's body reaches the application, and how it breaks.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use futures_util::stream::BoxStream;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;

use super::{AnswerBody, InferenceResponse};
use crate::ApiError;

/// An answer that is no stream is kept back up to this many bytes, so that a failure before its end still
/// gets an error status instead of a cut body.
const HELD_LEN_MAX: usize = 1024 * 1024;

/// Why hyper must close the connection without ending the body.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer stopped before its end")]
struct Cut;

/// Sends `answer` on. Holds `permit` until the last byte is out or the application is gone.
pub(super) fn respond(
    answer: InferenceResponse,
    stream_asked: bool,
    permit: OwnedSemaphorePermit,
) -> Either<Ready<Response>, BoxFuture<'static, Response>> {
    let InferenceResponse { status, headers, body } = answer;
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let is_events = content_type.to_ascii_lowercase().starts_with(b"text/event-stream");
    let respond = move |body| {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    };
    match body {
        AnswerBody::Full(bytes) => Either::Left(ready(respond(Body::from(bytes)))),
        AnswerBody::Stream(stream) if is_events || stream_asked => {
            let state = State::Open;
            let body = Streaming { stream, start: None, is_events, state, _permit: permit };
            Either::Left(ready(respond(Body::new(body))))
        }
        AnswerBody::Stream(stream) => Either::Right(Box::pin(async move {
            hold_back(stream, permit).await.map_or_else(|error| error.into_response(), respond)
        })),
    }
}

/// Waits for the end of a body that is no stream, or for more of it than is kept back.
async fn hold_back(
    mut stream: BoxStream<'static, Result<Bytes, ApiError>>,
    permit: OwnedSemaphorePermit,
) -> Result<Body, ApiError> {
    let mut held = BytesMut::new();
    while let Some(bytes) = stream.next().await {
        held.extend_from_slice(&bytes?);
        if held.len() > HELD_LEN_MAX {
            let (start, state) = (Some(held.freeze()), State::Open);
            return Ok(Body::new(Streaming { stream, start, is_events: false, state, _permit: permit }));
        }
    }
    Ok(Body::from(held.freeze()))
}

/// A body of pieces. When the answer breaks, events get a last one that says why; then the body fails, which
/// makes hyper close the connection without the end of the body.
struct Streaming {
    stream: BoxStream<'static, Result<Bytes, ApiError>>,
    start: Option<Bytes>,
    is_events: bool,
    state: State,
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The error event was handed out: hyper gets one turn to write it before it hears of the failure.
    Flushing,
    Failing,
    Over,
}

impl http_body::Body for Streaming {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(Ok(Frame::data(start))));
        }
        match self.state {
            State::Open => match std::task::ready!(self.stream.poll_next_unpin(context)) {
                None => {
                    self.state = State::Over;
                    Poll::Ready(None)
                }
                Some(Ok(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Err(error)) if self.is_events => {
                    self.state = State::Flushing;
                    Poll::Ready(Some(Ok(Frame::data(error.event()))))
                }
                Some(Err(_)) => {
                    self.state = State::Flushing;
                    self.poll_frame(context)
                }
            },
            State::Flushing => {
                self.state = State::Failing;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            State::Failing => {
                self.state = State::Over;
                Poll::Ready(Some(Err(Cut)))
            }
            State::Over => Poll::Ready(None),
        }
    }
}
