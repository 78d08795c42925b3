//! A session while it is recorded: visitors are led along with the recorder.
//!
//! ```text
//! recorder ──▶ index.atf ──look──▶ Tail ─▶ Pairing ─▶ Visitor    one lane for each thread
//!              manifest  ──look──▶ more functions? all lanes begin anew, up to where they were
//! ```
//!
//! Invariant: every event that is whole in its file is fed exactly once to each generation of visitors; lanes that are
//! behind are read side by side, so that what waits to be told stays small.

mod folders;
mod source;
pub mod steps;
mod tail;

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use ada_format::manifest::Manifest;

use self::folders::Folders;
pub use self::folders::{Standing, is_recorded};
use self::source::{PartTail, Source};
use crate::QueryError;
use crate::functions::Functions;
use crate::select::{Compiled, Selection};
use crate::span::{Accounting, End, Pairing, Visitor};
use crate::trace::Thread;

/// Events that are read of a thread before the others have their turn.
const BLOCK: usize = 8192;
/// How often a folder that the manifest does not name is passed over before it is taken as it is: a thread that goes on in a
/// new folder is known as that by the manifest alone.
const PATIENCE: u32 = 4;

/// What there is after a look at the files.
pub struct Look<'l, 'a, V: Visitor> {
    /// The functions; their numbers hold for this generation.
    pub functions: &'a Functions,
    /// The threads that are selected, in the order in which they appeared.
    pub lanes: &'l mut [Lane<'a, V>],
    /// As it is now.
    pub manifest: &'l Manifest,
    /// How the recording stands. Unless it is recorded this is the last look, with all calls ended.
    pub standing: Standing,
    /// Whether these visitors have just begun, and got what earlier ones (if any) had already.
    pub is_first: bool,
    /// Whether there is more to be read at once.
    pub is_behind: bool,
    /// Up to this time, in nanoseconds of the clock, all threads have been read as far as they are written.
    pub settled_ns: u64,
    /// What could not be read, since the last look.
    pub failed: Vec<QueryError>,
}

impl<V: Visitor> fmt::Debug for Look<'_, '_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut this = f.debug_struct("Look");
        this.field("lanes", &self.lanes.len()).field("standing", &self.standing).field("settled_ns", &self.settled_ns);
        this.finish_non_exhaustive()
    }
}

/// A thread under way.
#[derive(Debug)]
pub struct Lane<'a, V: Visitor> {
    /// What is known of it.
    pub thread: Thread,
    /// What is led along it.
    pub visitor: V,
    /// Whether the last look found events.
    pub is_busy: bool,
    pairing: Pairing<'a, V::Mark>,
    loud: bool,
    done: bool,
}

/// Follows the session in `dir` until it ends or `look` breaks; `look` says when to look again by returning. `make` makes a
/// visitor for a thread; its second argument says whether that will first get again what an earlier one had.
///
/// # Errors
/// `look`'s, and [`QueryError`] if the folder or its manifest cannot be read. A thread that cannot be read is in
/// [`Look::failed`] and goes no further.
pub fn follow<V: Visitor, E: From<QueryError>>(
    dir: &Path,
    selection: &Selection,
    mut make: impl FnMut(&Thread, bool) -> V,
    mut look: impl FnMut(Look<'_, '_, V>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let mut live = Live { folders: Folders::open(dir)?, selection, sources: Vec::new(), waiting: Vec::new() };
    loop {
        let functions = Functions::new(live.folders.manifest());
        let compiled = selection.compile(&functions);
        if live.generation(&functions, &compiled, &mut make, &mut look)?.is_break() {
            return Ok(());
        }
    }
}

/// The lanes of a generation, each beside its source.
type Lanes<'a, V> = Vec<Lane<'a, V>>;

struct Live<'s> {
    folders: Folders,
    selection: &'s Selection,
    sources: Vec<Source>,
    /// Folders that do not belong to a thread yet, and how often they were passed over.
    waiting: Vec<(PartTail, u32)>,
}

