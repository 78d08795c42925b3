//! `ada-trace report SESSION`: the functions, by calls and time.
//!
//! Invariant: a time that is not known is a dash, never a zero.

mod histogram;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use ada_query::stats::{Group, Grouping, Options, Report, Row, Sort};
use ada_query::trace::Trace;
use anyhow::Result;
use serde_json::{Value, json};

use super::args::{By, ReportArgs, SortBy};
use super::words::{exact, limit, name, rough};
use super::{Question, notes};
use crate::cli::args::Format;
use crate::cli::names::{printable, short_module};
use crate::cli::summary::count;
use crate::cli::table::{Column, Table};

/// Rows of a table for people, unless they ask for more.
const LONGEST: usize = 50;
/// How full a part of the time is.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Prints what `args` ask for.
pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode> {
    let question = Question::new(args.session()?, &args.asked.select)?;
    let (text, report) = answer(&question, args)?;
    io::stdout().write_all(text.as_bytes())?;
    Ok(question.complain(&report.outcome))
}

/// What is printed, and what it was made from.
pub(super) fn answer(question: &Question, args: &ReportArgs) -> Result<(String, Report)> {
    let wanted = args.histogram.as_deref().map(|text| question.functions(text)).transpose()?;
    let options = Options {
        grouping: match args.by {
            None => Grouping::Session,
            Some(By::Process) => Grouping::Process,
            Some(By::Thread) => Grouping::Thread,
        },
        values: true,
        rate_buckets: args.parts().unwrap_or(0),
    };
    let progress = question.progress();
    let mut report = Report::new(&question.trace, &question.selection, options);
    drop(progress);
    report.sort(match args.sort {
        SortBy::Calls => Sort::Calls,
        SortBy::Total => Sort::Total,
        SortBy::SelfTime => Sort::SelfTime,
        SortBy::Mean => Sort::Mean,
        SortBy::P99 => Sort::P99,
        SortBy::Max => Sort::Max,
    });
    if let Some(wanted) = wanted {
        report.rows.retain(|row| wanted.contains(&row.function));
    }
    let text = match (args.asked.print.format, args.histogram.is_some()) {
        (Format::Jsonl, histogram) => jsonl(&question.trace, &report, args, histogram),
        (Format::Text, true) => histogram::text(question, &report, args),
        (Format::Text, false) => text(question, &report, args),
    };
    Ok((text, report))
}

fn text(question: &Question, report: &Report, args: &ReportArgs) -> String {
    let trace = &question.trace;
    let paint = question.paint;
    let mut text = paint.dim(&question.head(&report.outcome.accounting)) + "\n";
    let limit = limit(args.asked.print.limit, LONGEST);
    let rows: Vec<&Row> = report.rows.iter().take(limit).collect();
    if !rows.is_empty() {
        let table = table(trace, &rows, args).to_string();
        let (head, body) = table.split_once('\n').unwrap_or((&table, ""));
        let _ = write!(text, "\n{}\n{body}", paint.bold(head));
    }
    if report.rows.len() > limit {
        let more = report.rows.len() - limit;
        let _ = writeln!(text, "... and {} more; --limit 0 shows all", count(more as u64));
    }
    let notes = notes::text(&report.outcome.accounting);
    if !notes.is_empty() {
        let _ = write!(text, "\n{notes}");
    }
    text
}

fn table(trace: &Trace, rows: &[&Row], args: &ReportArgs) -> Table {
    let has_values = rows.iter().any(|row| row.stats.values > 0);
    let mut columns: Vec<Column> = vec![
        ("CALLS", true),
        ("TOTAL", true),
        ("SELF", true),
        ("MEAN", true),
        ("MIN", true),
        ("P50", true),
        ("P95", true),
        ("P99", true),
        ("MAX", true),
    ];
    if has_values {
        columns.extend([("<0", true), ("NULL", true)]);
    }
    columns.extend(args.parts().map(|_| ("RATE", false)));
    columns.extend(args.by.map(|by| (if matches!(by, By::Process) { "PID" } else { "PID/TID" }, false)));
    columns.extend([("FUNCTION", false), ("MODULE", false)]);
    let mut table = Table::new(&columns);
    for row in rows {
        let mut cells = times(row);
        if has_values {
            let known = |number: u64| if row.stats.values > 0 { count(number) } else { "-".to_owned() };
            cells.extend([known(row.stats.negative), known(row.stats.null)]);
        }
        cells.extend(args.parts().map(|_| bars(&row.stats.rate)));
        cells.extend(args.by.map(|_| group(trace, row.group)));
        let about = trace.functions().about(row.function);
        cells.push(name(&about, args.asked.print.full));
        cells.push(about.module.map_or_else(|| "?".to_owned(), |path| short_module(path).into_owned()));
        table.row(cells);
    }
    table
}

