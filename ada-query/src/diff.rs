//! What changed between two sessions, function by function.
//!
//! Functions are the same if they have the same name and their modules the same file name: ids differ between builds.
//! Whether durations changed is decided by the Mann-Whitney U test on the two distributions, in its normal approximation
//! with correction for ties, at a level of 1 % for all functions together (Bonferroni). Consecutive calls resemble each
//! other, so that among very many calls any difference passes such a test: a change must also be large enough, see
//! [`LEAST_EFFECT`] and [`LEAST_SHIFT`]. Invariant: swapping the sessions swaps faster and slower, and nothing else.

use std::collections::HashMap;

use crate::functions::Functions;
use crate::latency::Latency;
use crate::stats::{FunctionStats, Report};

/// The level of the test, for all functions together.
pub const LEVEL: f64 = 0.01;
/// Calls that each side must have for a test.
pub const LEAST_CALLS: u64 = 20;
/// A change must make a random call of one session longer than a random one of the other with a probability that is at
/// least this far from one half.
pub const LEAST_EFFECT: f64 = 0.06;
/// And it must shift the mean or the median by at least this share.
pub const LEAST_SHIFT: f64 = 0.03;

/// What is to be said of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its calls take longer in the second session.
    Slower,
    /// Its calls take less time in the second session.
    Faster,
    /// There is no difference, or none beyond noise.
    Same,
    /// It was called in the second session only.
    New,
    /// It was called in the first session only.
    Gone,
    /// There are too few calls with a known duration to tell.
    Unknown,
}

impl Verdict {
    /// Its name in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::Same => "same",
            Self::New => "new",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        }
    }
}

/// A function in two sessions.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its name, as in the symbol table.
    pub name: String,
    /// Its name for people.
    pub readable: String,
    /// The file name of its module.
    pub module: Option<String>,
    /// In the first session.
    pub before: FunctionStats,
    /// In the second session.
    pub after: FunctionStats,
    /// Whether its calls take longer.
    pub verdict: Verdict,
    /// The probability that a random call of the second session is longer than one of the first, ties counted half.
    pub effect: Option<f64>,
    /// The probability of at least such a difference by chance alone, for independent calls.
    pub p_value: Option<f64>,
}

impl Change {
    /// The change of the mean, as a share of the first session's.
    #[must_use]
    pub fn mean_shift(&self) -> Option<f64> {
        let (before, after) = (self.before.latency.mean()?, self.after.latency.mean()?);
        (before > 0.0).then(|| after / before - 1.0)
    }

    /// How much more time was spent in the function itself, in nanoseconds.
    #[must_use]
    pub fn self_change_ns(&self) -> i128 {
        i128::from(self.after.self_ns) - i128::from(self.before.self_ns)
    }
}

/// Compares two reports of whole sessions, each with the functions it is about.
#[must_use]
pub fn diff(before: (&Report, &Functions), after: (&Report, &Functions)) -> Vec<Change> {
    let mut changes: HashMap<Key, Change> = HashMap::new();
    for (side, (report, functions)) in [before, after].into_iter().enumerate() {
        for row in &report.rows {
            let about = functions.about(row.function);
            let name = about.name.map_or_else(|| about.to_string(), str::to_owned);
            let module = about.module_name().map(str::to_owned);
            let change = changes.entry((name, module)).or_insert_with_key(|(name, module)| Change {
                name: name.clone(),
                readable: about.to_string(),
                module: module.clone(),
                before: FunctionStats::default(),
                after: FunctionStats::default(),
                verdict: Verdict::Unknown,
                effect: None,
                p_value: None,
            });
            let into = if side == 0 { &mut change.before } else { &mut change.after };
            into.merge(&row.stats);
        }
    }
    let mut changes: Vec<Change> = changes.into_values().collect();
    let tests = changes.iter().filter(|change| can_be_tested(change)).count().max(1);
    changes.iter_mut().for_each(|change| judge(change, LEVEL / tests as f64));
    changes
        .sort_by_cached_key(|change| (std::cmp::Reverse(change.self_change_ns().unsigned_abs()), change.name.clone()));
    changes
}

