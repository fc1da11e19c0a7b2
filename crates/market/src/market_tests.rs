//! Tests of the market: against a naive one, and of the work it does.
#![expect(clippy::arithmetic_side_effects, reason = "test inputs are small")]

use std::time::Duration;

use proptest::prelude::*;

use units::ModelName;

use super::*;
use crate::Owner;

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

fn price(thousandths: u32) -> Coefficient {
    Coefficient::try_from(thousandths).unwrap()
}

fn offer(model: &str, coefficient: u32, running_max: u32) -> Offer {
    let (model, coefficient) = (ModelName::new(model).unwrap(), price(coefficient));
    Offer { owner: Owner::new([0; 32]), model, coefficient, running_max }
}

fn demand(model: &str, ceiling: u32) -> Demand<'_> {
    Demand { model, ceiling: price(ceiling), affinity: None }
}

const SECOND: Ending = Ending::Answered(Duration::from_secs(1));

/// A market of workers 0, 1, … for model "m", all enabled.
fn market(offers: &[(u32, u32)]) -> (Market, Instant) {
    let (mut market, now) = (Market::new(1), start());
    for (id, (coefficient, running_max)) in (0..).map(WorkerId).zip(offers) {
        market.add(id, &offer("m@commit:hash", *coefficient, *running_max), now).unwrap();
        market.set_enabled(id, true);
    }
    (market, now)
}

/// How often each of `count` workers is picked in 1000 picks, each of which ends before the next.
fn shares(market: &mut Market, count: u64, ceiling: u32, now: Instant) -> Vec<usize> {
    let mut shares = vec![0; usize::try_from(count).unwrap()];
    for _ in 0..1000 {
        let picked = market.pick(&demand("m", ceiling), now).unwrap();
        shares[usize::try_from(picked.get()).unwrap()] += 1;
        market.started(picked);
        market.finished(picked, Ending::Untold, now);
    }
    shares
}

/// Most of 1000 requests; the rest explores.
const NEARLY_ALL: std::ops::RangeInclusive<usize> = 970..=1000;
/// What explores.
const FEW: std::ops::RangeInclusive<usize> = 0..=30;

#[test]
fn refusals_carry_facts() {
    let (mut market, now) = market(&[(1500, 1), (2500, 1)]);
    let pick = |market: &mut Market, model: &str, ceiling| market.pick(&demand(model, ceiling), now);

    assert_eq!(pick(&mut market, "other", 4000), Err(NoWorker::UnknownModel));
    assert_eq!(pick(&mut market, "m@commit:hash", 4000), Err(NoWorker::UnknownModel));
    assert_eq!(pick(&mut market, "m", 1500), Ok(WorkerId(0)));
    assert_eq!(pick(&mut market, "m", 1499), Err(NoWorker::TooDear { cheapest: price(1500) }));

    market.started(WorkerId(0));
    assert_eq!(pick(&mut market, "m", 1500), Err(NoWorker::Full));
    assert_eq!(pick(&mut market, "m", 1499), Err(NoWorker::TooDear { cheapest: price(2500) }));
    market.started(WorkerId(1));
    assert_eq!(pick(&mut market, "m", 4000), Err(NoWorker::Full));
    assert_eq!(pick(&mut market, "m", 1499), Err(NoWorker::TooDear { cheapest: price(1500) }));
    assert_eq!(market.places("m"), 2);
    market.set_enabled(WorkerId(1), false);
    market.finished(WorkerId(0), SECOND, now);
    assert_eq!(pick(&mut market, "m", 4000), Ok(WorkerId(0)));
    market.set_enabled(WorkerId(0), false);
    assert_eq!(pick(&mut market, "m", 4000), Err(NoWorker::NoneEnabled));
    assert_eq!(market.places("m"), 0);

    market.remove(WorkerId(0), now);
    market.remove(WorkerId(1), now);
    assert_eq!(pick(&mut market, "m", 4000), Err(NoWorker::NoneConnected));
}

