//! Texts of the command line: ports and policies.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use units::ImageHash;

use crate::file::PortKind;
use crate::policy::PolicyKind;

/// A text of the command line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Not of the form.
    #[error("expected {form}")]
    Form {
        /// The form.
        form: &'static str,
    },
    /// A number that is no port that can be listened on.
    #[error("{found:?} is no port: there are 1024 to 65535, and 0 for any that is free")]
    Port {
        /// What was found.
        found: String,
    },
    /// A number that is no port to connect to.
    #[error("{found:?} is no port: there are 1 to 65535")]
    DestinationPort {
        /// What was found.
        found: String,
    },
    /// Not a host.
    #[error("a host is missing")]
    Host,
    /// Not an image hash.
    #[error("{found:?} is no image hash: it has 64 hexadecimal digits")]
    Hash {
        /// What was found.
        found: String,
    },
    /// Hashes behind a name that has its own.
    #[error(
        "image hashes can follow any, tdx and fake_tdx only; {name:?} has its own: list them in --policy"
    )]
    HashesOfName {
        /// The name.
        name: String,
    },
    /// No kind of port.
    #[error("{found:?} is no kind of port: there are socks5, forward and reverse")]
    PortKind {
        /// What was found.
        found: String,
    },
    /// No kind of policy.
    #[error(transparent)]
    PolicyKind(#[from] crate::policy::PolicyKindError),
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// As resolvers take it: addresses of IPv6 in brackets.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What a port does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Connects local programs to where they ask by SOCKS5.
    Socks5,
    /// Connects local programs to one place.
    Forward(Destination),
    /// Takes peers' connections to a local program.
    Reverse(Destination),
}

impl Mode {
    /// As logs name it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Socks5 => "socks5",
            Self::Forward(_) => "forward",
            Self::Reverse(_) => "reverse",
        }
    }

    /// The mode of a kind.
    ///
    /// # Errors
    /// [`OptionError::Form`] if `destination` is missing, or is there for `socks5`.
    pub fn new(kind: PortKind, destination: Option<Destination>) -> Result<Self, OptionError> {
        match (kind, destination) {
            (PortKind::Socks5, None) => Ok(Self::Socks5),
            (PortKind::Forward, Some(destination)) => Ok(Self::Forward(destination)),
            (PortKind::Reverse, Some(destination)) => Ok(Self::Reverse(destination)),
            (PortKind::Socks5, Some(_)) => Err(OptionError::Form { form: "no destination of a socks5 port" }),
            (_, None) => Err(OptionError::Form { form: "a destination, host and port" }),
        }
    }
}

/// How a port names its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyRef {
    /// By its name.
    Named(String),
    /// A policy of its own: a kind with image hashes.
    Inline {
        /// The kind.
        kind: PolicyKind,
        /// The images that it accepts, one at least.
        images: BTreeSet<ImageHash>,
    },
}

impl FromStr for PolicyRef {
    type Err = OptionError;

    /// `name` or `kind:hash,…`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, hashes)) = text.split_once(':') else {
            return match text {
                "" => Err(OptionError::Form { form: "the name of a policy behind @" }),
                name => Ok(Self::Named(name.to_owned())),
            };
        };
        let kind = name.parse().map_err(|_none| OptionError::HashesOfName { name: name.to_owned() })?;
        Ok(Self::Inline { kind, images: images(hashes)? })
    }
}

fn images(text: &str) -> Result<BTreeSet<ImageHash>, OptionError> {
    let image = |text: &str| {
        text.trim().parse().map_err(|_form| OptionError::Hash { found: text.chars().take(80).collect() })
    };
    text.split(',').map(image).collect()
}

/// A port of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOption {
    /// Its number.
    pub port: u16,
    /// What it does.
    pub mode: Mode,
    /// Which policy its peers are asked by.
    pub policy: PolicyRef,
}

impl PortOption {
    /// `-S`: `port@policy[:hash,…]`.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn socks5(text: &str) -> Result<Self, OptionError> {
        let form = "port@policy[:hash,…], such as 8116@tdx";
        let (number, policy) = text.split_once('@').ok_or(OptionError::Form { form })?;
        Ok(Self { port: port(number)?, mode: Mode::Socks5, policy: policy.parse()? })
    }

    /// `-F`: `port:host:port@policy[:hash,…]`.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn forward(text: &str) -> Result<Self, OptionError> {
        Self::to(text, Mode::Forward)
    }

    /// `-R`: `port:host:port@policy[:hash,…]`.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn reverse(text: &str) -> Result<Self, OptionError> {
        Self::to(text, Mode::Reverse)
    }

    fn to(text: &str, mode: impl FnOnce(Destination) -> Mode) -> Result<Self, OptionError> {
        let form = "port:host:port@policy[:hash,…], such as 11001:localhost:11101@tdx";
        let (places, policy) = text.split_once('@').ok_or(OptionError::Form { form })?;
        let (number, place) = places.split_once(':').ok_or(OptionError::Form { form })?;
        let destination = destination(place, form)?;
        Ok(Self { port: port(number)?, mode: mode(destination), policy: policy.parse()? })
    }

    /// `-p`: `port:kind[:policy[:host:port]]`, the older form. Without a policy it is `tdx`.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn legacy(text: &str) -> Result<Self, OptionError> {
        let form = "port:kind[:policy[:host:port]], such as 11001:reverse:tdx:localhost:11101";
        let mut parts = text.splitn(4, ':');
        let number = port(parts.next().unwrap_or_default())?;
        let kind = match parts.next().ok_or(OptionError::Form { form })? {
            "socks5" => PortKind::Socks5,
            "forward" => PortKind::Forward,
            "reverse" => PortKind::Reverse,
            other => return Err(OptionError::PortKind { found: other.chars().take(40).collect() }),
        };
        let policy = parts.next().unwrap_or(PolicyKind::Tdx.name()).parse()?;
        let destination = parts.next().map(|place| destination(place, form)).transpose()?;
        Ok(Self { port: number, mode: Mode::new(kind, destination)?, policy })
    }
}

