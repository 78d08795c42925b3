//! What a reader must know of an answer: what was lost, cut off, or is not known.
//!
//! Invariant: every number of the accounting that is not of the usual kind is told.

use std::fmt::Write;

use ada_query::span::Accounting;
use serde_json::{Value, json};

use super::words::{exact, signal_name};
use crate::cli::summary::{count, plural};

/// Lines for people; none if there is nothing to tell.
pub(super) fn text(accounting: &Accounting) -> String {
    let a = accounting;
    let table = [
        (a.events_lost, "event", "lost while recording: counts are too low, and some times are missing"),
        (a.lost, "call", "ended where events were lost: counted, with the time up to the last event in it"),
        (a.missed, "call", "ended without a recorded return: counted, with the time up to the last event in it"),
        (a.running, "call", "still running when the recording ended: counted, with the time up to there"),
        (a.cut_off, "call", "still running when the time range ended: counted, with the time up to there"),
    ];
    let other = [
        (a.unwound, "call", "left by unwinding"),
        (a.unmatched_returns, "return", "of calls that are not recorded: left out"),
        (a.signals, "signal", "delivered"),
        (a.unknown, "event", "of a kind that this version does not know: left out"),
        (a.too_short, "call", "shorter than asked for, or not known to be as long: left out"),
    ];
    let mut text = String::new();
    let mut tell = |number: u64, what: &str, about: &str| {
        if number > 0 {
            let _ = writeln!(text, "{} {about}", plural(number, what));
        }
    };
    table.into_iter().for_each(|(number, what, about)| tell(number, what, about));
    for (signal, calls) in &a.killed {
        let about = format!("ended by {}: counted, with the time up to there", signal_name(*signal));
        tell(*calls, "call", &about);
    }
    for (status, calls) in &a.exited {
        let status = status.map_or_else(String::new, |status| format!(" with status {status}"));
        tell(*calls, "call", &format!("ended by the process's exit{status}: counted, with the time up to there"));
    }
    other.into_iter().for_each(|(number, what, about)| tell(number, what, about));
    text
}

/// One line: how much was looked at.
pub(super) fn head(accounting: &Accounting, threads: usize, span_ns: u64) -> String {
    let threads = plural(threads as u64, "thread");
    let (calls, events) = (plural(accounting.spans, "call"), count(accounting.events));
    format!("{calls} of {threads} in {}, {events} events", exact(span_ns))
}

/// As an object.
pub(super) fn json(accounting: &Accounting) -> Value {
    let a = accounting;
    json!({
        "kind": "accounting",
        "events": a.events,
        "calls": a.calls,
        "returns": a.returns,
        "spans": a.spans,
        "returned": a.returned,
        "unwound": a.unwound,
        "missed": a.missed,
        "lost": a.lost,
        "open": a.open,
        "exited": a.exited.iter().map(|(status, calls)| json!({ "status": status, "calls": calls })).collect::<Vec<_>>(),
        "killed": a.killed.iter().map(|(signal, calls)| json!({ "signal": signal, "calls": calls })).collect::<Vec<_>>(),
        "running": a.running,
        "cut_off": a.cut_off,
        "unmatched_returns": a.unmatched_returns,
        "signals": a.signals,
        "switches": a.switches,
        "unknown": a.unknown,
        "events_lost": a.events_lost,
        "outside": a.outside,
        "unselected": a.unselected,
        "too_short": a.too_short,
    })
}
