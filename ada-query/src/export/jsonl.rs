//! Spans as JSON, one object a line, in the order in which they ended; docs/exports.md has the schema.
//!
//! Invariant: every line is a whole object whose `kind` says which keys it has; the last one accounts for every event.

use std::io::Write;

use ada_format::manifest::Gap;

use super::names::{Texts, quoted};
use super::nest::{Ended, Sink};
use super::out::Out;
use super::values::{Signal, Values};
use super::{ExportError, Exported, lead};
use crate::functions::About;
use crate::select::Selection;
use crate::span::{Mark, MarkKind};
use crate::switches::Switches;
use crate::trace::{Thread, Trace};

pub(super) fn export<W: Write>(trace: &Trace, selection: &Selection, out: W) -> Result<Exported, ExportError> {
    let switches = Switches::find(trace, selection);
    let writer = Writer { out: Out::new(out), functions: Texts::new(trace, describe), thread: String::new() };
    let (mut writer, exported) = lead(trace, selection, &switches, writer)?;
    let a = &exported.outcome.accounting;
    let last = serde_json::json!({
        "kind": "accounting",
        "events": a.events,
        "spans": a.spans,
        "returned": a.returned,
        "unwound": a.unwound,
        "missed": a.missed,
        "lost": a.lost,
        "open": a.open,
        "unmatched_returns": a.unmatched_returns,
        "signals": a.signals,
        "switches": a.switches,
        "unknown": a.unknown,
        "events_lost": a.events_lost,
        "outside": a.outside,
        "unselected": a.unselected,
        "too_short": a.too_short,
    });
    writer.out.text(&last.to_string());
    writer.out.text("\n");
    Ok(Exported { bytes: writer.out.finish()?, ..exported })
}

fn describe(about: &About<'_>) -> String {
    let text = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quoted);
    let (name, demangled, module) = (text(about.name), text(about.demangled), text(about.module));
    format!(",\"function_id\":{},\"function\":{name},\"demangled\":{demangled},\"module\":{module}", about.id)
}

struct Writer<'a, W: Write> {
    out: Out<W>,
    functions: Texts<'a>,
    /// The keys that all lines of a thread have.
    thread: String,
}

impl<W: Write> Writer<'_, W> {
    fn begin(&mut self, kind: &str) {
        self.out.text("{\"kind\":\"");
        self.out.text(kind);
        self.out.text("\"");
        self.out.text(&self.thread);
    }

    fn key(&mut self, key: &str, number: u64) {
        self.out.text(key);
        self.out.number(number);
    }

    fn value(&mut self, key: &str, value: Option<serde_json::Value>) {
        if let Some(value) = value {
            self.out.text(key);
            self.out.text(&value.to_string());
        }
    }

    fn end_line(&mut self) -> Result<(), ExportError> {
        self.out.text("}\n");
        Ok(self.out.piece()?)
    }
}

impl<W: Write> Sink for Writer<'_, W> {
    const VALUES: bool = true;
    const NESTS: bool = false;

    fn thread(&mut self, thread: &Thread) -> Result<(), ExportError> {
        let pid = thread.pid.map_or_else(|| "null".to_owned(), |pid| pid.to_string());
        self.thread = format!(",\"thread\":{},\"pid\":{pid},\"tid\":{}", thread.id, thread.tid);
        Ok(())
    }

    fn end(&mut self, ended: &Ended) -> Result<(), ExportError> {
        let span = &ended.span;
        self.begin("span");
        self.key(",\"number\":", span.number);
        self.out.text(",\"parent\":");
        match span.parent {
            Some(parent) => self.out.number(parent),
            None => self.out.text("null"),
        }
        self.key(",\"depth\":", span.depth.into());
        self.out.text(self.functions.get(span.function));
        self.key(",\"start_ns\":", span.start_ns);
        self.key(",\"end_ns\":", span.end_ns);
        self.key(",\"duration_ns\":", span.duration_ns());
        self.key(",\"self_ns\":", span.self_ns());
        self.out.text(",\"end\":\"");
        self.out.text(span.end.name());
        self.out.text(if span.is_timed() { "\",\"exact\":true" } else { "\",\"exact\":false" });
        self.value(",\"args\":", ended.arguments.as_deref().map(Values::json));
        self.value(",\"returned\":", ended.returned.as_ref().map(Values::returned));
        self.end_line()
    }

    fn mark(&mut self, mark: &Mark, signal: Option<&Signal>) -> Result<(), ExportError> {
        self.begin(match mark.kind {
            MarkKind::Signal => "signal",
            MarkKind::UnmatchedReturn => "unmatched_return",
            MarkKind::Unknown => "unknown",
        });
        self.key(",\"time_ns\":", mark.time_ns);
        self.out.text(self.functions.get(mark.function));
        if let Some(signal) = signal {
            self.key(",\"signal\":", signal.number.into());
            self.out.text(",\"code\":");
            self.out.number(signal.code);
            self.key(",\"fault_address\":", signal.address);
        }
        self.end_line()
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), ExportError> {
        self.begin("lost");
        self.key(",\"time_ns\":", gap.time_start_ns);
        self.key(",\"end_ns\":", gap.time_end_ns);
        self.key(",\"count\":", gap.count);
        self.end_line()
    }
}
