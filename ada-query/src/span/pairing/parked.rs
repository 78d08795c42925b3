//! Stacks of a thread that wait while it runs on another one: goroutines that take turns.
//!
//! ```text
//! stack 5  ├─ a ──┤ waits ├─ b ─┤ waits      the calls stay as they are, and their time goes on
//! stack 8         ├── c ──┤     ├─ d ──
//! ```
//!
//! Invariant: a stack that waits has running calls, and these count as running on no other stack.

use std::collections::{BTreeMap, HashMap};

use super::{Frame, Pairing};
use crate::functions::FunctionIndex;
use crate::span::Visitor;

/// Stacks that wait at the most: what goes on in another thread never comes back.
const MOST: usize = 4096;

/// A stack that waits.
#[derive(Debug)]
pub(super) struct Parked<M> {
    stack: u64,
    frames: Vec<Frame<M>>,
    root_children_ns: u64,
    /// The last event on it.
    last_ns: u64,
    /// How many gaps there were by then.
    gaps: u64,
}

/// All stacks that wait.
#[derive(Debug)]
pub(super) struct Waiting<M> {
    /// By when they began to wait.
    by_turn: BTreeMap<u64, Parked<M>>,
    turns: HashMap<u64, u64>,
    next: u64,
}

impl<M> Waiting<M> {
    pub(super) fn new() -> Self {
        Self { by_turn: BTreeMap::new(), turns: HashMap::new(), next: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_turn.is_empty()
    }

    /// The one that has waited for the shortest time.
    pub(super) fn take_newest(&mut self) -> Option<Parked<M>> {
        let (_, parked) = self.by_turn.pop_last()?;
        self.turns.remove(&parked.stack);
        Some(parked)
    }

    /// The frames of each, those that have waited longest first.
    pub(super) fn frames_mut(&mut self) -> impl Iterator<Item = &mut Vec<Frame<M>>> {
        self.by_turn.values_mut().map(|parked| &mut parked.frames)
    }

    fn put(&mut self, parked: Parked<M>) {
        if parked.frames.is_empty() {
            return;
        }
        self.turns.insert(parked.stack, self.next);
        self.by_turn.insert(self.next, parked);
        self.next += 1;
    }

    fn take(&mut self, stack: u64) -> Option<Parked<M>> {
        let turn = self.turns.remove(&stack)?;
        self.by_turn.remove(&turn)
    }

    /// One for which there is no room.
    fn take_beyond(&mut self) -> Option<Parked<M>> {
        let (_, parked) = if self.by_turn.len() > MOST { self.by_turn.pop_first()? } else { return None };
        self.turns.remove(&parked.stack);
        Some(parked)
    }
}

impl<M: Copy + Default> Pairing<'_, M> {
    /// An event says on which stack those after it lie.
    #[cold]
    pub(super) fn switch<V: Visitor<Mark = M>>(&mut self, stack: u64, time_ns: u64, visitor: &mut V) {
        self.counts.switches += 1;
        self.switched_ns = time_ns;
        self.go_to(stack);
        while let Some(parked) = self.waiting.take_beyond() {
            self.abandon(parked, visitor);
        }
    }

    /// Puts the calls that run aside, and goes on with those of another stack.
    #[cold]
    pub(super) fn go_to(&mut self, stack: u64) {
        if stack == self.stack {
            return;
        }
        let parked = self.park();
        let empty = Parked { stack, frames: Vec::new(), root_children_ns: 0, last_ns: parked.last_ns, gaps: self.gaps };
        self.waiting.put(parked);
        let next = self.waiting.take(stack).unwrap_or(empty);
        self.resume(next);
    }

    /// The calls that run are those of a stack that has waited.
    pub(super) fn resume(&mut self, parked: Parked<M>) {
        self.stack = parked.stack;
        self.frames = parked.frames;
        self.root_children_ns = parked.root_children_ns;
        self.last_ns = parked.last_ns;
        self.in_gap = parked.gaps != self.gaps;
        for place in 0..self.frames.len() {
            if let Some(function) = self.selected(place) {
                self.start_running(function);
            }
        }
    }

    fn park(&mut self) -> Parked<M> {
        for place in 0..self.frames.len() {
            if let Some(function) = self.selected(place) {
                self.stop_running(function);
            }
        }
        Parked {
            stack: self.stack,
            frames: std::mem::take(&mut self.frames),
            root_children_ns: self.root_children_ns,
            last_ns: self.last_ns,
            gaps: self.gaps - u64::from(self.in_gap),
        }
    }

    /// The function of the running call at a place, if that is selected.
    fn selected(&self, place: usize) -> Option<FunctionIndex> {
        self.frames.get(place).filter(|frame| frame.is_selected()).map(|frame| frame.function)
    }

    /// A stack has waited for too long.
    fn abandon<V: Visitor<Mark = M>>(&mut self, parked: Parked<M>, visitor: &mut V) {
        let own = self.park();
        self.resume(parked);
        while !self.frames.is_empty() {
            self.give_up(visitor);
        }
        self.resume(own);
    }
}
