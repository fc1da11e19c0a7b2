//! How long a connection may wait for a request, and how long the head of one may take.
//!
//! The HTTP library has one timer for both, from the moment at which it is ready for a request: long enough for
//! connections that are kept for the next request, it would let a head drip for as long. This timer begins as the former
//! and becomes the latter with the first byte.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant as TokioInstant;

use super::Progress;

/// How long a connection may wait for its next request.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long a head may take from its first byte.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// The library starts it whenever it begins to wait for a request.
#[derive(Debug)]
pub(super) struct HeadTimer {
    progress: Arc<Progress>,
}

impl HeadTimer {
    pub(super) const fn new(progress: Arc<Progress>) -> Self {
        Self { progress }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.progress.has_read.store(false, Ordering::Relaxed);
        let sleep = Box::pin(tokio::time::sleep(duration));
        Box::pin(Waiting { progress: Arc::clone(&self.progress), is_head: false, sleep })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Instant {
        TokioInstant::now().into_std()
    }
}

/// Waits for a request, then for the rest of its head. Polled whenever bytes have come and the head is not complete.
struct Waiting {
    progress: Arc<Progress>,
    is_head: bool,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Sleep for Waiting {}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_head && self.progress.has_read.load(Ordering::Relaxed) {
            self.is_head = true;
            let deadline = self.sleep.deadline().min(TokioInstant::now() + HEAD_MAX);
            self.sleep.as_mut().reset(deadline);
        }
        self.sleep.as_mut().poll(context)
    }
}
