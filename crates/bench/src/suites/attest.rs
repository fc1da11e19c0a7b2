//! What evidence costs: verifying quotes beside the plain library, handshakes with quotes beside those without, and the return
//! of all workers to a proxy that has just started.
//!
//! Platforms are simulated; their quotes have the real format and take the real way through the verifier. Proof of work is off: it
//! is the workers' own, on machines of their own.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use evidence::{Appraiser, Standing};
use rand::seq::SliceRandom as _;
use transport::clock::unix_now;
use transport::identity::{IdentitySource, TlsIdentity};
use transport::{ConnectConfig, ListenConfig, ListenMode, Listener, Via, connect};

use super::{settle, versions};
use crate::Common;
use crate::idle_workers::{IdleWorkers, Shows};
use crate::load::micros;
use crate::measure;
use crate::plain_library::PlainLibrary;
use crate::platforms::{Platforms, guest};
use crate::process::Mock;
use crate::report::{Figure, Report, short, with_spread};
use crate::statistics::Median;
use crate::targets::{Cocoon, Settings};

/// Quotes that are verified in a round, each of another platform.
const QUOTES: usize = 1000;
/// Handshakes of a round, one after the other.
const HANDSHAKES: usize = 1000;
/// Workers that come back.
const WORKERS: usize = 10_000;

/// # Errors
/// If a role or the generator cannot start, or evidence is refused.
pub(crate) async fn run(common: &Common) -> Result<Report> {
    let command = format!("cocoon bench attest --rounds {}", common.rounds);
    let mut report = Report::new("attest", command, versions(None));
    let platforms = Platforms::new()?;
    appraisals(common, &platforms, &mut report).await?;
    handshakes(common, &platforms, &mut report).await?;
    workers_back(common, &platforms, &mut report).await?;
    Ok(report)
}

/// New quotes through everything that a link's quote goes through, and through the library alone.
async fn appraisals(common: &Common, platforms: &Platforms, report: &mut Report) -> Result<()> {
    let quotes = (0..common.size(QUOTES, 4)).map(|number| {
        let mut report_data = [0; 64];
        report_data[..8].copy_from_slice(&(number as u64).to_le_bytes());
        Ok((platforms.platform(number)?.quote(&guest(), &report_data)?, report_data))
    });
    let quotes = quotes.collect::<Result<Vec<_>>>()?;
    let library = PlainLibrary::new(platforms.root_der(), platforms.collateral())?;
    let (mut ours_us, mut library_us, mut cached_us) = (Vec::new(), Vec::new(), Vec::new());
    let now = unix_now();
    for _round in 0..common.rounds {
        let before = measure::own_cpu();
        for (quote, _report_data) in &quotes {
            library.verify(black_box(quote), now.as_secs())?;
        }
        let after_library = measure::own_cpu();
        let appraiser = platforms.appraiser(NonZeroUsize::MIN);
        for (quote, report_data) in &quotes {
            appraiser.appraise(black_box(quote), report_data, Standing::Known, now).await?;
        }
        let after_ours = measure::own_cpu();
        for (quote, report_data) in &quotes {
            appraiser.appraise(black_box(quote), report_data, Standing::Known, now).await?;
        }
        let each = |span: Duration| micros(span) / quotes.len() as f64;
        library_us.push(each(after_library.saturating_sub(before)));
        ours_us.push(each(after_ours.saturating_sub(after_library)));
        cached_us.push(each(measure::own_cpu().saturating_sub(after_ours)));
    }
    let per_second = |us: &[f64]| Median::of(us.iter().map(|us| 1e6 / us)).context("there was no round");
    let (ours, plain) = (per_second(&ours_us)?, per_second(&library_us)?);
    let ratio = Median::of(library_us.iter().zip(&ours_us).map(|(library, ours)| library / ours));
    let cached = per_second(&cached_us)?;
    report.push(Figure::new("attest/appraisals", "1/s", ours).compared("the library alone", ratio));
    report.push(Figure::new("attest/remembered", "1/s", cached));
    report.say(&format!(
        "Appraisals of {} new quotes per second of a core: all that a link's quote goes through (policy, the table of verdicts, collateral, a thread of the pool), and the library alone with the same cryptography. Then the same quotes again:",
        quotes.len()
    ));
    let heads = ["appraisals, /s", "the library alone, /s", "ratio", "remembered, /s"];
    let row = vec![short(ours.value), short(plain.value), with_spread(ratio), short(cached.value)];
    report.table(&[heads.map(str::to_owned).to_vec(), row]);
    Ok(())
}

/// Two ends of links in this process.
struct Ends {
    listener: Listener,
    config: ConnectConfig,
}

impl Ends {
    async fn start(identities: [IdentitySource; 2], appraiser: Option<Arc<Appraiser>>) -> Result<Self> {
        let [identity, of_client] = identities;
        let mode = ListenMode::Tls { identity, appraiser: appraiser.clone(), pow_difficulty: 0 };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(address, ListenConfig { mode, ..ListenConfig::default() }).await?;
        let via = Via::Direct { identity: of_client, appraiser };
        Ok(Self { listener, config: ConnectConfig { via, ..ConnectConfig::default() } })
    }

