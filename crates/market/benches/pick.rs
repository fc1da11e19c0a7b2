//! What a request costs the market, beside a random index into as many workers: `cargo bench -p cocoon-market`.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "any instant will do")]

use std::time::{Duration, Instant};

use cocoon_market::{Affinity, Demand, Ending, Market, Offer, Owner, WorkerId};
use divan::Bencher;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use units::{Coefficient, ModelName};

const WORKERS: [u64; 3] = [10, 10_000, 100_000];

fn main() {
    divan::main();
}

struct Traffic {
    market: Market,
    now: Instant,
    random: StdRng,
    /// Requests that run, each at its worker.
    running: Vec<WorkerId>,
    workers: u64,
}

impl Traffic {
    /// Workers at 977 prices, on average half full.
    fn new(workers: u64) -> Self {
        let (market, now) = (Market::new(1), Instant::now());
        let mut traffic =
            Self { market, now, random: StdRng::seed_from_u64(1), running: Vec::new(), workers };
        (0..workers).for_each(|id| traffic.join(id));
        for _ in 0..workers * 2 {
            let picked = traffic.pick(None);
            traffic.running.push(picked);
        }
        traffic
    }

    fn join(&mut self, id: u64) {
        let mut owner = [0; 32];
        owner[..8].copy_from_slice(&id.to_le_bytes());
        let offer = Offer {
            owner: Owner::new(owner),
            model: ModelName::new("Qwen/Qwen3-8B").unwrap(),
            coefficient: Coefficient::try_from(1000 + u32::try_from(id % 977).unwrap()).unwrap(),
            running_max: 4,
        };
        self.market.add(WorkerId::new(id), &offer, self.now).unwrap();
        self.market.set_enabled(WorkerId::new(id), true);
    }

    fn pick(&mut self, affinity: Option<Affinity>) -> WorkerId {
        let ceiling = Coefficient::try_from(1900).unwrap();
        let demand = Demand { model: "Qwen/Qwen3-8B", ceiling, affinity };
        let picked = self.market.pick(&demand, self.now).unwrap();
        self.market.started(picked);
        picked
    }

    /// One request begins and another one ends.
    fn step(&mut self, affinity: Option<Affinity>) {
        self.now += Duration::from_millis(1);
        let place = self.random.random_range(0..self.running.len());
        let took = Duration::from_millis(self.random.random_range(100..900));
        self.market.finished(self.running[place], Ending::Answered(took), self.now);
        self.running[place] = self.pick(affinity);
    }
}

/// The choice alone.
#[divan::bench(args = WORKERS)]
fn pick(bencher: Bencher<'_, '_>, workers: u64) {
    let mut traffic = Traffic::new(workers);
    let ceiling = Coefficient::try_from(1900).unwrap();
    let demand = Demand { model: "Qwen/Qwen3-8B", ceiling, affinity: None };
    bencher.bench_local(|| traffic.market.pick(&demand, traffic.now));
}

/// Choice, start and end of a request.
#[divan::bench(args = WORKERS)]
fn request(bencher: Bencher<'_, '_>, workers: u64) {
    let mut traffic = Traffic::new(workers);
    bencher.bench_local(|| traffic.step(None));
}

/// The same for requests that prefer a worker.
#[divan::bench(args = WORKERS)]
fn request_with_affinity(bencher: Bencher<'_, '_>, workers: u64) {
    let mut traffic = Traffic::new(workers);
    let mut number = 0;
    bencher.bench_local(|| {
        number = (number + 1) % 1000;
        traffic.step(Some(Affinity::new(number)));
    });
}

/// The same while a worker leaves and another one joins.
#[divan::bench(args = WORKERS)]
fn request_with_churn(bencher: Bencher<'_, '_>, workers: u64) {
    let mut traffic = Traffic::new(workers);
    bencher.bench_local(|| {
        traffic.step(None);
        let leaving = traffic.random.random_range(0..traffic.workers);
        traffic.market.remove(WorkerId::new(leaving), traffic.now);
        traffic.join(leaving);
    });
}

/// The yardstick.
#[divan::bench(args = WORKERS)]
fn random_index(bencher: Bencher<'_, '_>, workers: u64) {
    let loads: Vec<u64> = (0..workers).collect();
    let mut random = StdRng::seed_from_u64(1);
    bencher.bench_local(|| loads[random.random_range(0..loads.len())]);
}
