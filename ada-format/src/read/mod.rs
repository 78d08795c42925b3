//! Readers: a [`SessionReader`] over [`ThreadReader`]s, each over an [`IndexReader`] and a [`DetailReader`].
//!
//! Invariant: no bytes whatever make a reader panic, read outside of them, or allocate more than their own length
//! justifies. A count in a file is believed only where the file's length bears it out. A file without a footer (its
//! recorder is still at work, or was killed) is read as far as its events are whole.

mod detail;
mod error;
mod index;
mod merge;
mod session;
mod thread;

pub use self::detail::{DetailEvent, DetailReader, FunctionEvent, MemoryEvent, Payload, SignalEvent};
pub use self::error::ReadError;
pub use self::index::IndexReader;
pub use self::merge::{Merged, MergedEvent};
pub use self::session::{BrokenThread, SessionReader};
pub use self::thread::ThreadReader;
pub use crate::map::FileBytes;
