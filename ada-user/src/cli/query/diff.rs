//! `ada-trace diff A B`: what changed between two sessions, by function.
//!
//! Invariant: a change of durations is called one only if it is more than noise (ada-query's `diff` says how that is decided).

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use ada_query::diff::{Change, LEAST_CALLS, Verdict, diff};
use ada_query::stats::{FunctionStats, Options, Report};
use anyhow::Result;
use serde_json::{Value, json};

use super::args::DiffArgs;
use super::words::{exact, limit, rough, shortened};
use super::{Question, notes};
use crate::cli::args::Format;
use crate::cli::names::printable;
use crate::cli::summary::count;
use crate::cli::table::Table;

/// Rows for people, unless they ask for more.
const LONGEST: usize = 50;

/// Prints what `args` ask for.
pub(crate) fn run(args: &DiffArgs) -> Result<ExitCode> {
    let before = Question::unchecked(&args.before, &args.select)?;
    let after = Question::unchecked(&args.after, &args.select)?;
    Question::check_any(&[&before, &after])?;
    let report = |question: &Question| {
        let _progress = question.progress();
        Report::new(&question.trace, &question.selection, Options::default())
    };
    let (first, second) = (report(&before), report(&after));
    let changes = diff((&first, before.trace.functions()), (&second, after.trace.functions()));
    let wanted: Vec<&Change> = changes.iter().filter(|change| args.all || is_news(change)).collect();
    let text = match args.print.format {
        Format::Text => text(&wanted, changes.len(), [(&before, &first), (&after, &second)], args),
        Format::Jsonl => jsonl(&wanted, [&first, &second], args),
    };
    io::stdout().write_all(text.as_bytes())?;
    let codes = [before.complain(&first.outcome), after.complain(&second.outcome)];
    Ok(codes.into_iter().find(|code| *code != ExitCode::SUCCESS).unwrap_or(ExitCode::SUCCESS))
}

/// Whether there is anything to tell: durations that changed, or numbers of calls.
fn is_news(change: &Change) -> bool {
    !matches!(change.verdict, Verdict::Same | Verdict::Unknown) || change.before.calls != change.after.calls
}

fn text(changes: &[&Change], all: usize, sides: [(&Question, &Report); 2], args: &DiffArgs) -> String {
    let paint = sides[0].0.paint;
    let mut text = String::new();
    for ((question, report), name) in sides.into_iter().zip(["A", "B"]) {
        let head = question.head(&report.outcome.accounting);
        let dir = question.trace.session().dir().display();
        let _ = writeln!(text, "{}", paint.dim(&format!("{name}: {head}, {dir}")));
    }
    let columns = [
        ("CALLS A", true),
        ("CALLS B", true),
        ("SELF A", true),
        ("SELF B", true),
        ("MEAN A", true),
        ("MEAN B", true),
        ("CHANGE", true),
        ("P99 A", true),
        ("P99 B", true),
        ("VERDICT", false),
        ("FUNCTION", false),
        ("MODULE", false),
    ];
    let mut table = Table::new(&columns);
    let limit = limit(args.print.limit, LONGEST);
    for change in changes.iter().take(limit) {
        table.row(cells(change, args.print.full));
    }
    if !table.is_empty() {
        let table = table.to_string();
        let (head, body) = table.split_once('\n').unwrap_or((&table, ""));
        let _ = write!(text, "\n{}\n{body}", paint.bold(head));
    }
    if changes.len() > limit {
        let _ = writeln!(text, "... and {} more; --limit 0 shows all", count((changes.len() - limit) as u64));
    }
    if all > changes.len() {
        let same = count((all - changes.len()) as u64);
        let _ = writeln!(text, "\n{same} functions without a change: --all shows them");
    }
    if changes.iter().any(|change| change.verdict == Verdict::Unknown) {
        let _ = writeln!(text, "\nunknown: fewer than {LEAST_CALLS} calls with a known duration on one side");
    }
    for ((_, report), name) in sides.into_iter().zip(["A", "B"]) {
        for line in notes::text(&report.outcome.accounting).lines() {
            let _ = writeln!(text, "{name}: {line}");
        }
    }
    text
}

fn cells(change: &Change, full: bool) -> Vec<String> {
    let (before, after) = (&change.before, &change.after);
    let own =
        |stats: &FunctionStats| if stats.calls > 0 && stats.is_timed() { exact(stats.self_ns) } else { "-".into() };
    let mean = |stats: &FunctionStats| stats.latency.mean().map_or_else(|| "-".to_owned(), rough);
    let p99 =
        |stats: &FunctionStats| stats.latency.quantile(0.99).map_or_else(|| "-".to_owned(), |time| rough(time as f64));
    let shift = change.mean_shift().map_or_else(|| "-".to_owned(), |shift| format!("{:+.1} %", shift * 100.0));
    let name = printable(&change.readable);
    vec![
        count(before.calls),
        count(after.calls),
        own(before),
        own(after),
        mean(before),
        mean(after),
        shift,
        p99(before),
        p99(after),
        change.verdict.name().replace('_', " "),
        if full { name.into_owned() } else { shortened(&name, super::words::LONGEST_NAME).into_owned() },
        printable(change.module.as_deref().unwrap_or("?")).into_owned(),
    ]
}

fn jsonl(changes: &[&Change], reports: [&Report; 2], args: &DiffArgs) -> String {
    let mut text = String::new();
    for change in changes.iter().take(limit(args.print.limit, usize::MAX)) {
        let object = json!({
            "kind": "change",
            "function": change.name,
            "readable": change.readable,
            "module": change.module,
            "verdict": change.verdict.name(),
            "effect": change.effect,
            "p_value": change.p_value,
            "tail": change.tail.map(|tail| json!({
                "before": tail.before, "after": tail.after, "p_value": tail.p_value,
            })),
            "mean_shift": change.mean_shift(),
            "before": side(&change.before),
            "after": side(&change.after),
        });
        let _ = writeln!(text, "{object}");
    }
    for (report, name) in reports.into_iter().zip(["before", "after"]) {
        let mut object = notes::json(&report.outcome.accounting);
        object["session"] = json!(name);
        let _ = writeln!(text, "{object}");
    }
    text
}

fn side(stats: &FunctionStats) -> Value {
    let timed = stats.calls > 0 && stats.is_timed();
    json!({
        "calls": stats.calls,
        "timed_calls": stats.latency.count(),
        "total_ns": timed.then_some(stats.total_ns),
        "self_ns": timed.then_some(stats.self_ns),
        "mean_ns": stats.latency.mean(),
        "p50_ns": stats.latency.quantile(0.5),
        "p95_ns": stats.latency.quantile(0.95),
        "p99_ns": stats.latency.quantile(0.99),
        "max_ns": stats.latency.max(),
    })
}
