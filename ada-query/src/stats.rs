//! Statistics by function: of the whole session, of each process or of each thread.
//!
//! Invariant: `calls` counts every selected call; times that are not known are counted as such and never guessed into a
//! distribution.

mod collector;
mod pending;

use self::collector::Collector;
use crate::functions::FunctionIndex;
use crate::latency::Latency;
use crate::run::{Outcome, run_parallel};
use crate::select::Selection;
use crate::span::{End, Span};
use crate::trace::Trace;

/// What functions are told apart by besides their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grouping {
    /// Nothing.
    #[default]
    Session,
    /// Their process.
    Process,
    /// Their thread.
    Thread,
}

/// A process or thread, or the whole session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// The whole session.
    Session,
    /// A process; none if it is not known.
    Process(Option<u32>),
    /// A thread, by its place in [`Trace::threads`].
    Thread(usize),
}

/// What is to be collected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What functions are told apart by.
    pub grouping: Grouping,
    /// Whether to look at the values that functions returned, where detail knows them.
    pub values: bool,
    /// Into how many equal parts of the time to count calls; 0 for none.
    pub rate_buckets: usize,
}

/// What is known of a function's calls. Times are in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct FunctionStats {
    /// Calls.
    pub calls: u64,
    /// Time in its outermost calls: recursion does not count twice.
    pub total_ns: u64,
    /// Time in it without the selected calls below it.
    pub self_ns: u64,
    /// Durations of the calls whose both ends are known.
    pub latency: Latency,
    /// Calls of which only is known that they ended, and after which time at the earliest.
    pub unseen_ends: u64,
    /// Calls that were running at the end.
    pub open: u64,
    /// Calls that were unwound.
    pub unwound: u64,
    /// Calls whose return value is recorded.
    pub values: u64,
    /// Of these, how many returned a negative number.
    pub negative: u64,
    /// Of these, how many returned 0.
    pub null: u64,
    /// Calls that began in each part of the time.
    pub rate: Vec<u32>,
}

impl FunctionStats {
    /// Adds a call.
    fn add(&mut self, span: &Span) {
        self.calls += 1;
        self.self_ns = self.self_ns.saturating_add(span.self_ns());
        if span.outermost {
            self.total_ns = self.total_ns.saturating_add(span.duration_ns());
        }
        if span.is_timed() {
            self.latency.add(span.duration_ns());
        }
        self.unwound += u64::from(span.end == End::Unwound);
        self.unseen_ends += u64::from(matches!(span.end, End::Missed | End::Lost));
        self.open += u64::from(span.end.is_open());
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.self_ns = self.self_ns.saturating_add(other.self_ns);
        self.latency.merge(&other.latency);
        self.unseen_ends += other.unseen_ends;
        self.open += other.open;
        self.unwound += other.unwound;
        self.values += other.values;
        self.negative += other.negative;
        self.null += other.null;
        if self.rate.len() < other.rate.len() {
            self.rate.resize(other.rate.len(), 0);
        }
        for (sum, more) in self.rate.iter_mut().zip(&other.rate) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// Whether its times are known at all: the returns of some functions are not recorded.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.unseen_ends < self.calls
    }
}

/// A function's statistics in a group.
#[derive(Clone, Debug)]
pub struct Row {
    /// The group.
    pub group: Group,
    /// The function.
    pub function: FunctionIndex,
    /// Its statistics.
    pub stats: FunctionStats,
}

/// The statistics of all functions that were called.
#[derive(Debug)]
pub struct Report {
    /// Functions by group and number.
    pub rows: Vec<Row>,
    /// When each part of the time begins that calls were counted in, and the end.
    pub rate_edges_ns: Vec<u64>,
    /// What became of every event, and what could not be read.
    pub outcome: Outcome,
}

/// What rows can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Time in the function and below.
    #[default]
    Total,
    /// Time in the function itself.
    SelfTime,
    /// Number of calls.
    Calls,
    /// Mean duration.
    Mean,
    /// The duration that 99 % of calls do not exceed.
    P99,
    /// The longest duration.
    Max,
}

impl Report {
    /// Reads the selected part of a session, several threads at a time.
    #[must_use]
    pub fn new(trace: &Trace, selection: &Selection, options: Options) -> Self {
        let rate = Rate::new(trace, selection, options.rate_buckets);
        let (collectors, mut outcome) = run_parallel(trace, selection, || Collector::new(trace, options, rate));
        let mut rows = Vec::new();
        for collector in collectors {
            let (tables, mut failed) = collector.finish();
            outcome.failed.append(&mut failed);
            let row = |group| move |(function, stats)| Row { group, function, stats };
            rows.extend(tables.into_iter().flat_map(|(group, called)| called.into_iter().map(row(group))));
        }
        Self { rows: merged(rows), rate_edges_ns: rate.map_or_else(Vec::new, |rate| rate.edges()), outcome }
    }

    /// Sorts the rows, the greatest first; equal ones stay in the order of groups and functions.
    pub fn sort(&mut self, by: Sort) {
        let key = |row: &Row| match by {
            Sort::Total => row.stats.total_ns,
            Sort::SelfTime => row.stats.self_ns,
            Sort::Calls => row.stats.calls,
            Sort::Mean => row.stats.latency.mean().map_or(0, |mean| mean as u64),
            Sort::P99 => row.stats.latency.quantile(0.99).unwrap_or(0),
            Sort::Max => row.stats.latency.max().unwrap_or(0),
        };
        self.rows.sort_by_cached_key(|row| std::cmp::Reverse((key(row), row.stats.calls)));
    }
}

/// The rows in their order, those of the same function and group as one.
fn merged(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| (row.group, row.function));
    rows.dedup_by(|later, kept| {
        let same = (later.group, later.function) == (kept.group, kept.function);
        if same {
            kept.stats.merge(&later.stats);
        }
        same
    });
    rows
}

/// The parts of the time that calls are counted in.
#[derive(Clone, Copy, Debug)]
struct Rate {
    start_ns: u64,
    width_ns: u64,
    buckets: usize,
}

impl Rate {
    fn new(trace: &Trace, selection: &Selection, buckets: usize) -> Option<Self> {
        let (first, last) = trace.time_range().filter(|(first, last)| buckets > 0 && first <= last)?;
        let start_ns = selection.from_ns.unwrap_or(first).clamp(first, last);
        let end_ns = selection.until_ns.map_or(last, |until| until.saturating_sub(1)).clamp(start_ns, last);
        Some(Self { start_ns, width_ns: (end_ns - start_ns) / buckets as u64 + 1, buckets })
    }

    fn bucket(&self, time_ns: u64) -> usize {
        let bucket = time_ns.saturating_sub(self.start_ns) / self.width_ns;
        usize::try_from(bucket).map_or(self.buckets - 1, |bucket| bucket.min(self.buckets - 1))
    }

    fn edges(&self) -> Vec<u64> {
        (0..=self.buckets as u64).map(|edge| self.start_ns.saturating_add(edge * self.width_ns)).collect()
    }
}
