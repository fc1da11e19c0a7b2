//! Where the chain is asked, and how far answers from there can be trusted.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use zeroize::Zeroizing;

/// A server of HTTP API v2.
#[derive(Clone)]
pub struct Endpoint {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
    api_key: Option<Zeroizing<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// How far answers can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The server runs on this machine: its answers are as good as the machine.
    Local,
    /// Nothing that the server says is proven: it can leave out what is newest, and tell of balances that are not there.
    /// TLS changes nothing about that: it says who lies, not that nobody does.
    Unproven,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Unproven => "unproven",
        })
    }
}

/// A text that names no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not of the form `http://host:port` or `https://host`.
    #[error(
        "{text:?} is no address of HTTP API v2: write http://127.0.0.1:13000 for a devnet, https://host for a public server"
    )]
    Form {
        /// The text.
        text: String,
    },
    /// A scheme that is not spoken here.
    #[error("{scheme:?} is not spoken here, only https, and http to this machine")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// Whoever is on the way could change every answer: prices, the machines that take part, what was paid.
    #[error("{host} is another machine, and http protects nothing on the way there: write https://{host}")]
    Unprotected {
        /// The machine.
        host: String,
    },
}

impl Endpoint {
    /// The same server, with a key that it knows us by.
    #[must_use]
    pub fn with_api_key(mut self, key: &str) -> Self {
        self.api_key = Some(Zeroizing::new(key.to_owned()));
        self
    }

    /// How far its answers can be trusted.
    #[must_use]
    pub fn trust(&self) -> Trust {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let is_local = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if is_local { Trust::Local } else { Trust::Unproven }
    }

    pub(crate) fn uri(&self) -> String {
        format!("{}://{}:{}{}/jsonRPC", self.scheme.name(), self.host, self.port, self.path)
    }

    pub(crate) fn api_key(&self) -> Option<&str> {
        self.api_key.as_ref().map(|key| key.as_str())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `https://host:port`, or `http://host:port` for this machine, with or without `/api/v2` and `/jsonRPC` behind.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let form = || EndpointError::Form { text: text.chars().take(200).collect() };
        let uri: Uri = text.parse().map_err(|_malformed| form())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(scheme) => return Err(EndpointError::Scheme { scheme: scheme.to_owned() }),
            None => return Err(form()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(form)?;
        if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(form());
        }
        let path = uri.path().trim_end_matches('/').trim_end_matches("/jsonRPC");
        let path = if path.is_empty() { "/api/v2" } else { path };
        let endpoint = Self {
            scheme,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(scheme.default_port()),
            path: path.to_owned(),
            api_key: None,
        };
        if scheme == Scheme::Http && endpoint.trust() != Trust::Local {
            return Err(EndpointError::Unprotected { host: endpoint.host });
        }
        Ok(endpoint)
    }
}

/// Where it is and how far it can be trusted; never the key.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({})", self.host, self.port, self.trust())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_named_in_several_ways() {
        for text in [
            "http://127.0.0.1:13000",
            "http://127.0.0.1:13000/",
            "http://127.0.0.1:13000/api/v2",
            "http://127.0.0.1:13000/api/v2/jsonRPC",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.uri(), "http://127.0.0.1:13000/api/v2/jsonRPC", "{text}");
        }
        let public: Endpoint = "https://chain.example/api/v2".parse().unwrap();
        assert_eq!(public.uri(), "https://chain.example:443/api/v2/jsonRPC");
    }

    #[test]
    fn what_is_not_on_this_machine_is_unproven() {
        let trust = |text: &str| text.parse::<Endpoint>().unwrap().trust();
        assert_eq!(trust("http://localhost:1"), Trust::Local);
        assert_eq!(trust("http://[::1]:1"), Trust::Local);
        assert_eq!(trust("http://127.9.9.9"), Trust::Local);
        assert_eq!(trust("https://10.0.0.1:1"), Trust::Unproven);
        assert_eq!(trust("https://localhost.example"), Trust::Unproven);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "127.0.0.1:13000", "http://", "/api/v2", "https://a:1?x=1", "https://me:secret@a:1"]
        {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Form { .. })), "{text:?}");
        }
        assert!(matches!("ftp://a.example".parse::<Endpoint>(), Err(EndpointError::Scheme { .. })));
        for text in [
            "http://a.example",
            "http://10.0.0.1:13000",
            "http://localhost.example",
            "http://[2001:db8::1]:1",
        ] {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Unprotected { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let endpoint = "https://a.example".parse::<Endpoint>().unwrap().with_api_key("very secret");
        assert_eq!(endpoint.api_key(), Some("very secret"));
        assert_eq!(format!("{endpoint:?} {endpoint}").matches("secret").count(), 0);
        assert_eq!(endpoint.to_string(), "a.example:443 (unproven)");
    }
}
