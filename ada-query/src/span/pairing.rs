//! Pairs calls with what ends them, event by event, for one thread.
//!
//! ```text
//! CALL  at depth d   ends all frames at d and deeper, then begins one
//! RETURN f at d      ends the frames above (f, d), then that one; without such a frame: those at d and deeper
//! EXCEPTION f at d   unwinds (f, d); with detail, or without such a frame, it is a signal
//! SWITCH to s        puts all frames aside and takes those of stack s (`parked.rs`)
//! ```
//!
//! Frames that end without a return of their own go aside for a while (`aside.rs`). Invariant: an event that is no switch
//! takes one table look-up and no allocation, and all times are sums of distances between events.

mod parked;
mod rare;

use ada_format::layout::{EventKind, IndexEvent};
use ada_format::manifest::Gap;

use self::parked::Waiting;
use super::aside::{Aside, Kept};
use super::{Accounting, Call, End, Mark, MarkKind, Place, Span, Visitor};
use crate::functions::{FunctionIndex, Functions};
use crate::select::{Compiled, EXCLUDE, INCLUDE};

const CALL: u32 = EventKind::Call.raw();
const RETURN: u32 = EventKind::Return.raw();
const EXCEPTION: u32 = EventKind::Exception.raw();
const SWITCH: u32 = EventKind::Switch.raw();

/// Flags of frames beside [`INCLUDE`] and [`EXCLUDE`].
const OUTERMOST: u8 = 4;
const ENTERED: u8 = 8;
/// What a frame passes on to those above it.
const INHERITED: u8 = INCLUDE | EXCLUDE;

/// What was seen of a function in this thread.
const RETURNED: u8 = 1;
const MISSED: u8 = 2;

const NO_NUMBER: u64 = u64::MAX;

/// A running call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<M> {
    start_ns: u64,
    children_ns: u64,
    pub(super) number: u64,
    parent: u64,
    pub(super) function: FunctionIndex,
    pub(super) depth: u32,
    place: Place,
    shown: u32,
    flags: u8,
    mark: M,
}

impl<M> Frame<M> {
    #[inline]
    fn is_selected(&self) -> bool {
        self.flags & INHERITED == INCLUDE
    }
}

/// How a frame ends.
#[derive(Clone, Copy)]
struct Ending {
    end_ns: u64,
    end: End,
    place: Option<Place>,
    detail: Option<u32>,
}

/// The running calls of one thread.
#[derive(Debug)]
pub struct Pairing<'a, M> {
    functions: &'a Functions,
    selection: &'a Compiled,
    /// Those of the stack that it runs on.
    frames: Vec<Frame<M>>,
    stack: u64,
    /// Those of its other stacks, and whether these may have gone on in another thread.
    waiting: Waiting<M>,
    may_move: bool,
    aside: Aside<M>,
    /// Time in selected calls of this stack that no frame is below.
    root_children_ns: u64,
    /// Running calls of this stack by function.
    running: Vec<u32>,
    /// [`RETURNED`] and [`MISSED`] by function.
    seen: Vec<u8>,
    part: u32,
    /// Whether the next event is the first of its part.
    begins: bool,
    /// The number of the next call.
    next: u64,
    /// Calls with a lower number began before the last gap.
    gap_number: u64,
    /// Gaps so far.
    gaps: u64,
    /// Events are missing between this stack's last one and the next.
    in_gap: bool,
    /// The time of the last event on this stack.
    last_ns: u64,
    /// The time of the last switch.
    switched_ns: u64,
    /// Whether the time range has begun.
    loud: bool,
    counts: Accounting,
    /// With which the thread's process exited.
    exit_status: Option<i32>,
}

impl<'a, M: Copy + Default> Pairing<'a, M> {
    pub(crate) fn new(functions: &'a Functions, selection: &'a Compiled) -> Self {
        Self {
            functions,
            selection,
            frames: Vec::with_capacity(128),
            stack: 0,
            waiting: Waiting::new(),
            may_move: true,
            aside: Aside::new(),
            root_children_ns: 0,
            running: vec![0; functions.known().len()],
            seen: vec![0; functions.known().len()],
            part: 0,
            begins: false,
            next: 0,
            gap_number: 0,
            gaps: 0,
            in_gap: false,
            last_ns: 0,
            switched_ns: 0,
            loud: selection.from_ns == 0,
            counts: Accounting::default(),
            exit_status: None,
        }
    }

