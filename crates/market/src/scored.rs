//! An ordered set whose members carry scores: it knows the best score among all keys up to a bound.

/// A treap in which every node knows the best (lowest) score of its subtree: a binary search tree by key that is a
/// heap by random priority, hence of logarithmic depth whatever order keys arrive in. Every operation walks a constant
/// number of paths from the root.
///
/// Priorities must be unpredictable to whoever chooses keys; the caller draws them.
#[derive(Debug)]
pub(crate) struct ScoredSet<K> {
    nodes: Vec<Node<K>>,
    free: Vec<u32>,
    root: u32,
    /// Nodes visited so far: tests count work instead of time.
    #[cfg(test)]
    pub(crate) steps: std::cell::Cell<usize>,
}

/// Lower is better.
pub(crate) type Score = u128;

#[derive(Debug)]
struct Node<K> {
    key: K,
    score: Score,
    /// The best score in this subtree, and the node that has it.
    best: (Score, u32),
    priority: u64,
    size: u32,
    left: u32,
    right: u32,
}

/// "No node".
const NIL: u32 = u32::MAX;
/// What the subtree of no node offers.
const NOTHING: (Score, u32) = (Score::MAX, NIL);

impl<K: Copy + Ord> ScoredSet<K> {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NIL,
            #[cfg(test)]
            steps: std::cell::Cell::new(0),
        }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.size(self.root)
    }

    /// Adds a key; one that is there already only gets the score.
    pub(crate) fn insert(&mut self, key: K, score: Score, priority: u64) {
        if self.set_score(&key, score) {
            return;
        }
        let node = self.allocate(key, score, priority);
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

    /// Changes the score of a key. Returns whether the key is there.
    pub(crate) fn set_score(&mut self, key: &K, score: Score) -> bool {
        self.set_score_in(self.root, key, score)
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

    /// The key with exactly `rank` keys below it, and its score.
    pub(crate) fn nth(&self, rank: usize) -> Option<(K, Score)> {
        let (mut at, mut rank) = (self.root, rank);
        while let Some(node) = self.node(at) {
            let below = self.size(node.left);
            match rank.cmp(&below) {
                std::cmp::Ordering::Less => at = node.left,
                std::cmp::Ordering::Equal => return Some((node.key, node.score)),
                std::cmp::Ordering::Greater => {
                    rank = rank.saturating_sub(below).saturating_sub(1);
                    at = node.right;
                }
            }
        }
        None
    }

    /// The key with the best score among those of at most `bound`.
    pub(crate) fn best_up_to(&self, bound: &K) -> Option<(K, Score)> {
        let (mut at, mut best) = (self.root, NOTHING);
        while let Some(node) = self.node(at) {
            if node.key <= *bound {
                best = best.min(self.best(node.left)).min((node.score, at));
                at = node.right;
            } else {
                at = node.left;
            }
        }
        self.node(best.1).map(|node| (node.key, node.score))
    }

    /// The lowest key whose score is below `limit`.
    pub(crate) fn first_below(&self, limit: Score) -> Option<K> {
        let mut at = self.root;
        while let Some(node) = self.node(at) {
            if self.best(node.left).0 < limit {
                at = node.left;
            } else if node.score < limit {
                return Some(node.key);
            } else {
                at = node.right;
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

    fn best(&self, at: u32) -> (Score, u32) {
        self.nodes.get(at as usize).map_or(NOTHING, |node| node.best)
    }

    fn allocate(&mut self, key: K, score: Score, priority: u64) -> u32 {
        let next = u32::try_from(self.nodes.len()).ok().filter(|at| *at != NIL);
        let at = self.free.pop().or(next).expect("a proxy has fewer than 2^32 workers");
        let node = Node { key, score, best: (score, at), priority, size: 1, left: NIL, right: NIL };
        match self.nodes.get_mut(at as usize) {
            Some(place) => *place = node,
            None => self.nodes.push(node),
        }
        at
    }

    fn set_score_in(&mut self, at: u32, key: &K, score: Score) -> bool {
        let Some(&Node { key: here, left, right, .. }) = self.node(at) else { return false };
        let is_there = match key.cmp(&here) {
            std::cmp::Ordering::Less => self.set_score_in(left, key, score),
            std::cmp::Ordering::Greater => self.set_score_in(right, key, score),
            std::cmp::Ordering::Equal => {
                self.node_mut(at).score = score;
                true
            }
        };
        if is_there {
            self.node_mut(at).best = self.best(left).min(self.best(right)).min(self.own(at));
        }
        is_there
    }

    fn own(&self, at: u32) -> (Score, u32) {
        self.nodes.get(at as usize).map_or(NOTHING, |node| (node.score, at))
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
        let best = self.best(left).min(self.best(right)).min(self.own(at));
        let node = self.node_mut(at);
        node.left = left;
        node.right = right;
        node.best = best;
        node.size = u32::try_from(size).expect("a proxy has fewer than 2^32 workers");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(
            steps in prop::collection::vec((0..3_u8, 0..40_u32, 0..20_u128, any::<u64>()), 0..80),
        ) {
            let (mut set, mut naive) = (ScoredSet::new(), BTreeMap::new());
            for (step, key, score, priority) in steps {
                match step {
                    0 => {
                        set.insert(key, score, priority);
                        naive.insert(key, score);
                    }
                    1 => prop_assert_eq!(set.set_score(&key, score), naive.get_mut(&key).map(|old| *old = score).is_some()),
                    _ => {
                        set.remove(&key);
                        naive.remove(&key);
                    }
                }
                prop_assert_eq!(set.len(), naive.len());
                for bound in 0..40 {
                    prop_assert_eq!(set.count_up_to(&bound), naive.range(..=bound).count());
                    let best = naive.range(..=bound).map(|(_, score)| *score).min();
                    prop_assert_eq!(set.best_up_to(&bound).map(|(_, score)| score), best);
                    let found = set.best_up_to(&bound).map(|(key, _)| key);
                    prop_assert!(found.is_none_or(|key| key <= bound && naive.get(&key).copied() == best));
                }
                for rank in 0..=naive.len() {
                    let expected = naive.iter().nth(rank).map(|(key, score)| (*key, *score));
                    prop_assert_eq!(set.nth(rank), expected);
                }
                for limit in 0..20 {
                    let expected = naive.iter().find(|(_, score)| **score < limit).map(|(key, _)| *key);
                    prop_assert_eq!(set.first_below(limit), expected);
                }
            }
        }
    }

    #[test]
    fn room_of_removed_keys_is_used_again() {
        let mut set = ScoredSet::new();
        for round in 0..1000_u32 {
            set.insert(round, 0, u64::from(round.reverse_bits()));
            set.remove(&round);
        }
        assert_eq!(set.nodes.len(), 1);
    }
}
