//! A thread's calls as begins and ends that nest.
//!
//! ```text
//! stack 0   ├──────── a ────────┤            a goroutine, say
//! stack 1        ├──────── b ────────┤       another one, that ran in between
//! ```
//!
//! Calls that overlap without nesting are told apart by a stack's number. Invariant: on each stack the last call begun
//! is the first to end, and times do not fall (if the sink asks for that); every span of the selection begins once and ends once.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use ada_format::manifest::Gap;

use super::ExportError;
use super::values::{Signal, ValueReader, Values};
use crate::select::Selection;
use crate::span::{Call, End, Mark, MarkKind, Span, Visitor};
use crate::switches::Switches;
use crate::trace::{Thread, Trace};

/// A call that begins.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    /// Which of the thread's stacks it is on; 0 unless calls overlap.
    pub(super) stack: u32,
    /// The call.
    pub(super) call: Call,
    /// What it was given.
    pub(super) arguments: Option<Rc<Values>>,
}

/// A call that ends.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// Which of the thread's stacks it is on.
    pub(super) stack: u32,
    /// The call.
    pub(super) span: Span,
    /// What it was given.
    pub(super) arguments: Option<Rc<Values>>,
    /// What it gave back.
    pub(super) returned: Option<Values>,
}

/// Takes begins and ends; threads come one after the other.
pub(super) trait Sink {
    /// Whether it wants arguments and return values.
    const VALUES: bool;
    /// Whether ends have to nest and come in the order of time, even if a call has to end where it only looked as if.
    const NESTS: bool;

    /// A thread begins.
    fn thread(&mut self, thread: &Thread) -> Result<(), ExportError>;

    /// A call begins.
    fn begin(&mut self, _begin: &Begin) -> Result<(), ExportError> {
        Ok(())
    }

    /// A call ends.
    fn end(&mut self, ended: &Ended) -> Result<(), ExportError>;

    /// Something that is no call.
    fn mark(&mut self, _mark: &Mark, _signal: Option<&Signal>) -> Result<(), ExportError> {
        Ok(())
    }

    /// Events are missing.
    fn gap(&mut self, _gap: &Gap) -> Result<(), ExportError> {
        Ok(())
    }

    /// The thread has ended.
    fn thread_end(&mut self) -> Result<(), ExportError> {
        Ok(())
    }
}

/// Leads a [`Sink`].
#[derive(Debug)]
pub(super) struct Nest<'a, S> {
    pub(super) sink: S,
    switches: &'a Switches,
    pub(super) values: ValueReader<'a>,
    stacks: Vec<Stack>,
    /// Calls that are on no stack any more, but whose end is told when it is certain.
    aside: HashMap<u64, Open>,
    /// By stack: what waits for a call before it that may still turn out too short.
    queues: Vec<VecDeque<Held>>,
    /// Whether the thread has ended.
    is_over: bool,
    least_ns: u64,
    /// Calls whose end was told before they ended, with that of what was taken for their caller.
    pub(super) cut_short: u64,
    pub(super) error: Option<ExportError>,
}

/// A stack: its running calls, and the time of what was told last.
#[derive(Debug, Default)]
struct Stack {
    open: Vec<Open>,
    last_ns: u64,
}

/// A call that has begun.
#[derive(Debug)]
struct Open {
    call: Call,
    /// It looks as if it had ended, like this.
    gone: Option<Span>,
    arguments: Option<Rc<Values>>,
}

#[derive(Debug)]
enum Held {
    /// And from when on it is certain.
    Begin(Begin, u64),
    End(Ended),
    Mark(Mark, Option<Signal>),
    Gap(Gap),
}

impl Held {
    fn stack(&self) -> u32 {
        match self {
            Self::Begin(begin, _) => begin.stack,
            Self::End(ended) => ended.stack,
            Self::Mark(..) | Self::Gap(_) => 0,
        }
    }

    fn begins(&self, number: u64) -> bool {
        matches!(self, Self::Begin(begin, _) if begin.call.number == number)
    }
}

impl<'a, S: Sink> Nest<'a, S> {
    /// For spans of `selection`.
    pub(super) fn new(trace: &'a Trace, selection: &Selection, switches: &'a Switches, sink: S) -> Self {
        Self {
            sink,
            switches,
            values: ValueReader::new(trace.functions(), &trace.manifest().arch),
            stacks: Vec::new(),
            aside: HashMap::new(),
            queues: Vec::new(),
            is_over: false,
            least_ns: selection.min_duration_ns,
            cut_short: 0,
            error: None,
        }
    }

