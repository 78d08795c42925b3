//! A session as questions see it: functions, and threads put together from the files they were written to.
//!
//! Invariant: every folder that can be read belongs to exactly one thread; those that cannot be are in
//! [`Trace::broken`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ada_format::manifest::{Gap, Manifest, SessionStatus};
use ada_format::read::{BrokenThread, SessionReader, ThreadReader};
use ada_format::write::{DETAIL_FILE, INDEX_FILE};

use crate::QueryError;
use crate::functions::Functions;
use crate::span::End;

/// A session that was opened.
#[derive(Debug)]
pub struct Trace {
    session: SessionReader,
    functions: Functions,
    threads: Vec<Thread>,
    /// As of opening: what is mapped is not looked at again.
    time_range: Option<(u64, u64)>,
    /// Events that were read so far, for those who watch.
    read: AtomicU64,
}

/// A thread, whole: over all the folders that it was continued in.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its place in [`Trace::threads`].
    pub index: usize,
    /// The ordinal of its first folder.
    pub id: u32,
    /// The process it belongs to, if that is known.
    pub pid: Option<u32>,
    /// The operating system's thread id.
    pub tid: u32,
    /// Its name; may be empty.
    pub name: String,
    /// Its folders in the order in which they were written.
    pub parts: Vec<Part>,
    /// Events of it that were lost.
    pub lost: u64,
    /// When calls that are open at the end have ended at the latest, in nanoseconds of the clock, and by what.
    pub end: (u64, End),
    /// With which its process exited, if it did and that is known.
    pub exit_status: Option<i32>,
}

/// A folder of a thread.
#[derive(Clone, Debug)]
pub struct Part {
    /// The ordinal.
    pub id: u32,
    /// Its index file.
    pub index: PathBuf,
    /// Its detail file, if there is one that can be read.
    pub detail: Option<PathBuf>,
    /// Events in the index.
    pub events: u64,
    /// Where events are missing: before the event at this position, and what is known of the gap.
    pub gaps: Vec<(u64, Gap)>,
}

impl Thread {
    /// Events of all parts.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.parts.iter().map(|part| part.events).sum()
    }
}

impl Trace {
    /// Opens a session, finished or not; takes the same time for any number of events.
    ///
    /// # Errors
    /// [`QueryError::Read`] if the folder or its manifest cannot be read.
    pub fn open(dir: &Path) -> Result<Self, QueryError> {
        Ok(Self::new(SessionReader::open(dir)?))
    }

    /// Of a session that is open already.
    #[must_use]
    pub fn new(session: SessionReader) -> Self {
        let functions = Functions::new(session.manifest());
        let threads = threads(&session);
        let time_range = session.time_range();
        Self { session, functions, threads, time_range, read: AtomicU64::new(0) }
    }

    /// Looks again at a session that is being written: afterwards there may be more threads and events. The numbers of
    /// functions that the manifest names may change if it names more than before.
    ///
    /// # Errors
    /// As [`open`](Self::open); the trace is as it was then.
    pub fn refresh(&mut self) -> Result<(), QueryError> {
        let session = SessionReader::open(self.session.dir())?;
        if session.manifest().functions.len() != self.functions.known().len() {
            self.functions = Functions::new(session.manifest());
        }
        self.threads = threads(&session);
        self.time_range = session.time_range();
        self.session = session;
        Ok(())
    }

    /// The readers of its files.
    #[must_use]
    pub fn session(&self) -> &SessionReader {
        &self.session
    }

    /// What was traced.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        self.session.manifest()
    }

    /// Its functions.
    #[must_use]
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Its threads, in the order of their first ordinals.
    #[must_use]
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// The thread that a folder belongs to.
    #[must_use]
    pub fn thread_of(&self, ordinal: u32) -> Option<&Thread> {
        self.threads.iter().find(|thread| thread.parts.iter().any(|part| part.id == ordinal))
    }

    /// Folders that cannot be read; without those that a recorder has only just begun.
    pub fn broken(&self) -> impl Iterator<Item = &BrokenThread> {
        let recording = self.is_recording();
        self.session.broken().iter().filter(move |thread| !(recording && is_empty(&thread.error)))
    }

    /// Whether it is being recorded, or its recorder was killed.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.manifest().session.status == SessionStatus::Recording
    }

    /// Events in all files.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.threads.iter().map(Thread::events).sum()
    }

    /// Events that were read so far by all questions to this trace; may be asked while one is being answered.
    #[must_use]
    pub fn events_read(&self) -> u64 {
        // Relaxed: a number to show, which nothing depends on.
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn count_read(&self, events: u64) {
        // Relaxed: as above.
        self.read.fetch_add(events, Ordering::Relaxed);
    }

    /// First and last timestamp, in nanoseconds of the clock.
    #[must_use]
    pub fn time_range(&self) -> Option<(u64, u64)> {
        self.time_range
    }
}

