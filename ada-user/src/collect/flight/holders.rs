//! Which threads the buffered details belong to, so that the files of an ended thread stay open as long as one may still
//! go there.
//!
//! Invariant: a thread that has ended is told as released once, when nothing of it is left.

use std::collections::BTreeMap;

/// Entries by thread: of those that live, and of ended ones of which something is left.
#[derive(Debug, Default)]
pub(super) struct Holders {
    threads: BTreeMap<u32, Holder>,
    released: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    entries: u32,
    ended: bool,
}

impl Holders {
    /// One entry more. Memory is taken by thread, never by event.
    pub(super) fn add(&mut self, thread: u32) {
        self.threads.entry(thread).or_default().entries += 1;
    }

    /// One entry less.
    pub(super) fn remove(&mut self, thread: u32) {
        let Some(holder) = self.threads.get_mut(&thread) else { return };
        holder.entries = holder.entries.saturating_sub(1);
        if holder.ended && holder.entries == 0 {
            self.threads.remove(&thread);
            self.released.push(thread);
        }
    }

    /// The thread adds nothing more. True if nothing of it is left; otherwise it will be told as released.
    pub(super) fn end(&mut self, thread: u32) -> bool {
        match self.threads.get_mut(&thread) {
            Some(holder) if holder.entries > 0 => {
                holder.ended = true;
                false
            }
            _ => {
                self.threads.remove(&thread);
                true
            }
        }
    }

    /// An ended thread of which nothing is left any more.
    pub(super) fn take_released(&mut self) -> Option<u32> {
        self.released.pop()
    }

    /// The threads that have entries.
    pub(super) fn threads(&self) -> impl Iterator<Item = u32> {
        self.threads.iter().filter(|(_, holder)| holder.entries > 0).map(|(thread, _)| *thread)
    }
}
