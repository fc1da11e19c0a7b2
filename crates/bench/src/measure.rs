//! What a process has used, as the kernel tells it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Processor time of all threads that run now, of all processes in `pids`.
///
/// A thread that ends takes its share along; the programs measured here keep their threads.
///
/// # Errors
/// If a process is gone.
pub(crate) fn cpu(pids: &[u32]) -> Result<Duration> {
    let mut nanos = 0;
    for pid in pids {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.with_context(|| format!("process {pid} has ended"))? {
            // A thread may end between the listing and the reading.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanos += first_number(&text).context("schedstat holds no number")?;
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// Memory of all processes in `pids`, in bytes: what is shared counts in parts.
///
/// # Errors
/// If a process is gone.
pub(crate) fn memory(pids: &[u32]) -> Result<u64> {
    let mut kib = 0;
    for pid in pids {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let text = text.with_context(|| format!("process {pid} has ended"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        kib += line.and_then(first_number).context("smaps_rollup has no Pss")?;
    }
    Ok(kib * 1024)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The load average of the last minute.
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
}

/// Counts system calls of processes, with `perf`.
pub(crate) struct SystemCalls {
    perf: Child,
    folder: tempfile::TempDir,
}

impl SystemCalls {
    const FILE: &str = "perf.csv";

    /// Begins to count.
    ///
    /// # Errors
    /// If `perf` is not installed, or may not trace.
    pub(crate) async fn count(pids: &[u32]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &list, "-o"]);
        perf.arg(folder.path().join(Self::FILE));
        perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut perf = perf.spawn().context("perf is not installed")?;
        // It says nothing when it has attached to all threads.
        tokio::time::sleep(Duration::from_millis(300)).await;
        ensure!(perf.try_wait()?.is_none(), "perf may not trace system calls here");
        Ok(Self { perf, folder })
    }

    /// How many there were.
    ///
    /// # Errors
    /// If `perf` left no number.
    pub(crate) fn finish(mut self) -> Result<u64> {
        Command::new("kill").arg("-INT").arg(self.perf.id().to_string()).status()?;
        self.perf.wait()?;
        let text = std::fs::read_to_string(self.folder.path().join(Self::FILE))?;
        let line = text.lines().find(|line| line.contains("raw_syscalls"));
        let count = line.and_then(|line| line.split(',').next()?.parse().ok());
        count.with_context(|| format!("perf says {text:?}"))
    }
}
