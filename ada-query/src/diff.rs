//! What changed between two sessions, function by function.
//!
//! Functions are the same if they have the same name and their modules the same file name: ids differ between builds.
//! Whether durations changed is decided by the Mann-Whitney U test on the two distributions, and, for functions of whose
//! calls only a few are long, by comparing how many of either session are among the longest ([`rank`](crate::rank)); at a
//! level of 1 % for all tests together (Bonferroni). Consecutive calls resemble each other, so that among very many calls
//! any difference passes such a test: a change must also be large enough, see [`LEAST_EFFECT`], [`LEAST_SHIFT`],
//! [`LEAST_TAIL`]. Invariant: swapping the sessions swaps faster and slower, and nothing else.

use std::collections::HashMap;

use crate::functions::Functions;
use crate::rank::{Tail, mann_whitney, tails};
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

/// A tail must be that many times as frequent in one session as in the other,
pub const LEAST_TAIL: f64 = 1.5;
/// and the mean must have shifted the same way by at least this share.
pub const LEAST_TAIL_SHIFT: f64 = 0.1;
/// Tests of one function, at most.
const TESTS: usize = 3;

/// What is to be said of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its calls take longer in the second session.
    Slower,
    /// Its calls take less time in the second session.
    Faster,
    /// Most of its calls take as long as before, but there are more or longer long ones: on average they take longer.
    SlowerTail,
    /// Most of its calls take as long as before, but there are fewer or shorter long ones: on average they take less time.
    FasterTail,
    /// Most of its calls changed one way, and the long ones, and with them the mean, the other.
    Mixed,
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
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::SlowerTail => "slower_tail",
            Self::FasterTail => "faster_tail",
            Self::Mixed => "mixed",
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
    /// The longest calls, where those are what has changed.
    pub tail: Option<Tail>,
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
                tail: None,
            });
            let into = if side == 0 { &mut change.before } else { &mut change.after };
            into.merge(&row.stats);
        }
    }
    let mut changes: Vec<Change> = changes.into_values().collect();
    let tests = changes.iter().filter(|change| can_be_tested(change)).count().max(1);
    changes.iter_mut().for_each(|change| judge(change, LEVEL / (tests * TESTS) as f64));
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
            change.tail = changed_tail(change, level);
            let large = (effect - 0.5).abs() >= LEAST_EFFECT && shift(change) >= LEAST_SHIFT;
            let middle = (p_value < level && large).then_some(effect > 0.5);
            match (middle, change.tail.map(|tail| tail.after > tail.before)) {
                (Some(slower), Some(longer)) if slower != longer => Verdict::Mixed,
                (Some(true), _) => Verdict::Slower,
                (Some(false), _) => Verdict::Faster,
                (None, Some(true)) => Verdict::SlowerTail,
                (None, Some(false)) => Verdict::FasterTail,
                (None, None) => Verdict::Same,
            }
        }
    };
}

/// The tail that changed beyond noise, and the mean with it.
fn changed_tail(change: &Change, level: f64) -> Option<Tail> {
    let (before, after) = (change.before.latency.mean()?, change.after.latency.mean()?);
    let shifted = before.max(after) >= before.min(after).max(1.0) * (1.0 + LEAST_TAIL_SHIFT);
    let matters = |tail: &Tail| {
        let large = tail.before.max(tail.after) >= LEAST_TAIL * tail.before.min(tail.after);
        tail.p_value < level && large && shifted && (tail.after > tail.before) == (after > before)
    };
    tails(&change.before.latency, &change.after.latency).find(matters)
}

/// The greater shift of mean and median, as a share that is the same in both directions.
fn shift(change: &Change) -> f64 {
    let ratio = |before: f64, after: f64| (before.max(after).max(1.0) / before.min(after).max(1.0)) - 1.0;
    let (before, after) = (&change.before.latency, &change.after.latency);
    let mean = before.mean().zip(after.mean()).map_or(0.0, |(before, after)| ratio(before, after));
    let median = before.quantile(0.5).zip(after.quantile(0.5));
    mean.max(median.map_or(0.0, |(before, after)| ratio(before as f64, after as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_no_change_and_a_shift_is_one() {
        let stats = |values: Vec<u64>| FunctionStats {
            calls: values.len() as u64,
            latency: values.into_iter().collect(),
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
                tail: None,
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
        // Commits that wait for a disk, and those that have nothing to write.
        let commits =
            |wait: u64| (0..5000).map(|n| if n % 7 == 0 { wait + n } else { 600 + n % 90 }).collect::<Vec<_>>();
        assert_eq!(verdict(commits(1_000_000), commits(20_000)), Verdict::FasterTail);
        assert_eq!(verdict(commits(20_000), commits(1_000_000)), Verdict::SlowerTail);
        let later = commits(20_000).into_iter().map(|time| time + if time < 1000 { 200 } else { 0 }).collect();
        assert_eq!(verdict(commits(1_000_000), later), Verdict::Mixed);
        assert_eq!(verdict(spread(1000, 19), spread(9000, 500)), Verdict::Unknown);
        assert_eq!(verdict(Vec::new(), spread(9000, 500)), Verdict::New);
        assert_eq!(verdict(spread(9000, 500), Vec::new()), Verdict::Gone);
    }
}
