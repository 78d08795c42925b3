//! What functions, threads and processes are called in exports.
//!
//! Invariant: a name never changes during an export, and functions that only events name have one, too.

use std::collections::HashMap;

use ada_format::manifest::Process;

use crate::functions::{About, FunctionIndex};
use crate::trace::{Thread, Trace};

/// One text for each function, made when it is first asked for.
pub(super) struct Texts<'a> {
    trace: &'a Trace,
    make: fn(&About<'_>) -> String,
    made: Vec<Option<Box<str>>>,
}

impl<'a> Texts<'a> {
    /// Texts by `make`.
    pub(super) fn new(trace: &'a Trace, make: fn(&About<'_>) -> String) -> Self {
        Self { trace, make, made: vec![None; trace.functions().known().len()] }
    }

    /// That of a function.
    pub(super) fn get(&mut self, function: FunctionIndex) -> &str {
        let place = function as usize;
        if self.made.len() <= place {
            self.made.resize(place + 1, None);
        }
        let Some(slot) = self.made.get_mut(place) else { return "" };
        slot.get_or_insert_with(|| (self.make)(&self.trace.functions().about(function)).into())
    }
}

/// Text without control characters.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// Text in quotes, as JSON has it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The processes of a session, by id.
pub(super) struct Processes<'a> {
    by_pid: HashMap<u32, &'a Process>,
}

impl<'a> Processes<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        Self { by_pid: trace.manifest().process.iter().map(|process| (process.pid, process)).collect() }
    }

    /// What is known of one.
    pub(super) fn get(&self, pid: u32) -> Option<&'a Process> {
        self.by_pid.get(&pid).copied()
    }

    /// The file name of its program; `process 12` if that is not known.
    pub(super) fn name(&self, pid: u32) -> String {
        let path = self.get(pid).map_or("", |process| process.executable.as_str());
        let file = path.rsplit('/').next().unwrap_or_default();
        if file.is_empty() { format!("process {pid}") } else { printable(file) }
    }
}

/// A thread's process, or its own id if that is not known: what viewers put it under.
pub(super) fn pid(thread: &Thread) -> u32 {
    thread.pid.unwrap_or(thread.tid)
}

/// A thread's name for people.
pub(super) fn thread(thread: &Thread) -> String {
    if thread.name.is_empty() { format!("thread {}", thread.tid) } else { printable(&thread.name) }
}

/// The name of one of a thread's stacks.
pub(super) fn stack(of: &Thread, stack: u32) -> String {
    if stack == 0 { thread(of) } else { format!("{} (stack {})", thread(of), stack + 1) }
}

/// What to add to a time of the session for the time since 1970, in nanoseconds.
pub(super) fn wall_offset_ns(trace: &Trace) -> i128 {
    let anchor = trace.manifest().clock.anchors.first();
    anchor.map_or(0, |anchor| i128::from(anchor.realtime_ns) - i128::from(anchor.boottime_ns))
}
