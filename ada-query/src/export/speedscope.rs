//! speedscope's JSON: an evented profile for each stack of each thread.
//!
//! A profile is one list, so a thread with several stacks is read once for each. Invariant: in a profile the last frame
//! opened is the first closed, and times do not fall.

use std::io::Write;

use super::names::{self, Texts, printable, quoted};
use super::nest::{Begin, Ended, Sink};
use super::out::Out;
use super::{ExportError, Exported, lead};
use crate::select::Selection;
use crate::switches::Switches;
use crate::trace::{Thread, Trace};

pub(super) fn export<W: Write>(trace: &Trace, selection: &Selection, out: W) -> Result<Exported, ExportError> {
    let switches = Switches::find(trace, selection);
    let mut writer = Writer::new(trace, out);
    let mut exported = Exported::default();
    writer.out.text("{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\"exporter\":\"ada-trace\",");
    writer.out.text("\"name\":");
    writer.out.json(&trace.manifest().session.id);
    writer.out.text(",\"profiles\":[");
    for thread in selection.threads(trace) {
        let only = Selection { threads: vec![thread.id], ..selection.clone() };
        (writer.stack, writer.stacks) = (0, 1);
        while writer.stack < writer.stacks {
            let (back, more) = lead(trace, &only, &switches, writer)?;
            writer = back;
            if writer.stack == 0 {
                exported.outcome.merge(more.outcome);
                exported.cut_short += more.cut_short;
            }
            writer.stack += 1;
        }
    }
    writer.frames(trace)?;
    Ok(Exported { bytes: writer.out.finish()?, ..exported })
}

struct Writer<W: Write> {
    out: Out<W>,
    first_ns: u64,
    /// The stack that is written, and how many there are.
    stack: u32,
    stacks: u32,
    /// Profiles and events so far, to put commas between.
    profiles: u64,
    events: u64,
    last_ns: u64,
    /// Greatest function number, and one more.
    functions: u32,
}

impl<W: Write> Writer<W> {
    fn new(trace: &Trace, out: W) -> Self {
        Self {
            out: Out::new(out),
            first_ns: trace.time_range().map_or(0, |(first, _)| first),
            stack: 0,
            stacks: 0,
            profiles: 0,
            events: 0,
            last_ns: 0,
            functions: 0,
        }
    }

    fn event(&mut self, stack: u32, kind: &str, function: u32, time_ns: u64) -> Result<(), ExportError> {
        self.stacks = self.stacks.max(stack + 1);
        if stack != self.stack {
            return Ok(());
        }
        self.functions = self.functions.max(function.saturating_add(1));
        self.last_ns = time_ns.saturating_sub(self.first_ns);
        self.out.text(if self.events == 0 { "\n" } else { ",\n" });
        self.out.text(kind);
        self.out.number(function);
        self.out.text(",\"at\":");
        self.out.number(self.last_ns);
        self.out.text("}");
        self.events += 1;
        Ok(self.out.piece()?)
    }

    /// The table of frames, last because functions that only events name are known by now.
    fn frames(&mut self, trace: &Trace) -> Result<(), ExportError> {
        let mut names = Texts::new(trace, |about| {
            let file = about.module.map(|module| format!(",\"file\":{}", quoted(module))).unwrap_or_default();
            format!("{{\"name\":{}{file}}}", quoted(&printable(&about.to_string())))
        });
        self.out.text("],\n\"shared\":{\"frames\":[");
        for function in 0..self.functions {
            self.out.text(if function == 0 { "\n" } else { ",\n" });
            self.out.text(names.get(function));
            self.out.piece()?;
        }
        self.out.text("]}}\n");
        Ok(())
    }
}

impl<W: Write> Sink for Writer<W> {
    const VALUES: bool = false;
    const NESTS: bool = true;

    fn thread(&mut self, thread: &Thread) -> Result<(), ExportError> {
        self.out.text(if self.profiles == 0 { "\n" } else { ",\n" });
        self.profiles += 1;
        (self.events, self.last_ns) = (0, 0);
        self.out.text("{\"type\":\"evented\",\"unit\":\"nanoseconds\",\"name\":");
        let pid = thread.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        self.out.json(&format!("{} ({pid}/{})", names::stack(thread, self.stack), thread.tid));
        self.out.text(",\"startValue\":0,\"events\":[");
        Ok(())
    }

    fn begin(&mut self, begin: &Begin) -> Result<(), ExportError> {
        self.event(begin.stack, "{\"type\":\"O\",\"frame\":", begin.call.function, begin.call.start_ns)
    }

    fn end(&mut self, ended: &Ended) -> Result<(), ExportError> {
        self.event(ended.stack, "{\"type\":\"C\",\"frame\":", ended.span.function, ended.span.end_ns)
    }

    fn thread_end(&mut self) -> Result<(), ExportError> {
        self.out.text("],\"endValue\":");
        self.out.number(self.last_ns);
        self.out.text("}");
        Ok(())
    }
}
