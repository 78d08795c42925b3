//! A session's folder: the manifest and every thread that can be read.
//!
//! Invariant: one broken thread never hides another; it is reported by its folder's name. A folder that its recorder
//! deleted, to keep the session small, is not broken, whatever names it still.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::ReadError;
use super::merge::Merged;
use super::thread::ThreadReader;
use crate::manifest::Manifest;
use crate::session;

/// Reads a session, finished or not.
///
/// # Examples
/// ```
/// use ada_format::layout::{Arch, ClockType, EventKind, Os};
/// use ada_format::manifest::Manifest;
/// use ada_format::read::SessionReader;
/// use ada_format::session;
/// use ada_format::write::{ThreadMeta, ThreadWriter};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// Manifest::default().write_atomic(dir)?;
/// for (id, start) in [(0, 10), (1, 15)] {
///     let meta = ThreadMeta { thread_id: 100 + id, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
///     let mut writer = ThreadWriter::create(&session::thread_folder(dir, id), &meta)?;
///     writer.append(start, 7, EventKind::Call, 0)?;
///     writer.append(start + 10, 7, EventKind::Return, 0)?;
///     writer.finish()?;
/// }
///
/// let session = SessionReader::open(dir)?;
/// assert_eq!(session.time_range(), Some((10, 25)));
/// let order: Vec<_> = session.merged().map(|event| (event.event.timestamp_ns.get(), event.thread.id())).collect();
/// assert_eq!(order, [(10, 0), (15, 1), (20, 0), (25, 1)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SessionReader {
    dir: PathBuf,
    manifest: Manifest,
    threads: Vec<ThreadReader>,
    broken: Vec<BrokenThread>,
}

/// A thread folder that cannot be read.
#[derive(Debug)]
pub struct BrokenThread {
    /// Its ordinal.
    pub id: u32,
    /// Its folder, which need not exist.
    pub folder: PathBuf,
    /// What is wrong.
    pub error: ReadError,
}

impl SessionReader {
    /// Opens a session; takes the same time for any number of events.
    ///
    /// # Errors
    /// [`ReadError`] if the folder or its manifest cannot be read. Threads that cannot be read are in
    /// [`broken`](Self::broken) instead.
    pub fn open(dir: &Path) -> Result<Self, ReadError> {
        // Before the manifest, which says that folders are deleted before the first one is.
        let found = session::thread_ids(dir);
        let manifest = Manifest::read(dir)?;
        let found = found.map_err(|source| ReadError::Open { path: dir.to_owned(), source })?;
        let found: BTreeSet<u32> = found.into_iter().collect();
        let ids: BTreeSet<u32> = manifest.threads.iter().map(|thread| thread.id).chain(found.iter().copied()).collect();
        let may_be_deleted = |id| manifest.complete_from_ns.is_some() || found.contains(&id);
        let (mut threads, mut broken) = (Vec::new(), Vec::new());
        for id in ids {
            let folder = session::thread_folder(dir, id);
            match ThreadReader::open(&folder) {
                Ok(thread) => threads.push(thread),
                Err(_) if may_be_deleted(id) && !folder.exists() => {}
                Err(error) => broken.push(BrokenThread { id, folder, error }),
            }
        }
        Ok(Self { dir: dir.to_owned(), manifest, threads, broken })
    }

    /// The session's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was traced. Its counts may lie behind the files of a session that is being recorded.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The threads that can be read, in the order of their ordinals.
    #[must_use]
    pub fn threads(&self) -> &[ThreadReader] {
        &self.threads
    }

    /// The thread with the ordinal `id`, if it can be read.
    #[must_use]
    pub fn thread(&self, id: u32) -> Option<&ThreadReader> {
        let found = self.threads.binary_search_by_key(&id, ThreadReader::id).ok()?;
        self.threads.get(found)
    }

    /// The threads that cannot be read.
    #[must_use]
    pub fn broken(&self) -> &[BrokenThread] {
        &self.broken
    }

    /// What is wrong with threads whose files were cut after they were opened, as far as that was noticed while reading;
    /// see [`ThreadReader::intact`].
    pub fn cut(&self) -> impl Iterator<Item = ReadError> {
        self.threads.iter().filter_map(|thread| thread.intact().err())
    }

    /// Number of index events in all threads.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.threads.iter().map(|thread| thread.index().len()).sum()
    }

    /// First and last timestamp of all threads, in nanoseconds of the clock.
    #[must_use]
    pub fn time_range(&self) -> Option<(u64, u64)> {
        let ranges = self.threads.iter().filter_map(|thread| thread.index().time_range());
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// All events in time order; at the same time in the order of ordinals, and of positions within a thread.
    #[must_use]
    pub fn merged(&self) -> Merged<'_> {
        self.merged_between(None, None)
    }

    /// The events of [`merged`](Self::merged) from the time `from` up to but without the time `to`, in nanoseconds of
    /// the clock. The start is found by binary search.
    #[must_use]
    pub fn merged_between(&self, from: Option<u64>, to: Option<u64>) -> Merged<'_> {
        Merged::new(&self.threads, from, to)
    }
}
