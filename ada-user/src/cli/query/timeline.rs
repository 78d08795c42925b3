//! `ada-trace timeline SESSION`: a flame chart of a stretch of time, in characters.
//!
//! ```text
//! 4242/4243 worker
//! main────────────────────────────────────
//!  parse────── run───────────────────────
//!  ░░mal░      ▒▒▒▒▒▒▒▒read────▒▒▒▒
//! ```
//!
//! Invariant: a call that is as wide as its name's first letter is told by its name; narrower ones are shaded by how much of
//! the cell they fill.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use ada_query::timeline::{Cell, Lane, Timeline};
use anyhow::Result;
use serde_json::json;

use super::args::TimelineArgs;
use super::words::{exact, limit, name};
use super::{Question, notes};
use crate::cli::args::Format;
use crate::cli::names::printable;
use crate::cli::summary::plural;

/// Columns where nobody says how many there are.
const COLUMNS: usize = 100;
/// Depths that are drawn, unless `--full` is given.
const ROWS: usize = 24;
const MOST_ROWS: usize = 512;
/// Threads that are drawn, unless more are asked for.
const THREADS: usize = 10;

/// Prints what `args` ask for.
pub(crate) fn run(args: &TimelineArgs) -> Result<ExitCode> {
    let question = Question::new(args.asked.session.as_deref(), &args.asked.select)?;
    let progress = question.progress();
    let rows = if args.asked.print.full { MOST_ROWS } else { ROWS };
    let timeline = Timeline::new(&question.trace, &question.selection, args.width.unwrap_or_else(columns), rows);
    drop(progress);
    let text = match args.asked.print.format {
        Format::Text => text(&question, &timeline, args),
        Format::Jsonl => jsonl(&question, &timeline, args),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(question.complain(&timeline.outcome))
}

fn columns() -> usize {
    let width = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if width >= 20 { width } else { COLUMNS }
}

fn text(question: &Question, timeline: &Timeline, args: &TimelineArgs) -> String {
    let paint = question.paint;
    let first = question.trace.time_range().map_or(0, |(first, _)| first);
    let since = |time: u64| format!("{:.9}s", time.saturating_sub(first) as f64 / 1e9);
    let length = timeline.until_ns - timeline.from_ns;
    let columns = timeline.lanes.first().and_then(|lane| lane.rows.first()).map_or(1, Vec::len).max(1);
    let mut text = format!(
        "{} to {}: {}, a column is {}\n",
        since(timeline.from_ns),
        since(timeline.until_ns),
        exact(length),
        exact(length / columns as u64)
    );
    let limit = limit(args.asked.print.limit, THREADS);
    for lane in timeline.lanes.iter().take(limit) {
        let Some(thread) = question.trace.threads().get(lane.thread) else { continue };
        let pid = thread.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        let who = format!("{pid}/{} {}", thread.tid, printable(&thread.name));
        let _ = writeln!(text, "\n{}", paint.bold(who.trim_end()));
        draw(question, lane, &mut text);
    }
    if timeline.lanes.len() > limit {
        let more = timeline.lanes.len() - limit;
        let _ = writeln!(text, "\n... and {} more; --limit 0 draws all", plural(more as u64, "thread"));
    }
    let notes = notes::text(&timeline.outcome.accounting);
    if !notes.is_empty() {
        let _ = write!(text, "\n{notes}");
    }
    text
}

fn draw(question: &Question, lane: &Lane, text: &mut String) {
    for row in &lane.rows {
        let mut line = String::new();
        for run in runs(row) {
            line.push_str(&picture(question, run));
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if lane.deeper > 0 {
        let _ = writeln!(text, "{} deeper: --full draws more", plural(lane.deeper, "call"));
    }
}

/// Neighbouring cells that show the same call.
fn runs(row: &[Cell]) -> impl Iterator<Item = &[Cell]> {
    row.chunk_by(|a, b| a.call.map(|(number, _)| number) == b.call.map(|(number, _)| number))
}

/// As many characters as there are cells.
fn picture(question: &Question, run: &[Cell]) -> String {
    let Some((_, function)) = run.first().and_then(|cell| cell.call) else { return " ".repeat(run.len()) };
    if let [cell] = run {
        // Many calls, or one that is narrower than a column.
        return if cell.calls > 1 { "▒" } else { "│" }.to_owned();
    }
    let about = question.trace.functions().about(function);
    let name = name(&about, true);
    let bare = name.split('(').next().filter(|bare| !bare.is_empty()).unwrap_or(&name);
    // The last cell stays free of the name, so that neighbours do not run into each other.
    let mut text: String = bare.chars().take(run.len() - 1).collect();
    let used = text.chars().count();
    text.extend(std::iter::repeat_n('─', run.len() - 1 - used));
    text.push(if used < run.len() - 1 { '╴' } else { '·' });
    text
}

fn jsonl(question: &Question, timeline: &Timeline, args: &TimelineArgs) -> String {
    let mut text = String::new();
    for lane in timeline.lanes.iter().take(limit(args.asked.print.limit, usize::MAX)) {
        let thread = question.trace.threads().get(lane.thread);
        for (depth, row) in lane.rows.iter().enumerate() {
            let mut column = 0;
            for run in runs(row) {
                let (first, last) = (column, column + run.len());
                column = last;
                let Some((number, function)) = run.first().and_then(|cell| cell.call) else { continue };
                let about = question.trace.functions().about(function);
                let object = json!({
                    "kind": "cells",
                    "thread": thread.map(|thread| thread.id),
                    "pid": thread.and_then(|thread| thread.pid),
                    "tid": thread.map(|thread| thread.tid),
                    "depth": depth,
                    "first_column": first,
                    "columns": last - first,
                    "number": number,
                    "function_id": about.id,
                    "function": about.name,
                    "demangled": about.demangled,
                    "module": about.module,
                    "calls": run.iter().map(|cell| cell.calls).max(),
                    "filled_ns": run.iter().map(|cell| cell.filled_ns).fold(0, u64::saturating_add),
                });
                let _ = writeln!(text, "{object}");
            }
        }
    }
    let scale = json!({ "kind": "scale", "from_ns": timeline.from_ns, "until_ns": timeline.until_ns });
    let _ = writeln!(text, "{scale}");
    let _ = writeln!(text, "{}", notes::json(&timeline.outcome.accounting));
    text
}
