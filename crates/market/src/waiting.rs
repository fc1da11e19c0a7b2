//! Where requests wait for a worker, and clients take turns.

use std::collections::{BTreeSet, VecDeque};
use std::hash::Hash;

use ahash::HashMap;

/// Requests that wait, one line for each client. Clients take turns, however long their lines are; when the room is
/// full, the longest line gives up its last place to a client whose line is shorter.
///
/// Every operation but [`Self::leave`] costs at most the logarithm of the number of clients that wait.
#[derive(Clone, Debug)]
pub struct WaitingRoom<C, R> {
    lines: HashMap<C, VecDeque<R>>,
    /// Clients that wait, in the order of their turns.
    turns: VecDeque<C>,
    /// Their lines by length.
    lengths: BTreeSet<(usize, C)>,
    len: usize,
}

/// The room is full, and nobody's line is longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the waiting room is full")]
pub struct RoomFull;

impl<C, R> Default for WaitingRoom<C, R> {
    fn default() -> Self {
        Self { lines: HashMap::default(), turns: VecDeque::new(), lengths: BTreeSet::new(), len: 0 }
    }
}

impl<C: Copy + Ord + Hash, R: Copy + Eq> WaitingRoom<C, R> {
    /// How many requests wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A request joins its client's line, in a room for `len_max`. Returns whose last request had to go for it.
    ///
    /// # Errors
    /// [`RoomFull`] if the room is full and no line would still be longer than this client's.
    pub fn enter(&mut self, client: C, request: R, len_max: usize) -> Result<Option<R>, RoomFull> {
        let evicted = match self.len >= len_max {
            true => Some(self.evict(self.line_len(client))?),
            false => None,
        };
        let line = self.lines.entry(client).or_default();
        self.lengths.remove(&(line.len(), client));
        if line.is_empty() {
            self.turns.push_back(client);
        }
        line.push_back(request);
        self.lengths.insert((line.len(), client));
        self.len = self.len.saturating_add(1);
        Ok(evicted)
    }

    /// The request whose turn it is, after so many clients that cannot use theirs now.
    #[must_use]
    pub fn next(&self, passed: usize) -> Option<R> {
        let client = self.turns.get(passed)?;
        self.lines.get(client)?.front().copied()
    }

