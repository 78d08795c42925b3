//! Spans: a call and what ended it.
//!
//! ```text
//! depth 0  ├───────── f ─────────┤ Return
//! depth 1     ├─ g ─┤  ├─ h ·······  Missed: the next event is outside of h, its return was not seen
//! time     ──────────────────────▶
//! ```
//!
//! Invariant: every call becomes exactly one span, and every event is counted once in [`Accounting`].

mod aside;
mod pairing;

use std::collections::BTreeMap;

use ada_format::manifest::Gap;

pub use self::pairing::Pairing;
use crate::functions::FunctionIndex;
use crate::trace::Thread;

/// What ended a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// Its return.
    Return,
    /// An exception, a panic or a long jump left it, at the time of an event that says so.
    Unwound,
    /// A later event proves it gone, but its return was not recorded: it was left by a long jump, or has no return probe,
    /// or was beyond the kernel's limit of pending returns. It ended at `end_ns` or later.
    Missed,
    /// As [`Missed`](Self::Missed), and events were lost where its return should be.
    Lost,
    /// Its process exited.
    Exit,
    /// A signal killed its process.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The recording ended; or, in a session that is being recorded, what is written so far does.
    Recording,
    /// The end of the time range that was asked for.
    Range,
}

impl End {
    /// Whether the span's end is known exactly.
    #[must_use]
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Return | Self::Unwound)
    }

    /// Whether the span was running when its thread's events ended.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Exit | Self::Killed { .. } | Self::Recording | Self::Range)
    }

    /// Its name in outputs for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Return => "return",
            Self::Unwound => "unwound",
            Self::Missed => "missed",
            Self::Lost => "lost",
            Self::Exit => "exit",
            Self::Killed { .. } => "killed",
            Self::Recording => "recording",
            Self::Range => "range",
        }
    }
}

/// Where an event is: a folder's ordinal, and the position in its index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The ordinal.
    pub part: u32,
    /// The position.
    pub position: u32,
}

/// A call that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The function.
    pub function: FunctionIndex,
    /// When, in nanoseconds of the clock; if that was before the time range, the range's start.
    pub start_ns: u64,
    /// Selected calls around it.
    pub depth: u32,
    /// Its number among the thread's calls.
    pub number: u64,
    /// The number of the selected call around it.
    pub parent: Option<u64>,
    /// Its event.
    pub call: Place,
    /// The position of its registers in the part's detail file.
    pub detail: Option<u32>,
}

/// A call that has ended, or of which no more is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The function.
    pub function: FunctionIndex,
    /// When it was called, in nanoseconds of the clock; if that was before the time range, the range's start.
    pub start_ns: u64,
    /// Whether it is shorter than the selection asks for: only of calls that are [`gone`](Visitor::gone) and may be
    /// [`dropped`](Visitor::dropped).
    pub too_short: bool,
    /// When it ended; see [`End`] for how well that is known.
    pub end_ns: u64,
    /// Time in selected calls right below it.
    pub children_ns: u64,
    /// What ended it.
    pub end: End,
    /// Selected calls around it.
    pub depth: u32,
    /// Its number among the thread's calls.
    pub number: u64,
    /// The number of the selected call around it.
    pub parent: Option<u64>,
    /// Whether no call of the same function is around it.
    pub outermost: bool,
    /// Whether it began before the time range.
    pub cut: bool,
    /// Whether events were lost while it ran: its end may belong to another call of the same function.
    pub over_loss: bool,
    /// The event of its call.
    pub call: Place,
    /// The event that ended it, if it is one of its own.
    pub ret: Option<Place>,
    /// The position of the return's registers in the part's detail file.
    pub ret_detail: Option<u32>,
}

impl Span {
    /// Its time, in nanoseconds.
    #[must_use]
    #[inline]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Its time without that of selected calls below it, in nanoseconds.
    #[must_use]
    #[inline]
    pub fn self_ns(&self) -> u64 {
        self.duration_ns().saturating_sub(self.children_ns)
    }

    /// Whether both ends are its own and known, so that its duration may stand among others.
    #[must_use]
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.end.is_exact() && !self.cut && !self.over_loss
    }
}

/// An event that belongs to no span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it is.
    pub kind: MarkKind,
    /// When, in nanoseconds of the clock.
    pub time_ns: u64,
    /// The function that it names.
    pub function: FunctionIndex,
    /// The event.
    pub place: Place,
    /// The position of its registers in the part's detail file.
    pub detail: Option<u32>,
}

/// What a [`Mark`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// A signal was delivered.
    Signal,
    /// A return whose call is not known: it was lost, was cut off, or happened before the recording.
    UnmatchedReturn,
    /// An event of a kind that this version does not know.
    Unknown,
}

/// Takes spans. All of a thread's come one after the other, between [`thread`](Self::thread) and
/// [`thread_end`](Self::thread_end).
///
/// A call is entered once and left once, outermost first entered. Where a thread has several stacks, calls that are not in each
/// other may overlap: goroutines take turns. Except that calls that turn out shorter than the
/// selection's minimum are [`dropped`](Self::dropped) instead of left. Spans are left in the order in which their end
/// becomes known, which for [`End::Missed`] may be up to 256 calls later.
pub trait Visitor {
    /// What it wants to keep for each running call.
    type Mark: Copy + Default;

