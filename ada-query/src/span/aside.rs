//! Frames that were proven gone, kept for a while in case they return after all.
//!
//! A signal handler on an alternate stack or a coroutine hides the frames of another stack: events at their
//! depth look as if they had ended, and then they return. Invariant: at most [`MOST`] frames are kept; the oldest
//! are given back to be closed for good.

use std::collections::VecDeque;

use super::End;
use super::pairing::Frame;

/// As many as the recorder keeps (ada-user's `collect/depth.rs`), whose depths these are.
pub(super) const MOST: usize = 256;

/// A frame that was given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept<M> {
    pub(super) frame: Frame<M>,
    /// Which of the thread's stacks it is on.
    pub(super) stack: u64,
    /// The number of the frame below it.
    pub(super) under: Option<u64>,
    /// What the frame below it had in children's time before.
    pub(super) before_ns: u64,
    /// The time that was added to that.
    pub(super) added_ns: u64,
    /// The last event that happened in it.
    pub(super) end_ns: u64,
    pub(super) end: End,
}

/// Frames that were given up, oldest first.
#[derive(Debug)]
pub(super) struct Aside<M> {
    kept: VecDeque<Kept<M>>,
}

impl<M: Copy> Aside<M> {
    pub(super) fn new() -> Self {
        Self { kept: VecDeque::with_capacity(MOST + 1) }
    }

    /// Keeps one, and gives back the oldest if there are too many.
    #[inline]
    pub(super) fn keep(&mut self, kept: Kept<M>) -> Option<Kept<M>> {
        self.kept.push_back(kept);
        if self.kept.len() > MOST { self.kept.pop_front() } else { None }
    }

    /// Takes the newest frame of a stack, function and depth, and the calls around it as far as they were given up later:
    /// innermost first.
    pub(super) fn take(&mut self, stack: u64, function: u32, depth: u32) -> Vec<Kept<M>> {
        let is_it =
            |kept: &Kept<M>| kept.frame.function == function && kept.frame.depth == depth && kept.stack == stack;
        let Some(place) = self.kept.iter().rposition(is_it) else { return Vec::new() };
        let mut taken: Vec<Kept<M>> = self.kept.remove(place).into_iter().collect();
        while let Some(number) = taken.last().and_then(|inner| inner.under)
            && let Some(place) = self.kept.iter().rposition(|kept| kept.frame.number == number)
        {
            taken.extend(self.kept.remove(place));
        }
        taken
    }

    /// All that are left, oldest first.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Kept<M>> + use<M> {
        std::mem::take(&mut self.kept).into_iter()
    }
}
