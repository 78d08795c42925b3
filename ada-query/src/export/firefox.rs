//! Firefox Profiler's processed profile: a sample for each change of a stack, which weighs the time until the next change.
//!
//! Samples are columns, and a column is one list: a thread is read once for each of the three. Invariant: the columns of
//! a thread are equally long, or the export fails.

use std::io::Write;

use super::names::{self, Processes, Texts, printable, quoted};
use super::nest::{Begin, Ended, Sink};
use super::out::Out;
use super::paths::{PathIndex, Paths};
use super::{ExportError, Exported, lead};
use crate::select::Selection;
use crate::switches::Switches;
use crate::trace::{Thread, Trace};
use crate::tree::MOST_NODES;

/// The version of the format; the profiler reads older ones for ever.
const VERSION: u32 = 55;
const MILLISECOND: u64 = 1_000_000;

/// What precedes the threads; the categories are that of functions, and the one that every profile has.
const META: &str = "\"categories\":[{\"name\":\"Other\",\"color\":\"grey\",\"subcategories\":[\"Other\"]},\
    {\"name\":\"Function\",\"color\":\"blue\",\"subcategories\":[\"Other\"]}],\"debug\":false,\
    \"extensions\":{\"length\":0,\"baseURL\":[],\"id\":[],\"name\":[]},\"interval\":0.001,\"processType\":0,\
    \"symbolicated\":true,\"pausedRanges\":[],\"version\":24,\"usesOnlyOneStackType\":true,\
    \"sourceCodeIsNotOnSearchfox\":true,\"markerSchema\":[],\
    \"sampleUnits\":{\"time\":\"ms\",\"eventDelay\":\"ms\",\"threadCPUDelta\":\"ns\"}";

pub(super) fn export<W: Write>(trace: &Trace, selection: &Selection, out: W) -> Result<Exported, ExportError> {
    let switches = Switches::find(trace, selection);
    let mut out = Out::new(out);
    let first_ns = trace.time_range().map_or(0, |(first, _)| first);
    let start_ns = i128::from(first_ns) + names::wall_offset_ns(trace);
    out.text("{\"meta\":{");
    out.text(META);
    out.text(&format!(
        ",\"preprocessedProfileVersion\":{VERSION},\"startTime\":{}",
        start_ns / i128::from(MILLISECOND)
    ));
    out.text(",\"product\":");
    let processes = Processes::new(trace);
    let product = trace.manifest().process.first().map_or_else(String::new, |process| processes.name(process.pid));
    out.json(&product);
    out.text("},\"libs\":[],\"pages\":[],\"profilerOverhead\":[],\"counters\":[],\"threads\":[");
    let mut exported = Exported::default();
    let mut is_first = true;
    for thread in selection.threads(trace) {
        let only = Selection { threads: vec![thread.id], ..selection.clone() };
        let (mut stack, mut stacks) = (0, 1);
        while stack < stacks {
            out.text(if is_first { "\n" } else { ",\n" });
            is_first = false;
            let export = ThreadExport { trace, selection: &only, switches: &switches, first_ns, stack };
            let (back, found, more) = export.write(out, thread, &processes)?;
            (out, stacks) = (back, found);
            if stack == 0 {
                exported.outcome.merge(more.outcome);
                exported.cut_short += more.cut_short;
            }
            exported.without_path += more.without_path;
            stack += 1;
        }
    }
    out.text("\n]}\n");
    Ok(Exported { bytes: out.finish()?, ..exported })
}

/// One stack of a thread: a thread to the profiler.
struct ThreadExport<'a> {
    trace: &'a Trace,
    selection: &'a Selection,
    switches: &'a Switches,
    first_ns: u64,
    stack: u32,
}

