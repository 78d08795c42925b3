//! A distribution of durations in buckets whose width grows with the duration.
//!
//! ```text
//! 0 … 63 ns: one bucket each; from there on 64 buckets for each doubling
//! ```
//!
//! Invariant: a duration that is told differs from the one recorded by less than 1 %; counts and sum are exact.

/// Buckets for each doubling, as a power of two.
const FINE: u32 = 6;
const PER_DOUBLING: usize = 1 << FINE;

/// A distribution of durations, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Doublings from the first one that was needed on; the empty ones before take no room.
    doublings: Vec<[u32; PER_DOUBLING]>,
    first: usize,
    /// Counts that a bucket could not hold.
    overflow: Vec<(usize, u64)>,
    count: u64,
    sum: u128,
    least: u64,
    greatest: u64,
}

impl Latency {
    /// Adds a duration.
    #[inline]
    pub fn add(&mut self, nanoseconds: u64) {
        let bucket = bucket(nanoseconds);
        let (doubling, within) = (bucket >> FINE, bucket & (PER_DOUBLING - 1));
        let place = match self.doublings.get_mut(doubling.wrapping_sub(self.first)) {
            Some(place) => place,
            None => self.make(doubling),
        };
        // Always there: `within` is below the length.
        if let Some(place) = place.get_mut(within) {
            match place.checked_add(1) {
                Some(more) => *place = more,
                None => self.spill(bucket),
            }
        }
        self.least = if self.count == 0 { nanoseconds } else { self.least.min(nanoseconds) };
        self.greatest = self.greatest.max(nanoseconds);
        self.count += 1;
        self.sum += u128::from(nanoseconds);
    }

    /// Adds all durations of another.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.raw() {
            self.add_many(bucket, count);
        }
        if other.count > 0 {
            self.least = if self.count == 0 { other.least } else { self.least.min(other.least) };
            self.greatest = self.greatest.max(other.greatest);
        }
        self.count += other.count;
        self.sum += other.sum;
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
        let mut raw: Vec<(usize, u64)> = self.raw().collect();
        raw.sort_unstable();
        raw.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            kept.1 += if same { later.1 } else { 0 };
            same
        });
        raw.into_iter().map(|(bucket, count)| (low(bucket), high(bucket), count))
    }

    fn raw(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let counts = self.doublings.iter().flatten().enumerate();
        let kept = counts.filter(|(_, count)| **count > 0);
        let kept = kept.map(|(place, &count)| ((self.first << FINE) + place, u64::from(count)));
        kept.chain(self.overflow.iter().copied())
    }

    fn add_many(&mut self, bucket: usize, count: u64) {
        let (doubling, within) = (bucket >> FINE, bucket & (PER_DOUBLING - 1));
        let has = doubling.wrapping_sub(self.first) < self.doublings.len();
        let first = self.first;
        let place = if has { self.doublings.get_mut(doubling - first) } else { Some(self.make(doubling)) };
        let Some(place) = place.and_then(|doubling| doubling.get_mut(within)) else { return };
        match u32::try_from(u64::from(*place) + count) {
            Ok(sum) => *place = sum,
            Err(_) => self.overflow.push((bucket, count)),
        }
    }

    #[cold]
    fn spill(&mut self, bucket: usize) {
        match self.overflow.iter_mut().find(|(spilled, _)| *spilled == bucket) {
            Some((_, count)) => *count += 1,
            None => self.overflow.push((bucket, 1)),
        }
    }

    /// Makes room for a doubling that lies before or behind those that there are.
    #[cold]
    fn make(&mut self, doubling: usize) -> &mut [u32; PER_DOUBLING] {
        if self.doublings.is_empty() {
            self.first = doubling;
        }
        if doubling < self.first {
            let missing = self.first - doubling;
            self.doublings.splice(0..0, std::iter::repeat_n([0; PER_DOUBLING], missing));
            self.first = doubling;
        }
        let place = doubling - self.first;
        if self.doublings.len() <= place {
            self.doublings.reserve_exact(place + 1 - self.doublings.len());
            self.doublings.resize(place + 1, [0; PER_DOUBLING]);
        }
        #[expect(clippy::indexing_slicing, reason = "the line above made it")]
        &mut self.doublings[place]
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

    #[test]
    fn counts_beyond_a_bucket_are_kept() {
        let mut latency = Latency::default();
        latency.add(5);
        for _ in 0..3 {
            latency.add_many(5, u64::from(u32::MAX));
        }
        let mut other = Latency::default();
        other.merge(&latency);
        assert_eq!(other.buckets().collect::<Vec<_>>(), [(5, 5, 1 + 3 * u64::from(u32::MAX))]);
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
            halves.iter().for_each(|half| all.merge(half));
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
