//! `ada-trace replay SESSION`: calls as they nested, in the order of time over all threads.
//!
//! ```text
//! # DURATION      TID   CALL
//!               [ 4242] main() {
//!    1.234 us   [ 4242]   malloc();
//!   14.672 us   [ 4242]   open(path="/etc/hostname", flags=O_RDONLY) = 3;
//!    5.678 us   [ 4242] } /* main() */
//! ```
//!
//! Invariant: one line for each step; a duration stands where it is known.

use std::io::{self, Write};
use std::process::ExitCode;

use ada_format::manifest::Gap;
use ada_query::functions::{FunctionIndex, Functions};
use ada_query::replay::{Step, StepKind, replay};
use ada_query::run::Outcome;
use ada_query::span::{End, Mark, MarkKind, Span};
use ada_query::trace::Thread;
use anyhow::Result;
use serde_json::json;

use super::args::{PrintArgs, ReplayArgs};
use super::values::{Of, Values};
use super::words::{exact, limit, name, signal_name};
use super::{Question, notes};
use crate::cli::args::Format;
use crate::cli::out::Out;
use crate::cli::tell;

/// Indentation ends here; the depth is written instead.
const DEEPEST: u32 = 40;
/// Digits that a thread id has at least: threads with more shift their lines.
const TID_WIDTH: usize = 4;

/// Prints what `args` ask for.
pub(crate) fn run(args: &ReplayArgs) -> Result<ExitCode> {
    let question = Question::new(args.asked.session.as_deref(), &args.asked.select)?;
    let (outcome, whole) = print(&question, args, io::stdout().lock())?;
    if whole && args.asked.print.format == Format::Text {
        tell(&notes::text(&outcome.accounting));
    }
    Ok(question.complain(&outcome))
}

/// Prints to `sink`; also says whether all of it was printed.
pub(super) fn print<W: Write>(question: &Question, args: &ReplayArgs, sink: W) -> io::Result<(Outcome, bool)> {
    let trace = &question.trace;
    let first_ns = trace.time_range().map_or(0, |(first, _)| first);
    let mut printer = Printer::new(trace.functions(), Style::new(&args.asked.print, args.time, first_ns));
    printer.widen(trace.threads().iter().map(|thread| thread.tid));
    trace.threads().iter().for_each(|thread| printer.thread(thread));
    let mut left = limit(args.asked.print.limit, usize::MAX);
    let mut out = Out::new(sink);
    printer.head(&mut out)?;
    let mut whole = true;
    let mut values = Values::new(trace.manifest());
    values.threads(trace.threads().iter());
    let mut outcome = replay(&question.trace, &question.selection, |step| -> io::Result<bool> {
        if left == 0 {
            whole = false;
            return Ok(false);
        }
        left -= 1;
        let mut known = Known { table: trace.functions(), values: &mut values };
        printer.step(&mut out, &mut known, step)?;
        Ok(true)
    })?;
    outcome.failed.append(&mut values.failed);
    // Of what was not looked at, nothing is known.
    if whole && args.asked.print.format == Format::Jsonl {
        out.text(&notes::json(&outcome.accounting).to_string());
        out.end_line()?;
    }
    out.finish()?;
    Ok((outcome, whole))
}

/// How lines look.
#[derive(Clone, Copy)]
pub(super) struct Style {
    time: bool,
    format: Format,
    full: bool,
    first_ns: u64,
}

impl Style {
    /// As asked for; times of day count from `first_ns`.
    pub(super) fn new(print: &PrintArgs, time: bool, first_ns: u64) -> Self {
        Self { time, format: print.format, full: print.full, first_ns }
    }
}

/// What lines are made from.
pub(super) struct Known<'k> {
    /// What the functions' numbers mean.
    pub(super) table: &'k Functions,
    /// Registers, and what they mean.
    pub(super) values: &'k mut Values,
}

impl Known<'_> {
    fn text<W: Write>(&mut self, out: &mut Out<W>, thread: usize, of: Of) -> bool {
        self.values.text(out, self.table, thread, of)
    }

    fn json<W: Write>(&mut self, out: &mut Out<W>, thread: usize, of: Of) {
        self.values.json(out, self.table, thread, of);
    }

    fn signal(&mut self, thread: usize, mark: &Mark) -> Option<(String, u32)> {
        self.values.signal(thread, mark)
    }
}

