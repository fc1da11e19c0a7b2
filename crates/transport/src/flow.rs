//! Flow control of one stream, as arithmetic: how much a sender may send, and when a receiver lets it send more.
//!
//! Both sides begin with the same window, so that nothing has to be said before the first byte. A receiver says that
//! it takes more only once it has used up half of the window: short streams need no message at all. Parts of up to
//! half a window therefore never wait for each other in vain.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// What a query or an answer may have under way between two peers, in units of [`part_cost`]: 128 KiB. Nearly all of
/// them take no more, and so wait for nobody.
pub const WINDOW: u32 = 128 * 1024;
/// Longest part in bytes, so that no stream holds up the others on its link for long.
pub const PART_LEN_MAX: usize = 16 * 1024;

/// What a part costs besides its bytes: it takes memory to keep, however short it is.
const PART_OVERHEAD: u32 = 256;

/// What a part of `len` bytes takes of a window.
#[must_use]
pub fn part_cost(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX).saturating_add(PART_OVERHEAD)
}

/// The peer broke the rules of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// It sent more than it was let.
    #[error("the peer sent {cost} where {left} were left of its window")]
    Overrun {
        /// What the part takes.
        cost: u32,
        /// What was left.
        left: u32,
    },
    /// It let us send nothing, less than nothing, or more than the window holds.
    #[error("the peer grants {len} where {left} of a window of {window} are left")]
    Grant {
        /// What it granted.
        len: i32,
        /// What was left.
        left: u32,
        /// The window.
        window: u32,
    },
}

/// The sender's side of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outflow {
    window: u32,
    left: u32,
}

impl Outflow {
    /// A fresh stream.
    #[must_use]
    pub const fn new(window: u32) -> Self {
        Self { window, left: window }
    }

    /// Uses up `cost`, if so much is left.
    #[must_use]
    pub fn take(&mut self, cost: u32) -> bool {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// The receiver takes `len` more.
    ///
    /// # Errors
    /// [`FlowError::Grant`] if that makes no sense.
    pub fn grant(&mut self, len: i32) -> Result<(), FlowError> {
        let more = u32::try_from(len).ok().filter(|more| *more > 0 && *more <= self.window - self.left);
        let Some(more) = more else {
            return Err(FlowError::Grant { len, left: self.left, window: self.window });
        };
        self.left += more;
        Ok(())
    }
}

/// The receiver's side of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inflow {
    window: u32,
    /// What the sender may still send.
    left: u32,
    /// What was passed on since the last grant.
    passed: u32,
}

impl Inflow {
    /// A fresh stream.
    #[must_use]
    pub const fn new(window: u32) -> Self {
        Self { window, left: window, passed: 0 }
    }

    /// A part came.
    ///
    /// # Errors
    /// [`FlowError::Overrun`] if it is more than the sender was let.
    pub fn receive(&mut self, cost: u32) -> Result<(), FlowError> {
        let left = self.left.checked_sub(cost).ok_or(FlowError::Overrun { cost, left: self.left })?;
        self.left = left;
        Ok(())
    }

    /// What the sender may still send.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// A received part was passed on, so that its place is free. Returns what to grant the sender now, if anything.
    #[must_use]
    pub fn pass(&mut self, cost: u32) -> Option<i32> {
        self.passed = self.passed.saturating_add(cost).min(self.window - self.left);
        if self.passed < self.window / 2 {
            return None;
        }
        let len = std::mem::take(&mut self.passed);
        self.left += len;
        i32::try_from(len).ok()
    }
}

/// The sender's side of a stream, where one task sends and another one hears of grants.
#[derive(Debug)]
pub struct Gate {
    outflow: Mutex<Outflow>,
    granted: Notify,
}

impl Gate {
    /// A fresh stream.
    #[must_use]
    pub fn new(window: u32) -> Self {
        Self { outflow: Mutex::new(Outflow::new(window)), granted: Notify::new() }
    }

    /// A stream whose first part, of `cost`, goes out with its beginning.
    #[must_use]
    pub fn begun(window: u32, cost: u32) -> Self {
        let outflow = Outflow { window, left: window.saturating_sub(cost) };
        Self { outflow: Mutex::new(outflow), granted: Notify::new() }
    }

    /// Waits until `cost` has room, and uses it up. For one task.
    pub async fn pass(&self, cost: u32) {
        // A grant between the look and the wait is kept for the one that waits.
        while !self.with(|outflow| outflow.take(cost)) {
            self.granted.notified().await;
        }
    }

    /// The receiver takes `len` more.
    ///
    /// # Errors
    /// [`FlowError::Grant`] if that makes no sense.
    pub fn grant(&self, len: i32) -> Result<(), FlowError> {
        self.with(|outflow| outflow.grant(len))?;
        self.granted.notify_one();
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Outflow) -> T) -> T {
        // Its methods change it in one step, so a panic elsewhere leaves it whole.
        work(&mut self.outflow.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_stops_at_the_end_of_its_window() {
        let mut outflow = Outflow::new(1000);
        assert!(outflow.take(600) && outflow.take(400));
        assert!(!outflow.take(1));
        assert_eq!(outflow.grant(500), Ok(()));
        assert!(!outflow.take(501));
        assert!(outflow.take(500));
    }

    #[test]
    fn senseless_grants_are_refused() {
        let mut outflow = Outflow::new(1000);
        assert!(outflow.take(300));
        for len in [0, -1, i32::MIN, 301, i32::MAX] {
            assert_eq!(outflow.grant(len), Err(FlowError::Grant { len, left: 700, window: 1000 }));
        }
        assert_eq!(outflow.grant(300), Ok(()));
    }

    #[test]
    fn a_receiver_grants_at_half_a_window_and_not_before() {
        let mut inflow = Inflow::new(1000);
        inflow.receive(900).unwrap();
        assert_eq!(inflow.pass(499), None);
        assert_eq!(inflow.pass(1), Some(500));
        assert_eq!(inflow.receive(601), Err(FlowError::Overrun { cost: 601, left: 600 }));
        assert_eq!(inflow.receive(600), Ok(()));
    }

    #[test]
    fn what_never_came_cannot_be_passed_on() {
        let mut inflow = Inflow::new(1000);
        inflow.receive(10).unwrap();
        assert_eq!(inflow.pass(u32::MAX), None);
    }

    /// A sender that waits and a receiver that passes everything on never wait for each other.
    #[test]
    fn parts_of_any_legal_size_flow_on() {
        for len in [0, 1, 300, PART_LEN_MAX] {
            let (mut outflow, mut inflow) = (Outflow::new(WINDOW), Inflow::new(WINDOW));
            for _ in 0..1000 {
                assert!(outflow.take(part_cost(len)));
                inflow.receive(part_cost(len)).unwrap();
                if let Some(more) = inflow.pass(part_cost(len)) {
                    outflow.grant(more).unwrap();
                }
            }
        }
    }
}