    /// A thread begins.
    fn thread(&mut self, _thread: &Thread) {}

    /// A call begins. `parent` is what was kept for the selected call around it.
    fn enter(&mut self, _call: &Call, _parent: Option<Self::Mark>) -> Self::Mark {
        Self::Mark::default()
    }

    /// A call has ended.
    fn exit(&mut self, span: &Span, mark: Self::Mark);

    /// A call looks as if it had ended without a return, as [`End::Missed`] or [`End::Lost`]. Told at once; its exit, or that
    /// it is dropped, is told later, and it may yet turn out to have returned.
    fn gone(&mut self, _span: &Span, _mark: Self::Mark) {}

    /// A call that was entered turned out too short for the selection.
    fn dropped(&mut self, _mark: Self::Mark) {}

    /// Something that is no call.
    fn mark(&mut self, _mark: &Mark) {}

    /// Events are missing here.
    fn gap(&mut self, _gap: &Gap) {}

    /// A thread has ended.
    fn thread_end(&mut self) {}

    /// Whether it is worth going on; asked every few thousand events.
    fn wants_more(&self) -> bool {
        true
    }
}

/// What became of every event. `events` is the sum of `calls`, `returns`, `unwound`, `signals`, `switches` and `unknown`; `spans`,
/// those that the visitor got, is `calls` without `outside`, `unselected` and `too_short`; `open` is what `exited`, `killed`,
/// `running` and `cut_off` come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Events read.
    pub events: u64,
    /// Calls: each is one span.
    pub calls: u64,
    /// Returns: `returned` and `unmatched_returns`.
    pub returns: u64,
    /// Calls that ended with their return.
    pub returned: u64,
    /// Calls that were unwound, by an event that says so.
    pub unwound: u64,
    /// Calls whose return was not seen.
    pub missed: u64,
    /// Calls whose return was lost.
    pub lost: u64,
    /// Calls that were running at the end.
    pub open: u64,
    /// Of these, those whose process exited, by its exit status, if that is known.
    pub exited: BTreeMap<Option<i32>, u64>,
    /// Those whose process was killed, by the signal's number.
    pub killed: BTreeMap<i32, u64>,
    /// Those that were running when the recording ended.
    pub running: u64,
    /// Those that were running when the time range ended.
    pub cut_off: u64,
    /// Returns without a call.
    pub unmatched_returns: u64,
    /// Signals delivered.
    pub signals: u64,
    /// Events that say that the thread went on on another stack.
    pub switches: u64,
    /// Events of a kind that this version does not know.
    pub unknown: u64,
    /// Events that the recorder has lost.
    pub events_lost: u64,
    /// Calls that had ended when the time range began.
    pub outside: u64,
    /// Calls that the selection's functions leave out.
    pub unselected: u64,
    /// Calls shorter than the selection's minimum.
    pub too_short: u64,
    /// Spans handed to the visitor.
    pub spans: u64,
}

impl Accounting {
    /// Adds another's numbers.
    pub fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.events, other.events),
            (&mut self.calls, other.calls),
            (&mut self.returns, other.returns),
            (&mut self.returned, other.returned),
            (&mut self.unwound, other.unwound),
            (&mut self.missed, other.missed),
            (&mut self.lost, other.lost),
            (&mut self.open, other.open),
            (&mut self.running, other.running),
            (&mut self.cut_off, other.cut_off),
            (&mut self.unmatched_returns, other.unmatched_returns),
            (&mut self.signals, other.signals),
            (&mut self.switches, other.switches),
            (&mut self.unknown, other.unknown),
            (&mut self.events_lost, other.events_lost),
            (&mut self.outside, other.outside),
            (&mut self.unselected, other.unselected),
            (&mut self.too_short, other.too_short),
            (&mut self.spans, other.spans),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        other.exited.iter().for_each(|(status, calls)| *self.exited.entry(*status).or_default() += calls);
        other.killed.iter().for_each(|(signal, calls)| *self.killed.entry(*signal).or_default() += calls);
    }

    /// Counts a call that `end` found running, in a process with an exit status.
    pub(crate) fn count_open(&mut self, end: End, status: Option<i32>) {
        self.open += 1;
        match end {
            End::Exit => *self.exited.entry(status).or_default() += 1,
            End::Killed { signal } => *self.killed.entry(signal).or_default() += 1,
            End::Range => self.cut_off += 1,
            _ => self.running += 1,
        }
    }

    /// Whether it adds up: nothing was dropped silently.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let events = self.calls + self.returns + self.unwound + self.signals + self.switches + self.unknown;
        let ends = self.returned + self.unwound + self.missed + self.lost + self.open;
        let open = self.exited.values().sum::<u64>() + self.killed.values().sum::<u64>() + self.running + self.cut_off;
        let spans = self.spans + self.outside + self.unselected + self.too_short;
        self.events == events
            && self.calls == ends
            && self.open == open
            && self.calls == spans
            && self.returns == self.returned + self.unmatched_returns
    }
}