impl ThreadExport<'_> {
    /// Gives back how many stacks there are, too.
    fn write<W: Write>(
        &self,
        mut out: Out<W>,
        thread: &Thread,
        processes: &Processes<'_>,
    ) -> Result<(Out<W>, u32, Exported), ExportError> {
        let pid = names::pid(thread);
        let is_main = thread.tid == pid && self.stack == 0;
        out.text("{\"name\":");
        out.json(&names::stack(thread, self.stack));
        out.text(&format!(",\"isMainThread\":{is_main},\"pid\":\"{pid}\",\"tid\":\"{}\",\"processName\":", thread.tid));
        out.json(&processes.name(pid));
        out.text(",\"processType\":\"default\",\"pausedRanges\":[],\"processStartupTime\":0,\"registerTime\":0,");
        out.text("\"processShutdownTime\":null,\"unregisterTime\":null,\"showMarkersInTimeline\":false,");
        out.text("\"samples\":{\"weightType\":\"tracing-ms\",\"stack\":[");
        let (columns, mut exported) = self.column(out, Column::Stack)?;
        exported.without_path = columns.without_path;
        let (mut out, paths, stacks, length) = (columns.out, columns.paths, columns.stacks, columns.samples);
        out.text("],\"timeDeltas\":[");
        let (columns, _) = self.column(out, Column::Delta)?;
        let (mut out, deltas) = (columns.out, columns.samples);
        out.text("],\"weight\":[");
        let (columns, _) = self.column(out, Column::Weight)?;
        let (mut out, weights) = (columns.out, columns.samples);
        if (deltas, weights) != (length, length) {
            return Err(ExportError::Changed);
        }
        out.text(&format!("],\"length\":{length}}}"));
        tables(&mut out, self.trace, &paths)?;
        Ok((out, stacks, exported))
    }

    fn column<W: Write>(&self, out: Out<W>, column: Column) -> Result<(Columns<W>, Exported), ExportError> {
        let columns = Columns {
            out,
            column,
            stack: self.stack,
            stacks: 1,
            paths: Paths::new(MOST_NODES),
            path: Vec::new(),
            without_path: 0,
            before_ns: self.first_ns,
            samples: 0,
        };
        lead(self.trace, self.selection, self.switches, columns)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    /// A path, by its number.
    Stack,
    /// Time since the last sample.
    Delta,
    /// Time until the next sample.
    Weight,
}

/// Writes one column.
struct Columns<W: Write> {
    out: Out<W>,
    column: Column,
    stack: u32,
    stacks: u32,
    paths: Paths,
    /// By running call; `None` if there was no room for its path and no call is around it.
    path: Vec<Option<PathIndex>>,
    without_path: u64,
    before_ns: u64,
    samples: u64,
}

impl<W: Write> Columns<W> {
    /// The stack has changed.
    fn change(&mut self, time_ns: u64) -> Result<(), ExportError> {
        let since_ns = time_ns.saturating_sub(self.before_ns);
        self.before_ns = self.before_ns.max(time_ns);
        self.samples += 1;
        let is_first = self.samples == 1;
        match self.column {
            Column::Stack => {
                self.out.text(if is_first { "" } else { "," });
                match self.path.last().copied().flatten() {
                    Some(path) => self.out.number(path),
                    None => self.out.text("null"),
                }
            }
            Column::Delta => {
                self.out.text(if is_first { "" } else { "," });
                self.out.decimal(since_ns, MILLISECOND);
            }
            // That of the sample before, which is known now.
            Column::Weight if is_first => {}
            Column::Weight => {
                self.out.decimal(since_ns, MILLISECOND);
                self.out.text(",");
            }
        }
        Ok(self.out.piece()?)
    }
}

impl<W: Write> Sink for Columns<W> {
    const VALUES: bool = false;
    const NESTS: bool = true;

    fn thread(&mut self, _thread: &Thread) -> Result<(), ExportError> {
        Ok(())
    }

