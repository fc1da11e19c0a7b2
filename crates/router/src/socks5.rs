//! The server side of SOCKS5 (RFC 1928, RFC 1929) as a value that is fed: no socket, no clock.
//!
//! It asks for exactly as many bytes as the next part of the conversation has, so that no byte of what follows is taken. The last
//! reply is not its own: whoever connects says how that went, and when.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const VERSION: u8 = 5;
const USER_NAME_VERSION: u8 = 1;
const CONNECT: u8 = 1;

/// How a server answers (RFC 1928, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reply {
    /// Something else went wrong.
    GeneralFailure = 1,
    /// The peer is not one that the policy accepts.
    NotAllowed = 2,
    /// No way to the peer's network.
    NetworkUnreachable = 3,
    /// No way to the peer, or its name has no address.
    HostUnreachable = 4,
    /// Nobody listens there.
    ConnectionRefused = 5,
    /// Another command than to connect.
    CommandNotSupported = 7,
    /// Another kind of address.
    AddressNotSupported = 8,
}

impl Reply {
    /// The bytes of a refusal.
    #[must_use]
    pub const fn encode(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// The bytes of a success, from the address `bound` of the connection that was made.
#[must_use]
pub fn encode_success(bound: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![VERSION, 0, 0];
    match bound.ip() {
        IpAddr::V4(ip) => {
            bytes.push(1);
            bytes.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
    }
    bytes.extend(bound.port().to_be_bytes());
    bytes
}

/// Where a program wants to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name: letters, digits, `-`, `_` and `.`.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// As resolvers take it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// What a program asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where to.
    pub target: Target,
    /// The policy that its user name is, if it gave one.
    pub policy: Option<String>,
}

/// A conversation that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Socks5Error {
    /// Another protocol.
    #[error("the program speaks version {found}, not SOCKS5")]
    Version {
        /// Its first byte.
        found: u8,
    },
    /// No way to log in that this port has.
    #[error(
        "the program offers no way to log in that this port takes (none, or a policy as user name if the port says so)"
    )]
    NoMethod,
    /// A user name that no policy has.
    #[error("the program's user name is no policy of this router")]
    UnknownPolicy,
    /// Another command.
    #[error("the program asks for command {found}; only CONNECT is served")]
    Command {
        /// The command.
        found: u8,
    },
    /// Another kind of address.
    #[error("the program names its target by the unknown address type {found}")]
    AddressType {
        /// The type.
        found: u8,
    },
    /// A name that is none.
    #[error("the program's target is no name of a host")]
    Name,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes, if any, and go on.
    Send(Vec<u8>),
    /// The program has said what it wants. It waits for a [`Reply`] or success.
    Done(Request),
    /// Send these bytes, if any, and close.
    Fail(Vec<u8>, Socks5Error),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Methods { count: u8 },
    UserNameLen,
    UserName { len: u8 },
    Password { user_name: Vec<u8>, len: u8 },
    Command,
    Ipv4,
    Ipv6,
    NameLen,
    Name { len: u8 },
}

/// A conversation.
#[derive(Clone, Debug)]
pub struct Conversation {
    state: State,
    takes_user_names: bool,
    policy: Option<String>,
}

impl Conversation {
    /// The most bytes that [`Conversation::wants`] says: the longest name with its port.
    pub const WANTS_MAX: usize = u8::MAX as usize + 2;

    /// A new one. User names are asked for where they are taken and the program has one.
    #[must_use]
    pub const fn new(takes_user_names: bool) -> Self {
        Self { state: State::Greeting, takes_user_names, policy: None }
    }

    /// How many bytes [`Conversation::take`] takes next: 1 to [`Conversation::WANTS_MAX`].
    #[must_use]
    pub fn wants(&self) -> usize {
        match &self.state {
            State::Greeting | State::UserNameLen => 2,
            State::Methods { count } => usize::from(*count),
            // And the length of the password.
            State::UserName { len } => usize::from(*len) + 1,
            State::Password { len, .. } => usize::from(*len),
            State::Command => 4,
            State::Ipv4 => 4 + 2,
            State::Ipv6 => 16 + 2,
            State::NameLen => 1,
            State::Name { len } => usize::from(*len) + 2,
        }
    }