    /// Processor time of one link, both ends together, in microseconds.
    async fn link(&mut self, count: usize) -> Result<f64> {
        let target = self.listener.local_addr().to_string();
        let before = measure::own_cpu();
        for _link in 0..count {
            let (connected, accepted) = tokio::join!(connect(&target, &self.config), self.listener.accept());
            let ((connected, _events), (accepted, _accepted_events)) =
                (connected?, accepted.context("the listener has ended")?);
            // Whoever is known does no proof of work the next time.
            connected.handshake_complete();
            accepted.handshake_complete();
        }
        Ok(micros(measure::own_cpu().saturating_sub(before)) / count as f64)
    }
}

/// Links whose ends show and appraise quotes that were seen before, and links without.
async fn handshakes(common: &Common, platforms: &Platforms, report: &mut Report) -> Result<()> {
    let now = unix_now();
    let generated = || Ok::<_, anyhow::Error>(IdentitySource::from(TlsIdentity::generate(now)?));
    let mut plain = Ends::start([generated()?, generated()?], None).await?;
    let attested = |number| {
        let identity = TlsIdentity::attested(now, &platforms.enclave(number)?)?;
        Ok::<_, anyhow::Error>(IdentitySource::from(identity))
    };
    let appraiser = Arc::new(platforms.appraiser(NonZeroUsize::MIN));
    let mut shown = Ends::start([attested(0)?, attested(1)?], Some(appraiser)).await?;
    let count = common.size(HANDSHAKES, 4);
    // Verified once, before it counts.
    shown.link(1).await?;
    plain.link(1).await?;
    let (mut plain_us, mut shown_us) = (Vec::new(), Vec::new());
    for _round in 0..common.rounds {
        let mut order = [(&mut plain, &mut plain_us), (&mut shown, &mut shown_us)];
        order.shuffle(&mut rand::rng());
        for (ends, costs) in order {
            settle().await;
            costs.push(ends.link(count).await?);
        }
    }
    let ratio = Median::of(shown_us.iter().zip(&plain_us).map(|(shown, plain)| shown / plain));
    let median = |costs: &[f64]| Median::of(costs.iter().copied()).context("there was no round");
    let (plain, shown) = (median(&plain_us)?, median(&shown_us)?);
    report.push(Figure::new("attest/handshake", "µs", shown).compared("without quotes", ratio));
    report.say("Links made one after the other, TCP, mutual TLS and hello, processor time of both ends; first without evidence, then with quotes on both sides whose verdicts are remembered:");
    let heads = ["without quotes, µs", "with quotes, µs", "ratio"];
    let row = vec![short(plain.value), short(shown.value), with_spread(ratio)];
    report.table(&[heads.map(str::to_owned).to_vec(), row]);
    Ok(())
}

/// All workers join a proxy at once: one that has just started, and one that has seen their quotes.
async fn workers_back(common: &Common, platforms: &Platforms, report: &mut Report) -> Result<()> {
    let workers = common.size(WORKERS, 4);
    let mock = Mock::start()?;
    let heads = [
        "workers",
        "first, all joined within, s",
        "CPU of the proxy, s",
        "again, s",
        "CPU, s",
        "KiB per worker",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (name, shows) in [("without quotes", Shows::Nothing), ("with quotes", Shows::Quotes)] {
        let settings = Settings {
            pow_difficulty: Some(0),
            platforms: (shows == Shows::Quotes).then_some(platforms),
            ..Settings::default()
        };
        let cocoon = Cocoon::start(mock.port, settings).await?;
        let proxy = [cocoon.proxy_pid];
        let mut idle = IdleWorkers::start(cocoon.workers_port, workers, shows)?;
        let memory_before = measure::memory(&proxy)?;
        let mut row = vec![name.to_owned()];
        let key = name.replace(' ', "_");
        for what in ["first", "again"] {
            let before = measure::cpu_since_start(cocoon.proxy_pid)?;
            let joining = idle.join()?.as_secs_f64();
            let after = measure::cpu_since_start(cocoon.proxy_pid)?;
            let cpu = after.saturating_sub(before).as_secs_f64();
            report.push(Figure::new(format!("attest/{key}/{what}"), "s", Median::once(joining)));
            report.push(Figure::new(format!("attest/{key}/{what}_cpu"), "s", Median::once(cpu)));
            row.extend([short(joining), short(cpu)]);
        }
        tokio::time::sleep(common.size(SETTLING_SPAN, Duration::ZERO)).await;
        let grown = measure::memory(&proxy)?.saturating_sub(memory_before);
        row.push(short(grown as f64 / workers as f64 / 1024.0));
        rows.push(row);
    }
    report.say(&format!(
        "{workers} workers on one host join a proxy that has just started, {} at a time, each with the quote of a platform of its own; then all links break and they come again. Workers and proxy share the cores; with two cores of its own, a proxy takes half of its processor time:",
        crate::idle_workers::HANDSHAKES_MAX
    ));
    report.table(&rows);
    Ok(())
}

/// What joining took for itself is given back meanwhile, and every link has its first sign of life.
const SETTLING_SPAN: Duration = Duration::from_secs(16);