    fn begin(&mut self, begin: &Begin) -> Result<(), ExportError> {
        self.stacks = self.stacks.max(begin.stack + 1);
        if begin.stack != self.stack {
            return Ok(());
        }
        if self.column == Column::Stack {
            let around = self.path.last().copied().flatten();
            let path = self.paths.child(around, begin.call.function);
            self.without_path += u64::from(path.is_none());
            // Without room for its path, a call's time is that of the call around it.
            self.path.push(path.or(around));
        }
        self.change(begin.call.start_ns)
    }

    fn end(&mut self, ended: &Ended) -> Result<(), ExportError> {
        if ended.stack != self.stack {
            return Ok(());
        }
        self.path.pop();
        self.change(ended.span.end_ns)
    }

    fn thread_end(&mut self) -> Result<(), ExportError> {
        // Nothing follows the last sample.
        if self.column == Column::Weight && self.samples > 0 {
            self.out.text("0");
        }
        Ok(())
    }
}

/// The tables that samples refer to. Frames, functions and texts are alike: one for each function.
fn tables<W: Write>(out: &mut Out<W>, trace: &Trace, paths: &Paths) -> Result<(), ExportError> {
    out.text(",\"stackTable\":{\"prefix\":[");
    list(out, paths.iter(), |out, path| match path.around {
        None => out.text("null"),
        Some(around) => out.number(around),
    })?;
    out.text("],\"frame\":[");
    list(out, paths.iter(), |out, path| out.number(path.function))?;
    out.text(&format!("],\"length\":{}}}", paths.len()));
    let count = paths.iter().map(|path| path.function.saturating_add(1)).max().unwrap_or(0);
    let column = |out: &mut Out<W>, key: &str, value: &str| {
        out.text(&format!(",\"{key}\":["));
        list(out, 0..count, |out, _| out.text(value))?;
        out.text("]");
        Ok::<(), ExportError>(())
    };
    let numbers = |out: &mut Out<W>| list(out, 0..count, Out::number);
    out.text(",\"frameTable\":{\"func\":[");
    numbers(out)?;
    out.text("]");
    for (key, value) in [
        ("address", "-1"),
        ("inlineDepth", "0"),
        ("category", "1"),
        ("subcategory", "0"),
        ("nativeSymbol", "null"),
        ("innerWindowID", "0"),
        ("line", "null"),
        ("column", "null"),
    ] {
        column(out, key, value)?;
    }
    out.text(&format!(",\"length\":{count}}},\"funcTable\":{{\"name\":["));
    numbers(out)?;
    out.text("]");
    for (key, value) in [
        ("isJS", "false"),
        ("relevantForJS", "false"),
        ("resource", "-1"),
        ("fileName", "null"),
        ("lineNumber", "null"),
        ("columnNumber", "null"),
    ] {
        column(out, key, value)?;
    }
    out.text(&format!(
        ",\"length\":{count}}},\"resourceTable\":{{\"length\":0,\"lib\":[],\"name\":[],\"host\":[],\"type\":[]}}"
    ));
    out.text(",\"nativeSymbols\":{\"length\":0,\"address\":[],\"functionSize\":[],\"libIndex\":[],\"name\":[]}");
    out.text(",\"markers\":{\"length\":0,\"category\":[],\"data\":[],\"endTime\":[],\"name\":[],\"phase\":[],\"startTime\":[]}");
    out.text(",\"stringArray\":[");
    let mut texts = Texts::new(trace, |about| {
        let name = printable(&about.to_string());
        quoted(&about.module_name().map_or(name.clone(), |module| format!("{name} [{module}]")))
    });
    list(out, 0..count, |out, function| out.text(texts.get(function)))?;
    out.text("]}");
    Ok(())
}

/// Items with commas between.
fn list<W: Write, T>(
    out: &mut Out<W>,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Out<W>, T),
) -> Result<(), ExportError> {
    for (place, item) in items.enumerate() {
        if place > 0 {
            out.text(",");
        }
        write(out, item);
        out.piece()?;
    }
    Ok(())
}
