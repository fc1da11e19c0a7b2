//! Child processes that end with the measurement.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

/// A child that is killed when dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `program`, its words going to the file `log`.
    ///
    /// # Errors
    /// If it cannot start.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Result<Self> {
        let log = std::fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Variables meant for a person's own roles must not change what is measured.
        for (name, _value) in std::env::vars().filter(|(name, _)| name.starts_with("COCOON_")) {
            command.env_remove(name);
        }
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child })
    }

    /// Starts a program that speaks to us through its standard output. Its standard input is the command's.
    ///
    /// # Errors
    /// If it cannot start.
    pub(crate) fn start_speaking(mut command: Command) -> Result<(Self, ChildStdout)> {
        let child = command.stdout(Stdio::piped()).spawn();
        let mut process = Self { child: child.with_context(|| format!("start {command:?}"))? };
        let words = process.child.stdout.take().context("stdout was asked for")?;
        Ok((process, words))
    }

    /// Its standard input, if it was piped.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The mock engine, in a process of its own.
pub(crate) struct Mock {
    _process: Process,
    pub(crate) port: u16,
    _words: ChildStdout,
}

impl Mock {
    /// # Errors
    /// If it cannot start or names no port.
    pub(crate) fn start() -> Result<Self> {
        let mut command = Command::new(this_program()?);
        command.args(["bench", "mock"]).stdin(Stdio::null());
        let (process, mut words) = Process::start_speaking(command)?;
        let mut line = String::new();
        BufReader::new(&mut words).read_line(&mut line)?;
        let port = line.trim().parse().with_context(|| format!("the mock engine says {line:?}"))?;
        Ok(Self { _process: process, port, _words: words })
    }
}

/// This program, to be started in its other roles.
pub(crate) fn this_program() -> Result<PathBuf> {
    std::env::current_exe().context("this program's own path is unknown")
}

/// `N` ports that are free now, all different.
///
/// # Errors
/// If the system has none.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
