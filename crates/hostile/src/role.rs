//! A role of the program in a process of its own: its addresses, its memory, its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long a role may take to start, on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);
/// How often a file or a counter is looked at that cannot say that it changed.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A running role; killed when dropped.
pub(crate) struct Role {
    child: Child,
    log: PathBuf,
    started: String,
    /// Memory that was resident when it had started, in KiB.
    resident_at_start: u64,
}

impl Role {
    /// Starts `role` with `settings`, `KEY=VALUE` each, and waits until it runs.
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        role: &str,
        name: &str,
        settings: &[String],
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(program);
        // The lines about ended connections and links are what is counted; some are for debugging only.
        command.args(["--log", "info,cocoon_transport=debug,cocoon_client=debug,cocoon_worker=debug"]);
        command.arg(role).arg("--state").arg(folder.join(name));
        for setting in settings {
            command.arg("--set").arg(setting);
        }
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let child = command.stdout(Stdio::null()).stderr(file).kill_on_drop(true).spawn();
        let child = child.with_context(|| format!("cannot start {}", program.display()))?;
        let mut role_process = Self { child, log, started: String::new(), resident_at_start: 0 };
        let runs = format!("{role} runs");
        let begin = Instant::now();
        while role_process.started.is_empty() {
            if let Some(ended) = role_process.child.try_wait()? {
                bail!("the {role} ended with {ended}:\n{}", role_process.log_text());
            }
            if begin.elapsed() > START_MAX {
                bail!("the {role} does not start:\n{}", role_process.log_text());
            }
            let text = role_process.log_text();
            if let Some(line) = text.lines().find(|line| line.contains(&runs)) {
                line.clone_into(&mut role_process.started);
            }
            sleep(LOOK_AGAIN).await;
        }
        role_process.resident_at_start = role_process.resident_kib()?;
        Ok(role_process)
    }

    /// An address that it said it listens on.
    pub(crate) fn address(&self, key: &str) -> Result<std::net::SocketAddr> {
        let key = format!("{key}=");
        let word = self.started.split_whitespace().find_map(|word| word.strip_prefix(&key));
        word.context("the role names no such address")?.parse().context("no address")
    }

    /// Memory that is resident, in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// By how much resident memory has grown since the start, at its largest, in KiB.
    pub(crate) fn grown_kib(&self) -> Result<i64> {
        Ok(i64::try_from(self.status_kib("VmHWM:")?)? - i64::try_from(self.resident_at_start)?)
    }

    fn status_kib(&self, key: &'static str) -> Result<u64> {
        let id = self.child.id().context("the role has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).context(key)?;
        line.trim().trim_end_matches(" kB").parse().context(key)
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How many lines of its log hold `text`.
    pub(crate) fn lines(&self, text: &str) -> usize {
        self.log_text().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until `count` lines hold `text`, at most `time`; returns how many do then.
    pub(crate) async fn wait_for_lines(&self, text: &str, count: usize, time: Duration) -> usize {
        let begin = Instant::now();
        loop {
            let found = self.lines(text);
            if found >= count || begin.elapsed() > time {
                return found;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    pub(crate) fn log_text(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| format!("no log: {error}"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }
}
