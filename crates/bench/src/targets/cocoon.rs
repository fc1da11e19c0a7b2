//! The subject: client, proxy and worker, each a process of this program, with the settings of a private network.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use anyhow::{Context, Result};
use ton::{Address, RegisteredProxy, RootConfig};
use units::{ConfigVersion, NanoTon};

use super::Target;
use crate::mock::MODEL;
use crate::platforms::Platforms;
use crate::process::{Process, free_ports, this_program};

/// Stands for the root contract; only has to be the same for all.
const ROOT_ADDRESS: Address = Address::new(0, *b"cocoon benchmark root\0\0\0\0\0\0\0\0\0\0\0");

/// What a suite wants of the roles beyond the defaults.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a> {
    /// Requests that the worker runs at once.
    pub(crate) worker_requests_max: u32,
    /// Bits of proof of work; `None` for the proxy's own default.
    pub(crate) pow_difficulty: Option<u8>,
    /// Simulated platforms for evidence on all links; `None` for links without.
    pub(crate) platforms: Option<&'a Platforms>,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Self { worker_requests_max: 4096, pow_difficulty: None, platforms: None }
    }
}

/// The running network, with its files.
pub(crate) struct Cocoon {
    pub(crate) target: Target,
    /// The proxy's process.
    pub(crate) proxy_pid: u32,
    /// Where workers join.
    pub(crate) workers_port: u16,
    pub(crate) folder: CocoonFolder,
}

/// The state of the roles; removed when dropped.
pub(crate) type CocoonFolder = tempfile::TempDir;

impl Cocoon {
    /// Starts the three roles in front of the mock engine and waits until a prompt would be answered.
    ///
    /// # Errors
    /// If one does not start; the end of its log is part of the message.
    pub(crate) async fn start(mock_port: u16, settings: Settings<'_>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [client, proxy, worker, workers, clients] = free_ports()?;
        let root_file = folder.path().join("root.json");
        std::fs::write(&root_file, root_config(workers, clients).to_pseudo_json()?)?;

        let start = |role: &str, http: u16, own: &[String]| {
            let mut arguments = vec![role.to_owned()];
            let common = [
                format!("root_config={}", root_file.display()),
                format!("root_address={}", ROOT_ADDRESS.to_wire_text(false)),
                format!("http={}", loopback(http)),
            ];
            let evidence = settings.platforms.map(|platforms| platforms.setting(role));
            for setting in common.iter().chain(own).chain(&evidence) {
                arguments.extend(["--set".to_owned(), setting.clone()]);
            }
            arguments.extend(["--state".to_owned(), folder.path().join(role).display().to_string()]);
            Process::start(&this_program()?, arguments, &folder.path().join(format!("{role}.log")))
        };
        // All peers of a measurement come from this host's one address.
        let mut of_proxy = vec![
            format!("workers={}", loopback(workers)),
            format!("clients={}", loopback(clients)),
            "links_per_address_max=20000".to_owned(),
        ];
        of_proxy.extend(settings.pow_difficulty.map(|bits| format!("pow_difficulty={bits}")));
        let model = format!(
            r#"models=[{{ name = "{MODEL}", backend = "http://127.0.0.1:{mock_port}", max_active_requests = {} }}]"#,
            settings.worker_requests_max
        );
        let proxy = start("proxy", proxy, &of_proxy)?;
        let proxy_pid = proxy.pid();
        let processes = vec![start("client", client, &[])?, proxy, start("worker", worker, &[model])?];
        let mut target = Target::new("cocoon", client, processes);
        let ready = target.wait_until_ready("/readyz").await;
        ready.with_context(|| {
            ["client", "proxy", "worker"].map(|role| last_words(folder.path(), role)).concat()
        })?;
        Ok(Self { target, proxy_pid, workers_port: workers, folder })
    }
}

fn loopback(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

fn root_config(workers: u16, clients: u16) -> RootConfig {
    let mut root = RootConfig::pseudo(ROOT_ADDRESS);
    root.version = ConfigVersion::new(1);
    root.params.params_version = 1;
    root.params.price_per_token = NanoTon::new(20);
    root.params.worker_fee_per_token = NanoTon::new(18);
    root.last_proxy_seqno = 1;
    root.registered_proxies =
        vec![RegisteredProxy { seqno: 1, workers: loopback(workers), clients: loopback(clients) }];
    root
}

/// The last lines of a role's log. Logs hold no prompt.
fn last_words(folder: &Path, role: &str) -> String {
    let text = std::fs::read_to_string(folder.join(format!("{role}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.iter().rev().map(|line| format!("\n{role}: {line}")).collect()
}
