//! The market's own source of numbers, seeded by whoever owns the market.

/// A small, well mixed generator (splitmix64): the same numbers for the same seed on every machine. Its outputs decide
/// ties and balance trees and never leave the crate.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `count`, each about equally likely; `None` when there is none.
    pub(crate) fn below(&mut self, count: usize) -> Option<usize> {
        if count == 0 {
            return None;
        }
        let scaled = u128::from(self.next()).saturating_mul(count as u128) >> 64;
        usize::try_from(scaled).ok()
    }
}

/// Spreads nearby numbers over the whole range.
pub(crate) const fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