/// What is the same in many lines.
pub(super) struct Printer {
    style: Style,
    /// By function, as far as they are known: what stands for it.
    functions: Vec<String>,
    threads: Vec<String>,
    tid_width: usize,
}

impl Printer {
    /// For functions by the numbers that `table` gives them.
    pub(super) fn new(table: &Functions, style: Style) -> Self {
        let mut printer = Self { style, functions: Vec::new(), threads: Vec::new(), tid_width: TID_WIDTH };
        printer.functions = (0..table.known().len())
            .map(|index| printer.describe(table, u32::try_from(index).unwrap_or(u32::MAX)))
            .collect();
        printer
    }

    /// The next thread: the one whose place in the session is that of this call among such calls.
    pub(super) fn thread(&mut self, thread: &Thread) {
        let width = self.tid_width;
        self.threads.push(match self.style.format {
            Format::Text => format!("[{:>width$}] ", thread.tid),
            Format::Jsonl => {
                format!(",\"thread\":{},\"pid\":{},\"tid\":{}", thread.id, json!(thread.pid), thread.tid)
            }
        });
    }

    /// Makes room for such ids of threads.
    pub(super) fn widen(&mut self, tids: impl Iterator<Item = u32>) {
        let widest = tids.map(|tid| tid.to_string().len()).max().unwrap_or(0);
        self.tid_width = self.tid_width.max(widest);
    }

    /// Threads whose lines are known.
    pub(super) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// One line.
    pub(super) fn step<W: Write>(&self, out: &mut Out<W>, known: &mut Known<'_>, step: &Step) -> io::Result<()> {
        match self.style.format {
            Format::Text => self.text(out, known, step),
            Format::Jsonl => self.jsonl(out, known, step),
        }
    }

    fn describe(&self, table: &Functions, function: FunctionIndex) -> String {
        let about = table.about(function);
        match self.style.format {
            Format::Text => {
                let name = name(&about, self.style.full);
                if name.contains('(') || about.name.is_none() { name } else { name + "()" }
            }
            Format::Jsonl => format!(
                ",\"function_id\":{},\"function\":{},\"demangled\":{},\"module\":{}",
                about.id,
                json!(about.name),
                json!(about.demangled),
                json!(about.module)
            ),
        }
    }

    fn function<W: Write>(&self, out: &mut Out<W>, table: &Functions, function: FunctionIndex) {
        match self.functions.get(function as usize) {
            Some(text) => out.text(text),
            None => out.text(&self.describe(table, function)),
        }
    }

    /// The line above all others, for people.
    pub(super) fn head<W: Write>(&self, out: &mut Out<W>) -> io::Result<()> {
        if self.style.format == Format::Jsonl {
            return Ok(());
        }
        out.text(if self.style.time { "#  TIME (s)     DURATION  " } else { "#  DURATION  " });
        out.spaces(self.tid_width.saturating_sub(2));
        out.text("TID   CALL");
        out.end_line()
    }

    fn text<W: Write>(&self, out: &mut Out<W>, known: &mut Known<'_>, step: &Step) -> io::Result<()> {
        if self.style.time {
            let first_ns = self.style.first_ns;
            out.seconds(step.time_ns < first_ns, step.time_ns.abs_diff(first_ns), 3);
        }
        let duration = match &step.kind {
            StepKind::Exit { span, .. } if !matches!(span.end, End::Missed | End::Lost) => exact(span.duration_ns()),
            _ => String::new(),
        };
        out.spaces(12_usize.saturating_sub(duration.len()));
        out.text(&duration);
        out.text(" ");
        out.text(self.threads.get(step.thread).map_or("", String::as_str));
        match &step.kind {
            StepKind::Enter { function, depth, call, detail, .. } => {
                indent(out, *depth);
                self.with_arguments(
                    out,
                    known,
                    step.thread,
                    Of { function: *function, part: call.part, detail: *detail },
                );
                out.text(" {");
            }
            StepKind::Exit { span, leaf: true, detail } => {
                indent(out, span.depth);
                let of = Of { function: span.function, part: span.call.part, detail: *detail };
                self.with_arguments(out, known, step.thread, of);
                known.text(out, step.thread, returned(span));
                out.text(";");
                if span.end != End::Return {
                    out.text(" /* ");
                    out.text(&how(span));
                    out.text(" */");
                }
            }
            StepKind::Exit { span, leaf: false, .. } => {
                indent(out, span.depth);
                out.text("}");
                known.text(out, step.thread, returned(span));
                out.text(" /* ");
                self.function(out, known.table, span.function);
                if span.end != End::Return {
                    out.text(": ");
                    out.text(&how(span));
                }
                out.text(" */");
            }
            StepKind::Mark(mark) => match (mark.kind, known.signal(step.thread, mark)) {
                (_, Some((signal, _))) => out.text(&format!("/* {signal} */")),
                (MarkKind::Signal, None) => out.text("/* a signal is delivered */"),
                (MarkKind::UnmatchedReturn, None) => out.text("/* a return without a call */"),
                (MarkKind::Unknown, None) => out.text("/* an event of an unknown kind */"),
            },
            StepKind::Gap(gap) => out.text(&format!("/* LOST: {} events */", gap.count)),
        }
        out.end_line()
    }

