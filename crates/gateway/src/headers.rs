//! Which headers may cross a hop.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Headers that belong to one connection (RFC 9110 §7.6.1), and the two that frame a message: whoever sends
/// the message on frames it anew.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Most headers kept of one message. Engines send about ten.
pub const HEADERS_MAX: usize = 64;

/// Whether a header stays on its hop. Names compare without regard to case.
#[must_use]
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    HOP_BY_HOP.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// The headers of a message that may be passed on: no hop-by-hop header, none that `Connection` names, none
/// whose name or value is not legal HTTP, and at most [`HEADERS_MAX`].
pub fn end_to_end<'a>(headers: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> HeaderMap {
    let named_by_connection: Vec<&[u8]> = headers
        .clone()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .take(HEADERS_MAX)
        .collect();
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        let stays = named_by_connection.iter().any(|named| name.eq_ignore_ascii_case(named));
        if is_hop_by_hop(name) || stays || kept.len() == HEADERS_MAX {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            kept.append(name, value);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(headers: &[(&str, &str)]) -> Vec<String> {
        let pairs = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        end_to_end(pairs).keys().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn framing_and_hop_by_hop_headers_stay_in_any_case() {
        let headers = [
            ("Content-Type", "application/json"),
            ("CONTENT-LENGTH", "4"),
            ("Transfer-encoding", "chunked"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("x-served-by", "engine"),
        ];
        assert_eq!(kept(&headers), ["content-type", "x-served-by"]);
    }

    #[test]
    fn headers_named_by_connection_stay_too() {
        let headers = [("X-Hop", "1"), ("x-end", "1"), ("Connection", "close, x-hop"), ("server", "uvicorn")];
        assert_eq!(kept(&headers), ["x-end", "server"]);
    }

    #[test]
    fn illegal_headers_are_left_out() {
        let headers = [("x y", "1"), ("", "1"), ("x-ok", "fine"), ("x-split", "a\r\nset-cookie: b")];
        assert_eq!(kept(&headers), ["x-ok"]);
    }

    #[test]
    fn a_flood_of_headers_is_cut_off() {
        let many: Vec<(String, String)> = (0..70_000).map(|n| (format!("x-{n}"), String::new())).collect();
        let pairs = many.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        assert_eq!(end_to_end(pairs).len(), HEADERS_MAX);
    }
}
