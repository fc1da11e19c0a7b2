//! Tests of the market: against a naive one, and of the work it does.
#![expect(clippy::arithmetic_side_effects, reason = "test inputs are small")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A small, well mixed source of numbers (splitmix64).
fn source(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

fn price(thousandths: u32) -> Coefficient {
    Coefficient::try_from(thousandths).unwrap()
}

fn offer(model: &str, coefficient: u32, running_max: u32) -> Offer {
    Offer { model: ModelName::new(model).unwrap(), coefficient: price(coefficient), running_max }
}

/// A market of workers 0, 1, … for model "m", all enabled.
fn market(offers: &[(u32, u32)]) -> (Market, Instant) {
    let (mut market, now, mut random) = (Market::new(), start(), source(1));
    for (id, (coefficient, running_max)) in (0..).map(WorkerId).zip(offers) {
        market.add(id, &offer("m@commit:hash", *coefficient, *running_max), now, &mut random).unwrap();
        market.set_enabled(id, true);
    }
    (market, now)
}

/// How often each of `count` workers is picked in 1000 picks.
fn shares(market: &Market, count: u64, ceiling: u32, now: Instant) -> Vec<usize> {
    let mut random = source(7);
    let picks: Vec<_> =
        (0..1000).map(|_| market.pick("m", price(ceiling), now, &mut random).unwrap()).collect();
    (0..count).map(|id| picks.iter().filter(|pick| **pick == WorkerId(id)).count()).collect()
}

#[test]
fn refusals_carry_facts() {
    let (mut market, now) = market(&[(1500, 1), (2500, 1)]);
    let mut random = source(1);
    let mut pick =
        |market: &Market, model: &str, ceiling| market.pick(model, price(ceiling), now, &mut random);

    assert_eq!(pick(&market, "other", 4000), Err(NoWorker::UnknownModel));
    assert_eq!(pick(&market, "m@commit:hash", 4000), Err(NoWorker::UnknownModel));
    assert_eq!(pick(&market, "m", 1500), Ok(WorkerId(0)));
    assert_eq!(pick(&market, "m", 1499), Err(NoWorker::TooDear { cheapest: price(1500) }));

    market.started(WorkerId(0));
    assert_eq!(pick(&market, "m", 1500), Err(NoWorker::TooDear { cheapest: price(2500) }));
    market.set_enabled(WorkerId(1), false);
    assert_eq!(pick(&market, "m", 4000), Err(NoWorker::NoneReady));
    market.finished(WorkerId(0), Duration::from_secs(1), true, now);
    assert_eq!(pick(&market, "m", 4000), Ok(WorkerId(0)));

    market.remove(WorkerId(0));
    market.remove(WorkerId(1));
    assert_eq!(pick(&market, "m", 4000), Err(NoWorker::NoneConnected));
}

#[test]
fn a_worker_starts_disabled_and_joins_once() {
    let (mut market, now, mut random) = (Market::new(), start(), source(1));
    market.add(WorkerId(5), &offer("m", 1000, 1), now, &mut random).unwrap();
    assert!(!market.has_enabled_worker());
    assert_eq!(market.pick("m", Coefficient::ONE, now, &mut random), Err(NoWorker::NoneReady));
    let error = market.add(WorkerId(5), &offer("m", 1000, 1), now, &mut random).unwrap_err();
    assert_eq!(error.to_string(), "worker 5 is already listed");
    market.set_enabled(WorkerId(5), true);
    assert!(market.has_enabled_worker());
}

#[test]
fn equal_workers_share_and_the_busier_of_two_never_wins() {
    let (mut market, now) = market(&[(1000, 9), (1000, 9), (1000, 9), (1000, 9)]);
    assert!(shares(&market, 4, 1000, now).iter().all(|share| (200..300).contains(share)));
    market.started(WorkerId(3));
    let busy = shares(&market, 4, 1000, now);
    assert_eq!(busy[3], 0);
    assert!(busy[..3].iter().all(|share| (280..390).contains(share)), "{busy:?}");
}

#[test]
fn at_equal_work_the_cheaper_wins() {
    let (market, now) = market(&[(3000, 9), (1000, 9)]);
    assert_eq!(shares(&market, 2, 4000, now), [0, 1000]);
}

#[test]
fn a_quick_worker_may_run_more() {
    let (mut market, now) = market(&[(1000, 9), (1000, 9)]);
    for (id, duration_ms) in [(WorkerId(0), 100), (WorkerId(1), 900)] {
        market.started(id);
        market.finished(id, Duration::from_millis(duration_ms), true, now);
        market.started(id);
    }
    assert_eq!(shares(&market, 2, 1000, now), [1000, 0]);
    (0..7).for_each(|_| market.started(WorkerId(0)));
    assert_eq!(shares(&market, 2, 1000, now), [1000, 0], "8 × 100 ms against 1 × 900 ms");
}

#[test]
fn a_worker_that_fails_at_once_is_not_quick() {
    let (mut market, now) = market(&[(1000, 9), (1000, 9)]);
    for (id, duration, success) in [(WorkerId(0), 0, false), (WorkerId(1), 1, true)] {
        market.started(id);
        market.finished(id, Duration::from_secs(duration), success, now);
    }
    market.started(WorkerId(0));
    assert_eq!(shares(&market, 2, 1000, now), [0, 1000]);
}

#[test]
fn a_new_price_holds_from_the_next_pick() {
    let (mut market, now) = market(&[(1000, 1)]);
    market.set_coefficient(WorkerId(0), price(2000));
    let refused = market.pick("m", price(1999), now, &mut source(1));
    assert_eq!(refused, Err(NoWorker::TooDear { cheapest: price(2000) }));
    assert_eq!(market.pick("m", price(2000), now, &mut source(1)), Ok(WorkerId(0)));
    let state = WorkerState { coefficient: price(2000), enabled: true, running: 0, running_max: 1 };
    assert_eq!(market.worker(WorkerId(0)), Some(state));
    assert_eq!(market.worker(WorkerId(1)), None);
}

#[test]
fn listings_show_enabled_workers_by_price() {
    let (mut market, now) = market(&[(2500, 60), (1500, 60), (500, 60)]);
    market.set_enabled(WorkerId(2), false);
    market.started(WorkerId(1));
    market.add(WorkerId(9), &offer("idle", 1000, 1), now, &mut source(1)).unwrap();
    let listing: Vec<_> = market.listing().collect();
    assert_eq!(listing.iter().map(|model| model.name).collect::<Vec<_>>(), ["idle", "m"]);
    assert!(listing[0].workers.is_empty());
    let workers: Vec<_> =
        listing[1].workers.iter().map(|worker| (worker.coefficient.get(), worker.running)).collect();
    assert_eq!(workers, [(1500, 1), (2500, 0)]);
    market.remove(WorkerId(9));
    assert_eq!(market.listing().count(), 1);
}

#[test]
fn models_that_everybody_left_do_not_pile_up() {
    let (mut market, now, mut random) = (Market::new(), start(), source(1));
    for number in 0..3000_u64 {
        market.add(WorkerId(number), &offer(&format!("model-{number}"), 1, 1), now, &mut random).unwrap();
        market.remove(WorkerId(number));
    }
    assert_eq!(market.models.len(), ABANDONED_MODELS_MAX);
    assert_eq!(market.pick("model-2999", price(1), now, &mut random), Err(NoWorker::NoneConnected));
    assert_eq!(market.pick("model-1", price(1), now, &mut random), Err(NoWorker::UnknownModel));
    market.add(WorkerId(0), &offer("model-2999", 1, 1), now, &mut random).unwrap();
    assert_eq!(market.abandoned.len(), ABANDONED_MODELS_MAX - 1);
}

#[test]
fn news_about_a_worker_that_left_is_ignored() {
    let (mut market, now) = market(&[(1000, 1)]);
    market.started(WorkerId(0));
    market.remove(WorkerId(0));
    market.finished(WorkerId(0), Duration::ZERO, true, now);
    market.set_enabled(WorkerId(0), true);
    market.set_coefficient(WorkerId(0), price(1));
    assert_eq!(market.pick("m", price(1), now, &mut source(1)), Err(NoWorker::NoneConnected));
}

/// Steps of the search tree for one request's life, the mean over many requests.
fn steps_per_request(workers: u32) -> usize {
    const REQUESTS: usize = 2000;
    let offers: Vec<_> = (0..workers).map(|id| (1000 + id % 977, 1)).collect();
    let (mut market, now) = market(&offers);
    let mut random = source(3);
    let steps = |market: &Market| market.models.values().map(|model| model.ready.steps.get()).sum::<usize>();
    let before = steps(&market);
    for _ in 0..REQUESTS {
        let worker = market.pick("m", price(1500), now, &mut random).unwrap();
        market.started(worker);
        market.finished(worker, Duration::from_millis(1), true, now);
    }
    (steps(&market) - before) / REQUESTS
}

#[test]
fn a_request_costs_the_logarithm_of_the_number_of_workers() {
    let (few, many) = (steps_per_request(10), steps_per_request(100_000));
    // 10,000 times as many workers have five times the logarithm; a scan would be 10,000 times as much work.
    assert!(many <= few * 8, "{few} steps with 10 workers, {many} with 100,000");
    println!("{few} steps with 10 workers, {many} with 100,000");
}

#[derive(Clone, Debug)]
enum Step {
    Add { id: u64, model: u8, coefficient: u32, running_max: u32 },
    Remove(u64),
    Enable(u64, bool),
    Price(u64, u32),
    Run { model: u8, ceiling: u32 },
    Finish { id: u64, duration_ms: u64, success: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..12_u64;
    prop_oneof![
        4 => (id.clone(), 0..2_u8, 0..6_u32, 0..3_u32).prop_map(|(id, model, coefficient, running_max)| {
            Step::Add { id, model, coefficient, running_max }
        }),
        1 => id.clone().prop_map(Step::Remove),
        5 => (id.clone(), prop::bool::weighted(0.8)).prop_map(|(id, enabled)| Step::Enable(id, enabled)),
        2 => (id.clone(), 0..6_u32).prop_map(|(id, coefficient)| Step::Price(id, coefficient)),
        8 => (0..2_u8, 0..6_u32).prop_map(|(model, ceiling)| Step::Run { model, ceiling }),
        4 => (id, 0..1000_u64, any::<bool>())
            .prop_map(|(id, duration_ms, success)| Step::Finish { id, duration_ms, success }),
    ]
}

/// The market that scans everything.
#[derive(Default)]
struct Naive(BTreeMap<u64, NaiveWorker>);

struct NaiveWorker {
    model: u8,
    coefficient: u32,
    running: u32,
    running_max: u32,
    enabled: bool,
}

impl Naive {
    fn refusal(&self, model: u8, ceiling: u32) -> Option<NoWorker> {
        let of_model = || self.0.values().filter(|worker| worker.model == model);
        if of_model().next().is_none() {
            return Some(NoWorker::NoneConnected);
        }
        let ready = of_model().filter(|worker| worker.enabled && worker.running < worker.running_max);
        let Some(cheapest) = ready.map(|worker| worker.coefficient).min() else {
            return Some(NoWorker::NoneReady);
        };
        (cheapest > ceiling).then(|| NoWorker::TooDear { cheapest: price(cheapest) })
    }

    fn is_eligible(&self, id: WorkerId, model: u8, ceiling: u32) -> bool {
        self.0.get(&id.get()).is_some_and(|worker| {
            worker.model == model
                && worker.enabled
                && worker.running < worker.running_max
                && worker.coefficient <= ceiling
        })
    }
}

proptest! {
    #[test]
    fn agrees_with_a_market_that_scans(steps in prop::collection::vec(step(), 1..150), seed: u64) {
        let (mut market, mut naive, now) = (Market::new(), Naive::default(), start());
        let mut random = source(seed);
        for step in steps {
            match step {
                Step::Add { id, model, coefficient, running_max } => {
                    let offer = offer(&format!("model-{model}"), coefficient, running_max);
                    let added = market.add(WorkerId(id), &offer, now, &mut random).is_ok();
                    prop_assert_eq!(added, !naive.0.contains_key(&id));
                    let worker = NaiveWorker { model, coefficient, running: 0, running_max, enabled: false };
                    naive.0.entry(id).or_insert(worker);
                }
                Step::Remove(id) => {
                    market.remove(WorkerId(id));
                    naive.0.remove(&id);
                }
                Step::Enable(id, enabled) => {
                    market.set_enabled(WorkerId(id), enabled);
                    if let Some(worker) = naive.0.get_mut(&id) {
                        worker.enabled = enabled;
                    }
                }
                Step::Price(id, coefficient) => {
                    market.set_coefficient(WorkerId(id), price(coefficient));
                    if let Some(worker) = naive.0.get_mut(&id) {
                        worker.coefficient = coefficient;
                    }
                }
                Step::Run { model, ceiling } => {
                    let name = format!("model-{model}");
                    match market.pick(&name, price(ceiling), now, &mut random) {
                        Ok(picked) => {
                            prop_assert!(naive.is_eligible(picked, model, ceiling));
                            market.started(picked);
                            naive.0.get_mut(&picked.get()).unwrap().running += 1;
                        }
                        Err(NoWorker::UnknownModel) => {
                            prop_assert_eq!(naive.refusal(model, ceiling), Some(NoWorker::NoneConnected));
                        }
                        Err(refusal) => prop_assert_eq!(Some(refusal), naive.refusal(model, ceiling)),
                    }
                }
                Step::Finish { id, duration_ms, success } => {
                    market.finished(WorkerId(id), Duration::from_millis(duration_ms), success, now);
                    if let Some(worker) = naive.0.get_mut(&id) {
                        worker.running = worker.running.saturating_sub(1);
                    }
                }
            }
            let listed: usize = market.listing().map(|model| model.workers.len()).sum();
            prop_assert_eq!(listed, naive.0.values().filter(|worker| worker.enabled).count());
        }
    }
}
