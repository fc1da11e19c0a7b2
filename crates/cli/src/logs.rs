//! Where logs go.
//!
//! What they may hold is decided where they are written: never a prompt, an answer or a key.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Flags about logs, valid for every command.
#[derive(Args)]
pub(crate) struct LogArguments {
    /// Which log lines to write: a level, or directives such as `info,cocoon_proxy=debug`.
    #[arg(long, global = true, env = "COCOON_LOG", default_value = "info", value_name = "FILTER")]
    log: String,

    /// How log lines look.
    #[arg(long, global = true, env = "COCOON_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LogArguments {
    /// Writes log lines to standard error.
    ///
    /// # Errors
    /// If the filter is not understood.
    pub(crate) fn to_stderr(&self) -> Result<()> {
        self.install(std::io::stderr)
    }

    /// The same with the deployed network's number for a level: 0 and 1 errors, 2 warnings, 3 information, more details.
    #[must_use]
    pub(crate) fn at_verbosity(&self, number: u8) -> Self {
        let level = match number {
            0 | 1 => "error",
            2 => "warn",
            3 => "info",
            4 => "debug",
            5.. => "trace",
        };
        Self { log: level.to_owned(), log_format: self.log_format }
    }

    /// Appends log lines to a file, so that the terminal stays free for the answer a person waits for.
    ///
    /// # Errors
    /// If the filter is not understood or the file cannot be opened.
    pub(crate) fn to_file(&self, path: &Path) -> Result<()> {
        self.install(Mutex::new(open_log(path)?))
    }

    /// The same settings as flags for a child process.
    pub(crate) fn to_flags(&self) -> [String; 4] {
        let format = match self.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        ["--log".into(), self.log.clone(), "--log-format".into(), format.into()]
    }

    fn install<W>(&self, writer: W) -> Result<()>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let filter = EnvFilter::try_new(&self.log).with_context(|| format!("--log {:?}", self.log))?;
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer);
        match self.log_format {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().init(),
        }
        Ok(())
    }
}

/// Opens a log file for appending and creates its folder.
///
/// # Errors
/// If the folder or the file cannot be made.
pub(crate) fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| format!("cannot open the log {}", path.display()))
}
