//! Counts of numbered buckets, small while they are small.
//!
//! ```text
//! low    a byte each: one line of the cache for the buckets of a doubling
//! high   the rest, in units of 256, of the few doublings that need it
//! ```
//!
//! Thousands of functions have such counts, and each call changes one of them: what counts is how much memory they are
//! spread over. Invariant: equal counts are equally kept, in whatever order they came about.

/// Buckets for each doubling, as a power of two.
pub(super) const FINE: u32 = 6;
pub(super) const PER_DOUBLING: usize = 1 << FINE;

/// How often each bucket was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    low: Doublings<u8>,
    high: Doublings<u64>,
}

impl Counts {
    /// Counts a bucket once.
    #[inline]
    pub(super) fn add_one(&mut self, bucket: usize) {
        let low = self.low.at(bucket);
        *low = low.wrapping_add(1);
        if *low == 0 {
            self.carry(bucket, 1);
        }
    }

    /// Counts a bucket several times.
    pub(super) fn add(&mut self, bucket: usize, count: u64) {
        let low = self.low.at(bucket);
        let sum = u64::from(*low) + (count & 0xff);
        *low = sum as u8;
        let more = (count >> 8) + (sum >> 8);
        if more > 0 {
            self.carry(bucket, more);
        }
    }

    /// The buckets that were counted, in order, and how often.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.low
            .doublings()
            .flat_map(|(doubling, low)| {
                let high = self.high.get(doubling).unwrap_or(&[0; PER_DOUBLING]);
                let counts = low.iter().zip(high).map(|(&low, &high)| (high << 8) + u64::from(low));
                counts.enumerate().map(move |(within, count)| ((doubling << FINE) + within, count))
            })
            .filter(|(_, count)| *count > 0)
    }

    #[cold]
    fn carry(&mut self, bucket: usize, count: u64) {
        *self.high.at(bucket) += count;
    }
}

/// A number for each bucket. The doublings before the first one that was needed take no room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Doublings<T> {
    first: usize,
    numbers: Vec<[T; PER_DOUBLING]>,
}

impl<T: Copy + Default> Doublings<T> {
    fn get(&self, doubling: usize) -> Option<&[T; PER_DOUBLING]> {
        self.numbers.get(doubling.wrapping_sub(self.first))
    }

    fn doublings(&self) -> impl Iterator<Item = (usize, &[T; PER_DOUBLING])> {
        (self.first..).zip(&self.numbers)
    }

    /// A bucket's number, for which room is made.
    #[inline]
    fn at(&mut self, bucket: usize) -> &mut T {
        let (doubling, within) = (bucket >> FINE, bucket & (PER_DOUBLING - 1));
        // Asked twice, as the borrow of a number that is found would last.
        if doubling.wrapping_sub(self.first) >= self.numbers.len() {
            self.make(doubling);
        }
        #[expect(clippy::indexing_slicing, reason = "the doubling was made, and a doubling has so many")]
        &mut self.numbers[doubling - self.first][within]
    }

    /// Makes room for a doubling that lies before or behind those that there are.
    #[cold]
    fn make(&mut self, doubling: usize) {
        if self.numbers.is_empty() {
            self.first = doubling;
        }
        let before = self.first.saturating_sub(doubling);
        self.numbers.splice(0..0, std::iter::repeat_n([T::default(); PER_DOUBLING], before));
        self.first -= before;
        let length = doubling - self.first + 1;
        if self.numbers.len() < length {
            self.numbers.reserve_exact(length - self.numbers.len());
            self.numbers.resize(length, [T::default(); PER_DOUBLING]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_those_of_a_map(
            adds in prop::collection::vec((0_usize..3000, prop_oneof![Just(1), Just(255), 1..1000_u64, 1..1_u64 << 40]), 0..60),
            again in 0_u32..600,
        ) {
            let (mut counts, mut map) = (Counts::default(), BTreeMap::new());
            for (bucket, count) in &adds {
                counts.add(*bucket, *count);
                *map.entry(*bucket).or_insert(0) += count;
            }
            for (bucket, _) in adds.iter().take(2) {
                (0..again).for_each(|_| counts.add_one(*bucket));
                *map.entry(*bucket).or_insert(0) += u64::from(again);
            }
            prop_assert!(counts.iter().eq(map.iter().map(|(bucket, count)| (*bucket, *count))));
            let mut backwards = Counts::default();
            map.iter().rev().for_each(|(bucket, count)| backwards.add(*bucket, *count));
            prop_assert_eq!(backwards, counts);
        }
    }
}
