//! An ordered set that also answers "how many are not above this" and "which is the n-th".

/// A treap with subtree sizes: a binary search tree by key that is a heap by random priority, hence of
/// logarithmic depth whatever order keys arrive in. Every operation walks a constant number of paths from the root.
///
/// Priorities must be unpredictable to whoever chooses keys; the caller draws them.
#[derive(Debug)]
pub(crate) struct RankedSet<K> {
    nodes: Vec<Node<K>>,
    free: Vec<u32>,
    root: u32,
    /// Nodes visited so far: tests count work instead of time.
    #[cfg(test)]
    pub(crate) steps: std::cell::Cell<usize>,
}

#[derive(Debug)]
struct Node<K> {
    key: K,
    priority: u64,
    size: u32,
    left: u32,
    right: u32,
}

/// "No node".
const NIL: u32 = u32::MAX;

impl<K: Copy + Ord> RankedSet<K> {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NIL,
            #[cfg(test)]
            steps: std::cell::Cell::new(0),
        }
    }

    /// Adds a key; one that is there already stays as it is.
    pub(crate) fn insert(&mut self, key: K, priority: u64) {
        if self.contains(&key) {
            return;
        }
        let node = self.allocate(key, priority);
        let (below, above) = self.split(self.root, &key);
        let below = self.merge(below, node);
        self.root = self.merge(below, above);
    }

    /// Removes a key, if it is there.
    pub(crate) fn remove(&mut self, key: &K) {
        if self.contains(key) {
            self.root = self.remove_from(self.root, key);
        }
    }

    /// How many keys are at most `bound`.
    pub(crate) fn count_up_to(&self, bound: &K) -> usize {
        let (mut at, mut count) = (self.root, 0_usize);
        while let Some(node) = self.node(at) {
            if node.key <= *bound {
                count = count.saturating_add(self.size(node.left)).saturating_add(1);
                at = node.right;
            } else {
                at = node.left;
            }
        }
        count
    }

    /// The key with exactly `rank` keys below it.
    pub(crate) fn nth(&self, rank: usize) -> Option<K> {
        let (mut at, mut rank) = (self.root, rank);
        while let Some(node) = self.node(at) {
            let below = self.size(node.left);
            match rank.cmp(&below) {
                std::cmp::Ordering::Less => at = node.left,
                std::cmp::Ordering::Equal => return Some(node.key),
                std::cmp::Ordering::Greater => {
                    rank = rank.saturating_sub(below).saturating_sub(1);
                    at = node.right;
                }
            }
        }
        None
    }

    fn contains(&self, key: &K) -> bool {
        let mut at = self.root;
        while let Some(node) = self.node(at) {
            match key.cmp(&node.key) {
                std::cmp::Ordering::Less => at = node.left,
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Greater => at = node.right,
            }
        }
        false
    }

    fn node(&self, at: u32) -> Option<&Node<K>> {
        #[cfg(test)]
        self.steps.set(self.steps.get().saturating_add(1));
        self.nodes.get(at as usize)
    }

    fn node_mut(&mut self, at: u32) -> &mut Node<K> {
        self.nodes.get_mut(at as usize).expect("only linked nodes are changed")
    }

    fn size(&self, at: u32) -> usize {
        self.nodes.get(at as usize).map_or(0, |node| node.size as usize)
    }

    fn allocate(&mut self, key: K, priority: u64) -> u32 {
        let node = Node { key, priority, size: 1, left: NIL, right: NIL };
        if let Some(at) = self.free.pop() {
            *self.node_mut(at) = node;
            return at;
        }
        let at = u32::try_from(self.nodes.len()).ok().filter(|at| *at != NIL);
        self.nodes.push(node);
        at.expect("a proxy has fewer than 2^32 workers")
    }

    /// Parts the tree into keys below `key` and the others.
    fn split(&mut self, at: u32, key: &K) -> (u32, u32) {
        let Some(&Node { key: here, left, right, .. }) = self.node(at) else { return (NIL, NIL) };
        if here < *key {
            let (below, above) = self.split(right, key);
            self.relink(at, left, below);
            (at, above)
        } else {
            let (below, above) = self.split(left, key);
            self.relink(at, above, right);
            (below, at)
        }
    }

    /// Joins two trees; every key of `below` is lower than every key of `above`.
    fn merge(&mut self, below: u32, above: u32) -> u32 {
        let (Some(lower), Some(upper)) = (self.node(below), self.node(above)) else {
            return if below == NIL { above } else { below };
        };
        if lower.priority >= upper.priority {
            let (left, right) = (lower.left, lower.right);
            let joined = self.merge(right, above);
            self.relink(below, left, joined);
            below
        } else {
            let (left, right) = (upper.left, upper.right);
            let joined = self.merge(below, left);
            self.relink(above, joined, right);
            above
        }
    }

    fn remove_from(&mut self, at: u32, key: &K) -> u32 {
        let Some(&Node { key: here, left, right, .. }) = self.node(at) else { return NIL };
        match key.cmp(&here) {
            std::cmp::Ordering::Less => {
                let left = self.remove_from(left, key);
                self.relink(at, left, right);
                at
            }
            std::cmp::Ordering::Greater => {
                let right = self.remove_from(right, key);
                self.relink(at, left, right);
                at
            }
            std::cmp::Ordering::Equal => {
                self.free.push(at);
                self.merge(left, right)
            }
        }
    }

    fn relink(&mut self, at: u32, left: u32, right: u32) {
        let size = self.size(left).saturating_add(self.size(right)).saturating_add(1);
        let node = self.node_mut(at);
        node.left = left;
        node.right = right;
        node.size = u32::try_from(size).expect("a proxy has fewer than 2^32 workers");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_set(
            steps in prop::collection::vec((any::<bool>(), 0..40_u32, any::<u64>()), 0..200),
        ) {
            let (mut set, mut naive) = (RankedSet::new(), BTreeSet::new());
            for (add, key, priority) in steps {
                if add {
                    set.insert(key, priority);
                    naive.insert(key);
                } else {
                    set.remove(&key);
                    naive.remove(&key);
                }
                for bound in 0..40 {
                    prop_assert_eq!(set.count_up_to(&bound), naive.range(..=bound).count());
                }
                for rank in 0..=naive.len() {
                    prop_assert_eq!(set.nth(rank), naive.iter().nth(rank).copied());
                }
            }
        }
    }

    #[test]
    fn room_of_removed_keys_is_used_again() {
        let mut set = RankedSet::new();
        for round in 0..1000_u32 {
            set.insert(round, u64::from(round.reverse_bits()));
            set.remove(&round);
        }
        assert_eq!(set.nodes.len(), 1);
    }
}
