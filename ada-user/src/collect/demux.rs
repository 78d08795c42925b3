//! Sorts the events of one stream into the files of their threads, with their call depth.
//!
//! Invariant: an event is either handed to its thread's writer or counted as lost.

use std::{
    collections::HashMap,
    io::ErrorKind,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Sender},
};

use ada_format::{
    layout::{Arch, ClockType, EventKind, NO_FUNCTION, Os},
    session,
    wire::{Record, Signal, flags, kind},
    write::{Detail, ThreadMeta, ThreadWriter, WriteError},
};

use super::{
    depth::{Call, CallStack, Expect},
    ledger::{Gap, Ledger, Muted, ThreadEntry},
    life::{Life, Stopped, go_on, name_of},
    returns::ReturnsTable,
    span::Span,
    thread::{Event, Pieces, Thread, function_detail, signal_detail},
};
use crate::{
    backend::{CallDetail, LossGauge, Losses, More, Sink, ThreadLoss},
    plan::Plan,
};

/// Calls that a thread's stack has room for at first.
const FIRST_DEPTH: usize = 64;
/// The reasons under which events count that could not be written.
const DISK_FULL: &str = "disk_full";
const WRITE_FAILED: &str = "write_failed";

/// The threads of a recording and the files they go to.
pub(crate) struct Demux {
    span: Arc<Span>,
    dir: PathBuf,
    ledger: Ledger,
    /// What happened to processes and was not yet asked for.
    lives: Vec<Life>,
    /// Takes processes that are stopped.
    held: Option<Sender<Stopped>>,
    returns: ReturnsTable,
    /// Live threads; a free place is `None`.
    threads: Vec<Option<Thread>>,
    by_tid: HashMap<u32, usize>,
    /// The calls on stacks that are no thread's own, by process and stack: goroutines go from thread to thread.
    stacks: HashMap<(u32, u32), CallStack>,
    /// The place of the thread of the last event.
    latest: Option<((u32, u32), usize)>,
    /// The folder that a thread id had last, for losses that are reported after its end.
    folders: HashMap<(u32, u32), u32>,
    /// Tells how many events the source has lost so far.
    lost: LossGauge,
    /// Events at this call depth and deeper are not written.
    max_depth: u32,
    /// Why writing ended.
    failure: Option<WriteError>,
    /// Events lost to that: of threads that have ended or never got a folder.
    unwritten: u64,
}

impl Demux {
    /// Writes to the session folder `dir`, which exists.
    pub(crate) fn new(dir: PathBuf, plan: &Plan, lost: LossGauge, span: Arc<Span>) -> Self {
        Self {
            span,
            dir,
            ledger: Ledger::default(),
            lives: Vec::new(),
            held: None,
            returns: ReturnsTable::new(plan),
            threads: Vec::new(),
            by_tid: HashMap::new(),
            stacks: HashMap::new(),
            latest: None,
            folders: HashMap::new(),
            lost,
            max_depth: u32::MAX,
            failure: None,
            unwritten: 0,
        }
    }

    /// Leaves out what is as deep as `limit` or deeper.
    pub(crate) fn no_deeper(self, limit: Option<NonZeroU32>) -> Self {
        Self { max_depth: limit.map_or(u32::MAX, NonZeroU32::get), ..self }
    }

    /// The books, up to date as of the last flush.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where processes are told that are stopped until somebody lets them go on; otherwise they go on at once.
    pub(crate) fn tell_held(&mut self, held: Sender<Stopped>) {
        self.held = Some(held);
    }

    /// More functions will be called.
    pub(crate) fn extend(&mut self, addition: &Plan) {
        self.returns.extend(addition);
    }

    /// Moves what happened to processes since the last call to the end of `lives`.
    pub(crate) fn tell_lives(&mut self, lives: &mut Vec<Life>) {
        lives.append(&mut self.lives);
    }

