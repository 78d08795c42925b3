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
use ada_query::functions::FunctionIndex;
use ada_query::replay::{Step, StepKind, replay};
use ada_query::run::Outcome;
use ada_query::span::{End, MarkKind, Span};
use anyhow::Result;
use serde_json::json;

use super::args::ReplayArgs;
use super::values::{Of, Values};
use super::words::{exact, name, signal_name};
use super::{Question, notes};
use crate::cli::args::Format;
use crate::cli::out::Out;
use crate::cli::tell;

/// Indentation ends here; the depth is written instead.
const DEEPEST: u32 = 40;

/// Prints what `args` ask for.
pub(crate) fn run(args: &ReplayArgs) -> Result<ExitCode> {
    let question = Question::new(args.session.as_deref(), &args.select)?;
    let (outcome, whole) = print(&question, args, io::stdout().lock())?;
    if whole && args.print.format == Format::Text {
        tell(&notes::text(&outcome.accounting));
    }
    Ok(question.complain(&outcome))
}

/// Prints to `sink`; also says whether all of it was printed.
pub(super) fn print<W: Write>(question: &Question, args: &ReplayArgs, sink: W) -> io::Result<(Outcome, bool)> {
    let mut printer = Printer::new(question, args);
    let mut out = Out::new(sink);
    if args.print.format == Format::Text {
        printer.head(&mut out)?;
    }
    let mut outcome = replay(&question.trace, &question.selection, |step| -> io::Result<bool> {
        if printer.left == 0 {
            return Ok(false);
        }
        printer.left -= 1;
        match args.print.format {
            Format::Text => printer.text(&mut out, step)?,
            Format::Jsonl => printer.jsonl(&mut out, step)?,
        }
        Ok(true)
    })?;
    outcome.failed.append(&mut printer.values.failed);
    if args.print.format == Format::Jsonl {
        out.text(&notes::json(&outcome.accounting).to_string());
        out.end_line()?;
    }
    out.finish()?;
    Ok((outcome, printer.left > 0))
}

/// What is the same in many lines.
struct Printer<'a> {
    question: &'a Question,
    /// By function, as far as they are known: what stands for it.
    functions: Vec<String>,
    threads: Vec<String>,
    tid_width: usize,
    first_ns: u64,
    time: bool,
    format: Format,
    full: bool,
    left: usize,
    values: Values<'a>,
}

impl<'a> Printer<'a> {
    fn new(question: &'a Question, args: &ReplayArgs) -> Self {
        let trace = &question.trace;
        let tid_width = trace.threads().iter().map(|thread| thread.tid.to_string().len()).max().unwrap_or(0).max(4);
        let thread = |thread: &ada_query::trace::Thread| match args.print.format {
            Format::Text => format!("[{:>tid_width$}] ", thread.tid),
            Format::Jsonl => {
                format!(",\"thread\":{},\"pid\":{},\"tid\":{}", thread.id, json!(thread.pid), thread.tid)
            }
        };
        let mut printer = Self {
            question,
            functions: Vec::new(),
            threads: trace.threads().iter().map(thread).collect(),
            tid_width,
            first_ns: trace.time_range().map_or(0, |(first, _)| first),
            time: args.time,
            format: args.print.format,
            full: args.print.full,
            left: args.print.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX),
            values: Values::new(trace),
        };
        printer.functions = (0..trace.functions().known().len())
            .map(|index| printer.describe(u32::try_from(index).unwrap_or(u32::MAX)))
            .collect();
        printer
    }

    fn describe(&self, function: FunctionIndex) -> String {
        let about = self.question.trace.functions().about(function);
        match self.format {
            Format::Text => {
                let name = name(&about, self.full);
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

    fn function<W: Write>(&self, out: &mut Out<W>, function: FunctionIndex) {
        match self.functions.get(function as usize) {
            Some(text) => out.text(text),
            None => out.text(&self.describe(function)),
        }
    }

    fn head<W: Write>(&self, out: &mut Out<W>) -> io::Result<()> {
        out.text(if self.time { "#  TIME (s)     DURATION  " } else { "#  DURATION  " });
        out.spaces(self.tid_width.saturating_sub(2));
        out.text("TID   CALL");
        out.end_line()
    }

    fn text<W: Write>(&mut self, out: &mut Out<W>, step: &Step) -> io::Result<()> {
        if self.time {
            out.seconds(step.time_ns < self.first_ns, step.time_ns.abs_diff(self.first_ns), 3);
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
                self.with_arguments(out, step.thread, Of { function: *function, part: call.part, detail: *detail });
                out.text(" {");
            }
            StepKind::Exit { span, leaf: true, detail } => {
                indent(out, span.depth);
                let of = Of { function: span.function, part: span.call.part, detail: *detail };
                self.with_arguments(out, step.thread, of);
                self.values.text(out, step.thread, returned(span));
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
                self.values.text(out, step.thread, returned(span));
                out.text(" /* ");
                self.function(out, span.function);
                if span.end != End::Return {
                    out.text(": ");
                    out.text(&how(span));
                }
                out.text(" */");
            }
            StepKind::Mark(mark) => match (mark.kind, self.values.signal(step.thread, mark)) {
                (_, Some((signal, _))) => out.text(&format!("/* {signal} */")),
                (MarkKind::Signal, None) => out.text("/* a signal is delivered */"),
                (MarkKind::UnmatchedReturn, None) => out.text("/* a return without a call */"),
                (MarkKind::Unknown, None) => out.text("/* an event of an unknown kind */"),
            },
            StepKind::Gap(gap) => out.text(&format!("/* LOST: {} events */", gap.count)),
        }
        out.end_line()
    }

    fn jsonl<W: Write>(&mut self, out: &mut Out<W>, step: &Step) -> io::Result<()> {
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
                self.call(out, *function, *depth, *number);
                self.values.json(out, step.thread, Of { function: *function, part: call.part, detail: *detail });
            }
            StepKind::Exit { span, detail, .. } => {
                self.call(out, span.function, span.depth, span.number);
                self.values.json(
                    out,
                    step.thread,
                    Of { function: span.function, part: span.call.part, detail: *detail },
                );
                self.values.json(out, step.thread, returned(span));
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
                self.function(out, mark.function);
                if let Some((_, number)) = self.values.signal(step.thread, mark) {
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
    fn with_arguments<W: Write>(&mut self, out: &mut Out<W>, thread: usize, of: Of) {
        if !self.values.text(out, thread, of) {
            self.function(out, of.function);
        }
    }

    fn call<W: Write>(&self, out: &mut Out<W>, function: FunctionIndex, depth: u32, number: u64) {
        out.text(",\"depth\":");
        out.number(depth.into());
        out.text(",\"number\":");
        out.number(number);
        self.function(out, function);
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
