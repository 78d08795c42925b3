//! Which stretches of memory are mapped files, in a form that a signal handler can look through.
//!
//! Slots are made, used again and never freed; each has a version that is odd while its range changes. Invariant: the
//! range of a file that is mapped is found by whoever reads it, at any moment, without a lock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

const SLOTS: usize = 64;

static FIRST: Chunk = Chunk::new();
static FREE: Mutex<Free> = Mutex::new(Free { slots: Vec::new(), last: None });
/// Mapped files that were found cut.
static CUT: AtomicUsize = AtomicUsize::new(0);

/// A file's place among those that are mapped, until it is dropped.
#[derive(Debug)]
pub(super) struct Watched(&'static Slot);

#[derive(Debug)]
pub(super) struct Slot {
    version: AtomicU32,
    start: AtomicUsize,
    end: AtomicUsize,
    cut: AtomicBool,
}

#[derive(Debug)]
struct Chunk {
    slots: [Slot; SLOTS],
    next: OnceLock<Box<Chunk>>,
}

/// What is used by those who map and unmap, and never by the handler.
struct Free {
    slots: Vec<&'static Slot>,
    /// The chunk that the next one is appended to; none before the first slot is taken.
    last: Option<&'static Chunk>,
}

impl Watched {
    /// Of a file that is mapped at these addresses.
    pub(super) fn new(start: usize, end: usize) -> Self {
        let slot = free().take();
        slot.set(start, end);
        Self(slot)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.set(0, 0);
        if self.0.cut.swap(false, Ordering::SeqCst) {
            CUT.fetch_sub(1, Ordering::SeqCst);
        }
        free().slots.push(self.0);
    }
}

/// The mapped file that an address lies in.
pub(super) fn find(address: usize) -> Option<&'static Slot> {
    let mut chunk = Some(&FIRST);
    while let Some(current) = chunk {
        let found =
            current.slots.iter().find(|slot| slot.range().is_some_and(|(start, end)| (start..end).contains(&address)));
        if found.is_some() {
            return found;
        }
        chunk = current.next.get().map(Box::as_ref);
    }
    None
}

/// Whether the mapped file that these bytes are of was cut. Costs next to nothing while no file is.
pub(super) fn is_cut(bytes: &[u8]) -> bool {
    // SeqCst, here and where it is set: what was read before must have been read before this, by whatever thread.
    CUT.load(Ordering::SeqCst) > 0 && find(bytes.as_ptr().addr()).is_some_and(|slot| slot.cut.load(Ordering::SeqCst))
}

impl Slot {
    const fn new() -> Self {
        Self {
            version: AtomicU32::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
        }
    }

    /// Marks the file as cut, and returns where its mapping ends.
    pub(super) fn cut(&self) -> Option<usize> {
        if !self.cut.swap(true, Ordering::SeqCst) {
            CUT.fetch_add(1, Ordering::SeqCst);
        }
        self.range().map(|(_, end)| end)
    }

    /// Only one thread at a time has a slot to set.
    fn set(&self, start: usize, end: usize) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        // Pairs with the fence in `range`: who sees one of the new numbers sees the odd version.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        // Pairs with the first load in `range`.
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// None of a slot that is changing: then it is nobody's who could ask for it.
    fn range(&self) -> Option<(usize, usize)> {
        let before = self.version.load(Ordering::Acquire);
        let (start, end) = (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let after = self.version.load(Ordering::Relaxed);
        (before == after && before.is_multiple_of(2)).then_some((start, end))
    }
}

impl Chunk {
    const fn new() -> Self {
        Self { slots: [const { Slot::new() }; SLOTS], next: OnceLock::new() }
    }
}

impl Free {
    fn take(&mut self) -> &'static Slot {
        if let Some(slot) = self.slots.pop() {
            return slot;
        }
        let chunk = self.last.map_or(&FIRST, |last| last.next.get_or_init(|| Box::new(Chunk::new())));
        self.last = Some(chunk);
        let [slot, rest @ ..] = &chunk.slots;
        self.slots.extend(rest);
        slot
    }
}

fn free() -> MutexGuard<'static, Free> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_is_found_and_what_was_is_not() {
        // Addresses that nothing is at.
        let at = |number: usize| usize::MAX / 2 + 4096 * number;
        let mut watched: Vec<Watched> = (0..300).map(|number| Watched::new(at(number), at(number) + 100)).collect();
        assert!(find(at(299)).is_some() && find(at(0) + 99).is_some());
        assert!(find(at(0) + 100).is_none() && find(at(300)).is_none());
        assert_eq!(find(at(7)).and_then(Slot::cut), Some(at(7) + 100));
        let is_cut = |number| find(at(number)).is_some_and(|slot| slot.cut.load(Ordering::SeqCst));
        assert!(is_cut(7) && !is_cut(8));
        watched.drain(..8);
        assert!(find(at(7)).is_none());
        watched.push(Watched::new(at(7), at(8)));
        assert!(!is_cut(7));
    }
}
