//! What an application's request says to its own client and not to an engine.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Credentials are for the client, `Host` names it, and `Expect` makes no sense for a body that is sent at once.
/// `Accept-Encoding` is among them because usage is counted in the answer, which must not be compressed.
const NOT_FOR_ENGINES: [HeaderName; 6] =
    [header::ACCEPT_ENCODING, header::AUTHORIZATION, header::COOKIE, header::EXPECT, header::HOST, AFFINITY];

/// Tells proxies which requests belong together.
const AFFINITY: HeaderName = HeaderName::from_static("x-cocoon-affinity");

/// Leaves what an engine should see, given headers without those of a hop. The body is known to be JSON, whatever
/// the application called it.
pub(super) fn for_engine(mut headers: HeaderMap) -> HeaderMap {
    for name in &NOT_FOR_ENGINES {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_compression_do_not_reach_the_engine() {
        let mut headers = HeaderMap::new();
        let refused = ["Authorization", "cookie", "accept-encoding", "host", "expect", "x-cocoon-affinity"];
        for name in refused.into_iter().chain(["accept", "content-type"]) {
            headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("x"));
        }
        let kept = for_engine(headers);
        let mut names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "content-type"]);
        assert_eq!(kept[header::CONTENT_TYPE], "application/json");
    }
}
