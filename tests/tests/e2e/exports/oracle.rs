//! What an export must hold: ada-query's spans, added up as the foreign readers' findings are.
//!
//! Invariant: nothing here goes through ada-query's exports.

use std::collections::BTreeMap;
use std::path::Path;

use ada_query::run::run;
use ada_query::select::Selection;
use ada_query::span::{Accounting, Call, End, Span, Visitor};
use ada_query::trace::{Thread, Trace};

/// By thread id, function and its caller: calls and their nanoseconds.
pub(super) type Rows = BTreeMap<(u32, String, String), (u64, u64)>;

/// Everything that is compared.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) spans: Vec<Told>,
    pub(super) accounting: Accounting,
}

/// A span with names.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) tid: u32,
    pub(super) name: String,
    pub(super) caller: String,
    pub(super) span: Span,
}

pub(super) fn truth(dir: &Path, selection: &Selection) -> Truth {
    let trace = Trace::open(dir).expect("a session");
    let mut list = List { trace: &trace, tid: 0, names: Vec::new(), spans: Vec::new() };
    let outcome = run(&trace, selection, &mut list);
    assert!(outcome.failed.is_empty() && outcome.accounting.adds_up(), "{outcome:?}");
    Truth { spans: list.spans, accounting: outcome.accounting }
}

impl Truth {
    pub(super) fn rows(&self) -> Rows {
        self.sums(|told| (told.tid, told.name.clone(), told.caller.clone()), |told| (1, told.span.duration_ns()))
    }

    /// Without callers.
    pub(super) fn flat(&self) -> Rows {
        self.sums(|told| (told.tid, told.name.clone(), String::new()), |told| (1, told.span.duration_ns()))
    }

    /// Time of outermost calls only, and no calls.
    pub(super) fn outermost(&self) -> Rows {
        let time = |told: &Told| if told.span.outermost { told.span.duration_ns() } else { 0 };
        self.sums(|told| (told.tid, told.name.clone(), String::new()), |told| (0, time(told)))
    }

    /// Self time by path's end, over all threads.
    pub(super) fn own(&self) -> Rows {
        let rows = self.sums(|told| (0, told.name.clone(), told.caller.clone()), |told| (0, told.span.self_ns()));
        rows.into_iter().filter(|(_, (_, time))| *time > 0).collect()
    }

    /// Calls, and how many of them returned.
    pub(super) fn returns(&self) -> Rows {
        let returned = |told: &Told| u64::from(told.span.end == End::Return);
        self.sums(|told| (told.tid, told.name.clone(), String::new()), |told| (1, returned(told)))
    }

    fn sums(&self, key: impl Fn(&Told) -> (u32, String, String), add: impl Fn(&Told) -> (u64, u64)) -> Rows {
        let mut rows = Rows::new();
        for told in &self.spans {
            let (calls, time) = add(told);
            let row = rows.entry(key(told)).or_default();
            *row = (row.0 + calls, row.1 + time);
        }
        rows
    }
}

struct List<'a> {
    trace: &'a Trace,
    tid: u32,
    /// The names of the thread's calls, by number.
    names: Vec<String>,
    spans: Vec<Told>,
}

impl Visitor for List<'_> {
    type Mark = ();

    fn thread(&mut self, thread: &Thread) {
        self.tid = thread.tid;
        self.names.clear();
    }

    fn enter(&mut self, call: &Call, _parent: Option<()>) {
        self.names.resize(self.names.len().max(call.number as usize + 1), String::new());
        self.names[call.number as usize] = self.trace.functions().about(call.function).to_string();
    }

    fn exit(&mut self, span: &Span, _mark: ()) {
        let name = self.names[span.number as usize].clone();
        let caller = span.parent.map_or_else(String::new, |parent| self.names[parent as usize].clone());
        self.spans.push(Told { tid: self.tid, name, caller, span: *span });
    }
}
