//! `cocoon sealer`: a simulated sealer at a socket, for whoever works on sealed keys without SGX.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use evidence::serve_simulated;
use sim::{Enclave, Platform, Sealer};
use tokio::net::UnixListener;
use zeroize::Zeroizing;

use crate::logs::LogArguments;
use crate::signals::stop_requested;

/// Flags of `cocoon sealer`.
#[derive(Args)]
pub(crate) struct SealerArguments {
    /// File with the simulated platform that the guests are on, such as enclaves/proxy.json of the state folder of `cocoon up`.
    #[arg(long, value_name = "FILE")]
    platform: PathBuf,

    /// The socket to answer at. It is made, and removed at the end.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,

    /// The made-up enclave: its MRENCLAVE, and so the keys, follow from this name.
    #[arg(long, value_name = "NAME", default_value = "sealer")]
    enclave: String,
}

/// Answers guests until it is asked to stop.
///
/// # Errors
/// If the platform cannot be read, or the socket not be made.
pub(crate) fn run(arguments: &SealerArguments, logs: &LogArguments) -> Result<()> {
    logs.to_stderr()?;
    let SealerArguments { platform, socket, enclave } = arguments;
    let text = fs::read_to_string(platform).map(Zeroizing::new);
    let text = text.with_context(|| format!("cannot read {}", platform.display()))?;
    let platform = Platform::from_json(&text)?;
    let enclave = Enclave::of_name(enclave);
    crate::runtime()?.block_on(async {
        let listener = UnixListener::bind(socket).with_context(|| {
            format!("cannot listen at {}: remove what is there, if no other sealer uses it", socket.display())
        })?;
        println!("simulated sealer, which protects nothing: for test networks only");
        println!("sealer        unix:{}", socket.display());
        println!("MRENCLAVE     {}", enclave.mrenclave());
        tokio::select! {
            () = serve_simulated(listener, Sealer::new(platform, enclave)) => {}
            stopped = stop_requested() => stopped?,
        }
        fs::remove_file(socket).with_context(|| format!("cannot remove {}", socket.display()))
    })
}
