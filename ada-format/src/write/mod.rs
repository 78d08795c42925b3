//! Writers: one [`ThreadWriter`] per traced thread, over an [`IndexWriter`] and a [`DetailWriter`].
//!
//! Invariant: what a writer has reported as written stays written. Files only grow; the exceptions are the header,
//! rewritten once when a file is finalised, an index event's `detail_seq`, set once from none when its detail comes
//! later, and the torn end of a failed write, which is cut off again.
//!
//! ```text
//! append ──▶ buffer (128 KiB of index events, 64 KiB of detail) ──flush──▶ page cache ──finish──▶ footer, header
//! ```

mod detail;
mod index;
mod lane;
mod late;
mod sink;
#[cfg(test)]
mod tests;
mod thread;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use self::detail::{Coverage, finished as finished_detail};
pub use self::detail::{Detail, DetailWriter, FunctionDetail, Memory, SignalDetail};
pub use self::index::IndexWriter;
pub(crate) use self::index::finished as finished_index;
pub(crate) use self::lane::{Ends, Lane};
pub use self::sink::{Folder, Sink, Storage};
pub use self::thread::ThreadWriter;
use crate::layout::{Arch, ClockType, EventKind, Os};

/// Name of the index file in a thread's folder.
pub const INDEX_FILE: &str = "index.atf";
/// Name of the detail file in a thread's folder.
pub const DETAIL_FILE: &str = "detail.atf";

/// What a thread's file headers say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadMeta {
    /// The operating system's thread id.
    pub thread_id: u32,
    /// Processor of the traced process.
    pub arch: Arch,
    /// Operating system of the traced process.
    pub os: Os,
    /// The clock that timestamps come from.
    pub clock: ClockType,
}

/// What a thread's files hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadSummary {
    /// Index events.
    pub event_count: u64,
    /// Detail events.
    pub detail_count: u64,
    /// Length of both files, headers and footers included.
    pub bytes: u64,
    /// Timestamp of the first event, in nanoseconds of the clock; 0 if there is none.
    pub time_start_ns: u64,
    /// Timestamp of the last event, in nanoseconds of the clock; 0 if there is none.
    pub time_end_ns: u64,
}

/// Why an event was not taken or a file not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A folder or file could not be created.
    #[error("cannot create {}: {source}", path.display())]
    Create {
        /// What was to be created.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refused a write. The file was cut back to whole events and finalised if that was possible.
    #[error("cannot write {}: {source}; {safe_events} events of this thread are safe", path.display())]
    Failed {
        /// The file that was being written.
        path: PathBuf,
        /// Events of the thread's index that are in the file.
        safe_events: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// An earlier write failed; the writer takes no more.
    #[error(
        "{} takes no more events: an earlier write failed; {safe_events} events of this thread are safe",
        path.display()
    )]
    Stopped {
        /// The index file.
        path: PathBuf,
        /// Events of the thread's index that are in the file.
        safe_events: u64,
    },
    /// The file holds as many events as the format can number; go on in a new ordinal.
    #[error("{} is full: it holds {events} events", path.display())]
    Full {
        /// The index file.
        path: PathBuf,
        /// Events in it.
        events: u64,
    },
    /// A function detail with more stack than the format holds.
    #[error("{found} bytes of stack, but a detail event holds at most {limit}")]
    StackTooLong {
        /// Bytes given.
        found: usize,
        /// The format's limit.
        limit: usize,
    },
    /// A function detail with more memory than the format can count.
    #[error("{found} bytes of memory and its blocks, but a detail event holds at most {limit}")]
    MemoryTooLong {
        /// Bytes given, with 16 for each block.
        found: usize,
        /// The format's limit.
        limit: usize,
    },
    /// A signal detail with more registers than the format can count.
    #[error("{found} registers, but a signal event holds at most {limit}")]
    TooManyRegisters {
        /// Registers given.
        found: usize,
        /// The format's limit.
        limit: usize,
    },
    /// Detail for an event that lies before one that has detail already.
    #[error("detail of event {index_seq} comes after that of event {last}; detail follows the order of events")]
    DetailOrder {
        /// Position of the event.
        index_seq: u32,
        /// Position of the last event with detail.
        last: u32,
    },
    /// Detail for an event that was never appended.
    #[error("detail of event {index_seq}, but there are only {events} events")]
    NoSuchEvent {
        /// Position of the event.
        index_seq: u32,
        /// Events appended.
        events: u64,
    },
    /// Detail for an event that is another one than the index holds at that position.
    #[error("detail of event {index_seq} is that of another time, function or kind")]
    OtherEvent {
        /// Position of the event.
        index_seq: u32,
    },
    /// An event that was written before could not be read back to be linked. The detail was not taken; the writer goes on.
    #[error("cannot read {} back: {source}", path.display())]
    ReadBack {
        /// The index file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A detail of one kind for an index event of another.
    #[error("a {detail} detail cannot belong to an event of kind {kind:?}")]
    DetailMismatch {
        /// The index event's kind.
        kind: EventKind,
        /// What the detail holds.
        detail: &'static str,
    },
}

impl WriteError {
    /// How many events of the thread's index are safe, if this error ended its writing.
    #[must_use]
    pub fn safe_events(&self) -> Option<u64> {
        match self {
            Self::Failed { safe_events, .. } | Self::Stopped { safe_events, .. } => Some(*safe_events),
            _ => None,
        }
    }

    fn failed(path: &Path, safe_events: u64, source: io::Error) -> Self {
        Self::Failed { path: path.to_owned(), safe_events, source }
    }
}