#[test]
fn a_worker_starts_disabled_and_joins_once() {
    let (mut market, now) = (Market::new(1), start());
    market.add(WorkerId(5), &offer("m", 1000, 1), now).unwrap();
    assert!(!market.has_enabled_worker());
    assert_eq!(market.pick(&demand("m", 1000), now), Err(NoWorker::NoneEnabled));
    let error = market.add(WorkerId(5), &offer("m", 1000, 1), now).unwrap_err();
    assert_eq!(error.to_string(), "worker 5 is already listed");
    market.set_enabled(WorkerId(5), true);
    market.set_enabled(WorkerId(5), true);
    assert!(market.has_enabled_worker());
    assert_eq!(market.places("m"), 1);
    market.remove(WorkerId(5), now);
    assert!(!market.has_enabled_worker());
}

#[test]
fn equal_workers_share_and_the_busiest_gets_nothing_but_explorers() {
    let (mut market, now) = market(&[(1000, 9), (1000, 9), (1000, 9), (1000, 9)]);
    assert!(shares(&mut market, 4, 1000, now).iter().all(|share| (200..300).contains(share)));
    market.started(WorkerId(3));
    let busy = shares(&mut market, 4, 1000, now);
    assert!(FEW.contains(&busy[3]), "{busy:?}");
    assert!(busy[..3].iter().all(|share| (270..400).contains(share)), "{busy:?}");
}

#[test]
fn at_equal_work_the_cheaper_wins_and_the_dearer_does_not_starve() {
    let (mut market, now) = market(&[(3000, 9), (1000, 9)]);
    let shares = shares(&mut market, 2, 4000, now);
    assert!(NEARLY_ALL.contains(&shares[1]) && shares[0] > 0, "{shares:?}");
}

#[test]
fn a_quick_worker_may_run_more() {
    let (mut market, now) = market(&[(1000, 99), (1000, 99)]);
    for (id, duration_ms) in [(WorkerId(0), 100), (WorkerId(1), 800)] {
        for _ in 0..500 {
            market.started(id);
            market.finished(id, Ending::Answered(Duration::from_millis(duration_ms)), now);
        }
    }
    let first = shares(&mut market, 2, 1000, now);
    assert!(NEARLY_ALL.contains(&first[0]), "{first:?}");
    (0..6).for_each(|_| market.started(WorkerId(0)));
    assert!(NEARLY_ALL.contains(&shares(&mut market, 2, 1000, now)[0]), "7 × 100 ms against 1 × 800 ms");
    (0..3).for_each(|_| market.started(WorkerId(0)));
    assert!(NEARLY_ALL.contains(&shares(&mut market, 2, 1000, now)[1]), "10 × 100 ms against 1 × 800 ms");
}

#[test]
fn a_worker_that_fails_rests_and_comes_back_on_trial() {
    let (mut market, mut now) = market(&[(1000, 9), (1000, 9)]);
    market.started(WorkerId(0));
    market.finished(WorkerId(0), Ending::Failed, now);
    (0..8).for_each(|_| market.started(WorkerId(1)));
    assert_eq!(shares(&mut market, 2, 1000, now), [0, 1000], "the other one has 8 of 9 places taken");
    market.started(WorkerId(1));
    assert_eq!(shares(&mut market, 2, 1000, now), [1000, 0], "better than nobody");

    market.finished(WorkerId(1), SECOND, now);
    now += Duration::from_secs(1);
    assert_eq!(market.pick(&demand("m", 1000), now), Ok(WorkerId(0)), "one request is its trial");
    market.started(WorkerId(0));
    assert_eq!(market.pick(&demand("m", 1000), now), Ok(WorkerId(1)));
    market.finished(WorkerId(0), SECOND, now);
    assert_eq!(market.pick(&demand("m", 1000), now), Ok(WorkerId(0)));
    market.started(WorkerId(0));
    assert_eq!(market.pick(&demand("m", 1000), now), Ok(WorkerId(0)), "the trial is over");
}

