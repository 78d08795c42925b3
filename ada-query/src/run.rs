//! Leads visitors over the threads of a session, one thread after the other or several at a time.
//!
//! Invariant: a thread that cannot be read to its end is named, and what was read of it counts.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::QueryError;
use crate::blocks::{BLOCK, Blocks};
use crate::select::{Compiled, Selection};
use crate::span::{Accounting, End, Pairing, Visitor};
use crate::trace::{Part, Thread, Trace};

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What became of every event.
    pub accounting: Accounting,
    /// Threads that could not be read to their end: the ordinal of the folder, and why.
    pub failed: Vec<(u32, QueryError)>,
}

impl Outcome {
    fn merge(&mut self, other: Self) {
        self.accounting.merge(&other.accounting);
        self.failed.extend(other.failed);
    }
}

/// Leads `visitor` over all selected threads, in the order of their ordinals.
pub fn run<V: Visitor>(trace: &Trace, selection: &Selection, visitor: &mut V) -> Outcome {
    let compiled = selection.compile(trace.functions());
    let mut outcome = Outcome::default();
    for thread in selection.threads(trace) {
        if !visitor.wants_more() {
            break;
        }
        one(trace, thread, &compiled, visitor, &mut outcome);
    }
    outcome
}

/// Leads a visitor for each processor over the selected threads, each over some of them, and returns those visitors. The
/// order of threads is not told beforehand.
pub fn run_parallel<V: Visitor + Send>(
    trace: &Trace,
    selection: &Selection,
    make: impl Fn() -> V + Sync,
) -> (Vec<V>, Outcome) {
    let compiled = selection.compile(trace.functions());
    let mut threads: Vec<&Thread> = selection.threads(trace).collect();
    // The longest first, so that none of them is begun when the others are done.
    threads.sort_by_key(|thread| (std::cmp::Reverse(thread.events()), thread.id));
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut visitor, mut outcome) = (make(), Outcome::default());
        // Relaxed: the counter hands out places and nothing else; the scope's end orders everything.
        while let Some(thread) = threads.get(next.fetch_add(1, Ordering::Relaxed)) {
            one(trace, thread, &compiled, &mut visitor, &mut outcome);
        }
        (visitor, outcome)
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = processors.min(threads.len()).max(1);
    let mut visitors = Vec::with_capacity(workers);
    let mut outcome = Outcome::default();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let own = work();
        let results = std::iter::once(own).chain(others.into_iter().map(|other| match other.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        for (visitor, result) in results {
            visitors.push(visitor);
            outcome.merge(result);
        }
    });
    outcome.failed.sort_by_key(|(id, _)| *id);
    (visitors, outcome)
}

fn one<V: Visitor>(trace: &Trace, thread: &Thread, selection: &Compiled, visitor: &mut V, outcome: &mut Outcome) {
    let mut pairing = Pairing::new(trace.functions(), selection);
    visitor.thread(thread);
    let mut reading = Reading { pairing: &mut pairing, selection, visitor, loud: selection.from_ns == 0, done: false };
    for part in &thread.parts {
        if let Err(error) = reading.part(part) {
            outcome.failed.push((part.id, error));
            break;
        }
        if reading.done {
            break;
        }
    }
    let Reading { loud, done, .. } = reading;
    if !loud && thread.end.0 >= selection.from_ns {
        pairing.begin_range(visitor);
    }
    let (end_ns, end) = match () {
        () if selection.has_end && thread.end.0 >= selection.until_ns => (selection.until_ns, End::Range),
        // The visitor has seen enough.
        () if done => (pairing.last_ns(), End::Range),
        () => thread.end,
    };
    pairing.finish(end_ns, end, visitor);
    visitor.thread_end();
    outcome.accounting.merge(pairing.accounting());
    outcome.accounting.events_lost += thread.lost;
}

/// A thread that is being read.
struct Reading<'p, 'a, V: Visitor> {
    pairing: &'p mut Pairing<'a, V::Mark>,
    selection: &'p Compiled,
    visitor: &'p mut V,
    /// Whether the time range has begun.
    loud: bool,
    /// Whether it has ended, or the visitor has seen enough.
    done: bool,
}

impl<V: Visitor> Reading<'_, '_, V> {
    fn part(&mut self, part: &Part) -> Result<(), QueryError> {
        self.pairing.begin_part(part.id);
        let mut blocks = Blocks::new(&part.index, part.events, BLOCK);
        let mut gaps = part.gaps.iter().peekable();
        loop {
            while let Some((_, gap)) = gaps.next_if(|(before, _)| *before <= blocks.position()) {
                self.pairing.gap(gap, self.visitor);
            }
            let limit = gaps.peek().map_or(u64::MAX, |(before, _)| before - blocks.position());
            let position = u32::try_from(blocks.position()).unwrap_or(u32::MAX);
            let events = blocks.next_block(limit)?;
            if events.is_empty() || self.done {
                break;
            }
            self.block(events, position);
        }
        for (_, gap) in gaps {
            self.pairing.gap(gap, self.visitor);
        }
        Ok(())
    }

    fn block(&mut self, events: &[ada_format::layout::IndexEvent], position: u32) {
        let before = |time_ns: u64| events.partition_point(|event| event.timestamp_ns.get() < time_ns);
        let last_ns = events.last().map_or(0, |event| event.timestamp_ns.get());
        let from =
            if self.loud || last_ns < self.selection.from_ns { events.len() } else { before(self.selection.from_ns) };
        let end = if self.selection.has_end && last_ns >= self.selection.until_ns {
            before(self.selection.until_ns)
        } else {
            events.len()
        };
        if self.loud {
            self.pairing.feed::<true, V>(events.get(..end).unwrap_or_default(), position, self.visitor);
        } else {
            let from = from.min(end);
            self.pairing.feed::<false, V>(events.get(..from).unwrap_or_default(), position, self.visitor);
            if last_ns >= self.selection.from_ns {
                self.loud = true;
                self.pairing.begin_range(self.visitor);
                let position = position + u32::try_from(from).unwrap_or_default();
                self.pairing.feed::<true, V>(events.get(from..end).unwrap_or_default(), position, self.visitor);
            }
        }
        self.done = end < events.len() || !self.visitor.wants_more();
    }
}
