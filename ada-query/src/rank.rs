//! Whether two distributions of durations differ by more than chance: in their middle, and in their tails.
//!
//! Both tests look at ranks alone, so that a few calls that waited for a processor decide nothing. They take calls as
//! independent. Invariant: swapping the distributions swaps the answer and keeps its probability.

use crate::latency::Latency;

/// The shares of calls, from the longest on, at which tails are compared.
const TAILS: [f64; 2] = [0.1, 0.01];
/// Calls of each side that have to be expected on either side of a tail's beginning for its test to be one.
const LEAST_EXPECTED: f64 = 5.0;

/// How two distributions differ in their longest calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// Which share of the calls of the first is at least as long as the duration that the tail of both together begins at.
    pub before: f64,
    /// The same of the second.
    pub after: f64,
    /// The probability of at least such a difference by chance alone.
    pub p_value: f64,
}

/// The probability that a random value of `b` is greater than one of `a`, ties counted half; and how probable at least
/// such a distance from one half is if both are of one distribution (two-sided).
#[must_use]
pub fn mann_whitney(a: &Latency, b: &Latency) -> (f64, f64) {
    let (n, m) = (a.count() as f64, b.count() as f64);
    let mut left = a.buckets().peekable();
    let mut right = b.buckets().peekable();
    let (mut below, mut wins, mut ties) = (0.0, 0.0, 0.0);
    loop {
        let next = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(x), None) => x.0,
            (None, Some(y)) => y.0,
            (Some(x), Some(y)) => x.0.min(y.0),
        };
        let here = |bucket: Option<(u64, u64, u64)>| bucket.map_or(0.0, |(.., count)| count as f64);
        let (x, y) = (here(left.next_if(|bucket| bucket.0 == next)), here(right.next_if(|bucket| bucket.0 == next)));
        wins += y * (below + x / 2.0);
        below += x;
        let both = x + y;
        ties += both * (both * both - 1.0);
    }
    if n == 0.0 || m == 0.0 {
        return (0.5, 1.0);
    }
    let effect = wins / (n * m);
    let all = n + m;
    // Variance of U / (n m), corrected for ties.
    let variance = ((all + 1.0) - ties / (all * (all - 1.0).max(1.0))) / (12.0 * n * m);
    if variance <= 0.0 {
        return (effect, 1.0);
    }
    (effect, two_sided((effect - 0.5).abs() / variance.sqrt()))
}

/// The probability that a standard normal variable is at least this far from 0.
///
/// Abramowitz and Stegun, 7.1.26: an error of less than 1.5e-7, which is far below any level in use; 0 from there on.
fn two_sided(z: f64) -> f64 {
    let x = z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let polynomial = series.into_iter().fold(0.0, |sum, factor| (sum + factor) * t);
    (polynomial * (-x * x).exp()).clamp(0.0, 1.0)
}

/// How the tails differ that are the longest 10 % and 1 % of all calls of both: of these, the ones with enough calls for a test.
///
/// The test is that of two proportions, by their common variance.
pub fn tails(a: &Latency, b: &Latency) -> impl Iterator<Item = Tail> {
    TAILS.into_iter().filter_map(|share| tail(a, b, share))
}

fn tail(a: &Latency, b: &Latency, share: f64) -> Option<Tail> {
    let (n, m) = (a.count() as f64, b.count() as f64);
    let begin = tail_begin(a, b, share)?;
    let within = |latency: &Latency| -> u64 {
        latency.buckets().filter(|(low, ..)| *low >= begin).map(|(.., count)| count).sum()
    };
    let (in_a, in_b) = (within(a) as f64, within(b) as f64);
    let both = (in_a + in_b) / (n + m);
    if n.min(m) * both.min(1.0 - both) < LEAST_EXPECTED {
        return None;
    }
    let deviation = (both * (1.0 - both) * (1.0 / n + 1.0 / m)).sqrt();
    let (before, after) = (in_a / n, in_b / m);
    Some(Tail { before, after, p_value: two_sided((before - after).abs() / deviation) })
}

/// The longest duration that at least this share of all calls reaches; whole buckets count.
fn tail_begin(a: &Latency, b: &Latency, share: f64) -> Option<u64> {
    let mut buckets: Vec<_> = a.buckets().chain(b.buckets()).collect();
    buckets.sort_unstable();
    let wanted = (a.count() + b.count()) as f64 * share;
    let mut seen = 0;
    let reached = buckets.into_iter().rev().find(|(.., count)| {
        seen += count;
        seen as f64 >= wanted
    });
    reached.map(|(low, ..)| low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_normal_tail() {
        for (z, p) in [(0.0, 1.0), (1.0, 0.317_310_5), (1.959_964, 0.05), (2.575_829, 0.01)] {
            assert!((two_sided(z) - p).abs() < 1e-6, "{z}");
        }
    }

    #[test]
    fn rare_calls_that_grow_are_seen_in_the_tail_alone() {
        let calls =
            |rare: u64| Latency::from_iter((0..2000).map(move |n| if n % 20 == 0 { rare } else { 100 + n % 7 }));
        let (effect, _) = mann_whitney(&calls(1000), &calls(9000));
        assert!((effect - 0.5).abs() < 0.01);
        let found: Vec<Tail> = tails(&calls(1000), &calls(9000)).collect();
        assert!(found.iter().any(|tail| tail.p_value < 1e-9 && tail.before < tail.after), "{found:?}");
        assert!(tails(&calls(1000), &calls(1000)).all(|tail| tail.p_value > 0.99));
        // One outlier in a thousand is nothing.
        let outlier = Latency::from_iter((0..2000).map(|n| if n == 7 { 1 << 40 } else { 100 + n % 7 }));
        let plain = Latency::from_iter((0..2000).map(|n| 100 + n % 7));
        assert!(tails(&plain, &outlier).all(|tail| tail.p_value > 0.1));
    }

    proptest! {
        #[test]
        fn effects_are_counted_pairs(a in prop::collection::vec(0_u64..60, 1..40), b in prop::collection::vec(0_u64..60, 1..40)) {
            let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
            let wins: f64 = pairs.map(|(x, y)| match x.cmp(y) {
                std::cmp::Ordering::Less => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Greater => 0.0,
            }).sum();
            let expected = wins / (a.len() * b.len()) as f64;
            let (effect, p_value) = mann_whitney(&a.iter().copied().collect(), &b.iter().copied().collect());
            prop_assert!((effect - expected).abs() < 1e-9);
            prop_assert!((0.0..=1.0).contains(&p_value));
            let (turned, same) = mann_whitney(&b.into_iter().collect(), &a.into_iter().collect());
            prop_assert!((turned - (1.0 - expected)).abs() < 1e-9 && (same - p_value).abs() < 1e-9);
        }
    }
}
