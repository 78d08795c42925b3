//! A distribution of durations in buckets whose width grows with the duration.
//!
//! ```text
//! 0 … 63 ns: one bucket each; from there on 64 buckets for each doubling
//! ```
//!
//! Invariant: a duration that is told differs from the one recorded by less than 1 %; counts and sum are exact.

mod counts;

use self::counts::{Counts, FINE, PER_DOUBLING};

/// A distribution of durations, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    counts: Counts,
    count: u64,
    sum: u128,
    least: u64,
    greatest: u64,
}

impl Latency {
    /// Adds a duration.
    #[inline]
    pub fn add(&mut self, nanoseconds: u64) {
        self.counts.add_one(bucket(nanoseconds));
        self.widen(1, nanoseconds.into(), nanoseconds, nanoseconds);
    }

    /// Adds several durations.
    pub(crate) fn add_all(&mut self, nanoseconds: &[u32]) {
        let all = || nanoseconds.iter().copied().map(u64::from);
        if let (Some(least), Some(greatest)) = (all().min(), all().max()) {
            all().for_each(|time| self.counts.add_one(bucket(time)));
            self.widen(nanoseconds.len() as u64, all().sum::<u64>().into(), least, greatest);
        }
    }

    /// Adds all durations of another.
    pub fn merge(&mut self, other: &Self) {
        if other.count > 0 {
            other.counts.iter().for_each(|(bucket, count)| self.counts.add(bucket, count));
            self.widen(other.count, other.sum, other.least, other.greatest);
        }
    }

    #[inline]
    fn widen(&mut self, count: u64, sum: u128, least: u64, greatest: u64) {
        self.least = if self.count == 0 { least } else { self.least.min(least) };
        self.greatest = self.greatest.max(greatest);
        self.count += count;
        self.sum += sum;
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All together.
    #[must_use]
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The mean; none without durations.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The shortest, exact.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.least)
    }

    /// The longest, exact.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.greatest)
    }

    /// The duration that a share of all durations does not exceed; `share` from 0 to 1.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (low, high, count) in self.buckets() {
            seen += count;
            if seen >= rank {
                return Some((low + (high - low) / 2).clamp(self.least, self.greatest));
            }
        }
        None
    }

    /// The buckets that hold something: shortest and longest duration of each, and how many.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.counts.iter().map(|(bucket, count)| (low(bucket), high(bucket), count))
    }
}

#[inline]
fn bucket(nanoseconds: u64) -> usize {
    let doubling = nanoseconds.checked_ilog2().unwrap_or(0).saturating_sub(FINE - 1);
    if doubling == 0 {
        return nanoseconds as usize;
    }
    let within = (nanoseconds >> (doubling - 1)) as usize & (PER_DOUBLING - 1);
    ((doubling as usize) << FINE) + within
}

fn low(bucket: usize) -> u64 {
    let (doubling, within) = (bucket >> FINE, (bucket & (PER_DOUBLING - 1)) as u64);
    if doubling == 0 { within } else { (within | PER_DOUBLING as u64) << (doubling - 1) }
}

fn high(bucket: usize) -> u64 {
    let doubling = bucket >> FINE;
    if doubling == 0 { low(bucket) } else { low(bucket) + ((1 << (doubling - 1)) - 1) }
}

#[cfg(test)]
impl FromIterator<u64> for Latency {
    fn from_iter<I: IntoIterator<Item = u64>>(durations: I) -> Self {
        let mut latency = Self::default();
        durations.into_iter().for_each(|duration| latency.add(duration));
        latency
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_each_other() {
        let mut next = 0_u64;
        for bucket in 0..58 << FINE {
            assert_eq!(low(bucket), next);
            assert_eq!(super::bucket(low(bucket)), bucket);
            assert_eq!(super::bucket(high(bucket)), bucket);
            next = high(bucket) + 1;
        }
        let last = bucket(u64::MAX);
        assert_eq!(high(last), u64::MAX);
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_an_hdr_histogram(values in prop::collection::vec((1_u64..1 << 40, 0_u32..40), 1..400)) {
            let mut hdr = hdrhistogram::Histogram::<u64>::new(3).unwrap();
            let (mut halves, mut all) = ([Latency::default(), Latency::default()], Latency::default());
            for (place, (value, shift)) in values.iter().enumerate() {
                let value = (value >> shift).max(1);
                hdr.record(value).unwrap();
                halves[place % 2].add(value);
            }
            let (short, long): (Vec<u64>, Vec<u64>) =
                values.iter().map(|(value, shift)| (value >> shift).max(1)).partition(|value| *value <= u32::MAX.into());
            let mut together = Latency::default();
            together.add_all(&short.iter().map(|value| *value as u32).collect::<Vec<_>>());
            long.iter().for_each(|value| together.add(*value));
            halves.iter().for_each(|half| all.merge(half));
            prop_assert_eq!(&together, &all);
            prop_assert_eq!(all.count(), hdr.len());
            for share in [0.0, 0.1, 0.5, 0.95, 0.99, 1.0] {
                let (ours, theirs) = (all.quantile(share).unwrap() as f64, hdr.value_at_quantile(share) as f64);
                prop_assert!((ours - theirs).abs() <= theirs * 0.012 + 0.5, "{} {} {}", share, ours, theirs);
            }
            let exact = values.iter().map(|(value, shift)| (value >> shift).max(1));
            prop_assert_eq!(all.max(), exact.clone().max());
            prop_assert_eq!(all.min(), exact.clone().min());
            prop_assert_eq!(all.sum(), exact.map(u128::from).sum());
        }
    }
}
