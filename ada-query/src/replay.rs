//! What happened, step by step, in the order of time over all threads.
//!
//! ```text
//! thread 0   Enter f   Leaf g       Exit f
//! thread 1        Enter f     Exit f          ──▶ Enter, Enter, Leaf, Exit, Exit
//! ```
//!
//! A call without another one in it is one step. Invariant: a thread holds back the calls that run, what was read of
//! one block, and a bounded number of steps behind a call that may turn out long enough when its stack has its turn again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use ada_format::manifest::Gap;

use crate::functions::FunctionIndex;
use crate::run::{Outcome, Reader};
use crate::select::{Compiled, Selection};
use crate::span::{Call, End, Mark, MarkKind, Place, Span, Visitor};
use crate::switches::Switches;
use crate::trace::Trace;

/// Events of a block: several threads are open at the same time.
const BLOCK: usize = 1024;
/// Threads whose files stay open.
const OPEN_FILES: usize = 200;

/// Steps that wait at the most for a call that looks as if it had ended too early.
const LONGEST: usize = 1 << 16;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// When, in nanoseconds of the clock; of a leaf, when it was called.
    pub time_ns: u64,
    /// The thread's place in [`Trace::threads`].
    pub thread: usize,
    /// What happened.
    pub kind: StepKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepKind {
    /// A call began, with others in it.
    Enter {
        /// The function.
        function: FunctionIndex,
        /// Selected calls around it.
        depth: u32,
        /// Its number among the thread's calls.
        number: u64,
        /// Where its event is.
        call: Place,
        /// The position of its registers in the part's detail file.
        detail: Option<u32>,
    },
    /// A call that has ended; `leaf` if it is told here alone.
    Exit {
        /// The call.
        span: Span,
        /// Whether no other selected call was in it.
        leaf: bool,
        /// The position of the call's registers in the part's detail file, of a leaf.
        detail: Option<u32>,
    },
    /// Something that is no call.
    Mark(Mark),
    /// Events are missing.
    Gap(Gap),
}

/// Goes through the selected part of a session.
#[derive(Debug)]
struct Replay<'a> {
    threads: Vec<Lane<'a>>,
    /// The time of each thread's next step, and its place in `threads`.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    outcome: Outcome,
}

#[derive(Debug)]
struct Lane<'a> {
    reader: Reader<'a, Steps>,
    steps: Steps,
}

impl<'a> Replay<'a> {
    /// `compiled` was made from `selection` for this trace.
    fn with(trace: &'a Trace, selection: &'a Selection, compiled: &'a Compiled) -> Self {
        let count = selection.threads(trace).count();
        let is_waiting = compiled.min_duration_ns > 0;
        let switches = Arc::new(if is_waiting { Switches::find(trace, selection) } else { Switches::default() });
        let lane = |thread| Lane {
            reader: Reader::new(trace, thread, compiled, BLOCK, count <= OPEN_FILES),
            steps: Steps::new(
                trace.threads().iter().position(|other| std::ptr::eq(other, thread)).unwrap_or(usize::MAX),
                compiled.min_duration_ns,
            )
            .with(&switches),
        };
        let mut replay = Self {
            threads: selection.threads(trace).map(lane).collect(),
            next: BinaryHeap::with_capacity(count),
            outcome: Outcome::default(),
        };
        (0..replay.threads.len()).for_each(|place| replay.look_ahead(place));
        replay
    }

    /// Reads a thread until its next step is certain.
    fn look_ahead(&mut self, place: usize) {
        let Some(lane) = self.threads.get_mut(place) else { return };
        while lane.steps.certain().is_none() && !lane.reader.is_done() {
            if let Err(error) = lane.reader.step(&mut lane.steps) {
                self.outcome.failed.push((lane.reader.part(), error));
            }
            if lane.reader.is_done() {
                lane.steps.all = true;
                lane.reader.add_to(&mut self.outcome);
            }
        }
        if let Some(step) = lane.steps.certain() {
            self.next.push(Reverse((step.time_ns, place)));
        }
    }
}

