//! The time that a recording covers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;

/// The ends of a recording. Probes of different files and kinds come and go one after the other; without exact
/// ends, calls would be there whose callers or returns are not.
#[derive(Debug)]
pub(crate) struct Span {
    /// When the last probe was in place.
    start_ns: u64,
    /// When the first probe is about to go.
    end_ns: AtomicU64,
}

impl Span {
    /// Begins now, and has no end yet.
    pub(crate) fn begin() -> Self {
        Self { start_ns: clock::boottime_ns(), end_ns: AtomicU64::new(u64::MAX) }
    }

    /// Ends now. Events that are later and were delivered before this are in the recording.
    pub(crate) fn end(&self) {
        // Relaxed: which events of the last moments are still taken does not matter.
        self.end_ns.store(clock::boottime_ns(), Ordering::Relaxed);
    }

    /// The time up to which it lasts at `now_ns`.
    pub(super) fn until(&self, now_ns: u64) -> u64 {
        now_ns.min(self.end_ns.load(Ordering::Relaxed))
    }

    /// Whether an event of that time belongs to the recording.
    pub(super) fn contains(&self, time_ns: u64) -> bool {
        time_ns >= self.start_ns && time_ns <= self.end_ns.load(Ordering::Relaxed)
    }
}