#[test]
fn leaving_with_requests_is_an_outage_that_the_next_worker_of_the_owner_inherits() {
    let (mut market, now) = market(&[(1000, 9), (1000, 9)]);
    market.started(WorkerId(0));
    market.remove(WorkerId(0), now);
    for (id, owner) in [(WorkerId(2), Owner::new([0; 32])), (WorkerId(3), Owner::new([9; 32]))] {
        market.add(id, &Offer { owner, ..offer("m", 1000, 9) }, now).unwrap();
        market.set_enabled(id, true);
    }
    let found = shares(&mut market, 4, 1000, now);
    assert_eq!((found[0], found[2]), (0, 0), "{found:?}");
    assert!(found[1] > 300 && found[3] > 300, "{found:?}");
    // Leaving in peace is none.
    market.remove(WorkerId(3), now);
    market.add(WorkerId(3), &Offer { owner: Owner::new([9; 32]), ..offer("m", 1000, 9) }, now).unwrap();
    market.set_enabled(WorkerId(3), true);
    assert!(shares(&mut market, 4, 1000, now)[3] > 300);
}

#[test]
fn a_busy_worker_is_left_alone_for_a_moment() {
    let (mut market, mut now) = market(&[(1000, 9), (2000, 9)]);
    market.started(WorkerId(0));
    market.finished(WorkerId(0), Ending::Busy, now);
    assert_eq!(shares(&mut market, 2, 2000, now), [0, 1000]);
    now += Duration::from_millis(250);
    assert!(NEARLY_ALL.contains(&shares(&mut market, 2, 2000, now)[0]));
}

#[test]
fn a_slow_look_is_forgotten_because_a_few_requests_explore() {
    let (mut market, mut now) = market(&[(1000, 9), (1000, 9), (1000, 9)]);
    for (id, seconds) in [(WorkerId(0), 60), (WorkerId(1), 1), (WorkerId(2), 1)] {
        for _ in 0..20 {
            market.started(id);
            market.finished(id, Ending::Answered(Duration::from_secs(seconds)), now);
        }
    }
    let mut last_hundred = 0;
    for request in 0..12_000 {
        now += Duration::from_secs(1);
        let picked = market.pick(&demand("m", 1000), now).unwrap();
        market.started(picked);
        market.finished(picked, SECOND, now);
        last_hundred += usize::from(request >= 11_900 && picked == WorkerId(0));
    }
    assert!((15..60).contains(&last_hundred), "{last_hundred} of 100");
}

#[test]
fn equal_affinities_meet_at_one_worker_until_it_has_much_more_work() {
    let (mut market, now) = market(&[(1000, 9); 10]);
    let pick = |market: &mut Market, number| {
        let demand = Demand { affinity: Some(Affinity::new(number)), ..demand("m", 1000) };
        market.pick(&demand, now).unwrap()
    };
    let homes: Vec<_> = (0..200).map(|number| pick(&mut market, number)).collect();
    let again: Vec<_> = (0..200).map(|number| pick(&mut market, number)).collect();
    assert_eq!(homes, again);
    assert!(homes.iter().collect::<BTreeSet<_>>().len() >= 8, "different affinities spread");

    let home = homes[0];
    market.started(home);
    assert_eq!(pick(&mut market, 0), home, "two are not much more than one");
    market.started(home);
    market.started(home);
    let next = pick(&mut market, 0);
    assert_ne!(next, home, "four are");
    assert_eq!(pick(&mut market, 0), next, "and the next one is always the same");
    market.finished(home, Ending::Untold, now);
    market.finished(home, Ending::Untold, now);
    assert_eq!(pick(&mut market, 0), home);
    market.finished(home, Ending::Failed, now);
    assert_eq!(pick(&mut market, 0), next, "nobody wants to be the neighbour of an outage");
    market.set_coefficient(next, price(1001));
    let third = pick(&mut market, 0);
    assert!(third != next && third != home, "the ceiling holds for neighbours too");
    // A worker that joins or leaves moves only its own neighbours.
    market.remove(WorkerId(9), now);
    let moved = (1..200).filter(|number| pick(&mut market, *number as u64) != homes[*number]).count();
    assert!(moved < 100, "{moved} of 199 moved when one worker was down, one dearer, and one left");
}

