//! What a router does, from its command line and its file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use attest::{Allowed, Register};
use transport::{ConnectDeadlines, ListenDeadlines};

use crate::file::{FilePolicy, FilePort, RouterFile};
use crate::options::{Destination, Mode, OptionError, PolicyOption, PolicyRef, PortOption, listening};
use crate::policy::{GuestLists, PeerPolicy, PolicyError, PolicyKind, intel_root_key};

/// Bits of proof of work that are asked for, as by the deployed router.
const POW_DIFFICULTY: u8 = 20;
/// Bits that are done.
const POW_DIFFICULTY_MAX: u8 = 28;
/// No hash has more.
const POW_BITS: u8 = 64;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `-S`, `-F`, `-R`, `-p`: they take the place of all ports of the file.
    pub ports: Vec<PortOption>,
    /// `-P`: they take the place of policies of the file with the same names.
    pub policies: Vec<PolicyOption>,
    /// `-s`: whether the local sides of these ports are told about their peers.
    pub serialize_info: bool,
    /// `--collateral-hash`: roots in the place of Intel's, where a policy lists none.
    pub root_keys: Option<Allowed<Register>>,
    /// `-C`.
    pub certificate: Option<PathBuf>,
    /// `-t`.
    pub threads: Option<usize>,
    /// `-d`: for all ports.
    pub pow_difficulty: Option<u8>,
    /// `-m`: for all ports.
    pub pow_difficulty_max: Option<u8>,
    /// Whether policies of the kind `fake_tdx` are accepted.
    pub insecure_fake_tdx: bool,
}

/// What a router does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// Where it listens.
    pub ports: Vec<PortConfig>,
    /// All policies by name: those that ports have, and those that user names of SOCKS5 may choose.
    pub policies: BTreeMap<String, PeerPolicy>,
    /// Base of the names of certificate and key, if they are in files.
    pub certificate: Option<PathBuf>,
    /// Threads; 0 leaves it to the program.
    pub threads: usize,
    /// Bounds.
    pub limits: Limits,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Its number; 0 takes a free one.
    pub port: u16,
    /// What it does.
    pub mode: Mode,
    /// Name of its policy.
    pub policy: String,
    /// Whether user names of SOCKS5 choose another one.
    pub takes_user_names: bool,
    /// Whether the local side is told about the peer.
    pub serialize_info: bool,
    /// Bits of proof of work that strangers have to do at rest.
    pub pow_difficulty: u8,
    /// Bits that are done for a peer.
    pub pow_difficulty_max: u8,
}

/// Bounds of each port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of a port at once, those that are being made included; further ones are closed. Default: 4,096.
    pub connections_max: usize,
    /// Of these, from one IPv4 address or one /64 of IPv6, of a `reverse` port. Default: 1,024.
    pub connections_per_address_max: usize,
    /// For how long nothing may move in either direction. Default: 10 min.
    pub idle: Duration,
    /// What a local program may take to say by SOCKS5 what it wants. Default: 10 s, as deployed programs.
    pub socks5: Duration,
    /// Connecting to the local program behind a `reverse` port. Default: 10 s.
    pub destination: Duration,
    /// The appraisal of a peer's evidence, collateral that has to be fetched included. Default: 60 s.
    pub evidence: Duration,
    /// Phases of connecting to peers.
    pub connect: ConnectDeadlines,
    /// Phases of accepting peers.
    pub listen: ListenDeadlines,
    /// What connections have to end by themselves once the router stops. Default: 10 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            connections_per_address_max: 1024,
            idle: Duration::from_secs(600),
            socks5: Duration::from_secs(10),
            destination: Duration::from_secs(10),
            evidence: Duration::from_secs(60),
            connect: ConnectDeadlines::default(),
            listen: ListenDeadlines::default(),
            drain: Duration::from_secs(10),
        }
    }
}

