//! The address of an engine, as an operator writes it.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Authority;
use serde::{Deserialize, Serialize};

/// `http://host:port[/base]` of an OpenAI-compatible server.
///
/// A trailing `/v1` is taken as part of the routes, since engines print their address in that form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EngineUrl {
    authority: Authority,
    /// Empty, or begins with `/` and does not end with one.
    base: String,
}

/// A text that names no engine we can call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEngineUrl {
    /// The scheme is `https`.
    #[error(
        "{found:?} uses https, which is not supported for engines yet: the engine belongs on the worker's own \
         host, where plain http does not leave the machine"
    )]
    Https {
        /// The refused text.
        found: String,
    },
    /// Not a URL of the accepted form.
    #[error(
        "{found:?} is not an engine address: write \"http://host:port\", with a base path if there is one"
    )]
    Malformed {
        /// The refused text.
        found: String,
    },
    /// The URL carries a user name or password.
    #[error("the engine address carries a user name or password, which would end up in logs: leave it out")]
    Credentials,
}

impl EngineUrl {
    /// The request target of one route, `path` beginning with `/`.
    pub(super) fn target(&self, path: &'static str) -> String {
        format!("{}{path}", self.base)
    }

    /// Host and port as written, for the `Host` header.
    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Host and port to connect to.
    pub(super) fn socket(&self) -> (&str, u16) {
        let host = self.authority.host();
        // The brackets around an IPv6 address belong to the URL.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (host, self.authority.port_u16().unwrap_or(80))
    }
}

impl FromStr for EngineUrl {
    type Err = InvalidEngineUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || InvalidEngineUrl::Malformed { found: text.to_owned() };
        // Before anything quotes the text back: an error must not print a password.
        if text.contains('@') {
            return Err(InvalidEngineUrl::Credentials);
        }
        let uri: Uri = text.trim().parse().map_err(|_invalid| malformed())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(InvalidEngineUrl::Https { found: text.to_owned() }),
            _ => return Err(malformed()),
        }
        if uri.query().is_some() {
            return Err(malformed());
        }
        let authority = uri.authority().cloned().ok_or_else(malformed)?;
        // The parser of `http` reads "host:" and "host:99999" without complaint.
        let port_is_valid = match authority.as_str().rsplit_once(']').unwrap_or(("", authority.as_str())).1 {
            rest if rest.contains(':') => authority.port_u16().is_some(),
            _ => true,
        };
        if authority.host().is_empty() || !port_is_valid {
            return Err(malformed());
        }
        let path = uri.path().trim_end_matches('/');
        let base = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        Ok(Self { authority, base })
    }
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.base)
    }
}

impl fmt::Debug for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineUrl({self})")
    }
}

impl TryFrom<String> for EngineUrl {
    type Error = InvalidEngineUrl;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EngineUrl> for String {
    fn from(url: EngineUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route_of(text: &str) -> (String, String) {
        let url: EngineUrl = text.parse().unwrap();
        let (host, port) = url.socket();
        (format!("{host} {port}"), url.target("/v1/models"))
    }

    #[test]
    fn a_base_path_is_kept_and_the_version_is_not_doubled() {
        let route = |socket: &str, target: &str| (socket.to_owned(), target.to_owned());
        assert_eq!(route_of("http://127.0.0.1:8000"), route("127.0.0.1 8000", "/v1/models"));
        assert_eq!(route_of("http://127.0.0.1:8000/"), route("127.0.0.1 8000", "/v1/models"));
        assert_eq!(route_of("http://gpu:8000/v1/"), route("gpu 8000", "/v1/models"));
        assert_eq!(route_of("http://[::1]:8000/engines/a"), route("::1 8000", "/engines/a/v1/models"));
        assert_eq!(route_of("http://gpu"), route("gpu 80", "/v1/models"));
    }

    #[test]
    fn https_is_refused_by_name() {
        let refused = "https://gpu:8000".parse::<EngineUrl>().unwrap_err();
        assert!(refused.to_string().contains("https"), "{refused}");
    }

    #[test]
    fn other_forms_are_refused() {
        for refused in [
            "",
            "gpu",
            "gpu:8000",
            "ftp://gpu",
            "http://",
            "http://gpu:x",
            "http://gpu:99999",
            "http://gpu/?a=b",
        ] {
            let error = refused.parse::<EngineUrl>().unwrap_err();
            assert!(matches!(error, InvalidEngineUrl::Malformed { .. }), "{refused:?}: {error:?}");
        }
    }

    #[test]
    fn a_password_is_refused_without_being_repeated() {
        let refused = "http://me:hunter2@gpu:8000".parse::<EngineUrl>().unwrap_err();
        assert_eq!(refused, InvalidEngineUrl::Credentials);
        assert!(!refused.to_string().contains("hunter2"));
    }
}