fn times(row: &Row) -> Vec<String> {
    let stats = &row.stats;
    let sum = |time: u64| if stats.is_timed() { exact(time) } else { "-".to_owned() };
    let known = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), exact);
    let about = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), rough);
    let quantile = |share: f64| about(stats.latency.quantile(share).map(|time| time as f64));
    vec![
        count(stats.calls),
        sum(stats.total_ns),
        sum(stats.self_ns),
        about(stats.latency.mean()),
        known(stats.latency.min()),
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
        known(stats.latency.max()),
    ]
}

/// Calls in each part of the time, as bars.
fn bars(rate: &[u32]) -> String {
    let most = u64::from(rate.iter().copied().max().unwrap_or(0).max(1));
    let bar = |count: &u32| match u64::from(*count) {
        0 => ' ',
        count => BARS.get(((count * 8).div_ceil(most) - 1) as usize).copied().unwrap_or('█'),
    };
    let text: String = rate.iter().map(bar).collect();
    format!("|{text}|")
}

fn group(trace: &Trace, group: Group) -> String {
    match group {
        Group::Session => String::new(),
        Group::Process(pid) => pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()),
        Group::Thread(index) => trace.threads().get(index).map_or_else(String::new, |thread| {
            let pid = thread.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
            format!("{pid}/{} {}", thread.tid, printable(&thread.name)).trim_end().to_owned()
        }),
    }
}

fn jsonl(trace: &Trace, report: &Report, args: &ReportArgs, histogram: bool) -> String {
    let mut text = String::new();
    for row in report.rows.iter().take(limit(args.asked.print.limit, usize::MAX)) {
        let mut object = object(trace, row);
        if args.rate.is_some() {
            object["rate"] = json!(row.stats.rate);
            object["rate_edges_ns"] = json!(report.rate_edges_ns);
        }
        if histogram {
            let buckets = row.stats.latency.buckets().map(|(low, high, count)| json!([low, high, count]));
            object["histogram"] = Value::Array(buckets.collect());
        }
        let _ = writeln!(text, "{object}");
    }
    let _ = writeln!(text, "{}", notes::json(&report.outcome.accounting));
    text
}

fn object(trace: &Trace, row: &Row) -> Value {
    let (stats, about) = (&row.stats, trace.functions().about(row.function));
    let quantile = |share: f64| stats.latency.quantile(share);
    let mut object = json!({
        "kind": "function",
        "function_id": about.id,
        "function": about.name,
        "demangled": about.demangled,
        "module": about.module,
        "calls": stats.calls,
        "timed_calls": stats.latency.count(),
        "total_ns": stats.is_timed().then_some(stats.total_ns),
        "self_ns": stats.is_timed().then_some(stats.self_ns),
        "mean_ns": stats.latency.mean(),
        "min_ns": stats.latency.min(),
        "p50_ns": quantile(0.5),
        "p95_ns": quantile(0.95),
        "p99_ns": quantile(0.99),
        "max_ns": stats.latency.max(),
        "unseen_ends": stats.unseen_ends,
        "open": stats.open,
        "unwound": stats.unwound,
        "values": stats.values,
        "negative": stats.negative,
        "null": stats.null,
    });
    match row.group {
        Group::Session => {}
        Group::Process(pid) => object["pid"] = json!(pid),
        Group::Thread(index) => {
            if let Some(thread) = trace.threads().get(index) {
                object["pid"] = json!(thread.pid);
                object["tid"] = json!(thread.tid);
                object["thread"] = json!(thread.id);
            }
        }
    }
    object
}