impl Live<'_> {
    /// Goes on until the manifest names more functions; then everything is counted anew.
    fn generation<'a, V: Visitor, E: From<QueryError>>(
        &mut self,
        functions: &'a Functions,
        compiled: &'a Compiled,
        make: &mut impl FnMut(&Thread, bool) -> V,
        look: &mut impl FnMut(Look<'_, '_, V>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, E> {
        let mut failed = Vec::new();
        let mut lanes: Lanes<'a, V> = Vec::new();
        for source in &mut self.sources {
            lanes.push(Lane::new(source.thread.clone(), functions, compiled, make(&source.thread, true)));
        }
        for (source, lane) in self.sources.iter_mut().zip(&mut lanes) {
            if let Err(error) = source.again(lane, compiled) {
                lane.done = true;
                failed.push(error);
            }
        }
        let (mut is_first, mut newest_ns) = (true, 0);
        loop {
            if self.folders.look()? {
                if self.folders.manifest().functions.len() != functions.known().len() {
                    return Ok(ControlFlow::Continue(()));
                }
                self.rename(&mut lanes);
            }
            let standing = self.folders.standing();
            for source in self.arrivals(standing, &mut failed)? {
                lanes.push(Lane::new(source.thread.clone(), functions, compiled, make(&source.thread, false)));
                self.sources.push(source);
            }
            self.lengthen(&mut lanes);
            let settled = self.read(&mut lanes, compiled, &mut failed);
            let last_ns = lanes.iter().map(|lane| lane.pairing.last_ns()).max().unwrap_or(0);
            let is_quiet = !lanes.iter().any(|lane| lane.is_busy);
            let is_over = standing != Standing::Recorded && settled.is_none();
            let settled_ns = match settled {
                Some(behind_ns) => behind_ns,
                None if is_quiet || is_over => u64::MAX,
                // What another thread did before may be written a moment later.
                None => newest_ns,
            };
            newest_ns = last_ns;
            if is_over {
                self.finish(&mut lanes, compiled);
            }
            let flow = look(Look {
                functions,
                lanes: &mut lanes,
                manifest: self.folders.manifest(),
                standing: if is_over { standing } else { Standing::Recorded },
                is_first,
                is_behind: settled.is_some(),
                settled_ns,
                failed: std::mem::take(&mut failed),
            })?;
            is_first = false;
            if is_over || flow.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Threads that have appeared, if they are selected.
    fn arrivals(&mut self, standing: Standing, failed: &mut Vec<QueryError>) -> Result<Vec<Source>, QueryError> {
        match self.folders.appeared() {
            Ok(found) => {
                let found = found.into_iter().map(|(id, path, tail)| (PartTail { id, path, tail }, 0));
                self.waiting.extend(found);
            }
            Err(error) if standing == Standing::Recorded => failed.push(error),
            Err(error) => return Err(error),
        }
        let entries: HashMap<u32, &ada_format::manifest::Thread> = match self.waiting.is_empty() {
            true => HashMap::new(),
            false => self.folders.manifest().threads.iter().map(|thread| (thread.id, thread)).collect(),
        };
        let mut fresh: Vec<Source> = Vec::new();
        let waiting = std::mem::take(&mut self.waiting);
        for (part, patience) in waiting {
            let entry = entries.get(&part.id).copied();
            if entry.is_none() && patience < PATIENCE && standing == Standing::Recorded {
                self.waiting.push((part, patience + 1));
                continue;
            }
            let before = entry.and_then(|entry| entry.continues);
            let of = |source: &&mut Source| source.parts.iter().any(|part| Some(part.id) == before);
            if let Some(source) = self.sources.iter_mut().chain(&mut fresh).find(of) {
                source.thread.parts.push(part.known());
                source.parts.push(part);
                continue;
            }
            let pid = entry.map(|entry| entry.pid).filter(|pid| *pid != 0).or(self.only_pid());
            let source = Source::new(part, pid, entry.map_or("", |entry| entry.name.as_str()));
            if self.selection.wants(&source.thread) {
                fresh.push(source);
            } else if source.thread.pid.is_none() && standing == Standing::Recorded {
                // Its process is not known yet.
                self.waiting.extend(source.parts.into_iter().map(|part| (part, 0)));
            }
        }
        for (place, source) in fresh.iter_mut().enumerate() {
            source.thread.index = self.sources.len() + place;
        }
        Ok(fresh)
    }

    fn only_pid(&self) -> Option<u32> {
        if let [process] = self.folders.manifest().process.as_slice() { Some(process.pid) } else { None }
    }

    /// Threads may go on in new folders.
    fn lengthen<V: Visitor>(&self, lanes: &mut Lanes<'_, V>) {
        for (source, lane) in self.sources.iter().zip(lanes) {
            let known = lane.thread.parts.len();
            lane.thread.parts.extend(source.thread.parts.iter().skip(known).cloned());
        }
    }

    /// Takes over what the manifest says of threads by now.
    fn rename<V: Visitor>(&mut self, lanes: &mut Lanes<'_, V>) {
        let entries: HashMap<u32, &ada_format::manifest::Thread> =
            self.folders.manifest().threads.iter().map(|thread| (thread.id, thread)).collect();
        for (source, lane) in self.sources.iter_mut().zip(lanes) {
            if let Some(entry) = entries.get(&source.thread.id) {
                source.thread.name.clone_from(&entry.name);
                source.thread.pid = source.thread.pid.or(Some(entry.pid).filter(|pid| *pid != 0));
                source.thread.lost = entry.lost;
                lane.thread = source.thread.clone();
            }
        }
    }

    /// Reads a block of each thread; of those that are behind first, so that they stay side by side. The time up to which
    /// those have come that have more, if any has.
    fn read<V: Visitor>(
        &mut self,
        lanes: &mut Lanes<'_, V>,
        compiled: &Compiled,
        failed: &mut Vec<QueryError>,
    ) -> Option<u64> {
        let behind = |sources: &[Source], lanes: &Lanes<'_, V>| {
            let more = sources.iter().zip(lanes).filter(|(source, lane)| source.has_more() && !lane.done);
            more.map(|(_, lane)| lane.pairing.last_ns()).min()
        };
        for (source, lane) in self.sources.iter_mut().zip(lanes.iter_mut()).filter(|(_, lane)| !lane.done) {
            if let Err(error) = source.look() {
                lane.done = true;
                failed.push(error);
            }
        }
        let least_ns = behind(&self.sources, lanes).unwrap_or(0);
        for (source, lane) in self.sources.iter_mut().zip(lanes.iter_mut()) {
            let turn = !lane.done && lane.pairing.last_ns() <= least_ns.saturating_add(TURN_NS);
            lane.is_busy = turn && source.has_more();
            if lane.is_busy
                && let Err(error) = source.feed(lane, compiled)
            {
                lane.done = true;
                failed.push(error);
            }
        }
        behind(&self.sources, lanes)
    }

    fn finish<V: Visitor>(&self, lanes: &mut Lanes<'_, V>, compiled: &Compiled) {
        let manifest = self.folders.manifest();
        let last_ns = lanes.iter().map(|lane| lane.pairing.last_ns()).max().unwrap_or(0);
        let end_ns = manifest.clock.anchors.last().map_or(0, |anchor| anchor.boottime_ns).max(last_ns);
        for lane in lanes {
            let process = manifest.process.iter().find(|process| Some(process.pid) == lane.thread.pid);
            let ended = process.and_then(|process| Some((process.end_ns?, process.signal)));
            lane.thread.exit_status = process.and_then(|process| process.exit_code);
            lane.thread.end = match ended {
                Some((end_ns, Some(signal))) => (end_ns, End::Killed { signal }),
                Some((end_ns, None)) => (end_ns, End::Exit),
                None => (end_ns, End::Recording),
            };
            lane.finish(compiled);
        }
    }
}

/// Threads that are further ahead than this of one that is behind wait for it: 100 ms.
const TURN_NS: u64 = 100_000_000;

impl<'a, V: Visitor> Lane<'a, V> {
    fn new(thread: Thread, functions: &'a Functions, compiled: &'a Compiled, mut visitor: V) -> Self {
        visitor.thread(&thread);
        let (pairing, loud) = (Pairing::new(functions, compiled), compiled.from_ns == 0);
        Self { thread, visitor, is_busy: false, pairing, loud, done: false }
    }

    /// What became of its events so far.
    #[must_use]
    pub fn accounting(&self) -> &Accounting {
        self.pairing.accounting()
    }

    fn feed(&mut self, events: &[ada_format::layout::IndexEvent], position: u64, compiled: &Compiled) {
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        let before = |time_ns: u64| events.partition_point(|event| event.timestamp_ns.get() < time_ns);
        let end = if compiled.has_end { before(compiled.until_ns) } else { events.len() };
        let from = if self.loud { 0 } else { before(compiled.from_ns).min(end) };
        self.pairing.feed::<false, V>(events.get(..from).unwrap_or_default(), position, &mut self.visitor);
        if !self.loud && from < events.len() {
            self.loud = true;
            self.pairing.begin_range(&mut self.visitor);
        }
        let position = position.saturating_add(u32::try_from(from).unwrap_or_default());
        self.pairing.feed::<true, V>(events.get(from..end).unwrap_or_default(), position, &mut self.visitor);
        if end < events.len() {
            self.thread.end = (compiled.until_ns, End::Range);
            self.finish(compiled);
        }
    }

    fn finish(&mut self, compiled: &Compiled) {
        if self.done {
            return;
        }
        self.done = true;
        if !self.loud && self.thread.end.0 >= compiled.from_ns {
            self.pairing.begin_range(&mut self.visitor);
        }
        let (end_ns, end) = self.thread.end;
        let range = compiled.has_end && end_ns >= compiled.until_ns;
        let (end_ns, end) = if range { (compiled.until_ns, End::Range) } else { (end_ns, end) };
        self.pairing.finish(end_ns, end, &mut self.visitor);
        self.visitor.thread_end();
    }
}
