//! What a recording came to, in a few lines, and how numbers are written.

use std::fmt::Write;

use ada_user::{
    collect::{Ledger, Muted},
    plan::Plan,
    session::Summary,
};

/// Muted functions that the summary names.
const MUTED_SHOWN: usize = 5;

/// The summary that a recording ends with.
pub(super) fn text(summary: &Summary, plan: &Plan) -> String {
    let ledger = &summary.ledger;
    let seconds = summary.duration.as_secs_f64();
    let skipped: usize = plan.probes.iter().map(|probe| probe.skipped.len()).sum();
    let mut text = format!(
        "{} of {}{} in {seconds:.2} s: {}, {} ({} lost)\n",
        plural(plan.functions.len() as u64, "function"),
        plural(plan.modules.len() as u64, "module"),
        if skipped > 0 { format!(" ({skipped} skipped)") } else { String::new() },
        plural(ledger.thread_count(), "thread"),
        plural(ledger.events(), "event"),
        count(ledger.lost()),
    );
    text.push_str(&kept(summary));
    text.push_str(&losses(ledger));
    text.push_str(&muted(ledger, plan));
    let _ = writeln!(text, "{} in {}", bytes(ledger.bytes()), summary.dir.display());
    text
}

/// What is not there because it was not to be kept; empty if that is nothing.
fn kept(summary: &Summary) -> String {
    let Some(kept) = summary.kept else { return String::new() };
    let cut = &summary.ledger.cut;
    let lost = if cut.lost > 0 { format!(" ({} of that time were lost)", count(cut.lost)) } else { String::new() };
    let events = plural(cut.events, "event");
    format!("kept the last {:.1} s: {events} before were dropped as asked{lost}\n", kept.as_secs_f64())
}

/// The functions that were called too often; empty if there are none.
fn muted(ledger: &Ledger, plan: &Plan) -> String {
    let name = |id| plan.functions.iter().find(|function| function.id.0 == id).map_or("?", |function| &function.name);
    let one = |muted: &Muted| format!("{} ({} calls/s)", name(muted.function_id), count(muted.calls_per_s));
    let shown: Vec<String> = ledger.muted.iter().take(MUTED_SHOWN).map(one).collect();
    let more = ledger.muted.len() - shown.len();
    match ledger.muted.len() as u64 {
        0 => String::new(),
        all => {
            let more = if more > 0 { format!(", and {more} more in the manifest") } else { String::new() };
            format!("{} muted by --max-rate: {}{more}\n", plural(all, "function"), shown.join(", "))
        }
    }
}

/// What is missing from a recording; empty if nothing is. Not even `--quiet` keeps silent about it.
pub(super) fn losses(ledger: &Ledger) -> String {
    let mut text = String::new();
    for (reason, lost) in ledger.lost_by_reason() {
        let _ = writeln!(text, "LOST: {} ({reason}){}", plural(lost, "event"), mend(reason));
    }
    if ledger.details_missed > 0 {
        let missed = plural(ledger.details_missed, "detail");
        let _ = writeln!(text, "LOST: {missed} that a trigger asked for: their files were closed or deleted by then");
    }
    if ledger.missed_returns() > 0 {
        let missed = plural(ledger.missed_returns(), "return");
        let _ = writeln!(text, "{missed} missed: the kernel keeps at most 64 pending returns per thread");
    }
    if ledger.unseen > 0 {
        let unseen = plural(ledger.unseen, "thread end");
        let _ = writeln!(text, "{unseen} or execve unseen: threads that were given the same id share a folder");
    }
    if ledger.unfollowed > 0 {
        let unfollowed = plural(ledger.unfollowed, "new process");
        let _ = writeln!(text, "{unfollowed} not followed: at most 4096 processes are recorded at once");
    }
    text
}

fn mend(reason: &str) -> &'static str {
    match reason {
        "ring_full" => ": record fewer functions, or give larger rings with --buffer-size",
        _ => "",
    }
}

/// A number with its noun.
pub(super) fn plural(number: u64, noun: &str) -> String {
    let plural = match noun {
        _ if number == 1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{plural}", count(number))
}

/// A number with its thousands set apart: 1 234 567.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A size in binary units: 1.5 MiB.
pub(super) fn bytes(number: u64) -> String {
    let mut value = number as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1 000");
        assert_eq!(count(12_345_678), "12 345 678");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(plural(1, "event"), "1 event");
    }
}
