//! Many sequences, few threads.
//!
//! Admitted requests wait in order of arrival. A bounded number of them is active, which means it has a memory
//! of its own; active sequences stand in one ring, and whichever thread is free takes the next one for a turn
//! and puts it back at the end. No sequence is ever on two threads, and none gets two turns while another
//! waits for its first.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::load::Loaded;
use crate::sequence::{Ending, Event, Job, Progress, Request, Sequence, Turn};

/// How much the scheduler takes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) threads: usize,
    pub(crate) active_max: usize,
    pub(crate) waiting_max: usize,
}

/// Every place is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{active} requests are being answered and {waiting} are waiting: try again later")]
pub(crate) struct Busy {
    pub(crate) active: usize,
    pub(crate) waiting: usize,
}

/// What an engine is doing and has done since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// Requests that wait for a place among the active ones.
    pub waiting: usize,
    /// Requests being answered.
    pub active: usize,
    /// Requests answered to the end.
    pub finished: u64,
    /// Requests whose receiver went away before the end.
    pub cancelled: u64,
    /// Requests that could not be answered.
    pub failed: u64,
    /// Prompt tokens read.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
}

/// The threads and what they share. Dropping it stops them; unfinished requests see their channel close.
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    loaded: Arc<Loaded>,
    limits: Limits,
    state: Mutex<State>,
    /// Signalled when a thread may find work, or must stop.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    ready: VecDeque<Box<Sequence>>,
    activity: Activity,
    stopping: bool,
}

/// Work for one turn.
enum Work {
    Start(Job),
    Advance(Box<Sequence>),
}

impl Scheduler {
    pub(crate) fn start(loaded: Arc<Loaded>, limits: Limits) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { loaded, limits, state: Mutex::default(), changed: Condvar::new() });
        let mut scheduler = Self { shared, threads: Vec::new() };
        for index in 0..limits.threads {
            let shared = Arc::clone(&scheduler.shared);
            let thread = std::thread::Builder::new().name(format!("engine-{index}"));
            // On failure the threads started so far are stopped by dropping `scheduler`.
            scheduler.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(scheduler)
    }

    /// Takes on a request, unless every place is taken.
    pub(crate) fn submit(&self, request: Request) -> Result<mpsc::Receiver<Event>, Busy> {
        // One event per token of the answer and three around them: sending never waits and never fails for
        // lack of room, and what a slow reader makes us hold is bounded by the context.
        let capacity = self.shared.loaded.model.shape().context_len + 3;
        let (events, receiver) = mpsc::channel(capacity);
        let mut state = self.shared.lock();
        let limits = &self.shared.limits;
        if state.activity.active + state.waiting.len() >= limits.active_max + limits.waiting_max {
            // Those who gave up while waiting give their places away.
            state.drop_abandoned();
        }
        let (active, waiting) = (state.activity.active, state.waiting.len());
        if active + waiting >= limits.active_max + limits.waiting_max {
            return Err(Busy { active, waiting });
        }
        state.waiting.push_back(Job { request, events });
        drop(state);
        self.shared.changed.notify_one();
        Ok(receiver)
    }

    pub(crate) fn activity(&self) -> Activity {
        let state = self.shared.lock();
        Activity { waiting: state.waiting.len(), ..state.activity }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread cannot panic: each turn is caught. Nothing would be left to do if it had.
            let _ = thread.join();
        }
    }
}

impl State {
    fn next(&mut self, active_max: usize) -> Option<Work> {
        if self.activity.active < active_max
            && let Some(job) = self.waiting.pop_front()
        {
            self.activity.active += 1;
            return Some(Work::Start(job));
        }
        self.ready.pop_front().map(Work::Advance)
    }

    fn drop_abandoned(&mut self) {
        let before = self.waiting.len();
        self.waiting.retain(|job| !job.events.is_closed());
        self.activity.cancelled += (before - self.waiting.len()) as u64;
    }

    fn account(&mut self, progress: Progress, ending: Option<Ending>) {
        self.activity.prompt_tokens += progress.prompt;
        self.activity.completion_tokens += progress.completion;
        let Some(ending) = ending else { return };
        self.activity.active -= 1;
        match ending {
            Ending::Finished => self.activity.finished += 1,
            Ending::Cancelled => self.activity.cancelled += 1,
            Ending::Failed => self.activity.failed += 1,
        }
    }
}

impl Shared {
    /// No code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does until the engine stops.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if state.stopping {
                state.waiting.clear();
                state.ready.clear();
                return;
            }
            let Some(work) = state.next(self.limits.active_max) else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let (turn, progress) = self.turn(work);
            state = self.lock();
            match turn {
                Some(Turn::Again(sequence)) => {
                    state.account(progress, None);
                    state.ready.push_back(sequence);
                }
                Some(Turn::Over(farewell)) => {
                    state.account(progress, Some(farewell.ending()));
                    drop(state);
                    farewell.say();
                    state = self.lock();
                }
                None => state.account(progress, Some(Ending::Failed)),
            }
            // This thread takes one piece of work; another may take the next.
            if !state.ready.is_empty() || !state.waiting.is_empty() {
                self.changed.notify_one();
            }
        }
    }

    /// Does one piece of work; `None` if that went wrong in a way nobody foresaw.
    fn turn(&self, work: Work) -> (Option<Turn>, Progress) {
        // A panic in the tensor library must cost one request, not a thread. The sequence is moved into the
        // closure and gone with it, so nothing half-changed is seen afterwards.
        let outcome = catch_unwind(AssertUnwindSafe(|| match work {
            Work::Start(job) => (job.start(&self.loaded), Progress::default()),
            Work::Advance(sequence) => sequence.advance(&self.loaded),
        }));
        match outcome {
            Ok((turn, progress)) => (Some(turn), progress),
            Err(_payload) => {
                tracing::error!("a turn panicked; its request is dropped");
                (None, Progress::default())
            }
        }
    }
}