    /// That request goes, and its client's next turn comes after everybody else's. Whoever was passed keeps the turn.
    pub fn take_turn(&mut self, passed: usize) -> Option<R> {
        let client = self.turns.remove(passed)?;
        let line = self.lines.get_mut(&client)?;
        self.lengths.remove(&(line.len(), client));
        let request = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&client);
        } else {
            self.lengths.insert((line.len(), client));
            self.turns.push_back(client);
        }
        self.len = self.len.saturating_sub(1);
        request
    }

    /// A request waits no more. Returns whether it did. Costs time in proportion to the room.
    pub fn leave(&mut self, client: C, request: R) -> bool {
        let Some(line) = self.lines.get_mut(&client) else { return false };
        let Some(place) = line.iter().position(|waiting| *waiting == request) else { return false };
        self.lengths.remove(&(line.len(), client));
        line.remove(place);
        self.settle(client);
        true
    }

    fn line_len(&self, client: C) -> usize {
        self.lines.get(&client).map_or(0, VecDeque::len)
    }

    /// The last of the longest line goes, if that stays at least as long as one that is now `shorter` and grows by one.
    fn evict(&mut self, shorter: usize) -> Result<R, RoomFull> {
        let (longest, client) = self.lengths.last().copied().ok_or(RoomFull)?;
        if longest <= shorter.saturating_add(1) {
            return Err(RoomFull);
        }
        self.lengths.remove(&(longest, client));
        let evicted = self.lines.get_mut(&client).and_then(VecDeque::pop_back).ok_or(RoomFull)?;
        self.settle(client);
        Ok(evicted)
    }

    /// Counts a line that lost a request and whose length is not noted.
    fn settle(&mut self, client: C) {
        self.len = self.len.saturating_sub(1);
        match self.line_len(client) {
            0 => {
                self.lines.remove(&client);
                self.turns.retain(|waiting| *waiting != client);
            }
            len => {
                self.lengths.insert((len, client));
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "test inputs are small")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clients_take_turns_whatever_they_bring() {
        let mut room = WaitingRoom::default();
        for (client, request) in [('a', 1), ('a', 2), ('a', 3), ('b', 4), ('c', 5), ('b', 6)] {
            assert_eq!(room.enter(client, request, 6), Ok(None));
        }
        let order: Vec<_> = std::iter::from_fn(|| room.take_turn(0)).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
        assert!(room.is_empty());
    }

    #[test]
    fn the_longest_line_makes_room_for_others_and_not_for_itself() {
        let mut room = WaitingRoom::default();
        (1..=4).for_each(|request| assert_eq!(room.enter('a', request, 4), Ok(None)));
        assert_eq!(room.enter('a', 5, 4), Err(RoomFull));
        assert_eq!(room.enter('b', 6, 4), Ok(Some(4)));
        assert_eq!(room.enter('b', 7, 4), Ok(Some(3)));
        assert_eq!(room.enter('b', 8, 4), Err(RoomFull), "the lines are equal");
        assert_eq!(room.enter('c', 9, 4), Ok(Some(7)), "of equally long lines one has to be the longest");
        assert_eq!(room.len(), 4);
    }

    #[test]
    fn a_client_that_cannot_use_its_turn_keeps_it() {
        let mut room = WaitingRoom::default();
        for (client, request) in [('a', 1), ('b', 2), ('c', 3), ('b', 4)] {
            room.enter(client, request, 9).unwrap();
        }
        assert_eq!((room.next(1), room.take_turn(1)), (Some(2), Some(2)));
        assert_eq!(room.take_turn(3), None);
        let order: Vec<_> = std::iter::from_fn(|| room.take_turn(0)).collect();
        assert_eq!(order, [1, 3, 4]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(u8),
        Take(usize),
        Leave(u8, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..5_u8).prop_map(Step::Enter),
            4 => (0..3_usize).prop_map(Step::Take),
            2 => (0..5_u8, 0..9_usize).prop_map(|(client, place)| Step::Leave(client, place)),
        ]
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_the_bound_holds(steps in prop::collection::vec(step(), 0..120)) {
            const LEN_MAX: usize = 7;
            let (mut room, mut lines) = (WaitingRoom::default(), BTreeMap::<u8, Vec<usize>>::new());
            for (request, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Enter(client) => match room.enter(client, request, LEN_MAX) {
                        Ok(evicted) => {
                            if let Some(evicted) = evicted {
                                let own = lines.get(&client).map_or(0, Vec::len);
                                let longest = lines.values().map(Vec::len).max().unwrap();
                                let line = lines.values_mut().find(|line| line.last() == Some(&evicted)).unwrap();
                                prop_assert!(line.len() == longest && longest > own + 1);
                                line.pop();
                            }
                            lines.entry(client).or_default().push(request);
                        }
                        Err(RoomFull) => prop_assert_eq!(room.len(), LEN_MAX),
                    },
                    Step::Take(passed) => {
                        prop_assert_eq!(room.next(passed), room.clone().take_turn(passed));
                        if let Some(taken) = room.take_turn(passed) {
                            let line = lines.values_mut().find(|line| line.first() == Some(&taken)).unwrap();
                            line.remove(0);
                        }
                    }
                    Step::Leave(client, place) => {
                        let line = lines.entry(client).or_default();
                        let leaving = line.get(place).copied().unwrap_or(usize::MAX);
                        prop_assert_eq!(room.leave(client, leaving), place < line.len());
                        line.retain(|waiting| *waiting != leaving);
                    }
                }
                lines.retain(|_, line| !line.is_empty());
                prop_assert_eq!(room.len(), lines.values().map(Vec::len).sum::<usize>());
                prop_assert_eq!((room.turns.len(), room.lengths.len()), (lines.len(), lines.len()));
                prop_assert!(room.len() <= LEN_MAX);
                // Whatever happened, everybody who waits comes to a turn within one round.
                let mut rest = room.clone();
                let round: BTreeSet<_> = (0..lines.len()).filter_map(|_| rest.take_turn(0)).collect();
                prop_assert!(lines.values().all(|line| round.contains(&line[0])));
            }
        }
    }
}
