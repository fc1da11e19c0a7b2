//! The network that is attacked: one proxy, one worker, one client, and a small engine.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use ton::{Address, RegisteredProxy, RootConfig};
use units::{ConfigVersion, NanoTon};

use crate::engine::{self, MODEL};
use crate::http;
use crate::role::Role;

/// The root contract's address, which exists nowhere.
pub(crate) const ROOT: Address = Address::new(0, [9; 32]);

/// How long the network may take until it answers.
const READY_MAX: Duration = Duration::from_secs(60);

/// Everything that runs during an attack.
pub(crate) struct Stage {
    folder: TempDir,
    program: PathBuf,
    pub(crate) root: RootConfig,
    pub(crate) engine: SocketAddr,
    pub(crate) proxy: Role,
    pub(crate) worker: Role,
    pub(crate) client: Role,
    /// Where clients connect to the proxy.
    pub(crate) clients: SocketAddr,
    /// Where workers connect to the proxy.
    pub(crate) workers: SocketAddr,
    /// Where applications ask the client.
    pub(crate) api: SocketAddr,
}

impl Stage {
    /// Starts everything and waits for a first good answer.
    pub(crate) async fn set(program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let program = std::path::absolute(program)?;
        let engine = engine::start().await?;
        let mut root = RootConfig::pseudo(Address::new(0, [1; 32]));
        root.version = ConfigVersion::new(1);
        root.params.price_per_token = NanoTon::new(2);
        root.params.worker_fee_per_token = NanoTon::new(1);
        write_root(&folder.path().join("root.json"), &root)?;
        let common = common(&folder.path().join("root.json"));
        let with = |more: &[String]| [&common[..], more].concat();
        let of_proxy =
            with(&["workers=127.0.0.1:0".into(), "clients=127.0.0.1:0".into(), "pow_difficulty=8".into()]);
        let proxy = Role::start(&program, folder.path(), "proxy", "proxy", &of_proxy).await?;
        let (clients, workers) = (proxy.address("clients")?, proxy.address("workers")?);
        root.registered_proxies.push(registered(1, workers, clients)?);
        write_root(&folder.path().join("root.json"), &root)?;
        let of_worker = with(&[models(MODEL, engine)]);
        let worker = Role::start(&program, folder.path(), "worker", "worker", &of_worker).await?;
        let client = Role::start(&program, folder.path(), "client", "client", &common).await?;
        let api = client.address("http")?;
        until_answered(api, MODEL).await?;
        Ok(Self { folder, program, root, engine, proxy, worker, client, clients, workers, api })
    }

    /// A worker or client that knows a fake proxy beside the real one. `settings` come on top.
    pub(crate) async fn victim(
        &self,
        role: &str,
        name: &str,
        fake: SocketAddr,
        settings: &[String],
    ) -> Result<Role> {
        let mut root = self.root.clone();
        root.registered_proxies.push(registered(2, fake, fake)?);
        let file = self.folder.path().join(format!("{name}.json"));
        write_root(&file, &root)?;
        let settings = [&common(&file)[..], &["proxy_connections=2".into()], settings].concat();
        Role::start(&self.program, self.folder.path(), role, name, &settings).await
    }

    /// A router with these options.
    pub(crate) async fn router(&self, name: &str, options: &[String], ports: usize) -> Result<Role> {
        let arguments = [&["router".to_owned()], options].concat();
        Role::run(&self.program, self.folder.path(), name, &arguments, ("listening", ports)).await
    }

    /// The ends of all logs, for whoever has to find out why.
    pub(crate) fn last_words(&self) -> String {
        let mut text = String::new();
        for (name, role) in [("proxy", &self.proxy), ("worker", &self.worker), ("client", &self.client)] {
            let log = role.log_text();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(20);
            text.push_str(&format!("── {name}\n{}\n", lines[last..].join("\n")));
        }
        text
    }
}

/// Waits until a request for `model` is answered.
pub(crate) async fn until_answered(api: SocketAddr, model: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        match http::chat(api, model).await {
            Ok(()) => return Ok(()),
            Err(error) if begin.elapsed() > READY_MAX => bail!("the network does not answer: {error:#}"),
            Err(_not_yet) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The setting by which a worker offers `model`.
pub(crate) fn models(model: &str, engine: SocketAddr) -> String {
    format!("models=[{{ name = \"{model}\", backend = \"http://{engine}\" }}]")
}

fn common(root: &Path) -> Vec<String> {
    vec![
        "http=127.0.0.1:0".into(),
        format!("root_config={}", root.display()),
        format!("root_address={}", ROOT.to_wire_text(false)),
    ]
}

fn write_root(path: &Path, root: &RootConfig) -> Result<()> {
    std::fs::write(path, root.to_pseudo_json()?).with_context(|| format!("cannot write {}", path.display()))
}

fn registered(seqno: u32, workers: SocketAddr, clients: SocketAddr) -> Result<RegisteredProxy> {
    let v4 = |address| match address {
        SocketAddr::V4(address) => Ok::<SocketAddrV4, anyhow::Error>(address),
        SocketAddr::V6(_) => bail!("the network has IPv4 addresses only"),
    };
    Ok(RegisteredProxy { seqno, workers: v4(workers)?, clients: v4(clients)? })
}