/// Why a router cannot be as it is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing to do.
    #[error("no port is named: use --socks5, --forward or --reverse, or `ports` of the file")]
    NoPorts,
    /// Two ports with one number.
    #[error("port {port} is named twice")]
    PortTwice {
        /// Its number.
        port: u16,
    },
    /// A port that cannot be.
    #[error("port {port}")]
    Port {
        /// Its number.
        port: u16,
        /// Why.
        source: OptionError,
    },
    /// User names where there are none.
    #[error("port {port}: allow_policy_from_username is for socks5 ports")]
    UserNames {
        /// Its number.
        port: u16,
    },
    /// More bits than a hash has.
    #[error("{found} bits of proof of work are more than {POW_BITS}")]
    Difficulty {
        /// What was asked for.
        found: u8,
    },
    /// A name that no policy has.
    #[error("no policy has the name {name:?}{}", port.map_or_else(String::new, |port| format!(", which port {port} asks for")))]
    UnknownPolicy {
        /// The port, if one asks for it.
        port: Option<u16>,
        /// The name.
        name: String,
    },
    /// Two policies with one name.
    #[error("the policy {name:?} is there twice")]
    PolicyTwice {
        /// The name.
        name: String,
    },
    /// A policy that is not what its name says.
    #[error("a policy with the name {name:?} has to be of that kind: give it another name")]
    BuiltInName {
        /// The name.
        name: String,
    },
    /// A policy that cannot be.
    #[error("policy {name:?}")]
    Policy {
        /// Its name.
        name: String,
        /// Why.
        source: PolicyError,
    },
}

impl RouterConfig {
    /// What the command line and the file say together. What the command line says outright comes first; then what the file says of
    /// a port; then what the deployed router does by default.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(options: Options, file: RouterFile) -> Result<Self, ConfigError> {
        let Options { ports, policies, serialize_info, root_keys, insecure_fake_tdx, .. } = options;
        let RouterFile { cert_base_name, threads, policies: file_policies, ports: file_ports } = file;
        let mut known = Policies::new(root_keys, insecure_fake_tdx)?;
        let mut from_file = BTreeMap::new();
        for policy in file_policies {
            let lists = policy.tdx_config.map(GuestLists::from).unwrap_or_default();
            if from_file.insert(policy.name.clone(), (policy.kind, lists)).is_some() {
                return Err(ConfigError::PolicyTwice { name: policy.name });
            }
        }
        let mut named = BTreeMap::new();
        for PolicyOption { name, kind, images } in policies {
            let lists = GuestLists { images, ..GuestLists::default() };
            if named.insert(name.clone(), (kind, lists)).is_some() {
                return Err(ConfigError::PolicyTwice { name });
            }
        }
        from_file.extend(named);
        for (name, (kind, lists)) in from_file {
            known.add(name, kind, lists)?;
        }

        let difficulty = |of_port: Option<u8>, outright: Option<u8>, default: u8| {
            let found = outright.or(of_port).unwrap_or(default);
            if found > POW_BITS { Err(ConfigError::Difficulty { found }) } else { Ok(found) }
        };
        let mut all = Vec::new();
        if ports.is_empty() {
            for port in file_ports {
                let asked = difficulty(port.pow_difficulty, options.pow_difficulty, POW_DIFFICULTY)?;
                let done =
                    difficulty(port.max_pow_difficulty, options.pow_difficulty_max, POW_DIFFICULTY_MAX)?;
                all.push(of_file(port, asked, done)?);
            }
        }
        for PortOption { port, mode, policy } in ports {
            all.push(PortConfig {
                port,
                mode,
                policy: known.named(port, policy)?,
                takes_user_names: false,
                serialize_info,
                pow_difficulty: difficulty(None, options.pow_difficulty, POW_DIFFICULTY)?,
                pow_difficulty_max: difficulty(None, options.pow_difficulty_max, POW_DIFFICULTY_MAX)?,
            });
        }
        known.check(&all)?;
        Ok(Self {
            ports: all,
            policies: known.policies,
            certificate: options.certificate.or(cert_base_name),
            threads: options.threads.unwrap_or(threads),
            limits: Limits::default(),
        })
    }
}

impl RouterFile {
    /// The policy that ports of this file call `name`, under Intel's root if it lists none.
    ///
    /// # Errors
    /// [`ConfigError::UnknownPolicy`] if there is none, and those of [`RouterConfig::new`] that are about the policy.
    pub fn policy(&self, name: &str) -> Result<PeerPolicy, ConfigError> {
        let mut known = Policies::new(None, false)?;
        for FilePolicy { name, kind, tdx_config, .. } in
            self.policies.iter().filter(|policy| policy.name == name)
        {
            known.add(name.clone(), *kind, tdx_config.clone().map(GuestLists::from).unwrap_or_default())?;
        }
        known.policies.remove(name).ok_or_else(|| not_there(name, None))
    }
}