/// A number that can be listened on.
///
/// # Errors
/// [`OptionError::Port`] for those that the deployed router refuses, but for 0.
pub(crate) fn listening(number: u16) -> Result<u16, OptionError> {
    match number {
        0 | 1024.. => Ok(number),
        1..1024 => Err(OptionError::Port { found: number.to_string() }),
    }
}

fn port(text: &str) -> Result<u16, OptionError> {
    let number =
        text.parse().map_err(|_form| OptionError::Port { found: text.chars().take(40).collect() })?;
    listening(number)
}

/// `host:port`, an address of IPv6 in brackets or without.
fn destination(text: &str, form: &'static str) -> Result<Destination, OptionError> {
    let (host, port) = text.rsplit_once(':').ok_or(OptionError::Form { form })?;
    let number = port.parse().ok().filter(|port| *port > 0);
    let number = number.ok_or(OptionError::DestinationPort { found: port.chars().take(40).collect() })?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() {
        return Err(OptionError::Host);
    }
    Ok(Destination { host: bare.to_owned(), port: number })
}

/// `-P`: `name:kind[:hash,…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyOption {
    /// What ports call it.
    pub name: String,
    /// Its kind.
    pub kind: PolicyKind,
    /// Images that it accepts; `None` is any.
    pub images: Option<BTreeSet<ImageHash>>,
}

impl FromStr for PolicyOption {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "name:kind[:hash,…], such as ours:tdx";
        let mut parts = text.splitn(3, ':');
        let name = parts.next().filter(|name| !name.is_empty() && !name.contains('@'));
        let name = name.ok_or(OptionError::Form { form })?.to_owned();
        let kind = parts.next().ok_or(OptionError::Form { form })?.parse()?;
        Ok(Self { name, kind, images: parts.next().map(images).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> PolicyRef {
        PolicyRef::Named(name.to_owned())
    }

    fn to(host: &str, port: u16) -> Destination {
        Destination { host: host.to_owned(), port }
    }

    #[test]
    fn ports_are_written_as_for_the_deployed_router() {
        let socks = PortOption { port: 8116, mode: Mode::Socks5, policy: named("tdx") };
        assert_eq!(PortOption::socks5("8116@tdx"), Ok(socks.clone()));
        let reverse = PortOption::reverse("11001:localhost:11101@tdx").unwrap();
        let expected = Mode::Reverse(to("localhost", 11_101));
        assert_eq!((reverse.port, reverse.mode), (11_001, expected.clone()));
        let forward = PortOption::forward("9000:[2001:db8::1]:443@ours").unwrap();
        assert_eq!(forward.mode, Mode::Forward(to("2001:db8::1", 443)));
        assert_eq!(to("2001:db8::1", 443).to_string(), "[2001:db8::1]:443");
        assert_eq!(PortOption::forward("9000:2001:db8::1:443@ours").unwrap().mode, forward.mode);

        assert_eq!(PortOption::legacy("8116:socks5"), Ok(socks));
        let legacy = PortOption::legacy("11001:reverse:any:localhost:11101").unwrap();
        assert_eq!((legacy.mode, legacy.policy), (expected, named("any")));
    }

    #[test]
    fn hashes_follow_kinds_and_policies() {
        let (one, two) = ("11".repeat(32), "22".repeat(32));
        let inline = PortOption::socks5(&format!("8116@tdx:{one},{two}")).unwrap().policy;
        let images: BTreeSet<_> = [one.parse().unwrap(), two.parse().unwrap()].into();
        assert_eq!(inline, PolicyRef::Inline { kind: PolicyKind::Tdx, images: images.clone() });
        let policy: PolicyOption = format!("ours:tdx:{one},{two}").parse().unwrap();
        assert_eq!(
            policy,
            PolicyOption { name: "ours".to_owned(), kind: PolicyKind::Tdx, images: Some(images) }
        );
        assert_eq!("ours:any".parse::<PolicyOption>().unwrap().images, None);
    }

    #[test]
    fn other_texts_are_refused() {
        let hash = "11".repeat(32);
        for text in ["8116", "@tdx", "80@tdx", "x@tdx", "8116@", "70000@tdx", "8116@tdx:", "8116@tdx:12"] {
            assert!(PortOption::socks5(text).is_err(), "{text}");
        }
        let named = PortOption::socks5(&format!("8116@ours:{hash}"));
        assert_eq!(named, Err(OptionError::HashesOfName { name: "ours".to_owned() }));
        for text in ["1:h:1@tdx", "9000:h@tdx", "9000::1@tdx", "9000:h:0@tdx", "9000:h:1", "9000:h:x@tdx"] {
            assert!(PortOption::forward(text).is_err(), "{text}");
        }
        for text in ["8116", "8116:socks", "8116:reverse:tdx", "8116:socks5:tdx:h:1", "8116:reverse:tdx:h"] {
            assert!(PortOption::legacy(text).is_err(), "{text}");
        }
        for text in ["ours", ":tdx", "ours:tcb", "ours:tdx:", "ours:tdx:xyz"] {
            assert!(text.parse::<PolicyOption>().is_err(), "{text}");
        }
    }
}
