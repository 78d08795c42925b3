//! Which threads the buffered details belong to, so that the files of an ended thread stay open as long as one may still
//! go there.
//!
//! Invariant: a thread that has ended is told as released once, when nothing of it is left.

/// Entries by thread. Thread keys are ordinals, so a plain list is small.
#[derive(Debug, Default)]
pub(super) struct Holders {
    threads: Vec<Holder>,
    released: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    entries: u32,
    ended: bool,
}

impl Holders {
    /// One entry more.
    pub(super) fn add(&mut self, thread: u32) {
        if let Some(holder) = self.of(thread) {
            holder.entries += 1;
        }
    }

    /// One entry less.
    pub(super) fn remove(&mut self, thread: u32) {
        let Some(holder) = self.threads.get_mut(thread as usize) else { return };
        holder.entries = holder.entries.saturating_sub(1);
        if holder.ended && holder.entries == 0 {
            holder.ended = false;
            self.released.push(thread);
        }
    }

    /// The thread adds nothing more. True if nothing of it is left; otherwise it will be told as released.
    pub(super) fn end(&mut self, thread: u32) -> bool {
        let holder = self.threads.get_mut(thread as usize).filter(|holder| holder.entries > 0);
        if let Some(holder) = holder {
            holder.ended = true;
            return false;
        }
        true
    }

    /// An ended thread of which nothing is left any more.
    pub(super) fn take_released(&mut self) -> Option<u32> {
        self.released.pop()
    }

    /// The threads that have entries.
    pub(super) fn threads(&self) -> impl Iterator<Item = u32> {
        let held = self.threads.iter().enumerate().filter(|(_, holder)| holder.entries > 0);
        held.map(|(thread, _)| u32::try_from(thread).unwrap_or(u32::MAX))
    }

    /// The list grows with the number of threads, never by event.
    fn of(&mut self, thread: u32) -> Option<&mut Holder> {
        let index = thread as usize;
        if self.threads.len() <= index {
            self.threads.resize(index + 1, Holder::default());
        }
        self.threads.get_mut(index)
    }
}
