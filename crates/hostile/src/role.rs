//! A role of the program in a process of its own: its addresses, its memory, its log.

use std::fs::File;
use std::net::SocketAddr;
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
        let state = folder.join(name).display().to_string();
        let mut arguments = vec![role.to_owned(), "--state".to_owned(), state];
        for setting in settings {
            arguments.extend(["--set".to_owned(), setting.clone()]);
        }
        Self::run(program, folder, name, &arguments, (&format!("{role} runs"), 1)).await
    }

    /// Starts the program with these arguments and waits until its log holds a text so many times.
    pub(crate) async fn run(
        program: &Path,
        folder: &Path,
        name: &str,
        arguments: &[String],
        (runs, times): (&str, usize),
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(program);
        // The lines about ended connections and links are what is counted; some are for debugging only.
        command.args(["--log", "info,cocoon_transport=debug,cocoon_client=debug,cocoon_worker=debug"]);
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let child = command.args(arguments).stdout(Stdio::null()).stderr(file).kill_on_drop(true).spawn();
        let child = child.with_context(|| format!("cannot start {}", program.display()))?;
        let mut role = Self { child, log, started: String::new(), resident_at_start: 0 };
        let begin = Instant::now();
        while role.started.is_empty() {
            if let Some(ended) = role.child.try_wait()? {
                bail!("{name} ended with {ended}:\n{}", role.log_text());
            }
            if begin.elapsed() > START_MAX {
                bail!("{name} does not start:\n{}", role.log_text());
            }
            let text = role.log_text();
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(runs)).collect();
            if lines.len() >= times {
                role.started = lines.join("\n");
            }
            sleep(LOOK_AGAIN).await;
        }
        role.resident_at_start = role.resident_kib()?;
        Ok(role)
    }

    /// An address that it said it listens on.
    pub(crate) fn address(&self, key: &str) -> Result<SocketAddr> {
        self.addresses(key)?.first().copied().context("the role names no such address")
    }

    /// All of that name, in their order.
    pub(crate) fn addresses(&self, key: &str) -> Result<Vec<SocketAddr>> {
        let key = format!("{key}=");
        let words = self.started.split_whitespace().filter_map(|word| word.strip_prefix(&key));
        words.map(|word| word.parse().context("no address")).collect()
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