#[test]
fn a_new_price_holds_from_the_next_pick() {
    let (mut market, now) = market(&[(1000, 1)]);
    market.set_coefficient(WorkerId(0), price(2000));
    let refused = market.pick(&demand("m", 1999), now);
    assert_eq!(refused, Err(NoWorker::TooDear { cheapest: price(2000) }));
    assert_eq!(market.pick(&demand("m", 2000), now), Ok(WorkerId(0)));
    let state = WorkerState { coefficient: price(2000), enabled: true, running: 0, running_max: 1 };
    assert_eq!(market.worker(WorkerId(0)), Some(state));
    assert_eq!(market.worker(WorkerId(1)), None);
}

#[test]
fn listings_show_enabled_workers_by_price() {
    let (mut market, now) = market(&[(2500, 60), (1500, 60), (500, 60)]);
    market.set_enabled(WorkerId(2), false);
    market.started(WorkerId(1));
    market.add(WorkerId(9), &offer("idle", 1000, 1), now).unwrap();
    let listing: Vec<_> = market.listing(10).collect();
    assert_eq!(listing.iter().map(|model| model.name).collect::<Vec<_>>(), ["idle", "m"]);
    assert!(listing[0].workers.is_empty() && listing[0].prices.is_none());
    let workers: Vec<_> =
        listing[1].workers.iter().map(|worker| (worker.coefficient.get(), worker.running)).collect();
    assert_eq!(workers, [(1500, 1), (2500, 0)]);
    let prices = |market: &Market| market.listing(0).last().unwrap().prices.unwrap().map(Coefficient::get);
    assert_eq!(prices(&market), [1500, 2500, 2500]);
    market.set_enabled(WorkerId(2), true);
    assert_eq!(prices(&market), [500, 1500, 2500]);
    let short: Vec<_> = market.listing(2).collect();
    assert_eq!((short[1].enabled, short[1].workers.len()), (3, 2), "the cheapest two of three");
    market.remove(WorkerId(9), now);
    assert_eq!(market.listing(10).count(), 1);
}

#[test]
fn models_that_everybody_left_do_not_pile_up() {
    let (mut market, now) = (Market::new(1), start());
    for number in 0..3000_u64 {
        market.add(WorkerId(number), &offer(&format!("model-{number}"), 1, 1), now).unwrap();
        market.remove(WorkerId(number), now);
    }
    assert_eq!((market.names.len(), market.models.len()), (ABANDONED_MODELS_MAX, ABANDONED_MODELS_MAX + 1));
    assert_eq!(market.pick(&demand("model-2999", 1), now), Err(NoWorker::NoneConnected));
    assert_eq!(market.pick(&demand("model-1", 1), now), Err(NoWorker::UnknownModel));
    market.add(WorkerId(0), &offer("model-2999", 1, 1), now).unwrap();
    assert_eq!(market.abandoned.len(), ABANDONED_MODELS_MAX - 1);
}

#[test]
fn news_about_a_worker_that_left_is_ignored() {
    let (mut market, now) = market(&[(1000, 1)]);
    market.started(WorkerId(0));
    market.remove(WorkerId(0), now);
    market.finished(WorkerId(0), SECOND, now);
    market.set_enabled(WorkerId(0), true);
    market.set_coefficient(WorkerId(0), price(1));
    assert_eq!(market.pick(&demand("m", 1), now), Err(NoWorker::NoneConnected));
}