/// Why there is no such policy.
fn not_there(name: &str, port: Option<u16>) -> ConfigError {
    let name = name.to_owned();
    match name.parse() {
        Ok(PolicyKind::FakeTdx) => ConfigError::Policy { name, source: PolicyError::Fake },
        _ => ConfigError::UnknownPolicy { port, name },
    }
}

/// A port of the file, with the bits of work that were settled for it.
fn of_file(port: FilePort, pow_difficulty: u8, pow_difficulty_max: u8) -> Result<PortConfig, ConfigError> {
    let FilePort {
        port,
        kind,
        policy_name,
        destination_host,
        destination_port,
        allow_policy_from_username: takes_user_names,
        serialize_info,
        ..
    } = port;
    let cannot = |source| ConfigError::Port { port, source };
    let destination = match (destination_host, destination_port) {
        (Some(host), Some(port)) if !host.is_empty() && port > 0 => Some(Destination { host, port }),
        (None, None) => None,
        _ => {
            let form = "both of destination_host and destination_port, or neither";
            return Err(cannot(OptionError::Form { form }));
        }
    };
    let mode = Mode::new(kind, destination).map_err(cannot)?;
    if takes_user_names && mode != Mode::Socks5 {
        return Err(ConfigError::UserNames { port });
    }
    Ok(PortConfig {
        port: listening(port).map_err(cannot)?,
        mode,
        policy: policy_name,
        takes_user_names,
        serialize_info: serialize_info.unwrap_or(false),
        pow_difficulty,
        pow_difficulty_max,
    })
}

/// Policies as they come to be known.
struct Policies {
    policies: BTreeMap<String, PeerPolicy>,
    root_keys: Allowed<Register>,
    accepts_fake: bool,
}

impl Policies {
    /// The policies that have the names of their kinds.
    fn new(root_keys: Option<Allowed<Register>>, accepts_fake: bool) -> Result<Self, ConfigError> {
        let root_keys = root_keys.unwrap_or_else(|| Allowed::only([intel_root_key()]));
        let mut known = Self { policies: BTreeMap::new(), root_keys, accepts_fake };
        for kind in PolicyKind::ALL {
            if kind != PolicyKind::FakeTdx || accepts_fake {
                known.put(kind.name().to_owned(), kind, GuestLists::default())?;
            }
        }
        Ok(known)
    }

    /// A policy that has a name of its own, or narrows the one of its kind.
    fn add(&mut self, name: String, kind: PolicyKind, lists: GuestLists) -> Result<(), ConfigError> {
        if name.parse::<PolicyKind>().is_ok_and(|says| says != kind) {
            return Err(ConfigError::BuiltInName { name });
        }
        self.put(name, kind, lists)
    }

    fn put(&mut self, name: String, kind: PolicyKind, lists: GuestLists) -> Result<(), ConfigError> {
        let policy = PeerPolicy::new(kind, lists, &self.root_keys, self.accepts_fake)
            .map_err(|source| ConfigError::Policy { name: name.clone(), source })?;
        self.policies.insert(name, policy);
        Ok(())
    }

    /// The name of what a port of the command line is asked by: a policy of its own gets one.
    fn named(&mut self, port: u16, policy: PolicyRef) -> Result<String, ConfigError> {
        match policy {
            PolicyRef::Named(name) => Ok(name),
            PolicyRef::Inline { kind, images } => {
                let mut name = format!("{kind}_inline_{port}");
                // Another port's, or one that somebody named so, must not change under those who ask by it.
                while self.policies.contains_key(&name) {
                    name.push('_');
                }
                let lists = GuestLists { images: Some(images), ..GuestLists::default() };
                self.put(name.clone(), kind, lists)?;
                Ok(name)
            }
        }
    }

    fn check(&self, ports: &[PortConfig]) -> Result<(), ConfigError> {
        if ports.is_empty() {
            return Err(ConfigError::NoPorts);
        }
        let mut numbers = BTreeSet::new();
        for PortConfig { port, policy, .. } in ports {
            if *port != 0 && !numbers.insert(*port) {
                return Err(ConfigError::PortTwice { port: *port });
            }
            if !self.policies.contains_key(policy) {
                return Err(not_there(policy, Some(*port)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
