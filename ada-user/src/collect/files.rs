//! The threads of a recording and the files that their events go to.
//!
//! Invariant: an event is either handed to its thread's writer or counted as lost.

use std::{
    collections::HashMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use ada_format::{
    layout::{Arch, ClockType, MAX_EVENTS, Os},
    session,
    write::{Detail, ThreadMeta, ThreadSummary, ThreadWriter, WriteError},
};

use super::{
    depth::CallStack,
    flight::Entry,
    ledger::{Gap, Ledger, ThreadEntry},
    rotation::{Chunk, ChunkState},
    thread::{Event, Thread},
};
use crate::{
    backend::{Losses, ThreadLoss},
    clock,
};

/// Calls that a thread's stack has room for at first.
const FIRST_DEPTH: usize = 64;
/// Ended threads whose files stay open at the same time, for details that may yet follow: each takes 0.2 MiB and two files.
const WAITING: usize = 256;
/// An event, and before it one that says on which stack it lies.
const MOST_AT_ONCE: u64 = 2;
/// The reasons under which events count that could not be written.
const DISK_FULL: &str = "disk_full";
const WRITE_FAILED: &str = "write_failed";

/// All threads and their files.
pub(super) struct Files {
    dir: PathBuf,
    pub(super) ledger: Ledger,
    /// The ordinal of the next folder. None is used twice.
    next_folder: u32,
    /// A thread goes on in another one once its files are so large.
    largest: u64,
    /// Live threads; a free place is `None`.
    threads: Vec<Option<Thread>>,
    by_tid: HashMap<u32, usize>,
    by_folder: HashMap<u32, usize>,
    /// The place of the thread of the last event.
    latest: Option<((u32, u32), usize)>,
    /// The folder that a thread id had last, for losses that are reported after its end.
    folders: HashMap<(u32, u32), u32>,
    /// By folder: threads that have ended, or have gone on in another folder, and some of whose details may follow.
    waiting: HashMap<u32, Thread>,
    /// Why writing ended.
    failure: Option<WriteError>,
    /// Events lost to that: of threads that have ended or never got a folder.
    unwritten: u64,
}

impl Files {
    /// In the session folder `dir`, which exists.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            ledger: Ledger::default(),
            next_folder: 0,
            largest: u64::MAX,
            threads: Vec::new(),
            by_tid: HashMap::new(),
            by_folder: HashMap::new(),
            latest: None,
            folders: HashMap::new(),
            waiting: HashMap::new(),
            failure: None,
            unwritten: 0,
        }
    }

    /// Threads go on in other folders once their files are so large, in bytes.
    pub(super) fn no_larger(&mut self, bytes: u64) {
        self.largest = bytes;
    }

    /// Whether writing has ended with an error.
    pub(super) fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The place of a live thread that has one. Most events are of the same thread as the one before.
    #[inline]
    pub(super) fn known(&mut self, pid: u32, tid: u32) -> Option<usize> {
        if let Some((latest, index)) = self.latest
            && latest == (pid, tid)
        {
            return Some(index);
        }
        let index = self.by_tid.get(&tid).copied().filter(|index| self.is_of(*index, pid))?;
        self.latest = Some(((pid, tid), index));
        Some(index)
    }

    /// The thread at a place.
    #[inline]
    pub(super) fn thread(&mut self, index: usize) -> Option<&mut Thread> {
        self.threads.get_mut(index)?.as_mut()
    }

    /// The number of the stack that the file of the thread at a place was last on.
    #[inline]
    pub(super) fn runs_on(&self, index: usize) -> u32 {
        self.threads.get(index).and_then(Option::as_ref).map_or(0, |thread| thread.runs_on)
    }

    /// Number of places.
    pub(super) fn places(&self) -> usize {
        self.threads.len()
    }

    /// Whether the thread at a place is one of process `pid`.
    pub(super) fn is_of(&self, index: usize, pid: u32) -> bool {
        matches!(self.threads.get(index), Some(Some(thread)) if thread.pid == pid)
    }

    /// Makes a place for a thread that has none. An event of it that finds no place counts as lost. `None` once writing has
    /// failed.
    #[cold]
    pub(super) fn begin(&mut self, pid: u32, tid: u32) -> Option<usize> {
        if let Some(index) = self.by_tid.get(&tid).copied() {
            // The id was given to another process: the end of its former owner was lost.
            self.end(index, None, false);
        }
        self.open(pid, tid, None, CallStack::with_capacity(FIRST_DEPTH))
    }

    /// An event has no place to go to.
    #[cold]
    pub(super) fn count_unwritten(&mut self) {
        self.unwritten += 1;
    }

    /// Writes an event, with its detail if that is to be written at once, and tells its position. `None` if it was lost.
    #[inline]
    pub(super) fn write(&mut self, index: usize, event: Event, detail: Option<&Detail<'_>>) -> Option<u32> {
        let thread = self.threads.get_mut(index)?.as_mut()?;
        let written = match detail {
            None => thread.write(event),
            Some(detail) => thread.write_with(event, detail),
        };
        match written {
            Ok(index_seq) => Some(index_seq),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// Writes a detail of an event that was written before without. False if that cannot be; what belongs to no open file is
    /// counted.
    pub(super) fn write_late(&mut self, entry: &Entry<'_>) -> bool {
        let place = self.place_of(entry.thread);
        let live = place.and_then(|index| self.threads.get_mut(index)?.as_mut());
        let Some(thread) = live.or_else(|| self.waiting.get_mut(&entry.thread)) else {
            self.ledger.details_missed += 1;
            return false;
        };
        let Entry { index_seq, time_ns, function_id, kind, detail, .. } = entry;
        match thread.writer.add_detail(*index_seq, *time_ns, *function_id, *kind, detail) {
            Ok(_) => return true,
            Err(error @ (WriteError::Failed { .. } | WriteError::Stopped { .. })) => self.fail(error),
            Err(_) => self.ledger.details_missed += 1,
        }
        false
    }

    /// Whether the file of the thread at a place can take no more events, or should not.
    #[inline]
    pub(super) fn is_full(&self, index: usize) -> bool {
        let Some(Some(thread)) = self.threads.get(index) else { return false };
        thread.writer.event_count() + MOST_AT_ONCE > MAX_EVENTS || thread.writer.bytes() >= self.largest
    }

    /// A thread goes on in the next folder. `waits`: details may follow in the one so far, which is returned.
    #[cold]
    pub(super) fn go_on(&mut self, index: usize, waits: impl FnOnce(u32) -> bool) {
        let Some(Some(thread)) = self.threads.get_mut(index) else { return };
        let stack = std::mem::take(&mut thread.stack);
        let (pid, tid, folder) = (thread.pid, thread.tid, thread.folder);
        self.end(index, None, waits(folder));
        self.open(pid, tid, Some(folder), stack);
    }

    /// A thread has ended: frees its place, and finalises its files unless details may follow (`waits`).
    pub(super) fn end(&mut self, index: usize, name: Option<&str>, waits: bool) {
        let Some(thread) = self.threads.get_mut(index).and_then(Option::take) else { return };
        self.by_tid.remove(&thread.tid);
        self.by_folder.remove(&thread.folder);
        self.latest = None;
        self.ledger.revision += 1;
        if let Some(entry) = self.ledger.threads.get_mut(&thread.folder) {
            entry.finished = true;
            let first = entry.first;
            if let Some(name) = name {
                let parts = self.ledger.threads.range_mut(first..).map(|(_, entry)| entry);
                parts.filter(|entry| entry.first == first).for_each(|entry| entry.name = Some(name.to_owned()));
            }
        }
        if waits && self.waiting.len() < WAITING {
            self.waiting.insert(thread.folder, thread);
        } else {
            self.finalise(thread);
        }
    }

    /// No more details follow for a thread that has ended.
    pub(super) fn release(&mut self, folder: u32) {
        if let Some(thread) = self.waiting.remove(&folder) {
            self.finalise(thread);
        }
    }

    /// The place of the live thread that writes to a folder.
    pub(super) fn place_of(&self, folder: u32) -> Option<usize> {
        self.by_folder.get(&folder).copied()
    }

    /// The folders that are kept, as of the last flush.
    pub(super) fn chunks(&self) -> Vec<Chunk> {
        let state = |folder: u32, entry: &ThreadEntry| match entry.finished {
            false => ChunkState::Open,
            true if self.waiting.contains_key(&folder) => ChunkState::Waiting,
            true => ChunkState::Finished,
        };
        let chunk = |(folder, entry): (&u32, &ThreadEntry)| Chunk {
            folder: *folder,
            first_ns: entry.first_ns(),
            last_ns: entry.last_ns(),
            events: entry.event_count,
            bytes: entry.bytes,
            state: state(*folder, entry),
        };
        self.ledger.threads.iter().map(chunk).collect()
    }

    /// A folder is going to be deleted, unless a thread writes to it: then false. Details that would still have come will be
    /// missed.
    pub(super) fn cut(&mut self, folder: u32) -> bool {
        self.release(folder);
        let Some(entry) = self.ledger.threads.get(&folder).filter(|entry| entry.finished) else { return false };
        let thread = (entry.pid, entry.tid);
        if self.folders.get(&thread) == Some(&folder) {
            self.folders.remove(&thread);
        }
        self.ledger.cut(folder);
        true
    }

    /// Hands what is buffered to the operating system and brings the ledger up to date.
    pub(super) fn flush(&mut self) {
        let all = self.threads.iter_mut().flatten().chain(self.waiting.values_mut());
        let failed = all.filter_map(|thread| thread.writer.flush().err()).next();
        if let Some(error) = failed {
            self.fail(error);
        }
        self.post_progress();
    }

    /// Finalises every file.
    pub(super) fn finish(&mut self) {
        for index in 0..self.threads.len() {
            self.end(index, None, false);
        }
        let waiting: Vec<Thread> = self.waiting.drain().map(|(_, thread)| thread).collect();
        waiting.into_iter().for_each(|thread| self.finalise(thread));
        self.post_progress();
    }

    /// Notes losses, by thread where they are known.
    pub(super) fn note_losses(&mut self, losses: &Losses) {
        self.ledger.set_reasons(losses);
        for loss in &losses.threads {
            // A thread all of whose events were lost so far gets its folder now.
            let folder = match self.folders.get(&(loss.pid, loss.tid)) {
                Some(folder) => *folder,
                None => match self.begin(loss.pid, loss.tid) {
                    Some(index) => self.folder_for_loss(index, loss),
                    None => continue,
                },
            };
            let (count, first_ns, last_ns) = (loss.count, loss.first_ns, loss.last_ns);
            self.ledger.add_gap(Gap { thread: folder, count, first_ns, last_ns });
        }
    }

    /// The folder of a thread of which nothing but a loss is known. If it has ended, nobody will tell.
    fn folder_for_loss(&mut self, index: usize, loss: &ThreadLoss) -> u32 {
        let folder = self.threads.get(index).and_then(Option::as_ref).map_or(0, |thread| thread.folder);
        if !Path::new(&format!("/proc/{}/task/{}", loss.pid, loss.tid)).exists() {
            self.end(index, None, false);
        }
        folder
    }

    /// Makes the next folder.
    fn open(&mut self, pid: u32, tid: u32, continues: Option<u32>, stack: CallStack) -> Option<usize> {
        if self.failed() {
            return None;
        }
        let folder = self.next_folder;
        self.next_folder = folder.saturating_add(1);
        let meta = ThreadMeta { thread_id: tid, arch: Arch::host(), os: Os::Linux, clock: ClockType::Boottime };
        let writer = match ThreadWriter::create(&session::thread_folder(&self.dir, folder), &meta) {
            Ok(writer) => writer,
            Err(error) => {
                self.fail(error);
                return None;
            }
        };
        let first = continues.and_then(|former| Some(self.ledger.threads.get(&former)?.first)).unwrap_or(folder);
        let opened_ns = clock::boottime_ns();
        let entry = ThreadEntry { pid, tid, continues, first, opened_ns, ..ThreadEntry::default() };
        self.ledger.threads.insert(folder, entry);
        self.ledger.revision += 1;
        self.folders.insert((pid, tid), folder);
        let index = self.threads.iter().position(Option::is_none).unwrap_or(self.threads.len());
        let thread = Some(Thread { folder, pid, tid, stack, runs_on: 0, writer, delivered: 0, last_ns: 0 });
        match self.threads.get_mut(index) {
            Some(place) => *place = thread,
            None => self.threads.push(thread),
        }
        self.by_tid.insert(tid, index);
        self.by_folder.insert(folder, index);
        Some(index)
    }

    /// Finalises a thread's files.
    fn finalise(&mut self, thread: Thread) {
        let (folder, missed_returns) = (thread.folder, thread.stack.unreturned().beyond_limit);
        let mut summary = thread.writer.summary();
        match thread.writer.finish() {
            Ok(finished) => summary = finished,
            Err(error) => self.fail(error),
        }
        let missing = thread.delivered.saturating_sub(summary.event_count);
        if missing > 0 {
            self.unwritten += missing;
            let (first_ns, last_ns) = (summary.time_end_ns + 1, thread.last_ns);
            self.ledger.add_gap(Gap { thread: folder, count: missing, first_ns, last_ns });
        }
        self.ledger.revision += 1;
        if let Some(entry) = self.ledger.threads.get_mut(&folder) {
            entry.missed_returns = missed_returns;
            set_counts(entry, summary);
        }
    }

    fn post_progress(&mut self) {
        let ledger = &mut self.ledger;
        for thread in self.threads.iter().flatten().chain(self.waiting.values()) {
            if let Some(entry) = ledger.threads.get_mut(&thread.folder) {
                entry.missed_returns = thread.stack.unreturned().beyond_limit;
                set_counts(entry, thread.writer.summary());
            }
        }
        let all = self.threads.iter().flatten().chain(self.waiting.values());
        let unwritten = self.unwritten + all.map(Thread::missing).sum::<u64>();
        if unwritten > 0 {
            let full = self.failure.as_ref().is_some_and(is_full);
            ledger.lost_by_reason.insert(if full { DISK_FULL } else { WRITE_FAILED }, unwritten);
        }
        if let Some(error) = &self.failure
            && ledger.failure.is_none()
        {
            ledger.failure = Some(sentence(error, &self.dir));
        }
    }

    fn fail(&mut self, error: WriteError) {
        self.failure.get_or_insert(error);
    }
}

fn set_counts(entry: &mut ThreadEntry, summary: ThreadSummary) {
    entry.event_count = summary.event_count;
    entry.detail_count = summary.detail_count;
    entry.bytes = summary.bytes;
    entry.time_start_ns = summary.time_start_ns;
    entry.time_end_ns = summary.time_end_ns;
}

/// Why writing ended, in words.
fn sentence(error: &WriteError, dir: &Path) -> String {
    if is_full(error) {
        return format!("the disk that holds {} is full (make room, or choose another folder with -o)", dir.display());
    }
    error.to_string()
}

fn is_full(error: &WriteError) -> bool {
    match error {
        WriteError::Create { source, .. } | WriteError::Failed { source, .. } => {
            matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}