    /// Whether writing has ended with an error.
    pub(crate) fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Hands what is buffered to the operating system and brings the ledger up to date.
    pub(crate) fn flush(&mut self) {
        for index in 0..self.threads.len() {
            if let Some(Some(thread)) = self.threads.get_mut(index)
                && let Err(error) = thread.writer.flush()
            {
                self.fail(error);
            }
        }
        self.post_progress();
    }

    /// Notes losses, by thread where they are known.
    pub(crate) fn note_losses(&mut self, losses: &Losses) {
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
            self.finish_thread(index, None);
        }
        folder
    }

    /// Finalises every file.
    pub(crate) fn finish(&mut self) {
        for index in 0..self.threads.len() {
            self.finish_thread(index, None);
        }
        self.post_progress();
    }

    /// The place of a live thread that has one. Most events are of the same thread as the one before.
    fn known(&mut self, pid: u32, tid: u32) -> Option<usize> {
        if let Some((latest, index)) = self.latest
            && latest == (pid, tid)
        {
            return Some(index);
        }
        let index = self.by_tid.get(&tid).copied().filter(|index| self.is_of(*index, pid))?;
        self.latest = Some(((pid, tid), index));
        Some(index)
    }

    /// Makes a place for a thread that has none. `None` once writing has failed.
    #[cold]
    fn begin(&mut self, pid: u32, tid: u32) -> Option<usize> {
        if let Some(index) = self.by_tid.get(&tid).copied() {
            // The id was given to another process: the end of its former owner was lost.
            self.finish_thread(index, None);
        }
        self.open(pid, tid, None, CallStack::with_capacity(FIRST_DEPTH))
    }

    fn is_of(&self, index: usize, pid: u32) -> bool {
        matches!(self.threads.get(index), Some(Some(thread)) if thread.pid == pid)
    }

    /// Makes the next folder.
    fn open(&mut self, pid: u32, tid: u32, continues: Option<u32>, stack: CallStack) -> Option<usize> {
        if self.failed() {
            return None;
        }
        let folder = u32::try_from(self.ledger.threads.len()).unwrap_or(u32::MAX);
        let meta = ThreadMeta { thread_id: tid, arch: Arch::host(), os: Os::Linux, clock: ClockType::Boottime };
        let writer = match ThreadWriter::create(&session::thread_folder(&self.dir, folder), &meta) {
            Ok(writer) => writer,
            Err(error) => {
                self.fail(error);
                return None;
            }
        };
        self.ledger.threads.push(ThreadEntry { pid, tid, continues, ..ThreadEntry::default() });
        self.ledger.revision += 1;
        self.folders.insert((pid, tid), folder);
        let index = self.threads.iter().position(Option::is_none).unwrap_or(self.threads.len());
        let thread = Some(Thread { folder, pid, tid, stack, writer, delivered: 0, last_ns: 0 });
        match self.threads.get_mut(index) {
            Some(place) => *place = thread,
            None => self.threads.push(thread),
        }
        self.by_tid.insert(tid, index);
        Some(index)
    }

    /// Finalises a thread's files and frees its place.
    fn finish_thread(&mut self, index: usize, name: Option<String>) {
        let Some(thread) = self.threads.get_mut(index).and_then(Option::take) else { return };
        self.by_tid.remove(&thread.tid);
        self.latest = None;
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
        if let Some(entry) = self.ledger.threads.get_mut(folder as usize) {
            entry.finished = true;
            entry.name = name.or(entry.name.take());
            entry.missed_returns = missed_returns;
            set_counts(entry, summary);
        }
    }

    fn post_progress(&mut self) {
        let ledger = &mut self.ledger;
        for thread in self.threads.iter().flatten() {
            if let Some(entry) = ledger.threads.get_mut(thread.folder as usize) {
                entry.missed_returns = thread.stack.unreturned().beyond_limit;
                set_counts(entry, thread.writer.summary());
            }
        }
        let unwritten = self.unwritten + self.threads.iter().flatten().map(Thread::missing).sum::<u64>();
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

    /// A call or return.
    fn function_event(&mut self, record: &Record, detail: Option<&CallDetail<'_>>) {
        let within = self.span.contains(record.time_ns);
        if record.kind == kind::CALL && !within {
            return;
        }
        let place = match self.known(record.tgid, record.tid) {
            // The return of a call from before the recording must not make a folder for its thread.
            None if record.kind == kind::RETURN && (self.lost)() == 0 && !self.failed() => return,
            None => self.begin(record.tgid, record.tid),
            known => known,
        };
        let returns = self.returns.of(record.function_id);
        let Some((index, Some(thread))) = place.and_then(|index| Some((index, self.threads.get_mut(index)?.as_mut())))
        else {
            self.unwritten += 1;
            return;
        };
        let stack = match record.stack {
            0 => &mut thread.stack,
            stack => self.stacks.entry((record.tgid, stack)).or_default(),
        };
        let (kind, depth) = match record.kind {
            kind::CALL => (EventKind::Call, stack.call(call_of(record, returns))),
            _ => match stack.ret(record.sp, record.function_id) {
                Ok(depth) => (EventKind::Return, depth),
                // With nothing lost, its call lies before the recording; after the end, maybe behind it.
                Err(_) if !within || record.flags & flags::UNPAIRED != 0 || (self.lost)() == 0 => return,
                Err(depth) => (EventKind::Return, depth),
            },
        };
        if !stack.left().is_empty() {
            self.end_left(index, record.stack, record.time_ns);
        }
        if depth >= self.max_depth {
            return;
        }
        let event = Event { time_ns: record.time_ns, function_id: record.function_id, kind, depth };
        match detail {
            None => self.write(index, event, None),
            Some(detail) => {
                let pieces = Pieces::of(detail);
                self.write(index, event, Some(Detail::Function(function_detail(detail, &pieces))));
            }
        }
    }

    #[inline]
    fn write(&mut self, index: usize, event: Event, detail: Option<Detail<'_>>) {
        let Some(Some(thread)) = self.threads.get_mut(index) else { return };
        let written = match detail {
            None => thread.write(event),
            Some(detail) => thread.write_with(event, &detail),
        };
        match written {
            Ok(_) if thread.writer.is_full() => self.go_on_in_next_folder(index),
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
    }

    /// The calls that an event at `time_ns` proves to be left by longjmp or an exception end with it. Where events were lost,
    /// their returns may be among those.
    #[cold]
    fn end_left(&mut self, index: usize, stack: u32, time_ns: u64) {
        if (self.lost)() > 0 {
            return;
        }
        for position in 0.. {
            let Some(Some(thread)) = self.threads.get(index) else { return };
            let stack = match stack {
                0 => Some(&thread.stack),
                stack => self.stacks.get(&(thread.pid, stack)),
            };
            let Some(left) = stack.and_then(|stack| stack.left().get(position)).copied() else { return };
            let (function_id, kind, depth) = (left.function_id, EventKind::Exception, left.depth);
            if depth < self.max_depth {
                self.write(index, Event { time_ns, function_id, kind, depth }, None);
            }
        }
    }

    /// A signal is delivered to a thread, within what is recorded or not.
    #[cold]
    fn signal(&mut self, record: &Record, signal: &Signal) {
        // By SIGCONT a process goes on that was stopped to be looked at.
        let ours = signal.number == libc::SIGCONT as u32 && signal.sender == std::process::id();
        if ours || !self.span.contains(record.time_ns) {
            return;
        }
        let known = self.known(record.tgid, record.tid);
        let Some(index) = known.or_else(|| self.begin(record.tgid, record.tid)) else {
            self.unwritten += 1;
            return;
        };
        let running = self.threads.get(index).and_then(Option::as_ref).map(|thread| thread.stack.running());
        let (depth, function_id) = running.unwrap_or_default();
        let function_id = function_id.unwrap_or(NO_FUNCTION);
        let event = Event { time_ns: record.time_ns, function_id, kind: EventKind::Exception, depth };
        self.write(index, event, Some(Detail::Signal(signal_detail(signal))));
    }

    #[cold]
    fn go_on_in_next_folder(&mut self, index: usize) {
        let Some(Some(thread)) = self.threads.get_mut(index) else { return };
        let stack = std::mem::take(&mut thread.stack);
        let (pid, tid, folder) = (thread.pid, thread.tid, thread.folder);
        self.finish_thread(index, None);
        self.open(pid, tid, Some(folder), stack);
    }

    #[cold]
    fn muted(&mut self, record: &Record) {
        let (function_id, at_ns, calls_per_s) = (record.function_id, record.time_ns, record.sp);
        self.ledger.add_muted(Muted { function_id, at_ns, calls_per_s });
    }

    #[cold]
    fn thread_exit(&mut self, record: &Record) {
        if let Some(index) = self.by_tid.get(&record.tid).copied()
            && self.is_of(index, record.tgid)
        {
            self.finish_thread(index, Some(name_of(record)));
        }
    }

    #[cold]
    fn exec(&mut self, record: &Record) {
        if let Some(index) = self.by_tid.get(&record.tid).copied()
            && let Some(Some(thread)) = self.threads.get_mut(index)
        {
            thread.stack.clear();
        }
        self.stacks.retain(|(pid, _), _| *pid != record.tgid);
        // Its other threads are gone, and so is the one that called execve under its own id.
        for index in 0..self.threads.len() {
            if self.is_of(index, record.tgid)
                && matches!(self.threads.get(index), Some(Some(thread)) if thread.tid != record.tid)
            {
                self.finish_thread(index, None);
            }
        }
        self.process(record);
        self.stopped(record);
    }

    #[cold]
    fn stopped(&mut self, record: &Record) {
        if record.flags & flags::HELD != 0 {
            let told = self.held.as_ref().map(|held| held.send(Stopped::of(record)));
            if !matches!(told, Some(Ok(()))) {
                go_on(record.tgid);
            }
        }
    }

    /// A new process. Its id may have been another one's, of whose end nothing was seen.
    #[cold]
    fn fork(&mut self, record: &Record) {
        for index in 0..self.threads.len() {
            if u32::try_from(record.function_id).is_ok_and(|pid| self.is_of(index, pid)) {
                self.finish_thread(index, None);
            }
        }
        self.process(record);
    }

    #[cold]
    fn process(&mut self, record: &Record) {
        self.lives.extend(Life::of(record));
        self.ledger.revision += 1;
    }
}

impl Sink for Demux {
    fn event(&mut self, record: &Record, more: More<'_>) {
        match record.kind {
            kind::CALL | kind::RETURN => match more {
                More::Detail(detail) => self.function_event(record, Some(&detail)),
                _ => self.function_event(record, None),
            },
            kind::THREAD_EXIT => self.thread_exit(record),
            kind::EXEC => self.exec(record),
            kind::FORK => self.fork(record),
            kind::PROCESS_EXIT => {
                self.stacks.retain(|(pid, _), _| *pid != record.tgid);
                self.process(record);
            }
            kind::SIGNAL => {
                if let More::Signal(signal) = more {
                    self.signal(record, signal);
                }
            }
            kind::LIBRARIES => self.stopped(record),
            kind::MUTED => self.muted(record),
            _ => {}
        }
    }
}

fn call_of(record: &Record, returns: Expect) -> Call {
    let chained = record.flags & flags::CHAINED != 0;
    Call { sp: record.sp, function_id: record.function_id, chained, returns }
}

fn set_counts(entry: &mut ThreadEntry, summary: ada_format::write::ThreadSummary) {
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
