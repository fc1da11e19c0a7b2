//! A network in virtual time: how long requests wait, and who gets the work.
//!
//! Deterministic: one seed, one history. The yardstick is a dispatcher that looks at every worker and takes one with
//! the shortest queue, ties by chance, as no dispatcher that has to be quick can.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of statistics from any instant on"
)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use cocoon_market::{Demand, Ending, Market, Offer, Owner, WorkerId};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use units::{Coefficient, ModelName};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Policy {
    Market,
    /// Joins a shortest queue of all.
    Shortest,
}

/// A worker serves one request at a time, in order.
struct Worker {
    /// Mean service time in seconds.
    mean: f64,
    /// Loses every request at once while true.
    broken: bool,
    queue: VecDeque<Queued>,
    served: usize,
    busy: f64,
}

#[derive(Clone, Copy)]
struct Queued {
    arrived: f64,
    service: f64,
}

#[derive(Default)]
struct Outcome {
    waited: f64,
    answered: usize,
    failed: usize,
}

struct World {
    policy: Policy,
    market: Market,
    start: Instant,
    /// Arrivals and services: the same for every policy.
    random: StdRng,
    ties: StdRng,
    workers: Vec<Worker>,
    /// Ends of service, in nanoseconds, and their workers.
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    outcome: Outcome,
}

const RUNNING_MAX: u32 = 64;

impl World {
    fn new(policy: Policy, means: &[f64], seed: u64) -> Self {
        let start = Instant::now();
        let mut market = Market::new(seed);
        for id in 0..means.len() as u64 {
            join(&mut market, id, id, start);
        }
        let worker =
            |mean: &f64| Worker { mean: *mean, broken: false, queue: VecDeque::new(), served: 0, busy: 0.0 };
        Self {
            policy,
            market,
            start,
            random: StdRng::seed_from_u64(seed),
            ties: StdRng::seed_from_u64(seed + 1),
            workers: means.iter().map(worker).collect(),
            ends: BinaryHeap::new(),
            outcome: Outcome::default(),
        }
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.random.random::<f64>()).ln()
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    /// Lets `requests` arrive at `rate` per second.
    fn run(&mut self, requests: usize, rate: f64) {
        let mut now = 0.0;
        for _ in 0..requests {
            now += self.exponential(1.0 / rate);
            self.serve_until(now);
            self.arrive(now);
        }
        self.serve_until(f64::MAX);
    }

    fn arrive(&mut self, now: f64) {
        let instant = self.at(now);
        let service = self.exponential(1.0);
        let worker = match self.policy {
            Policy::Market => {
                let id = self.market.pick(&demand(), instant).expect("there is room");
                self.market.started(id);
                usize::try_from(id.get()).unwrap()
            }
            Policy::Shortest => {
                let shortest = self.workers.iter().map(|worker| worker.queue.len()).min().unwrap();
                let ties: Vec<_> =
                    (0..self.workers.len()).filter(|id| self.workers[*id].queue.len() == shortest).collect();
                ties[self.ties.random_range(0..ties.len())]
            }
        };
        assert!(self.workers[worker].queue.len() < RUNNING_MAX as usize, "above its capacity");
        if self.workers[worker].broken {
            self.outcome.failed += 1;
            self.market.finished(WorkerId::new(worker as u64), Ending::Failed, instant);
            return;
        }
        let service = service * self.workers[worker].mean;
        self.workers[worker].queue.push_back(Queued { arrived: now, service });
        if self.workers[worker].queue.len() == 1 {
            self.begin(worker, now);
        }
    }

    fn begin(&mut self, worker: usize, now: f64) {
        let Some(next) = self.workers[worker].queue.front() else { return };
        self.outcome.waited += now - next.arrived;
        let end = Duration::from_secs_f64(now + next.service).as_nanos();
        self.ends.push(Reverse((u64::try_from(end).unwrap(), worker)));
    }

    fn serve_until(&mut self, until: f64) {
        while let Some(Reverse((end, worker))) = self.ends.peek().copied() {
            let now = Duration::from_nanos(end).as_secs_f64();
            if now > until {
                return;
            }
            self.ends.pop();
            let done = self.workers[worker].queue.pop_front().unwrap();
            self.workers[worker].served += 1;
            self.workers[worker].busy += done.service;
            self.outcome.answered += 1;
            if self.policy == Policy::Market {
                let took = Duration::from_secs_f64((now - done.arrived).max(0.0));
                let instant = self.at(now);
                self.market.finished(WorkerId::new(worker as u64), Ending::Answered(took), instant);
            }
            self.begin(worker, now);
        }
    }

