//! What a process has used, as the kernel tells it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

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

/// Processor time of this process since it began, to the nanosecond.
pub(crate) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    // It counts up from zero.
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Processor time of a process since it began, threads that have ended included. In hundredths of a second: for spans of
/// seconds.
///
/// # Errors
/// If the process is gone.
pub(crate) fn cpu_since_start(pid: u32) -> Result<Duration> {
    /// `USER_HZ`: a constant of the kernel's interface (proc(5)).
    const TICKS_PER_SECOND: u64 = 100;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let text = text.with_context(|| format!("process {pid} has ended"))?;
    // The program's name, in parentheses, may hold anything.
    let (_name, fields) = text.rsplit_once(')').context("stat has no name")?;
    // `utime` and `stime` are the 14th and 15th field of all; the first behind the name is the third.
    let mut fields = fields.split_whitespace().map(|field| field.parse::<u64>().ok());
    let (user, system) = (fields.nth(11).flatten(), fields.next().flatten());
    let ticks = user.zip(system).map(|(user, system)| user + system).context("stat holds no times")?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
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
    /// How long it may take to attach to all threads.
    const START_MAX: Duration = Duration::from_secs(10);

    /// Begins to count.
    ///
    /// # Errors
    /// If `perf` is not installed, or may not trace.
    pub(crate) async fn count(pids: &[u32]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let [orders, answers] = ["orders", "answers"].map(|name| folder.path().join(name));
        let made = Command::new("mkfifo").args([&orders, &answers]).status()?;
        ensure!(made.success(), "mkfifo failed");
        // For reading and writing, so that nothing waits for perf to open the other end.
        let mut order = pipe::OpenOptions::new().read_write(true).open_sender(&orders)?;
        let mut answer = pipe::OpenOptions::new().read_write(true).open_receiver(&answers)?;
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "--delay=-1", "-p", &list, "-o"]);
        perf.arg(folder.path().join(Self::FILE)).arg("--control");
        perf.arg(format!("fifo:{},{}", orders.display(), answers.display()));
        perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut perf = perf.spawn().context("perf is not installed")?;
        // It answers once it has attached to all threads and counts.
        order.write_all(b"enable\n").await?;
        let enabled = tokio::time::timeout(Self::START_MAX, answer.read_u8()).await;
        if !matches!(enabled, Ok(Ok(_))) || perf.try_wait()?.is_some() {
            perf.kill()?;
            perf.wait()?;
            bail!("perf may not trace system calls here");
        }
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
