//! The books of a proxy: what a durable charge costs, and how soon they are back after a crash.
//!
//! Runs the shipped code on real files: the ledger records, a commit is sealed and flushed to the disk for every batch,
//! and recovery starts from nothing but the files, in a process that never saw them before.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use ledger::journal::{Bill, BillingKind, Books, Chain, Identity, Position};
use ledger::{ClientFunds, Ledger, Multipliers, PriceTable};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;
use ton::Address;
use units::{AdjustedTokens, NanoTon, RequestId};

use super::versions;
use crate::Common;
use crate::load::micros;
use crate::measure;
use crate::process::{Process, this_program};
use crate::report::{Figure, Report, short};
use crate::statistics::Median;

/// Workers beside the clients.
const WORKERS: usize = 10_000;

/// Charges of one commit: a hundredth of a second at the goal's rate.
const COMMIT_CHARGES: usize = 3_000;

/// Charges after the snapshot: what a busy proxy has in its last segment.
const CHARGES: usize = 900_000;

const SNAPSHOT: &str = "snapshot";
const SEGMENT: &str = "segment";

/// # Errors
/// If files cannot be written, or the books come back with other sums.
pub(crate) fn run(common: &Common, clients: usize) -> Result<Report> {
    let command = format!("cocoon bench ledger --clients {clients} --rounds {}", common.rounds);
    let mut report = Report::new("ledger", command, versions(None));
    let folder = tempfile::tempdir()?;
    let charges = common.size(CHARGES, 2 * COMMIT_CHARGES);
    let written = write(folder.path(), clients, charges)?;

    let mut recovered_ms = Vec::new();
    for _round in 0..common.rounds {
        recovered_ms.push(recover_elsewhere(folder.path(), written.tokens)?);
    }
    let recovered = Median::of(recovered_ms).context("there was no round")?;
    let per_core = charges as f64 / written.cpu.as_secs_f64();
    let per_second = charges as f64 / written.wall.as_secs_f64();
    report.push(Figure::new("ledger/charges_per_core_second", "1/s", Median::once(per_core)));
    report.push(Figure::new("ledger/charges_per_second", "1/s", Median::once(per_second)));
    report.push(Figure::new("ledger/window", "ms", written.window_ms));
    report.push(Figure::new("ledger/recovery", "ms", recovered));
    report.say(&format!(
        "{charges} durable charges to {clients} clients and {WORKERS} workers, reserved and posted one by one, {COMMIT_CHARGES} to a commit that is signed and flushed to the disk. Then a new process reads the snapshot of all accounts and the segment with the charges, verifies both and builds the ledger:"
    ));
    let heads = [
        "charges per second of a core",
        "per second of wall time",
        "a commit becomes durable within, ms (median, slowest)",
        "recovered within, s",
        "snapshot, MiB",
        "bytes per charge",
    ];
    report.table(&[
        heads.map(str::to_owned).to_vec(),
        vec![
            short(per_core),
            short(per_second),
            format!("{}, {}", short(written.window_ms.value), short(written.window_ms.highest)),
            short(recovered.value / 1e3),
            short(written.snapshot_len as f64 / f64::from(1 << 20)),
            short(written.segment_len as f64 / charges as f64),
        ],
    ]);
    Ok(report)
}

struct Written {
    /// Processor time of reserving, posting, recording, sealing and flushing.
    cpu: Duration,
    wall: Duration,
    /// From the end of a commit's collection to its flush.
    window_ms: Median,
    snapshot_len: usize,
    segment_len: usize,
    tokens: AdjustedTokens,
}

