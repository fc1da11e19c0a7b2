//! `cocoon router`: the deployed network's router, by its command line and its file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::attest::{Allowed, Policy, Register};
use ::router::{INTEL_ROOT_KEY, Limits, Options, PolicyOption, PortOption, Router, RouterConfig, RouterFile};
use anyhow::{Context, Result, ensure};
use clap::{ArgGroup, Args};
use node::{Evidence, EvidenceConfig};
use tokio_util::sync::CancellationToken;
use transport::clock::unix_now;
use transport::identity::IdentitySource;

use crate::logs::LogArguments;
use crate::signals;

/// What the router does.
#[derive(Args)]
#[command(group(ArgGroup::new("places").args(["socks5", "forward", "reverse", "legacy", "config", "example"]).multiple(true).required(true)))]
pub(crate) struct RouterArguments {
    /// Serve SOCKS5 on this port of 127.0.0.1; peers are asked by the policy.
    #[arg(short = 'S', long, value_name = "PORT@POLICY[:HASH,…]", value_parser = PortOption::socks5)]
    socks5: Vec<PortOption>,
    /// Connect whoever connects to this port of 127.0.0.1 to the peer at HOST:PORT.
    #[arg(short = 'F', long, value_name = "PORT:HOST:PORT@POLICY[:HASH,…]", value_parser = PortOption::forward)]
    forward: Vec<PortOption>,
    /// Take peers' connections on this port, and connect them to the program at HOST:PORT.
    #[arg(short = 'R', long, value_name = "PORT:HOST:PORT@POLICY[:HASH,…]", value_parser = PortOption::reverse)]
    reverse: Vec<PortOption>,
    /// A port in the older form. Without a policy it is tdx.
    #[arg(short = 'p', long = "port", value_name = "PORT:KIND[:POLICY[:HOST:PORT]]", value_parser = PortOption::legacy)]
    legacy: Vec<PortOption>,
    /// A policy with a name of its own; KIND is any or tdx.
    #[arg(short = 'P', long, value_name = "NAME:KIND[:HASH,…]")]
    policy: Vec<PolicyOption>,
    /// Ports and policies in JSON. Ports of the command line take the place of all of the file's.
    #[arg(short = 'c', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Tell the local side of each port of the command line about its peer, before any other byte.
    #[arg(short = 's', long)]
    serialize_info: bool,
    /// Roots of the vendor's certificates that are accepted in the place of Intel's, by the SHA-384 of their keys (96 digits).
    #[arg(long, value_name = "HASH,…", value_delimiter = ',')]
    collateral_hash: Option<Vec<Register>>,
    /// Show the certificate of BASE_cert.pem and BASE_key.pem, which are looked at every minute. Default: made in memory.
    #[arg(short = 'C', long, value_name = "BASE")]
    cert: Option<PathBuf>,
    /// Threads; 0 is one for every two cores.
    #[arg(short = 't', long, value_name = "NUMBER")]
    threads: Option<usize>,
    /// Bits of proof of work that strangers have to do. Default: 20, or what the file says of each port.
    #[arg(short = 'd', long, value_name = "BITS")]
    pow_difficulty: Option<u8>,
    /// Bits of proof of work that are done for a peer. Default: 28, or what the file says of each port.
    #[arg(short = 'm', long, value_name = "BITS")]
    max_pow_difficulty: Option<u8>,
    /// Print a file to begin with.
    #[arg(short = 'g', long)]
    example: bool,
    /// How much to log, as the deployed router counts: 1 errors, 2 warnings, 3 information, 4 details. Default: what --log says.
    #[arg(short = 'v', long, value_name = "NUMBER")]
    verbosity: Option<u8>,

    /// The section `evidence` of a role's configuration, as a file (TOML): collateral, and what makes evidence of our own.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// Folder with collateral.
    #[arg(long, value_name = "FOLDER")]
    collateral: Option<PathBuf>,
    /// Where collateral is fetched, such as https://localhost:8081.
    #[arg(long, value_name = "URL")]
    pccs: Option<String>,
    /// Connections of each port at once.
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().connections_max)]
    connections_max: usize,
    /// Seconds without a byte in either direction after which a connection ends.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().idle.as_secs(), value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    idle: u64,
    /// Accept the policy fake_tdx, under which peers show what nobody signed. For tests only.
    #[arg(long)]
    insecure_fake_tdx: bool,
    /// Believe simulated platforms, as `evidence.simulated` names them. For tests only.
    #[arg(long)]
    insecure_simulated: bool,
}

/// Runs the router until it is asked to stop.
///
/// # Errors
/// If what it is told cannot be done.
pub(crate) fn run(arguments: RouterArguments, logs: &LogArguments) -> Result<()> {
    if arguments.example {
        println!("{}", serde_json::to_string_pretty(&RouterFile::example())?);
        return Ok(());
    }
    match arguments.verbosity {
        Some(number) => logs.at_verbosity(number).to_stderr()?,
        None => logs.to_stderr()?,
    }
    let evidence = arguments.evidence()?;
    let config = arguments.config()?;
    match config.threads {
        0 => crate::runtime()?,
        threads => crate::runtime_of(threads)?,
    }
    .block_on(serve(config, &evidence))
}

