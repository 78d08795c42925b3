//! What a recording wrote, read back through ada-format and held against what every session must be.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use ada_format::layout::{EventKind, IndexEvent, NO_FUNCTION};
use ada_format::read::{SessionReader, ThreadReader};
use serde_json::Value;

use crate::{sound, tree};

pub use serde_json::Value as Json;

/// What an event reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A function was entered.
    Call,
    /// A function returned.
    Return,
    /// A signal was delivered, or frames were unwound.
    Exception,
    /// The thread goes on on another stack, whose number stands for the function.
    Switch,
}

/// One event of an index file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_BOOTTIME, in ns.
    pub time_ns: u64,
    /// `(module_id << 32) | symbol_index`.
    pub function: u64,
    /// What happened.
    pub kind: Kind,
    /// Traced frames below.
    pub depth: u32,
    /// OS thread id.
    pub tid: u32,
}

impl Event {
    /// Whether it is an exception that came while no recorded function ran, or says on which stack the next event is.
    #[must_use]
    pub fn is_outside_functions(&self) -> bool {
        self.kind == Kind::Switch || self.kind == Kind::Exception && self.function == NO_FUNCTION
    }
}

/// One thread folder.
#[derive(Debug)]
pub struct Thread {
    /// The ordinal.
    pub id: u64,
    /// OS thread id.
    pub tid: u32,
    /// Its events, in the order of the file.
    pub events: Vec<Event>,
    /// What the manifest says of it.
    pub entry: Value,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    /// Where it is.
    pub folder: PathBuf,
    /// manifest.json.
    pub manifest: Value,
    /// The threads that have events, by ordinal.
    pub threads: Vec<Thread>,
    names: HashMap<u64, String>,
}

impl Thread {
    /// How many events of `kind` it has.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.events.iter().filter(|event| event.kind == kind).count() as u64
    }

    /// How many events it lost, by the manifest.
    #[must_use]
    pub fn lost(&self) -> u64 {
        number(&self.entry, "lost")
    }

    /// How many returns the kernel never delivered, by the manifest.
    #[must_use]
    pub fn missed_returns(&self) -> u64 {
        number(&self.entry, "missed_returns")
    }

    /// Whether it is `calls` calls, each with its return before the next, all outermost; and maybe signals.
    #[must_use]
    pub fn is_flat(&self, calls: u64) -> bool {
        let events: Vec<&Event> = self.events.iter().filter(|event| event.kind != Kind::Exception).collect();
        let alternating =
            events.chunks(2).all(|pair| pair.len() == 2 && pair[0].kind == Kind::Call && pair[1].kind == Kind::Return);
        alternating && events.iter().all(|event| event.depth == 0) && events.len() as u64 == 2 * calls
    }
}

impl Session {
    /// Reads a session that was finalised, and checks what holds of every such session.
    ///
    /// # Panics
    /// If it cannot be read, or contradicts itself.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        let session = Self::unfinished(folder);
        sound::check(&session);
        session
    }

    /// Reads a session as it lies there, finalised or not.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn unfinished(folder: &Path) -> Self {
        let reader = SessionReader::open(folder).unwrap_or_else(|error| panic!("{error}"));
        assert!(reader.broken().is_empty(), "{:?}", reader.broken());
        let manifest = manifest(folder);
        let threads = reader.threads().iter().map(|thread| read_thread(thread, &manifest));
        let threads = threads.filter(|thread| !thread.events.is_empty()).collect();
        let functions = &reader.manifest().functions;
        let names = functions.iter().map(|function| (function.function_id, function.name.clone())).collect();
        Self { folder: folder.to_owned(), manifest, threads, names }
    }

    /// How many events of `kind` it has.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.threads.iter().map(|thread| thread.count(kind)).sum()
    }

    /// How many times `name` was called.
    #[must_use]
    pub fn calls(&self, name: &str) -> u64 {
        self.per_function(Kind::Call).get(name).copied().unwrap_or(0)
    }

    /// How many events of `kind` each function has.
    #[must_use]
    pub fn per_function(&self, kind: Kind) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for event in self.threads.iter().flat_map(|thread| &thread.events).filter(|event| event.kind == kind) {
            *counts.entry(self.name(event.function)).or_insert(0) += 1;
        }
        counts
    }

    /// Leaves out the threads that only received signals.
    #[must_use]
    pub fn callers(mut self) -> Self {
        self.threads.retain(|thread| thread.events.iter().any(|event| event.kind != Kind::Exception));
        self
    }

    /// The name of a function, by the manifest; empty for what is outside all of them.
    ///
    /// # Panics
    /// If the manifest does not have it.
    #[must_use]
    pub fn name(&self, function: u64) -> &str {
        if function == NO_FUNCTION {
            return "";
        }
        self.names.get(&function).unwrap_or_else(|| panic!("the manifest names no function {function:#x}"))
    }

    /// Events lost, by the manifest.
    #[must_use]
    pub fn lost(&self) -> u64 {
        number(&self.manifest["lost"], "total")
    }

    /// recording, complete or recovered.
    ///
    /// # Panics
    /// If the manifest does not say.
    #[must_use]
    pub fn status(&self) -> &str {
        self.manifest["session"]["status"].as_str().expect("a status")
    }

    /// Checks that the recording ended in order and lost nothing.
    ///
    /// # Panics
    /// If not.
    #[must_use]
    pub fn complete(self) -> Self {
        assert_eq!(self.status(), "complete", "{}", self.manifest["session"]);
        assert_eq!(self.manifest["session"]["complete"], Value::Bool(true), "{}", self.manifest["lost"]);
        assert_eq!(self.lost(), 0, "{}", self.manifest["lost"]);
        assert_eq!(self.manifest["lost"]["gaps"].as_array().map_or(0, Vec::len), 0);
        self
    }

    /// The call trees of all threads.
    #[must_use]
    pub fn tree(&self) -> String {
        let name = |function| self.name(function).to_owned();
        tree::threads(self.threads.iter().map(|thread| tree::draw(&thread.events, name)).collect())
    }
}

/// A number that the manifest must hold.
///
/// # Panics
/// If it does not.
#[must_use]
pub fn number(object: &Value, key: &str) -> u64 {
    object[key].as_u64().unwrap_or_else(|| panic!("{key} is no number in {object}"))
}

fn read_thread(thread: &ThreadReader, manifest: &Value) -> Thread {
    let id = u64::from(thread.id());
    let entries = manifest["threads"].as_array().expect("threads");
    let entry = entries.iter().find(|entry| number(entry, "id") == id).cloned().unwrap_or_default();
    Thread { id, tid: thread.tid(), events: thread.index().events().iter().map(read_event).collect(), entry }
}

fn read_event(event: &IndexEvent) -> Event {
    let kind = match event.kind() {
        Some(EventKind::Call) => Kind::Call,
        Some(EventKind::Return) => Kind::Return,
        Some(EventKind::Exception) => Kind::Exception,
        Some(EventKind::Switch) => Kind::Switch,
        None => panic!("an event of no known kind: {event:?}"),
    };
    Event {
        time_ns: event.timestamp_ns.get(),
        function: event.function_id.get(),
        kind,
        depth: event.call_depth.get(),
        tid: event.thread_id.get(),
    }
}

fn manifest(folder: &Path) -> Value {
    let path = folder.join("manifest.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