    fn jsonl<W: Write>(&self, out: &mut Out<W>, known: &mut Known<'_>, step: &Step) -> io::Result<()> {
        out.text("{\"kind\":\"");
        out.text(match &step.kind {
            StepKind::Enter { .. } => "enter",
            StepKind::Exit { leaf: true, .. } => "leaf",
            StepKind::Exit { .. } => "exit",
            StepKind::Mark(mark) if mark.kind == MarkKind::Signal => "signal",
            StepKind::Mark(_) => "unknown",
            StepKind::Gap(_) => "lost",
        });
        out.text("\",\"time_ns\":");
        out.number(step.time_ns);
        out.text(self.threads.get(step.thread).map_or("", String::as_str));
        match &step.kind {
            StepKind::Enter { function, depth, number, call, detail } => {
                self.call(out, known.table, *function, *depth, *number);
                known.json(out, step.thread, Of { function: *function, part: call.part, detail: *detail });
            }
            StepKind::Exit { span, detail, .. } => {
                self.call(out, known.table, span.function, span.depth, span.number);
                known.json(out, step.thread, Of { function: span.function, part: span.call.part, detail: *detail });
                known.json(out, step.thread, returned(span));
                out.text(",\"end\":\"");
                out.text(span.end.name());
                out.text("\",\"duration_ns\":");
                if matches!(span.end, End::Missed | End::Lost) {
                    out.text("null");
                } else {
                    out.number(span.duration_ns());
                    out.text(",\"self_ns\":");
                    out.number(span.self_ns());
                }
            }
            StepKind::Mark(mark) => {
                self.function(out, known.table, mark.function);
                if let Some((_, number)) = known.signal(step.thread, mark) {
                    out.text(",\"signal\":");
                    out.number(number.into());
                }
            }
            StepKind::Gap(Gap { count, time_end_ns, .. }) => {
                out.text(",\"count\":");
                out.number(*count);
                out.text(",\"time_end_ns\":");
                out.number(*time_end_ns);
            }
        }
        out.text("}");
        out.end_line()
    }

    /// A call's function, with what it was given, where that is known.
    fn with_arguments<W: Write>(&self, out: &mut Out<W>, known: &mut Known<'_>, thread: usize, of: Of) {
        if !known.text(out, thread, of) {
            self.function(out, known.table, of.function);
        }
    }

    fn call<W: Write>(&self, out: &mut Out<W>, table: &Functions, function: FunctionIndex, depth: u32, number: u64) {
        out.text(",\"depth\":");
        out.number(depth.into());
        out.text(",\"number\":");
        out.number(number);
        self.function(out, table, function);
    }
}

fn indent<W: Write>(out: &mut Out<W>, depth: u32) {
    out.spaces(2 * depth.min(DEEPEST) as usize);
    if depth > DEEPEST {
        out.text("[");
        out.number(depth.into());
        out.text("] ");
    }
}

/// Where is what a call gave back.
fn returned(span: &Span) -> Of {
    Of { function: span.function, part: span.ret.map_or(span.call.part, |ret| ret.part), detail: span.ret_detail }
}

/// What ended a call that did not return.
fn how(span: &Span) -> String {
    match span.end {
        End::Return => "returned".to_owned(),
        End::Unwound => "left by unwinding".to_owned(),
        End::Missed => "its return was not recorded".to_owned(),
        End::Lost => "its return was lost".to_owned(),
        End::Exit => "its process exited".to_owned(),
        End::Killed { signal } => format!("{} killed its process", signal_name(signal)),
        End::Recording => "the recording ended".to_owned(),
        End::Range => "the time range ended".to_owned(),
    }
}
