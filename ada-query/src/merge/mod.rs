//! Several sessions as one, on one clock.
//!
//! ```text
//! session A  boot clock of A ──────────────────────▶ as they are
//! session B  boot clock of B ─ wall clock by anchors ▶ boot clock of A
//! ```
//!
//! Invariant: the merged session holds every event of every session once, in the order of each thread; its manifest says
//! what was added to the times, and which numbers are new.

mod clock;
mod copy;
mod numbers;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ada_format::manifest::{Anchor, Gap, Manifest, MergedFrom, SessionStatus, Thread};
use ada_format::read::SessionReader;
use ada_format::session::{self, SessionError, thread_folder};

use self::clock::{Offset, moved};
use self::copy::{Change, Copied, copy};
use self::numbers::{Numbers, Renumbered};
use crate::QueryError;
use crate::trace::Trace;

/// Why sessions could not be put together. The folder of the new one is then gone again.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Two of them are the same.
    #[error("{} and {} are the same session: give each once", first.display(), second.display())]
    Same {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// One is not finished.
    #[error("{0} is not finished: stop its recording, or, if its recorder was killed, `ada-trace recover {0}`", path.display())]
    Unfinished {
        /// The session.
        path: PathBuf,
    },
    /// One cannot be brought onto a common clock.
    #[error("{} does not say what o'clock it was (its manifest has no clock anchors): it cannot be put beside another", path.display())]
    NoAnchor {
        /// The session.
        path: PathBuf,
    },
    /// One is of another kind.
    #[error("{} has {what}, the first session has another: they cannot be merged", path.display())]
    Differs {
        /// The session.
        path: PathBuf,
        /// Operating system or clock.
        what: String,
    },
    /// Something happened before the first session's clock began.
    #[error("{} has an event at {time_ns} ns of its clock, before the first session's machine was started: name the session of \
             the machine that has run longest first", path.display())]
    BeforeClock {
        /// The folder or file.
        path: PathBuf,
        /// Its own time.
        time_ns: u64,
    },
    /// The new session cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Folder or file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// One cannot be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The new session's folder or manifest cannot be written.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl MergeError {
    fn writing(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Write { path: path.to_owned(), source }
    }

    fn before(path: &Path, time_ns: u64) -> Self {
        Self::BeforeClock { path: path.to_owned(), time_ns }
    }
}

/// What was put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// One for each session, in the order given.
    pub from: Vec<MergedFrom>,
}

/// Puts sessions together in `out`, a new or an empty folder. Times are those of the first one's clock.
///
/// # Errors
/// [`MergeError`]; what was written is removed then.
pub fn merge(sessions: Vec<SessionReader>, out: &Path) -> Result<Merged, MergeError> {
    let traces: Vec<Trace> = sessions.into_iter().map(Trace::new).collect();
    let offsets = check(&traces)?;
    let existed = out.exists();
    session::create(out)?;
    let lock = session::lock(out)?;
    let result = write(&traces, &offsets, out);
    drop(lock);
    if result.is_err() {
        remove(out, existed);
    }
    result
}

/// Takes away what an attempt left behind.
fn remove(out: &Path, existed: bool) {
    // What cannot be removed is no session: it has no manifest.
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    entries.for_each(|entry| {
        let _ = fs::remove_dir_all(entry.path());
    });
    if !existed {
        let _ = fs::remove_dir(out);
    }
}

/// Whether they can be put together, and what is to be added to their times.
fn check(traces: &[Trace]) -> Result<Vec<Offset>, MergeError> {
    let path = |trace: &Trace| trace.session().dir().to_owned();
    for (place, trace) in traces.iter().enumerate() {
        if trace.is_recording() {
            return Err(MergeError::Unfinished { path: path(trace) });
        }
        if let Some(first) = traces.iter().take(place).find(|other| are_same(other, trace)) {
            return Err(MergeError::Same { first: path(first), second: path(trace) });
        }
        if let Some(broken) = trace.broken().next() {
            return Err(QueryError::Broken { folder: broken.folder.clone(), why: broken.error.to_string() }.into());
        }
    }
    let Some(first) = traces.first().map(Trace::manifest) else { return Ok(Vec::new()) };
    let offset = |trace: &Trace| {
        let manifest = trace.manifest();
        let differs = |what: String| MergeError::Differs { path: path(trace), what };
        if manifest.os != first.os {
            return Err(differs(format!("operating system {}", manifest.os)));
        }
        if manifest.clock.kind != first.clock.kind {
            return Err(differs(format!("clock {}", manifest.clock.kind)));
        }
        clock::offset(manifest, first).ok_or_else(|| MergeError::NoAnchor { path: path(trace) })
    };
    traces.iter().map(offset).collect()
}

