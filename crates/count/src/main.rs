//! The hot paths as steps that can be counted: `cargo xtask count` runs each case in a process of its own under
//! valgrind's callgrind, and compares the instructions with `counts.toml`.
//!
//! The benches beside the crates say how long a step takes; this says, repeatably to a fraction of a percent and on a
//! busy machine too, whether it became longer. Only what one thread does in memory is here: no socket, no clock, no
//! scheduler, since these do not repeat.
//!
//! `cocoon-count` lists the cases, `cocoon-count CASE` prepares one and runs its step [`STEPS`] times.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a step that fails has no cost")]

mod gateway_cases;
mod ledger_cases;
mod market_cases;
mod transport_cases;
mod wire_cases;

use std::process::ExitCode;

/// Steps that are counted. Buffers that double spread over them; `cargo xtask count` divides by it.
const STEPS: u32 = 256;

/// Steps before that: what is made once, at first use, belongs to no step.
const STEPS_BEFORE: u32 = 16;

/// What is counted, again and again.
type Step = Box<dyn FnMut()>;

/// A name, and how to get ready for the first step.
type Case = (&'static str, fn() -> Step);

fn cases() -> impl Iterator<Item = Case> {
    [
        wire_cases::CASES,
        gateway_cases::CASES,
        market_cases::CASES,
        ledger_cases::CASES,
        transport_cases::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

fn main() -> ExitCode {
    let Some(wanted) = std::env::args().nth(1) else {
        println!("{STEPS}");
        cases().for_each(|(name, _prepare)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_name, prepare)) = cases().find(|(name, _prepare)| *name == wanted) else {
        eprintln!("there is no case {wanted:?}");
        return ExitCode::FAILURE;
    };
    let mut step = prepare();
    (0..STEPS_BEFORE).for_each(|_| step());
    counted_steps(&mut *step);
    ExitCode::SUCCESS
}

/// Callgrind collects between the beginning and the end of this function, which it knows by its name.
#[inline(never)]
fn counted_steps(step: &mut dyn FnMut()) {
    for _ in 0..STEPS {
        step();
    }
}
