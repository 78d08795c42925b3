//! The merge of all threads' events by time.
//!
//! ```text
//! thread 0   ▕1▏▕5▏▕9▏ ──┐
//! thread 1   ▕2▏▕3▏▕8▏ ──┼─▶ heap of the next event of each ─▶ 1 2 3 4 5 …
//! thread 2   ▕4▏       ──┘   the lead stays outside of it while it is still first
//! ```
//!
//! Invariant: yields each event once, and allocates only when it is made.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::thread::ThreadReader;
use crate::layout::IndexEvent;

/// One event of a merge.
#[derive(Clone, Copy, Debug)]
pub struct MergedEvent<'a> {
    /// The thread it belongs to.
    pub thread: &'a ThreadReader,
    /// Its position in that thread's index.
    pub position: u64,
    /// The event.
    pub event: &'a IndexEvent,
}

/// Iterates over all threads' events in time order; see [`SessionReader::merged`](super::SessionReader::merged).
#[derive(Debug)]
pub struct Merged<'a> {
    lead: Option<Cursor<'a>>,
    others: BinaryHeap<Reverse<Cursor<'a>>>,
}

impl<'a> Merged<'a> {
    pub(super) fn new(threads: &'a [ThreadReader], from: Option<u64>, to: Option<u64>) -> Self {
        let cursors = threads.iter().enumerate().filter_map(|(order, thread)| Cursor::new(order, thread, from, to));
        let mut others: BinaryHeap<_> = cursors.map(Reverse).collect();
        let lead = others.pop().map(|Reverse(cursor)| cursor);
        Self { lead, others }
    }
}

impl<'a> Iterator for Merged<'a> {
    type Item = MergedEvent<'a>;

    fn next(&mut self) -> Option<MergedEvent<'a>> {
        let mut lead = self.lead.take()?;
        let event = lead.current();
        let alive = lead.advance();
        self.lead = match self.others.peek_mut() {
            Some(mut next) if alive && next.0 < lead => Some(std::mem::replace(&mut next.0, lead)),
            _ if alive => Some(lead),
            Some(next) => Some(std::collections::binary_heap::PeekMut::pop(next).0),
            None => None,
        };
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let others = self.others.iter().map(|Reverse(cursor)| cursor.left());
        let left = self.lead.iter().map(Cursor::left).chain(others).sum();
        (left, Some(left))
    }
}

/// A thread's next event; ordered by it.
#[derive(Debug)]
struct Cursor<'a> {
    time: u64,
    /// Of the thread among all, by ordinal.
    order: usize,
    thread: &'a ThreadReader,
    position: u64,
    event: &'a IndexEvent,
    rest: std::slice::Iter<'a, IndexEvent>,
}

impl<'a> Cursor<'a> {
    fn new(order: usize, thread: &'a ThreadReader, from: Option<u64>, to: Option<u64>) -> Option<Self> {
        let events = thread.index().events();
        let before = |limit: u64| events.partition_point(|event| event.timestamp_ns.get() < limit);
        let start = from.map_or(0, before);
        let end = to.map_or(events.len(), before);
        let mut rest = events.get(start..end)?.iter();
        let event = rest.next()?;
        Some(Self { time: event.timestamp_ns.get(), order, thread, position: start as u64, event, rest })
    }

    fn current(&self) -> MergedEvent<'a> {
        MergedEvent { thread: self.thread, position: self.position, event: self.event }
    }

    /// Moves to the next event, if there is one.
    fn advance(&mut self) -> bool {
        let Some(event) = self.rest.next() else {
            return false;
        };
        self.event = event;
        self.time = event.timestamp_ns.get();
        self.position += 1;
        true
    }

    /// Events that are left, with the current one.
    fn left(&self) -> usize {
        1 + self.rest.len()
    }

    fn key(&self) -> (u64, usize) {
        (self.time, self.order)
    }
}

impl PartialEq for Cursor<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Cursor<'_> {}

impl PartialOrd for Cursor<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cursor<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
