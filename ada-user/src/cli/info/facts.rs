//! What there is to say of a session, before it is put into words.
//!
//! Invariant: no formatting here; times are in nanoseconds of the session's clock.

use std::fs;
use std::path::Path;

use ada_format::manifest::{FUNCTIONS_FILE, MANIFEST_FILE, Manifest, Thread};
use ada_format::read::{DetailReader, SessionReader, ThreadReader};
use ada_format::write::{DETAIL_FILE, INDEX_FILE};

use ada_user::clock;

use super::calls::Calls;
use super::state::State;
use crate::cli::names::Who;

/// What there is to say.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) dir: &'a Path,
    pub(super) manifest: &'a Manifest,
    pub(super) state: State,
    pub(super) threads: Vec<ThreadFacts>,
    /// First and last event.
    pub(super) time_range: Option<(u64, u64)>,
    pub(super) events: u64,
    pub(super) details: u64,
    /// Bytes of all files.
    pub(super) bytes: u64,
    /// `None` if the events were not read.
    pub(super) calls: Option<Calls>,
}

/// What there is to say of a thread.
#[derive(Debug)]
pub(super) struct ThreadFacts {
    pub(super) who: Who,
    /// The ordinal that it goes on from.
    pub(super) continues: Option<u32>,
    pub(super) events: u64,
    pub(super) details: u64,
    pub(super) time_range: Option<(u64, u64)>,
    pub(super) lost: u64,
    pub(super) missed_returns: u64,
    /// Whether it has no footer.
    pub(super) unfinished: bool,
}

impl<'a> Facts<'a> {
    /// Looks at a session.
    pub(super) fn new(session: &'a SessionReader, calls: Option<Calls>) -> Self {
        let manifest = session.manifest();
        let threads: Vec<_> = session.threads().iter().map(|thread| ThreadFacts::new(thread, manifest)).collect();
        let own = [MANIFEST_FILE, FUNCTIONS_FILE].map(|name| size(&session.dir().join(name)));
        let files = session
            .threads()
            .iter()
            .flat_map(|thread| [INDEX_FILE, DETAIL_FILE].map(|name| size(&thread.folder().join(name))));
        Self {
            dir: session.dir(),
            manifest,
            state: State::of(session.dir(), &manifest.session),
            time_range: session.time_range(),
            events: session.event_count(),
            details: threads.iter().map(|thread| thread.details).sum(),
            bytes: own.into_iter().chain(files).sum(),
            threads,
            calls,
        }
    }

    /// Files that are not what they were when they were finished.
    pub(super) fn damage(&self) -> &[String] {
        self.calls.as_ref().map_or(&[], |calls| &calls.damage)
    }

    /// When it began and ended, in nanoseconds since 1970. The end is now while it is recorded, and that of the last
    /// event if nothing tells it.
    pub(super) fn wall_clock(&self) -> Option<(u64, u64)> {
        let parse = |text: &str| {
            let time: jiff::Timestamp = text.parse().ok()?;
            u64::try_from(time.as_nanosecond()).ok()
        };
        let first_event = || self.realtime(self.time_range?.0);
        let start = parse(&self.manifest.session.started_at).or_else(first_event)?;
        let now = (self.state == State::Recording).then(clock::realtime_ns);
        let ended = now.or_else(|| self.manifest.session.ended_at.as_deref().and_then(parse));
        let end = ended.or_else(|| self.realtime(self.time_range?.1)).unwrap_or(start);
        Some((start, end.max(start)))
    }

    /// A time of the session's clock in nanoseconds since 1970.
    pub(super) fn realtime(&self, time_ns: u64) -> Option<u64> {
        let anchor = self.manifest.clock.anchors.first()?;
        let since = i128::from(time_ns) - i128::from(anchor.boottime_ns);
        u64::try_from(i128::from(anchor.realtime_ns) + since).ok()
    }

    /// Events per second between the first and the last.
    pub(super) fn rate(&self) -> Option<f64> {
        let (first, last) = self.time_range?;
        (last > first).then(|| self.events as f64 * 1e9 / (last - first) as f64)
    }

    /// Threads of the processes: one that goes on in another folder counts once.
    pub(super) fn thread_count(&self) -> usize {
        let is_here = |id| self.threads.binary_search_by_key(&id, |thread: &ThreadFacts| thread.who.id).is_ok();
        self.threads.iter().filter(|thread| !thread.continues.is_some_and(is_here)).count()
    }

    /// Returns that never came, of all threads.
    pub(super) fn missed_returns(&self) -> u64 {
        self.threads.iter().map(|thread| thread.missed_returns).sum()
    }
}

impl ThreadFacts {
    fn new(thread: &ThreadReader, manifest: &Manifest) -> Self {
        let entry = manifest.threads.iter().find(|entry| entry.id == thread.id());
        let of_entry = |value: fn(&Thread) -> u64| entry.map_or(0, value);
        Self {
            who: Who::of(thread, manifest),
            continues: entry.and_then(|entry| entry.continues),
            events: thread.index().len(),
            details: thread.detail().map_or(0, detail_count),
            time_range: thread.index().time_range(),
            lost: of_entry(|entry| entry.lost),
            missed_returns: of_entry(|entry| entry.missed_returns),
            unfinished: thread.recovered(),
        }
    }
}

/// Without a footer the file has to be walked.
fn detail_count(detail: &DetailReader) -> u64 {
    detail.footer().map_or_else(|| detail.len(), |footer| footer.event_count.get())
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}