    /// The stack for a call: its caller's, if that is on top there, or an empty one. What began before the time range and
    /// goes on in it is told late; it needs one of which nothing later was told.
    fn stack_for(&mut self, start_ns: u64, parent: Option<(u64, u32)>) -> u32 {
        if let Some((number, place)) = parent
            && let Some(stack) = self.stacks.get_mut(place as usize)
            && let Some(top) = stack.open.last_mut().filter(|top| top.call.number == number)
            && stack.last_ns <= start_ns
        {
            // It runs, whatever it looked like.
            top.gone = None;
            return place;
        }
        let is_free = |stack: &Stack| stack.open.is_empty() && stack.last_ns <= start_ns;
        let place = self.stacks.iter().position(is_free).unwrap_or_else(|| {
            self.stacks.push(Stack::default());
            self.stacks.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// Ends a call, unless that was told before. What is above it ends before it, even if it goes on elsewhere.
    /// Gives back whether it was not told before.
    fn close(&mut self, stack: u32, span: &Span, returned: Option<Values>) -> bool {
        let Some(own) = self.take(stack, span) else { return false };
        self.end(stack, *span, own.arguments, returned);
        true
    }

    fn end(&mut self, stack: u32, mut span: Span, arguments: Option<Rc<Values>>, returned: Option<Values>) {
        if let Some(stack) = self.stacks.get_mut(stack as usize) {
            if S::NESTS {
                span.end_ns = span.end_ns.max(stack.last_ns);
            }
            stack.last_ns = stack.last_ns.max(span.end_ns);
        }
        self.tell(Held::End(Ended { stack, span, arguments, returned }));
    }

    /// Takes a call off its stack, with what is above it; none if its end was told.
    fn take(&mut self, stack: u32, span: &Span) -> Option<Open> {
        if !self.aside.is_empty()
            && let Some(own) = self.aside.remove(&span.number)
        {
            return Some(own);
        }
        let open = &mut self.stacks.get_mut(stack as usize)?.open;
        let place = place_of(open, span.number)?;
        let above: Vec<Open> = open.drain(place + 1..).collect();
        let own = open.pop();
        for inner in above.into_iter().rev() {
            match inner.gone {
                _ if !S::NESTS => drop(self.aside.insert(inner.call.number, inner)),
                Some(gone) if gone.too_short => self.forget(stack, inner.call.number),
                Some(gone) => self.end(stack, gone, inner.arguments, None),
                None => self.end(stack, cut_short(&inner.call, span.end_ns), inner.arguments, None),
            }
        }
        own
    }

    /// Takes back a call that turned out too short; what was in it was shorter.
    fn take_out(&mut self, stack: u32, number: u64) {
        self.aside.remove(&number);
        if let Some(Stack { open, .. }) = self.stacks.get_mut(stack as usize)
            && let Some(place) = place_of(open, number)
        {
            open.remove(place);
        }
        self.forget(stack, number);
    }

    /// A call is not to begin.
    fn forget(&mut self, stack: u32, number: u64) {
        let Some(queue) = self.queues.get_mut(stack as usize) else { return };
        if let Some(place) = queue.iter().rposition(|held| held.begins(number)) {
            queue.remove(place);
        }
    }

    #[inline]
    fn tell(&mut self, held: Held) {
        if self.least_ns == 0 {
            self.hand_on(&held);
            return;
        }
        let stack = held.stack() as usize;
        if self.queues.len() <= stack {
            self.queues.resize_with(stack + 1, VecDeque::new);
        }
        if let Some(queue) = self.queues.get_mut(stack) {
            if let Held::End(ended) = &held
                && let Some(Held::Begin(begin, certain_ns)) =
                    queue.iter_mut().rev().find(|held| held.begins(ended.span.number))
            {
                *certain_ns = begin.call.start_ns;
            }
            queue.push_back(held);
        }
        self.tell_certain(stack);
    }

    /// Hands on what nothing can change any more.
    fn tell_certain(&mut self, stack: usize) {
        while let Some(held) = self.queues.get(stack).and_then(VecDeque::front)
            && self.is_certain(held)
        {
            if let Some(held) = self.queues.get_mut(stack).and_then(VecDeque::pop_front) {
                self.hand_on(&held);
            }
        }
    }

    fn is_certain(&self, held: &Held) -> bool {
        let Held::Begin(begin, certain_ns) = held else { return true };
        let stack = self.stacks.get(begin.stack as usize);
        let (open, last_ns) = stack.map_or((&[][..], 0), |stack| (stack.open.as_slice(), stack.last_ns));
        let place = place_of(open, begin.call.number);
        // It may have ended by then.
        let gone = place.and_then(|place| open.get(place)).and_then(|open| open.gone);
        // What other stacks do says nothing of a call that waits.
        (*certain_ns <= last_ns || self.is_over) && !gone.is_some_and(|span| span.too_short)
    }

    fn hand_on(&mut self, held: &Held) {
        if self.error.is_some() {
            return;
        }
        let result = match held {
            Held::Begin(begin, _) => self.sink.begin(begin),
            Held::End(ended) => self.sink.end(ended),
            Held::Mark(mark, signal) => self.sink.mark(mark, signal.as_ref()),
            Held::Gap(gap) => self.sink.gap(gap),
        };
        self.error = result.err();
    }

    fn note(&mut self, result: Result<(), ExportError>) {
        if let (Err(error), None) = (result, &self.error) {
            self.error = Some(error);
        }
    }
}

/// A call of which only is told when the call around it has ended.
fn cut_short(call: &Call, end_ns: u64) -> Span {
    Span {
        function: call.function,
        start_ns: call.start_ns,
        end_ns: end_ns.max(call.start_ns),
        too_short: false,
        children_ns: 0,
        end: End::Missed,
        depth: call.depth,
        number: call.number,
        parent: call.parent,
        outermost: false,
        cut: false,
        over_loss: false,
        call: call.call,
        ret: None,
        ret_detail: None,
    }
}

/// Where a call is on a stack, mostly at its top. Numbers need not rise: what was given back before the time range has a
/// lower one than what it is on.
fn place_of(stack: &[Open], number: u64) -> Option<usize> {
    stack.iter().rposition(|open| open.call.number == number)
}

impl<S: Sink> Visitor for Nest<'_, S> {
    /// Its number and its stack.
    type Mark = (u64, u32);

    fn thread(&mut self, thread: &Thread) {
        self.stacks.clear();
        self.aside.clear();
        self.queues.clear();
        self.is_over = false;
        if S::VALUES {
            self.values.begin(thread);
        }
        let result = self.sink.thread(thread);
        self.note(result);
    }

    fn enter(&mut self, call: &Call, parent: Option<(u64, u32)>) -> (u64, u32) {
        let stack = self.stack_for(call.start_ns, parent);
        let read = if S::VALUES { self.values.read(call.function, call.call.part, call.detail) } else { None };
        let arguments = read.map(Rc::new);
        if let Some(Stack { open, last_ns }) = self.stacks.get_mut(stack as usize) {
            *last_ns = call.start_ns;
            open.push(Open { call: *call, gone: None, arguments: arguments.clone() });
        }
        let certain_ns = call.start_ns.saturating_add(self.least_ns);
        self.tell(Held::Begin(Begin { stack, call: *call, arguments }, certain_ns));
        (call.number, stack)
    }

    fn exit(&mut self, span: &Span, (_, stack): (u64, u32)) {
        // That was told when it was gone.
        if S::NESTS && matches!(span.end, End::Missed | End::Lost) && !self.switches.has(span.function) {
            return;
        }
        let part = span.ret.map_or(0, |ret| ret.part);
        let returned = if S::VALUES { self.values.read(span.function, part, span.ret_detail) } else { None };
        if !self.close(stack, span, returned) {
            self.cut_short += 1;
        }
    }

    fn gone(&mut self, span: &Span, (number, stack): (u64, u32)) {
        if !self.switches.has(span.function) {
            match S::NESTS {
                true if span.too_short => self.take_out(stack, number),
                true => drop(self.close(stack, span, None)),
                false => {
                    let own = self.take(stack, span);
                    self.aside.extend(own.map(|own| (number, own)));
                }
            }
            return;
        }
        if let Some(Stack { open, .. }) = self.stacks.get_mut(stack as usize)
            && let Some(place) = place_of(open, number)
            && let Some(open) = open.get_mut(place)
        {
            open.gone = Some(*span);
        }
    }

    fn dropped(&mut self, (number, stack): (u64, u32)) {
        self.take_out(stack, number);
    }

    fn mark(&mut self, mark: &Mark) {
        let is_signal = S::VALUES && mark.kind == MarkKind::Signal;
        let signal = if is_signal { self.values.signal(mark.place.part, mark.detail) } else { None };
        self.tell(Held::Mark(*mark, signal));
    }

    fn gap(&mut self, gap: &Gap) {
        // Calls before the gap are not known to have run until then.
        self.tell(Held::Gap(*gap));
    }

    fn thread_end(&mut self) {
        self.is_over = true;
        (0..self.queues.len()).for_each(|stack| self.tell_certain(stack));
        let result = self.sink.thread_end();
        self.note(result);
    }

    fn wants_more(&self) -> bool {
        self.error.is_none()
    }
}