/// Whether two sessions, or parts of which they were made, are the same.
fn are_same(a: &Trace, b: &Trace) -> bool {
    let canonical = |trace: &Trace| fs::canonicalize(trace.session().dir()).ok();
    if canonical(a).is_some() && canonical(a) == canonical(b) {
        return true;
    }
    let (a, b) = (origins(a.manifest()), origins(b.manifest()));
    a.iter().any(|origin| b.contains(origin))
}

/// Id, host and start of the sessions that this one is, or was made of; none of sessions without an id.
fn origins(manifest: &Manifest) -> Vec<(&str, &str, &str)> {
    fn of(from: &MergedFrom) -> Vec<(&str, &str, &str)> {
        let own = (from.session.as_str(), from.host.as_str(), from.started_at.as_str());
        from.merged_from.iter().flat_map(of).chain([own]).collect()
    }
    let own = (manifest.session.id.as_str(), manifest.host.hostname.as_str(), manifest.session.started_at.as_str());
    let all = manifest.merged_from.iter().flat_map(of).chain([own]);
    all.filter(|(id, ..)| !id.is_empty()).collect()
}

fn write(traces: &[Trace], offsets: &[Offset], out: &Path) -> Result<Merged, MergeError> {
    let first = traces.first().map(|trace| trace.manifest().clone()).unwrap_or_default();
    let mut merger = Merger { out, into: empty(&first), numbers: Numbers::default(), next_thread: 0 };
    for (trace, offset) in traces.iter().zip(offsets) {
        merger.add(trace, *offset)?;
    }
    let Merger { mut into, .. } = merger;
    finish(&mut into);
    into.write_atomic(out).map_err(SessionError::from)?;
    Ok(Merged { from: into.merged_from })
}

/// What all of them have in common, as the first one has it.
fn empty(first: &Manifest) -> Manifest {
    let mut into = Manifest {
        tool: first.tool.clone(),
        os: first.os.clone(),
        arch: first.arch.clone(),
        host: first.host.clone(),
        extra: first.extra.clone(),
        ..Manifest::default()
    };
    into.clock.kind.clone_from(&first.clock.kind);
    into.session = ada_format::manifest::Session {
        id: format!("{}-merged", first.session.id),
        status: SessionStatus::Complete,
        complete: true,
        ..first.session.clone()
    };
    into
}

fn finish(into: &mut Manifest) {
    let with_events = || into.threads.iter().filter(|thread| thread.event_count > 0);
    let start_ns = with_events().map(|thread| thread.time_start_ns).min().unwrap_or(0);
    let end_ns = with_events().map(|thread| thread.time_end_ns).max().unwrap_or(0);
    into.event_count = into.threads.iter().map(|thread| thread.event_count).sum();
    (into.time_start_ns, into.time_end_ns) = (start_ns, end_ns);
    into.clock.anchors.sort_by_key(|anchor| anchor.boottime_ns);
    into.windows.sort_by_key(|window| window.start_ns);
}

struct Merger<'a> {
    out: &'a Path,
    into: Manifest,
    numbers: Numbers,
    next_thread: u32,
}

/// How the events of one session change.
struct Changes<'n> {
    offset: Offset,
    numbers: &'n mut Numbers,
    new: &'n mut Renumbered,
    /// The last look-up: calls and returns come in pairs.
    last: Option<(u64, u64)>,
}

impl Change for Changes<'_> {
    fn time(&mut self, time_ns: u64) -> Option<u64> {
        moved(time_ns, self.offset)
    }

    fn function(&mut self, id: u64) -> u64 {
        match self.last {
            Some((last, new)) if last == id => new,
            _ => {
                let new = self.numbers.function_id(id, self.new);
                self.last = Some((id, new));
                new
            }
        }
    }
}

