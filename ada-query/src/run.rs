//! Leads visitors over the threads of a session, one thread after the other or several at a time.
//!
//! Invariant: a thread that cannot be read to its end is named, and what was read of it counts.

use std::sync::atomic::{AtomicUsize, Ordering};

use ada_format::layout::IndexEvent;

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
    pub(crate) fn merge(&mut self, other: Self) {
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
    let mut reader = Reader::new(trace, thread, selection, BLOCK, true);
    while !reader.is_done() {
        if let Err(error) = reader.step(visitor) {
            outcome.failed.push((reader.part(), error));
        }
    }
    reader.add_to(outcome);
}

/// Reads a thread block by block.
#[derive(Debug)]
pub(crate) struct Reader<'a, V: Visitor> {
    trace: &'a Trace,
    thread: &'a Thread,
    selection: &'a Compiled,
    pairing: Pairing<'a, V::Mark>,
    /// The current part, by its place, and what is left of its gaps.
    part: usize,
    gaps: usize,
    blocks: Option<Blocks>,
    block: usize,
    keep_open: bool,
    state: State,
    /// Whether the time range has begun.
    loud: bool,
    /// Whether the rest cannot be read.
    failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begins,
    Reads,
    /// Nothing more is to be read.
    Ends,
    Done,
}

impl<'a, V: Visitor> Reader<'a, V> {
    /// Reads `thread` in blocks of `block` events; its file stays open between them, or not.
    pub(crate) fn new(
        trace: &'a Trace,
        thread: &'a Thread,
        selection: &'a Compiled,
        block: usize,
        keep_open: bool,
    ) -> Self {
        Self {
            trace,
            thread,
            selection,
            pairing: Pairing::new(trace.functions(), selection).exited_with(thread.exit_status),
            part: 0,
            gaps: 0,
            blocks: None,
            block,
            keep_open,
            state: State::Begins,
            loud: selection.from_ns == 0,
            failed: false,
        }
    }

    /// Whether the thread's last span was told.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The ordinal of the folder that is being read.
    pub(crate) fn part(&self) -> u32 {
        self.thread.parts.get(self.part).map_or(self.thread.id, |part| part.id)
    }

    /// Adds what became of the events so far.
    pub(crate) fn add_to(&self, outcome: &mut Outcome) {
        outcome.accounting.merge(self.pairing.accounting());
        outcome.accounting.events_lost += self.thread.lost;
    }

    /// Goes on by one block or less. After an error the thread is at its end, and that is what the next step tells.
    ///
    /// # Errors
    /// [`QueryError`] if the file cannot be read, or is shorter than it was.
    pub(crate) fn step(&mut self, visitor: &mut V) -> Result<(), QueryError> {
        match self.state {
            State::Begins => {
                visitor.thread(self.thread);
                self.state = State::Reads;
            }
            State::Reads => {
                return self.read(visitor).inspect_err(|_| (self.state, self.failed) = (State::Ends, true));
            }
            State::Ends => self.finish(visitor),
            State::Done => {}
        }
        Ok(())
    }

    fn read(&mut self, visitor: &mut V) -> Result<(), QueryError> {
        let Some(part) = self.thread.parts.get(self.part) else {
            self.state = State::Ends;
            return Ok(());
        };
        let mut blocks = self.blocks.take().unwrap_or_else(|| self.open(part));
        while let Some((_, gap)) = part.gaps.get(self.gaps).filter(|(before, _)| *before <= blocks.position()) {
            self.pairing.gap(gap, visitor);
            self.gaps += 1;
        }
        let limit = part.gaps.get(self.gaps).map_or(u64::MAX, |(before, _)| before - blocks.position());
        let position = u32::try_from(blocks.position()).unwrap_or(u32::MAX);
        let events = blocks.next_block(limit)?;
        if events.is_empty() {
            part.gaps.iter().skip(self.gaps).for_each(|(_, gap)| self.pairing.gap(gap, visitor));
            (self.part, self.gaps) = (self.part + 1, 0);
            return Ok(());
        }
        self.block(events, position, visitor);
        self.trace.count_read(events.len() as u64);
        self.blocks = Some(blocks);
        Ok(())
    }

    fn open(&mut self, part: &Part) -> Blocks {
        self.pairing.begin_part(part.id);
        let blocks = Blocks::new(&part.index, part.events, self.block);
        if self.keep_open { blocks } else { blocks.reopening() }
    }

    fn block(&mut self, events: &[IndexEvent], position: u32, visitor: &mut V) {
        let before = |time_ns: u64| events.partition_point(|event| event.timestamp_ns.get() < time_ns);
        let last_ns = events.last().map_or(0, |event| event.timestamp_ns.get());
        let ends = self.selection.has_end && last_ns >= self.selection.until_ns;
        let end = if ends { before(self.selection.until_ns) } else { events.len() };
        let begins = !self.loud && last_ns >= self.selection.from_ns;
        let from = match () {
            () if self.loud => 0,
            () if begins => before(self.selection.from_ns).min(end),
            () => end,
        };
        self.pairing.feed::<false, V>(events.get(..from).unwrap_or_default(), position, visitor);
        if begins {
            self.begin_range(visitor);
        }
        let position = position.saturating_add(u32::try_from(from).unwrap_or_default());
        self.pairing.feed::<true, V>(events.get(from..end).unwrap_or_default(), position, visitor);
        if ends || !visitor.wants_more() {
            self.state = State::Ends;
        }
    }

    fn begin_range(&mut self, visitor: &mut V) {
        self.loud = true;
        self.pairing.begin_range(visitor);
    }

    /// Whether no other thread of its process has events.
    fn is_alone(&self) -> bool {
        let thread = self.thread;
        let is_other = |other: &Thread| other.pid == thread.pid && other.id != thread.id && other.events() > 0;
        !self.trace.threads().iter().any(is_other)
    }

    fn finish(&mut self, visitor: &mut V) {
        if !self.loud && self.thread.end.0 >= self.selection.from_ns {
            self.begin_range(visitor);
        }
        let (end_ns, end) = match () {
            () if self.selection.has_end && self.thread.end.0 >= self.selection.until_ns => {
                (self.selection.until_ns, End::Range)
            }
            () if self.failed => (self.pairing.last_ns(), End::Lost),
            // The visitor has seen enough.
            () if self.part < self.thread.parts.len() => (self.pairing.last_ns(), End::Range),
            () => self.thread.end,
        };
        if self.pairing.waits() && self.is_alone() {
            self.pairing.is_alone();
        }
        self.pairing.finish(end_ns, end, visitor);
        visitor.thread_end();
        self.state = State::Done;
    }
}
