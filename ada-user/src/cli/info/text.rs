//! A session's facts in words, for people: a few lines, then tables that are cut where they get long.
//!
//! Invariant: what is cut off is said to be.

use std::fmt::{Display, Write};

use ada_format::manifest::{Probe, Process, Window};

use super::facts::{Facts, ThreadFacts};
use super::state::State;
use crate::cli::names::{self, printable};
use crate::cli::summary::{bytes, count};
use crate::cli::table::{Column, Table};

/// Rows of a table.
const LONGEST: usize = 20;
/// Rows of the table of functions.
const TOP: usize = 10;
/// Characters of a command line, and of the reasons for which a probe skipped something.
const WIDEST: usize = 100;

/// All of it.
pub(super) fn text(facts: &Facts<'_>) -> String {
    let mut text = head(facts);
    section(&mut text, &processes(facts), facts.manifest.process.len(), "processes");
    section(&mut text, &probes(facts), facts.manifest.probes.len(), "probes");
    section(&mut text, &modules(facts), facts.manifest.modules.len(), "modules");
    section(&mut text, &threads(facts), facts.threads.len(), "threads");
    section(&mut text, &gaps(facts), facts.manifest.lost.gaps.len(), "gaps");
    section(&mut text, &windows(facts), facts.manifest.windows.len(), "windows");
    section(&mut text, &muted(facts), facts.manifest.muted.len(), "muted functions");
    match &facts.calls {
        Some(calls) => {
            let rest = (calls.by_function.len() + LONGEST).saturating_sub(TOP);
            section(&mut text, &functions(facts), rest, "functions");
        }
        None => text += "\nThe calls of each function were not counted, for there are very many: --full counts them.\n",
    }
    text
}

/// A table, and how many rows of how many are not in it.
fn section(text: &mut String, table: &Table, rows: usize, what: &str) {
    if table.is_empty() {
        return;
    }
    let _ = write!(text, "\n{table}");
    if rows > LONGEST {
        let _ = writeln!(text, "... and {} more {what}", count((rows - LONGEST) as u64));
    }
}

fn head(facts: &Facts<'_>) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &dyn Display| {
        let _ = writeln!(text, "{key:<9} {value}");
    };
    line("session", &facts.dir.display());
    line("status", &facts.state.line(facts.dir));
    line("recorded", &when(facts));
    line("on", &host(facts));
    line("events", &events(facts));
    if let Some(from_ns) = facts.manifest.complete_from_ns {
        line("kept", &kept(facts, from_ns));
    }
    line("lost", &lost(facts));
    let missed = facts.missed_returns();
    if missed > 0 {
        let what = plural(missed, "return");
        line("missed", &format!("{what} never came: the kernel keeps at most 64 pending returns per thread"));
    }
    text
}

fn when(facts: &Facts<'_>) -> String {
    let Some((start, end)) = facts.wall_clock() else { return "at a time that nothing tells".to_owned() };
    let seconds = (end - start) as f64 / 1e9;
    let tool = &facts.manifest.tool;
    let by = format!("by {} {}", printable(&tool.name), printable(&tool.version));
    format!("{}, for {seconds:.2} s, {}", local(start).strftime("%Y-%m-%d %H:%M:%S %:z"), by.trim_end())
}

/// From when on nothing was deleted.
fn kept(facts: &Facts<'_>, from_ns: u64) -> String {
    let since = facts.realtime(from_ns).map(|time| local(time).strftime("%Y-%m-%d %H:%M:%S%.3f %:z").to_string());
    let since = since.unwrap_or_else(|| format!("@{from_ns}"));
    let Some(cut) = facts.manifest.cut else { return format!("all since {since}; older events were deleted") };
    let lost = if cut.lost > 0 { format!(" ({} of that time were lost)", count(cut.lost)) } else { String::new() };
    let seconds = facts.time_range.map_or(0, |(_, last)| last.saturating_sub(from_ns)) as f64 / 1e9;
    let events = plural(cut.events, "event");
    format!("all since {since}, the last {seconds:.1} s: {events} before were dropped as asked{lost}")
}

/// A time in nanoseconds since 1970, here.
fn local(realtime_ns: u64) -> jiff::Zoned {
    let time = jiff::Timestamp::from_nanosecond(i128::from(realtime_ns)).unwrap_or_default();
    time.to_zoned(jiff::tz::TimeZone::system())
}

