//! Sessions made of a few events, and all spans of a session as a list.
//!
//! Invariant: a written session holds exactly the events given, in their order.

use std::path::Path;

use ada_format::layout::{Arch, ClockType, EventKind, Os};
use ada_format::manifest::{Function, Gap, Lost, Manifest, Module, Process, Session, SessionStatus, Thread};
use ada_format::session::thread_folder;
use ada_format::write::{ThreadMeta, ThreadWriter};
use ada_query::run::{Outcome, run};
use ada_query::select::Selection;
use ada_query::span::{Call, Mark, Span, Visitor};
use ada_query::trace::Trace;

/// An event: time, function, kind, depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) time: u64,
    pub(crate) function: u32,
    pub(crate) kind: EventKind,
    pub(crate) depth: u32,
}

/// A session with one thread, and one process that ended at some time or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording {
    pub(crate) events: Vec<Event>,
    /// Positions before which events are missing.
    pub(crate) gaps: Vec<u64>,
    pub(crate) ended: Option<u64>,
    pub(crate) signal: Option<i32>,
}

pub(crate) fn id(function: u32) -> u64 {
    1 << 32 | u64::from(function)
}

impl Recording {
    pub(crate) fn of(events: Vec<Event>) -> Self {
        Self { events, ..Self::default() }
    }

    /// Writes it, with `functions` functions in the manifest.
    pub(crate) fn write(&self, dir: &Path, functions: u32) {
        write_thread(dir, 0, &self.events);
        self.manifest(functions).write_atomic(dir).unwrap();
    }

    pub(crate) fn manifest(&self, functions: u32) -> Manifest {
        let gap = |before: &u64| Gap { thread: 0, after_index_seq: before.checked_sub(1), count: 1, ..Gap::default() };
        let process = Process { pid: 42, end_ns: self.ended, signal: self.signal, ..Process::default() };
        Manifest {
            session: Session { status: SessionStatus::Complete, ..Session::default() },
            process: vec![process],
            modules: vec![Module { module_id: 1, path: "/opt/app".into(), ..Module::default() }],
            functions: (0..functions).map(function).collect(),
            threads: vec![Thread { id: 0, pid: 42, tid: 42, lost: self.gaps.len() as u64, ..Thread::default() }],
            lost: Lost { gaps: self.gaps.iter().map(gap).collect(), ..Lost::default() },
            ..Manifest::default()
        }
    }
}

fn function(index: u32) -> Function {
    Function { function_id: id(index), name: format!("f{index}"), ..Function::default() }
}

pub(crate) fn write_thread(dir: &Path, ordinal: u32, events: &[Event]) {
    let meta = ThreadMeta { thread_id: 42, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
    let mut writer = ThreadWriter::create(&thread_folder(dir, ordinal), &meta).unwrap();
    for event in events {
        writer.append(event.time, id(event.function), event.kind, event.depth).unwrap();
    }
    writer.finish().unwrap();
}

/// All that a visitor is told.
#[derive(Debug, Default)]
pub(crate) struct List {
    pub(crate) spans: Vec<Span>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) entered: u64,
    pub(crate) left: u64,
}

impl Visitor for List {
    type Mark = u64;

    fn enter(&mut self, call: &Call, parent: Option<u64>) -> u64 {
        assert_eq!(call.parent, parent, "what was kept for the parent is the parent's");
        self.entered += 1;
        call.number
    }

    fn exit(&mut self, span: &Span, mark: u64) {
        assert_eq!(span.number, mark);
        self.left += 1;
        self.spans.push(*span);
    }

    fn dropped(&mut self, _mark: u64) {
        self.left += 1;
    }

    fn mark(&mut self, mark: &Mark) {
        self.marks.push(*mark);
    }
}

/// All spans of a session, by their calls' numbers.
pub(crate) fn list(dir: &Path, selection: &Selection) -> (List, Outcome) {
    let trace = Trace::open(dir).unwrap();
    let mut list = List::default();
    let outcome = run(&trace, selection, &mut list);
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    assert!(outcome.accounting.adds_up(), "{:?}", outcome.accounting);
    assert_eq!(list.spans.len() as u64, outcome.accounting.spans);
    assert_eq!(list.entered, list.left, "every call that is entered is left");
    list.spans.sort_by_key(|span| span.number);
    (list, outcome)
}
