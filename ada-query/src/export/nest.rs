//! A thread's calls as begins and ends that nest.
//!
//! ```text
//! stack 0   ├──────── a ────────┤            a goroutine, say
//! stack 1        ├──────── b ────────┤       another one, that ran in between
//! ```
//!
//! Calls that overlap without nesting are told apart by a stack's number. Invariant: on each stack the last call begun
//! is the first to end, and times do not fall; every span of the selection begins once and ends once.

use std::collections::VecDeque;
use std::rc::Rc;

use ada_format::manifest::Gap;

use super::ExportError;
use super::switches::Switches;
use super::values::{Signal, ValueReader, Values};
use crate::select::Selection;
use crate::span::{Call, Mark, MarkKind, Span, Visitor};
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
    stacks: Vec<Vec<Open>>,
    /// What waits for a call before it that may still turn out too short.
    queue: VecDeque<Held>,
    now_ns: u64,
    least_ns: u64,
    pub(super) error: Option<ExportError>,
}

/// A call that has begun.
#[derive(Debug)]
struct Open {
    number: u64,
    /// It looks as if it had ended, like this.
    gone: Option<Span>,
    arguments: Option<Rc<Values>>,
}

#[derive(Debug)]
enum Held {
    Begin(Begin),
    End(Ended),
    Mark(Mark, Option<Signal>),
    Gap(Gap),
}

impl<'a, S: Sink> Nest<'a, S> {
    /// For spans of `selection`.
    pub(super) fn new(trace: &'a Trace, selection: &Selection, switches: &'a Switches, sink: S) -> Self {
        Self {
            sink,
            switches,
            values: ValueReader::new(trace.functions(), &trace.manifest().arch),
            stacks: vec![Vec::new()],
            queue: VecDeque::new(),
            now_ns: 0,
            least_ns: selection.min_duration_ns,
            error: None,
        }
    }

    /// The stack for a call: its caller's, if that is on top there, or an empty one.
    fn stack_for(&mut self, parent: Option<(u64, u32)>) -> u32 {
        if let Some((number, stack)) = parent
            && self.stacks.get(stack as usize).and_then(|open| open.last()).is_some_and(|top| top.number == number)
        {
            return stack;
        }
        let place = self.stacks.iter().position(Vec::is_empty).unwrap_or_else(|| {
            self.stacks.push(Vec::new());
            self.stacks.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// Ends a call, unless that was told before. What is above it has ended before it.
    fn close(&mut self, stack: u32, span: &Span, returned: Option<Values>) {
        let Some(open) = self.stacks.get_mut(stack as usize) else { return };
        let Ok(place) = open.binary_search_by_key(&span.number, |open| open.number) else { return };
        let above: Vec<Open> = open.drain(place + 1..).collect();
        let own = open.pop();
        for inner in above.into_iter().rev() {
            if let Some(span) = inner.gone {
                self.tell(Held::End(Ended { stack, span, arguments: inner.arguments, returned: None }), span.end_ns);
            }
        }
        let arguments = own.and_then(|own| own.arguments);
        self.tell(Held::End(Ended { stack, span: *span, arguments, returned }), span.end_ns);
    }

    /// Takes back a call that turned out too short; what was in it was shorter.
    fn take_out(&mut self, stack: u32, number: u64) {
        if let Some(open) = self.stacks.get_mut(stack as usize)
            && let Ok(place) = open.binary_search_by_key(&number, |open| open.number)
        {
            open.remove(place);
        }
        let is_it = |held: &Held| matches!(held, Held::Begin(begin) if begin.call.number == number);
        if let Some(place) = self.queue.iter().rposition(is_it) {
            self.queue.remove(place);
        }
    }

    #[inline]
    fn tell(&mut self, held: Held, time_ns: u64) {
        if self.least_ns == 0 {
            self.hand_on(held);
            return;
        }
        self.now_ns = self.now_ns.max(time_ns);
        self.queue.push_back(held);
        self.tell_certain(false);
    }

    fn tell_certain(&mut self, all: bool) {
        while let Some(held) = self.queue.front() {
            let certain_ns = match held {
                Held::Begin(begin) => begin.call.start_ns.saturating_add(self.least_ns),
                _ => 0,
            };
            if certain_ns > self.now_ns && !all {
                break;
            }
            if let Some(held) = self.queue.pop_front() {
                self.hand_on(held);
            }
        }
    }

    fn hand_on(&mut self, held: Held) {
        if self.error.is_some() {
            return;
        }
        let result = match &held {
            Held::Begin(begin) => self.sink.begin(begin),
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

impl<S: Sink> Visitor for Nest<'_, S> {
    /// Its number and its stack.
    type Mark = (u64, u32);

    fn thread(&mut self, thread: &Thread) {
        self.stacks = vec![Vec::new()];
        self.queue.clear();
        self.now_ns = 0;
        if S::VALUES {
            self.values.begin(thread);
        }
        let result = self.sink.thread(thread);
        self.note(result);
    }

    fn enter(&mut self, call: &Call, parent: Option<(u64, u32)>) -> (u64, u32) {
        let stack = self.stack_for(parent);
        let read = if S::VALUES { self.values.read(call.function, call.call.part, call.detail) } else { None };
        let arguments = read.map(Rc::new);
        if let Some(open) = self.stacks.get_mut(stack as usize) {
            open.push(Open { number: call.number, gone: None, arguments: arguments.clone() });
        }
        self.tell(Held::Begin(Begin { stack, call: *call, arguments }), call.start_ns);
        (call.number, stack)
    }

    fn exit(&mut self, span: &Span, (_, stack): (u64, u32)) {
        let part = span.ret.map_or(0, |ret| ret.part);
        let returned = if S::VALUES { self.values.read(span.function, part, span.ret_detail) } else { None };
        self.close(stack, span, returned);
    }

    fn gone(&mut self, span: &Span, (number, stack): (u64, u32)) {
        if !self.switches.has(span.function) {
            if span.duration_ns() < self.least_ns {
                self.take_out(stack, number)
            } else {
                self.close(stack, span, None)
            }
            return;
        }
        if let Some(open) = self.stacks.get_mut(stack as usize)
            && let Ok(place) = open.binary_search_by_key(&number, |open| open.number)
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
        self.tell(Held::Mark(*mark, signal), mark.time_ns);
    }

    fn gap(&mut self, gap: &Gap) {
        self.tell(Held::Gap(*gap), gap.time_start_ns);
    }

    fn thread_end(&mut self) {
        self.tell_certain(true);
        let result = self.sink.thread_end();
        self.note(result);
    }

    fn wants_more(&self) -> bool {
        self.error.is_none()
    }
}
