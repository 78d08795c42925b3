//! The distribution of a function's durations, drawn with bars.
//!
//! ```text
//!   512 ns ‥ 1.024 us │██████████████▌                 │   1 234  12.3 %
//! ```
//!
//! Invariant: the counts of all lines are the calls whose durations are known.

use std::fmt::Write;

use ada_query::latency::Latency;
use ada_query::stats::Report;

use super::{ReportArgs, group};
use crate::cli::query::Question;
use crate::cli::query::words::{exact, limit, name, rough};
use crate::cli::summary::{count, plural};

/// Functions that are drawn, unless more are asked for.
const FUNCTIONS: usize = 5;
/// Characters of the longest bar.
const WIDTH: usize = 40;
/// Lines for each doubling are as fine as this many lines allow.
const LINES: usize = 24;
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A drawing for each row.
pub(super) fn text(question: &Question, report: &Report, args: &ReportArgs) -> String {
    let (trace, paint) = (&question.trace, question.paint);
    let limit = limit(args.asked.print.limit, FUNCTIONS);
    let mut text = String::new();
    for (place, row) in report.rows.iter().take(limit).enumerate() {
        let about = trace.functions().about(row.function);
        let who = format!("{} {}", name(&about, args.asked.print.full), group(trace, row.group));
        let calls = plural(row.stats.calls, "call");
        let _ = writeln!(text, "{}{}: {calls}", if place > 0 { "\n" } else { "" }, paint.bold(who.trim_end()));
        text.push_str(&drawing(&row.stats.latency));
        let untimed = row.stats.calls - row.stats.latency.count();
        if untimed > 0 {
            let _ = writeln!(text, "{} whose duration is not known", plural(untimed, "more call"));
        }
    }
    match report.rows.len() {
        0 => text.push_str("no calls of it in this part of the session\n"),
        many if many > limit => {
            let _ = writeln!(text, "\n... and {} more; --limit 0 draws all", count((many - limit) as u64));
        }
        _ => {}
    }
    text
}

fn drawing(latency: &Latency) -> String {
    let lines = lines(latency);
    let most = lines.iter().map(|(.., count)| *count).max().unwrap_or(0).max(1);
    let mut text = String::new();
    for (low, high, calls) in lines {
        let eighths = ((calls as f64 / most as f64) * (WIDTH * 8) as f64).ceil() as usize;
        let bar = "█".repeat(eighths / 8) + EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
        let share = calls as f64 * 100.0 / latency.count().max(1) as f64;
        let _ = writeln!(
            text,
            "{:>10} ‥ {:>10} │{bar:<WIDTH$}│ {:>12} {share:>5.1} %",
            exact(low),
            exact(high),
            count(calls)
        );
    }
    if let Some((mean, max)) = latency.mean().zip(latency.max()) {
        let quantile = |share| latency.quantile(share).map_or_else(String::new, |time| rough(time as f64));
        let (p50, p95, p99) = (quantile(0.5), quantile(0.95), quantile(0.99));
        let _ = writeln!(text, "mean {}, p50 {p50}, p95 {p95}, p99 {p99}, max {}", rough(mean), exact(max));
    }
    text
}

/// The counts between powers of two, or of their halves or quarters if there are few; empty ones between others are kept.
fn lines(latency: &Latency) -> Vec<(u64, u64, u64)> {
    let buckets: Vec<(u64, u64, u64)> = latency.buckets().collect();
    for parts in [4, 2, 1] {
        let lines = grouped(&buckets, parts);
        if lines.len() <= LINES || parts == 1 {
            return lines;
        }
    }
    Vec::new()
}

fn grouped(buckets: &[(u64, u64, u64)], parts: u64) -> Vec<(u64, u64, u64)> {
    let mut lines: Vec<(u64, u64, u64)> = Vec::new();
    for &(low, _, count) in buckets {
        let line = line_of(low, parts);
        while let Some(&(_, end, _)) = lines.last().filter(|(_, end, _)| *end <= line.0) {
            let next = line_of(end, parts);
            lines.push((next.0, next.1, 0));
        }
        if lines.is_empty() {
            lines.push((line.0, line.1, 0));
        }
        if let Some(last) = lines.last_mut() {
            last.2 += count;
        }
    }
    lines
}

/// Where the line that holds a duration begins and ends.
fn line_of(time: u64, parts: u64) -> (u64, u64) {
    let Some(power) = time.checked_ilog2() else { return (0, 1) };
    let (base, step) = (1_u64 << power, (1_u64 << power) / parts);
    if step == 0 {
        return (time, time + 1);
    }
    let low = base + (time - base) / step * step;
    (low, low.saturating_add(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_one_line() {
        let mut latency = Latency::default();
        for time in [0, 1, 5, 100, 101, 300, 4_000, 1 << 30] {
            latency.add(time);
        }
        let lines = lines(&latency);
        assert_eq!(lines.iter().map(|line| line.2).sum::<u64>(), latency.count());
        assert!(lines.windows(2).all(|pair| pair[0].1 == pair[1].0), "{lines:?}");
        assert_eq!(drawing(&latency).lines().count(), lines.len() + 1);
    }
}
