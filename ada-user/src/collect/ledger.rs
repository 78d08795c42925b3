//! What is known of a recording besides its events: its threads, what they lost, failures.
//!
//! The pump writes it (rarely), the manifest and the summary are made from it.
//!
//! Invariant: an event or a loss counts either for a folder that is kept or as cut, never both and never not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::flight::{FlightRecorder, Window};
use crate::backend::Losses;

/// Gaps that are told apart for each thread.
const MAX_GAPS: usize = 256;

/// The books of one recording.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Threads by ordinal: `threads[&i]` is the folder `thread_i`. Those that were deleted to keep the session small are
    /// not there.
    pub threads: BTreeMap<u32, ThreadEntry>,
    /// What was in those.
    pub cut: Cut,
    /// From when on nothing was deleted, `CLOCK_BOOTTIME` in nanoseconds; none if nothing was at all.
    pub complete_from_ns: Option<u64>,
    /// Events lost since the recording began, by reason.
    pub(super) lost_by_reason: BTreeMap<&'static str, u64>,
    /// Ends of threads and executions of programs that went unseen.
    pub unseen: u64,
    /// New processes that were not followed, because too many live at once.
    pub unfollowed: u64,
    /// Functions that were called too often, in the order in which they were muted.
    pub muted: Vec<Muted>,
    /// The times in which details were kept, if that was not always.
    pub windows: Option<Arc<[Arc<Window>]>>,
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
    /// The thread's first folder: the same for all that continue it.
    pub first: u32,
    /// Returns beyond the kernel's limit.
    pub missed_returns: u64,
    /// Where it lost events, in the order in which that was told.
    pub gaps: Vec<Gap>,
    /// When the folder was made.
    pub(super) opened_ns: u64,
    /// Where the last gap ends.
    pub(super) gap_end_ns: u64,
}

/// What was in folders that were deleted to keep the session small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Folders.
    pub folders: u64,
    /// Index events.
    pub events: u64,
    /// Events of theirs that had been lost before.
    pub lost: u64,
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
    /// Events lost in all, but for those of folders that were deleted.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_by_reason.values().sum::<u64>().saturating_sub(self.cut.lost)
    }

    /// The same by reason. Nothing tells of a thread's losses which reason each had: those of deleted folders are taken from
    /// the most frequent one.
    #[must_use]
    pub fn lost_by_reason(&self) -> BTreeMap<&'static str, u64> {
        let mut reasons = self.lost_by_reason.clone();
        let mut cut = self.cut.lost;
        while let Some((_, count)) = reasons.iter_mut().max_by_key(|(_, count)| **count).filter(|_| cut > 0) {
            if *count == 0 {
                break;
            }
            let taken = cut.min(*count);
            *count -= taken;
            cut -= taken;
        }
        reasons.retain(|_, count| *count > 0);
        reasons
    }

    /// Where threads lost events, by folder.
    pub fn gaps(&self) -> impl Iterator<Item = &Gap> {
        self.threads.values().flat_map(|thread| &thread.gaps)
    }

    /// Threads of the target, each of which may have several folders.
    #[must_use]
    pub fn thread_count(&self) -> u64 {
        self.threads.values().map(|thread| thread.first).collect::<BTreeSet<_>>().len() as u64
    }

    /// Whether everything that happened was recorded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lost() == 0 && self.unfollowed == 0 && self.details_missed == 0 && self.failure.is_none()
    }

    /// Index events in all, as of the last tick.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.threads.values().map(|thread| thread.event_count).sum()
    }

    /// Bytes in all, as of the last tick.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.threads.values().map(|thread| thread.bytes).sum()
    }

    /// Returns beyond the kernel's limit, in all.
    #[must_use]
    pub fn missed_returns(&self) -> u64 {
        self.threads.values().map(|thread| thread.missed_returns).sum()
    }

    /// Takes over the windows of the flight recorder: those that are over are not copied.
    pub(super) fn note_flight(&mut self, flight: &FlightRecorder) {
        let now = (flight.revision(), flight.details());
        if self.windows.is_none() || self.flight_as_of != now {
            self.revision += 1;
            self.flight_as_of = now;
            self.windows = Some(flight.shared_windows().collect());
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
    /// the thread's last one. The loss of a folder that was deleted meanwhile is cut with it.
    pub(super) fn add_gap(&mut self, gap: Gap) {
        self.revision += 1;
        let Some(thread) = self.threads.get_mut(&gap.thread) else {
            self.cut.lost += gap.count;
            return self.complete_after(gap.last_ns);
        };
        thread.lost += gap.count;
        let nothing_between = thread.time_end_ns <= thread.gap_end_ns;
        let full = thread.gaps.len() >= MAX_GAPS;
        thread.gap_end_ns = gap.last_ns;
        match thread.gaps.last_mut() {
            Some(last) if nothing_between || full => {
                last.count += gap.count;
                last.last_ns = gap.last_ns;
            }
            _ => thread.gaps.push(gap),
        }
    }

    /// Takes out a folder that is to be deleted.
    pub(super) fn cut(&mut self, folder: u32) {
        let Some(thread) = self.threads.remove(&folder) else { return };
        self.revision += 1;
        self.cut.folders += 1;
        self.cut.events += thread.event_count;
        self.cut.lost += thread.lost;
        self.complete_after(thread.last_ns());
    }

    fn complete_after(&mut self, last_ns: u64) {
        self.complete_from_ns = self.complete_from_ns.max(Some(last_ns.saturating_add(1)));
    }
}

impl ThreadEntry {
    /// The time of its last event, lost ones included; if there are none, when it was made.
    pub(super) fn last_ns(&self) -> u64 {
        match self.time_end_ns.max(self.gap_end_ns) {
            0 => self.opened_ns,
            last_ns => last_ns,
        }
    }

    /// The time of its first event, lost ones included; if there are none, when it was made.
    pub(super) fn first_ns(&self) -> u64 {
        let first_gap = self.gaps.first().map(|gap| gap.first_ns);
        let first_event = Some(self.time_start_ns).filter(|_| self.event_count > 0);
        first_event.into_iter().chain(first_gap).min().unwrap_or(self.opened_ns)
    }
}
