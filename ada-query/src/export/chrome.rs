//! Chrome's trace events: a complete event for each call.
//!
//! Invariant: one event a line, and a line is written only when it is whole; times are microseconds with three decimals, so
//! that no nanosecond is rounded off.

use std::collections::HashSet;
use std::io::Write;

use ada_format::manifest::Gap;

use super::names::{self, Processes, Texts, printable, quoted};
use super::nest::{Begin, Ended, Sink};
use super::out::Out;
use super::values::Signal;
use super::{ExportError, Exported, lead};
use crate::select::Selection;
use crate::span::{End, Mark, MarkKind};
use crate::switches::Switches;
use crate::trace::{Thread, Trace};

/// More than any thread id of Linux: viewers know one stack for each thread, so a further stack is a thread of its own.
const STACK: u64 = 1 << 22;

pub(super) fn export<W: Write>(trace: &Trace, selection: &Selection, out: W) -> Result<Exported, ExportError> {
    let switches = Switches::find(trace, selection);
    let mut out = Out::new(out);
    out.text("{\"displayTimeUnit\":\"ns\",\"otherData\":{\"clock\":\"boottime\",\"producer\":\"ada-trace\"},\"traceEvents\":[");
    let names = Texts::new(trace, |about| {
        let module = printable(about.module_name().unwrap_or("unknown"));
        format!("{{\"name\":{},\"cat\":{}", quoted(&printable(&about.to_string())), quoted(&module))
    });
    let writer = Writer {
        out,
        names,
        processes: Processes::new(trace),
        told: HashSet::new(),
        is_first: true,
        thread: None,
        stacks: 0,
        lost: 0,
    };
    let (mut writer, exported) = lead(trace, selection, &switches, writer)?;
    writer.out.text("\n]}\n");
    Ok(Exported { bytes: writer.out.finish()?, ..exported })
}

struct Writer<'a, W: Write> {
    out: Out<W>,
    names: Texts<'a>,
    processes: Processes<'a>,
    told: HashSet<u32>,
    is_first: bool,
    thread: Option<Thread>,
    /// Stacks of the thread that have a name.
    stacks: u32,
    lost: u64,
}

impl<W: Write> Writer<'_, W> {
    fn separate(&mut self) {
        self.out.text(if self.is_first { "\n" } else { ",\n" });
        self.is_first = false;
    }

    /// `,"ph":"X","pid":1,"tid":2`
    fn place(&mut self, phase: &str, stack: u32) {
        let (pid, tid) = self.thread.as_ref().map_or((0, 0), |thread| (names::pid(thread), thread.tid));
        self.out.text(",\"ph\":\"");
        self.out.text(phase);
        self.out.text("\",\"pid\":");
        self.out.number(pid);
        self.out.text(",\"tid\":");
        self.out.number(u64::from(tid) + u64::from(stack) * STACK);
    }

    fn time(&mut self, key: &str, nanoseconds: u64) {
        self.out.text(key);
        self.out.decimal(nanoseconds, 1000);
    }

    /// `{"name":"thread_name","ph":"M",…,"args":{"name":"worker"}}`
    fn describe(&mut self, what: &str, stack: u32, name: &str) -> Result<(), ExportError> {
        self.separate();
        self.out.text("{\"name\":\"");
        self.out.text(what);
        self.out.text("\"");
        self.place("M", stack);
        self.out.text(",\"args\":{\"name\":");
        self.out.json(name);
        self.out.text("}}");
        Ok(self.out.piece()?)
    }

    fn count(&mut self, time_ns: u64) -> Result<(), ExportError> {
        self.separate();
        let id = self.thread.as_ref().map_or(0, |thread| thread.id);
        self.out.text("{\"name\":\"lost events\",\"cat\":\"lost\"");
        self.place("C", 0);
        self.time(",\"ts\":", time_ns);
        self.out.text(",\"id\":");
        self.out.number(id);
        self.out.text(",\"args\":{\"events\":");
        self.out.number(self.lost);
        self.out.text("}}");
        Ok(self.out.piece()?)
    }
}

impl<W: Write> Sink for Writer<'_, W> {
    const VALUES: bool = true;
    const NESTS: bool = false;

    fn thread(&mut self, thread: &Thread) -> Result<(), ExportError> {
        self.thread = Some(thread.clone());
        let pid = names::pid(thread);
        if self.told.insert(pid) {
            let name = self.processes.name(pid);
            self.describe("process_name", 0, &name)?;
        }
        (self.stacks, self.lost) = (1, 0);
        self.describe("thread_name", 0, &names::thread(thread))
    }

    fn begin(&mut self, begin: &Begin) -> Result<(), ExportError> {
        while self.stacks <= begin.stack {
            let name = self.thread.as_ref().map(|thread| names::stack(thread, self.stacks));
            self.describe("thread_name", self.stacks, &name.unwrap_or_default())?;
            self.stacks += 1;
        }
        Ok(())
    }

    fn end(&mut self, ended: &Ended) -> Result<(), ExportError> {
        let span = &ended.span;
        self.separate();
        self.out.text(self.names.get(span.function));
        self.place("X", ended.stack);
        self.time(",\"ts\":", span.start_ns);
        self.time(",\"dur\":", span.duration_ns());
        let mut before = ",\"args\":{";
        if let Some(values) = ended.arguments.as_deref() {
            let text = values.json().to_string();
            self.out.text(before);
            self.out.text(text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default());
            before = if text == "{}" { "" } else { "," };
        }
        if let Some(values) = &ended.returned {
            self.out.text(before);
            self.out.text("\"returned\":");
            self.out.text(&values.returned().to_string());
            before = ",";
        }
        if span.end != End::Return {
            self.out.text(before);
            self.out.text("\"end\":\"");
            self.out.text(span.end.name());
            self.out.text("\"");
            before = ",";
        }
        self.out.text(if before.starts_with(",\"") { "}" } else { "}}" });
        Ok(self.out.piece()?)
    }

    fn mark(&mut self, mark: &Mark, signal: Option<&Signal>) -> Result<(), ExportError> {
        let name = match (mark.kind, signal) {
            (MarkKind::Signal, Some(signal)) => format!("signal {}", signal.number),
            (MarkKind::Signal, None) => "signal".to_owned(),
            (MarkKind::UnmatchedReturn, _) => "return without a call".to_owned(),
            (MarkKind::Unknown, _) => "event of an unknown kind".to_owned(),
        };
        self.separate();
        self.out.text("{\"name\":");
        self.out.json(&name);
        self.out.text(",\"cat\":\"event\",\"s\":\"t\"");
        self.place("i", 0);
        self.time(",\"ts\":", mark.time_ns);
        self.out.text("}");
        Ok(self.out.piece()?)
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), ExportError> {
        self.lost = self.lost.saturating_add(gap.count);
        self.count(gap.time_start_ns)
    }

    fn thread_end(&mut self) -> Result<(), ExportError> {
        let Some((lost, (end_ns, _))) = self.thread.as_ref().map(|thread| (thread.lost, thread.end)) else {
            return Ok(());
        };
        // Not all that was lost has a place.
        if lost > self.lost {
            self.lost = lost;
            return self.count(end_ns);
        }
        Ok(())
    }
}
