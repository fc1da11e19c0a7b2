//! A role in a process of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const KIND: &str = "COCOON_KILL_ROLE";
const CONFIG: &str = "COCOON_KILL_CONFIG";
const READY: &str = "role is ready";

/// Far longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Client,
    Proxy,
    Worker,
}

/// A running role; killed when it is dropped.
pub(crate) struct Role {
    child: Child,
    /// Its end tells the process to stop in order.
    stdin: Option<ChildStdin>,
}

impl Role {
    /// Starts the role and waits until it has begun, or has died before that.
    pub(crate) fn start(kind: Kind, config: &serde_json::Value, failpoints: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "roles::role_process", "--ignored", "--nocapture"])
            .env(KIND, format!("{kind:?}"))
            .env(CONFIG, config.to_string())
            .env("FAILPOINTS", failpoints)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let _first = lines.find(|line| line.as_ref().map_or(true, |line| line.contains(READY)));
        // Whatever the test harness prints later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, stdin }
    }

    pub(crate) fn is_dead(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the process ends by itself.
    pub(crate) fn wait(&mut self, why: &str) -> ExitStatus {
        let deadline = now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(now() < deadline, "the process still runs: {why}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) {
        drop(self.stdin.take());
        let status = self.wait("it was told to stop");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "processes run in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Not a test: what [`Role::start`] runs.
#[test]
#[ignore = "the body of another process"]
fn role_process() {
    let Ok(kind) = std::env::var(KIND) else { return };
    let config = std::env::var(CONFIG).unwrap();
    let _points = fail::FailScenario::setup();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let until_told = || {
        println!("\n{READY}");
        let mut nothing = Vec::new();
        let _end = std::io::stdin().read_to_end(&mut nothing);
    };
    match kind.as_str() {
        "Proxy" => {
            let proxy =
                runtime.block_on(cocoon_proxy::start(serde_json::from_str(&config).unwrap())).unwrap();
            until_told();
            runtime.block_on(proxy.shutdown());
        }
        "Worker" => {
            let worker = runtime.block_on(worker::start(serde_json::from_str(&config).unwrap())).unwrap();
            until_told();
            runtime.block_on(worker.shutdown());
        }
        _ => {
            let client = runtime.block_on(client::start(serde_json::from_str(&config).unwrap())).unwrap();
            until_told();
            runtime.block_on(client.shutdown());
        }
    }
}