/// Steps of the search tree for one request's life, the mean over many requests.
fn steps_per_request(workers: u32) -> usize {
    const REQUESTS: usize = 2000;
    let offers: Vec<_> = (0..workers).map(|id| (1000 + id % 977, 1)).collect();
    let (mut market, now) = market(&offers);
    let steps = |market: &Market| market.models.iter().map(|model| model.enabled.steps.get()).sum::<usize>();
    let before = steps(&market);
    for _ in 0..REQUESTS {
        let worker = market.pick(&demand("m", 1500), now).unwrap();
        market.started(worker);
        market.finished(worker, SECOND, now);
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
    Run { model: u8, ceiling: u32, affinity: Option<u64> },
    Finish { id: u64, ending: Ending },
    Wait(u16),
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        3 => (0..1000_u64).prop_map(|ms| Ending::Answered(Duration::from_millis(ms))),
        1 => Just(Ending::Failed),
        1 => Just(Ending::Busy),
        1 => Just(Ending::Untold),
    ]
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
        8 => (0..2_u8, 0..6_u32, prop::option::of(0..9_u64))
            .prop_map(|(model, ceiling, affinity)| Step::Run { model, ceiling, affinity }),
        4 => (id, ending()).prop_map(|(id, ending)| Step::Finish { id, ending }),
        1 => (0..3000_u16).prop_map(Step::Wait),
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
        let enabled = || of_model().filter(|worker| worker.enabled);
        let has_room = |worker: &&NaiveWorker| worker.running < worker.running_max;
        let price_of = |worker: &NaiveWorker| worker.coefficient;
        if enabled().any(|worker| worker.coefficient <= ceiling) {
            let is_full = !enabled().filter(has_room).any(|worker| worker.coefficient <= ceiling);
            return is_full.then_some(NoWorker::Full);
        }
        let cheapest = enabled().filter(has_room).map(price_of).min().or(enabled().map(price_of).min());
        Some(
            cheapest
                .map_or(NoWorker::NoneEnabled, |cheapest| NoWorker::TooDear { cheapest: price(cheapest) }),
        )
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
        let (mut market, mut naive, mut now) = (Market::new(seed), Naive::default(), start());
        for step in steps {
            match step {
                Step::Add { id, model, coefficient, running_max } => {
                    let offer = offer(&format!("model-{model}"), coefficient, running_max);
                    let added = market.add(WorkerId(id), &offer, now).is_ok();
                    prop_assert_eq!(added, !naive.0.contains_key(&id));
                    let worker = NaiveWorker { model, coefficient, running: 0, running_max, enabled: false };
                    naive.0.entry(id).or_insert(worker);
                }
                Step::Remove(id) => {
                    market.remove(WorkerId(id), now);
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
                Step::Run { model, ceiling, affinity } => {
                    let name = format!("model-{model}");
                    let affinity = affinity.map(Affinity::new);
                    match market.pick(&Demand { affinity, ..demand(&name, ceiling) }, now) {
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
                Step::Finish { id, ending } => {
                    market.finished(WorkerId(id), ending, now);
                    if let Some(worker) = naive.0.get_mut(&id) {
                        worker.running = worker.running.saturating_sub(1);
                    }
                }
                Step::Wait(ms) => now += Duration::from_millis(ms.into()),
            }
            let listed: usize = market.listing(usize::MAX).map(|model| model.workers.len()).sum();
            prop_assert_eq!(listed, naive.0.values().filter(|worker| worker.enabled).count());
            prop_assert_eq!(listed, market.enabled_len);
            for model in 0..2 {
                let of_model = naive.0.values().filter(|worker| worker.enabled && worker.model == model);
                let places: u64 = of_model.map(|worker| u64::from(worker.running_max)).sum();
                prop_assert_eq!(market.places(&format!("model-{model}")), places);
                let of_model = naive.0.values().filter(|worker| worker.enabled && worker.model == model);
                let has_room = of_model.into_iter().any(|worker| worker.running < worker.running_max);
                prop_assert_eq!(market.has_room(&format!("model-{model}")), has_room);
            }
        }
    }
}