    fn mean_wait(&self) -> f64 {
        self.outcome.waited / self.outcome.answered as f64
    }

    /// The busiest worker's share of the work, relative to an equal share.
    fn imbalance(&self) -> f64 {
        let total: f64 = self.workers.iter().map(|worker| worker.busy).sum();
        let max = self.workers.iter().map(|worker| worker.busy).fold(0.0, f64::max);
        max * self.workers.len() as f64 / total
    }
}

fn demand() -> Demand<'static> {
    Demand { model: "m", ceiling: Coefficient::ONE, affinity: None }
}

fn join(market: &mut Market, id: u64, owner: u64, now: Instant) {
    let mut name = [0; 32];
    name[..8].copy_from_slice(&owner.to_le_bytes());
    let offer = Offer {
        owner: Owner::new(name),
        model: ModelName::new("m").unwrap(),
        coefficient: Coefficient::ONE,
        running_max: RUNNING_MAX,
    };
    market.add(WorkerId::new(id), &offer, now).unwrap();
    market.set_enabled(WorkerId::new(id), true);
}

const UTILISATION: f64 = 0.9;

#[test]
fn waits_are_those_of_the_shortest_queue_and_work_is_spread() {
    for (workers, requests) in [(10, 30_000), (100, 60_000)] {
        let mut ratios = Vec::new();
        for seed in 1..=3 {
            let means = vec![1.0; workers];
            let mut worlds =
                [Policy::Market, Policy::Shortest].map(|policy| World::new(policy, &means, seed));
            worlds.iter_mut().for_each(|world| world.run(requests, UTILISATION * workers as f64));
            let [market, shortest] = worlds.each_ref().map(World::mean_wait);
            println!(
                "{workers} workers, seed {seed}: wait {market:.4} s, shortest queue {shortest:.4} s, max/mean load {:.3}",
                worlds[0].imbalance()
            );
            assert!(worlds[0].imbalance() <= 1.15);
            assert_eq!(worlds[0].outcome.answered, requests);
            ratios.push(market / shortest);
        }
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        assert!(mean <= 1.2, "{workers} workers: {mean:.3} times the wait of the shortest queue");
    }
}

#[test]
fn at_low_load_equal_workers_take_turns() {
    let mut world = World::new(Policy::Market, &[1.0; 20], 1);
    world.run(20_000, 0.1 * 20.0);
    println!("max/mean load {:.3}", world.imbalance());
    assert!(world.imbalance() <= 1.15);
}

#[test]
fn quick_workers_do_more_and_slow_ones_do_not_starve() {
    let mut means = vec![0.5; 10];
    means.extend([4.0; 10]);
    // 10 quick workers serve 20 requests a second, 10 slow ones 2.5.
    let rate = UTILISATION * 22.5;
    let mut worlds = [Policy::Market, Policy::Shortest].map(|policy| World::new(policy, &means, 5));
    worlds.iter_mut().for_each(|world| world.run(60_000, rate));
    let took = |world: &World| {
        let busy: f64 = world.workers.iter().map(|worker| worker.busy).sum();
        (world.outcome.waited + busy) / world.outcome.answered as f64
    };
    let [market, shortest] = worlds.each_ref().map(took);
    println!("time to an answer {market:.3} s, shortest queue {shortest:.3} s");
    assert!(market < shortest, "knowing who is quick has to help");
    let least = worlds[0].workers.iter().map(|worker| worker.served).min().unwrap();
    assert!(least > 200, "the least was {least} of 60,000 requests");
}

#[test]
fn a_worker_that_loses_everything_at_once_gets_little_however_often_it_reconnects() {
    for flaps in [false, true] {
        let mut world = World::new(Policy::Market, &[1.0; 10], 3);
        world.workers[0].broken = true;
        let mut now = 0.0;
        for _ in 0..20_000 {
            now += world.exponential(1.0 / 6.0);
            world.serve_until(now);
            let failed = world.outcome.failed;
            world.arrive(now);
            if flaps && world.outcome.failed > failed {
                // It leaves at once, and its owner comes back with another connection.
                let instant = world.at(now);
                world.market.remove(WorkerId::new(0), instant);
                join(&mut world.market, 0, 0, instant);
            }
        }
        world.serve_until(f64::MAX);
        println!("flaps {flaps}: {} of 20,000 lost", world.outcome.failed);
        assert!(world.outcome.failed < 200, "an equal share would be 2,000");
        assert!(world.outcome.failed > 20, "it is tried again");
    }
}