async fn serve(config: RouterConfig, evidence: &EvidenceConfig) -> Result<()> {
    // Whether simulated platforms are believed was settled before.
    let Evidence { identity, appraiser } = Evidence::open(Some(evidence), true)?;
    let appraiser = appraiser.context("the policies need something that appraises")?;
    let identity = match &config.certificate {
        Some(base) => {
            ensure!(
                evidence.enclave.is_none() && simulated_platform(evidence).is_none(),
                "--cert names certificate and key, and --evidence what makes them: which of them is it?"
            );
            let [certificate, key] = ["_cert.pem", "_key.pem"].map(|end| beside(base, end));
            IdentitySource::files(certificate, key, unix_now())?
        }
        None => identity,
    };
    let router = Router::bind(config.clone(), identity, &appraiser).await?;
    for (address, port) in router.local_addrs()?.iter().zip(&config.ports) {
        let (mode, policy) = (port.mode.name(), port.policy.as_str());
        tracing::info!(%address, mode, policy, serialize_info = port.serialize_info, "listening");
    }
    let stop = CancellationToken::new();
    let service = router.run(stop.clone());
    tokio::pin!(service);
    tokio::select! {
        () = &mut service => return Ok(()),
        asked = signals::stop_requested() => asked?,
    }
    tracing::info!("stopping: no more connections are taken");
    stop.cancel();
    service.await;
    Ok(())
}

fn simulated_platform(evidence: &EvidenceConfig) -> Option<&PathBuf> {
    evidence.simulated.as_ref()?.platform.as_ref()
}

/// The base with an ending.
pub(crate) fn beside(base: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(base);
    name.push(end);
    name.into()
}

impl RouterArguments {
    fn evidence(&self) -> Result<EvidenceConfig> {
        let mut config = match &self.evidence {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                toml::from_str(&text)
                    .with_context(|| format!("{} is no section `evidence`", path.display()))?
            }
            None => EvidenceConfig::default(),
        };
        ensure!(config.policy.is_none(), "--evidence: policies of a router are those of its ports");
        ensure!(
            config.simulated.is_none() || self.insecure_simulated,
            "--evidence: a simulated platform protects nothing: only tests believe it, with --insecure-simulated"
        );
        if let Some(folder) = &self.collateral {
            config.collateral.clone_from(folder);
        }
        config.pccs = self.pccs.clone().or(config.pccs);
        // Of policies, each port has its own; this one lends them the rest.
        config.policy = Some(Policy::for_images(Allowed::only([])));
        Ok(config)
    }

    fn config(self) -> Result<RouterConfig> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => RouterFile::default(),
        };
        let ports = [self.socks5, self.forward, self.reverse, self.legacy].concat();
        if self.serialize_info && ports.is_empty() {
            for port in file.ports.iter().filter(|port| port.serialize_info.is_none()) {
                tracing::warn!(
                    port = port.port,
                    "--serialize-info is about ports of the command line: set serialize_info in the file"
                );
            }
        }
        let root_keys = match self.collateral_hash {
            Some(hashes) => Some(Allowed::only(hashes)),
            // The verifier believes the simulated root alone.
            None if self.insecure_simulated => Some(Allowed::default()),
            None => None,
        };
        let options = Options {
            ports,
            policies: self.policy,
            serialize_info: self.serialize_info,
            root_keys,
            certificate: self.cert,
            threads: self.threads,
            pow_difficulty: self.pow_difficulty,
            pow_difficulty_max: self.max_pow_difficulty,
            insecure_fake_tdx: self.insecure_fake_tdx,
        };
        if self.insecure_fake_tdx {
            tracing::warn!("peers under the policy fake_tdx prove nothing: --insecure-fake-tdx is for tests");
        }
        if self.insecure_simulated {
            tracing::warn!("simulated platforms are believed: --insecure-simulated is for tests");
        }
        let limits = Limits {
            connections_max: self.connections_max,
            idle: Duration::from_secs(self.idle),
            ..Limits::default()
        };
        let config = RouterConfig { limits, ..RouterConfig::new(options, file)? };
        // Simulated platforms have another root.
        if !self.insecure_simulated {
            for (policy, _) in config.policies.iter().filter(|(_, policy)| policy.lacks_intels_root()) {
                tracing::warn!(
                    policy,
                    "the policy accepts nobody: Intel's root, {INTEL_ROOT_KEY}, is not among the roots that it lists: add it, or leave the list out"
                );
            }
        }
        Ok(config)
    }
}

/// Reads a router's file.
///
/// # Errors
/// If it cannot be read, or is none.
pub(crate) fn read(path: &Path) -> Result<RouterFile> {
    let cannot = || format!("cannot read {}", path.display());
    let len = std::fs::metadata(path).with_context(cannot)?.len();
    ensure!(
        len <= RouterFile::LEN_MAX as u64,
        "{} has {len} bytes, at most {} are read",
        path.display(),
        RouterFile::LEN_MAX
    );
    let text = std::fs::read_to_string(path).with_context(cannot)?;
    RouterFile::from_json(&text).with_context(|| format!("{} is no router's file", path.display()))
}
