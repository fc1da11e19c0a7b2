//! The choice of a worker: one request ends and another one begins, among few workers and among many.

use std::time::{Duration, Instant};

use market::{Demand, Ending, Market, Offer, Owner, WorkerId};
use units::{Coefficient, ModelName};

use crate::{Case, Step};

pub(crate) const CASES: &[Case] = &[
    ("market: a request among 10 workers", || request(10)),
    ("market: a request among 10000 workers", || request(10_000)),
];

const MODEL: &str = "Qwen/Qwen3-8B";

/// Workers at 977 prices, on average half full.
fn request(workers: u64) -> Step {
    #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to one")]
    let mut now = Instant::now();
    let mut market = Market::new(1);
    for id in 0..workers {
        let mut owner = [0; 32];
        owner[..8].copy_from_slice(&id.to_le_bytes());
        let offer = Offer {
            owner: Owner::new(owner),
            model: ModelName::new(MODEL).expect("a good name"),
            coefficient: coefficient(1000 + id % 977),
            running_max: 4,
        };
        market.add(WorkerId::new(id), &offer, now).expect("a new worker");
        market.set_enabled(WorkerId::new(id), true);
    }
    let demand = Demand { model: MODEL, ceiling: coefficient(1900), affinity: None };
    let begin = move |market: &mut Market, now| {
        let picked = market.pick(&demand, now).expect("half the places are free");
        market.started(picked);
        picked
    };
    let mut running: Vec<WorkerId> = (0..workers * 2).map(|_| begin(&mut market, now)).collect();
    let mut number = 0;
    Box::new(move || {
        now += Duration::from_millis(1);
        // A walk through all places in no near order: their number is no multiple of 7919.
        number = (number + 7919) % running.len();
        let took = Duration::from_millis(100 + number as u64 % 800);
        market.finished(running[number], Ending::Answered(took), now);
        running[number] = begin(&mut market, now);
    })
}

fn coefficient(thousandths: u64) -> Coefficient {
    let thousandths = u32::try_from(thousandths).expect("a small number");
    Coefficient::try_from(thousandths).expect("within the bounds of a coefficient")
}
