//! The `cocoon` program: each role as a subcommand, and `cocoon up`, the whole network on one machine.
//!
//! This crate only assembles: it reads flags, files and variables, starts roles, and prints. What a role does
//! is in the role's crate; nothing here touches a prompt.
#![forbid(unsafe_code)]

mod attest;
#[cfg(feature = "devnet")]
mod audit;
mod chain;
mod client_command;
mod config;
#[cfg(feature = "devnet")]
mod devnet;
mod doctor;
mod http;
mod instance;
mod logs;
mod on_chain;
mod proxy_command;
mod role;
mod root;
mod router;
mod running;
mod sealer;
mod signals;
mod status;
mod up;
mod wallet;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Confidential inference network on TON: client, proxy, worker, and all of them at once.
#[derive(Parser)]
#[command(version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    logs: logs::LogArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Start a whole private network on this machine and print how to use it.
    Up(up::UpArguments),
    /// Run a client: the OpenAI-compatible API for applications.
    Client(client_command::ClientArguments),
    /// Run a proxy: admits clients and workers, routes and meters.
    Proxy(proxy_command::ProxyArguments),
    /// Run a worker: serves models of an engine to the network.
    Worker(worker::WorkerArguments),
    /// Show roles, models, prices, balances and requests in flight of the network on this machine.
    Status(status::StatusArguments),
    /// Check or print a role's configuration without starting it.
    #[command(subcommand)]
    Config(role::ConfigCommand),
    /// Run a TON of one node on this machine, with a faucet, for contracts and tools.
    #[cfg(feature = "devnet")]
    Devnet(devnet::DevnetArguments),
    /// Wallets of people: make, look at, and pay from them.
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// The root contract of a network: who takes part, and on which terms.
    Root(root::RootArguments),
    /// Show where every nanoton of a private network went.
    #[cfg(feature = "devnet")]
    Audit(audit::AuditArguments),
    /// Look at accounts and transactions on the chain, with our contracts and messages by name.
    #[command(subcommand)]
    Chain(chain::ChainCommand),
    /// Give programs that have none of them proof of work, TLS and evidence: the router of the deployed network.
    Router(router::RouterArguments),
    /// Look at evidence of enclaves, and verify it.
    #[command(subcommand)]
    Attest(attest::AttestCommand),
    /// Say what this machine can prove of itself, and how to get what it lacks.
    Doctor(doctor::DoctorArguments),
    /// Run a simulated sealer, which gives simulated guests their keys, for development.
    Sealer(sealer::SealerArguments),
    /// Measure what the path costs on this machine, beside plain forwarders.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    end_with_the_reader();
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cocoon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whoever reads what is printed may have enough of it, as `head` has: that is no failure to describe. `println!` panics then, and
/// to have the signal end the process instead would end it in the middle of an exchange with a server, too.
fn end_with_the_reader() {
    /// What a shell says of a program that `SIGPIPE` has ended.
    const BROKEN_PIPE: i32 = 128 + 13;
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload_as_str().unwrap_or_default();
        if words.starts_with("failed printing to stdout") && words.contains("Broken pipe") {
            std::process::exit(BROKEN_PIPE);
        }
        usual(panic);
    }));
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let logs = arguments.logs;
    match arguments.command {
        Command::Up(up) => up::run(up, &logs),
        Command::Client(client) => client_command::run(&client, &logs),
        Command::Proxy(proxy) => proxy_command::run(&proxy, &logs),
        Command::Worker(worker) => worker::run(&worker, &logs),
        Command::Status(status) => status::run(&status),
        Command::Config(command) => role::config(&command),
        #[cfg(feature = "devnet")]
        Command::Devnet(devnet) => devnet::run(&devnet, &logs),
        Command::Wallet(command) => wallet::run(&command),
        Command::Root(root) => root::run(&root),
        #[cfg(feature = "devnet")]
        Command::Audit(audit) => audit::run(&audit),
        Command::Chain(command) => chain::run(&command),
        Command::Router(router) => router::run(router, &logs),
        Command::Attest(command) => attest::run(&command),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::Sealer(sealer) => sealer::run(&sealer, &logs),
        Command::Bench(bench) => bench::run(&bench),
    }
}

/// The runtime of every command that waits for something.
///
/// It has a thread for every two cores. A request crosses three roles, and each hands it from task to task: with a thread
/// for every core, waking the others and taking work from them costs a tenth of the processor time. One thread needs no
/// scheduler for several.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    runtime_of(cores.div_ceil(2))
}

/// The same with so many threads.
fn runtime_of(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads);
    keep_freed_memory();
    Ok(builder.enable_all().build()?)
}

/// Lets the system's allocator keep some MiB that were freed.
///
/// glibc gives what is free at the end of its heap back once that is 128 KiB: the body of a long prompt, page by page for
/// each request. Freeing a block that it had to map raises the mark to twice the block's length (mallopt(3),
/// `M_MMAP_THRESHOLD`). Other allocators do not care.
fn keep_freed_memory() {
    const BLOCK_LEN: usize = 2 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(BLOCK_LEN)));
}