/// Writes a snapshot of accounts with a past, and a segment of charges after it.
fn write(folder: &Path, clients: usize, charges: usize) -> Result<Written> {
    let (identity, key) = (identity()?, key());
    let mut ledger = Ledger::new(identity.prices);
    for number in 0..WORKERS {
        ledger.open_worker(worker(number));
    }
    let funds = ClientFunds {
        balance: NanoTon::new(1_000_000_000_000),
        stake: NanoTon::new(1_000_000_000),
        ..ClientFunds::default()
    };
    // A past: every client was charged once, so that the books know them all.
    for number in 0..clients {
        ledger.open_client(client(number), funds);
        charge(&mut ledger, number, number % WORKERS)?;
    }
    let (header, mut chain) = Chain::begin(&identity, &Position::GENESIS, &key);
    let (mut records, mut past) = (Vec::new(), header);
    let commit = ledger.take_records(&mut records).context("the past has records")?;
    chain.seal(&records, &key, &mut past);
    ledger.committed(commit);
    let mut books = Books::new(identity);
    books.replay(&past, &key.verifying_key())?;
    let snapshot = books.to_snapshot(&key);
    std::fs::write(folder.join(SNAPSHOT), &snapshot)?;

    let (header, mut chain) = Chain::begin(&identity, books.position(), &key);
    let mut file = File::create(folder.join(SEGMENT))?;
    file.write_all(&header)?;
    let mut random = SmallRng::seed_from_u64(1);
    let mut window_ms = Vec::new();
    let mut segment_len = header.len();
    let mut commit_bytes = Vec::new();
    let pid = [std::process::id()];
    let (cpu_before, began) = (measure::cpu(&pid)?, Instant::now());
    for _commit in 0..charges / COMMIT_CHARGES {
        for _charge in 0..COMMIT_CHARGES {
            charge(&mut ledger, random.random_range(0..clients), random.random_range(0..WORKERS))?;
        }
        let collected = Instant::now();
        commit_bytes.clear();
        let commit = ledger.take_records(&mut records).context("there are records")?;
        chain.seal(&records, &key, &mut commit_bytes);
        file.write_all(&commit_bytes)?;
        file.sync_data()?;
        ledger.committed(commit);
        segment_len += commit_bytes.len();
        window_ms.push(micros(collected.elapsed()) / 1e3);
    }
    Ok(Written {
        cpu: measure::cpu(&pid)?.saturating_sub(cpu_before),
        wall: began.elapsed(),
        window_ms: Median::of(window_ms).context("there was no commit")?,
        snapshot_len: snapshot.len(),
        segment_len,
        tokens: AdjustedTokens::new((clients + charges) as u64 * PRICE),
    })
}

/// Adjusted tokens of each charge.
const PRICE: u64 = 100;

fn charge(ledger: &mut Ledger, client_number: usize, worker_number: usize) -> Result<()> {
    let hold =
        ledger.reserve(client(client_number), worker(worker_number), AdjustedTokens::new(4 * PRICE))?;
    let items = [(BillingKind::Prompt, 40), (BillingKind::Completion, 60)];
    let bill = Bill { request: RequestId::new([7; 32]), items: &items };
    ledger.post(hold, AdjustedTokens::new(PRICE), &bill)?;
    Ok(())
}

/// Has a new process recover the books. Returns the milliseconds that it took, as it says.
fn recover_elsewhere(folder: &Path, expected: AdjustedTokens) -> Result<f64> {
    let mut command = Command::new(this_program()?);
    command.args(["bench", "recover"]).arg(folder).stdin(Stdio::null());
    let (_process, words) = Process::start_speaking(command)?;
    let text = std::io::read_to_string(words)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let (ms, tokens) = (numbers.next(), numbers.next());
    let (Some(Ok(ms)), Some(Ok(tokens))) = (ms, tokens) else { anyhow::bail!("recovery failed: {text:?}") };
    ensure!(tokens == expected.get() as f64, "{tokens} tokens came back of {expected}");
    Ok(ms)
}

/// What the recovering process does: prints the milliseconds and the sum of all charges.
///
/// # Errors
/// If the books are not what was written.
pub(crate) fn recover(folder: &Path) -> Result<()> {
    let (identity, key) = (identity()?, key().verifying_key());
    let began = Instant::now();
    let snapshot = std::fs::read(folder.join(SNAPSHOT))?;
    let mut books = Books::from_snapshot(&snapshot, identity, &key)?;
    drop(snapshot);
    books.replay(&std::fs::read(folder.join(SEGMENT))?, &key)?;
    let ledger = Ledger::from_books(&books)?;
    let took_ms = micros(began.elapsed()) / 1e3;
    ensure!(ledger.accounts_len() == books.accounts_len(), "the ledger lost accounts");
    println!("{took_ms} {}", books.tokens().get());
    Ok(())
}

fn identity() -> Result<Identity> {
    let prices = PriceTable::new(NanoTon::new(20), NanoTon::new(18), Multipliers::default())?;
    Ok(Identity { contract: Address::new(0, [9; 32]), prices })
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn client(number: usize) -> Address {
    numbered(number, 0xc1)
}

fn worker(number: usize) -> Address {
    numbered(number, 0x77)
}

fn numbered(number: usize, kind: u8) -> Address {
    let mut bytes = [kind; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Address::new(0, bytes)
}