/// Name and module.
type Key = (String, Option<String>);

fn can_be_tested(change: &Change) -> bool {
    change.before.latency.count().min(change.after.latency.count()) >= LEAST_CALLS
}

fn judge(change: &mut Change, level: f64) {
    change.verdict = match (change.before.calls, change.after.calls) {
        (0, _) => Verdict::New,
        (_, 0) => Verdict::Gone,
        _ if !can_be_tested(change) => Verdict::Unknown,
        _ => {
            let (effect, p_value) = mann_whitney(&change.before.latency, &change.after.latency);
            (change.effect, change.p_value) = (Some(effect), Some(p_value));
            let large = (effect - 0.5).abs() >= LEAST_EFFECT && shift(change) >= LEAST_SHIFT;
            match effect > 0.5 {
                _ if p_value >= level || !large => Verdict::Same,
                true => Verdict::Slower,
                false => Verdict::Faster,
            }
        }
    };
}

/// The greater shift of mean and median, as a share that is the same in both directions.
fn shift(change: &Change) -> f64 {
    let ratio = |before: f64, after: f64| (before.max(after).max(1.0) / before.min(after).max(1.0)) - 1.0;
    let (before, after) = (&change.before.latency, &change.after.latency);
    let mean = before.mean().zip(after.mean()).map_or(0.0, |(before, after)| ratio(before, after));
    let median = before.quantile(0.5).zip(after.quantile(0.5));
    mean.max(median.map_or(0.0, |(before, after)| ratio(before as f64, after as f64)))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn latency(values: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::default();
        values.into_iter().for_each(|value| latency.add(value));
        latency
    }

    #[test]
    fn the_normal_tail() {
        for (z, p) in [(0.0, 1.0), (1.0, 0.317_310_5), (1.959_964, 0.05), (2.575_829, 0.01)] {
            assert!((two_sided(z) - p).abs() < 1e-6, "{z}");
        }
    }

    #[test]
    fn noise_is_no_change_and_a_shift_is_one() {
        let stats = |values: Vec<u64>| FunctionStats {
            calls: values.len() as u64,
            latency: latency(values),
            ..FunctionStats::default()
        };
        let verdict = |before: Vec<u64>, after: Vec<u64>| {
            let mut change = Change {
                name: String::new(),
                readable: String::new(),
                module: None,
                before: stats(before),
                after: stats(after),
                verdict: Verdict::Unknown,
                effect: None,
                p_value: None,
            };
            judge(&mut change, LEVEL);
            change.verdict
        };
        let spread = |base: u64, count: u64| (0..count).map(|n| base + n * 7919 % 400).collect::<Vec<_>>();
        assert_eq!(verdict(spread(1000, 500), spread(1000, 700)), Verdict::Same);
        assert_eq!(verdict(spread(1000, 500), spread(1200, 500)), Verdict::Slower);
        assert_eq!(verdict(spread(1200, 500), spread(1000, 500)), Verdict::Faster);
        // Significant, but too little to matter.
        assert_eq!(verdict(spread(100_000, 100_000), spread(100_050, 100_000)), Verdict::Same);
        assert_eq!(verdict(spread(1000, 19), spread(9000, 500)), Verdict::Unknown);
        assert_eq!(verdict(Vec::new(), spread(9000, 500)), Verdict::New);
        assert_eq!(verdict(spread(9000, 500), Vec::new()), Verdict::Gone);
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
            let (effect, p_value) = mann_whitney(&latency(a.iter().copied()), &latency(b.iter().copied()));
            prop_assert!((effect - expected).abs() < 1e-9);
            prop_assert!((0.0..=1.0).contains(&p_value));
            let (turned, same) = mann_whitney(&latency(b), &latency(a));
            prop_assert!((turned - (1.0 - expected)).abs() < 1e-9 && (same - p_value).abs() < 1e-9);
        }
    }
}
