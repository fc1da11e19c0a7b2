//! What is measured: something that listens for HTTP on loopback, and the processes that it consists of.

mod cocoon;
mod nginx;

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

use crate::http;
use crate::process::Process;

pub(crate) use self::cocoon::{Cocoon, CocoonFolder, Settings};
pub(crate) use self::nginx::Nginx;

/// How long a target may take to start. Children of a busy machine are slow.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A running target. Dropping it ends its processes.
pub(crate) struct Target {
    /// As tables call it.
    pub(crate) name: &'static str,
    /// Where it takes requests.
    pub(crate) port: u16,
    /// Whose cost counts.
    pub(crate) pids: Vec<u32>,
    processes: Vec<Process>,
}

impl Target {
    /// The engine without anything in front. Its own cost is no subject.
    pub(crate) fn direct(mock_port: u16) -> Self {
        Self { name: "direct", port: mock_port, pids: Vec::new(), processes: Vec::new() }
    }

    fn new(name: &'static str, port: u16, processes: Vec<Process>) -> Self {
        let pids = processes.iter().map(Process::pid).collect();
        Self { name, port, pids, processes }
    }

    /// Returns when a GET of `path` answers 200.
    async fn wait_until_ready(&mut self, path: &str) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if matches!(http::get(self.port, path).await, Ok((200, _))) {
                return Ok(());
            }
            if self.processes.iter_mut().any(Process::has_ended) {
                bail!("a process of {} ended while starting", self.name);
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {START_DEADLINE:?}", self.name);
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}