impl Iterator for Replay<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let Reverse((_, place)) = self.next.pop()?;
        let step = self.threads.get_mut(place)?.steps.pop();
        self.look_ahead(place);
        step
    }
}

/// Calls `each` for every step, until it returns `false`.
///
/// # Errors
/// `each`'s.
pub fn replay<E>(
    trace: &Trace,
    selection: &Selection,
    mut each: impl FnMut(&Step) -> Result<bool, E>,
) -> Result<Outcome, E> {
    let compiled = selection.compile(trace.functions());
    let mut replay = Replay::with(trace, selection, &compiled);
    for step in replay.by_ref() {
        if !each(&step)? {
            break;
        }
    }
    Ok(replay.outcome)
}

/// The time of what only a later event makes certain.
const NEVER: u64 = u64::MAX;

/// A step that waits.
#[derive(Clone, Copy, Debug)]
struct Held {
    step: Step,
    /// Calls that may still turn out too short are certain from this time on.
    certain_ns: u64,
}

/// Steps of one thread that are not told yet.
#[derive(Debug)]
pub(crate) struct Steps {
    thread: usize,
    least_ns: u64,
    queue: VecDeque<Held>,
    switches: Arc<Switches>,
    /// Calls in the queue of which it is waited whether they go on: as many are certain at [`NEVER`].
    waiting: usize,
    /// Calls that were taken out of it and may go on all the same, and where their registers are.
    short: HashMap<u64, Option<u32>>,
    /// The time up to which everything is known.
    now_ns: u64,
    /// Whether there are no more events.
    all: bool,
}

impl Steps {
    /// Those of the thread at a place, for calls that take `least_ns` or more.
    pub(crate) fn new(thread: usize, least_ns: u64) -> Self {
        Self {
            thread,
            least_ns,
            queue: VecDeque::new(),
            switches: Arc::default(),
            waiting: 0,
            short: HashMap::new(),
            now_ns: 0,
            all: false,
        }
    }

    /// Waits for calls of functions of which some went on after they looked as if they had ended. Of others such a call is
    /// told when it ends.
    fn with(mut self, switches: &Arc<Switches>) -> Self {
        self.switches = Arc::clone(switches);
        self
    }

    /// The first step, if nothing that follows can change it.
    fn certain(&self) -> Option<Step> {
        let first = self.queue.front()?;
        let is_entry = matches!(first.step.kind, StepKind::Enter { .. });
        // An entry that comes last may become a leaf.
        let certain = self.all || !is_entry || (self.queue.len() > 1 && first.certain_ns <= self.now_ns);
        certain.then_some(first.step)
    }

    /// The first step, if it is to be told while the thread goes on: a call that was the last to begin is not waited for.
    pub(crate) fn due(&self, known_ns: u64, is_idle: bool) -> Option<Step> {
        let waits =
            self.queue.front().filter(|first| is_idle && !self.all && first.certain_ns <= self.now_ns.max(known_ns));
        waits.map(|held| held.step).or_else(|| self.certain())
    }

    /// Takes the first step out.
    pub(crate) fn pop(&mut self) -> Option<Step> {
        self.queue.pop_front().map(|held| held.step)
    }

    /// There are no more events.
    pub(crate) fn end_all(&mut self) {
        self.all = true;
    }

    fn push(&mut self, time_ns: u64, certain_ns: u64, kind: StepKind) {
        self.now_ns = self.now_ns.max(time_ns);
        self.queue.push_back(Held { step: Step { time_ns, thread: self.thread, kind }, certain_ns });
        if self.waiting > 0 && self.queue.len() > LONGEST {
            self.give_up();
        }
    }

