//! What the events of a stream have in common: nearly everything but their text.

use super::scanner::Position;

/// Longer beginnings and ends are read each time.
const LEN_MAX: usize = 512;

/// The last value that had text: what stood before its first text, and what stood after it. The text itself is not kept.
#[derive(Clone, Default)]
pub(super) struct Repeated {
    /// Up to the opening quote of the text. Nothing in it counts.
    before: Vec<u8>,
    /// Where that leads, from the beginning of a value; `None` if nothing is known.
    inside: Option<Position>,
    /// From behind the closing quote to the end of the value. Nothing in it counts but that end. Empty if unknown.
    after: Vec<u8>,
}

impl Repeated {
    /// The length of the beginning, if `value` has the same, and where it leads.
    pub(super) fn beginning_of(&self, value: &[u8]) -> Option<(usize, Position)> {
        let inside = self.inside.filter(|_| value.starts_with(&self.before))?;
        Some((self.before.len(), inside))
    }

    /// Whether the value that is read now has a known beginning.
    pub(super) const fn is_begun(&self) -> bool {
        self.inside.is_some()
    }

    /// Whether `rest` is the known end of such a value.
    pub(super) fn is_end(&self, rest: &[u8]) -> bool {
        !self.after.is_empty() && self.after == rest
    }

    /// Takes over another beginning and where it led, or forgets all if it cannot be skipped.
    pub(super) fn begins(&mut self, before: &[u8], inside: Position, can_be_skipped: bool) {
        self.after.clear();
        self.before.clear();
        self.inside = (can_be_skipped && before.len() <= LEN_MAX).then_some(inside);
        if self.inside.is_some() {
            self.before.extend_from_slice(before);
        }
    }

    /// Takes over another end, or forgets it if it cannot be skipped.
    pub(super) fn ends(&mut self, after: &[u8], can_be_skipped: bool) {
        self.after.clear();
        if can_be_skipped && after.len() <= LEN_MAX {
            self.after.extend_from_slice(after);
        }
    }
}

/// It holds parts of an answer.
impl std::fmt::Debug for Repeated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repeated").field("is_begun", &self.is_begun()).finish_non_exhaustive()
    }
}
