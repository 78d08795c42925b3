//! `ada-trace verify SESSION`: whether a session is whole.
//!
//! Invariant: exit status 2 if anything is not as it should be; a session that is being recorded is not at fault for that.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use ada_query::trace::Trace;
use ada_query::verify::{Verified, verify};
use anyhow::Result;
use serde_json::json;

use super::args::VerifyArgs;
use super::{Question, SelectArgs};
use crate::cli::REFUSED;
use crate::cli::args::Format;
use crate::cli::names::printable;
use crate::cli::summary::plural;

/// Prints what `args` ask for.
pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let question = Question::new(args.session.as_deref(), &SelectArgs::default())?;
    let progress = question.progress();
    let verified = verify(&question.trace);
    drop(progress);
    let text = match args.format {
        Format::Text => text(&question.trace, &verified),
        Format::Jsonl => jsonl(&verified),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if verified.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn text(trace: &Trace, verified: &Verified) -> String {
    let mut text = String::new();
    for fault in &verified.faults {
        let thread = fault.part.map_or_else(|| "manifest".to_owned(), |id| format!("thread_{id}"));
        let _ = writeln!(text, "{thread}: {}: {}", fault.kind, printable(&fault.what));
    }
    let _ = writeln!(
        text,
        "{}, {}: {} right, {} between index and detail followed there and back",
        plural(verified.parts, "folder"),
        plural(verified.events, "event"),
        plural(verified.checksums, "checksum"),
        plural(verified.links, "link"),
    );
    if verified.unfinished > 0 {
        let why = if trace.is_recording() { "the recorder is at work or was killed" } else { "there is no footer" };
        let _ = writeln!(text, "{} without a checksum: {why}", plural(verified.unfinished, "file"));
    }
    let lost = trace.manifest().lost.total;
    if lost > 0 {
        let _ = writeln!(text, "{} lost while recording", plural(lost, "event"));
    }
    text += if verified.faults.is_empty() { "no faults\n" } else { "FAULTY\n" };
    text
}

fn jsonl(verified: &Verified) -> String {
    let mut text = String::new();
    for fault in &verified.faults {
        let _ = writeln!(
            text,
            "{}",
            json!({ "kind": "fault", "thread": fault.part, "fault": fault.kind, "what": fault.what })
        );
    }
    let summary = json!({
        "kind": "verified",
        "threads": verified.parts,
        "events": verified.events,
        "links": verified.links,
        "checksums": verified.checksums,
        "unfinished": verified.unfinished,
        "faults": verified.faults.len(),
    });
    let _ = writeln!(text, "{summary}");
    text
}
