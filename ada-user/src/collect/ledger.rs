//! What is known of a recording besides its events: its threads, what they lost, failures.
//!
//! The pump writes it (rarely), the manifest and the summary are made from it.

use std::{collections::BTreeMap, sync::Arc};

use super::flight::{FlightRecorder, Window};
use crate::backend::Losses;

/// Gaps that are told apart for each thread.
const MAX_GAPS: u32 = 256;

/// The books of one recording.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Threads by ordinal: `threads[i]` is the folder `thread_i`.
    pub threads: Vec<ThreadEntry>,
    /// Events lost, by reason.
    pub lost_by_reason: BTreeMap<&'static str, u64>,
    /// Ends of threads and executions of programs that went unseen.
    pub unseen: u64,
    /// New processes that were not followed, because too many live at once.
    pub unfollowed: u64,
    /// Where threads lost events.
    pub gaps: Vec<Gap>,
    /// Functions that were called too often, in the order in which they were muted.
    pub muted: Vec<Muted>,
    /// The times in which details were kept, if that was not always.
    pub windows: Option<Arc<[Window]>>,
    /// Windows that were too many to be listed.
    pub windows_unlisted: u64,
    /// Details that a trigger asked for and that could not be written any more.
    pub details_missed: u64,
    /// The flight recorder's revision, and the details that it has kept, as of the last look.
    flight_as_of: (u64, u64),
    /// Why events stopped being written, if they did.
    pub failure: Option<String>,
    /// Grows with every change that belongs into the manifest.
    pub revision: u64,
}

/// A thread folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThreadEntry {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// The thread's name when it ended, if that was seen.
    pub name: Option<String>,
    /// Whether it has ended or went on in another folder.
    pub finished: bool,
    /// Index events, as of the last tick.
    pub event_count: u64,
    /// Detail events, as of the last tick.
    pub detail_count: u64,
    /// Bytes of both files, as of the last tick.
    pub bytes: u64,
    /// Time of the first event, `CLOCK_BOOTTIME` in nanoseconds.
    pub time_start_ns: u64,
    /// Time of the last event.
    pub time_end_ns: u64,
    /// Events lost.
    pub lost: u64,
    /// The folder that this one continues.
    pub continues: Option<u32>,
    /// Returns beyond the kernel's limit.
    pub missed_returns: u64,
    /// Number of gaps, the position of the last one in [`Ledger::gaps`], and where it ends.
    pub(super) gaps: u32,
    pub(super) last_gap: Option<usize>,
    pub(super) gap_end_ns: u64,
}

/// A function that is recorded no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Muted {
    /// The function.
    pub function_id: u64,
    /// From when on, `CLOCK_BOOTTIME` in nanoseconds.
    pub at_ns: u64,
    /// Its calls per second by then.
    pub calls_per_s: u64,
}

/// Events lost by one thread in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The thread's folder.
    pub thread: u32,
    /// Number of events.
    pub count: u64,
    /// Time of the first, `CLOCK_BOOTTIME` in nanoseconds.
    pub first_ns: u64,
    /// Time of the last.
    pub last_ns: u64,
}

impl Ledger {
    /// Events lost in all.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_by_reason.values().sum()
    }

    /// Whether everything that happened was recorded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lost() == 0 && self.unfollowed == 0 && self.failure.is_none()
    }

    /// Index events in all, as of the last tick.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.threads.iter().map(|thread| thread.event_count).sum()
    }

    /// Bytes in all, as of the last tick.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.threads.iter().map(|thread| thread.bytes).sum()
    }

    /// Returns beyond the kernel's limit, in all.
    #[must_use]
    pub fn missed_returns(&self) -> u64 {
        self.threads.iter().map(|thread| thread.missed_returns).sum()
    }

    /// Takes over the windows of the flight recorder.
    pub(super) fn note_flight(&mut self, flight: &FlightRecorder) {
        let now = (flight.revision(), flight.details());
        if self.windows.is_none() || self.flight_as_of != now {
            self.revision += 1;
            self.flight_as_of = now;
            self.windows = Some(flight.windows().cloned().collect());
            self.windows_unlisted = flight.windows_unlisted();
        }
    }

    /// Takes over the counts of a loss report; the caller finds the threads.
    pub(super) fn set_reasons(&mut self, report: &Losses) {
        self.unseen = report.lifecycle;
        self.unfollowed = report.unfollowed;
        for (reason, count) in &report.by_reason {
            if *count > 0 {
                self.lost_by_reason.insert(reason, *count);
            }
        }
    }

    /// Notes that a function was muted; processors may tell it twice.
    pub(super) fn add_muted(&mut self, muted: Muted) {
        if self.muted.iter().all(|known| known.function_id != muted.function_id) {
            self.muted.push(muted);
            self.revision += 1;
        }
    }

    /// Notes that a thread lost events. A gap that nothing was written in front of, and any beyond [`MAX_GAPS`], prolongs
    /// the thread's last one.
    pub(super) fn add_gap(&mut self, gap: Gap) {
        let Some(thread) = self.threads.get_mut(gap.thread as usize) else { return };
        thread.lost += gap.count;
        self.revision += 1;
        let last = thread.last_gap.and_then(|index| self.gaps.get_mut(index));
        let nothing_between = thread.time_end_ns <= thread.gap_end_ns;
        thread.gap_end_ns = gap.last_ns;
        match last {
            Some(last) if nothing_between || thread.gaps >= MAX_GAPS => {
                last.count += gap.count;
                last.last_ns = gap.last_ns;
            }
            _ => {
                thread.gaps += 1;
                thread.last_gap = Some(self.gaps.len());
                self.gaps.push(gap);
            }
        }
    }
}
