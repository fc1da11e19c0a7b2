//! Requests that two readers could understand in two ways, where the HTTP library takes one: this server refuses them,
//! so that nothing in front of it can be made to let one request pass as another.

use std::net::IpAddr;

use axum::response::Response;
use futures_util::FutureExt as _;
use futures_util::future::{Either, ready};
use http::header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING};
use http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use serde_json::json;

use super::Answers;
use super::refusals::error_object;
use crate::router::json_response;

/// Answers what has one reading, and on a loopback address (`is_local`) is not meant for a public name.
pub(super) fn answer<R: Answers>(
    routes: &R,
    is_local: bool,
    request: Request<Incoming>,
) -> impl Future<Output = Response> + Send + use<R> {
    if let Some(refusal) = refusal(is_local, &request) {
        return Either::Left(ready(refusal));
    }
    // RFC 9112, section 6.3: a length beside the chunks may be an attempt to hide a second request. The library drops the
    // length and reads the chunks, so that the pair cannot be seen any more: whatever follows chunks is not read.
    let has_chunks = request.headers().contains_key(TRANSFER_ENCODING);
    Either::Right(routes.answer(request).map(move |mut response| {
        if has_chunks {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }))
}

/// What a request hears that has two readings, or was meant for another host.
fn refusal(is_local: bool, request: &Request<Incoming>) -> Option<Response> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    // RFC 9112, section 3.2: one name, not none and not two.
    if hosts.next().is_some() || (host.is_none() && request.version() == Version::HTTP_11) {
        let message = "the request must have one Host header";
        return Some(json_response(StatusCode::BAD_REQUEST, &error_object("malformed_http", message)));
    }
    // Section 3.2.2: a target that names a server counts more than the header.
    let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    if is_local
        && [host.map(HeaderValue::as_bytes), named].into_iter().flatten().any(|name| !is_local_name(name))
    {
        let message = "this address serves its own machine: ask for it as localhost or by number";
        return Some(json_response(StatusCode::MISDIRECTED_REQUEST, &json!({ "error": message })));
    }
    None
}

/// Whether the public name service cannot have given this name: a number, a name without dots, or one under
/// a top level that is never delegated (RFC 6761, RFC 6762, and ICANN's `internal`).
fn is_local_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let top = name.rsplit_once('.').map(|(_, top)| top);
    bare.parse::<IpAddr>().is_ok()
        || top.is_none_or(|top| {
            ["localhost", "local", "internal"].iter().any(|local| top.eq_ignore_ascii_case(local))
        })
}
