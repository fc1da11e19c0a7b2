//! Memory for messages, shared by the links of a listener.
//!
//! Each link may hold a little without asking. Beyond that, a link may hold as much as is still free: the more is
//! in use, the less each may take, so that those who hold much are refused before those who hold little.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a link may hold without asking, in bytes: several small messages each way.
const FREE_LEN: usize = 32 * 1024;

/// The memory of all links of a listener; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: usize,
    held: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(total: usize) -> Self {
        Self(Arc::new(Shared { total, held: AtomicUsize::new(0) }))
    }

    /// The account of a new link.
    pub(crate) fn open(&self) -> Holding {
        Holding { budget: Some(self.clone()), held: 0 }
    }

    #[cfg(test)]
    fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }
}

/// What one link holds of its listener's memory. Given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// `None` where nobody shares: on the connecting side there are few links, each to a chosen peer.
    budget: Option<Budget>,
    held: usize,
}

impl Holding {
    /// The link now holds `len` bytes. False if it may not: then nothing has changed.
    pub(crate) fn set(&mut self, len: usize) -> bool {
        let wanted = len.saturating_sub(FREE_LEN);
        let Some(Budget(shared)) = self.budget.as_ref().filter(|_| wanted != self.held) else { return true };
        if wanted > self.held {
            let more = wanted - self.held;
            let others = shared.held.fetch_add(more, Ordering::Relaxed) - self.held;
            if others.saturating_add(wanted.saturating_mul(2)) > shared.total {
                shared.held.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else {
            shared.held.fetch_sub(self.held - wanted, Ordering::Relaxed);
        }
        self.held = wanted;
        true
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(Budget(shared)) = &self.budget {
            shared.held.fetch_sub(self.held, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_messages_cost_nothing() {
        let budget = Budget::new(0);
        let mut link = budget.open();
        assert!(link.set(FREE_LEN));
        assert!(!link.set(FREE_LEN + 1));
        assert!(link.set(0));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_link_may_hold_as_much_as_is_free_and_no_byte_more() {
        let budget = Budget::new(1000);
        let mut first = budget.open();
        assert!(first.set(FREE_LEN + 500));
        assert!(!first.set(FREE_LEN + 501), "as much again would not be free");
        assert_eq!(budget.held(), 500);
        // The second finds 500 free and may take half of it.
        let mut second = budget.open();
        assert!(!second.set(FREE_LEN + 251));
        assert!(second.set(FREE_LEN + 250));
        assert!(!first.set(FREE_LEN + 501));
    }

    #[test]
    fn what_is_given_back_is_there_for_others() {
        let budget = Budget::new(1000);
        let (mut first, mut second) = (budget.open(), budget.open());
        assert!(first.set(FREE_LEN + 500) && !second.set(FREE_LEN + 500));
        assert!(first.set(0) && second.set(FREE_LEN + 500));
        drop(second);
        assert_eq!(budget.held(), 0);
        assert!(first.set(FREE_LEN + 500));
    }

    #[test]
    fn those_with_little_are_served_while_those_with_much_are_refused() {
        let budget = Budget::new(1 << 20);
        let mut greedy: Vec<Holding> = (0..64).map(|_| budget.open()).collect();
        for len in (FREE_LEN..1 << 20).step_by(4096) {
            for link in &mut greedy {
                link.set(len);
            }
        }
        assert!(budget.open().set(FREE_LEN + 4096));
    }

    #[test]
    fn nobody_counts_where_nobody_shares() {
        assert!(Holding::default().set(usize::MAX));
    }
}