fn host(facts: &Facts<'_>) -> String {
    let (manifest, host) = (facts.manifest, &facts.manifest.host);
    let system = format!("{} {}", manifest.os, host.kernel);
    let processors = plural(host.cpus.into(), "processor");
    let text = format!("{}, {}, {}, {processors}", host.hostname, system.trim_end(), manifest.arch);
    printable(text.trim_start_matches([',', ' '])).into_owned()
}

fn events(facts: &Facts<'_>) -> String {
    let mut text = format!("{} in {}", count(facts.events), plural(facts.thread_count() as u64, "thread"));
    if let Some(rate) = facts.rate() {
        let _ = write!(text, ", {} per second", count(rate as u64));
    }
    if facts.details > 0 {
        let _ = write!(text, ", {} with detail", count(facts.details));
    }
    let _ = write!(text, ", {} on disk", bytes(facts.bytes));
    text
}

fn lost(facts: &Facts<'_>) -> String {
    let lost = &facts.manifest.lost;
    if lost.total == 0 {
        let so_far = matches!(facts.state, State::Recording | State::Killed | State::Unknown);
        return if so_far { "nothing known so far" } else { "nothing" }.to_owned();
    }
    let reasons = lost.by_reason.iter().filter(|(_, number)| **number > 0);
    let reasons = reasons.map(|(reason, number)| format!("{} {}", count(*number), printable(reason)));
    let reasons = reasons.collect::<Vec<_>>().join(", ");
    let gaps = plural(lost.gaps.len() as u64, "gap");
    format!("{} ({reasons}) in {gaps}", plural(lost.total, "event"))
}

fn processes(facts: &Facts<'_>) -> Table {
    let mut table = Table::new(&[("PID", true), ("PARENT", true), ("END", false), ("COMMAND", false)]);
    for process in facts.manifest.process.iter().take(LONGEST) {
        table.row([process.pid.to_string(), process.ppid.to_string(), end(process, facts.state), command(process)]);
    }
    table
}

fn end(process: &Process, state: State) -> String {
    match (process.exit_code, process.signal, process.end_ns) {
        (Some(code), _, _) => format!("exited with {code}"),
        (None, Some(signal), _) => format!("killed by {}", signal_name(signal)),
        (None, None, Some(_)) => "exited".to_owned(),
        (None, None, None) if state == State::Recording => "running".to_owned(),
        (None, None, None) => "went on".to_owned(),
    }
}