    /// The thread's process exited with this status.
    pub(crate) fn exited_with(self, exit_status: Option<i32>) -> Self {
        Self { exit_status, ..self }
    }

    /// Whether there are stacks that wait.
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// No other thread of its process has events: stacks that wait have not gone on there.
    pub(crate) fn is_alone(&mut self) {
        self.may_move = false;
    }

    /// The time of the last event, in nanoseconds of the clock.
    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns.max(self.switched_ns)
    }

    /// What became of the events so far; adds up after [`finish`](Self::finish).
    #[must_use]
    pub fn accounting(&self) -> &Accounting {
        &self.counts
    }

    /// The events that follow are of this part. It says itself if it begins on another stack than the thread's own.
    pub(crate) fn begin_part(&mut self, id: u32) {
        self.part = id;
        self.begins = true;
    }

    /// Events are missing between those before and those that follow.
    pub(crate) fn gap<V: Visitor<Mark = M>>(&mut self, gap: &Gap, visitor: &mut V) {
        self.gap_number = self.next;
        self.gaps += 1;
        self.in_gap = true;
        if gap.time_end_ns >= self.selection.from_ns {
            visitor.gap(gap);
        }
    }

    /// Takes events, the first of which is at `position` of its part. With `LOUD` unset they lie before the time range.
    pub(crate) fn feed<const LOUD: bool, V: Visitor<Mark = M>>(
        &mut self,
        events: &[IndexEvent],
        position: u32,
        visitor: &mut V,
    ) {
        if self.begins && !events.is_empty() {
            self.begins = false;
            self.go_to(0);
        }
        for (event, position) in events.iter().zip(position..) {
            match event.event_kind.get() {
                CALL => self.call::<LOUD, V>(event, position, visitor),
                RETURN => self.ret(event, position, visitor),
                // Not in an arm of its own: calls and returns would pay for it.
                _ if self.other(event, position, visitor) => continue,
                _ => {}
            }
            self.last_ns = event.timestamp_ns.get();
            self.in_gap = false;
        }
        self.counts.events += events.len() as u64;
    }

    #[inline(always)]
    fn call<const LOUD: bool, V: Visitor<Mark = M>>(&mut self, event: &IndexEvent, position: u32, visitor: &mut V) {
        let depth = event.call_depth.get();
        while self.frames.last().is_some_and(|top| top.depth >= depth) {
            self.give_up(visitor);
        }
        self.counts.calls += 1;
        let function = self.functions.index(event.function_id.get());
        let (inherited, parent, shown) = match self.frames.last() {
            Some(top) if top.is_selected() => (top.flags & INHERITED, Some((top.number, top.mark)), top.shown + 1),
            Some(top) => (top.flags & INHERITED, None, 0),
            None => (self.selection.root, None, 0),
        };
        let own = self.selection.flags.get(function as usize).copied().unwrap_or(0);
        let number = self.next;
        self.next += 1;
        let mut frame = Frame {
            start_ns: event.timestamp_ns.get(),
            children_ns: 0,
            number,
            parent: parent.map_or(NO_NUMBER, |(number, _)| number),
            function,
            depth,
            place: Place { part: self.part, position },
            shown,
            flags: inherited | own,
            mark: M::default(),
        };
        if frame.is_selected() {
            if self.start_running(function) {
                frame.flags |= OUTERMOST;
            }
            if LOUD {
                frame.flags |= ENTERED;
                let call = Call {
                    function,
                    start_ns: frame.start_ns,
                    depth: shown,
                    number,
                    parent: parent.map(|(number, _)| number),
                    call: frame.place,
                    detail: event.detail(),
                };
                frame.mark = visitor.enter(&call, parent.map(|(_, mark)| mark));
            }
        }
        self.frames.push(frame);
    }

    #[inline(always)]
    fn ret<V: Visitor<Mark = M>>(&mut self, event: &IndexEvent, position: u32, visitor: &mut V) {
        let (function, depth) = (self.functions.index(event.function_id.get()), event.call_depth.get());
        self.counts.returns += 1;
        let is_top = self.frames.last().is_some_and(|top| top.depth == depth && top.function == function);
        if !is_top && !self.uncover(function, depth, event.timestamp_ns.get(), visitor) {
            self.unmatched(event, position, function, visitor);
            return;
        }
        let place = Some(Place { part: self.part, position });
        let end = Ending { end_ns: event.timestamp_ns.get(), end: End::Return, place, detail: event.detail() };
        self.end_top(end, visitor);
        self.see(function, RETURNED);
    }

    #[cold]
    fn unmatched<V: Visitor<Mark = M>>(
        &mut self,
        event: &IndexEvent,
        position: u32,
        function: FunctionIndex,
        visitor: &mut V,
    ) {
        self.counts.unmatched_returns += 1;
        self.tell(MarkKind::UnmatchedReturn, event, position, function, visitor);
    }

    /// Switches, exceptions, and what this version does not know. Gives back whether it was a switch, which is no event on
    /// either stack.
    #[cold]
    fn other<V: Visitor<Mark = M>>(&mut self, event: &IndexEvent, position: u32, visitor: &mut V) -> bool {
        let is_switch = event.event_kind.get() == SWITCH;
        if is_switch {
            self.switch(event.function_id.get(), event.timestamp_ns.get(), visitor);
        } else {
            self.exception(event, position, visitor);
        }
        is_switch
    }

    fn exception<V: Visitor<Mark = M>>(&mut self, event: &IndexEvent, position: u32, visitor: &mut V) {
        let (function, depth) = (self.functions.index(event.function_id.get()), event.call_depth.get());
        if event.event_kind.get() != EXCEPTION {
            self.counts.unknown += 1;
            self.tell(MarkKind::Unknown, event, position, function, visitor);
            return;
        }
        let is_it = |frame: &Frame<M>| frame.depth == depth && frame.function == function;
        // Of exceptions, only a signal's delivery has detail.
        if event.detail().is_some() || !self.frames.iter().any(is_it) {
            self.counts.signals += 1;
            self.tell(MarkKind::Signal, event, position, function, visitor);
            return;
        }
        while self.frames.last().is_some_and(|top| !is_it(top)) {
            self.give_up(visitor);
        }
        let place = Some(Place { part: self.part, position });
        self.end_top(Ending { end_ns: event.timestamp_ns.get(), end: End::Unwound, place, detail: None }, visitor);
    }

    fn tell<V: Visitor<Mark = M>>(
        &self,
        kind: MarkKind,
        event: &IndexEvent,
        position: u32,
        function: FunctionIndex,
        visitor: &mut V,
    ) {
        let time_ns = event.timestamp_ns.get();
        if time_ns >= self.selection.from_ns {
            let place = Place { part: self.part, position };
            visitor.mark(&Mark { kind, time_ns, function, place, detail: event.detail() });
        }
    }

    /// The topmost frame has ended.
    #[inline(always)]
    fn end_top<V: Visitor<Mark = M>>(&mut self, ending: Ending, visitor: &mut V) {
        if let Some(frame) = self.frames.pop() {
            self.end(&frame, ending, visitor);
        }
    }

    /// A frame has ended that was just taken from the top.
    #[inline(always)]
    fn end<V: Visitor<Mark = M>>(&mut self, frame: &Frame<M>, ending: Ending, visitor: &mut V) {
        if frame.is_selected() {
            self.stop_running(frame.function);
            if !self.is_short(frame, ending.end_ns) {
                self.add_to_children(frame, ending.end_ns);
            }
        }
        self.close(frame, ending, visitor);
    }

    /// The topmost frame has ended without a return, or waits on another stack.
    #[inline]
    fn give_up<V: Visitor<Mark = M>>(&mut self, visitor: &mut V) {
        let Some(frame) = self.frames.pop() else { return };
        let end = if self.in_gap { End::Lost } else { End::Missed };
        let (mut added_ns, end_ns) = (0, self.last_ns);
        let before_ns = *self.children();
        if frame.is_selected() {
            self.stop_running(frame.function);
            if !self.is_short(&frame, end_ns) {
                added_ns = self.add_to_children(&frame, end_ns);
            }
        }
        self.see(frame.function, MISSED);
        let under = self.frames.last().map(|under| under.number);
        self.tell_gone(&frame, Ending { end_ns, end, place: None, detail: None }, visitor);
        if let Some(oldest) =
            self.aside.keep(Kept { frame, stack: self.stack, under, before_ns, added_ns, end_ns, end })
        {
            self.close_kept(&oldest, visitor);
        }
    }

    fn close_kept<V: Visitor<Mark = M>>(&mut self, kept: &Kept<M>, visitor: &mut V) {
        self.close(&kept.frame, Ending { end_ns: kept.end_ns, end: kept.end, place: None, detail: None }, visitor);
    }

    /// Counts a call's end and tells it.
    #[inline(always)]
    fn close<V: Visitor<Mark = M>>(&mut self, frame: &Frame<M>, ending: Ending, visitor: &mut V) {
        match ending.end {
            End::Return => self.counts.returned += 1,
            End::Unwound => self.counts.unwound += 1,
            End::Missed => self.counts.missed += 1,
            End::Lost => self.counts.lost += 1,
            end => self.counts.count_open(end, self.exit_status),
        }
        if !frame.is_selected() {
            self.counts.unselected += 1;
            return;
        }
        if frame.flags & ENTERED == 0 {
            self.counts.outside += 1;
            return;
        }
        if self.is_short(frame, ending.end_ns) {
            self.counts.too_short += 1;
            visitor.dropped(frame.mark);
            return;
        }
        self.counts.spans += 1;
        visitor.exit(&self.span(frame, ending), frame.mark);
    }

    /// What is known of a frame that ends.
    #[inline(always)]
    fn span(&self, frame: &Frame<M>, ending: Ending) -> Span {
        let start_ns = frame.start_ns.max(self.selection.from_ns);
        let end_ns = ending.end_ns.max(start_ns);
        Span {
            function: frame.function,
            start_ns,
            too_short: self.is_short(frame, ending.end_ns),
            end_ns,
            // Stacks that alternate may overlap.
            children_ns: frame.children_ns.min(end_ns - start_ns),
            end: ending.end,
            depth: frame.shown,
            number: frame.number,
            parent: Some(frame.parent).filter(|number| *number != NO_NUMBER),
            outermost: frame.flags & OUTERMOST != 0,
            cut: frame.start_ns < self.selection.from_ns,
            over_loss: frame.number < self.gap_number && ending.end.is_exact(),
            call: frame.place,
            ret: ending.place,
            ret_detail: ending.detail,
        }
    }

    #[inline]
    fn tell_gone<V: Visitor<Mark = M>>(&self, frame: &Frame<M>, ending: Ending, visitor: &mut V) {
        if frame.is_selected() && frame.flags & ENTERED != 0 {
            visitor.gone(&self.span(frame, ending), frame.mark);
        }
    }

    /// Whether a call is too short for the selection; its time is its parent's then.
    #[inline]
    fn is_short(&self, frame: &Frame<M>, end_ns: u64) -> bool {
        end_ns.saturating_sub(frame.start_ns) < self.selection.min_duration_ns
    }

    /// Adds a call's time to the children's time of the topmost frame, as far as it lies in the time range and in that
    /// frame: one that was given back may be older. Returns what was added.
    #[inline]
    fn add_to_children(&mut self, frame: &Frame<M>, end_ns: u64) -> u64 {
        let around_ns = self.frames.last().map_or(0, |top| top.start_ns);
        let start_ns = frame.start_ns.max(self.selection.from_ns).max(around_ns);
        let time_ns = end_ns.saturating_sub(start_ns);
        let children = self.children();
        *children = children.saturating_add(time_ns);
        time_ns
    }

    /// The children's time of the topmost frame.
    #[inline]
    fn children(&mut self) -> &mut u64 {
        match self.frames.last_mut() {
            Some(top) => &mut top.children_ns,
            None => &mut self.root_children_ns,
        }
    }

    /// Whether no other call of the function is running.
    #[inline(always)]
    fn start_running(&mut self, function: FunctionIndex) -> bool {
        if self.running.len() <= function as usize {
            self.make_room(function);
        }
        self.running.get_mut(function as usize).is_some_and(|running| {
            *running += 1;
            *running == 1
        })
    }

    #[inline(always)]
    fn stop_running(&mut self, function: FunctionIndex) {
        if let Some(running) = self.running.get_mut(function as usize) {
            *running = running.saturating_sub(1);
        }
    }

    #[inline(always)]
    fn see(&mut self, function: FunctionIndex, what: u8) {
        if self.seen.len() <= function as usize {
            self.make_room(function);
        }
        if let Some(seen) = self.seen.get_mut(function as usize) {
            *seen |= what;
        }
    }

    #[cold]
    fn make_room(&mut self, function: FunctionIndex) {
        self.running.resize(function as usize + 1, 0);
        self.seen.resize(function as usize + 1, 0);
    }
}