impl Merger<'_> {
    fn add(&mut self, trace: &Trace, offset: Offset) -> Result<(), MergeError> {
        let from = trace.manifest();
        // Times of the manifest lie near those of events; what lies before the clock's start is at its start.
        let at = |time_ns: u64| moved(time_ns, offset).unwrap_or(0);
        let mut moved_manifest = from.clone();
        for process in &mut moved_manifest.process {
            process.start_ns = if process.start_ns == 0 { 0 } else { at(process.start_ns) };
            process.end_ns = process.end_ns.map(at);
        }
        let mut new = self.numbers.add(&moved_manifest, &mut self.into);
        let (first_thread, ordinals) = self.ordinals(trace);
        let mut copies = HashMap::new();
        for part in trace.threads().iter().flat_map(|thread| &thread.parts) {
            let (Some(reader), Some(&id)) = (trace.session().thread(part.id), ordinals.get(&part.id)) else { continue };
            let mut changes = Changes { offset, numbers: &mut self.numbers, new: &mut new, last: None };
            copies.insert(part.id, (copy(reader, part, &thread_folder(self.out, id), &mut changes)?, reader.tid()));
        }
        self.threads(trace, &ordinals, &copies, &new);
        self.losses(from, &ordinals, at);
        self.muted(from, &mut new, at);
        self.windows(from, &ordinals, at);
        self.rest(from, offset, at);
        self.into.merged_from.push(MergedFrom {
            session: from.session.id.clone(),
            host: from.host.hostname.clone(),
            arch: from.arch.clone(),
            started_at: from.session.started_at.clone(),
            offset_ns: offset.ns,
            uncertainty_ns: offset.uncertainty_ns,
            events: copies.values().map(|(copied, _)| copied.events).sum(),
            threads: copies.len() as u64,
            first_thread,
            pids: new.pids,
            merged_from: from.merged_from.clone(),
        });
        Ok(())
    }

    /// New ordinals for the folders, in their order, and the first of them.
    fn ordinals(&mut self, trace: &Trace) -> (u32, HashMap<u32, u32>) {
        let first = self.next_thread;
        let mut ids: Vec<u32> = trace.threads().iter().flat_map(|thread| &thread.parts).map(|part| part.id).collect();
        ids.sort_unstable();
        let ordinals: HashMap<u32, u32> = ids.into_iter().zip(first..).collect();
        self.next_thread += u32::try_from(ordinals.len()).unwrap_or(0);
        (first, ordinals)
    }

    fn threads(
        &mut self,
        trace: &Trace,
        ordinals: &HashMap<u32, u32>,
        copies: &HashMap<u32, (Copied, u32)>,
        new: &Renumbered,
    ) {
        let entries: HashMap<u32, &Thread> = trace.manifest().threads.iter().map(|entry| (entry.id, entry)).collect();
        let parts = trace.threads().iter().flat_map(|thread| thread.parts.iter().map(move |part| (thread, part)));
        for (thread, part) in parts {
            let (Some(&id), Some((copied, tid))) = (ordinals.get(&part.id), copies.get(&part.id)) else { continue };
            let entry = entries.get(&part.id).copied().cloned().unwrap_or_default();
            let (time_start_ns, time_end_ns) = copied.times.unwrap_or_default();
            self.into.threads.push(Thread {
                id,
                pid: thread.pid.map_or(0, |pid| new.pid(pid)),
                tid: *tid,
                has_detail: copied.details > 0,
                event_count: copied.events,
                detail_count: copied.details,
                time_start_ns,
                time_end_ns,
                continues: entry.continues.and_then(|before| ordinals.get(&before).copied()),
                ..entry
            });
        }
        self.into.threads.sort_by_key(|thread| thread.id);
    }

    fn losses(&mut self, from: &Manifest, ordinals: &HashMap<u32, u32>, at: impl Fn(u64) -> u64) {
        let lost = &mut self.into.lost;
        lost.total += from.lost.total;
        for (reason, count) in &from.lost.by_reason {
            *lost.by_reason.entry(reason.clone()).or_default() += count;
        }
        // A gap of a folder that is not there belongs to no thread.
        lost.gaps.extend(from.lost.gaps.iter().filter_map(|gap| {
            let (time_start_ns, time_end_ns) = (at(gap.time_start_ns), at(gap.time_end_ns));
            Some(Gap { thread: *ordinals.get(&gap.thread)?, time_start_ns, time_end_ns, ..*gap })
        }));
    }

    fn muted(&mut self, from: &Manifest, new: &mut Renumbered, at: impl Fn(u64) -> u64) {
        for muted in &from.muted {
            let mut muted = *muted;
            muted.function_id = self.numbers.function_id(muted.function_id, new);
            muted.at_ns = at(muted.at_ns);
            self.into.muted.push(muted);
        }
    }

    fn windows(&mut self, from: &Manifest, ordinals: &HashMap<u32, u32>, at: impl Fn(u64) -> u64) {
        for window in &from.windows {
            let mut window = window.clone();
            (window.start_ns, window.end_ns) = (at(window.start_ns), at(window.end_ns));
            for trigger in &mut window.triggers {
                trigger.at_ns = at(trigger.at_ns);
                trigger.thread = trigger.thread.and_then(|thread| ordinals.get(&thread).copied());
            }
            self.into.windows.push(window);
        }
    }

    fn rest(&mut self, from: &Manifest, offset: Offset, at: impl Fn(u64) -> u64) {
        let into = &mut self.into;
        into.probes.extend(from.probes.iter().cloned());
        into.clock.anchors.extend(from.clock.anchors.iter().filter_map(|anchor| {
            let boottime_ns = moved(anchor.boottime_ns, offset)?;
            Some(Anchor { boottime_ns, ..*anchor })
        }));
        if into.arch != from.arch {
            "mixed".clone_into(&mut into.arch);
        }
        if from.session.status == SessionStatus::Recovered {
            into.session.status = SessionStatus::Recovered;
        }
        into.session.complete &= from.session.complete;
        into.session.ended_at = into.session.ended_at.take().max(from.session.ended_at.clone());
        into.complete_from_ns = into.complete_from_ns.max(from.complete_from_ns.map(at));
    }
}