fn signal_name(signal: i32) -> String {
    ada_user::trigger::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

/// The program's path and its arguments without the first, which is its name again; of a program that has written what it
/// does over its arguments (`postgres: walwriter`), that.
fn command(process: &Process) -> String {
    let arguments = process.args.join(" ");
    let title = process.args.first().is_some_and(|first| first.contains(' '));
    let words = process.args.iter().skip(1);
    let text = match title {
        true => arguments,
        false => [&process.executable].into_iter().chain(words).map(String::as_str).collect::<Vec<_>>().join(" "),
    };
    cut(printable(&text).trim_end())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn probes(facts: &Facts<'_>) -> Table {
    let mut table = Table::new(&[("PROBE", false), ("FUNCTIONS", true), ("SKIPPED", false)]);
    for probe in facts.manifest.probes.iter().take(LONGEST) {
        table.row([printable(&probe.spec).into_owned(), count(probe.functions), skipped(probe)]);
    }
    table
}

fn skipped(probe: &Probe) -> String {
    let each = probe.skipped.iter().map(|skipped| format!("{} ({})", skipped.symbol, skipped.why));
    let all = each.collect::<Vec<_>>().join(", ");
    match probe.skipped.len() {
        0 => String::new(),
        1 => cut(&printable(&all)),
        many => format!("{many}: {}", cut(&printable(&all))),
    }
}

fn modules(facts: &Facts<'_>) -> Table {
    let mut table = Table::new(&[("MODULE", true), ("PATH", false), ("BUILD-ID", false)]);
    for module in facts.manifest.modules.iter().take(LONGEST) {
        let build_id = module.build_id.as_deref().unwrap_or("none");
        table.row([module.module_id.to_string(), printable(&module.path).into(), printable(build_id).into()]);
    }
    table
}

const THREADS: [Column; 9] = [
    ("THREAD", true),
    ("PID/TID", false),
    ("NAME", false),
    ("EVENTS", true),
    ("DETAIL", true),
    ("FIRST (s)", true),
    ("LAST (s)", true),
    ("LOST", true),
    ("MISSED", true),
];

/// If not all of them have room, the busiest.
fn threads(facts: &Facts<'_>) -> Table {
    let mut shown: Vec<&ThreadFacts> = facts.threads.iter().collect();
    if shown.len() > LONGEST {
        shown.sort_by_key(|thread| std::cmp::Reverse(thread.events));
        shown.truncate(LONGEST);
    }
    let mut table = Table::new(&THREADS);
    let first_ns = facts.time_range.map_or(0, |(first, _)| first);
    for thread in shown {
        let seconds = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |time| seconds(time, first_ns));
        table.row([
            thread.who.id.to_string(),
            thread.who.ids(),
            thread.who.name.clone(),
            count(thread.events),
            count(thread.details),
            seconds(thread.time_range.map(|(first, _)| first)),
            seconds(thread.time_range.map(|(_, last)| last)),
            count(thread.lost),
            count(thread.missed_returns),
        ]);
    }
    table
}

fn gaps(facts: &Facts<'_>) -> Table {
    let mut table = Table::new(&[("GAP IN THREAD", true), ("LOST", true), ("FROM (s)", true), ("TO (s)", true)]);
    let first_ns = facts.time_range.map_or(0, |(first, _)| first);
    for gap in facts.manifest.lost.gaps.iter().take(LONGEST) {
        let times = [gap.time_start_ns, gap.time_end_ns].map(|time| seconds(time, first_ns));
        table.row([gap.thread.to_string(), count(gap.count)].into_iter().chain(times));
    }
    table
}

/// Times in which details were kept, and why.
fn windows(facts: &Facts<'_>) -> Table {
    const COLUMNS: [Column; 5] =
        [("DETAIL FROM (s)", true), ("TO (s)", true), ("BEFORE", false), ("EVENTS", true), ("TRIGGER", false)];
    let mut table = Table::new(&COLUMNS);
    let first_ns = facts.time_range.map_or(0, |(first, _)| first);
    for window in facts.manifest.windows.iter().take(LONGEST) {
        let [from, to] = [window.start_ns, window.end_ns].map(|time| seconds(time, first_ns));
        let short = if window.complete { "" } else { ", less than asked for" };
        let before = format!("{:.3} s{short}", window.pre_roll_ns as f64 / 1e9);
        table.row([from, to, before, count(window.details), triggers(window)]);
    }
    table
}

/// The first of a window's triggers, and how many more there are.
fn triggers(window: &Window) -> String {
    let first = window.triggers.first().map(|trigger| match trigger.what.as_str() {
        what if trigger.kind == "mark" => format!("mark {what}"),
        what => what.to_owned(),
    });
    let more = match window.triggers.len().saturating_sub(1) {
        0 => String::new(),
        more => format!(", and {} more", count(more as u64)),
    };
    cut(&printable(&(first.unwrap_or_default().trim_end().to_owned() + &more)))
}

/// Functions that were called too often.
fn muted(facts: &Facts<'_>) -> Table {
    let mut table = Table::new(&[("MUTED AT (s)", true), ("CALLS PER S", true), ("FUNCTION", false)]);
    let first_ns = facts.time_range.map_or(0, |(first, _)| first);
    let names = names::by_function(facts.manifest, |function, _| names::readable(function).into_owned());
    for muted in facts.manifest.muted.iter().take(LONGEST) {
        let name = names.get(&muted.function_id).cloned();
        let name = name.unwrap_or_else(|| format!("function {:#x}", muted.function_id));
        table.row([seconds(muted.at_ns, first_ns), count(muted.calls_per_s), name]);
    }
    table
}

fn functions(facts: &Facts<'_>) -> Table {
    let mut table = Table::new(&[("CALLS", true), ("SHARE", true), ("FUNCTION", false), ("MODULE", false)]);
    let Some(calls) = &facts.calls else { return table };
    let names = names::by_function(facts.manifest, |function, module| {
        [names::readable(function).into_owned(), module.map(names::short_module).unwrap_or_default().into_owned()]
    });
    for (id, number) in calls.by_function.iter().take(TOP) {
        let share = *number as f64 * 100.0 / calls.total as f64;
        let [name, module] = names.get(id).cloned().unwrap_or_else(|| [format!("function {id:#x}"), String::new()]);
        table.row([count(*number), format!("{share:.1} %"), name, module]);
    }
    table
}

/// Seconds since the session's first event.
fn seconds(time_ns: u64, first_ns: u64) -> String {
    let sign = if time_ns < first_ns { "-" } else { "" };
    format!("{sign}{:.6}", time_ns.abs_diff(first_ns) as f64 / 1e9)
}

fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}