    fn end(&mut self, span: &Span) {
        self.now_ns = self.now_ns.max(span.end_ns);
        if !self.short.is_empty()
            && let Some(detail) = self.short.remove(&span.number)
        {
            self.push(span.start_ns, 0, StepKind::Exit { span: *span, leaf: true, detail });
            return;
        }
        if self.waiting > 0 {
            self.set_certain(span.number, 0);
        }
        let last = self.queue.back().map(|held| held.step.kind);
        match last {
            Some(StepKind::Enter { number, detail, .. }) if number == span.number => {
                self.queue.pop_back();
                self.push(span.start_ns, 0, StepKind::Exit { span: *span, leaf: true, detail });
            }
            // What has waited on another stack may have ended long ago.
            _ => self.push(self.now_ns, 0, StepKind::Exit { span: *span, leaf: false, detail: None }),
        }
    }

    /// Where the entry of a call waits.
    fn place_of(&self, wanted: u64) -> Option<usize> {
        let is_it = |held: &Held| matches!(held.step.kind, StepKind::Enter { number, .. } if number == wanted);
        self.queue.iter().rposition(is_it)
    }

    /// Takes out the entry of a call that turned out too short; what was in it was shorter.
    fn take_out(&mut self, number: u64) -> Option<Held> {
        let held = self.queue.remove(self.place_of(number)?)?;
        self.waiting -= usize::from(held.certain_ns == NEVER);
        Some(held)
    }

    fn set_certain(&mut self, number: u64, certain_ns: u64) {
        let place = self.place_of(number);
        if let Some(held) = place.and_then(|place| self.queue.get_mut(place)) {
            self.waiting -= usize::from(held.certain_ns == NEVER);
            held.certain_ns = certain_ns;
            self.waiting += usize::from(certain_ns == NEVER);
        }
    }

    /// Too much waits: from here on these calls are taken for too short.
    fn give_up(&mut self) {
        let waits = |held: &Held| held.certain_ns == NEVER;
        self.short.extend(self.queue.iter().filter(|held| waits(held)).filter_map(entry));
        self.queue.retain(|held| !waits(held));
        self.waiting = 0;
    }
}

/// The number of a call that is entered, and where its registers are.
fn entry(held: &Held) -> Option<(u64, Option<u32>)> {
    if let StepKind::Enter { number, detail, .. } = held.step.kind { Some((number, detail)) } else { None }
}

impl Visitor for Steps {
    type Mark = u64;

    fn enter(&mut self, call: &Call, _parent: Option<u64>) -> u64 {
        let Call { function, depth, number, call: place, detail, .. } = *call;
        let kind = StepKind::Enter { function, depth, number, call: place, detail };
        self.push(call.start_ns, call.start_ns.saturating_add(self.least_ns).min(NEVER - 1), kind);
        number
    }

    fn exit(&mut self, span: &Span, _number: u64) {
        // The others were told when they were gone.
        if !matches!(span.end, End::Missed | End::Lost) {
            self.end(span);
        }
    }

    fn gone(&mut self, span: &Span, number: u64) {
        // What has waited on another stack may be told before it turns out to have ended long ago.
        let is_told = || !self.short.contains_key(&number) && self.place_of(number).is_none();
        if !span.too_short || is_told() {
            self.end(span);
        } else if self.switches.has(span.function) {
            self.set_certain(number, NEVER);
        } else {
            let held = self.take_out(number);
            self.short.extend(held.as_ref().and_then(entry));
        }
    }

    fn dropped(&mut self, number: u64) {
        self.short.remove(&number);
        self.take_out(number);
    }

    fn mark(&mut self, mark: &Mark) {
        // Returns of calls that are not known would fill the lines of a cut recording.
        if mark.kind != MarkKind::UnmatchedReturn {
            self.push(mark.time_ns, 0, StepKind::Mark(*mark));
        }
    }

    fn gap(&mut self, gap: &Gap) {
        // Calls before the gap are not known to have run until then.
        let (time_ns, now_ns) = (gap.time_start_ns.max(self.now_ns), self.now_ns);
        self.push(time_ns, 0, StepKind::Gap(*gap));
        self.now_ns = now_ns;
    }
}
