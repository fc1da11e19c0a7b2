//! The engine inside this process.

use engine::Engine;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::{AnswerBody, BodySource, EngineAnswer, EngineRequest};

pub(super) async fn run(engine: &Engine, request: &EngineRequest) -> EngineAnswer {
    let response = engine::openai::respond(engine, request.path, &request.body).await;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(response.content_type));
    EngineAnswer {
        status: StatusCode::from_u16(response.status).expect("the engine answers with HTTP statuses"),
        headers,
        body: AnswerBody(BodySource::Embedded(response.body)),
    }
}