    /// Takes exactly as many bytes as it wants. `is_policy` says which names policies have.
    pub fn take(&mut self, bytes: &[u8], is_policy: impl Fn(&str) -> bool) -> Step {
        debug_assert_eq!(bytes.len(), self.wants(), "the caller reads what is wanted");
        match self.next(bytes, is_policy) {
            Ok(step) => step,
            Err((answer, error)) => Step::Fail(answer, error),
        }
    }

    fn next(
        &mut self,
        bytes: &[u8],
        is_policy: impl Fn(&str) -> bool,
    ) -> Result<Step, (Vec<u8>, Socks5Error)> {
        let silent = |error| (Vec::new(), error);
        let (state, answer) = match (&self.state, bytes) {
            (State::Greeting, [VERSION, 0]) => return Err(no_method()),
            (State::Greeting, &[VERSION, count]) => (State::Methods { count }, vec![]),
            (State::Methods { .. }, methods) => {
                if self.takes_user_names && methods.contains(&2) {
                    (State::UserNameLen, vec![VERSION, 2])
                } else if methods.contains(&0) {
                    (State::Command, vec![VERSION, 0])
                } else {
                    return Err(no_method());
                }
            }
            (State::UserNameLen, &[USER_NAME_VERSION, len]) => (State::UserName { len }, vec![]),
            (State::UserName { .. }, [user_name @ .., 0]) => self.log_in(user_name, is_policy)?,
            (State::UserName { .. }, [user_name @ .., len]) => {
                (State::Password { user_name: user_name.to_vec(), len: *len }, vec![])
            }
            (State::Password { user_name, .. }, _password) => self.log_in(&user_name.clone(), is_policy)?,
            (State::Command, &[VERSION, CONNECT, _, kind]) => match kind {
                1 => (State::Ipv4, vec![]),
                3 => (State::NameLen, vec![]),
                4 => (State::Ipv6, vec![]),
                found => {
                    let answer = Reply::AddressNotSupported.encode().to_vec();
                    return Err((answer, Socks5Error::AddressType { found }));
                }
            },
            (State::Command, &[VERSION, found, ..]) => {
                return Err((Reply::CommandNotSupported.encode().to_vec(), Socks5Error::Command { found }));
            }
            (State::Ipv4, &[a, b, c, d, high, low]) => {
                let address = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
                return Ok(self.done(Target::Address(address.into())));
            }
            (State::Ipv6, [ip @ .., high, low]) => {
                let ip: [u8; 16] = ip.try_into().map_err(|_length| silent(Socks5Error::Name))?;
                let address = (Ipv6Addr::from(ip).to_canonical(), u16::from_be_bytes([*high, *low]));
                return Ok(self.done(Target::Address(address.into())));
            }
            (State::NameLen, &[len]) if len > 0 => (State::Name { len }, vec![]),
            (State::Name { .. }, [name @ .., high, low]) if is_name(name) => {
                let host = String::from_utf8_lossy(name).into_owned();
                return Ok(self.done(Target::Name { host, port: u16::from_be_bytes([*high, *low]) }));
            }
            (State::NameLen | State::Name { .. }, _) => {
                return Err((Reply::HostUnreachable.encode().to_vec(), Socks5Error::Name));
            }
            (_, bytes) => {
                return Err(silent(Socks5Error::Version { found: bytes.first().copied().unwrap_or(0) }));
            }
        };
        self.state = state;
        Ok(Step::Send(answer))
    }

    /// The password is not looked at: whoever reaches the port may choose.
    fn log_in(
        &mut self,
        user_name: &[u8],
        is_policy: impl Fn(&str) -> bool,
    ) -> Result<(State, Vec<u8>), (Vec<u8>, Socks5Error)> {
        let name = str::from_utf8(user_name).ok().filter(|name| is_policy(name));
        let name = name.ok_or_else(|| (vec![USER_NAME_VERSION, 1], Socks5Error::UnknownPolicy))?;
        self.policy = Some(name.to_owned());
        Ok((State::Command, vec![USER_NAME_VERSION, 0]))
    }

    fn done(&mut self, target: Target) -> Step {
        Step::Done(Request { target, policy: self.policy.take() })
    }
}

fn no_method() -> (Vec<u8>, Socks5Error) {
    (vec![VERSION, 0xff], Socks5Error::NoMethod)
}

fn is_name(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests;