fn is_empty(error: &ada_format::read::ReadError) -> bool {
    use ada_format::read::ReadError;
    match error {
        ReadError::TooShort { .. } => true,
        ReadError::Open { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn threads(session: &SessionReader) -> Vec<Thread> {
    let maker = Maker::new(session);
    let mut threads: Vec<Thread> = Vec::new();
    let mut place_of: HashMap<u32, usize> = HashMap::new();
    // Ordinals rise, so that what is continued comes before what continues it.
    for reader in session.threads() {
        let before = maker.continues.get(&reader.id()).filter(|before| **before < reader.id());
        let place = before.and_then(|before| place_of.get(before)).copied();
        let part = maker.part(reader);
        match place.and_then(|place| threads.get_mut(place)) {
            Some(thread) => {
                thread.parts.push(part);
                thread.lost += maker.lost(reader.id());
            }
            None => threads.push(maker.thread(threads.len(), reader, part)),
        }
        place_of.insert(reader.id(), place.unwrap_or(threads.len() - 1));
    }
    threads
}

/// What threads are made from.
struct Maker<'a> {
    manifest: &'a Manifest,
    by_id: HashMap<u32, &'a ada_format::manifest::Thread>,
    continues: HashMap<u32, u32>,
    gaps: HashMap<u32, Vec<(u64, Gap)>>,
    /// When a process ended, how, and with which exit status.
    ends: HashMap<u32, (u64, End, Option<i32>)>,
    /// When the recording ended.
    end_ns: u64,
}

impl<'a> Maker<'a> {
    fn new(session: &'a SessionReader) -> Self {
        let manifest = session.manifest();
        let mut gaps: HashMap<u32, Vec<(u64, Gap)>> = HashMap::new();
        for gap in &manifest.lost.gaps {
            let before = gap.after_index_seq.map_or(0, |after| after.saturating_add(1));
            gaps.entry(gap.thread).or_default().push((before, *gap));
        }
        gaps.values_mut().for_each(|gaps| gaps.sort_by_key(|(before, gap)| (*before, gap.time_start_ns)));
        let end_of = |process: &ada_format::manifest::Process| {
            let how = process.signal.map_or(End::Exit, |signal| End::Killed { signal });
            Some((process.pid, (process.end_ns?, how, process.exit_code)))
        };
        let last = session.time_range().map_or(0, |(_, last)| last);
        let anchor = manifest.clock.anchors.last().map_or(0, |anchor| anchor.boottime_ns);
        Self {
            manifest,
            by_id: manifest.threads.iter().map(|thread| (thread.id, thread)).collect(),
            continues: manifest.threads.iter().filter_map(|thread| Some((thread.id, thread.continues?))).collect(),
            gaps,
            ends: manifest.process.iter().filter_map(end_of).collect(),
            end_ns: last.max(anchor),
        }
    }

    fn thread(&self, index: usize, reader: &ThreadReader, part: Part) -> Thread {
        let entry = self.by_id.get(&reader.id());
        let only = if let [process] = self.manifest.process.as_slice() { Some(process.pid) } else { None };
        let pid = entry.map(|entry| entry.pid).filter(|pid| *pid != 0).or(only);
        let end = pid.and_then(|pid| self.ends.get(&pid)).copied();
        Thread {
            index,
            id: reader.id(),
            pid,
            tid: reader.tid(),
            name: entry.map_or_else(String::new, |entry| entry.name.clone()),
            parts: vec![part],
            lost: self.lost(reader.id()),
            end: end.map_or((self.end_ns, End::Recording), |(time_ns, how, _)| (time_ns, how)),
            exit_status: end.and_then(|(_, _, status)| status),
        }
    }

    fn part(&self, reader: &ThreadReader) -> Part {
        let detail = reader.detail().map(|_| reader.folder().join(DETAIL_FILE));
        Part {
            id: reader.id(),
            index: reader.folder().join(INDEX_FILE),
            detail,
            events: reader.index().len(),
            gaps: self.gaps.get(&reader.id()).cloned().unwrap_or_default(),
        }
    }

    fn lost(&self, id: u32) -> u64 {
        self.by_id.get(&id).map_or(0, |entry| entry.lost)
    }
}
